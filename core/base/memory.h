/* memory.h: the one allocator. Everything the engine allocates is counted, and tests can make the n-th allocation fail.
 *
 * Small objects come from lc_alloc. Tensor data comes from lc_buffer_new, which keeps released buffers by size class,
 * so that a training step after the first asks the system for nothing. Main thread and pool threads may both allocate.
 */
#ifndef LC_MEMORY_H
#define LC_MEMORY_H

#include "base/status.h"

/* NULL on failure, with the message set (status to return: LC_ENOMEM). Zero bytes give a pointer that can be freed. */
void *lc_alloc(size_t bytes);
void *lc_calloc(size_t count, size_t size);
void *lc_realloc(void *p, size_t bytes); /* p stays valid on failure */
char *lc_strdup(const char *text);
char *lc_strndup(const char *text, size_t length);
void lc_free(void *p);

/* 64-byte aligned, content undefined; large ones are huge-page advised. NULL on failure, with the message set. */
void *lc_buffer_new(size_t bytes);
/* `bytes` as given to lc_buffer_new. */
void lc_buffer_free(void *p, size_t bytes);

typedef struct lc_memory_stats {
    size_t live;    /* bytes in use: small objects and buffers */
    size_t buffers; /* of these, bytes in buffers: what tensors and graphs hold, without Lua's own objects */
    size_t peak;    /* highest `live` since the last lc_memory_reset_peak */
    size_t cached;  /* bytes in released buffers, kept for reuse */
} lc_memory_stats;

lc_memory_stats lc_memory_get(void);
void lc_memory_reset_peak(void);
/* The thread pool's: true while more than one thread may allocate. */
void lc_memory_share(bool on);
/* Gives cached buffers back to the system. Called by the allocator itself before it reports out of memory. */
void lc_memory_trim(void);
/* The n-th allocation from now fails once (1 = the next; 0 = off). Cached buffers count as allocations, so a sweep is
 * repeatable. */
void lc_memory_fail_at(uint64_t n);
/* The same for `times` allocations in a row: Lua collects garbage and asks again, so that one failure is no error to it.
 */
void lc_memory_fail_times(uint64_t n, uint64_t times);
/* Allocations done so far: the range of a sweep. */
uint64_t lc_memory_count(void);
/* Largest resident size of the process so far, and now, in bytes (from /proc). */
size_t lc_resident_peak(void);
size_t lc_resident_now(void);

#endif
