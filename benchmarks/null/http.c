#define _GNU_SOURCE
#include "http.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "pattern.h"
#include "tls.h"

#define HEAD_BYTES (32u << 10)
#define BUFFER_BYTES (HEAD_BYTES + BODY_CODED_BYTES)
/* Received at once of what is thrown away: it stays in a core's cache. */
#define DROP_BYTES (256u << 10)
#define STACK_BYTES (256u << 10)
/* Of requests that a ceiling lets through at once after a pause. */
#define CEILING_SECONDS 0.25

struct connection {
    int socket;
    SSL *tls; /* NULL: plain */
    char *buffer, *drop;
    size_t start, end; /* what was received and not yet taken */
    struct text head;
};

/* Bytes off the socket; 0 or less at its end. */
static ssize_t receive(struct connection *connection, void *into, size_t size)
{
    if (connection->tls != NULL)
        return SSL_read(connection->tls, into, size);
    ssize_t count;
    do
        count = recv(connection->socket, into, size, 0);
    while (count < 0 && errno == EINTR);
    return count;
}

static bool send_plain(struct connection *connection, struct iovec *pieces, int count)
{
    while (count > 0) {
        struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count};
        ssize_t sent = sendmsg(connection->socket, &message, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR)
            return false;
        for (; count > 0 && sent >= (ssize_t)pieces->iov_len; count--)
            sent -= pieces++->iov_len;
        if (count > 0 && sent > 0) {
            pieces->iov_base = (char *)pieces->iov_base + sent;
            pieces->iov_len -= sent;
        }
    }
    return true;
}

static bool send_pieces(struct connection *connection, struct iovec *pieces, int count)
{
    if (connection->tls == NULL)
        return send_plain(connection, pieces, count);
    for (; count > 0; count--, pieces++)
        if (pieces->iov_len > 0 &&
            SSL_write(connection->tls, pieces->iov_base, pieces->iov_len) <= 0)
            return false;
    return tls_flush(connection->tls);
}

/* --- requests --- */

const char *header(const struct request *request, const char *name)
{
    for (int n = 0; n < request->header_count; n++)
        if (strcmp(request->headers[n].name, name) == 0)
            return request->headers[n].value;
    return NULL;
}

const char *word(const struct request *request, const char *name)
{
    for (int n = 0; n < request->word_count; n++)
        if (strcmp(request->words[n].name, name) == 0)
            return request->words[n].value;
    return NULL;
}

/* Cut `text` at the first `mark`; what follows it, or the end of the text. */
static char *cut(char *text, char mark)
{
    char *end = strchrnul(text, mark);
    char *rest = *end ? end + 1 : end;
    *end = 0;
    return rest;
}

static bool parse_target(struct request *request, char *target)
{
    char *query = cut(target, '?');
    request->path = target;
    while (*query) {
        if (request->word_count == WORDS_MAX)
            return false;
        struct pair *pair = &request->words[request->word_count++];
        pair->name = query;
        query = cut(query, '&');
        pair->value = cut(pair->name, '=');
        if (!url_decode(pair->name, true) || !url_decode(pair->value, true))
            return false;
    }
    return url_decode(target, false);
}

static bool parse_headers(struct request *request, char *lines)
{
    while (*lines) {
        if (request->header_count == HEADERS_MAX)
            return false;
        struct pair *pair = &request->headers[request->header_count++];
        pair->name = lines;
        lines = cut(lines, '\n');
        pair->value = cut(pair->name, ':');
        for (char *letter = pair->name; *letter; letter++)
            *letter = tolower((unsigned char)*letter);
        pair->value += strspn(pair->value, " \t");
        char *end = strchr(pair->value, 0);
        while (end > pair->value && isspace((unsigned char)end[-1]))
            *--end = 0;
    }
    return true;
}

static bool parse_head(struct request *request, char *head)
{
    char *lines = cut(head, '\n');
    char *target = cut(head, ' ');
    char *version = cut(target, ' ');
    request->method = head;
    request->is_head = strcmp(head, "HEAD") == 0;
    if (!parse_target(request, target) || !parse_headers(request, lines))
        return false;
    const char *length = header(request, "content-length");
    const char *stays = header(request, "connection");
    request->body_bytes = request->body_left = length ? strtoull(length, NULL, 10) : 0;
    request->continue_due = header(request, "expect") != NULL && request->body_bytes > 0;
    request->last = strncmp(version, "HTTP/1.1", 8) != 0 || (stays && strcasestr(stays, "close"));
    return header(request, "transfer-encoding") == NULL;
}

/* False where none comes any more, or it is none that we know. */
static bool read_request(struct connection *connection, struct request *request)
{
    char *buffer = connection->buffer;
    size_t had = connection->end - connection->start;
    memmove(buffer, buffer + connection->start, had);
    connection->start = 0;
    connection->end = had;
    char *end;
    while ((end = memmem(buffer, connection->end, "\r\n\r\n", 4)) == NULL) {
        if (connection->end >= HEAD_BYTES)
            return false;
        ssize_t count =
            receive(connection, buffer + connection->end, BUFFER_BYTES - connection->end);
        if (count <= 0)
            return false;
        connection->end += count;
    }
    connection->start = end - buffer + 4;
    if (connection->start > HEAD_BYTES)
        return false;
    end[2] = 0;
    *request = (struct request){.connection = connection};
    return parse_head(request, buffer);
}

static bool invite_body(struct request *request)
{
    if (!request->continue_due)
        return true;
    request->continue_due = false;
    static char invitation[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct iovec piece = {invitation, sizeof invitation - 1};
    return send_pieces(request->connection, &piece, 1);
}

char *body_whole(struct request *request)
{
    struct connection *connection = request->connection;
    if (request->body_bytes > BODY_CODED_BYTES || !invite_body(request))
        return NULL;
    while (connection->end - connection->start < request->body_left) {
        ssize_t count = receive(connection, connection->buffer + connection->end,
                                BUFFER_BYTES - connection->end);
        if (count <= 0)
            return NULL;
        connection->end += count;
    }
    connection->start += request->body_left;
    request->body_left = 0;
    return connection->buffer + connection->start - request->body_bytes;
}

static void keep_tail(char tail[TAIL_BYTES + 1], size_t *kept, const char *bytes, size_t size)
{
    size_t more = size < TAIL_BYTES ? size : TAIL_BYTES;
    size_t stay = *kept + more <= TAIL_BYTES ? *kept : TAIL_BYTES - more;
    memmove(tail, tail + *kept - stay, stay);
    memcpy(tail + stay, bytes + size - more, more);
    *kept = stay + more;
}

bool body_drop(struct request *request, char tail[TAIL_BYTES + 1])
{
    struct connection *connection = request->connection;
    size_t kept = 0;
    if (!invite_body(request))
        return false;
    if (connection->drop == NULL)
        connection->drop = get_memory(NULL, DROP_BYTES);
    while (request->body_left > 0) {
        size_t here = connection->end - connection->start;
        const char *bytes = connection->buffer + connection->start;
        if (here > 0) {
            here = here < request->body_left ? here : request->body_left;
            connection->start += here;
        } else {
            size_t size = request->body_left < DROP_BYTES ? request->body_left : DROP_BYTES;
            ssize_t count = receive(connection, connection->drop, size);
            if (count <= 0)
                return false;
            bytes = connection->drop;
            here = count;
        }
        keep_tail(tail, &kept, bytes, here);
        request->body_left -= here;
    }
    for (size_t n = 0; n < kept; n++)
        tail[n] = tail[n] ? tail[n] : ' ';
    tail[kept] = 0;
    return true;
}

bool parse_range(const char *text, uint64_t size, uint64_t *first, uint64_t *last)
{
    char *end;
    if (strncmp(text, "bytes=", 6) != 0 || size == 0)
        return false;
    text += 6;
    if (*text == '-') {
        uint64_t count = strtoull(text + 1, NULL, 10);
        *first = count < size ? size - count : 0;
        *last = size - 1;
        return count > 0;
    }
    *first = strtoull(text, &end, 10);
    *last = *end == '-' && isdigit((unsigned char)end[1]) ? strtoull(end + 1, NULL, 10) : size - 1;
    if (*last >= size)
        *last = size - 1;
    return *first <= *last;
}

/* --- answers --- */

static const char *reason(int status)
{
    switch (status) {
    case 200: return "OK";
    case 201: return "Created";
    case 204: return "No Content";
    case 206: return "Partial Content";
    case 400: return "Bad Request";
    case 404: return "Not Found";
    case 412: return "Precondition Failed";
    case 416: return "Range Not Satisfiable";
    case 503: return "Service Unavailable";
    default: return "Other";
    }
}

void http_time(char into[TIME_BYTES], time_t when)
{
    struct tm parts;
    strftime(into, TIME_BYTES, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&when, &parts));
}

void iso_time(char into[TIME_BYTES], time_t when)
{
    struct tm parts;
    strftime(into, TIME_BYTES, "%Y-%m-%dT%H:%M:%S.000Z", gmtime_r(&when, &parts));
}

void begin_answer(struct request *request, int status)
{
    static _Thread_local time_t now;
    static _Thread_local char date[TIME_BYTES];
    if (now != time(NULL)) {
        now = time(NULL);
        http_time(date, now);
    }
    struct text *head = &request->connection->head;
    text_clear(head);
    text_format(head, "HTTP/1.1 %d %s\r\nServer: null\r\n", status, reason(status));
    text_format(head, "Date: %s\r\n", date);
    /* Who waits for 100 Continue and gets an answer instead will not send its body. */
    if (request->continue_due)
        request->last = true;
    if (request->last)
        text_format(head, "Connection: close\r\n");
}

void add_header(struct request *request, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    text_format_list(&request->connection->head, format, values);
    va_end(values);
    text_bytes(&request->connection->head, "\r\n", 2);
}

void add_lines(struct request *request, const char *lines)
{
    text_bytes(&request->connection->head, lines, strlen(lines));
}

static struct iovec end_head(struct request *request)
{
    struct text *head = &request->connection->head;
    text_bytes(head, "\r\n", 2);
    request->answered = true;
    return (struct iovec){head->at, head->size};
}

void send_empty(struct request *request)
{
    if (strstr(request->connection->head.at, " 204 ") == NULL && !request->is_head)
        add_header(request, "Content-Length: 0");
    struct iovec head = end_head(request);
    request->last |= !send_pieces(request->connection, &head, 1);
}

void send_bytes(struct request *request, const char *type, const void *bytes, size_t size)
{
    if (type != NULL)
        add_header(request, "Content-Type: %s", type);
    add_header(request, "Content-Length: %zu", size);
    struct iovec pieces[] = {end_head(request), {(void *)bytes, request->is_head ? 0 : size}};
    request->last |= !send_pieces(request->connection, pieces, 2);
}

void send_text(struct request *request, const char *type, const struct text *text)
{
    send_bytes(request, type, text->at, text->size);
}

void send_pattern(struct request *request, uint64_t offset, uint64_t size)
{
    add_header(request, "Content-Length: %llu", (unsigned long long)size);
    struct iovec pieces[] = {end_head(request), {0}};
    bool sent = true;
    if (request->is_head)
        size = 0;
    do {
        size_t here = 0;
        pieces[1].iov_base = (void *)pattern_at(offset, &here);
        pieces[1].iov_len = here < size ? here : size;
        offset += pieces[1].iov_len;
        size -= pieces[1].iov_len;
        sent = send_pieces(request->connection, pieces, 2);
        pieces[0].iov_len = 0;
    } while (sent && size > 0);
    request->last |= !sent;
}

/* --- ceilings and counts --- */

static struct {
    double ceiling; /* requests a second; 0: none */
    const char *prefix, *retry_after, *counts;
} options;

static atomic_uint_fast64_t requests, limited, refused, objects_counted;

bool over_ceiling(const char *key)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static double left, last;
    if (options.ceiling == 0 ||
        (options.prefix && (!key || strncmp(key, options.prefix, strlen(options.prefix)) != 0)))
        return false;
    limited++;
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    double now = time.tv_sec + time.tv_nsec / 1e9, most = options.ceiling * CEILING_SECONDS;
    most = most < 1 ? 1 : most;
    pthread_mutex_lock(&lock);
    left += (now - last) * options.ceiling;
    left = left < most ? left : most;
    last = now;
    bool over = left < 1;
    left -= !over;
    pthread_mutex_unlock(&lock);
    refused += over;
    return over;
}

void add_retry_after(struct request *request)
{
    if (options.retry_after)
        add_header(request, "Retry-After: %s", options.retry_after);
}

void count_object(void)
{
    objects_counted++;
}

static void *write_counts(void *argument)
{
    FILE *file = argument;
    struct timespec next;
    clock_gettime(CLOCK_REALTIME, &next);
    for (;; next.tv_sec++) {
        clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &next, NULL);
        fprintf(file, "%.3f,%" PRIuFAST64 ",%" PRIuFAST64 ",%" PRIuFAST64 ",%" PRIuFAST64 "\n",
                next.tv_sec + next.tv_nsec / 1e9, requests, limited, refused, objects_counted);
        fflush(file);
    }
}

void parse_options(int *count, char ***words)
{
    static const struct option known[] = {{"ceiling", required_argument, NULL, 'c'},
                                          {"ceiling-prefix", required_argument, NULL, 'p'},
                                          {"retry-after", required_argument, NULL, 'r'},
                                          {"counts", required_argument, NULL, 'f'},
                                          {0}};
    int option;
    while ((option = getopt_long(*count, *words, "", known, NULL)) != -1) {
        switch (option) {
        case 'c': options.ceiling = strtod(optarg, NULL); break;
        case 'p': options.prefix = optarg; break;
        case 'r': options.retry_after = optarg; break;
        case 'f': options.counts = optarg; break;
        default: exit(2);
        }
    }
    (*words)[optind - 1] = (*words)[0];
    *count -= optind - 1;
    *words += optind - 1;
}

/* --- connections --- */

static struct {
    void (*answer)(struct request *);
    SSL_CTX *tls;
} service;

static bool shake_hands(struct connection *connection)
{
    connection->tls = tls_session(service.tls, connection->socket);
    if (SSL_accept(connection->tls) == 1)
        return true;
    if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_HTTP_REQUEST) {
        static const char words[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n"
                                    "Connection: close\r\n\r\n";
        send(connection->socket, words, sizeof words - 1, MSG_NOSIGNAL);
    }
    ERR_clear_error();
    return false;
}

static void answer_all(struct connection *connection)
{
    struct request request;
    do {
        if (!read_request(connection, &request))
            return;
        requests++;
        service.answer(&request);
        if (request.body_left > 0 && !request.last) {
            char tail[TAIL_BYTES + 1];
            request.last = !body_drop(&request, tail);
        }
    } while (request.answered && !request.last);
}

static void *run_connection(void *argument)
{
    struct connection connection = {.socket = (int)(intptr_t)argument};
    int on = 1;
    setsockopt(connection.socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    connection.buffer = get_memory(NULL, BUFFER_BYTES + 1);
    connection.buffer[BUFFER_BYTES] = 0;
    if (service.tls == NULL || shake_hands(&connection))
        answer_all(&connection);
    if (connection.tls != NULL)
        SSL_free(connection.tls);
    close(connection.socket);
    text_free(&connection.head);
    free(connection.buffer);
    free(connection.drop);
    return NULL;
}

_Noreturn static void fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    ERR_print_errors_fp(stderr);
    exit(1);
}

static SSL_CTX *load_certificate(const char *certificate, const char *key)
{
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
    tls_read_ahead(tls);
    if (SSL_CTX_use_certificate_chain_file(tls, certificate) != 1 ||
        SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1)
        fail(certificate);
    return tls;
}

static void start_counts(const pthread_attr_t *attributes)
{
    pthread_t thread;
    if (options.counts == NULL)
        return;
    FILE *file = fopen(options.counts, "w");
    if (file == NULL || pthread_create(&thread, attributes, write_counts, file) != 0)
        fail(options.counts);
}

void serve(int port, const char *certificate, const char *key, void (*answer)(struct request *))
{
    signal(SIGPIPE, SIG_IGN);
    pattern_make();
    service.answer = answer;
    service.tls = certificate ? load_certificate(certificate, key) : NULL;
    int on = 1, door = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(door, (struct sockaddr *)&address, sizeof address) != 0 || listen(door, 4096) != 0)
        fail("listening");
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    start_counts(&attributes);
    for (;;) {
        pthread_t thread;
        int connected = accept(door, NULL, NULL);
        if (connected < 0 && errno != ECONNABORTED && errno != EINTR)
            fail("accepting");
        if (connected >= 0 &&
            pthread_create(&thread, &attributes, run_connection, (void *)(intptr_t)connected) != 0)
            close(connected);
    }
}
