/* What every object here holds: one block of pseudo-random bytes, over and over. Byte n of an
 * object is byte n modulo PATTERN_BYTES of the block, whatever the object. */

#ifndef NULL_PATTERN_H
#define NULL_PATTERN_H

#include <stdint.h>
#include <stddef.h>

#define PATTERN_BYTES (8u << 20)

void pattern_make(void);

/* The bytes from `offset` on, up to the end of the block; `size` becomes how many those are. */
const char *pattern_at(uint64_t offset, size_t *size);

#endif
