/* pool.c: workers that wait for one job at a time. The caller works too. Pieces are taken from a shared counter: which
 * thread runs a piece varies, what the piece computes does not.
 *
 * Workers spin for a moment before they sleep: inside a training step the next job comes within microseconds. */
#define _GNU_SOURCE
#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/memory.h"

#define MAX_THREADS 256
#define SPINS 4000

typedef struct job {
    lc_task task;
    void *context;
    int64_t count;
    atomic_int_fast64_t next;
    atomic_bool cancelled;
} job;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work_ready = PTHREAD_COND_INITIALIZER;
static pthread_t workers[MAX_THREADS];
static int wanted_threads, started_workers;
static job current;
static atomic_uint_fast64_t generation; /* goes up with each job, and on shutdown */
/* OPEN while workers may join the current job, plus the number that have. The caller waits for those alone: a worker that the
 * system has not scheduled costs nothing, since the caller does its pieces. */
static atomic_int joined;
#define OPEN (1 << 20)
static bool stopping;
static pid_t owner; /* a fork has the lock but not the workers */
static _Thread_local bool inside;

static atomic_int cancel_flag; /* lock-free: a signal handler sets it while workers read */
static int cancel_holds;

void lc_cancel(void) {
    cancel_flag = 1;
}
bool lc_cancel_pending(void) {
    return cancel_flag != 0;
}
void lc_cancel_clear(void) {
    cancel_flag = 0;
}
void lc_cancel_hold(void) {
    cancel_holds++;
}
void lc_cancel_release(void) {
    cancel_holds--;
}

static bool must_stop(void) {
    return cancel_flag && cancel_holds == 0;
}

lc_status lc_poll(void) {
    return must_stop() ? lc_fail(LC_ECANCEL, "interrupted") : LC_OK;
}

static void run_pieces(job *j) {
    inside = true;
    for (;;) {
        if (must_stop()) {
            j->cancelled = true;
            break;
        }
        int64_t i = atomic_fetch_add(&j->next, 1);
        if (i >= j->count) break;
        j->task(j->context, i);
    }
    inside = false;
}

static bool join_job(void) {
    int now = atomic_load(&joined);
    while (now & OPEN)
        if (atomic_compare_exchange_weak(&joined, &now, now + 1)) return true;
    return false;
}

static void *worker_main(void *arg) {
    uint64_t seen = (uint64_t)(uintptr_t)arg;
    for (;;) {
        for (int i = 0; i < SPINS && atomic_load(&generation) == seen; i++) __builtin_ia32_pause();
        if (atomic_load(&generation) == seen) {
            pthread_mutex_lock(&lock);
            while (atomic_load(&generation) == seen) pthread_cond_wait(&work_ready, &lock);
            pthread_mutex_unlock(&lock);
        }
        seen = atomic_load(&generation);
        if (stopping) return NULL;
        if (!join_job()) continue;
        run_pieces(&current);
        atomic_fetch_sub(&joined, 1);
    }
}

static int usable_cpus(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        int n = CPU_COUNT(&set);
        return n < MAX_THREADS ? n : MAX_THREADS;
    }
    return 1;
}

int lc_threads(void) {
    if (wanted_threads == 0) wanted_threads = usable_cpus();
    return wanted_threads;
}

static void stop_workers(void) {
    if (started_workers == 0) return;
    pthread_mutex_lock(&lock);
    stopping = true;
    atomic_fetch_add(&generation, 1);
    pthread_cond_broadcast(&work_ready);
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < started_workers; i++) pthread_join(workers[i], NULL);
    started_workers = 0;
    stopping = false;
}

lc_status lc_set_threads(int threads) {
    if (threads < 1 || threads > MAX_THREADS)
        return lc_fail(LC_EINVAL, "threads: %d is out of range; use 1 to %d", threads, MAX_THREADS);
    stop_workers();
    wanted_threads = threads;
    return LC_OK;
}

/* Signals stay with the main thread, so that Ctrl-C reaches the code that answers it. A thread that cannot be started
 * is done without: the result is the same. */
static void start_workers(void) {
    if (owner != getpid()) {
        owner = getpid();
        started_workers = 0;
        atomic_store(&joined, 0);
    }
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (started_workers < lc_threads() - 1) {
        void *seen = (void *)(uintptr_t)atomic_load(&generation);
        if (pthread_create(&workers[started_workers], NULL, worker_main, seen)) break;
        started_workers++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

lc_status lc_parallel(int64_t count, lc_task task, void *context) {
    LC_TRY(lc_poll());
    if (count <= 1 || inside || lc_threads() == 1) {
        bool nested = inside;
        for (int64_t i = 0; i < count; i++) {
            if (!nested) LC_TRY(lc_poll());
            task(context, i);
        }
        return LC_OK;
    }
    if (started_workers < lc_threads() - 1 || owner != getpid()) start_workers();
    current.task = task;
    current.context = context;
    current.count = count;
    current.cancelled = false;
    atomic_store(&current.next, 0);
    atomic_store(&joined, OPEN);
    lc_memory_share(true);
    pthread_mutex_lock(&lock);
    atomic_fetch_add(&generation, 1);
    pthread_cond_broadcast(&work_ready);
    pthread_mutex_unlock(&lock);
    run_pieces(&current);
    atomic_fetch_sub(&joined, OPEN);
    for (int i = 0; atomic_load(&joined) > 0; i++) {
        if (i < SPINS)
            __builtin_ia32_pause();
        else
            sched_yield();
    }
    lc_memory_share(false);
    return current.cancelled ? lc_fail(LC_ECANCEL, "interrupted") : LC_OK;
}

typedef struct range_job {
    lc_range_task task;
    void *context;
    int64_t count, grain;
} range_job;

static void range_piece(void *context, int64_t index) {
    range_job *r = context;
    int64_t begin = index * r->grain;
    r->task(r->context, begin, lc_min(begin + r->grain, r->count));
}

lc_status lc_parallel_range(int64_t count, int64_t grain, lc_range_task task, void *context) {
    if (count <= 0) return LC_OK;
    if (count <= grain) {
        task(context, 0, count);
        return LC_OK;
    }
    range_job r = {task, context, count, grain};
    return lc_parallel((count + grain - 1) / grain, range_piece, &r);
}
