/* Decodes files as the ITCH decoder's worst enemy would have them, under sanitizers, and checks what must hold always.
 *
 *     fuzz_itch FILE...      each file: whole, then in pieces, each piece in a buffer of exactly its size
 *     fuzz_itch -m FILE...   the same with the 1st, 2nd, 3rd, ... allocation failing, until none does
 *
 * Exits with 0, or prints what does not hold and aborts. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static long allocations_left = -1; /* -1: no limit */

static int refused(void) {
    if (allocations_left < 0) return 0;
    if (allocations_left == 0) return 1;
    allocations_left--;
    return 0;
}

static void *test_malloc(size_t n) { return refused() ? NULL : malloc(n); }
static void *test_calloc(size_t n, size_t size) { return refused() ? NULL : calloc(n, size); }
static void *test_realloc(void *p, size_t n) { return refused() ? NULL : realloc(p, n); }

#define malloc test_malloc
#define calloc test_calloc
#define realloc test_realloc
#define mmap(...) (refused() ? MAP_FAILED : mmap(__VA_ARGS__))
#define mremap(...) (refused() ? MAP_FAILED : mremap(__VA_ARGS__))
#include "itch.h"
#undef malloc
#undef calloc
#undef realloc
#undef mmap
#undef mremap

#define MUST(holds)                                                               \
    do {                                                                          \
        if (!(holds)) {                                                           \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #holds); \
            abort();                                                              \
        }                                                                         \
    } while (0)

static void check_side(const struct side *s) {
    for (uint32_t i = 0; i < s->count; i++) {
        MUST(s->shares[i] > 0);
        MUST(i == 0 || side_keys(s)[i - 1] < side_keys(s)[i]);
    }
}

/* Every order is found under its reference, and the levels are what the orders whose side is known add up to. */
static void check_books(struct itch *d) {
    uint64_t orders = 0, resting = 0, levels = 0;
    uint32_t live = 0, pages = 0, unused = 0;
    for (uint64_t i = 0; i < (uint64_t)d->orders.made * PAGE_ORDERS; i++) {
        const struct page *page = &d->orders.pages[i / PAGE_ORDERS];
        const struct order *o = &page->orders[i % PAGE_ORDERS];
        if (i < PAGE_ORDERS) continue; /* the page that is not used */
        if (i % PAGE_ORDERS == 0) live = 0;
        live += o->side != 0;
        if (i % PAGE_ORDERS == PAGE_ORDERS - 1) {
            MUST(live == page->live);
            MUST(!live || orders_page(&d->orders, page->number) == i / PAGE_ORDERS);
            pages += !live;
        }
        if (!o->side) continue;
        orders++;
        MUST(o->shares > 0);
        MUST(o->side == 'B' || o->side == 'S' || o->side == SIDE_UNKNOWN);
        MUST(orders_find(&d->orders, page->number * PAGE_ORDERS + i % PAGE_ORDERS, 0) == o);
        if (o->side == SIDE_UNKNOWN) continue;
        resting += o->shares;
        const struct side *s = &d->books[o->locate].sides[o->side == 'B' ? BID : ASK];
        uint32_t at = side_seek(s, level_key(o->side, o->price));
        MUST(at > 0 && side_keys(s)[at - 1] == level_key(o->side, o->price));
        MUST(s->shares[at - 1] >= o->shares);
    }
    MUST(orders == d->orders.count);
    for (uint32_t i = d->orders.free; i; i = d->orders.pages[i].next) unused++;
    MUST(unused == pages);
    for (uint32_t l = 0; l < LOCATES; l++)
        for (int which = BID; which <= ASK; which++) {
            const struct side *s = &d->books[l].sides[which];
            check_side(s);
            for (uint32_t i = 0; i < s->count; i++) levels += s->shares[i];
        }
    MUST(levels == resting);
}

static void check_counts(const struct itch *d) {
    uint64_t sum = d->malformed;
    for (int t = 0; t < 256; t++) sum += d->counts[t];
    MUST(sum == (uint64_t)d->seq);
}

/* Decode in pieces of 1 to `most` bytes, each copied to where nothing may be read beside it. Returns whether memory
 * sufficed. */
static int decode(struct itch *d, const uint8_t *data, size_t n, size_t most, int books) {
    size_t at = 0, end = 0;
    uint32_t random = 12345;
    if (itch_open(d, 1000, books, 0x9e3779b97f4a7c15, 0xbf58476d1ce4e5b9)) return 0;
    do {
        random = random * 1664525 + 1013904223;
        end = n - end <= most ? n : end + 1 + (random >> 8) % most;
        uint8_t *piece = malloc(end - at + !(end - at));
        memcpy(piece, data + at, end - at);
        size_t used = itch_decode(d, piece, end - at, 5, end == n);
        free(piece);
        MUST(used <= end - at);
        at += used;
        MUST(d->offset <= at);
        if (d->rows.failed) return 0;
    } while (end < n);
    MUST(at == n);
    return 1;
}

static void same_rows(struct itch *a, struct itch *b) {
    for (int t = 0; t < T_COUNT; t++) {
        size_t na, nb;
        if (t == T_QUOTE && !(a->books && b->books)) continue;
        uint8_t *ra = rows_steal(&a->rows.tables[t], &na), *rb = rows_steal(&b->rows.tables[t], &nb);
        MUST(na == nb && na % ROW_SIZES[t] == 0);
        MUST(na == 0 || memcmp(ra, rb, na) == 0);
        free(ra);
        free(rb);
    }
}

static void fuzz(const uint8_t *data, size_t n) {
    struct itch whole, pieces, bookless;
    static const size_t MOST[] = {1, 60, 5000};
    for (size_t i = 0; i < sizeof MOST / sizeof *MOST; i++) {
        MUST(decode(&whole, data, n, n + 1, 1));
        MUST(decode(&pieces, data, n, MOST[i], 1));
        check_books(&whole);
        check_counts(&whole);
        same_rows(&whole, &pieces);
        itch_close(&whole);
        itch_close(&pieces);
    }
    MUST(decode(&whole, data, n, n + 1, 1));
    MUST(decode(&bookless, data, n, n + 1, 0));
    check_counts(&bookless);
    MUST(bookless.orders.count == whole.orders.count && bookless.rows.tables[T_QUOTE].bytes == NULL);
    same_rows(&whole, &bookless);
    itch_close(&whole);
    itch_close(&bookless);
}

static void fuzz_memory(const uint8_t *data, size_t n) {
    struct itch d;
    for (long limit = 0, enough = 0; !enough; limit++) {
        allocations_left = limit;
        enough = decode(&d, data, n, n + 1, 1);
        allocations_left = -1;
        if (d.prints) check_counts(&d);
        itch_close(&d);
    }
}

/* Orders against an array of them: references dense, far apart, and on both sides of where high bits begin; more pages
 * than there is room for at first; hints from any time before. */
static void fuzz_orders(void) {
    enum { MANY = 6 * FIRST_PAGES };
    static const uint64_t STEPS[] = {1, 7, PAGE_ORDERS, (uint64_t)CELLS * PAGE_ORDERS, 0x9e3779b97f4a7c15};
    static uint8_t there[MANY];
    static uint32_t hints[MANY];
    uint32_t random = 1;
    for (size_t s = 0; s < sizeof STEPS / sizeof *STEPS; s++) {
        struct orders o;
        MUST(!orders_open(&o, 0x9e3779b97f4a7c15, 0xbf58476d1ce4e5b9));
        memset(there, 0, sizeof there);
        memset(hints, 0, sizeof hints);
        for (int turn = 0; turn < 20 * MANY; turn++) {
            random = random * 1664525 + 1013904223;
            uint32_t i = (random >> 8) % MANY;
            uint64_t ref = i * STEPS[s];
            if (random >> 31) hints[i] = orders_ahead(&o, ref, orders_prefetch(&o, ref));
            struct order *order = orders_find(&o, ref, hints[i]);
            MUST(!order == !there[i]);
            MUST(!order || order->price == i);
            if (order) {
                orders_remove(&o, ref, order);
            } else {
                order = orders_enter(&o, ref, hints[i]);
                MUST(order && !order->side);
                *order = (struct order){.price = i, .shares = 1, .side = 'B'};
            }
            there[i] = !there[i];
        }
        orders_close(&o);
    }
}

int main(int argc, char **argv) {
    fuzz_orders();
    int memory = argc > 1 && !strcmp(argv[1], "-m");
    for (int i = 1 + memory; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        MUST(file);
        MUST(!fseek(file, 0, SEEK_END));
        size_t n = (size_t)ftell(file);
        rewind(file);
        uint8_t *data = malloc(n + 1);
        MUST(fread(data, 1, n, file) == n);
        fclose(file);
        if (memory)
            fuzz_memory(data, n);
        else
            fuzz(data, n);
        free(data);
    }
    printf("%d files\n", argc - 1 - memory);
    return 0;
}
