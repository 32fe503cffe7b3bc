/* Bodies: received and forgotten, but for small ones. */

#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "crc64nvme.h"
#include "pattern.h"
#include "sink.h"

#define CHECKED_BYTES 4096
#define CRC_LINE CHECKSUM "crc64nvme: "

/* The checksum that a request or the trailer of its body states, as a header line. */
char *stated_checksum(const struct request *request, const char *tail)
{
    struct text line = {0};
    for (int n = 0; n < request->header_count; n++) {
        const struct pair *pair = &request->headers[n];
        const char *kind = pair->name + strlen(CHECKSUM);
        if (strncmp(pair->name, CHECKSUM, strlen(CHECKSUM)) == 0 && !is(kind, "type") &&
            !is(kind, "algorithm") && !is(kind, "mode")) {
            text_format(&line, "%s: %s", pair->name, pair->value);
            return line.at;
        }
    }
    const char *trailer = header(request, "x-amz-trailer") ? strstr(tail, CHECKSUM) : NULL;
    if (trailer == NULL || strchr(trailer, ':') == NULL)
        return copy_string("");
    int size = strcspn(trailer, ":");
    const char *value = trailer + size + 1;
    value += strspn(value, " ");
    text_format(&line, "%.*s: %.*s", size, trailer, (int)strcspn(value, "\r\n"), value);
    return line.at;
}

/* Take the coding `aws-chunked` off, in place; returns the size. What follows the last chunk goes
 * into `tail`, as text. */
static size_t take_off_chunks(char *bytes, size_t size, char tail[TAIL_BYTES + 1])
{
    char *to = bytes, *from = bytes, *end = bytes + size, *line_end;
    while ((line_end = memmem(from, end - from, "\r\n", 2)) != NULL) {
        size_t here = strtoul(from, NULL, 16), left = end - line_end - 2;
        from = line_end + 2;
        if (here == 0) {
            left = left < TAIL_BYTES ? left : TAIL_BYTES;
            memcpy(tail, from, left);
            tail[left] = 0;
            break;
        }
        if (here > left || left - here < 2)
            break;
        memmove(to, from, here);
        to += here;
        from += here + 2;
    }
    return to - bytes;
}

static bool is_pattern(const char *bytes, size_t size)
{
    size_t here;
    return memcmp(bytes, pattern_at(0, &here), size) == 0;
}

static bool is_damaged(const struct body *body, const char *bytes)
{
    char text[CRC_TEXT_BYTES];
    if (body->size > CHECKED_BYTES || strncmp(body->checksum, CRC_LINE, strlen(CRC_LINE)) != 0)
        return false;
    crc64nvme_text(text, bytes, body->size);
    return strcmp(text, body->checksum + strlen(CRC_LINE)) != 0;
}

bool receive_body(struct request *request, struct body *body)
{
    const char *decoded = header(request, "x-amz-decoded-content-length");
    char tail[TAIL_BYTES + 1] = "";
    *body = (struct body){.size = decoded ? strtoull(decoded, NULL, 10) : request->body_bytes};
    if (body->size > BODY_KEPT_BYTES || request->body_bytes > BODY_CODED_BYTES) {
        if (!body_drop(request, tail))
            return false;
        body->checksum = stated_checksum(request, tail);
        return true;
    }
    char *bytes = body_whole(request);
    if (bytes == NULL)
        return false;
    if (decoded && take_off_chunks(bytes, request->body_bytes, tail) != body->size) {
        refuse(request, 400, "IncompleteBody");
        return false;
    }
    body->checksum = stated_checksum(request, tail);
    if (is_damaged(body, bytes)) {
        free(body->checksum);
        refuse(request, 400, "BadDigest");
        return false;
    }
    if (!is_pattern(bytes, body->size))
        body->bytes = memcpy(get_memory(NULL, body->size), bytes, body->size);
    return true;
}
