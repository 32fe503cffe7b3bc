/* A road: a path over a distance, in front of whatever listens on a port of this machine.
 *
 *     null-road PORT STORE_PORT [--delay-us N] [--jitter-us N] [--rate N] [--line N]
 *               [--die-seconds X] [--die-bytes N] [--log FILE]
 *
 * Whoever connects to 127.0.0.1:PORT is connected to 127.0.0.1:STORE_PORT. Bytes pass as they are.
 *
 * --delay-us     every byte arrives that much after it was sent: half a round trip
 * --jitter-us    and up to that much later; the order stays
 * --rate         bytes a second that one connection carries in one direction; 0, the default: all
 * --line         bytes a second that all connections together carry in one direction
 * --die-seconds  a connection is reset, at both ends, that long after it was opened
 * --die-bytes    or as soon as it has taken that many, both directions counted
 * --log          a file that gets a line each second, or every --log-ms, see write_log
 *
 * What a connection holds in one direction is at most rate x round trip + SPARE_BYTES, as on a path
 * where no more is under way than was acknowledged a round trip later; beyond that its sender has to
 * wait. Those who share the line take turns, a piece each, so that it is a queue for nobody.
 *
 * A handshake costs a round trip: the kernel answers connect() at once, so the client's first bytes
 * set out a round trip after that. A store that refuses to be connected to is a reset. Ends and
 * resets travel behind the bytes that were sent before them.
 *
 * Bytes are never looked at, and never copied: they are spliced from a socket into pipes, and out of
 * them when they are due. At SIGTERM it prints one line of JSON: what it has carried, and its CPU.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "text.h"

#define SECOND INT64_C(1000000000) /* all times are nanoseconds */
#define NEVER INT64_MAX
#define SPARE_BYTES (256u << 10)
/* Held for a connection without a rate, if there is a delay: what a kernel's window grows to. */
#define UNPACED_BYTES (16u << 20)
/* Read at once: what a connection carries in PIECE_SECONDS, so that its first bytes do not wait for
 * its last, within bounds. */
#define PIECE_SECONDS 0.008
#define PIECE_LEAST (16u << 10)
#define PIECE_MOST (256u << 10)
#define LINE_AHEAD (2 * SECOND / 1000) /* what has the line, at most; the others take turns */
#define CATCH_UP (SECOND / 20) /* time that passed while this process did not run */
#define KERNEL_BYTES (256 << 10) /* of each socket's buffers; the kernel takes twice that */
#define PIPE_BYTES (1 << 20)
#define EVENTS_MAX 256

/* --- what there is --- */

struct timer {
    int64_t at;
    size_t place; /* in the heap, from 1; 0: it is not set */
    void (*ring)(struct timer *);
};

/* A pipe with bytes under way. */
struct pipe {
    int in, out;
    size_t held;
    struct pipe *next;
};

struct piece {
    int64_t due;
    size_t bytes;
};

struct end {
    int socket;
    bool readable, writable;
    bool hung_up; /* an end or an error is behind what can be read */
    struct connection *connection;
};

enum last { NOTHING, HALF_CLOSE, RESET };

/* One direction of a connection. */
struct flow {
    struct timer timer; /* rings when the first piece is due */
    struct connection *connection;
    struct end *from, *to;
    struct line *line;
    struct pipe *first, *last; /* bytes in their order */
    struct piece *pieces;      /* a ring of `room`, which is a power of two */
    size_t room, head, count;
    size_t held;
    int64_t free_at;  /* when the connection has carried what it was given */
    int64_t last_due;
    bool was_full;    /* its sender waits for this process: no time of the connection's is lost */
    bool queued;      /* for the line */
    struct flow *next_queued;
    enum last ending; /* what comes after the last piece */
    bool ended;       /* and it was passed on */
};

struct connection {
    struct timer death;
    struct end client, store;
    struct flow up, down;
    uint64_t taken;
    bool gone;
    struct connection *next_gone;
};

struct line {
    struct timer timer; /* rings when it can be given more */
    int64_t free_at;
    struct flow *first, *last; /* who waits for it */
    uint64_t carried;
};

static struct {
    int port, store_port;
    int64_t delay, jitter, die_after, log_every;
    double rate, line_rate; /* bytes a second; 0: without bound */
    uint64_t die_bytes;
    size_t window, piece;
    FILE *log;
} road;

static struct line up_line, down_line;
static struct connection *gone;
static struct pipe *spare_pipes;
static int64_t now;
static int poller;
static uint64_t opened, open_now;
static struct timer log_timer;

_Noreturn static void fail(const char *what)
{
    fprintf(stderr, "null-road: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t read_clock(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * SECOND + time.tv_nsec;
}

static int64_t latest(int64_t one, int64_t other)
{
    return one > other ? one : other;
}

static double cpu_seconds(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec +
           (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

/* --- timers: a heap --- */

static struct timer **heap; /* from 1 */
static size_t heap_count, heap_room;

static void heap_put(struct timer *timer, size_t place)
{
    heap[place] = timer;
    timer->place = place;
}

static void heap_settle(struct timer *timer, size_t place)
{
    for (; place > 1 && heap[place / 2]->at > timer->at; place /= 2)
        heap_put(heap[place / 2], place);
    for (size_t child; (child = 2 * place) <= heap_count; place = child) {
        child += child < heap_count && heap[child + 1]->at < heap[child]->at;
        if (heap[child]->at >= timer->at)
            break;
        heap_put(heap[child], place);
    }
    heap_put(timer, place);
}

static void clear_timer(struct timer *timer)
{
    size_t place = timer->place;
    if (place == 0)
        return;
    timer->place = 0;
    struct timer *moved = heap[heap_count--];
    if (moved != timer)
        heap_settle(moved, place);
}

static void set_timer(struct timer *timer, int64_t at)
{
    if (timer->place != 0 && timer->at == at)
        return;
    timer->at = at;
    if (timer->place == 0) {
        if (heap_count + 2 > heap_room) {
            heap_room = heap_room ? 2 * heap_room : 1024;
            heap = get_memory(heap, heap_room * sizeof *heap);
        }
        timer->place = ++heap_count;
    }
    heap_settle(timer, timer->place);
}

/* --- pipes --- */

static struct pipe *get_pipe(void)
{
    struct pipe *pipe = spare_pipes;
    if (pipe != NULL) {
        spare_pipes = pipe->next;
    } else {
        int ends[2];
        if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0)
            fail("a pipe");
        pipe = get_memory(NULL, sizeof *pipe);
        pipe->in = ends[1];
        pipe->out = ends[0];
        fcntl(pipe->in, F_SETPIPE_SZ, PIPE_BYTES); /* where not allowed, it takes more pipes */
    }
    pipe->held = 0;
    pipe->next = NULL;
    return pipe;
}

static void drop_pipe(struct pipe *pipe)
{
    if (pipe->held > 0) { /* what is in it goes with it */
        close(pipe->in);
        close(pipe->out);
        free(pipe);
        return;
    }
    pipe->next = spare_pipes;
    spare_pipes = pipe;
}

/* --- pieces --- */

static void add_piece(struct flow *flow, int64_t due, size_t bytes)
{
    if (flow->count == flow->room) {
        size_t room = flow->room ? 2 * flow->room : 16;
        struct piece *pieces = get_memory(NULL, room * sizeof *pieces);
        for (size_t n = 0; n < flow->count; n++)
            pieces[n] = flow->pieces[(flow->head + n) & (flow->room - 1)];
        free(flow->pieces);
        flow->pieces = pieces;
        flow->room = room;
        flow->head = 0;
    }
    flow->pieces[(flow->head + flow->count++) & (flow->room - 1)] = (struct piece){due, bytes};
    flow->held += bytes;
}

/* Bytes that are due and lie in the first pipe. */
static size_t due_bytes(const struct flow *flow)
{
    size_t bytes = 0;
    for (size_t n = 0; n < flow->count && bytes < flow->first->held; n++) {
        const struct piece *piece = &flow->pieces[(flow->head + n) & (flow->room - 1)];
        if (piece->due > now)
            break;
        bytes += piece->bytes;
    }
    return flow->first != NULL && bytes > flow->first->held ? flow->first->held : bytes;
}

static void forget_bytes(struct flow *flow, size_t bytes)
{
    struct pipe *pipe = flow->first;
    flow->held -= bytes;
    pipe->held -= bytes;
    while (bytes > 0) {
        struct piece *piece = &flow->pieces[flow->head];
        size_t here = bytes < piece->bytes ? bytes : piece->bytes;
        piece->bytes -= here;
        bytes -= here;
        if (piece->bytes == 0) {
            flow->head = (flow->head + 1) & (flow->room - 1);
            flow->count--;
        }
    }
    if (pipe->held == 0) {
        flow->first = pipe->next;
        if (flow->first == NULL)
            flow->last = NULL;
        drop_pipe(pipe);
    }
}

/* --- connections --- */

static void reset_end(struct end *end)
{
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    setsockopt(end->socket, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

static void leave_line(struct flow *flow)
{
    struct flow **place = &flow->line->first, *before = NULL;
    if (!flow->queued)
        return;
    while (*place != flow) {
        before = *place;
        place = &before->next_queued;
    }
    *place = flow->next_queued;
    if (flow->line->last == flow)
        flow->line->last = before;
    flow->queued = false;
}

static void close_flow(struct flow *flow)
{
    clear_timer(&flow->timer);
    leave_line(flow);
    for (struct pipe *pipe = flow->first, *next; pipe != NULL; pipe = next) {
        next = pipe->next;
        drop_pipe(pipe);
    }
    free(flow->pieces);
}

/* Its memory stays until the events that were fetched with this one are through. */
static void close_connection(struct connection *connection)
{
    if (connection->gone)
        return;
    connection->gone = true;
    clear_timer(&connection->death);
    close_flow(&connection->up);
    close_flow(&connection->down);
    close(connection->client.socket);
    close(connection->store.socket);
    connection->next_gone = gone;
    gone = connection;
    open_now--;
}

static void reset_connection(struct connection *connection)
{
    if (connection->gone)
        return;
    reset_end(&connection->client);
    reset_end(&connection->store);
    close_connection(connection);
}

static void end_flow(struct flow *flow, enum last how)
{
    if (flow->ending == RESET)
        return;
    flow->ending = how;
    flow->last_due = latest(flow->last_due, now + road.delay);
    flow->from->readable = false;
}

/* The receiver is gone. What comes from there ends in a reset, and what goes there is nobody's. */
static void lose_receiver(struct flow *flow)
{
    struct connection *connection = flow->connection;
    struct flow *back = flow == &connection->up ? &connection->down : &connection->up;
    end_flow(back, RESET);
    back->ended = false;
    flow->to->writable = false;
    flow->from->readable = false;
}

/* --- bytes on their way --- */

/* Asked only after less came than could have: that is cheaper than to try again. */
static bool is_drained(const struct end *end)
{
    int left = 0;
    return !end->hung_up && ioctl(end->socket, FIONREAD, &left) == 0 && left == 0;
}

/* As splice: bytes, 0 at the end, or -1 and errno. */
static ssize_t splice_in(struct flow *flow, size_t size)
{
    unsigned how = SPLICE_F_NONBLOCK | SPLICE_F_MOVE;
    ssize_t count = -1;
    if (flow->last != NULL) {
        count = splice(flow->from->socket, NULL, flow->last->in, NULL, size, how);
        if (count >= 0 || errno != EAGAIN) {
            flow->last->held += count > 0 ? count : 0;
            return count;
        }
        /* Either the pipe is full, or there is nothing to read: an empty one tells. */
    }
    struct pipe *pipe = get_pipe();
    count = splice(flow->from->socket, NULL, pipe->in, NULL, size, how);
    if (count <= 0) {
        int error = errno;
        drop_pipe(pipe);
        errno = error;
        return count;
    }
    pipe->held = count;
    if (flow->last != NULL)
        flow->last->next = pipe;
    else
        flow->first = pipe;
    flow->last = pipe;
    return count;
}

static int64_t random_jitter(void)
{
    static uint64_t state = 88172645463325252; /* xorshift64: the same roads each time */
    if (road.jitter == 0)
        return 0;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state % (uint64_t)(road.jitter + 1);
}

/* When that which is given work at `now` is done with `bytes` more of it. */
static int64_t carry(int64_t *free_at, size_t bytes, double rate, bool was_waiting)
{
    if (rate == 0)
        return now;
    int64_t start = latest(*free_at, was_waiting ? now - CATCH_UP : now);
    return *free_at = start + (int64_t)(bytes * (SECOND / rate));
}

static void queue_for_line(struct flow *flow)
{
    struct line *line = flow->line;
    flow->next_queued = NULL;
    flow->queued = true;
    if (line->first == NULL)
        line->first = flow;
    else
        line->last->next_queued = flow;
    line->last = flow;
    set_timer(&line->timer, line->free_at - LINE_AHEAD);
}

/* Take what has come, as much as may be held. */
static void take(struct flow *flow, bool has_line)
{
    bool was_queued = has_line;
    while (flow->from->readable && !flow->queued && flow->ending == NOTHING) {
        size_t room = road.window - flow->held;
        if (room < road.piece / 4) { /* or pieces would get smaller and smaller */
            flow->was_full = true;
            break;
        }
        bool others = flow->line->first != NULL || flow->line->free_at - now > LINE_AHEAD;
        if (road.line_rate > 0 && !has_line && others) {
            queue_for_line(flow);
            break;
        }
        has_line = false;
        size_t size = room < road.piece ? room : road.piece;
        ssize_t count = splice_in(flow, size);
        if (count < 0 && errno == EAGAIN) {
            flow->from->readable = false;
        } else if (count <= 0) {
            end_flow(flow, count < 0 ? RESET : HALF_CLOSE);
        } else {
            int64_t gone_at = carry(&flow->free_at, count, road.rate, flow->was_full);
            gone_at = latest(gone_at,
                             carry(&flow->line->free_at, count, road.line_rate, was_queued));
            gone_at = latest(gone_at, now); /* catching up makes no byte faster than the others */
            flow->last_due = latest(flow->last_due, gone_at + road.delay + random_jitter());
            add_piece(flow, flow->last_due, count);
            flow->connection->taken += count;
            flow->from->readable = (size_t)count == size || !is_drained(flow->from);
        }
        flow->was_full = was_queued = false;
    }
}

static void pass_on_end(struct flow *flow)
{
    struct connection *connection = flow->connection;
    if (flow->ending == RESET) {
        reset_connection(connection);
        return;
    }
    flow->ended = true;
    shutdown(flow->to->socket, SHUT_WR);
    if (connection->up.ended && connection->down.ended)
        close_connection(connection);
}

/* Pass on what is due. Returns whether there was anything. */
static bool deliver(struct flow *flow)
{
    bool any = false;
    size_t due;
    while (flow->to->writable && flow->count > 0 && (due = due_bytes(flow)) > 0) {
        ssize_t count = splice(flow->first->out, NULL, flow->to->socket, NULL, due,
                               SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
        if (count < 0 && errno == EAGAIN) {
            flow->to->writable = false;
        } else if (count <= 0) {
            lose_receiver(flow);
        } else {
            forget_bytes(flow, count);
            flow->line->carried += count;
            any = true;
        }
    }
    return any;
}

/* Go on with a flow as far as it goes now, and see to it that it is gone on with. */
static void advance(struct flow *flow, bool has_line)
{
    struct connection *connection = flow->connection;
    if (connection->gone)
        return;
    do {
        take(flow, has_line);
        has_line = false;
    } while (deliver(flow));
    if (connection->taken >= road.die_bytes) {
        reset_connection(connection);
        return;
    }
    if (flow->count > 0) {
        int64_t due = flow->pieces[flow->head].due;
        if (due > now)
            set_timer(&flow->timer, due);
    } else if (flow->ending != NOTHING && !flow->ended) {
        if (flow->last_due > now)
            set_timer(&flow->timer, flow->last_due);
        else
            pass_on_end(flow);
    }
}

static void advance_both(struct connection *connection)
{
    advance(&connection->up, false);
    advance(&connection->down, false);
    advance(&connection->up, false); /* whose ending may have come with the other */
}

static void ring_flow(struct timer *timer)
{
    advance_both(((struct flow *)timer)->connection);
}

static void ring_line(struct timer *timer)
{
    struct line *line = (struct line *)timer;
    while (line->first != NULL && line->free_at - now <= LINE_AHEAD) {
        struct flow *flow = line->first;
        line->first = flow->next_queued;
        flow->queued = false;
        advance(flow, true);
    }
    if (line->first != NULL)
        set_timer(timer, line->free_at - LINE_AHEAD);
}

static void ring_death(struct timer *timer)
{
    reset_connection((struct connection *)timer);
}

/* --- opening --- */

static void prepare_socket(int socket)
{
    int on = 1, bytes = KERNEL_BYTES;
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(socket, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
}

static struct sockaddr_in address_of(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static void watch(struct end *end)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET};
    event.data.ptr = end;
    if (epoll_ctl(poller, EPOLL_CTL_ADD, end->socket, &event) != 0)
        fail("watching a socket");
}

static void begin_flow(struct flow *flow, struct connection *connection, struct end *from,
                       struct end *to, struct line *line)
{
    *flow = (struct flow){.connection = connection, .from = from, .to = to, .line = line};
    flow->timer.ring = ring_flow;
}

static void open_connection(int client)
{
    struct sockaddr_in address = address_of(road.store_port);
    int store = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (store < 0)
        fail("a socket");
    prepare_socket(client);
    prepare_socket(store);
    struct connection *connection = get_memory(NULL, sizeof *connection);
    *connection = (struct connection){.death.ring = ring_death};
    connection->client = (struct end){.socket = client, .connection = connection};
    connection->store = (struct end){.socket = store, .connection = connection};
    begin_flow(&connection->up, connection, &connection->client, &connection->store, &up_line);
    begin_flow(&connection->down, connection, &connection->store, &connection->client, &down_line);
    connection->up.free_at = connection->up.last_due = now + 2 * road.delay; /* the handshake */
    connection->up.last_due += road.delay;
    opened++;
    open_now++;
    if (connect(store, (struct sockaddr *)&address, sizeof address) != 0 && errno != EINPROGRESS) {
        reset_connection(connection);
        return;
    }
    watch(&connection->client);
    watch(&connection->store);
    if (road.die_after != NEVER)
        set_timer(&connection->death, now + road.die_after);
}

static int open_door(void)
{
    int on = 1, door = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = address_of(road.port);
    setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    prepare_socket(door); /* a window is agreed on before a connection is accepted */
    if (bind(door, (struct sockaddr *)&address, sizeof address) != 0 || listen(door, 4096) != 0)
        fail("listening");
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, door, &event) != 0)
        fail("watching the door");
    return door;
}

static void open_all(int door)
{
    int client;
    while ((client = accept4(door, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0)
        open_connection(client);
    if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
        fail("accepting");
}

/* --- all of it --- */

/* Seconds since 1970, what arrived at the store and at its clients since this process began, the
 * connections that are open, and CPU seconds so far. */
static void write_log(struct timer *timer)
{
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    fprintf(road.log, "%.3f,%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%.3f\n",
            time.tv_sec + time.tv_nsec / 1e9, up_line.carried, down_line.carried, open_now,
            cpu_seconds());
    fflush(road.log);
    set_timer(timer, latest(timer->at + road.log_every, now));
}

static volatile sig_atomic_t asked_to_end;

static void ask_to_end(int number)
{
    (void)number;
    asked_to_end = 1;
}

static void handle(const struct epoll_event *event)
{
    struct end *end = event->data.ptr;
    if (end->connection->gone)
        return;
    if (event->events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        end->hung_up = true;
    if (event->events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        end->readable = true;
    if (event->events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
        end->writable = true;
    advance_both(end->connection);
}

static void turn(int door, const sigset_t *signals)
{
    struct epoll_event events[EVENTS_MAX];
    struct timespec wait = {0}, *limit = &wait;
    now = read_clock();
    if (heap_count == 0) {
        limit = NULL;
    } else if (heap[1]->at > now) {
        wait.tv_sec = (heap[1]->at - now) / SECOND;
        wait.tv_nsec = (heap[1]->at - now) % SECOND;
    }
    int count = epoll_pwait2(poller, events, EVENTS_MAX, limit, signals);
    if (count < 0 && errno != EINTR)
        fail("waiting");
    now = read_clock();
    for (int n = 0; n < count; n++) {
        if (events[n].data.ptr == NULL)
            open_all(door);
        else
            handle(&events[n]);
    }
    while (heap_count > 0 && heap[1]->at <= now) {
        struct timer *timer = heap[1];
        clear_timer(timer);
        timer->ring(timer);
    }
    while (gone != NULL) {
        struct connection *connection = gone;
        gone = connection->next_gone;
        free(connection);
    }
}

static void parse(int count, char **words)
{
    static const struct option options[] = {
        {"delay-us", required_argument, NULL, 'd'},    {"jitter-us", required_argument, NULL, 'j'},
        {"rate", required_argument, NULL, 'r'},        {"line", required_argument, NULL, 'l'},
        {"die-seconds", required_argument, NULL, 's'}, {"die-bytes", required_argument, NULL, 'b'},
        {"log", required_argument, NULL, 'f'},         {"log-ms", required_argument, NULL, 'm'},
        {0},
    };
    int option;
    road.die_after = NEVER;
    road.die_bytes = UINT64_MAX;
    road.log_every = SECOND;
    while ((option = getopt_long(count, words, "", options, NULL)) != -1) {
        switch (option) {
        case 'd': road.delay = strtoll(optarg, NULL, 10) * 1000; break;
        case 'j': road.jitter = strtoll(optarg, NULL, 10) * 1000; break;
        case 'r': road.rate = strtod(optarg, NULL); break;
        case 'l': road.line_rate = strtod(optarg, NULL); break;
        case 's': road.die_after = strtod(optarg, NULL) * SECOND; break;
        case 'b': road.die_bytes = strtoull(optarg, NULL, 10); break;
        case 'm': road.log_every = strtoll(optarg, NULL, 10) * (SECOND / 1000); break;
        case 'f':
            if ((road.log = fopen(optarg, "w")) == NULL)
                fail(optarg);
            break;
        default: exit(2);
        }
    }
    if (count - optind != 2) {
        fprintf(stderr, "usage: null-road PORT STORE_PORT [options]: see road.c\n");
        exit(2);
    }
    road.port = atoi(words[optind]);
    road.store_port = atoi(words[optind + 1]);
    double flight = road.rate * 2 * road.delay / SECOND;
    road.window = SPARE_BYTES + (road.rate > 0 ? flight : road.delay > 0 ? UNPACED_BYTES : 0);
    double piece = road.rate * PIECE_SECONDS;
    road.piece = road.rate == 0 || piece > PIECE_MOST ? PIECE_MOST
                 : piece < PIECE_LEAST               ? PIECE_LEAST
                                                     : piece;
}

int main(int count, char **words)
{
    struct rlimit files;
    struct sigaction action = {.sa_handler = ask_to_end};
    sigset_t while_working, while_waiting;
    parse(count, words);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    sigaction(SIGTERM, &action, NULL);
    sigemptyset(&while_working);
    sigaddset(&while_working, SIGTERM);
    sigprocmask(SIG_BLOCK, &while_working, &while_waiting);
    poller = epoll_create1(EPOLL_CLOEXEC);
    up_line.timer.ring = down_line.timer.ring = ring_line;
    log_timer.ring = write_log;
    int door = open_door();
    if (road.log != NULL)
        set_timer(&log_timer, read_clock());
    while (!asked_to_end)
        turn(door, &while_waiting);
    printf("{\"up_bytes\": %" PRIu64 ", \"down_bytes\": %" PRIu64 ", \"connections\": %" PRIu64
           ", \"cpu_seconds\": %.6f}\n",
           up_line.carried, down_line.carried, opened, cpu_seconds());
    return 0;
}
