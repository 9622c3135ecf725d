#define _GNU_SOURCE
#include "base/threads.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MAX_WORKERS = 255, SPIN_NS = 50 * 1000, POLL_NS = 50 * 1000 * 1000 };

typedef struct {
    ck_task task;
    void *job;
    ptrdiff_t tasks;
    atomic_ptrdiff_t next;
    atomic_int stop;
    atomic_int running; /* helpers that have not finished yet */
} job_t;

/* A ticket announces a job: its number, and in the low byte how many helpers take part. A worker decides from
 * the ticket alone whether the job is its own; the job itself is only read by those for whom the caller waits. */
#define TICKET_HELPERS(ticket) ((int)((ticket) & 0xff))

typedef struct {
    pid_t pid; /* a child of fork finds another pid here and forgets the pool: its threads did not come along */
    int workers;
    pthread_mutex_t mutex;
    pthread_cond_t wake, idle;
    atomic_uint_fast64_t ticket;
    job_t work;
} pool_t;

typedef struct {
    pool_t *pool;
    int id; /* 1, 2, ...; the caller of a job is 0 */
    uint64_t seen;
} worker_t;

static pool_t *pool; /* leaked on purpose after a fork: the child cannot join threads that it does not have */
static atomic_int
    pool_user; /* pid of the process whose caller has the pool, or 0: after a fork it may be the parent's */
/* When this thread last polled: across jobs, so that a call made of many short ones polls too. */
static __thread int64_t polled_ns;

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void run_tasks(job_t *work, int worker, ck_poll poll)
{
    while (!atomic_load_explicit(&work->stop, memory_order_relaxed)) {
        ptrdiff_t i = atomic_fetch_add_explicit(&work->next, 1, memory_order_relaxed);
        if (i >= work->tasks) return;
        work->task(work->job, i, worker);
        if (poll && now_ns() - polled_ns > POLL_NS) {
            if (poll()) atomic_store(&work->stop, 1);
            polled_ns = now_ns();
        }
    }
}

/* Spin for a while in case the next job comes at once (one call has several), then sleep. */
static uint64_t await_ticket(pool_t *p, uint64_t seen)
{
    uint64_t ticket;
    int64_t until = now_ns() + SPIN_NS;
    while (now_ns() < until)
        for (int i = 0; i < 64; i++) {
            ticket = atomic_load_explicit(&p->ticket, memory_order_acquire);
            if (ticket != seen) return ticket;
            relax();
        }
    pthread_mutex_lock(&p->mutex);
    while ((ticket = atomic_load_explicit(&p->ticket, memory_order_acquire)) == seen)
        pthread_cond_wait(&p->wake, &p->mutex);
    pthread_mutex_unlock(&p->mutex);
    return ticket;
}

static void *worker_main(void *arg)
{
    worker_t self = *(worker_t *)arg;
    pool_t *p = self.pool;
    free(arg);
    for (;;) {
        self.seen = await_ticket(p, self.seen);
        if (self.id > TICKET_HELPERS(self.seen)) continue;
        run_tasks(&p->work, self.id, NULL);
        if (atomic_fetch_sub_explicit(&p->work.running, 1, memory_order_acq_rel) == 1) {
            pthread_mutex_lock(&p->mutex);
            pthread_cond_signal(&p->idle);
            pthread_mutex_unlock(&p->mutex);
        }
    }
    return NULL;
}

static pool_t *make_pool(void)
{
    pool_t *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->pid = getpid();
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->wake, NULL);
    pthread_cond_init(&p->idle, NULL);
    return p;
}

/* Start workers until there are `want`; fewer is fine (a limit on processes, say). Signals stay with the
 * threads of the program: a worker would run a Python signal handler at a bad moment. */
static void grow(pool_t *p, int want)
{
    sigset_t all, old;
    pthread_attr_t attr;
    if (p->workers >= want) return;
    sigfillset(&all);
    /* What a thread does to itself must still reach a handler: blocked, it would end the process without a word. */
    sigdelset(&all, SIGSEGV), sigdelset(&all, SIGBUS), sigdelset(&all, SIGFPE), sigdelset(&all, SIGILL);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    while (p->workers < want) {
        worker_t *w = malloc(sizeof *w);
        pthread_t thread;
        if (!w) break;
        *w = (worker_t){p, p->workers + 1, atomic_load(&p->ticket)};
        if (pthread_create(&thread, &attr, worker_main, w)) {
            free(w);
            break;
        }
        p->workers++;
    }
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* Wait for the helpers' last tasks: spin first, since they rarely take long, then sleep and keep polling. */
static void await_helpers(pool_t *p, ck_poll poll)
{
    int64_t until = now_ns() + SPIN_NS;
    while (now_ns() < until)
        for (int i = 0; i < 64; i++) {
            if (atomic_load_explicit(&p->work.running, memory_order_acquire) == 0) return;
            relax();
        }
    while (atomic_load_explicit(&p->work.running, memory_order_acquire) > 0) {
        struct timespec deadline;
        clock_gettime(CLOCK_REALTIME, &deadline);
        deadline.tv_nsec += POLL_NS;
        if (deadline.tv_nsec >= 1000000000) deadline.tv_sec++, deadline.tv_nsec -= 1000000000;
        pthread_mutex_lock(&p->mutex);
        if (atomic_load(&p->work.running) > 0) pthread_cond_timedwait(&p->idle, &p->mutex, &deadline);
        pthread_mutex_unlock(&p->mutex);
        if (poll && poll()) atomic_store(&p->work.stop, 1);
    }
}

static int run_alone(ck_task task, void *job, ptrdiff_t tasks, ck_poll poll)
{
    job_t work = {.task = task, .job = job, .tasks = tasks};
    run_tasks(&work, 0, poll);
    return atomic_load(&work.stop) ? -1 : 0;
}

/* Take the pool, or find it in use. A parent that had it when it forked does not have it here. */
static int take_pool(void)
{
    int me = (int)getpid(), user = 0;
    if (!atomic_compare_exchange_strong(&pool_user, &user, me) &&
        (user == me || !atomic_compare_exchange_strong(&pool_user, &user, me)))
        return 0;
    if (!pool || pool->pid != me) pool = make_pool();
    if (pool) return 1;
    atomic_store(&pool_user, 0);
    return 0;
}

int ck_parallel_for(ck_task task, void *job, ptrdiff_t tasks, int threads, ck_poll poll)
{
    if (threads > tasks) threads = (int)tasks;
    if (threads > MAX_WORKERS) threads = MAX_WORKERS;
    if (threads <= 1 || !take_pool()) return run_alone(task, job, tasks, poll);
    pool_t *p = pool;
    grow(p, threads - 1);
    int helpers = p->workers < threads - 1 ? p->workers : threads - 1;
    p->work.task = task;
    p->work.job = job;
    p->work.tasks = tasks;
    atomic_store(&p->work.next, 0);
    atomic_store(&p->work.stop, 0);
    atomic_store(&p->work.running, helpers);
    uint64_t number = (atomic_load(&p->ticket) >> 8) + 1;
    pthread_mutex_lock(&p->mutex);
    atomic_store_explicit(&p->ticket, number << 8 | (uint64_t)helpers, memory_order_release);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->mutex);
    run_tasks(&p->work, 0, poll);
    await_helpers(p, poll);
    int stopped = atomic_load(&p->work.stop);
    atomic_store(&pool_user, 0);
    return stopped ? -1 : 0;
}

int ck_pool_workers(void) { return pool && pool->pid == getpid() ? pool->workers : 0; }

typedef struct {
    void *data;
    size_t bytes;
} scratch_t;

static pthread_key_t scratch_key;
static pthread_once_t scratch_once = PTHREAD_ONCE_INIT;
static __thread scratch_t *scratch;
static atomic_int poison;

static void free_scratch(void *s)
{
    free(((scratch_t *)s)->data);
    free(s);
}

static void make_scratch_key(void) { pthread_key_create(&scratch_key, free_scratch); }

void *ck_scratch(size_t bytes)
{
    if (!scratch) {
        pthread_once(&scratch_once, make_scratch_key);
        scratch = calloc(1, sizeof *scratch);
        if (!scratch) return NULL;
        pthread_setspecific(scratch_key, scratch);
    }
    if (bytes > scratch->bytes) {
        free(scratch->data);
        scratch->bytes = 0;
        const int large = bytes >= CK_LARGE_PAGE / 2;
        if (large) bytes = (bytes + CK_LARGE_PAGE - 1) / CK_LARGE_PAGE * CK_LARGE_PAGE;
        if (posix_memalign(&scratch->data, large ? CK_LARGE_PAGE : 64, bytes)) {
            scratch->data = NULL;
            return NULL;
        }
        if (large) ck_large_pages(scratch->data, bytes);
        scratch->bytes = bytes;
    }
    if (atomic_load(&poison) && scratch->data) memset(scratch->data, 0xff, scratch->bytes);
    return scratch->data;
}

void ck_scratch_done(void)
{
    if (scratch && scratch->bytes > CK_SCRATCH_KEEP) {
        free(scratch->data);
        *scratch = (scratch_t){0};
    }
}

void ck_scratch_poison(int on) { atomic_store(&poison, on); }
