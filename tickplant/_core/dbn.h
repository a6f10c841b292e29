/* Records of Databento DBN, a whole block of one type at a time, to packed rows.
 *
 * A record begins with its length in units of 4 bytes (u8), its type (u8), publisher (u16), instrument (u32) and
 * ts_event (u64); all is little-endian, without padding ("Databento Binary Encoding", Records). Of the types that
 * make up nearly all of the data, the rest is
 *
 *     MboMsg, 56 bytes    16 order_id u64, 24 price i64, 32 size u32, 36 flags u8, 37 channel u8, 38 action,
 *                         39 side, 40 ts_recv u64, 48 ts_in_delta i32, 52 sequence u32
 *     TradeMsg, 48 bytes  16 price i64, 24 size u32, 28 action, 29 side, 30 flags u8, 31 depth u8,
 *                         32 ts_recv u64, 40 ts_in_delta i32, 44 sequence u32
 *
 * A price is in units of 1e-9, INT64_MAX if there is none; a size of UINT32_MAX is none, a time of UINT64_MAX is none. */
#ifndef TP_DBN_H
#define TP_DBN_H
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { DBN_HEADER = 16, DBN_SNAPSHOT = 32, DBN_AT_EVENT = 8 };
typedef struct {
    int at_price, at_size, at_flags, at_action, at_side, at_recv, at_sequence, at_order;
} dbn_place;
static const dbn_place DBN_MBO = {24, 32, 36, 38, 39, 40, 52, 16};
static const dbn_place DBN_TRADE = {16, 24, 30, 28, 29, 32, 44, -1};

#pragma pack(push, 1)
typedef struct {
    int64_t ts_event, ts_recv, ts_plant;
    uint32_t instrument;
    uint16_t feed, flags;
    int64_t venue_seq;
} dbn_key;
typedef struct {
    dbn_key key;
    int64_t order_id, ref_id;
    double price, size;
    char side, action, attribution[4];
} dbn_order_row;
typedef struct {
    dbn_key key;
    int64_t trade_id;
    double price, size;
    char side, action, condition[6];
} dbn_trade_row;
#pragma pack(pop)

static inline uint64_t dbn_u64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

static inline uint32_t dbn_u32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

/* A time; 0 if there is none, or none that is before 2262. */
static inline int64_t dbn_time(const uint8_t *p) {
    int64_t t = (int64_t)dbn_u64(p);
    return t < 0 ? 0 : t;
}

/* The double nearest to price / 1e9. */
static inline double dbn_price(int64_t price) {
    if (price == INT64_MAX) return NAN;
    if (price <= 1ll << 53 && price >= -(1ll << 53)) return (double)price / 1e9; /* both exact: rounds once */
    uint64_t size = price < 0 ? 0 - (uint64_t)price : (uint64_t)price;
    int shift = size >> 60 ? 30 : 33;
    unsigned __int128 wide = (unsigned __int128)size << shift;
    uint64_t quotient = (uint64_t)(wide / 1000000000u); /* from 2^56 to 2^64: bits below those of a double */
    quotient |= wide % 1000000000u != 0;                /* no tie unless it is one */
    double value = ldexp((double)quotient, -shift);
    return price < 0 ? -value : value;
}

/* Where whole records begin, as many as there is room for; the byte after the last of them. */
static inline size_t dbn_walk(const uint8_t *data, size_t n, int64_t *starts, size_t room, size_t *count) {
    size_t at = 0, found = 0;
    while (at < n && found < room && data[at] * 4 >= DBN_HEADER && at + data[at] * 4 <= n) {
        starts[found++] = (int64_t)at;
        at += data[at] * 4;
    }
    *count = found;
    return at;
}

/* Are all records of the length and type of the first? */
static inline int dbn_same(const uint8_t *data, size_t size, size_t count) {
    for (size_t i = 1; i < count; i++)
        if (memcmp(data, data + i * size, 2)) return 0;
    return 1;
}

/* Codes by (publisher, instrument), from a table of a power of two slots, some empty (code 0), probed one by one.
 * How many were not found; their code is 0. */
static inline size_t dbn_find(const uint8_t *data, size_t size, size_t count, const uint64_t *keys,
                              const uint32_t *codes, int bits, uint32_t *out) {
    size_t missing = 0, mask = ((size_t)1 << bits) - 1;
    for (size_t i = 0; i < count; i++, data += size) {
        uint16_t publisher;
        memcpy(&publisher, data + 2, 2);
        uint64_t key = (uint64_t)publisher << 32 | dbn_u32(data + 4);
        size_t slot = key * 0x9E3779B97F4A7C15ull >> (64 - bits);
        while (codes[slot] && keys[slot] != key) slot = (slot + 1) & mask;
        out[i] = codes[slot];
        missing += !codes[slot];
    }
    return missing;
}

static inline void dbn_begin(dbn_key *key, const uint8_t *r, const dbn_place *at, uint32_t code) {
    memset(key, 0, sizeof *key);
    key->ts_event = dbn_time(r + DBN_AT_EVENT);
    key->ts_recv = dbn_time(r + at->at_recv);
    key->instrument = code;
    key->flags = r[at->at_flags] & DBN_SNAPSHOT ? 1 : 0; /* Flag.SNAPSHOT */
    key->venue_seq = dbn_u32(r + at->at_sequence);
}

static inline double dbn_size(const uint8_t *p) {
    uint32_t size = dbn_u32(p);
    return size == UINT32_MAX ? (double)NAN : (double)size;
}

static inline char dbn_side(uint8_t side) { return side == 'A' ? 'S' : side == 'B' ? 'B' : 0; }

/* Orders and trades; what there is room for is as many of each as there are records. `orders` may be NULL: only
 * trades then. */
static inline void dbn_rows(const uint8_t *r, size_t size, size_t count, const uint32_t *codes, int by_order,
                            dbn_order_row *orders, dbn_trade_row *trades, size_t *n_orders, size_t *n_trades) {
    const dbn_place *at = by_order ? &DBN_MBO : &DBN_TRADE;
    *n_orders = *n_trades = 0;
    for (size_t i = 0; i < count; i++, r += size) {
        uint8_t action = r[at->at_action];
        char known = action == 'A'   ? 'A'
                     : action == 'C' ? 'X'
                     : action == 'M' ? 'U'
                     : action == 'F' ? 'E'
                     : action == 'R' ? 'R'
                                     : 0;
        if (action == 'T') {
            dbn_trade_row *t = trades + (*n_trades)++;
            dbn_begin(&t->key, r, at, codes[i]);
            t->trade_id = 0;
            t->price = dbn_price((int64_t)dbn_u64(r + at->at_price));
            t->size = dbn_size(r + at->at_size);
            t->side = dbn_side(r[at->at_side]);
            t->action = 'T';
            memset(t->condition, 0, sizeof t->condition);
        } else if (by_order && known) {
            dbn_order_row *o = orders + (*n_orders)++;
            dbn_begin(&o->key, r, at, codes[i]);
            o->order_id = (int64_t)dbn_u64(r + at->at_order);
            o->ref_id = known == 'U' ? o->order_id : 0;
            o->price = dbn_price((int64_t)dbn_u64(r + at->at_price));
            o->size = dbn_size(r + at->at_size);
            o->side = dbn_side(r[at->at_side]);
            o->action = known;
            memset(o->attribution, 0, sizeof o->attribution);
        }
    }
}
#endif
