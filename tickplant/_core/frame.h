/* The frame: what travels from feed to plant to subscriber, and what a journal is a sequence of.
 *
 *   offset size field         meaning
 *        0    2 magic         "TP"; with `table` the prefix that ZeroMQ subscriptions match
 *        2    2 table         the table's number; 0 for frames that are not rows
 *        4    4 size          bytes of payload that follow the header
 *        8    4 crc           CRC32C of bytes [0, 8) and [12, 80 + size): all but itself
 *       12    4 prev_crc      in a journal: `crc` of the frame before, 0 for the first; else 0
 *       16    1 kind          enum tp_kind
 *       17    1 version       1
 *       18    2 feed          the feed's number (0: the plant itself)
 *       20    4 trading_date  yyyymmdd; 0 until the plant has taken the frame
 *       24    8 row           number of the first row in (trading_date, table); 0 until taken
 *       32    8 session       the feed's session: ns UTC at which it began
 *       40    8 seq           number of the first row in the session, over all its tables, from 0
 *       48    8 feed_row      number of the first row in the session among the rows of this table
 *       56    8 feed_sum      sum of the row hashes (rowsum.h) of this table in this session up to and with this frame
 *       64    8 time_ns       when the frame was made: by the feed; in the plant's journal: by the plant
 *       72    4 count         rows in the payload
 *       76    4 schema        fingerprint of the table's declaration
 *       80      payload       `count` packed rows, or what the kind says
 *
 * All little-endian. A frame is valid when magic and version match, all of it is there, and the CRC agrees; each can
 * be judged alone. In a journal prev_crc chains the frames: a missing, repeated or exchanged frame breaks the chain.
 * (Frames of kind TP_SEGMENT, which begin a file, name the frame before them but are not links of the chain.)
 * Because feed_row and feed_sum travel with the rows, whoever holds a frame knows what its feed claims to have
 * published up to here, without asking it. */
#ifndef TP_FRAME_H
#define TP_FRAME_H
#include "crc32c.h"

typedef struct {
    uint16_t magic, table;
    uint32_t size, crc, prev_crc;
    uint8_t kind, version;
    uint16_t feed;
    uint32_t trading_date;
    uint64_t row, session, seq, feed_row, feed_sum;
    int64_t time_ns;
    uint32_t count, schema;
} tp_frame;
_Static_assert(sizeof(tp_frame) == 80, "the frame header is 80 bytes without holes");

enum { TP_MAGIC = 0x5054, TP_VERSION = 1, TP_HEADER = 80, TP_CRC_AT = 8, TP_CRC_FROM = 12 };
enum tp_kind { TP_ROWS = 1, TP_HEARTBEAT = 2, TP_SEGMENT = 3, TP_STATE = 4, TP_SEAL = 5, TP_REGISTRY = 6 };
enum tp_check { TP_GOOD = 0, TP_SHORT = 1, TP_NOT_A_FRAME = 2, TP_BAD_CRC = 3, TP_BROKEN_CHAIN = 4 };

static inline uint32_t tp_frame_crc(const uint8_t *p, uint32_t size) {
    return tp_crc32c(tp_crc32c(0, p, TP_CRC_AT), p + TP_CRC_FROM, (size_t)TP_HEADER - TP_CRC_FROM + size);
}

/* Is there a whole valid frame in the `n` bytes at p? Copies its header to *out. */
static inline enum tp_check tp_frame_read(const uint8_t *p, size_t n, tp_frame *out) {
    if (n < TP_HEADER) return TP_SHORT;
    memcpy(out, p, TP_HEADER);
    if (out->magic != TP_MAGIC || out->version != TP_VERSION) return TP_NOT_A_FRAME;
    if (out->size > n - TP_HEADER) return TP_SHORT;
    return tp_frame_crc(p, out->size) == out->crc ? TP_GOOD : TP_BAD_CRC;
}

/* Write header `h` before its payload, which is in place at p + TP_HEADER, and set its CRC. */
static inline void tp_frame_seal(uint8_t *p, tp_frame *h) {
    memcpy(p, h, TP_HEADER);
    h->crc = tp_frame_crc(p, h->size);
    memcpy(p + TP_CRC_AT, &h->crc, 4);
}

/* Walk the valid frames of a journal from p; `*crc` is the CRC of the frame before and becomes that of the last good
 * one. Returns the bytes walked, and in *why what ended the walk (TP_GOOD: the end of the bytes). */
static inline size_t tp_frame_scan(const uint8_t *p, size_t n, uint32_t *crc, uint64_t *frames, int *why) {
    size_t at = 0;
    tp_frame h;
    *why = TP_GOOD;
    while (at < n) {
        if ((*why = tp_frame_read(p + at, n - at, &h)) != TP_GOOD) break;
        if (h.prev_crc != *crc) {
            *why = TP_BROKEN_CHAIN;
            break;
        }
        if (h.kind != TP_SEGMENT) *crc = h.crc;
        ++*frames;
        at += (size_t)TP_HEADER + h.size;
    }
    return at;
}

/* Step over the next frame of [p, p + n) that is all there, its CRC not looked at: copies its header to *h, moves *at
 * past it and returns its payload; NULL at the end. Never reads beyond p + n, whatever the bytes are. */
static inline const uint8_t *tp_frame_next(const uint8_t *p, size_t n, size_t *at, tp_frame *h) {
    if (*at > n || n - *at < TP_HEADER) return NULL;
    memcpy(h, p + *at, TP_HEADER);
    if (h->size > n - *at - TP_HEADER) return NULL;
    const uint8_t *payload = p + *at + TP_HEADER;
    *at += (size_t)TP_HEADER + h->size;
    return payload;
}
#endif
