/* The core's headers under the memory model. Usage: model_core latch|table|wakeup */
#include "model.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#define syscall model_futex
#include "futex.h"
#include "table.h"
#undef syscall

enum { CELL = 16, PUTS = 3 };
static struct {
    _Alignas(64) uint8_t slot[64];
    _Alignas(64) _Atomic uint64_t newest;
} *latch;

static void put_all(void *none) {
    (void)none;
    for (uint64_t version = 1; version <= PUTS; version++) {
        uint64_t words[CELL / 8] = {version, version};
        tp_latch_put(latch->slot, CELL, words);
        atomic_store_explicit(&latch->newest, version, memory_order_release);
    }
}

static void get_twice(void *none) {
    uint64_t words[CELL / 8], seen = 0;
    (void)none;
    for (int i = 0; i < 2; i++) {
        uint64_t newest = atomic_load_explicit(&latch->newest, memory_order_acquire);
        uint64_t version = tp_latch_get(latch->slot, CELL, words);
        model_must(version != TP_LATCH_BUSY && version >= newest && version >= seen, "stale: an older version");
        model_must(!version || (words[0] == version && words[1] == version), "torn: a cell of two versions");
        seen = version;
    }
}

/* A reader that writes nothing need not be interrupted: it may see old messages of a writer that is long done. */
static void begin_latch(void) {
    latch = model_shared(sizeof *latch);
    model_thread(put_all, NULL);
    model_thread(get_twice, NULL);
}

enum { ROWS = 3, ROW = 40, COLUMNS = 3 };
static struct {
    _Alignas(64) _Atomic uint64_t committed;
    _Alignas(64) _Atomic uint32_t head[2];
    _Alignas(64) uint32_t prev[ROWS];
    _Alignas(64) uint64_t times[ROWS];
    _Alignas(64) uint32_t codes[ROWS];
    _Alignas(64) uint64_t values[ROWS];
} *rows;
static tp_column columns[COLUMNS];
static tp_table table;

static void append_all(void *none) {
    uint8_t packed[ROWS * ROW] = {0};
    (void)none;
    for (uint64_t i = 0; i < ROWS; i++) {
        uint64_t value = i + 1;
        uint32_t code = 1;
        memcpy(packed + i * ROW, &value, 8);
        memcpy(packed + i * ROW + TP_AT_INSTRUMENT, &code, 4);
        memcpy(packed + i * ROW + 32, &value, 8);
    }
    for (uint64_t i = 0; i < ROWS; i += 1 + i) { /* row 0; rows 1 and 2 */
        tp_frame h = {.row = i, .count = (uint32_t)(1 + i)};
        model_must(tp_table_write(&table, &h, packed + i * ROW) == 0, "rows are refused");
        tp_table_commit(&table);
    }
}

static void look_twice(void *none) {
    int64_t out[ROWS];
    (void)none;
    for (int i = 0; i < 2; i++) {
        uint64_t n = atomic_load_explicit(&rows->committed, memory_order_acquire);
        for (uint64_t k = 0; k < n; k++)
            model_must(rows->times[k] == k + 1 && rows->codes[k] == 1 && rows->values[k] == k + 1, "not written");
        uint64_t last = tp_last_rows(&table, ROWS, 1, n, out, ROWS);
        model_must(last == n, "chain: not every committed row is in it");
        for (uint64_t k = 0; k < n; k++) model_must(out[k] == (int64_t)k, "chain: rows out of order");
    }
}

static void begin_table(void) {
    rows = model_shared(sizeof *rows);
    columns[0] = (tp_column){(uint8_t *)rows->times, 0, 8};
    columns[1] = (tp_column){(uint8_t *)rows->codes, TP_AT_INSTRUMENT, 4};
    columns[2] = (tp_column){(uint8_t *)rows->values, 32, 8};
    table = (tp_table){.row_size = ROW, .n_columns = COLUMNS, .columns = columns, .room = ROWS, .n_heads = 2,
                       .committed = &rows->committed, .prev = rows->prev, .head = rows->head};
    model_thread(append_all, NULL);
    model_thread(look_twice, NULL);
}

static struct {
    _Alignas(64) _Atomic uint64_t count;
    _Alignas(64) _Atomic uint32_t word;
} *bell;
static uint64_t rings;

static void ring_all(void *none) {
    (void)none;
    for (uint64_t number = 1; number <= rings; number++) {
        atomic_store_explicit(&bell->count, number, memory_order_release);
        tp_wake(&bell->word);
    }
}

static void wait_for_each(void *none) {
    (void)none;
    for (uint64_t seen = 0; seen < rings;) {
        uint64_t now = tp_wait_above(&bell->count, seen, &bell->word, INT64_MAX, 0);
        model_must(now >= seen, "a number goes back");
        seen = now;
    }
}

static void begin_bell(uint64_t n, int readers) {
    rings = n;
    bell = model_shared(sizeof *bell);
    model_thread(ring_all, NULL);
    while (readers--) model_thread(wait_for_each, NULL);
}

static void begin_bell_1_1(void) { begin_bell(1, 1); }
static void begin_bell_2_1(void) { begin_bell(2, 1); }
static void begin_bell_2_2(void) { begin_bell(2, 2); }

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*begin)(void);
        int preemptions;
    } all[] = {{"latch", begin_latch, 0},        {"table", begin_table, 0},        {"wakeup", begin_bell_1_1, 100},
               {"wakeup", begin_bell_2_1, 3},    {"wakeup", begin_bell_2_2, 2}};
    long executions = 0;
    for (size_t i = 0; argc == 2 && i < sizeof all / sizeof *all; i++)
        if (!strcmp(argv[1], all[i].name)) executions += model_walk(all[i].begin, all[i].preemptions);
    printf("%ld executions\n", executions);
    return executions ? 0 : 2;
}
