/* Hunts a row that is seen too early: table.h between a writer that appends and commits and readers that verify.
 *
 * Every cell follows from its row, column and the table's date, so a cell that is not written yet (or of the date
 * before) shows. A reader verifies all cells of all rows as soon as they are committed, the last of them first, and that
 * the last rows of an instrument are those that a scan finds. Writers are killed anywhere, between writing and
 * committing too; the next one rewinds and writes the same rows again, as recovery does from the journal. A full table
 * is begun anew as that of the next date. */
#include "hunt.h"
#include "table.h"

enum { ROWS = 1 << 18, HEADS = 16, COLUMNS = 7, ROW = 45, LAST = 6, FRAME = 40 };
static const uint32_t sizes[COLUMNS] = {8, 8, 8, 4, 4, 5, 8};

typedef struct {
    _Alignas(128) _Atomic uint64_t committed;
    _Alignas(128) _Atomic uint64_t date, left[READERS]; /* the date that a reader has done with */
    _Alignas(128) _Atomic uint32_t head[HEADS];
    _Alignas(128) uint32_t prev[ROWS];
    _Alignas(128) uint8_t columns[COLUMNS][8 * ROWS];
} table;

static inline uint64_t mixed(uint64_t date, uint64_t row, uint32_t column) {
    uint64_t x = (row + 1) * 0x9e3779b97f4a7c15ull ^ date * 0xbf58476d1ce4e5b9ull ^ column;
    return (x ^ x >> 29) * 0x94d049bb133111ebull >> 7;
}

static inline uint32_t instrument(uint64_t date, uint64_t row) { return (uint32_t)mixed(date, row, 3) % HEADS; }

static inline uint64_t cell(uint64_t date, uint64_t row, uint32_t column) {
    return column == 3 ? instrument(date, row) : mixed(date, row, column);
}

static void attach(table *s, tp_table *t, tp_column *columns) {
    for (uint32_t i = 0, at = 0; i < COLUMNS; at += sizes[i++])
        columns[i] = (tp_column){.data = s->columns[i], .offset = at, .size = sizes[i]};
    *t = (tp_table){.row_size = ROW, .n_columns = COLUMNS, .columns = columns, .room = ROWS, .n_heads = HEADS,
                    .committed = &s->committed, .prev = s->prev, .head = s->head};
}

/* Begin the next date, once every reader has seen all of this one. */
static void roll(table *s, tp_table *t) {
    uint64_t date = get(&s->date);
    for (int i = 0; i < READERS; i++)
        while (get(&s->left[i]) < date) sched_yield();
    for (int i = 0; i < HEADS; i++) atomic_store(&s->head[i], 0);
    set(&s->committed, 0);
    set(&s->date, date + 1);
    t->rows = 0;
}

static void writer(hunt *h, void *at) {
    table *s = at;
    tp_table t;
    tp_column columns[COLUMNS];
    uint8_t rows[FRAME * ROW];
    attach(s, &t, columns);
    t.rows = get(&s->committed);
    tp_table_rewind(&t, ROWS);
    for (uint64_t done; (done = (get(&s->date) - 1) * ROWS + t.rows) < h->upto;) {
        set(&h->updates, done);
        if (t.rows == ROWS) roll(s, &t);
        for (uint32_t frames = 1 + below(3); frames; frames--) {
            uint64_t count = 1 + below(FRAME);
            if (count > ROWS - t.rows) count = ROWS - t.rows;
            for (uint64_t i = 0; i < count; i++)
                for (uint32_t c = 0; c < COLUMNS; c++) {
                    uint64_t value = cell(get(&s->date), t.rows + i, c);
                    memcpy(rows + i * ROW + columns[c].offset, &value, sizes[c]);
                }
            tp_frame head = {.row = t.rows, .count = (uint32_t)count};
            if (count && tp_table_write(&t, &head, rows)) hunt_found(h, "rows were refused");
        }
        tp_table_commit(&t);
    }
    set(&h->updates, h->upto);
}

static void look_rows(hunt *h, tp_table *t, uint64_t date, uint64_t from, uint64_t upto) {
    for (uint64_t row = upto; row-- > from;)
        for (uint32_t c = COLUMNS; c--;) {
            uint64_t is = 0, expected = cell(date, row, c);
            memcpy(&is, t->columns[c].data + row * sizes[c], sizes[c]);
            if (memcmp(&is, &expected, sizes[c]))
                hunt_found(h, "not written: row %llu of %llu committed, column %u", (unsigned long long)row,
                           (unsigned long long)upto, c);
        }
}

static void look_chain(hunt *h, tp_table *t, uint64_t date, uint64_t committed) {
    int64_t out[LAST];
    uint32_t code = below(HEADS);
    uint64_t n = tp_last_rows(t, ROWS, code, committed, out, LAST), row = committed;
    for (uint64_t wanted = LAST; wanted && row;) {
        if (instrument(date, --row) != code) continue;
        wanted--;
        if (n == 0 || (uint64_t)out[--n] != row)
            hunt_found(h, "chain: row %llu of %llu committed is not among the last of its instrument",
                       (unsigned long long)row, (unsigned long long)committed);
    }
    if (n) hunt_found(h, "chain: %llu rows more than there are", (unsigned long long)n);
}

static void reader(hunt *h, void *at, int me) {
    table *s = at;
    tp_table t;
    tp_column columns[COLUMNS];
    hunt_reader *r = &h->readers[me];
    attach(s, &t, columns);
    uint64_t date = get(&s->left[me]) + 1, seen = get(&r->seen), upto = (h->upto + ROWS - 1) / ROWS;
    int64_t last = hunt_ns();
    for (;;) {
        uint64_t now;
        while (get(&s->date) < date) sched_yield();
        now = get(&s->committed);
        if (now < seen) hunt_found(h, "%llu rows after %llu", (unsigned long long)now, (unsigned long long)seen);
        look_rows(h, &t, date, seen, now);
        if (now) look_chain(h, &t, date, now);
        if (now == seen) sched_yield();
        count(&r->reads);
        atomic_store_explicit(&r->other, r->other + now - seen, memory_order_relaxed);
        set(&r->seen, seen = now);
        int64_t clock = hunt_ns();
        if (clock - last > atomic_load(&r->longest_ns)) atomic_store(&r->longest_ns, clock - last);
        last = clock;
        if (date == upto && get(&h->updates) >= h->upto && get(&s->committed) == seen) return;
        if (seen < ROWS) continue;
        set(&r->seen, seen = 0);
        set(&s->left[me], date++);
        if (date > upto) return;
    }
}

static void begin(void *at) { ((table *)at)->date = 1; }

int main(int argc, char **argv) {
    static const hunt_kind kind = {.name = "table", .size = sizeof(table), .write = writer, .read = reader,
                                   .other = "rows verified", .longest = "for a look",
                                   .none = "not written 0, chains broken 0"};
    return hunt_main(argc, argv, &kind, begin);
}
