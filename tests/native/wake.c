/* Two processes: one publishes through futex.h, the other sleeps for each number. A sleep that ends by its timeout is a
 * lost wakeup. Usage: wake ROUNDS */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static long calls;

static long watched(long number, const void *word, int op, uint32_t value, const void *timeout, void *none, int zero) {
    calls++;
    long result = syscall(number, word, op, value, timeout, none, zero);
    if (result < 0 && errno == ETIMEDOUT) {
        fputs("a wakeup was lost\n", stderr);
        _exit(1);
    }
    return result;
}
#define syscall watched
#include "futex.h"

typedef struct {
    _Alignas(128) _Atomic uint64_t count;
    _Alignas(128) _Atomic uint32_t word;
    _Alignas(128) _Atomic uint32_t sleepers;
} side;

static void pause_a_little(uint32_t *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    for (volatile uint32_t i = *seed >> 26; i; i--) continue;
}

static void publish(side *s, uint64_t number) {
    atomic_store_explicit(&s->count, number, memory_order_release);
    tp_wake(&s->word, &s->sleepers);
}

/* The reader sleeps for each number and says when it has seen it. */
static void reader(side *s, _Atomic uint64_t *seen, uint64_t rounds) {
    for (uint64_t number = 1; number <= rounds; number++) {
        while (tp_wait_above(&s->count, number - 1, &s->word, &s->sleepers, INT64_MAX, 0) < number) continue;
        atomic_store_explicit(seen, number, memory_order_release);
    }
}

/* The writer publishes a moment after it was seen: just while the reader is about to fall asleep. */
static void writer(side *s, const _Atomic uint64_t *seen, pid_t other, uint64_t rounds) {
    uint32_t seed = 1;
    for (uint64_t number = 1; number <= rounds; number++) {
        publish(s, number);
        for (uint32_t i = 1; atomic_load_explicit(seen, memory_order_acquire) < number; i++)
            if (i % (1 << 20) == 0 && waitpid(other, NULL, WNOHANG)) exit(1);
        pause_a_little(&seed);
    }
}

int main(int argc, char **argv) {
    uint64_t rounds = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000;
    side *sides = mmap(NULL, 2 * sizeof(side), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (sides == MAP_FAILED) return 2;
    sides[0].word = UINT32_MAX - 5;
    if (rounds == 0) {
        for (uint64_t i = 1; i <= 1000; i++) publish(&sides[0], i);
        printf("0 rounds, %ld system calls of 1000 rings\n", calls);
        return 0;
    }
    pid_t other = fork();
    if (other == 0) {
        reader(&sides[0], &sides[1].count, rounds);
        _exit(0);
    }
    writer(&sides[0], &sides[1].count, other, rounds);
    int status = 0;
    waitpid(other, &status, 0);
    printf("%llu rounds, %ld system calls to wake\n", (unsigned long long)rounds, calls);
    return status != 0;
}
