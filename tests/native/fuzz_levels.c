/* Random operations on books of levels, under sanitizers, and what must hold after each.
 *
 *     fuzz_levels SEED ROUNDS      books of all kinds; then the same with the 1st, 2nd, 3rd, ... allocation failing
 *     fuzz_levels -n FILE...       each file as text of one number, in a buffer of exactly its size
 *
 * Prints how many rounds or files, and exits with 0, or prints what does not hold and aborts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static long allocations_left = -1; /* -1: no limit */

static void *test_realloc(void *p, size_t n) {
    if (allocations_left == 0) return NULL;
    if (allocations_left > 0) allocations_left--;
    return realloc(p, n);
}

#define realloc test_realloc
#include "levels.h"
#undef realloc

#define MUST(holds)                                                               \
    do {                                                                          \
        if (!(holds)) {                                                           \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #holds); \
            abort();                                                              \
        }                                                                         \
    } while (0)

static uint64_t state;

static uint32_t below(uint32_t n) {
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(state >> 33) % n;
}

static struct level any_level(uint32_t prices) {
    return (struct level){.price = (double)below(prices) / 8 - 2, .size = below(3) ? below(5) : 0, .orders = (int)below(3),
                          .half = (uint8_t)below(2), .price_decimals = (uint8_t)below(256),
                          .size_decimals = (uint8_t)below(30)};
}

/* Sorted, best last; no sizes of 0; not more than are kept. */
static void check(const struct levels *b) {
    for (int which = 0; which < 2; which++) {
        const struct half *h = &b->halves[which];
        MUST(h->count <= h->room);
        MUST(!b->most || h->count <= b->most);
        for (size_t i = 0; i < h->count; i++) {
            MUST(levels_sound(&h->levels[i]));
            MUST(h->levels[i].size > 0);
            MUST(h->levels[i].half == which);
            MUST(!i || level_is_better(which, h->levels[i].price, h->levels[i - 1].price));
            MUST(half_place(h, which, h->levels[i].price) == i);
            const struct level *l = &h->levels[i];
            char *text = malloc(2 * NUMBER_ROOM);
            MUST(level_digits(text, l, l->price_decimals, l->size_decimals) <= 33);
            MUST(number_write(text, l->price, l->price_decimals) <= 18);
            free(text);
        }
    }
}

static void check_rows(const struct rows *depth, const struct rows *quotes) {
    size_t written = (size_t)(depth->next - depth->bytes), quoted = (size_t)(quotes->next - quotes->bytes);
    MUST(written % sizeof(struct depth_row) == 0);
    MUST(quoted % sizeof(struct quote_row) == 0);
    for (size_t at = 0; at < written; at += sizeof(struct depth_row)) {
        const struct depth_row *row = (const void *)(depth->bytes + at);
        MUST(strchr("ACDR", row->action) && row->action);
        MUST(row->action == 'R' ? row->side == 0 : row->side == 'B' || row->side == 'S');
        MUST(row->level >= 0);
        MUST((row->action == 'D' || row->action == 'R') == (row->size == 0));
    }
}

/* One book's life; returns whether memory ran out. */
static int live(uint64_t seed) {
    state = seed;
    static const size_t mosts[] = {0, 1, 3, 40};
    static const uint32_t prices[] = {4, 64, 5000};
    struct levels b;
    struct rows depth = {0}, quotes = {0};
    struct level all[300];
    uint32_t spread = prices[below(3)], steps = 20 + below(600);
    int failed = 0;
    levels_open(&b, mosts[below(4)]);
    for (uint32_t i = 0; i < steps && !failed; i++) {
        struct level_stamp s = {.ts_event = i, .instrument = 7};
        uint32_t what = below(100);
        if (what < 2) failed = levels_reset(&b, &depth, &s) != 0;
        else if (what < 6) {
            size_t n = below(300);
            for (size_t k = 0; k < n; k++) all[k] = any_level(spread);
            int64_t left_out = levels_load(&b, &depth, &s, all, n);
            failed = left_out < 0;
            MUST(failed || (size_t)left_out <= n);
            if (!failed && !b.most) MUST(b.halves[0].count + b.halves[1].count + (size_t)left_out == n);
        } else {
            struct level l = any_level(spread);
            failed = levels_change(&b, &depth, &s, &l) != 0;
            for (uint32_t more = below(4); more && !failed; more--) {
                l = any_level(spread);
                failed = levels_change(&b, &depth, &s, &l) != 0;
            }
            failed = levels_trim(&b, &depth, &s) != 0 || failed;
        }
        if (failed && b.most) break; /* what was not trimmed is more than is kept */
        check(&b); /* without memory, too: the book may lack what came, but is one */
        if (!failed) failed = levels_quote(&b, &quotes, &s) < 0;
        if (!failed) MUST(levels_quote(&b, &quotes, &s) == 0);
    }
    check_rows(&depth, &quotes);
    levels_close(&b);
    free(depth.bytes);
    free(quotes.bytes);
    return failed;
}

static void read_number(const char *name) {
    FILE *f = fopen(name, "rb");
    MUST(f);
    char text[4096];
    size_t n = fread(text, 1, sizeof text, f);
    fclose(f);
    char *exact = malloc(n ? n : 1);
    MUST(exact);
    memcpy(exact, text, n);
    for (size_t from = 0; from <= n; from++) {
        struct decimal d = decimal_read(exact + from, exact + n);
        MUST(d.end >= exact + from && d.end <= exact + n);
        MUST((d.is == DECIMAL_NONE) == (d.end == exact + from));
    }
    free(exact);
}

int main(int argc, char **argv) {
    if (argc > 2 && !strcmp(argv[1], "-n")) {
        for (int i = 2; i < argc; i++) read_number(argv[i]);
        printf("%d files\n", argc - 2);
        return 0;
    }
    MUST(argc == 3);
    uint64_t seed = strtoull(argv[1], NULL, 10), rounds = strtoull(argv[2], NULL, 10);
    for (uint64_t i = 0; i < rounds; i++) {
        allocations_left = -1;
        MUST(!live(seed + i));
        for (long n = 0; n < 40; n++) {
            allocations_left = n;
            if (!live(seed + i)) break;
        }
    }
    printf("%llu rounds\n", (unsigned long long)rounds);
    return 0;
}
