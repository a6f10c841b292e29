/* Intake: from a message of a feed to a frame of the journal, and from there into the tables.
 *
 *   message ──tp_take──► stage ──(Python: one write to the journal)──► tp_apply ──► columns, heads, latest ──► commit
 *
 * tp_take judges a message (frame, table, session, sequence), copies it to the stage, gives it its row number and stamps
 * each row with the plant's time, the feed's number and the plant's instrument code. What needs a decision (a gap, a new
 * session, a definition, anything malformed) is not taken but named, and Python decides. Recovery runs tp_restore and
 * tp_apply over the journal's own bytes: the same code, so start is recovery. */
#ifndef TP_INTAKE_H
#define TP_INTAKE_H
#include "table.h"
#include <stdlib.h>

enum { TP_TABLES = 256 };
#define TP_UNDEFINED 0xffffffffu
/* Bounds of what a header says: PostgreSQL's bigint holds each, and sums of them over many sessions. */
#define TP_SESSION_END (1ull << 63)
#define TP_ROWS_MAX (1ull << 50) /* of one session */

/* What a feed says it has published of one table: `rows` and `sum` so far in this session; `base_*` the same when the
 * trading date began; `done_*` what earlier sessions of this date came to. */
typedef struct {
    uint64_t rows, sum, base_rows, base_sum, done_rows, done_sum;
} tp_claim;

typedef struct {
    uint64_t session, next_seq;
    uint32_t *codes, n_codes; /* feed's code -> plant's code */
    tp_claim claims[TP_TABLES];
} tp_feed;

typedef struct {
    tp_table *tables[TP_TABLES];
    tp_feed **feeds;
    uint32_t n_feeds, definitions; /* number of the table whose rows define instruments */
    uint32_t trading_date, last_crc;
    uint8_t *stage;
    size_t used, room;
    uint32_t frame_bytes, frame_rows; /* the most that a message may have */
    uint64_t frames, rows, duplicates, refused; /* refused: frames that shared memory had no room for */
} tp_intake;

enum tp_taken {
    TP_TAKEN = 0, TP_DUPLICATE, TP_CONTROL, TP_MALFORMED, TP_UNKNOWN_FEED, TP_WRONG_SCHEMA, TP_NEW_SESSION, TP_GAP,
    TP_DEFINITIONS, TP_UNDEFINED_CODE, TP_STAGE_FULL, TP_TOO_LARGE
};

static inline tp_feed *tp_feed_of(const tp_intake *in, uint32_t number) {
    return number < in->n_feeds ? in->feeds[number] : NULL;
}

static inline void tp_claim_add(tp_feed *f, const tp_frame *h, uint32_t table) {
    f->claims[table].rows = h->feed_row + h->count;
    f->claims[table].sum = h->feed_sum;
}

/* The feed goes on in another session: what it claimed so far is done. */
static inline void tp_feed_begin(tp_feed *f, uint64_t session, uint64_t next_seq) {
    for (int t = 0; t < TP_TABLES; t++) {
        tp_claim *c = &f->claims[t];
        c->done_rows += c->rows - c->base_rows;
        c->done_sum += c->sum - c->base_sum;
        c->rows = c->sum = c->base_rows = c->base_sum = 0;
    }
    for (uint32_t i = 1; i < f->n_codes; i++) f->codes[i] = TP_UNDEFINED;
    f->session = session;
    f->next_seq = next_seq;
}

/* A new trading date: claims count from here. */
static inline void tp_feed_roll(tp_feed *f) {
    for (int t = 0; t < TP_TABLES; t++) {
        tp_claim *c = &f->claims[t];
        c->base_rows = c->rows;
        c->base_sum = c->sum;
        c->done_rows = c->done_sum = 0;
    }
}

/* Can session, seq and feed_row be those of a feed that counts its rows from 0? */
static inline int tp_in_range(const tp_frame *h) {
    return h->session < TP_SESSION_END && h->seq <= TP_ROWS_MAX && h->seq + h->count <= TP_ROWS_MAX && h->feed_row <= h->seq;
}

static inline enum tp_taken tp_judge(const tp_intake *in, const uint8_t *msg, size_t n, tp_frame *h) {
    if (tp_frame_read(msg, n, h) != TP_GOOD || (size_t)TP_HEADER + h->size != n || n > in->room) return TP_MALFORMED;
    if (!tp_in_range(h)) return TP_MALFORMED;
    const tp_feed *f = tp_feed_of(in, h->feed);
    if (!f) return TP_UNKNOWN_FEED;
    if (h->kind == TP_HEARTBEAT) return TP_CONTROL;
    if (h->kind != TP_ROWS || h->table >= TP_TABLES) return TP_MALFORMED;
    const tp_table *t = in->tables[h->table];
    if (!t || h->schema != t->schema) return TP_WRONG_SCHEMA;
    if (h->count == 0 || (uint64_t)h->count * t->row_size != h->size) return TP_MALFORMED;
    if (h->size > in->frame_bytes || h->count > in->frame_rows) return TP_TOO_LARGE;
    if (h->session != f->session) return TP_NEW_SESSION;
    if (h->seq > f->next_seq) return TP_GAP;
    if (h->seq < f->next_seq) return h->seq + h->count <= f->next_seq ? TP_DUPLICATE : TP_MALFORMED;
    return TP_TAKEN;
}

/* Stamp the staged rows; the first row with an undefined code ends it. */
static inline int tp_stamp(uint8_t *row, uint32_t count, uint32_t row_size, const tp_feed *f, uint16_t feed, int64_t now_ns) {
    uint32_t code, bad = 0;
    for (uint32_t i = 0; i < count; i++, row += row_size) {
        memcpy(&code, row + TP_AT_INSTRUMENT, 4);
        if (code >= f->n_codes || f->codes[code] == TP_UNDEFINED) {
            bad = 1;
            break;
        }
        memcpy(row + TP_AT_TS_PLANT, &now_ns, 8);
        memcpy(row + TP_AT_INSTRUMENT, &f->codes[code], 4);
        memcpy(row + TP_AT_FEED, &feed, 2);
    }
    return (int)bad;
}

/* Take one message. `defined`: its definitions (table in->definitions) have been registered already. */
static inline enum tp_taken tp_take(tp_intake *in, const uint8_t *msg, size_t n, int64_t now_ns, int defined) {
    tp_frame h;
    enum tp_taken verdict = tp_judge(in, msg, n, &h);
    if (verdict == TP_DUPLICATE) in->duplicates++;
    if (verdict != TP_TAKEN) return verdict;
    if (h.table == in->definitions && !defined) return TP_DEFINITIONS;
    if (n > in->room - in->used) return TP_STAGE_FULL;
    tp_feed *f = in->feeds[h.feed];
    tp_table *t = in->tables[h.table];
    uint8_t *to = in->stage + in->used;
    memcpy(to + TP_HEADER, msg + TP_HEADER, h.size);
    if (tp_stamp(to + TP_HEADER, h.count, t->row_size, f, h.feed, now_ns)) return TP_UNDEFINED_CODE;
    h.prev_crc = in->last_crc;
    h.trading_date = in->trading_date;
    h.row = t->taken;
    h.time_ns = now_ns;
    tp_frame_seal(to, &h);
    in->last_crc = h.crc;
    in->used += n;
    in->frames++;
    in->rows += h.count;
    t->taken += h.count;
    f->next_seq += h.count;
    tp_claim_add(f, &h, h.table);
    return TP_TAKEN;
}

/* Take the frames of rows and heartbeats that feed number `feed` wrote to a file, [p, p + n) of it, from *at on. Stops at the
 * first that is not taken and says why, or TP_TAKEN where what is left is no whole frame. */
static inline enum tp_taken tp_take_written(tp_intake *in, uint16_t feed, const uint8_t *p, size_t n, size_t *at,
                                            int64_t now_ns) {
    tp_frame h;
    for (size_t next = *at; tp_frame_next(p, n, &next, &h); *at = next) {
        if (h.magic == TP_MAGIC && h.kind != TP_ROWS && h.kind != TP_HEARTBEAT) continue;
        if (h.feed != feed) return TP_MALFORMED;
        const enum tp_taken verdict = tp_take(in, p + *at, next - *at, now_ns, 0);
        if (verdict > TP_DUPLICATE) return verdict;
    }
    return TP_TAKEN;
}

/* Bring feeds and row numbers to where the journal's valid frames [p, p + n) leave them. Definitions are Python's. */
static inline void tp_restore(tp_intake *in, const uint8_t *p, size_t n) {
    tp_frame h;
    for (size_t at = 0; tp_frame_next(p, n, &at, &h);) {
        if (h.kind != TP_ROWS || h.table >= TP_TABLES) continue;
        tp_feed *f = tp_feed_of(in, h.feed);
        if (in->tables[h.table]) in->tables[h.table]->taken = h.row + h.count;
        if (!f) continue;
        if (f->session != h.session) tp_feed_begin(f, h.session, 0);
        f->next_seq = h.seq + h.count;
        tp_claim_add(f, &h, h.table);
    }
}

/* The table of a frame of rows, if it is ours and the payload is `count` of its rows. */
static inline tp_table *tp_table_of(const tp_intake *in, const tp_frame *h) {
    if (h->kind != TP_ROWS || h->table >= TP_TABLES) return NULL;
    tp_table *t = in->tables[h->table];
    return t && (uint64_t)h->count * t->row_size == h->size ? t : NULL;
}

/* Write the rows of journaled frames [p, p + n) into the tables, make them visible, then put the latest values.
 * `again`: these frames were applied before, when there was no room for all of their rows. */
static inline void tp_apply(tp_intake *in, const uint8_t *p, size_t n, int again) {
    tp_frame h;
    const uint8_t *rows;
    uint8_t touched[TP_TABLES] = {0};
    for (size_t at = 0; (rows = tp_frame_next(p, n, &at, &h));) {
        tp_table *t = tp_table_of(in, &h);
        if (!t) continue;
        if (!t->committed || tp_table_write(t, &h, rows)) in->refused++;
        touched[h.table] = t->committed != NULL;
    }
    for (int i = 0; i < TP_TABLES; i++)
        if (touched[i]) tp_table_commit(in->tables[i]);
    for (size_t at = 0; (rows = tp_frame_next(p, n, &at, &h));) {
        tp_table *t = tp_table_of(in, &h);
        if (t && t->latest) tp_put_latest(t, &h, rows, again);
    }
}
#endif
