/* Which stocks there are, and the state they and the market are in: rows of instrument, status and imbalance. */
#ifndef TP_ITCH_STOCK_H
#define TP_ITCH_STOCK_H
#include "itch_base.h"

static void define(struct itch *d, const struct message *m, const uint8_t *stock, uint16_t flags, double lot,
                   const char *attributes) {
    struct instrument_row *row = NEW_ROW(d, T_INSTRUMENT, instrument_row);
    *row = (struct instrument_row){.code = m->locate,
                                   .kind = "stock",
                                   .currency = "USD",
                                   .lot_size = lot,
                                   .multiplier = 1};
    set_key(&row->key, d, m, flags);
    text(row->symbol, stock, 8);
    memcpy(row->attributes, attributes, strlen(attributes));
    d->defined[m->locate] = DEFINED;
}

/* Give a message its instrument by the stock locate alone, where nothing has told the symbol yet. */
__attribute__((noinline)) static void number(struct itch *d, struct message *m) {
    char symbol[9];
    if (m->instrument || !m->locate) return;
    m->instrument = m->locate;
    if (d->defined[m->locate]) return;
    int length = snprintf(symbol, sizeof symbol, "#%u", m->locate);
    memset(symbol + length, ' ', sizeof symbol - (size_t)length);
    define(d, m, (const uint8_t *)symbol, FLAG_SYNTHETIC, 0, "");
    d->defined[m->locate] = NUMBERED;
}

/* Find the instrument of a message; define it if this is the first that is heard of it, and its symbol is told. */
static inline void identify(struct itch *d, struct message *m, struct itch_spec spec) {
    if (__builtin_expect(m->locate && d->defined[m->locate] == DEFINED, 1)) {
        m->instrument = m->locate;
        return;
    }
    if (spec.stock && m->locate) {
        m->instrument = m->locate;
        if (m->bytes[0] != 'R') define(d, m, m->bytes + spec.stock, FLAG_SYNTHETIC, 0, "");
        return;
    }
    if (spec.refs && !spec.stock) return; /* the order will tell, or the stock locate must do */
    if (m->bytes[0] == 'B') number(d, m);
    if (m->instrument) return;
    if (!m->locate && !spec.stock && m->bytes[0] != 'B') return; /* S V W: of the whole market */
    m->flags |= FLAG_ORPHAN;
    event(d, m, "orphan", m->locate, m->locate, "%c of stock locate %u, which is not defined, at byte %llu",
          m->bytes[0], m->locate, (unsigned long long)d->offset);
}

/* Stock Directory. attributes: market category, financial status, round lots only, issue classification, issue sub-type
 * (2), authenticity, short sale threshold, IPO flag, LULD price tier, ETP flag, inverse indicator: 12 characters as
 * they were sent; then the ETP leverage factor in decimal. */
static void directory(struct itch *d, const struct message *m) {
    const uint8_t *p = m->bytes;
    char codes[33];
    if (!m->locate) return;
    snprintf(codes, sizeof codes, "............%u", be32(p + 34));
    memcpy(codes, p + 19, 2);
    memcpy(codes + 2, p + 25, 9);
    codes[11] = (char)p[38];
    for (int i = 0; i < 12; i++)
        if (!codes[i]) codes[i] = ' '; /* NUL would end the text */
    define(d, m, p + 11, 0, be32(p + 21), codes);
}

static struct status_row *new_status(struct itch *d, const struct message *m, const char *kind, const uint8_t *value,
                                     size_t n) {
    struct status_row *row = NEW_ROW(d, T_STATUS, status_row);
    *row = (struct status_row){.venue_seq = d->seq};
    set_key(&row->key, d, m, 0);
    memcpy(row->kind, kind, strlen(kind));
    text(row->value, value, n);
    return row;
}

static void set_levels(struct status_row *row, double level_1, double level_2, double level_3) {
    row->level_1 = level_1;
    row->level_2 = level_2;
    row->level_3 = level_3;
}

/* Direct Listing with Capital Raise Price Discovery Message: two rows. */
static void direct_listing(struct itch *d, const struct message *m) {
    const uint8_t *p = m->bytes;
    set_levels(new_status(d, m, "dlcr", p + 19, 1), price4(be32(p + 20)), price4(be32(p + 24)), price4(be32(p + 28)));
    set_levels(new_status(d, m, "dlcr_collar", p + 19, 1), price4(be32(p + 40)), price4(be32(p + 44)),
               (double)be64(p + 32));
}

/* The table of kinds, values, reasons and levels is in tickplant/feed/itch50.py. */
static void status(struct itch *d, const struct message *m) {
    const uint8_t *p = m->bytes;
    char extension[12];
    switch (p[0]) {
        case 'S': /* System Event Message */
            new_status(d, m, "session", p + 11, 1);
            return;
        case 'H': /* Stock Trading Action */
            text(new_status(d, m, "trading", p + 19, 1)->reason, p + 21, 4);
            return;
        case 'Y': /* Reg SHO Short Sale Price Test Restricted Indicator */
            new_status(d, m, "regsho", p + 19, 1);
            return;
        case 'L': /* Market Participant Position */
            text(new_status(d, m, "participant", p + 23, 3)->reason, p + 11, 4);
            return;
        case 'V': /* MWCB Decline Level Message: 8 decimals */
            set_levels(new_status(d, m, "mwcb_levels", p, 0), (double)be64(p + 11) / 1e8, (double)be64(p + 19) / 1e8,
                       (double)be64(p + 27) / 1e8);
            return;
        case 'W': /* MWCB Status Message */
            new_status(d, m, "mwcb_breach", p + 11, 1);
            return;
        case 'K': /* Quoting Period Update */
            set_levels(new_status(d, m, "ipo", p + 23, 1), price4(be32(p + 24)), be32(p + 19), 0);
            return;
        case 'J': /* Limit Up - Limit Down (LULD) Auction Collar */
            snprintf(extension, sizeof extension, "%u", be32(p + 31));
            set_levels(new_status(d, m, "luld", (const uint8_t *)extension, strlen(extension)), price4(be32(p + 19)),
                       price4(be32(p + 23)), price4(be32(p + 27)));
            return;
        case 'h': /* Operational Halt */
            text(new_status(d, m, "operational", p + 20, 1)->reason, p + 19, 1);
            return;
        default: /* N: Retail Price Improvement Indicator (RPII) */
            new_status(d, m, "rpii", p + 19, 1);
    }
}

/* Net Order Imbalance Indicator (NOII) Message. */
static void imbalance(struct itch *d, const struct message *m) {
    const uint8_t *p = m->bytes;
    struct imbalance_row *row = NEW_ROW(d, T_IMBALANCE, imbalance_row);
    set_key(&row->key, d, m, 0);
    row->venue_seq = d->seq;
    row->reference_price = price4(be32(p + 44));
    row->near_price = price4(be32(p + 40));
    row->far_price = price4(be32(p + 36));
    row->paired_size = (double)be64(p + 11);
    row->imbalance_size = (double)be64(p + 19);
    row->side = (char)p[27];
    row->cross_type = (char)p[48];
    row->variation = (char)p[49];
}
#endif
