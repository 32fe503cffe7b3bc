/* A null sink: S3 as far as a mover writes it, keeping no more than what objects are called.
 *
 *     null-sink [options] PORT [CERTIFICATE KEY]
 *
 * Options: see parse_options in http.h. What is above a ceiling is refused with SlowDown.
 *
 * Every bucket exists: http://127.0.0.1:PORT/BUCKET/KEY. Whatever a request says of who it is, it
 * is let in. Bodies are received and forgotten. What is remembered: size, attributes, tags, and the
 * checksum that the client states. A body of up to 4 KiB is refused when it does not agree with its
 * CRC64NVME; any other checksum, and that of a larger body, is taken on trust. So is the list of
 * parts in CompleteMultipartUpload: an object is all parts that were sent.
 *
 * A GET gives back bodies of up to 64 KiB. In place of a larger one it gives what the null source
 * has, see pattern.h.
 *
 * See the Amazon S3 API Reference for every verb.
 */

#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crc64nvme.h"
#include "sink.h"

pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
struct keys objects;
unsigned long last_number;

void begin(struct request *request, int status)
{
    begin_answer(request, status);
    add_header(request, "x-amz-request-id: null");
}

void send_xml(struct request *request, int status, struct text *words)
{
    begin(request, status);
    if (status == 503)
        add_retry_after(request);
    send_text(request, "application/xml", words);
    text_free(words);
}

void refuse(struct request *request, int status, const char *code)
{
    struct text words = {0};
    text_format(&words, XML "<Error><Code>%s</Code><Message>see the code</Message>"
                            "<RequestId>null</RequestId></Error>", code);
    send_xml(request, status, &words);
}

bool is(const char *one, const char *other)
{
    return one != NULL && strcmp(one, other) == 0;
}

void add_name(struct text *words, const char *tag, const char *name, size_t size, bool url)
{
    text_format(words, "<%s>", tag);
    if (url)
        text_url(words, name, size, true);
    else
        text_xml(words, name, size);
    text_format(words, "</%s>", tag);
}

size_t asked_number(const struct request *request, const char *name, size_t most)
{
    const char *asked = word(request, name);
    size_t number = asked ? strtoul(asked, NULL, 10) : most;
    return number < most ? number : most;
}

static void send_document(struct request *request, const char *document)
{
    struct text words = {0};
    text_format(&words, XML "%s", document);
    send_xml(request, 200, &words);
}

static void answer_for_bucket(struct request *request, const char *bucket)
{
    bool gets = is(request->method, "GET");
    if (gets && word(request, "location"))
        send_document(request, "<LocationConstraint" NAMESPACE "/>");
    else if (gets && word(request, "versioning"))
        send_document(request, "<VersioningConfiguration" NAMESPACE "/>");
    else if (gets && word(request, "uploads"))
        list_uploads(request, bucket);
    else if (gets)
        list_objects(request, bucket);
    else if (request->is_head || is(request->method, "PUT")) {
        begin(request, 200);
        send_bytes(request, NULL, "", 0);
    } else
        refuse(request, 501, "NotImplemented");
}

static void answer(struct request *request)
{
    char *bucket = request->path + (*request->path == '/');
    char *slash = strchrnul(bucket, '/');
    if (over_ceiling(*slash && slash[1] ? slash + 1 : NULL))
        refuse(request, 503, "SlowDown");
    else if (slash == bucket)
        send_document(request, "<ListAllMyBucketsResult" NAMESPACE "><Buckets/>"
                               "</ListAllMyBucketsResult>");
    else if (*slash == 0 || slash[1] == 0) {
        *slash = 0;
        answer_for_bucket(request, bucket);
    } else
        answer_for_object(request, bucket);
}

int main(int count, char **words)
{
    parse_options(&count, &words);
    if (count != 2 && count != 4) {
        fprintf(stderr, "usage: null-sink [options] PORT [CERTIFICATE KEY]\n");
        return 2;
    }
    crc64nvme_prepare();
    serve(atoi(words[1]), count == 4 ? words[2] : NULL, count == 4 ? words[3] : NULL, answer);
}
