/* CRC-64/NVME, as S3 states it. */

#ifndef NULL_CRC64NVME_H
#define NULL_CRC64NVME_H

#include <stddef.h>
#include <stdint.h>

#define CRC_TEXT_BYTES 13 /* base64 of 8 bytes, and a NUL */

void crc64nvme_prepare(void);
void crc64nvme_text(char into[CRC_TEXT_BYTES], const void *bytes, size_t size);

#endif
