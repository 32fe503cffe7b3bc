/* What a null sink remembers, and the answers that its files share. */

#ifndef NULL_SINK_H
#define NULL_SINK_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "http.h"
#include "keys.h"
#include "text.h"

#define PAGE_MAX 1000
#define CHECKSUM "x-amz-checksum-"
#define XML "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
#define NAMESPACE " xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\""

struct object {
    uint64_t size;
    unsigned long number; /* its ETag is made of it, and looks like no MD5: nobody compares it */
    time_t written;
    char *attributes; /* header lines, as they came */
    char *checksum;   /* a header line without its end, or "" */
    char *tags;       /* as the header that they came in, or "" */
    char *bytes;      /* NULL where it is the pattern, or was too large */
};

/* What a request brought. Both strings are the caller's to free. */
struct body {
    uint64_t size;
    char *bytes, *checksum; /* as in struct object */
};

/* Over all that is remembered: objects by bucket/key, uploads, numbers given. */
extern pthread_mutex_t lock;
extern struct keys objects;
extern unsigned long last_number;

/* sink.c */
void begin(struct request *request, int status);
void send_xml(struct request *request, int status, struct text *words);
void refuse(struct request *request, int status, const char *code);
bool is(const char *one, const char *other); /* equal, and not NULL */
/* An element that holds a name. */
void add_name(struct text *words, const char *tag, const char *name, size_t size, bool url);
size_t asked_number(const struct request *request, const char *name, size_t most);

/* sink_objects.c */
void answer_for_object(struct request *request, const char *path);
char *stated_attributes(const struct request *request);
char *stated_tags(const struct request *request);
/* Put an object in its place; returns the number of its ETag. 0 where one stands there that must
 * not be replaced: then the object is gone. */
unsigned long store(struct request *request, const char *path, struct object *object);

/* sink_bodies.c */
/* False where that failed, or the body was refused: then nothing is left to be done. */
bool receive_body(struct request *request, struct body *body);
char *stated_checksum(const struct request *request, const char *tail);

/* sink_uploads.c */
void create_upload(struct request *request, const char *path);
void answer_for_upload(struct request *request, const char *path);
void list_uploads(struct request *request, const char *bucket);

/* sink_listings.c */
void list_objects(struct request *request, const char *bucket);

#endif
