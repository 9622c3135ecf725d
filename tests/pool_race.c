/* The thread pool under a race detector, without Python: callers that share it, jobs of all sizes, every task run once.
 * Built with -fsanitize=thread and run by tests/long.sh. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/threads.h"

enum { CALLERS = 4, ROUNDS = 2000, TASKS = 61 };

typedef struct {
    int done[TASKS]; /* plain memory: the pool alone must order the workers' writes before the caller's reads */
    int offset;
} job_t;

static void task(void *job, ptrdiff_t i, int worker)
{
    job_t *j = job;
    volatile char *scratch = ck_scratch(1000 + 64 * (size_t)i);
    scratch[i] = (char)worker;
    j->done[i] += (int)i + j->offset;
    ck_scratch_done();
}

static int never(void) { return 0; }

static void *caller(void *arg)
{
    long seed = (long)arg;
    for (int round = 0; round < ROUNDS; round++) {
        job_t job = {.offset = round};
        int tasks = 1 + (int)((seed * 7919 + round * 31) % TASKS), threads = 1 + (int)((seed + round) % 4);
        if (ck_parallel_for(task, &job, tasks, threads, never)) abort();
        for (int i = 0; i < TASKS; i++)
            if (job.done[i] != (i < tasks ? i + round : 0)) abort();
    }
    return NULL;
}

int main(void)
{
    pthread_t thread[CALLERS];
    for (long i = 0; i < CALLERS; i++) pthread_create(&thread[i], NULL, caller, (void *)i);
    for (int i = 0; i < CALLERS; i++) pthread_join(thread[i], NULL);
    printf("%d jobs, %d workers\n", CALLERS * ROUNDS, ck_pool_workers());
    return 0;
}
