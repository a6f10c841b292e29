/* Drain: from a ZeroMQ socket into the intake, without an object of Python per message.
 *
 * pyzmq brings libzmq along, and no header of it. Its functions are looked up in the library that is loaded already, by the
 * path that /proc/self/maps tells: a second copy of libzmq could not use the first one's sockets. Used are those of the
 * stable API of libzmq 4 (zmq_msg_init.3, zmq_msg_recv.3, zmq_msg_data.3, zmq_msg_size.3, zmq_msg_close.3, zmq_errno.3,
 * zmq_poll.3); a zmq_msg_t is 64 bytes, to be aligned as a pointer is (zmq.h).
 *
 *   tp_drain_wait   sleep until there is a message, which is received and held, or something to read at a descriptor
 *   tp_drain_pour   take the held one, then what else is there, until the turn's budget is spent, or one is not taken: that
 *                   one is held, and Python decides
 */
#ifndef TP_DRAIN_H
#define TP_DRAIN_H
#include "intake.h"
#include <dlfcn.h>
#include <errno.h>

enum { TP_DONTWAIT = 1, TP_POLLIN = 1, TP_EMPTY = -1, TP_FAILED = -2 };
enum { TP_MESSAGE = 1, TP_BELL = 2 }; /* what there is, as bits */

typedef struct {
    void *socket;
    int fd;
    short events, revents;
} tp_pollitem; /* zmq_pollitem_t */

typedef struct {
    void *socket;
    int (*init)(void *), (*recv)(void *, void *, int), (*close)(void *), (*error)(void);
    int (*poll)(tp_pollitem *, int, long);
    void *(*data)(void *);
    size_t (*size)(const void *);
    _Alignas(void *) uint8_t message[64];
    int held, failure; /* zmq_errno of what failed */
    uint64_t messages_left, bytes_left; /* of the turn's budget */
} tp_drain;

/* 0, or -1 if that library is not loaded or lacks a function. */
static inline int tp_drain_open(tp_drain *d, const char *library, void *socket) {
    void *lib = dlopen(library, RTLD_NOW | RTLD_NOLOAD);
    if (!lib) return -1;
    *(void **)&d->init = dlsym(lib, "zmq_msg_init");
    *(void **)&d->recv = dlsym(lib, "zmq_msg_recv");
    *(void **)&d->close = dlsym(lib, "zmq_msg_close");
    *(void **)&d->data = dlsym(lib, "zmq_msg_data");
    *(void **)&d->size = dlsym(lib, "zmq_msg_size");
    *(void **)&d->error = dlsym(lib, "zmq_errno");
    *(void **)&d->poll = dlsym(lib, "zmq_poll");
    if (!d->init || !d->recv || !d->close || !d->data || !d->size || !d->error || !d->poll) return -1;
    d->socket = socket;
    d->held = 0;
    return 0;
}

/* 0 if a message is held now; TP_EMPTY if none came, TP_FAILED if the socket is of no use. */
static inline int tp_drain_receive(tp_drain *d, int flags) {
    if (d->held) return 0;
    d->init(d->message);
    if (d->recv(d->message, d->socket, flags) >= 0) {
        d->held = 1;
        return 0;
    }
    d->failure = d->error();
    d->close(d->message);
    return d->failure == EAGAIN || d->failure == EINTR ? TP_EMPTY : TP_FAILED;
}

static inline void tp_drain_drop(tp_drain *d) {
    if (d->held) d->close(d->message);
    d->held = 0;
}

/* Bits of what there is, after timeout_ms at most; TP_FAILED if the socket is of no use. */
static inline int tp_drain_wait(tp_drain *d, uint64_t messages, uint64_t bytes, int bell, long timeout_ms) {
    tp_pollitem items[2] = {{d->socket, 0, TP_POLLIN, 0}, {NULL, bell, TP_POLLIN, 0}};
    d->messages_left = messages;
    d->bytes_left = bytes;
    if (d->poll(items, 2, d->held ? 0 : timeout_ms) < 0 && d->error() != EINTR) {
        d->failure = d->error();
        return TP_FAILED;
    }
    const int received = items[0].revents ? tp_drain_receive(d, TP_DONTWAIT) : TP_EMPTY;
    if (received == TP_FAILED) return TP_FAILED;
    return (d->held ? TP_MESSAGE : 0) | (items[1].revents ? TP_BELL : 0);
}

/* Why the held message was not taken; 0 if there is none: the socket is empty, or the budget is spent. */
static inline int tp_drain_pour(tp_drain *d, tp_intake *in, int64_t now_ns) {
    while (d->messages_left && d->bytes_left) {
        const int received = tp_drain_receive(d, TP_DONTWAIT);
        if (received) return received == TP_EMPTY ? 0 : received;
        const size_t n = d->size(d->message);
        const enum tp_taken verdict = tp_take(in, d->data(d->message), n, now_ns, 0);
        if (verdict > TP_DUPLICATE) return verdict;
        d->messages_left--;
        d->bytes_left -= n < d->bytes_left ? n : d->bytes_left;
        tp_drain_drop(d);
    }
    return 0;
}
#endif
