/* Multipart uploads. `lock` is held wherever one is looked at. */

#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "pattern.h"
#include "sink.h"

#define PARTS_MAX 10000

struct part {
    uint64_t size;
    unsigned long number; /* of its ETag; 0: there is no such part */
    time_t written;
    char *bytes;
};

struct upload {
    struct upload *next;
    unsigned long number;
    time_t started;
    char *path, *attributes, *tags;
    struct part *parts; /* part n at n - 1 */
    size_t part_count;
};

static struct upload *uploads;

static void free_upload(struct upload *upload)
{
    for (size_t n = 0; n < upload->part_count; n++)
        free(upload->parts[n].bytes);
    free(upload->parts);
    free(upload->path);
    free(upload->attributes);
    free(upload->tags);
    free(upload);
}

/* The link that leads to the upload that the request names, or to NULL. */
static struct upload **find_upload(const struct request *request, const char *path)
{
    const char *id = word(request, "uploadId");
    unsigned long number = strncmp(id, "null-", 5) == 0 ? strtoul(id + 5, NULL, 10) : 0;
    struct upload **link = &uploads;
    while (*link != NULL && ((*link)->number != number || strcmp((*link)->path, path) != 0))
        link = &(*link)->next;
    return link;
}

void create_upload(struct request *request, const char *path)
{
    struct upload *upload = get_memory(NULL, sizeof *upload);
    *upload = (struct upload){.started = time(NULL),
                              .path = copy_string(path),
                              .attributes = stated_attributes(request),
                              .tags = stated_tags(request)};
    pthread_mutex_lock(&lock);
    unsigned long number = upload->number = ++last_number;
    upload->next = uploads;
    uploads = upload;
    pthread_mutex_unlock(&lock);
    const char *key = strchr(path, '/') + 1;
    struct text words = {0};
    text_format(&words, XML "<InitiateMultipartUploadResult" NAMESPACE ">");
    add_name(&words, "Bucket", path, key - 1 - path, false);
    add_name(&words, "Key", key, strlen(key), false);
    text_format(&words, "<UploadId>null-%lu</UploadId></InitiateMultipartUploadResult>", number);
    send_xml(request, 200, &words);
}

/* The number of the part's ETag, or 0 where there is no such upload. */
static unsigned long store_part(struct request *request, const char *path, size_t place,
                                struct body *body)
{
    unsigned long number = 0;
    pthread_mutex_lock(&lock);
    struct upload *upload = *find_upload(request, path);
    if (upload != NULL) {
        if (place > upload->part_count) {
            upload->parts = get_memory(upload->parts, place * sizeof upload->parts[0]);
            memset(upload->parts + upload->part_count, 0,
                   (place - upload->part_count) * sizeof upload->parts[0]);
            upload->part_count = place;
        }
        struct part *part = &upload->parts[place - 1];
        free(part->bytes);
        number = ++last_number;
        *part = (struct part){
            .size = body->size, .number = number, .written = time(NULL), .bytes = body->bytes};
    }
    pthread_mutex_unlock(&lock);
    if (number == 0)
        free(body->bytes);
    return number;
}

static void put_part(struct request *request, const char *path)
{
    struct body body;
    size_t place = strtoul(word(request, "partNumber"), NULL, 10);
    if (place < 1 || place > PARTS_MAX) {
        refuse(request, 400, "InvalidArgument");
        return;
    }
    if (!receive_body(request, &body))
        return;
    unsigned long number = store_part(request, path, place, &body);
    if (number == 0) {
        refuse(request, 404, "NoSuchUpload");
    } else {
        begin(request, 200);
        add_header(request, "ETag: \"null-%lu\"", number);
        if (*body.checksum)
            add_header(request, "%s", body.checksum);
        send_empty(request);
    }
    free(body.checksum);
}

/* All bytes of a small object, where they were kept. A part that was the pattern was so from the
 * start of the block, wherever it lies in the object. */
static char *join_parts(const struct upload *upload, uint64_t size)
{
    if (size > BODY_KEPT_BYTES)
        return NULL;
    char *bytes = get_memory(NULL, size), *to = bytes;
    for (size_t n = 0; n < upload->part_count; n++) {
        size_t here;
        const struct part *part = &upload->parts[n];
        memcpy(to, part->bytes ? part->bytes : pattern_at(0, &here), part->size);
        to += part->size;
    }
    return bytes;
}

/* What an upload makes; it takes the strings over. */
static struct object *object_of(struct upload *upload, char *checksum)
{
    struct object *object = get_memory(NULL, sizeof *object);
    *object = (struct object){
        .attributes = upload->attributes, .tags = upload->tags, .checksum = checksum};
    for (size_t n = 0; n < upload->part_count; n++)
        object->size += upload->parts[n].size;
    object->bytes = join_parts(upload, object->size);
    upload->attributes = upload->tags = NULL;
    return object;
}

static void complete_upload(struct request *request, const char *path)
{
    char list_tail[TAIL_BYTES + 1];
    if (!body_drop(request, list_tail))
        return;
    pthread_mutex_lock(&lock);
    bool refused = header(request, "if-none-match") != NULL && keys_find(&objects, path) != NULL;
    struct upload **link = find_upload(request, path), *upload = *link;
    if (upload != NULL && !refused)
        *link = upload->next;
    pthread_mutex_unlock(&lock);
    if (upload == NULL || refused) {
        refuse(request, refused ? 412 : 404, refused ? "PreconditionFailed" : "NoSuchUpload");
        return;
    }
    char *checksum = stated_checksum(request, "");
    struct object *object = object_of(upload, checksum);
    free_upload(upload);
    const char *key = strchr(path, '/') + 1;
    struct text words = {0};
    text_format(&words, XML "<CompleteMultipartUploadResult" NAMESPACE ">");
    add_name(&words, "Bucket", path, key - 1 - path, false);
    add_name(&words, "Key", key, strlen(key), false);
    if (strncmp(checksum, CHECKSUM "crc64nvme: ", 26) == 0)
        text_format(&words, "<ChecksumCRC64NVME>%s</ChecksumCRC64NVME>"
                            "<ChecksumType>FULL_OBJECT</ChecksumType>", checksum + 26);
    /* From here on the object is not ours: another request may replace it. */
    unsigned long etag = store(request, path, object);
    if (etag == 0) {
        text_free(&words);
        refuse(request, 412, "PreconditionFailed");
        return;
    }
    text_format(&words, "<ETag>&quot;null-%lu&quot;</ETag></CompleteMultipartUploadResult>", etag);
    send_xml(request, 200, &words);
}

static void abort_upload(struct request *request, const char *path)
{
    pthread_mutex_lock(&lock);
    struct upload **link = find_upload(request, path), *upload = *link;
    if (upload != NULL)
        *link = upload->next;
    pthread_mutex_unlock(&lock);
    if (upload == NULL) {
        refuse(request, 404, "NoSuchUpload");
        return;
    }
    free_upload(upload);
    begin(request, 204);
    send_empty(request);
}

static void add_part(struct text *words, size_t place, const struct part *part)
{
    char written[TIME_BYTES];
    iso_time(written, part->written);
    text_format(words,
                "<Part><PartNumber>%zu</PartNumber><LastModified>%s</LastModified>"
                "<ETag>&quot;null-%lu&quot;</ETag><Size>%llu</Size></Part>",
                place, written, part->number, (unsigned long long)part->size);
}

static void list_parts(struct request *request, const char *path)
{
    size_t limit = asked_number(request, "max-parts", PAGE_MAX), count = 0;
    size_t place = word(request, "part-number-marker")
                       ? asked_number(request, "part-number-marker", PARTS_MAX)
                       : 0;
    struct text words = {0};
    text_format(&words, XML "<ListPartsResult" NAMESPACE "><UploadId>%s</UploadId>",
                word(request, "uploadId"));
    pthread_mutex_lock(&lock);
    const struct upload *upload = *find_upload(request, path);
    for (; upload != NULL && place < upload->part_count && count < limit; place++)
        if (upload->parts[place].number != 0) {
            add_part(&words, place + 1, &upload->parts[place]);
            count++;
        }
    bool more = upload != NULL && place < upload->part_count;
    pthread_mutex_unlock(&lock);
    if (upload == NULL) {
        text_free(&words);
        refuse(request, 404, "NoSuchUpload");
        return;
    }
    text_format(&words, "<IsTruncated>%s</IsTruncated>", more ? "true" : "false");
    if (more)
        text_format(&words, "<NextPartNumberMarker>%zu</NextPartNumberMarker>", place);
    text_format(&words, "</ListPartsResult>");
    send_xml(request, 200, &words);
}

/* In one page, newest first: there are never many. */
void list_uploads(struct request *request, const char *bucket)
{
    const char *prefix = word(request, "prefix");
    bool url = is(word(request, "encoding-type"), "url");
    size_t bucket_size = strlen(bucket);
    struct text words = {0};
    text_format(&words, XML "<ListMultipartUploadsResult" NAMESPACE ">%s<IsTruncated>false"
                            "</IsTruncated>", url ? "<EncodingType>url</EncodingType>" : "");
    pthread_mutex_lock(&lock);
    for (const struct upload *upload = uploads; upload != NULL; upload = upload->next) {
        char started[TIME_BYTES];
        const char *key = upload->path + bucket_size + 1;
        if (strncmp(upload->path, bucket, bucket_size) != 0 || key[-1] != '/' ||
            strncmp(key, prefix ? prefix : "", prefix ? strlen(prefix) : 0) != 0)
            continue;
        iso_time(started, upload->started);
        text_format(&words, "<Upload>");
        add_name(&words, "Key", key, strlen(key), url);
        text_format(&words, "<UploadId>null-%lu</UploadId><Initiated>%s</Initiated></Upload>",
                    upload->number, started);
    }
    pthread_mutex_unlock(&lock);
    text_format(&words, "</ListMultipartUploadsResult>");
    send_xml(request, 200, &words);
}

void answer_for_upload(struct request *request, const char *path)
{
    if (is(request->method, "PUT") && word(request, "partNumber"))
        put_part(request, path);
    else if (is(request->method, "POST"))
        complete_upload(request, path);
    else if (is(request->method, "DELETE"))
        abort_upload(request, path);
    else if (is(request->method, "GET"))
        list_parts(request, path);
    else
        refuse(request, 501, "NotImplemented");
}
