/* The HTTP/1.1 that both null servers speak: a thread for each connection, plain or TLS. */

#ifndef NULL_HTTP_H
#define NULL_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "text.h"

#define HEADERS_MAX 100
#define WORDS_MAX 24          /* of a query */
#define BODY_KEPT_BYTES 65536 /* bodies up to this size are looked at */
#define BODY_CODED_BYTES (BODY_KEPT_BYTES + 16384) /* as they come, in a coding */
#define TAIL_BYTES 512        /* of larger ones, the end: trailers are there */

struct connection;

struct pair {
    char *name, *value;
};

/* One request. All text lies in the connection's buffer, decoded and ended by NUL. */
struct request {
    struct connection *connection;
    const char *method;
    bool is_head;
    char *path;
    struct pair headers[HEADERS_MAX], words[WORDS_MAX];
    int header_count, word_count;
    uint64_t body_bytes;
    /* what is left to do */
    uint64_t body_left;
    bool continue_due, answered, last;
};

/* NULL where absent. The names of headers are in lower case. */
const char *header(const struct request *request, const char *name);
const char *word(const struct request *request, const char *name);

/* A body of up to BODY_CODED_BYTES. NULL where it is longer, or the connection broke. Valid until
 * the answer is sent. */
char *body_whole(struct request *request);

/* Receive a body and forget it, but for its end, as text: a NUL in it becomes a space. False where
 * the connection broke. */
bool body_drop(struct request *request, char tail[TAIL_BYTES + 1]);

/* Every answer is begun by the first, may get headers by the next two, and is sent by one of the
 * others, which know its length. To a HEAD they state it and send no more. */
void begin_answer(struct request *request, int status);
void add_header(struct request *request, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void add_lines(struct request *request, const char *lines); /* each with its end */
void send_empty(struct request *request);
void send_bytes(struct request *request, const char *type, const void *bytes, size_t size);
void send_text(struct request *request, const char *type, const struct text *text);
void send_pattern(struct request *request, uint64_t offset, uint64_t size);

/* Of a Range header's value: true where it names bytes within `size`. */
bool parse_range(const char *text, uint64_t size, uint64_t *first, uint64_t *last);

/* "Sun, 06 Nov 1994 08:49:37 GMT", and "1994-11-06T08:49:37.000Z". */
#define TIME_BYTES 32
void http_time(char into[TIME_BYTES], time_t when);
void iso_time(char into[TIME_BYTES], time_t when);

/* Take what all stores understand from the command line, and leave the rest, the name of the program
 * first, at its end. Ends the program where something is not understood.
 *
 * --ceiling N         refuse what comes faster than N requests a second, see over_ceiling
 * --ceiling-prefix P  of keys: only these have a ceiling
 * --retry-after N     seconds that a refusal asks for
 * --counts FILE       each second a line: seconds since 1970, requests, those of them that a ceiling
 *                     is for, those of these that were refused, objects counted; all since the
 *                     program began
 */
void parse_options(int *count, char ***words);

/* True where a request is one too many, for `key`, or for no key where it is NULL. It should be
 * refused with 503, which the headers get by add_retry_after. What is asked for is counted. */
bool over_ceiling(const char *key);
void add_retry_after(struct request *request);

void count_object(void);

/* Serve on 127.0.0.1 until killed. With a certificate, over TLS alone. Does not return. */
_Noreturn void serve(int port, const char *certificate, const char *key,
                     void (*answer)(struct request *));

#endif
