/* Drives the headers of the core for the sanitizers. Usage: fuzz_core WHAT SEED ROUNDS */
#include "futex.h"
#include "intake.h"
#include <pthread.h>
#include <stdio.h>

enum { ROW = 45, MAX_ROWS = 300, HEADS = 5, CELL = 64, SLOT = 192, STAGE = 4096, SCHEMA = 7, FEEDS = 3 };

static uint64_t state;

static uint32_t below(uint32_t n) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return n ? (uint32_t)(state >> 11) % n : 0;
}

static void must(int holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "does not hold: %s\n", what);
    abort();
}

/* Bytes on the heap of exactly this size, so that one beyond is seen. */
static uint8_t *bytes(size_t n) {
    uint8_t *p = malloc(n ? n : 1);
    for (size_t i = 0; i < n; i++) p[i] = (uint8_t)below(256);
    return p;
}

/* A plant of one table with two feeds, all of its memory on the heap. */
typedef struct {
    tp_intake in;
    tp_table table;
    tp_column columns[9];
    tp_feed *feeds[FEEDS];
    _Atomic uint64_t committed;
} plant;

static plant *plant_new(void) {
    static const uint32_t sizes[9] = {8, 8, 8, 4, 2, 2, 1, 4, 8};
    plant *p = calloc(1, sizeof(plant));
    tp_table *t = &p->table;
    *t = (tp_table){.number = 3, .row_size = ROW, .schema = SCHEMA, .n_columns = 9, .columns = p->columns,
                    .room = MAX_ROWS, .committed = &p->committed, .n_heads = HEADS, .cell_size = CELL,
                    .slot_size = SLOT, .n_slots = HEADS};
    for (uint32_t i = 0, at = 0; i < 9; at += sizes[i++])
        p->columns[i] = (tp_column){calloc(MAX_ROWS, sizes[i]), at, sizes[i]};
    t->codes = (const uint32_t *)p->columns[3].data;
    t->prev = calloc(MAX_ROWS, 4);
    t->head = calloc(HEADS, 4);
    t->latest = calloc(HEADS, SLOT);
    p->in = (tp_intake){.feeds = p->feeds, .n_feeds = FEEDS, .definitions = 9, .stage = malloc(STAGE), .room = STAGE,
                          .frame_bytes = STAGE / 2, .frame_rows = 1 << 20};
    p->in.tables[3] = t;
    for (int f = 0; f < 2; f++) {
        p->feeds[f] = calloc(1, sizeof(tp_feed));
        p->feeds[f]->codes = calloc(4, 4);
        p->feeds[f]->n_codes = 4;
        p->feeds[f]->codes[3] = TP_UNDEFINED;
        p->feeds[f]->session = 1;
    }
    return p;
}

static void plant_free(plant *p) {
    for (int i = 0; i < 9; i++) free(p->columns[i].data);
    for (int f = 0; f < FEEDS; f++) {
        if (p->feeds[f]) free(p->feeds[f]->codes);
        free(p->feeds[f]);
    }
    free(p->table.prev), free((void *)p->table.head), free(p->table.latest), free(p->in.stage), free(p);
}

static void plant_sound(plant *p) {
    must(p->in.used <= STAGE, "the stage is not overrun");
    must(p->table.rows <= MAX_ROWS, "rows have room");
    for (uint32_t code = 0; code < HEADS; code++) {
        int64_t out[MAX_ROWS];
        uint64_t n = tp_last_rows(&p->table, MAX_ROWS, code, p->committed, out, MAX_ROWS);
        for (uint64_t i = 0; i < n; i++) must(out[i] < (int64_t)p->committed && (!i || out[i] > out[i - 1]), "order");
    }
}

/* A frame, mostly one that would be taken, in exactly *n bytes; at odds sizes lie, fields are odd, bytes are flipped. */
static uint8_t *message(const plant *p, size_t *n) {
    uint32_t count = 1 + below(8);
    tp_frame h = {.magic = TP_MAGIC, .version = TP_VERSION, .kind = TP_ROWS, .table = 3, .feed = (uint16_t)below(2),
                  .session = 1, .count = count, .schema = SCHEMA, .size = count * ROW, .row = p->table.taken};
    h.seq = p->feeds[h.feed]->next_seq;
    h.row = below(3) ? p->table.rows : below(MAX_ROWS + 9);
    *n = TP_HEADER + h.size;
    uint8_t *m = bytes(*n);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t code = below(20) ? below(3) : (uint32_t)below(5) * 0x3fffffffu;
        memcpy(m + TP_HEADER + i * ROW + TP_AT_INSTRUMENT, &code, 4);
    }
    switch (below(24)) {
    case 0: h.table = (uint16_t)below(65536); break;
    case 1: h.feed = (uint16_t)below(65536); break;
    case 2: h.kind = (uint8_t)below(256); break;
    case 3: h.count = below(2) ? 0 : 0xffffffffu / ROW + below(9); break;
    case 4: h.session = below(4); break;
    case 5: h.seq += below(8) - 3u; break;
    case 6: h.row = UINT64_MAX - below(16); break;
    case 7: h.schema = below(9); break;
    }
    if (h.table == 3 && below(40) == 0) h.count++;
    tp_frame_seal(m, &h);
    if (below(20) == 0) m[below((uint32_t)*n)] ^= (uint8_t)(1 << below(8));
    if (below(20) == 0) { /* the size lies, up to where 32 bits wrap */
        uint32_t size = below(2) ? 0xffffffffu - below(200) : below((uint32_t)*n + 100);
        memcpy(m + 4, &size, 4);
    }
    return m;
}

static void frames(int rounds) {
    for (int i = 0; i < rounds; i++) {
        size_t n = below(400);
        uint8_t *p = bytes(n);
        if (n >= 4 && below(2)) memcpy(p, "TP\3\0", 4);
        if (n >= 18 && below(2)) p[17] = TP_VERSION;
        if (n >= TP_HEADER && below(2)) {
            uint32_t size = below((uint32_t)n - TP_HEADER + 1);
            memcpy(p + 4, &size, 4);
            uint32_t crc = tp_frame_crc(p, size);
            memcpy(p + 8, &crc, 4);
        }
        tp_frame h;
        uint32_t crc = below(3);
        uint64_t count = 0;
        int why = 0;
        size_t walked = tp_frame_scan(p, n, &crc, &count, &why), at = 0;
        must(walked <= n && (why == TP_GOOD) == (walked == n), "a scan ends at the end or says why");
        tp_frame_read(p, n, &h);
        while (tp_frame_next(p, n, &at, &h)) must(at <= n, "the walk stays within");
        free(p);
    }
}

/* A frame of any header and payload, chained to the one before, at the end of a journal of *used bytes. */
static void append(uint8_t *all, size_t *used, uint32_t *crc) {
    tp_frame h;
    for (size_t i = 0; i < sizeof h; i++) ((uint8_t *)&h)[i] = (uint8_t)below(256);
    h.magic = TP_MAGIC, h.version = TP_VERSION, h.kind = TP_ROWS, h.size = below(50), h.prev_crc = *crc;
    for (uint32_t i = 0; i < h.size; i++) all[*used + TP_HEADER + i] = (uint8_t)below(256);
    tp_frame_seal(all + *used, &h);
    *used += TP_HEADER + h.size;
    *crc = h.crc;
}

/* Whichever bit is flipped, wherever a journal is cut, whichever frame is missing: it shows, and there. */
static void flips(int rounds) {
    enum { FRAMES = 3 };
    for (int i = 0; i < rounds / 200; i++) {
        uint8_t all[FRAMES * 150];
        size_t used = 0, ends[FRAMES];
        uint32_t first = below(99), crc = first;
        for (int k = 0; k < FRAMES; k++) append(all, &used, &crc), ends[k] = used;
        tp_frame h;
        uint64_t count;
        int why;
        for (size_t cut = 0; cut <= used; cut++) {
            size_t whole = 0;
            for (int k = 0; k < FRAMES; k++) whole = ends[k] <= cut ? ends[k] : whole;
            uint8_t *exact = bytes(cut);
            memcpy(exact, all, cut);
            crc = first, count = 0;
            must(tp_frame_scan(exact, cut, &crc, &count, &why) == whole, "a torn tail is left out");
            must((why == TP_GOOD) == (whole == cut), "a torn tail is told");
            free(exact);
        }
        for (size_t bit = 0; bit < 8 * ends[0]; bit++) {
            all[bit / 8] ^= (uint8_t)(1 << bit % 8);
            must(tp_frame_read(all, ends[0], &h) != TP_GOOD, "a flipped bit is seen");
            all[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        memmove(all + ends[0], all + ends[1], ends[2] - ends[1]);
        crc = first, count = 0;
        must(tp_frame_scan(all, ends[0] + ends[2] - ends[1], &crc, &count, &why) == ends[0], "a missing frame is seen");
    }
}

static void messages(int rounds) {
    plant *p = plant_new();
    for (int i = 0; i < rounds; i++) {
        size_t n, before = p->in.used;
        uint8_t *m = message(p, &n);
        enum tp_taken verdict = tp_take(&p->in, m, n, i, (int)below(2));
        must((verdict == TP_TAKEN) == (p->in.used > before), "what is taken is staged");
        if (verdict == TP_STAGE_FULL || below(10) == 0) {
            tp_apply(&p->in, p->in.stage, p->in.used, 0);
            p->in.used = 0;
        }
        free(m);
        plant_sound(p);
        if (p->table.rows + 50 > MAX_ROWS) {
            plant_free(p);
            p = plant_new();
        }
    }
    plant_free(p);
}

static void journal(int rounds) {
    for (int i = 0; i < rounds / 8; i++) {
        plant *p = plant_new();
        size_t used = 0, room = 1 << 13;
        uint8_t *all = malloc(room);
        for (int k = 0; k < 8; k++) {
            size_t n;
            uint8_t *m = message(p, &n);
            memcpy(all + used, m, n);
            used += n;
            free(m);
        }
        used -= below(2) ? below((uint32_t)used) : 0;
        uint8_t *exact = malloc(used ? used : 1);
        memcpy(exact, all, used);
        p->table.room = below(MAX_ROWS + 1);
        tp_restore(&p->in, exact, used);
        tp_apply(&p->in, exact, used, used & 1);
        plant_sound(p);
        free(all), free(exact), plant_free(p);
    }
}

static void chains(int rounds) {
    for (int i = 0; i < rounds; i++) {
        plant *p = plant_new();
        for (uint32_t k = 0; k < MAX_ROWS; k++) p->table.prev[k] = below(4) ? below(k + 2) : below(UINT32_MAX);
        for (uint32_t k = 0; k < HEADS; k++) p->table.head[k] = below(4) ? below(MAX_ROWS + 2) : below(UINT32_MAX);
        p->table.rows = p->committed = below(MAX_ROWS + 1);
        plant_sound(p);
        tp_table_rewind(&p->table, MAX_ROWS);
        for (uint32_t k = 0; k < HEADS; k++) must(p->table.head[k] <= p->table.rows, "heads are rewound");
        plant_free(p);
    }
}

static void latch(int rounds) {
    for (uint32_t cell = 8; cell <= 256; cell += 8) {
        uint8_t *slot = calloc(1, 8 + 2 * cell);
        uint64_t *words = malloc(cell), *back = malloc(cell);
        must(tp_latch_get(slot, cell, back) == 0, "a slot never written has no version");
        for (int i = 1; i <= rounds / 32; i++) {
            for (uint32_t k = 0; k < cell / 8; k++) words[k] = (uint64_t)i * k;
            tp_latch_put(slot, cell, words);
            must(tp_latch_get(slot, cell, back) == (uint64_t)i && !memcmp(words, back, cell), "what was put");
        }
        free(slot), free(words), free(back);
    }
}

static void sums(int rounds) {
    uint64_t names[4] = {0, 11, 22, 33}, counts[FEEDS], totals[FEEDS];
    for (int i = 0; i < rounds / 4; i++) {
        uint32_t size = TP_KEY_SIZE + below(60), count = below(9);
        uint8_t *rows = bytes((size_t)size * count);
        int64_t *numbers = (int64_t *)bytes((size_t)count * 8);
        memset(counts, 0, sizeof counts), memset(totals, 0, sizeof totals);
        tp_row_sums(rows, count, size, names, below(5), counts, totals, FEEDS, below(2) ? numbers : NULL, below(99));
        tp_row_sum(rows, count, size, names, below(5));
        free(rows), free(numbers);
    }
}

typedef struct {
    plant *p;
    int rounds;
    _Atomic uint32_t word;
    _Atomic int done;
} shared;

static void *write_all(void *arg) {
    shared *s = arg;
    uint64_t words[CELL / 8];
    uint8_t rows[3 * ROW];
    for (int i = 0; i < s->rounds; i++) {
        tp_table *t = &s->p->table;
        for (int k = 0; k < CELL / 8; k++) words[k] = (uint64_t)i;
        tp_latch_put(t->latest, CELL, words);
        if (t->rows + 3 <= MAX_ROWS && i % 64 == 0) {
            memset(rows, (int)t->rows, sizeof rows);
            for (int k = 0; k < 3; k++) memset(rows + k * ROW + TP_AT_INSTRUMENT, 0, 4);
            tp_frame h = {.row = t->rows, .count = 3};
            tp_table_write(t, &h, rows);
            tp_table_commit(t);
            tp_wake(&s->word);
        }
    }
    s->done = 1;
    return NULL;
}

static void read_all(shared *s) {
    tp_table *t = &s->p->table;
    uint64_t words[CELL / 8], seen = 0, n = 0;
    int64_t out[MAX_ROWS];
    uint8_t *rows = malloc(MAX_ROWS * ROW);
    while (!s->done) {
        uint64_t version = tp_latch_get(t->latest, CELL, words);
        if (version && version != TP_LATCH_BUSY) {
            must(version >= seen, "versions go on");
            seen = version;
            for (int k = 0; k < CELL / 8; k++) must(words[k] == version - 1, "a cell is whole");
        }
        if (n < MAX_ROWS) n = tp_wait_above(t->committed, n, &s->word, 1000000, 0);
        tp_gather(t, rows, n, 0);
        uint64_t last = tp_last_rows(t, MAX_ROWS, 0, n, out, MAX_ROWS);
        must(last == n, "every row is in the chain of its instrument");
    }
    free(rows);
}

static void threads(int rounds) {
    shared s = {.p = plant_new(), .rounds = rounds};
    pthread_t writer;
    if (pthread_create(&writer, NULL, write_all, &s)) abort();
    read_all(&s);
    pthread_join(writer, NULL);
    must(s.p->committed == MAX_ROWS, "all rows were appended");
    plant_free(s.p);
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*run)(int);
    } all[] = {{"frames", frames}, {"messages", messages}, {"journal", journal}, {"chains", chains},
               {"latch", latch},   {"sums", sums},         {"flips", flips},     {"threads", threads}};
    if (argc != 4) return 2;
    state = strtoull(argv[2], NULL, 10) * 0x9e3779b97f4a7c15ull + 1;
    for (int table = 0; table < 2; table++) {
        tp_crc32c_start(table);
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            if (!strcmp(all[i].name, argv[1])) all[i].run(atoi(argv[3]));
    }
    printf("%s done\n", argv[1]);
    return 0;
}
