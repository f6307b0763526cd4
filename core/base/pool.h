/* pool.h: the one thread pool, and the cancel flag.
 *
 * Work is cut by the problem's shape alone, never by the number of threads, and each piece writes its own outputs: so
 * the same bits at any thread count. Between pieces the cancel flag is polled. */
#ifndef LC_POOL_H
#define LC_POOL_H

#include "base/status.h"

typedef void (*lc_task)(void *context, int64_t index);
/* Runs task(context, i) for i in 0..count-1, in no order, on all threads; returns when all are done. Nested calls run
 * on the calling thread. LC_ECANCEL when interrupted: some pieces were then not run, and outputs are garbage. */
lc_status lc_parallel(int64_t count, lc_task task, void *context);

typedef void (*lc_range_task)(void *context, int64_t begin, int64_t end);
/* Cuts 0..count into chunks of `grain` (the last may be shorter) and runs task on each. Below two chunks it runs here
 * and now. */
lc_status lc_parallel_range(int64_t count, int64_t grain, lc_range_task task, void *context);

/* Threads in use, the caller included. Default: CPUs this process may run on. */
int lc_threads(void);
lc_status lc_set_threads(int threads); /* 1..256 */

/* Async-signal-safe: asks whatever runs to stop with LC_ECANCEL. */
void lc_cancel(void);
bool lc_cancel_pending(void); /* asked for, held back or not */
void lc_cancel_clear(void);
/* LC_ECANCEL with the message "interrupted" when cancelled and not held, else LC_OK. Leaves the flag set: who answers
 * clears it. */
lc_status lc_poll(void);
/* While held (counted), cancel is not seen: the optimizer's pass and in-place writes are never interrupted. */
void lc_cancel_hold(void);
void lc_cancel_release(void);

#endif
