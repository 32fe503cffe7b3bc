#include "crc64nvme.h"

#include <string.h>

#define POLYNOMIAL 0x9a6c9329ac4bc9b5 /* 0xad93d23594c93659 with its bits in reverse order */

/* tables[n][b]: what byte b does to the rest when n more bytes follow it in the same word. */
static uint64_t tables[8][256];

void crc64nvme_prepare(void)
{
    for (int byte = 0; byte < 256; byte++) {
        uint64_t rest = byte;
        for (int bit = 0; bit < 8; bit++)
            rest = rest >> 1 ^ (rest & 1 ? POLYNOMIAL : 0);
        tables[0][byte] = rest;
    }
    for (int more = 1; more < 8; more++)
        for (int byte = 0; byte < 256; byte++) {
            uint64_t rest = tables[more - 1][byte];
            tables[more][byte] = rest >> 8 ^ tables[0][rest & 255];
        }
}

static uint64_t checksum(const unsigned char *at, size_t size)
{
    uint64_t rest = ~0ull;
    for (; size >= 8; at += 8, size -= 8) {
        uint64_t word = 0;
        for (int n = 0; n < 8; n++)
            word |= (uint64_t)at[n] << 8 * n;
        word ^= rest;
        rest = 0;
        for (int n = 0; n < 8; n++)
            rest ^= tables[7 - n][word >> 8 * n & 255];
    }
    for (; size > 0; at++, size--)
        rest = rest >> 8 ^ tables[0][(rest ^ *at) & 255];
    return ~rest;
}

void crc64nvme_text(char into[CRC_TEXT_BYTES], const void *bytes, size_t size)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint64_t value = checksum(bytes, size);
    for (int n = 0; n < 10; n++)
        into[n] = letters[value >> (58 - 6 * n) & 63];
    into[10] = letters[(value & 15) << 2];
    into[11] = '=';
    into[12] = 0;
}
