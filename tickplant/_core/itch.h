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
 * writes rows and keeps the orders and books (book.h). They come in blocks: before the first message of a block is
 * decoded, `itch_ahead` has the orders and levels of all of them fetched into the cache. They are nowhere near one
 * another, and one by one the decoder would mostly wait for memory.
 *
 * Everything that is wrong becomes a row of table event, and decoding goes on:
 *
 *     malformed  unknown type, wrong length, impossible side, a stock locate that is not its order's; more shares taken
 *                from an order than it has (it is emptied). first, last: the message's bytes in the file, its length's
 *                two included
 *     orphan     reference to an order that was never added; the text tells the shares. first, last: the reference. Its
 *                row has FLAG_ORPHAN
 *                stock locate 0 where there must be one, or one in a message of the whole market. first, last: the
 *                stock locate
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

static inline void itch_message(struct itch *d, const struct ahead *ahead) {
    const uint8_t *p = ahead->bytes;
    uint32_t length = ahead->length;
    struct itch_spec spec = SPECS[p[0]];
    struct message m = {.bytes = p, .length = length, .hints = {ahead->hints[0], ahead->hints[1]}};
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

/* Fetch the level that a message is about into the cache, and those beside it: mostly the best ones. */
ALWAYS_INLINE void level_ahead(const struct itch *d, const struct ahead *a) {
    const uint8_t *p = a->bytes;
    uint8_t side;
    if (p[0] == 'A' || p[0] == 'F') {
        side = p[19];
    } else {
        const struct order *o = orders_find(&d->orders, be64(p + 11), a->hints[0]);
        if (!o) return;
        side = o->side;
    }
    side_prefetch(&d->books[be16(p + 1)].sides[which_side(side)]);
}

/* The next whole messages of `n` bytes, from `at` on: BLOCK of them at most. Returns how many. Each step fetches what
 * the next one reads into the cache, over the whole block. */
static inline int itch_ahead(const struct itch *d, const uint8_t *data, size_t n, size_t at, struct ahead *block) {
    uint32_t *cells[BLOCK][2];
    int count = 0;
    for (; count < BLOCK && n - at >= 2; count++) {
        struct ahead *a = &block[count];
        uint32_t length = be16(data + at);
        const uint8_t *p = data + at + 2;
        if (!length || n - at - 2 < length) break;
        struct itch_spec spec = SPECS[p[0]];
        *a = (struct ahead){.bytes = p, .length = length, .refs = length == spec.length ? spec.refs : 0};
        at += 2 + length;
        if (!a->refs) continue;
        if (d->books) __builtin_prefetch(&d->books[be16(p + 1)]);
        cells[count][0] = orders_prefetch(&d->orders, be64(p + 11));
        if (a->refs > 1) cells[count][1] = orders_prefetch(&d->orders, be64(p + 19));
    }
    for (int i = 0; i < count; i++) {
        struct ahead *a = &block[i];
        if (a->refs) a->hints[0] = orders_ahead(&d->orders, be64(a->bytes + 11), cells[i][0]);
        if (a->refs > 1) a->hints[1] = orders_ahead(&d->orders, be64(a->bytes + 19), cells[i][1]);
    }
    for (int i = 0; d->books && i < count; i++)
        if (block[i].refs) level_ahead(d, &block[i]);
    return count;
}

static inline void itch_cut(struct itch *d, uint64_t first, uint64_t last, const char *how) {
    struct message none = {0};
    event(d, &none, "truncated", (int64_t)first, (int64_t)last, "%s", how);
    d->damaged = 1;
}

/* Decode the whole messages of `n` bytes of a file that follow those decoded before. `final`: the file ends with them.
 * Returns how many bytes were used; all of them if `final`. Stops early only without memory (rows.failed). */
static inline size_t itch_decode(struct itch *d, const uint8_t *data, size_t n, int64_t ts_recv, int final) {
    struct ahead block[BLOCK];
    size_t at = 0;
    int count = BLOCK;
    d->ts_recv = ts_recv;
    while (count == BLOCK && !d->ended) {
        count = itch_ahead(d, data, n, at, block);
        for (int i = 0; i < count; i++) {
            itch_message(d, &block[i]);
            at += 2 + block[i].length;
            d->offset += 2 + block[i].length;
            if (__builtin_expect(d->rows.failed, 0)) return at;
        }
    }
    if (!d->ended && n - at >= 2 && !be16(data + at)) {
        d->ended = 1;
        at += 2;
        d->offset += 2;
    }
    if (at == n) return at;
    if (d->ended && !d->damaged)
        itch_cut(d, d->offset - 2, d->offset - 1, "a message of length 0 ends the session, but the file goes on");
    else if (final && !d->ended)
        itch_cut(d, d->offset, d->offset + (n - at) - 1, "the file ends inside a message");
    if (!d->ended && !final) return at;
    d->offset += d->ended ? 0 : n - at;
    return n;
}

/* A decoder of one day. Without `books` there are no quotes, and all other rows are the same. 0, or -1 without memory.
 */
static inline int itch_open(struct itch *d, int64_t midnight, int books, uint64_t salt, uint64_t factor) {
    *d = (struct itch){.midnight = midnight, .ts_event = midnight};
    if (orders_open(&d->orders, salt, factor)) return -1;
    if (books && !(d->books = calloc(LOCATES, sizeof *d->books))) return -1;
    d->defined = calloc(LOCATES, sizeof *d->defined);
    d->prints = calloc(PRINTS, sizeof *d->prints);
    return d->defined && d->prints ? 0 : -1;
}

static inline void itch_close(struct itch *d) {
    for (uint32_t i = 0; d->books && i < LOCATES; i++) book_free(&d->books[i]);
    free(d->books);
    free(d->defined);
    free(d->prints);
    orders_close(&d->orders);
    rows_free(&d->rows);
}
#endif
