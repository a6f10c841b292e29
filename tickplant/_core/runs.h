/* Runs: rows of one table that follow one another, out of frames that lie end to end.
 *
 *   tp_run_take      a reader's: checks each frame and puts the rows that follow on end to end, without their headers
 *   tp_tap_pour      the same from a ZeroMQ socket (drain.h), message by message
 *   tp_frame_walk    the publisher's: where whole frames end, their checksums not looked at
 *
 * Whatever needs a decision (a frame that is none, of another date, or ahead) ends the taking: it and what follows it
 * is left to the sequencer (sequencer.py), whose rules for what follows on these are. */
#ifndef TP_RUNS_H
#define TP_RUNS_H
#include "drain.h"
#include <stdlib.h>

typedef struct {
    uint32_t table, schema, trading_date, row_size;
    uint64_t next;    /* the row that follows on */
    uint8_t *rows;    /* those before it that have been taken, packed */
    size_t used, room;
    size_t before;    /* bytes that were taken the last time: so much room is likely to be needed again */
    uint32_t highest; /* of the instruments in them */
} tp_run;

/* Have room for `more` bytes; -1 if there is no memory. */
static inline int tp_run_reserve(tp_run *r, size_t more) {
    if (r->room - r->used >= more) return 0;
    size_t room = r->used + more;
    if (room < r->before) room = r->before;
    if (room < r->room + r->room / 2) room = r->room + r->room / 2;
    uint8_t *rows = realloc(r->rows, room);
    if (!rows) return -1;
    r->rows = rows;
    r->room = room;
    return 0;
}

/* Copy packed rows of at least TP_KEY_SIZE bytes each behind those that were taken. */
static inline void tp_run_put(tp_run *r, const uint8_t *rows, uint64_t count) {
    uint32_t instrument, highest = r->highest;
    for (uint64_t i = 0; i < count; i++) {
        memcpy(&instrument, rows + i * r->row_size + TP_AT_INSTRUMENT, sizeof instrument);
        if (instrument > highest) highest = instrument;
    }
    memcpy(r->rows + r->used, rows, count * r->row_size);
    r->highest = highest;
    r->used += count * r->row_size;
    r->next += count;
}

/* Take the frames at the beginning of [p, p + n) that are valid, of this table, date and declaration, and begin at or before
 * the row that follows on; rows that are there already are left out. Returns the bytes of these frames. There must be
 * room for n bytes: payloads are shorter than their frames. */
static inline size_t tp_run_take(tp_run *r, const uint8_t *p, size_t n) {
    size_t at = 0;
    tp_frame h;
    while (at < n && tp_frame_read(p + at, n - at, &h) == TP_GOOD) {
        if (h.kind != TP_ROWS || h.table != r->table || h.schema != r->schema || h.row > r->next ||
            h.trading_date != r->trading_date || (uint64_t)h.count * r->row_size != h.size)
            break;
        const uint64_t there = r->next - h.row;
        if (there < h.count) tp_run_put(r, p + at + TP_HEADER + there * r->row_size, h.count - there);
        at += (size_t)TP_HEADER + h.size;
    }
    return at;
}

/* Take messages as long as all of them is taken, within the budget. Returns 0 if there is none any more or the budget is
 * spent; 1 if one is held, of which the first *taken bytes were taken; TP_FAILED if the socket is of no use. */
static inline int tp_tap_pour(tp_drain *d, tp_run *const *runs, size_t *taken) {
    while (d->messages_left && d->bytes_left) {
        const int received = tp_drain_receive(d, TP_DONTWAIT);
        if (received) return received == TP_EMPTY ? 0 : received;
        const uint8_t *p = d->data(d->message);
        const size_t n = d->size(d->message);
        uint16_t table = 0;
        if (n >= TP_HEADER) memcpy(&table, p + 2, sizeof table);
        tp_run *run = table < TP_TABLES ? runs[table] : NULL;
        d->messages_left--;
        d->bytes_left -= n < d->bytes_left ? n : d->bytes_left;
        *taken = run && !tp_run_reserve(run, n) ? tp_run_take(run, p, n) : 0;
        if (*taken < n || n == 0) return 1;
        tp_drain_drop(d);
    }
    return 0;
}

/* Bytes of the whole frames at the beginning of [p, p + n), and in *why what ended the walk, as tp_frame_scan tells. */
static inline size_t tp_frame_walk(const uint8_t *p, size_t n, int *why) {
    size_t at = 0;
    tp_frame h;
    *why = TP_GOOD;
    while (at < n) {
        *why = TP_SHORT;
        if (n - at < TP_HEADER) break;
        memcpy(&h, p + at, TP_HEADER);
        if (h.magic != TP_MAGIC || h.version != TP_VERSION) {
            *why = TP_NOT_A_FRAME;
            break;
        }
        if (h.size > n - at - TP_HEADER) break;
        *why = TP_GOOD;
        at += (size_t)TP_HEADER + h.size;
    }
    return at;
}
#endif
