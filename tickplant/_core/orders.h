/* The orders of a venue that rest, by their reference.
 *
 * Format. References go up by small steps, so orders that came together have references that lie together. They are
 * kept in pages of PAGE_ORDERS consecutive references each:
 *
 *   directory  CELLS indices of pages, by page number (reference / PAGE_ORDERS). Cells of consecutive pages lie side by
 *              side. Pages that share a cell are chained. Index 0: no page.
 *   pages      one growing array, whose first page is never used. An order is at reference % PAGE_ORDERS of its page,
 *              and there is none where side is 0. A page without orders leaves its chain for a list of free ones: memory
 *              follows the orders that rest, not those of the day.
 *
 * Against a hash table of the orders themselves: a new order mostly lies beside the one before, what came last is what
 * mostly goes, and there is nothing to probe. The directory takes memory (at most 4 * CELLS bytes) only where it was
 * written.
 *
 * Pitfalls.
 *  - References are chosen by whoever made the capture. The high bits of a page number are mixed with two secret numbers
 *    of this process (`orders_seed`), so that a capture can't be made whose pages all share a cell. One whose references
 *    are far apart costs a page for each order that rests.
 *  - `orders_enter` may move all orders: a pointer to one is good until then.
 *  - A hint of where a page is may be older than the page: it counts only where the page has the number that is sought.
 *    So a page that goes loses its number, or it would be found after another was begun under the same. */
#ifndef TP_ORDERS_H
#define TP_ORDERS_H
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Of functions that only prefetch: gcc takes a call of one for a call without effect, and leaves it out. */
#define ALWAYS_INLINE __attribute__((always_inline)) static inline

#ifndef CELL_BITS
#define CELL_BITS 24
#endif
enum { PAGE_ORDERS = 64, CELLS = 1 << CELL_BITS, FIRST_PAGES = 1 << 11, HUGE_PAGE = 1 << 21 };

#define SIDE_UNKNOWN '?' /* of an order that is known from its replacement only */
#define NO_PAGE UINT64_MAX /* the number of a page without orders; any other is below it */

struct order {
    uint32_t price;
    uint32_t shares;
    uint16_t locate;
    uint8_t side; /* 'B', 'S', SIDE_UNKNOWN; 0: there is no such order */
};
_Static_assert(sizeof(struct order) == 12, "an order is 12 bytes");

struct page {
    uint64_t number;
    uint32_t next; /* in the chain of a cell, or in the list of free pages */
    uint32_t live; /* orders in it */
    struct order orders[PAGE_ORDERS];
};

struct orders {
    uint32_t *directory;
    struct page *pages;
    uint32_t made, room; /* pages ever used, and allocated */
    uint32_t free;
    uint64_t count; /* orders */
    uint64_t salt, factor;
};

/* Bytes of so many pages: whole huge ones. */
static inline size_t pages_size(uint32_t count) {
    return ((size_t)count * sizeof(struct page) + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
}

/* Have pages, then twice as many. The kernel moves them, so that nothing is copied, and what was never written is zeros.
 * In huge pages where there are any, for lookups are all over it. 0, or -1 without memory. */
__attribute__((noinline)) static int orders_grow(struct orders *o) {
    uint32_t room = o->room ? 2 * o->room : FIRST_PAGES;
    void *pages = MAP_FAILED;
    if (!o->room)
        pages = mmap(NULL, pages_size(room), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    else if (room)
        pages = mremap(o->pages, pages_size(o->room), pages_size(room), MREMAP_MAYMOVE);
    if (pages == MAP_FAILED) return -1;
    if (o->room) madvise(pages, pages_size(room), MADV_HUGEPAGE);
    o->pages = pages;
    o->room = room;
    return 0;
}

/* 0, or -1 without memory. */
static inline int orders_open(struct orders *o, uint64_t salt, uint64_t factor) {
    *o = (struct orders){.salt = salt, .factor = factor | 1};
    o->directory = calloc(CELLS, sizeof *o->directory);
    if (!o->directory || orders_grow(o)) return -1;
    o->pages[0].number = NO_PAGE;
    o->made = 1;
    return 0;
}

static inline void orders_close(struct orders *o) {
    free(o->directory);
    if (o->room) munmap(o->pages, pages_size(o->room));
}

static inline uint32_t *orders_cell(const struct orders *o, uint64_t number) {
    unsigned __int128 product = (unsigned __int128)((number >> CELL_BITS) ^ o->salt) * o->factor;
    return &o->directory[(number ^ (uint64_t)product ^ (uint64_t)(product >> 64)) % CELLS];
}

/* The index of the page of this number, or 0. */
static inline uint32_t orders_page(const struct orders *o, uint64_t number) {
    uint32_t index = *orders_cell(o, number);
    while (index && o->pages[index].number != number) index = o->pages[index].next;
    return index;
}

/* The same, where `hint` is what `orders_ahead` told of it: the page itself tells whether that still holds. */
static inline uint32_t orders_hinted(const struct orders *o, uint64_t number, uint32_t hint) {
    return __builtin_expect(o->pages[hint].number == number, 1) ? hint : orders_page(o, number);
}

/* First step of fetching into the cache what `orders_find` will look at: where its page is. */
ALWAYS_INLINE uint32_t *orders_prefetch(const struct orders *o, uint64_t ref) {
    uint32_t *cell = orders_cell(o, ref / PAGE_ORDERS);
    __builtin_prefetch(cell);
    return cell;
}

/* Second step, some time after the first, whose result `cell` is: the page and the order. Returns the hint for
 * `orders_find`. */
ALWAYS_INLINE uint32_t orders_ahead(const struct orders *o, uint64_t ref, const uint32_t *cell) {
    uint32_t index = *cell;
    const char *page = (const char *)o->pages + index * sizeof(struct page);
    const char *order = page + offsetof(struct page, orders) + ref % PAGE_ORDERS * sizeof(struct order);
    __builtin_prefetch(page);
    __builtin_prefetch(order, 1);
    __builtin_prefetch(order + sizeof(struct order) - 1, 1);
    return index;
}

/* The order, or NULL. */
static inline struct order *orders_find(const struct orders *o, uint64_t ref, uint32_t hint) {
    uint32_t index = orders_hinted(o, ref / PAGE_ORDERS, hint);
    if (!index) return NULL;
    struct order *order = &o->pages[index].orders[ref % PAGE_ORDERS];
    return order->side ? order : NULL;
}

/* Begin the page of this number; its index, or 0 without memory. */
static inline uint32_t orders_begin(struct orders *o, uint64_t number) {
    uint32_t index = o->free;
    if (index)
        o->free = o->pages[index].next; /* its orders have gone: it is empty */
    else if (o->made < o->room || !orders_grow(o))
        index = o->made++;
    else
        return 0;
    uint32_t *cell = orders_cell(o, number);
    o->pages[index].number = number;
    o->pages[index].next = *cell;
    return *cell = index;
}

/* Where the order of this reference is, for the caller to write; if it was not there, its side is 0, and counts as
 * entered. NULL without memory. */
ALWAYS_INLINE struct order *orders_enter(struct orders *o, uint64_t ref, uint32_t hint) {
    uint32_t index = orders_hinted(o, ref / PAGE_ORDERS, hint);
    if (__builtin_expect(!index, 0) && !(index = orders_begin(o, ref / PAGE_ORDERS))) return NULL;
    struct page *page = &o->pages[index];
    struct order *order = &page->orders[ref % PAGE_ORDERS];
    page->live += !order->side;
    o->count += !order->side;
    return order;
}

/* Give a page without orders back. */
__attribute__((noinline)) static void orders_end(struct orders *o, uint32_t index) {
    uint32_t *link = orders_cell(o, o->pages[index].number);
    while (*link != index) link = &o->pages[*link].next;
    *link = o->pages[index].next;
    o->pages[index].number = NO_PAGE;
    o->pages[index].next = o->free;
    o->free = index;
}

/* Take out an order that is there. */
static inline void orders_remove(struct orders *o, uint64_t ref, struct order *order) {
    struct page *page = (struct page *)((char *)(order - ref % PAGE_ORDERS) - offsetof(struct page, orders));
    order->side = 0;
    o->count--;
    if (!--page->live) orders_end(o, (uint32_t)(page - o->pages));
}
#endif
