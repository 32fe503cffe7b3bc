/* The yardstick: a plain loop recv -> XXH3-128 -> send, from a null source to a null sink.
 *
 *     null-loop SOURCE_PORT SINK_PORT KEY BYTES PART_BYTES STREAMS [CA_BUNDLE]
 *
 * Each stream is a thread with one blocking connection to either side. It copies the first BYTES of
 * /null/data/KEY into /sink/loop-STREAM: for every part a GET with a range, and an UploadPart whose
 * body is passed on and hashed in pieces of PIECE_BYTES. With a CA_BUNDLE both sides speak TLS.
 * Prints one line of JSON: CPU of this process, user and system, from first connection to last.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "tls.h"

#define PIECE_BYTES (1u << 20)
#define HEAD_BYTES 4096
#define STREAMS_MAX 64

struct end {
    int socket;
    SSL *tls;
    char head[HEAD_BYTES + 1]; /* of the last answer, and what came of its body with it */
    size_t head_bytes, early_bytes;
};

struct stream {
    int number;
    pthread_t thread;
    struct end source, sink;
    char upload[64];
    XXH128_hash_t digest; /* of the last part */
};

static struct {
    int source_port, sink_port;
    const char *key;
    uint64_t bytes, part_bytes;
    SSL_CTX *tls;
} task;

_Noreturn static void fail(const char *what)
{
    fprintf(stderr, "null-loop: %s\n", what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

static void send_all(struct end *end, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t sent = end->tls ? SSL_write(end->tls, bytes, size)
                                : send(end->socket, bytes, size, MSG_NOSIGNAL);
        if (sent <= 0)
            fail("a connection broke while sending");
        bytes += sent;
        size -= sent;
    }
    if (end->tls && !tls_flush(end->tls))
        fail("a connection broke while sending");
}

/* Some bytes, or as many as asked for where `all`. */
static size_t receive(struct end *end, char *into, size_t size, bool all)
{
    size_t filled = 0;
    do {
        ssize_t count = end->tls ? SSL_read(end->tls, into + filled, size - filled)
                                 : recv(end->socket, into + filled, size - filled,
                                        all ? MSG_WAITALL : 0);
        if (count <= 0)
            fail("a connection broke while receiving");
        filled += count;
    } while (all && filled < size);
    return filled;
}

static void open_end(struct end *end, int port)
{
    int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    end->socket = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(end->socket, (struct sockaddr *)&address, sizeof address) != 0)
        fail("no connection");
    setsockopt(end->socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (task.tls == NULL)
        return;
    end->tls = tls_session(task.tls, end->socket);
    X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(end->tls), "127.0.0.1");
    if (SSL_connect(end->tls) != 1)
        fail("no TLS");
}

static void close_end(struct end *end)
{
    SSL_free(end->tls);
    close(end->socket);
}

/* Send a request's head. */
static void ask(struct end *end, const char *format, ...)
{
    char head[HEAD_BYTES];
    va_list values;
    va_start(values, format);
    int size = vsnprintf(head, sizeof head, format, values);
    va_end(values);
    if (size >= HEAD_BYTES)
        fail("KEY is too long");
    send_all(end, head, size);
}

/* Receive an answer's head, which has to begin with `status`. Returns the length of its body. */
static uint64_t read_head(struct end *end, const char *status)
{
    size_t size = 0;
    char *body;
    do {
        if (size == HEAD_BYTES)
            fail("the head of an answer does not end");
        size += receive(end, end->head + size, HEAD_BYTES - size, false);
        end->head[size] = 0;
    } while ((body = memmem(end->head, size, "\r\n\r\n", 4)) == NULL);
    end->head_bytes = body + 4 - end->head;
    end->early_bytes = size - end->head_bytes;
    if (strncmp(end->head + strlen("HTTP/1.1 "), status, strlen(status)) != 0)
        fail(end->head);
    const char *length = strcasestr(end->head, "\r\nContent-Length:");
    return length ? strtoull(length + strlen("\r\nContent-Length:"), NULL, 10) : 0;
}

/* Receive an answer with a short body, as text behind its head. */
static const char *read_answer(struct end *end, const char *status)
{
    uint64_t size = read_head(end, status);
    if (end->head_bytes + size > HEAD_BYTES)
        fail("an answer is too long");
    char *body = end->head + end->head_bytes;
    if (size > end->early_bytes)
        receive(end, body + end->early_bytes, size - end->early_bytes, true);
    body[size] = 0;
    return body;
}

static void copy_part(struct stream *stream, int number, char *piece)
{
    uint64_t first = (number - 1) * task.part_bytes;
    uint64_t left = task.bytes - first < task.part_bytes ? task.bytes - first : task.part_bytes;
    struct end *source = &stream->source, *sink = &stream->sink;
    XXH3_state_t *digest = XXH3_createState();
    XXH3_128bits_reset(digest);
    ask(source, "GET /null/data/%s HTTP/1.1\r\nHost: null\r\nRange: bytes=%" PRIu64 "-%" PRIu64
                "\r\n\r\n", task.key, first, first + left - 1);
    if (read_head(source, "206") != left)
        fail("the source has another length");
    ask(sink, "PUT /sink/loop-%d?partNumber=%d&uploadId=%s HTTP/1.1\r\nHost: null\r\n"
              "Content-Length: %" PRIu64 "\r\n\r\n", stream->number, number, stream->upload, left);
    memcpy(piece, source->head + source->head_bytes, source->early_bytes);
    size_t filled = source->early_bytes;
    while (left > 0) {
        size_t size = left < PIECE_BYTES ? left : PIECE_BYTES;
        if (filled < size)
            receive(source, piece + filled, size - filled, true);
        XXH3_128bits_update(digest, piece, size);
        send_all(sink, piece, size);
        left -= size;
        filled = 0;
    }
    read_answer(sink, "200");
    stream->digest = XXH3_128bits_digest(digest);
    XXH3_freeState(digest);
}

static void *run_stream(void *argument)
{
    struct stream *stream = argument;
    char *piece = malloc(PIECE_BYTES);
    open_end(&stream->source, task.source_port);
    open_end(&stream->sink, task.sink_port);
    ask(&stream->sink, "POST /sink/loop-%d?uploads HTTP/1.1\r\nHost: null\r\n"
                       "Content-Length: 0\r\n\r\n", stream->number);
    const char *id = strstr(read_answer(&stream->sink, "200"), "<UploadId>");
    if (id == NULL || sscanf(id, "<UploadId>%63[^<]", stream->upload) != 1)
        fail("the sink opened no upload");
    for (int number = 1; (number - 1) * task.part_bytes < task.bytes; number++)
        copy_part(stream, number, piece);
    ask(&stream->sink, "POST /sink/loop-%d?uploadId=%s HTTP/1.1\r\nHost: null\r\n"
                       "Content-Length: 0\r\n\r\n", stream->number, stream->upload);
    read_answer(&stream->sink, "200");
    close_end(&stream->source);
    close_end(&stream->sink);
    free(piece);
    return NULL;
}

static double cpu_seconds(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec +
           (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static double wall_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static void trust(const char *ca_bundle)
{
    task.tls = SSL_CTX_new(TLS_client_method());
    tls_read_ahead(task.tls);
    SSL_CTX_set_verify(task.tls, SSL_VERIFY_PEER, NULL);
    if (SSL_CTX_load_verify_locations(task.tls, ca_bundle, NULL) != 1)
        fail(ca_bundle);
}

int main(int count, char **words)
{
    static struct stream streams[STREAMS_MAX];
    int stream_count = count > 6 ? atoi(words[6]) : 0;
    if (count < 7 || count > 8 || stream_count < 1 || stream_count > STREAMS_MAX) {
        fprintf(stderr, "usage: null-loop SOURCE_PORT SINK_PORT KEY BYTES PART_BYTES STREAMS "
                        "[CA_BUNDLE]\n");
        return 2;
    }
    task.source_port = atoi(words[1]);
    task.sink_port = atoi(words[2]);
    task.key = words[3];
    task.bytes = strtoull(words[4], NULL, 10);
    task.part_bytes = strtoull(words[5], NULL, 10);
    if (count == 8)
        trust(words[7]);
    double cpu_before = cpu_seconds(), wall_before = wall_seconds();
    for (int n = 0; n < stream_count; n++) {
        streams[n].number = n;
        pthread_create(&streams[n].thread, NULL, run_stream, &streams[n]);
    }
    for (int n = 0; n < stream_count; n++)
        pthread_join(streams[n].thread, NULL);
    printf("{\"bytes\": %" PRIu64 ", \"cpu_seconds\": %.6f, \"wall_seconds\": %.6f, "
           "\"last_part_xxh3_128\": \"%016" PRIx64 "%016" PRIx64 "\"}\n",
           task.bytes * stream_count, cpu_seconds() - cpu_before, wall_seconds() - wall_before,
           (uint64_t)streams[0].digest.high64, (uint64_t)streams[0].digest.low64);
    return 0;
}
