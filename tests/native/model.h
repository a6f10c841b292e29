/* A model of C11's memory, small enough to be walked whole: what threads may see on any machine, not on this one.
 *
 * A program is compiled with -fsanitize=thread and linked with model.c in the place of the sanitizer's library: so the
 * core's headers run as they are, and each access to memory of model_shared comes by here. Threads are coroutines, an
 * execution is a row of choices (who goes on, which of the values that it may see a load sees), and model_walk
 * tries all rows of choices, with at most `preemptions` of a thread that could have gone on.
 *
 * The memory is the view machine of the literature: a store adds a message to its location, a load takes any message
 * than which its thread has not seen a later one, release and acquire carry views along, fences bind them. Plain
 * accesses must see the latest message, or they are a data race. A futex is the kernel's: a lock with full fences.
 *
 * Left out: loads that see stores which come later in time (load buffering), stores that slip in before those of other
 * threads (words with one writer have none), and the order among seq_cst accesses that are not fences. */
#ifndef MODEL_H
#define MODEL_H
#include <stddef.h>

void *model_shared(size_t size);                     /* zeroed; at the same place in each execution */
void model_thread(void (*run)(void *), void *arg);   /* begins when `begin` of model_walk has returned */
void model_must(int holds, const char *what);        /* else the walk ends: a defect, exit status 1 */
long model_futex(long number, const void *word, int op, unsigned value, const void *timeout, void *none, int zero);

/* Walk the program that `begin` sets up; returns how many executions there are. */
long model_walk(void (*begin)(void), int preemptions);
#endif
