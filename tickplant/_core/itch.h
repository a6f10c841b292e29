/* Nasdaq TotalView-ITCH 5.0 in a BinaryFILE, to rows, in one pass.
 *
 * Format. A file is a sequence of: 2-byte big-endian length, message. A length of 0 ends the session: nothing follows.
 * All numbers in a message are big-endian, text is padded with spaces. Every message begins with
 *
 *     0 type (1)   1 stock locate (2)   3 tracking number (2)   5 ns since midnight (6)
 *
 * and has one length for its type (`SPECS`). The names in comments are those of sections of the specification
 * "Nasdaq TotalView-ITCH 5.0". Prices are unsigned 32-bit with 4 decimals ("Data Types").
 *
 * Algorithm. `itch_decode` walks over the whole messages in a piece of the file and tells how many bytes it used; the
 * caller brings the rest again with the next piece. `itch_message` sends each to the function of its group, which
 * writes rows and keeps the orders and books (book.h). While a message is decoded, the slots of the orders that the
 * message LOOKAHEAD further on refers to are fetched into the cache: they are nowhere near one another, and without
 * this the decoder would mostly wait for memory.
 *
 * Everything that is wrong becomes a row of table event, and decoding goes on:
 *
 *     malformed  unknown type, wrong length, impossible side, a stock locate that is not its order's; more shares taken
 *                from an order than it has (it is emptied). first, last: the message's bytes in the file, its length's
 *                two included
 *     orphan     reference to an order that was never added. first, last: the reference. Its row has FLAG_ORPHAN
 *                stock locate 0 or not defined, where that can't be mended. first, last: the stock locate
 *     duplicate  an order is added that exists; the later one takes its place. first, last: the reference
 *     truncated  the file ends inside a message, or goes on after its end. first, last: bytes in the file
 *
 * Pitfall. A file is one day: references and match numbers are unique in a day only. */
#ifndef TP_ITCH_H
#define TP_ITCH_H
#include "itch_base.h"
#include "itch_order.h"
#include "itch_stock.h"

__attribute__((noinline)) static void refuse(struct itch *d, const struct message *m, struct itch_spec spec) {
    d->malformed++;
    if (!spec.length)
        MALFORMED(d, m, "a message of unknown type 0x%02x, %u bytes", m->bytes[0], m->length);
    else
        MALFORMED(d, m, "%c of %u bytes, must be %u", m->bytes[0], m->length, spec.length);
}

static inline void itch_message(struct itch *d, const uint8_t *p, uint32_t length) {
    struct itch_spec spec = SPECS[p[0]];
    struct message m = {.bytes = p, .length = length};
    d->seq++;
    if (__builtin_expect(length != spec.length, 0)) {
        refuse(d, &m, spec);
        return;
    }
    d->counts[p[0]]++;
    m.locate = be16(p + 1);
    d->ts_event = d->midnight + (int64_t)(be64(p + 3) & 0xffffffffffff);
    identify(d, &m, spec);
    switch (p[0]) {
        case 'A': case 'F': add_order(d, &m); return;
        case 'D': case 'X': cancel(d, &m); return;
        case 'U': replace(d, &m); return;
        case 'E': case 'C': execute(d, &m); return;
        case 'P': hidden_trade(d, &m); return;
        case 'I': imbalance(d, &m); return;
        case 'Q': cross_trade(d, &m); return;
        case 'B': broken_trade(d, &m); return;
        case 'R': directory(d, &m); return;
        case 'O': direct_listing(d, &m); return;
        default: status(d, &m);
    }
}

/* Fetch what the message at `at` refers to into the cache; where the next message begins (n: not known yet). */
ALWAYS_INLINE size_t itch_ahead(const struct itch *d, const uint8_t *data, size_t n, size_t at) {
    if (n - at < 2 + 27) return n;
    const uint8_t *p = data + at + 2;
    uint8_t refs = SPECS[p[0]].refs;
    if (refs) orders_prefetch(&d->orders, be64(p + 11));
    if (refs > 1) orders_prefetch(&d->orders, be64(p + 19));
    size_t next = at + 2 + be16(data + at);
    return next < n ? next : n;
}

static inline void itch_cut(struct itch *d, uint64_t first, uint64_t last, const char *how) {
    struct message none = {0};
    event(d, &none, "truncated", (int64_t)first, (int64_t)last, "%s", how);
    d->damaged = 1;
}

/* Decode the whole messages of `n` bytes of a file that follow those decoded before. `final`: the file ends with them.
 * Returns how many bytes were used; all of them if `final`. Stops early only without memory (rows.failed). */
static inline size_t itch_decode(struct itch *d, const uint8_t *data, size_t n, int64_t ts_recv, int final) {
    size_t at = 0, ahead = 0;
    d->ts_recv = ts_recv;
    for (int i = 0; i < LOOKAHEAD; i++) ahead = itch_ahead(d, data, n, ahead);
    while (!d->ended && n - at >= 2 && !d->rows.failed) {
        uint32_t length = be16(data + at);
        if (n - at - 2 < length) break;
        ahead = itch_ahead(d, data, n, ahead);
        if (length)
            itch_message(d, data + at + 2, length);
        else
            d->ended = 1;
        at += 2 + length;
        d->offset += 2 + length;
    }
    if (at == n || d->rows.failed) return at;
    if (d->ended && !d->damaged)
        itch_cut(d, d->offset - 2, d->offset - 1, "a message of length 0 ends the session, but the file goes on");
    else if (final && !d->ended)
        itch_cut(d, d->offset, d->offset + (n - at) - 1, "the file ends inside a message");
    if (!d->ended && !final) return at;
    d->offset += d->ended ? 0 : n - at;
    return n;
}

/* A decoder of one day. 0, or -1 without memory. */
static inline int itch_open(struct itch *d, int64_t midnight, uint64_t salt, uint64_t factor) {
    *d = (struct itch){.midnight = midnight, .ts_event = midnight};
    if (orders_open(&d->orders, salt, factor)) return -1;
    d->books = calloc(LOCATES, sizeof *d->books);
    d->prints = calloc(PRINTS, sizeof *d->prints);
    return d->books && d->prints ? 0 : -1;
}

static inline void itch_close(struct itch *d) {
    for (uint32_t i = 0; d->books && i < LOCATES; i++) book_free(&d->books[i]);
    free(d->books);
    free(d->prints);
    orders_close(&d->orders);
    rows_free(&d->rows);
}
#endif
