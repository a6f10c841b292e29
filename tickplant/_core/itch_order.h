/* Orders and what they make: rows of order, trade and quote.
 *
 * Pitfalls.
 *  - One execution may show up twice: as E/C and in a cross. C that is not printable is therefore no trade.
 *  - An execution (E) of an unknown order has no price: no trade row, as NaN would poison every sum. Its order row (with
 *    price 0) and its event do tell of it.
 *  - A replaced order keeps its side and stock; the message names no side. If the original is unknown (the capture began
 *    later, or messages were lost), the new order rests with SIDE_UNKNOWN: it has the price and shares that the message
 *    tells, so that its executions are trades, and is not in the book.
 *  - Shares in rows are those of the message, even if the order has fewer; only the book is kept from going below 0. */
#ifndef TP_ITCH_ORDER_H
#define TP_ITCH_ORDER_H
#include <math.h>

#include "itch_base.h"
#include "itch_stock.h"

/* A quote row, if the best bid or offer moved. */
__attribute__((noinline)) static void requote(struct itch *d, uint16_t locate) {
    struct book *book = &d->books[locate];
    if (!book_moved(book)) return;
    struct message about = {.instrument = locate};
    struct quote_row *row = NEW_ROW(d, T_QUOTE, quote_row);
    set_key(&row->key, d, &about, 0);
    row->venue_seq = d->seq;
    row->bid_price = book->shares[BID] ? price4(book->prices[BID]) : NAN;
    row->bid_size = (double)book->shares[BID];
    row->ask_price = book->shares[ASK] ? price4(book->prices[ASK]) : NAN;
    row->ask_size = (double)book->shares[ASK];
}

/* The same after a message about an order. */
static inline void quote(struct itch *d, uint16_t locate) {
    if (d->books && (d->books[locate].touched[BID] | d->books[locate].touched[ASK])) requote(d, locate);
}

static inline struct order_row *order_event(struct itch *d, const struct message *m, uint16_t flags, char action,
                                            uint64_t id, uint64_t ref, char side, uint32_t price, uint32_t shares) {
    struct order_row *row = NEW_ROW(d, T_ORDER, order_row);
    set_key(&row->key, d, m, flags);
    row->venue_seq = d->seq;
    row->order_id = (int64_t)id;
    row->ref_id = (int64_t)ref;
    row->price = price4(price);
    row->size = shares;
    row->side = side;
    row->action = action;
    memset(row->attribution, 0, sizeof row->attribution);
    return row;
}

static inline void trade(struct itch *d, const struct message *m, uint16_t flags, uint64_t match, uint32_t price,
                         uint64_t shares, char side, char condition) {
    struct trade_row *row = NEW_ROW(d, T_TRADE, trade_row);
    *row = (struct trade_row){.venue_seq = d->seq,
                              .trade_id = (int64_t)match,
                              .price = price4(price),
                              .size = (double)shares,
                              .side = side,
                              .action = 'T',
                              .condition = {condition}};
    set_key(&row->key, d, m, flags);
    d->prints[match % PRINTS] = (struct print){.match = match, .shares = shares, .price = price, .used = 1};
}

/* A message about an order of which nothing is known. */
__attribute__((noinline)) static void orphan(struct itch *d, struct message *m, uint64_t ref) {
    const uint8_t *p = m->bytes;
    char taken[32] = "";
    number(d, m);
    m->flags |= FLAG_ORPHAN;
    if (p[0] != 'D') snprintf(taken, sizeof taken, ": %u shares", be32(p + (p[0] == 'U' ? 27 : 19)));
    event(d, m, "orphan", (int64_t)ref, (int64_t)ref, "%c of an order never added, at byte %llu%s", p[0],
          (unsigned long long)d->offset, taken);
}

static inline char side_of(const struct order *o) { return o && o->side != SIDE_UNKNOWN ? (char)o->side : 0; }

/* The order a message refers to, which tells the instrument; NULL and an event if there is none. */
static inline struct order *refer(struct itch *d, struct message *m, uint64_t ref) {
    struct order *o = orders_find(&d->orders, ref, m->hints[0]);
    if (__builtin_expect(!o, 0)) {
        orphan(d, m, ref);
        return NULL;
    }
    m->instrument = o->locate;
    if (__builtin_expect(o->locate != m->locate, 0))
        MALFORMED(d, m, "%c of stock locate %u, but the order is of %u", m->bytes[0], m->locate, o->locate);
    return o;
}

/* Take shares from an order, and the order away when none is left. */
ALWAYS_INLINE void reduce(struct itch *d, const struct message *m, uint64_t ref, struct order *o, uint32_t shares) {
    if (__builtin_expect(shares > o->shares, 0)) {
        MALFORMED(d, m, "%c of %u shares, but the order has %u", m->bytes[0], shares, o->shares);
        shares = o->shares;
    }
    if (d->books && __builtin_expect(o->side != SIDE_UNKNOWN, 1))
        book_take(&d->books[o->locate], o->side, o->price, shares);
    o->shares -= shares;
    if (!o->shares) orders_remove(&d->orders, ref, o);
}

/* Put an order with the orders that rest, and into the book if its side is known; one that is there under the same
 * reference gives way to it. */
ALWAYS_INLINE void enter(struct itch *d, const struct message *m, uint64_t ref, uint32_t hint, uint16_t locate,
                         uint8_t side, uint32_t price, uint32_t shares) {
    if (__builtin_expect(!shares, 0)) {
        MALFORMED(d, m, "%c of 0 shares", m->bytes[0]);
        return;
    }
    struct book *book = d->books && __builtin_expect(side != SIDE_UNKNOWN, 1) ? &d->books[locate] : NULL;
    int room = !book || !book_reserve(book, side);
    struct order *slot = room ? orders_enter(&d->orders, ref, hint) : NULL;
    if (slot && __builtin_expect(slot->side, 0)) {
        uint16_t other = slot->locate;
        event(d, m, "duplicate", (int64_t)ref, (int64_t)ref, "%c of an order that exists, at byte %llu", m->bytes[0],
              (unsigned long long)d->offset);
        reduce(d, m, ref, slot, slot->shares);
        if (other != locate) quote(d, other);
        slot = orders_enter(&d->orders, ref, 0);
    }
    if (__builtin_expect(!slot, 0)) {
        d->rows.failed = 1;
        return;
    }
    slot->price = price;
    slot->shares = shares;
    slot->locate = locate;
    slot->side = side;
    if (book) book_add(book, side, price, shares);
}

/* Add Order: No MPID Attribution (A), With MPID Attribution (F). */
static inline void add_order(struct itch *d, const struct message *m) {
    const uint8_t *p = m->bytes;
    uint64_t ref = be64(p + 11);
    uint8_t side = p[19];
    uint32_t shares = be32(p + 20), price = be32(p + 32);
    if (__builtin_expect(side != 'B' && side != 'S', 0)) {
        MALFORMED(d, m, "%c with side 0x%02x", p[0], side);
        return;
    }
    struct order_row *row = order_event(d, m, 0, 'A', ref, 0, (char)side, price, shares);
    if (p[0] == 'F') text(row->attribution, p + 36, 4);
    if (!m->instrument) return; /* no stock, no book */
    enter(d, m, ref, m->hints[0], m->locate, side, price, shares);
    quote(d, m->locate);
}

/* Order Executed (E), Order Executed With Price (C). */
static inline void execute(struct itch *d, struct message *m) {
    const uint8_t *p = m->bytes;
    int priced = p[0] == 'C', printable = !(priced && p[31] == 'N');
    uint64_t ref = be64(p + 11), match = be64(p + 23);
    uint32_t shares = be32(p + 19), price = priced ? be32(p + 32) : 0;
    struct order *o = refer(d, m, ref);
    char side = side_of(o);
    if (o && !priced) price = o->price;
    order_event(d, m, printable ? 0 : FLAG_NON_PRINTABLE, 'E', ref, match, side, price, shares);
    if (printable && (o || priced)) trade(d, m, 0, match, price, shares, !side ? 0 : side == 'B' ? 'S' : 'B', 0);
    if (!o) return;
    uint16_t locate = o->locate;
    reduce(d, m, ref, o, shares);
    quote(d, locate);
}

/* Order Cancel (X): some of the shares; Order Delete (D): all that are left. */
static inline void cancel(struct itch *d, struct message *m) {
    const uint8_t *p = m->bytes;
    uint64_t ref = be64(p + 11);
    struct order *o = refer(d, m, ref);
    uint32_t shares = p[0] == 'X' ? be32(p + 19) : o ? o->shares : 0;
    order_event(d, m, 0, (char)p[0], ref, 0, side_of(o), o ? o->price : 0, shares);
    if (!o) return;
    uint16_t locate = o->locate;
    reduce(d, m, ref, o, shares);
    quote(d, locate);
}

/* Order Replace (U): the original is gone, the new one has its side and stock. Where the original is unknown, the stock
 * is that of the message. */
static inline void replace(struct itch *d, struct message *m) {
    const uint8_t *p = m->bytes;
    uint64_t ref = be64(p + 11), renewed = be64(p + 19);
    struct order *o = refer(d, m, ref);
    uint32_t shares = be32(p + 27), price = be32(p + 31);
    order_event(d, m, 0, 'U', renewed, ref, side_of(o), price, shares);
    uint16_t locate = o ? o->locate : m->locate;
    uint8_t side = o ? o->side : SIDE_UNKNOWN;
    if (o) reduce(d, m, ref, o, o->shares);
    enter(d, m, renewed, m->hints[1], locate, side, price, shares);
    quote(d, locate);
}

/* ---- trades that no displayed order made ---- */

/* Trade Message (Non-Cross). Its Buy/Sell Indicator has said B of every trade since 14 July 2014. */
static void hidden_trade(struct itch *d, const struct message *m) {
    const uint8_t *p = m->bytes;
    trade(d, m, FLAG_HIDDEN, be64(p + 36), be32(p + 32), be32(p + 20), 0, 0);
}

/* Cross Trade Message. Of a stock without a cross it is sent with 0 shares. */
static void cross_trade(struct itch *d, const struct message *m) {
    const uint8_t *p = m->bytes;
    uint64_t shares = be64(p + 11);
    if (shares) trade(d, m, FLAG_CROSS, be64(p + 31), be32(p + 27), shares, 0, (char)p[39]);
}

/* Broken Trade / Order Execution Message. Price and size are 0 if the trade was not printed, or is too long ago. */
static void broken_trade(struct itch *d, const struct message *m) {
    uint64_t match = be64(m->bytes + 11);
    const struct print *known = &d->prints[match % PRINTS];
    int found = known->used && known->match == match;
    struct trade_row *row = NEW_ROW(d, T_TRADE, trade_row);
    *row = (struct trade_row){.venue_seq = d->seq,
                              .trade_id = (int64_t)match,
                              .price = found ? price4(known->price) : 0,
                              .size = found ? (double)known->shares : 0,
                              .action = 'X'};
    set_key(&row->key, d, m, FLAG_CORRECTION);
}
#endif
