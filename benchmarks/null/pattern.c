#include "pattern.h"

static uint64_t block[PATTERN_BYTES / sizeof(uint64_t)];

/* SplitMix64 (Steele, Lea, Flood 2014): nothing that a wire or a disk could compress. */
void pattern_make(void)
{
    for (uint64_t n = 0; n < PATTERN_BYTES / sizeof block[0]; n++) {
        uint64_t mixed = (n + 1) * 0x9e3779b97f4a7c15;
        mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9;
        mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
        block[n] = mixed ^ mixed >> 31;
    }
}

const char *pattern_at(uint64_t offset, size_t *size)
{
    size_t start = offset % PATTERN_BYTES;
    *size = PATTERN_BYTES - start;
    return (const char *)block + start;
}
