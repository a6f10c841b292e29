/* Hunts a torn read: latch.h between a writer that replaces cells as fast as it can and readers that copy them.
 *
 * Every word of a cell follows from its version, its slot and the life of the writer that put it, so a cell of two
 * versions shows. What a reader gets is whole, never older than what it got before, and never older than what
 * was put before it asked. Writers are killed anywhere, most of them half-way through a cell: the readers read on. */
#include "hunt.h"
#include "latch.h"

enum { SLOTS = 4, CELL_MAX = 264, SLOT = 640 };
static const uint32_t cells[SLOTS] = {24, 64, 136, CELL_MAX};

typedef struct {
    _Alignas(128) uint8_t slots[SLOTS][SLOT];
    _Alignas(128) _Atomic uint64_t newest[SLOTS]; /* versions that are put */
} latches;

static inline uint64_t word_of(uint64_t version, uint32_t slot, uint64_t life, uint32_t k) {
    return (version * 0x9e3779b97f4a7c15ull + life) * 0xbf58476d1ce4e5b9ull + ((uint64_t)slot << 32 | k);
}

static void writer(hunt *h, void *at) {
    latches *l = at;
    uint64_t words[CELL_MAX / 8], life = atomic_load(&h->lives), done = get(&h->updates);
    while (done < h->upto) {
        uint32_t slot = below(SLOTS);
        for (uint32_t times = 1 + below(50); times && done < h->upto; times--) {
            uint64_t version = get((_Atomic uint64_t *)l->slots[slot]) + 1;
            words[0] = life;
            for (uint32_t k = 1; k < cells[slot] / 8; k++) words[k] = word_of(version, slot, life, k);
            tp_latch_put(l->slots[slot], cells[slot], words);
            set(&l->newest[slot], version);
            set(&h->updates, ++done);
        }
    }
}

static void look(hunt *h, latches *l, hunt_reader *r, uint32_t slot, uint64_t *seen) {
    uint64_t words[CELL_MAX / 8], newest = get(&l->newest[slot]);
    uint32_t quiet = atomic_load(&h->quiet), life = atomic_load(&h->lives);
    uint64_t version = tp_latch_get(l->slots[slot], cells[slot], words);
    if (version == TP_LATCH_BUSY) {
        if (quiet && life == atomic_load(&h->lives)) hunt_found(h, "hung: busy, and nobody writes");
        return;
    }
    if (version < *seen || version < newest)
        hunt_found(h, "stale: version %llu after %llu, newest %llu", (unsigned long long)version,
                   (unsigned long long)*seen, (unsigned long long)newest);
    if (version > *seen) count(&r->other);
    *seen = version;
    for (uint32_t k = 1; version && k < cells[slot] / 8; k++)
        if (words[k] != word_of(version, slot, words[0], k))
            hunt_found(h, "torn: word %u of version %llu", k, (unsigned long long)version);
    count(&r->reads);
}

static void reader(hunt *h, void *at, int me) {
    uint64_t seen[SLOTS] = {0};
    int64_t last = hunt_ns();
    hunt_reader *r = &h->readers[me];
    for (int over = 0; !over;) {
        over = get(&h->updates) >= h->upto;
        for (uint32_t i = 0; i < 64; i++) look(h, at, r, i % SLOTS, &seen[i % SLOTS]);
        int64_t now = hunt_ns();
        if (now - last > atomic_load(&r->longest_ns)) atomic_store(&r->longest_ns, now - last);
        last = now;
    }
}

int main(int argc, char **argv) {
    static const hunt_kind kind = {.name = "latch", .size = sizeof(latches), .write = writer, .read = reader,
                                   .calm = 1, .other = "of them new", .longest = "for 64 reads",
                                   .none = "torn 0, stale 0, hung 0"};
    return hunt_main(argc, argv, &kind, NULL);
}
