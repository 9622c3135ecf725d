/* The thread pool and the scratch memory. Both belong to the library as a whole and hold its only state. */
#ifndef CK_THREADS_H
#define CK_THREADS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

/* One task. `worker` is below the number of threads that the job was given, 0 for the caller. */
typedef void (*ck_task)(void *job, ptrdiff_t task, int worker);

/* Called by the calling thread between tasks when 50 ms have passed since its last time, over all jobs; nonzero asks
 * the job to stop. */
typedef int (*ck_poll)(void);

/* Run task(job, i, worker) for every i in [0, tasks) on at most `threads` threads.
 *
 * Workers are started on first use and sleep after 50 us without work. A pool that is busy with another
 * caller's job, or that belongs to the parent of a fork, is not waited for: the caller runs every task itself
 * (after a fork a new pool is made). Which thread runs a task must not change its result.
 * Returns 0, or -1 when poll asked to stop; then tasks not yet begun are skipped. */
int ck_parallel_for(ck_task task, void *job, ptrdiff_t tasks, int threads, ck_poll poll);

/* Ask for large pages behind `bytes` from `data`, a boundary of such pages: memory beyond L2 in pages of 4 KB spends
 * a good part of its time on finding them. No more than a hint. */
#define CK_LARGE_PAGE ((size_t)2 << 20)
static inline void ck_large_pages(void *data, size_t bytes)
{
#ifdef MADV_HUGEPAGE
    if ((uintptr_t)data % CK_LARGE_PAGE == 0) madvise(data, bytes, MADV_HUGEPAGE); /* a refusal changes nothing */
#else
    (void)data, (void)bytes;
#endif
}

/* 64-byte aligned scratch of the calling thread, valid until its next ck_scratch; NULL when out of memory.
 * Kept for the next call up to CK_SCRATCH_KEEP bytes; ck_scratch_done gives back what is larger. */
#define CK_SCRATCH_KEEP ((size_t)64 << 20)
void *ck_scratch(size_t bytes);
void ck_scratch_done(void);

/* Tests: fill scratch with NaN bytes before each use, so that a read of unwritten scratch shows. */
void ck_scratch_poison(int on);

/* Threads that the pool has now besides the caller's. */
int ck_pool_workers(void);

#endif
