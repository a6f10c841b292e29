/* Two processes that answer each other through futex.h, each sleeping in every round. A sleep that ends by its timeout
 * is a lost wakeup. Usage: wake ROUNDS */
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
    for (volatile uint32_t i = *seed >> 22; i; i--) continue;
}

static void say(side *s, uint64_t number) {
    atomic_store_explicit(&s->count, number, memory_order_release);
    tp_wake(&s->word, &s->sleepers);
}

static void play(side *mine, side *theirs, int first, uint64_t rounds) {
    uint32_t seed = (uint32_t)first + 1;
    for (uint64_t number = 1; number <= rounds; number++) {
        pause_a_little(&seed);
        if (first) say(mine, number);
        while (tp_wait_above(&theirs->count, number - 1, &theirs->word, &theirs->sleepers, INT64_MAX, 0) < number)
            continue;
        if (!first) say(mine, number);
    }
}

int main(int argc, char **argv) {
    uint64_t rounds = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000;
    side *sides = mmap(NULL, 2 * sizeof(side), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (sides == MAP_FAILED) return 2;
    for (int i = 0; i < 2; i++) sides[i].word = UINT32_MAX - 5;
    if (rounds == 0) {
        for (int i = 0; i < 1000; i++) say(&sides[0], 1);
        printf("0 rounds, %ld system calls of 1000 rings\n", calls);
        return 0;
    }
    pid_t other = fork();
    play(&sides[other == 0], &sides[other != 0], other != 0, rounds);
    if (other == 0) _exit(0);
    int status = 0;
    waitpid(other, &status, 0);
    printf("%llu rounds, %ld system calls here\n", (unsigned long long)rounds, calls);
    return status != 0;
}
