/* Objects: written in one request, read, tagged, removed. */

#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "sink.h"

static void free_object(struct object *object)
{
    if (object != NULL) {
        free(object->attributes);
        free(object->checksum);
        free(object->tags);
        free(object->bytes);
        free(object);
    }
}

char *stated_attributes(const struct request *request)
{
    static const char *const kept[] = {"content-type", "content-language", "content-disposition",
                                       "cache-control", "expires", "x-amz-storage-class"};
    struct text lines = {0};
    text_bytes(&lines, "", 0);
    for (int n = 0; n < request->header_count; n++) {
        const struct pair *pair = &request->headers[n];
        bool keep = strncmp(pair->name, "x-amz-meta-", 11) == 0;
        for (size_t one = 0; one < sizeof kept / sizeof kept[0]; one++)
            keep |= is(pair->name, kept[one]);
        /* aws-chunked is the coding of the request, and may come before that of the object. */
        const char *value = pair->value;
        if (is(pair->name, "content-encoding")) {
            value += strncmp(value, "aws-chunked", 11) == 0 ? 11 : 0;
            value += strspn(value, ", ");
            keep = *value != 0;
        }
        if (keep)
            text_format(&lines, "%s: %s\r\n", pair->name, value);
    }
    return lines.at;
}

char *stated_tags(const struct request *request)
{
    const char *tags = header(request, "x-amz-tagging");
    return copy_string(tags ? tags : "");
}

unsigned long store(struct request *request, const char *path, struct object *object)
{
    pthread_mutex_lock(&lock);
    struct object *leaves = object;
    unsigned long number = 0;
    if (header(request, "if-none-match") == NULL || keys_find(&objects, path) == NULL) {
        struct node *node = keys_put(&objects, path);
        leaves = node->value;
        number = object->number = ++last_number;
        object->written = time(NULL);
        node->value = object;
        count_object();
    }
    pthread_mutex_unlock(&lock);
    free_object(leaves);
    return number;
}

static bool stands(const char *path)
{
    pthread_mutex_lock(&lock);
    bool found = keys_find(&objects, path) != NULL;
    pthread_mutex_unlock(&lock);
    return found;
}

static void add_checksum(struct request *request, const char *checksum)
{
    if (*checksum) {
        add_header(request, "%s", checksum);
        add_header(request, CHECKSUM "type: FULL_OBJECT");
    }
}

static void put_object(struct request *request, const char *path)
{
    struct body body;
    if (request->continue_due && header(request, "if-none-match") && stands(path)) {
        refuse(request, 412, "PreconditionFailed");
        return;
    }
    if (!receive_body(request, &body))
        return;
    struct object *object = get_memory(NULL, sizeof *object);
    *object = (struct object){.size = body.size,
                              .attributes = stated_attributes(request),
                              .checksum = body.checksum,
                              .tags = stated_tags(request),
                              .bytes = body.bytes};
    begin(request, 200);
    add_checksum(request, body.checksum);
    /* From here on the object is not ours: another request may replace it. */
    unsigned long number = store(request, path, object);
    if (number == 0) {
        refuse(request, 412, "PreconditionFailed");
        return;
    }
    add_header(request, "ETag: \"null-%lu\"", number);
    send_empty(request);
}

static size_t count_tags(const char *tags)
{
    size_t count = *tags != 0;
    for (; *tags; tags++)
        count += *tags == '&';
    return count;
}

/* Begin the answer with all headers of the object. */
static void begin_object(struct request *request, int status, const struct object *object)
{
    const char *mode = header(request, "x-amz-checksum-mode");
    char written[TIME_BYTES];
    http_time(written, object->written);
    begin(request, status);
    add_header(request, "ETag: \"null-%lu\"", object->number);
    add_header(request, "Last-Modified: %s", written);
    add_header(request, "Accept-Ranges: bytes");
    add_lines(request, object->attributes);
    if (count_tags(object->tags))
        add_header(request, "x-amz-tagging-count: %zu", count_tags(object->tags));
    if (mode != NULL && strcasecmp(mode, "enabled") == 0 && status == 200)
        add_checksum(request, object->checksum);
}

static void get_object(struct request *request, const char *path)
{
    const char *range = header(request, "range"), *expected = header(request, "if-match");
    uint64_t first = 0, last = 0, size = 0;
    char etag[40], *bytes = NULL;
    int status = 404;
    pthread_mutex_lock(&lock);
    struct node *node = keys_find(&objects, path);
    if (node != NULL) {
        struct object *object = node->value;
        snprintf(etag, sizeof etag, "\"null-%lu\"", object->number);
        size = object->size;
        status = 200;
        if (expected != NULL && !is(expected, "*") && !is(expected, etag))
            status = 412;
        else if (range != NULL && !request->is_head)
            status = parse_range(range, size, &first, &last) ? 206 : 416;
        if (status < 300)
            begin_object(request, status, object);
        if (object->bytes != NULL)
            bytes = memcpy(get_memory(NULL, size), object->bytes, size);
    }
    pthread_mutex_unlock(&lock);
    if (status == 206)
        add_header(request, "Content-Range: bytes %llu-%llu/%llu", (unsigned long long)first,
                   (unsigned long long)last, (unsigned long long)size);
    if (status == 404)
        refuse(request, 404, "NoSuchKey");
    else if (status == 412)
        refuse(request, 412, "PreconditionFailed");
    else if (status == 416)
        refuse(request, 416, "InvalidRange");
    else if (bytes != NULL)
        send_bytes(request, NULL, bytes + first, status == 206 ? last - first + 1 : size);
    else
        send_pattern(request, first, status == 206 ? last - first + 1 : size);
    free(bytes);
}

static void delete_object(struct request *request, const char *path)
{
    pthread_mutex_lock(&lock);
    struct object *object = keys_remove(&objects, path);
    pthread_mutex_unlock(&lock);
    free_object(object);
    begin(request, 204);
    send_empty(request);
}

static void get_tags(struct request *request, const char *path)
{
    pthread_mutex_lock(&lock);
    struct node *node = keys_find(&objects, path);
    char *tags = node ? copy_string(((struct object *)node->value)->tags) : NULL;
    pthread_mutex_unlock(&lock);
    if (tags == NULL) {
        refuse(request, 404, "NoSuchKey");
        return;
    }
    struct text words = {0};
    char *rest = tags, *tag;
    text_format(&words, XML "<Tagging" NAMESPACE "><TagSet>");
    while (*tags && (tag = strsep(&rest, "&")) != NULL) {
        char *name = strsep(&tag, "=");
        char *value = tag ? tag : "";
        url_decode(name, true);
        if (tag)
            url_decode(value, true);
        text_format(&words, "<Tag>");
        add_name(&words, "Key", name, strlen(name), false);
        add_name(&words, "Value", value, strlen(value), false);
        text_format(&words, "</Tag>");
    }
    text_format(&words, "</TagSet></Tagging>");
    send_xml(request, 200, &words);
    free(tags);
}

void answer_for_object(struct request *request, const char *path)
{
    bool gets = is(request->method, "GET");
    if (header(request, "x-amz-copy-source"))
        refuse(request, 501, "NotImplemented");
    else if (word(request, "uploadId"))
        answer_for_upload(request, path);
    else if (is(request->method, "POST") && word(request, "uploads"))
        create_upload(request, path);
    else if (gets && word(request, "tagging"))
        get_tags(request, path);
    else if (gets || request->is_head)
        get_object(request, path);
    else if (is(request->method, "PUT") && !word(request, "tagging") && !word(request, "acl"))
        put_object(request, path);
    else if (is(request->method, "DELETE"))
        delete_object(request, path);
    else
        refuse(request, 501, "NotImplemented");
}
