/* ListObjects, new and old. */

#include <stdlib.h>
#include <string.h>

#include "sink.h"

/* What was listed so far. */
struct page {
    struct text names, folders;
    size_t count, bucket_size;
    bool url;
    char *last; /* the name that came last: the marker of the old ListObjects */
};

static void note_last(struct page *page, const char *key, size_t size)
{
    page->count++;
    page->last = get_memory(page->last, size + 1);
    memcpy(page->last, key, size);
    page->last[size] = 0;
}

static void list_object(void *context, const struct node *node)
{
    struct page *page = context;
    const struct object *object = node->value;
    const char *key = node->key + page->bucket_size + 1;
    char written[TIME_BYTES];
    iso_time(written, object->written);
    note_last(page, key, strlen(key));
    text_format(&page->names, "<Contents>");
    add_name(&page->names, "Key", key, strlen(key), page->url);
    text_format(&page->names,
                "<LastModified>%s</LastModified><ETag>&quot;null-%lu&quot;</ETag><Size>%llu</Size>"
                "<StorageClass>STANDARD</StorageClass></Contents>",
                written, object->number, (unsigned long long)object->size);
}

static void list_folder(void *context, const char *name, size_t size)
{
    struct page *page = context;
    name += page->bucket_size + 1;
    size -= page->bucket_size + 1;
    note_last(page, name, size);
    text_format(&page->folders, "<CommonPrefixes>");
    add_name(&page->folders, "Prefix", name, size, page->url);
    text_format(&page->folders, "</CommonPrefixes>");
}

/* Where a listing begins. A token is the name to go on with, percent-encoded. */
static char *listing_start(struct request *request, const char *bucket, bool *excluded)
{
    const char *token = word(request, "continuation-token");
    const char *after = word(request, word(request, "list-type") ? "start-after" : "marker");
    struct text path = {0};
    text_format(&path, "%s/", bucket);
    *excluded = token == NULL;
    if (token != NULL) {
        char *start = copy_string(token);
        url_decode(start, false);
        text_bytes(&path, start, strlen(start));
        free(start);
    } else if (after != NULL) {
        text_bytes(&path, after, strlen(after));
    }
    return path.at;
}

static void send_page(struct request *request, const struct page *page, const char *bucket,
                      const char *prefix, const struct text *token)
{
    bool old = word(request, "list-type") == NULL;
    struct text words = {0};
    text_format(&words, XML "<ListBucketResult" NAMESPACE ">");
    add_name(&words, "Name", bucket, strlen(bucket), false);
    add_name(&words, "Prefix", prefix, strlen(prefix), page->url);
    if (page->url)
        text_format(&words, "<EncodingType>url</EncodingType>");
    text_format(&words, "<KeyCount>%zu</KeyCount><MaxKeys>%zu</MaxKeys><IsTruncated>%s"
                        "</IsTruncated>", page->count, asked_number(request, "max-keys", PAGE_MAX),
                token->size ? "true" : "false");
    if (token->size && old && page->last != NULL)
        add_name(&words, "NextMarker", page->last, strlen(page->last), page->url);
    else if (token->size)
        add_name(&words, "NextContinuationToken", token->at, token->size, false);
    text_bytes(&words, page->names.at, page->names.size);
    text_bytes(&words, page->folders.at, page->folders.size);
    text_format(&words, "</ListBucketResult>");
    send_xml(request, 200, &words);
}

void list_objects(struct request *request, const char *bucket)
{
    const char *prefix = word(request, "prefix"), *delimiter = word(request, "delimiter");
    struct page page = {.bucket_size = strlen(bucket),
                        .url = is(word(request, "encoding-type"), "url")};
    struct text path = {0}, token = {0};
    struct walk walk = {.delimiter = delimiter ? delimiter : "",
                        .limit = asked_number(request, "max-keys", PAGE_MAX),
                        .context = &page,
                        .on_name = list_object,
                        .on_folder = list_folder};
    char *start = listing_start(request, bucket, &walk.from_excluded);
    prefix = prefix ? prefix : "";
    text_format(&path, "%s/%s", bucket, prefix);
    walk.prefix = path.at;
    walk.from = start;
    pthread_mutex_lock(&lock);
    struct node *next = keys_walk(&objects, &walk);
    if (next != NULL) {
        const char *key = next->key + page.bucket_size + 1;
        text_url(&token, key, strlen(key), false);
    }
    pthread_mutex_unlock(&lock);
    send_page(request, &page, bucket, prefix, &token);
    text_free(&page.names);
    text_free(&page.folders);
    text_free(&path);
    text_free(&token);
    free(page.last);
    free(start);
}
