/* A null source: Azure Blob Storage as far as a mover reads it, out of memory.
 *
 *     null-source [options] PORT OBJECTS [CERTIFICATE KEY]
 *
 * Options: see parse_options in http.h. What is above a ceiling is refused with ServerBusy.
 *
 * OBJECTS is a file of lines `size<TAB>key`. They lie in every container of the account `null`:
 * http://127.0.0.1:PORT/null/CONTAINER/KEY. Whatever a request says of who it is, it is let in.
 * Contents: see pattern.h. Nothing can be written.
 *
 * See "Blob service REST API" in the Azure Storage reference for every verb.
 */

#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http.h"
#include "keys.h"

#define PAGE_MAX 5000

struct blob {
    uint64_t size;
    unsigned long number; /* its ETag is made of it */
};

static struct keys blobs;
static char started[TIME_BYTES]; /* every blob's Last-Modified */

static void read_blobs(const char *path)
{
    FILE *file = fopen(path, "r");
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    unsigned long number = 0;
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    while ((length = getline(&line, &room, file)) > 0) {
        char *key;
        struct blob *blob = get_memory(NULL, sizeof *blob);
        if (line[length - 1] == '\n')
            line[length - 1] = 0;
        *blob = (struct blob){.size = strtoull(line, &key, 10), .number = ++number};
        if (*key != '\t') {
            fprintf(stderr, "%s:%lu is no size<TAB>key\n", path, number);
            exit(1);
        }
        keys_put(&blobs, key + 1)->value = blob;
    }
    free(line);
    fclose(file);
}

/* --- answers --- */

static void begin(struct request *request, int status)
{
    const char *version = header(request, "x-ms-version");
    begin_answer(request, status);
    add_header(request, "x-ms-version: %s", version ? version : "2023-11-03");
    add_header(request, "x-ms-request-id: null");
}

static void refuse(struct request *request, int status, const char *code)
{
    struct text words = {0};
    text_format(&words, "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>%s</Code>"
                        "<Message>see the code</Message></Error>", code);
    begin(request, status);
    add_header(request, "x-ms-error-code: %s", code);
    if (status == 503)
        add_retry_after(request);
    send_text(request, "application/xml", &words);
    text_free(&words);
}

static void send_xml(struct request *request, struct text *words)
{
    begin(request, 200);
    send_text(request, "application/xml", words);
    text_free(words);
}

/* --- lists --- */

static void list_blob(void *context, const struct node *node)
{
    const struct blob *blob = node->value;
    struct text *words = context;
    text_format(words, "<Blob><Name>");
    text_xml(words, node->key, strlen(node->key));
    text_format(words,
                "</Name><Properties><Creation-Time>%s</Creation-Time><Last-Modified>%s"
                "</Last-Modified><Etag>null-%lu</Etag><Content-Length>%llu</Content-Length>"
                "<Content-Type>application/octet-stream</Content-Type>"
                "<BlobType>BlockBlob</BlobType><LeaseStatus>unlocked</LeaseStatus>"
                "<LeaseState>available</LeaseState><ServerEncrypted>true</ServerEncrypted>"
                "</Properties></Blob>",
                started, started, blob->number, (unsigned long long)blob->size);
}

static void list_folder(void *context, const char *name, size_t size)
{
    text_format(context, "<BlobPrefix><Name>");
    text_xml(context, name, size);
    text_format(context, "</Name></BlobPrefix>");
}

static void add_echo(struct text *words, const char *tag, const char *said)
{
    if (said != NULL) {
        text_format(words, "<%s>", tag);
        text_xml(words, said, strlen(said));
        text_format(words, "</%s>", tag);
    }
}

static void list_blobs(struct request *request, const char *container)
{
    const char *prefix = word(request, "prefix"), *delimiter = word(request, "delimiter");
    const char *from = word(request, "marker"), *asked = word(request, "maxresults");
    size_t limit = asked ? strtoull(asked, NULL, 10) : PAGE_MAX;
    struct text words = {0};
    text_format(&words, "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults "
                        "ServiceEndpoint=\"/null\" ContainerName=\"");
    text_xml(&words, container, strlen(container));
    text_format(&words, "\">");
    /* Clients ask for the next page by what they were told of this one. */
    add_echo(&words, "Prefix", prefix);
    add_echo(&words, "Marker", from);
    add_echo(&words, "MaxResults", asked);
    add_echo(&words, "Delimiter", delimiter);
    text_format(&words, "<Blobs>");
    /* A marker is the name to go on with, percent-encoded: it has to survive XML. */
    char *start = copy_string(from ? from : "");
    url_decode(start, false);
    struct node *next = keys_walk(&blobs, &(struct walk){
        .prefix = prefix ? prefix : "",
        .delimiter = delimiter ? delimiter : "",
        .from = start,
        .limit = limit > 0 && limit < PAGE_MAX ? limit : PAGE_MAX,
        .context = &words,
        .on_name = list_blob,
        .on_folder = list_folder,
    });
    free(start);
    text_format(&words, "</Blobs><NextMarker>");
    if (next != NULL)
        text_url(&words, next->key, strlen(next->key), false);
    text_format(&words, "</NextMarker></EnumerationResults>");
    send_xml(request, &words);
}

static void list_containers(struct request *request)
{
    struct text words = {0};
    text_format(&words,
                "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults "
                "ServiceEndpoint=\"/null\"><Containers><Container><Name>data</Name><Properties>"
                "<Last-Modified>%s</Last-Modified><Etag>\"null\"</Etag></Properties></Container>"
                "</Containers><NextMarker/></EnumerationResults>", started);
    send_xml(request, &words);
}

/* --- one blob --- */

static void send_tags(struct request *request)
{
    struct text words = {0};
    text_format(&words, "<?xml version=\"1.0\" encoding=\"utf-8\"?><Tags><TagSet/></Tags>");
    send_xml(request, &words);
}

static void add_blob_headers(struct request *request, const struct blob *blob)
{
    add_header(request, "ETag: \"null-%lu\"", blob->number);
    add_header(request, "Last-Modified: %s", started);
    add_header(request, "Content-Type: application/octet-stream");
    add_header(request, "Accept-Ranges: bytes");
    add_header(request, "x-ms-blob-type: BlockBlob");
    add_header(request, "x-ms-creation-time: %s", started);
    add_header(request, "x-ms-lease-status: unlocked");
    add_header(request, "x-ms-lease-state: available");
    add_header(request, "x-ms-server-encrypted: true");
}

static bool is_expected(const struct request *request, const struct blob *blob)
{
    char etag[40];
    const char *expected = header(request, "if-match");
    snprintf(etag, sizeof etag, "\"null-%lu\"", blob->number);
    return expected == NULL || strcmp(expected, "*") == 0 || strcmp(expected, etag) == 0;
}

static void send_blob(struct request *request, const struct blob *blob)
{
    const char *range = header(request, "x-ms-range");
    uint64_t first = 0, last = 0, size = blob->size;
    if (range == NULL)
        range = header(request, "range");
    if (range == NULL || request->is_head) {
        begin(request, 200);
        add_blob_headers(request, blob);
        send_pattern(request, 0, size);
    } else if (parse_range(range, size, &first, &last)) {
        begin(request, 206);
        add_blob_headers(request, blob);
        add_header(request, "Content-Range: bytes %llu-%llu/%llu", (unsigned long long)first,
                   (unsigned long long)last, (unsigned long long)size);
        send_pattern(request, first, last - first + 1);
    } else {
        refuse(request, 416, "InvalidRange");
    }
}

static void answer_for_blob(struct request *request, const char *key)
{
    struct node *node = keys_find(&blobs, key);
    const char *part = word(request, "comp");
    if (node == NULL)
        refuse(request, 404, "BlobNotFound");
    else if (!is_expected(request, node->value))
        refuse(request, 412, "ConditionNotMet");
    else if (part != NULL && strcmp(part, "tags") == 0)
        send_tags(request);
    else
        send_blob(request, node->value);
}

/* --- all requests --- */

static void answer_for_container(struct request *request, const char *container)
{
    const char *part = word(request, "comp");
    if (part != NULL && strcmp(part, "list") == 0) {
        list_blobs(request, container);
        return;
    }
    begin(request, 200);
    add_header(request, "ETag: \"null\"");
    add_header(request, "Last-Modified: %s", started);
    send_bytes(request, NULL, "", 0);
}

static void answer(struct request *request)
{
    bool reads = request->is_head || strcmp(request->method, "GET") == 0;
    if (strncmp(request->path, "/null", 5) != 0 || !strchr("/", request->path[5])) {
        refuse(request, 400, "InvalidUri");
        return;
    }
    char *container = request->path + 5 + strspn(request->path + 5, "/");
    char *key = strchr(container, '/');
    if (key != NULL)
        *key++ = 0;
    if (over_ceiling(key))
        refuse(request, 503, "ServerBusy");
    else if (!reads)
        refuse(request, 403, "AuthorizationPermissionMismatch");
    else if (*container == 0)
        list_containers(request);
    else if (key == NULL || *key == 0)
        answer_for_container(request, container);
    else
        answer_for_blob(request, key);
}

int main(int count, char **words)
{
    parse_options(&count, &words);
    if (count != 3 && count != 5) {
        fprintf(stderr, "usage: null-source [options] PORT OBJECTS [CERTIFICATE KEY]\n");
        return 2;
    }
    http_time(started, time(NULL));
    read_blobs(words[2]);
    serve(atoi(words[1]), count == 5 ? words[3] : NULL, count == 5 ? words[4] : NULL, answer);
}
