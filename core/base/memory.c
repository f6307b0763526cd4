/* memory.c: counting, the buffer cache, and failure on demand.
 *
 * Size classes are powers of two cut in eighths (1, 1.125, 1.25 ... 1.875, 2), so a buffer wastes at most an eighth and
 * a released one fits the next request of about its size. A request takes a cached buffer of its own class only: what a
 * training step asked for once, it finds again. */
#include "base/memory.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>

#define ALIGNMENT ((size_t)64)
#define HUGE_PAGE ((size_t)2 << 20)
#define CLASSES 512

/* A released buffer holds the link to the next one in its own bytes. */
typedef struct cached {
    struct cached *next;
} cached;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static lc_memory_stats stats;
static uint64_t allocations, fail_at, fail_times; /* fail_at: 0 = off */
static cached *classes[CLASSES];

/* While one thread runs alone, counting takes no lock: two locks cost more than adding 64 numbers. */
static bool shared;

void lc_memory_share(bool on) {
    shared = on;
}

static void enter(void) {
    if (shared) pthread_mutex_lock(&lock);
}

static void leave(void) {
    if (shared) pthread_mutex_unlock(&lock);
}

/* Called between enter and leave. */
static bool fails_now(void) {
    allocations++;
    if (fail_at == 0 || --fail_at > 0) return false;
    if (--fail_times > 0) fail_at = 1;
    return true;
}

static void count_up(size_t bytes) {
    stats.live += bytes;
    if (stats.live > stats.peak) stats.peak = stats.live;
}

static void *refuse(size_t bytes) {
    lc_fail(
        LC_ENOMEM,
        "out of memory: %zu bytes more were asked for with %zu in use; use a smaller batch or model, or free tensors "
        "(lc.scope, collectgarbage)",
        bytes, stats.live);
    return NULL;
}

/* What this process may use at the most: the machine's memory and swap, or less where its control group says so. */
static size_t machine_bytes(void) {
    static _Atomic size_t known;
    if (known) return known;
    struct sysinfo info;
    size_t bytes = SIZE_MAX, limit;
    if (sysinfo(&info) == 0) bytes = ((size_t)info.totalram + info.totalswap) * info.mem_unit;
    FILE *f = fopen("/sys/fs/cgroup/memory.max", "r");
    if (f && fscanf(f, "%zu", &limit) == 1 && limit < bytes) bytes = limit; /* "max" where there is no limit */
    if (f) fclose(f);
    known = bytes;
    return bytes;
}

/* The system hands out addresses for more than there is, and kills the process that writes there: what cannot fit is
 * refused before. */
static bool fits(size_t bytes) {
    size_t all = machine_bytes(), live = stats.live;
    return live < all && bytes <= all - live;
}

void *lc_alloc(size_t bytes) {
    enter();
    bool fails = fails_now() || !fits(bytes);
    leave();
    void *p = fails ? NULL : malloc(bytes ? bytes : 1);
    if (!p && !fails) {
        lc_memory_trim();
        p = malloc(bytes ? bytes : 1);
    }
    if (!p) return refuse(bytes);
    enter();
    count_up(malloc_usable_size(p));
    leave();
    return p;
}

void *lc_calloc(size_t count, size_t size) {
    if (size && count > SIZE_MAX / size) return refuse(SIZE_MAX);
    void *p = lc_alloc(count * size);
    if (p) memset(p, 0, count * size);
    return p;
}

void *lc_realloc(void *p, size_t bytes) {
    if (!p) return lc_alloc(bytes);
    enter();
    size_t before = malloc_usable_size(p);
    bool fails = fails_now() || (bytes > before && !fits(bytes - before));
    leave();
    void *q = fails ? NULL : realloc(p, bytes ? bytes : 1);
    if (!q) return refuse(bytes);
    enter();
    stats.live -= before;
    count_up(malloc_usable_size(q));
    leave();
    return q;
}

char *lc_strndup(const char *text, size_t length) {
    char *copy = lc_alloc(length + 1);
    if (!copy) return NULL;
    memcpy(copy, text, length);
    copy[length] = '\0';
    return copy;
}

char *lc_strdup(const char *text) {
    return lc_strndup(text, strlen(text));
}

void lc_free(void *p) {
    if (!p) return;
    enter();
    stats.live -= malloc_usable_size(p);
    leave();
    free(p);
}

/* The class of a request, and in *bytes what a buffer of that class holds. */
static int size_class(size_t *bytes) {
    size_t n = *bytes < ALIGNMENT ? ALIGNMENT : *bytes;
    int shift = 63 - __builtin_clzll(n); /* n in [2^shift, 2^(shift + 1)) */
    size_t step = (size_t)1 << (shift > 3 ? shift - 3 : 0);
    size_t rounded = (n + step - 1) / step * step;
    if (rounded >= (size_t)2 << shift) shift++, step = (size_t)1 << (shift - 3);
    *bytes = rounded;
    return shift * 8 + (int)((rounded - ((size_t)1 << shift)) / step);
}

static void *new_buffer(size_t bytes) {
    void *p = NULL;
    size_t alignment = bytes >= HUGE_PAGE ? HUGE_PAGE : ALIGNMENT;
    if (posix_memalign(&p, alignment, bytes)) return NULL;
    if (alignment == HUGE_PAGE) madvise(p, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
    return p;
}

void *lc_buffer_new(size_t bytes) {
    size_t asked = bytes;
    if (bytes > SIZE_MAX / 4) return refuse(asked);
    int class = size_class(&bytes);
    enter();
    bool fails = fails_now();
    cached *hit = fails ? NULL : classes[class];
    if (!hit && !fits(bytes)) fails = true;
    if (hit) {
        classes[class] = hit->next;
        stats.cached -= bytes;
        count_up(bytes);
        stats.buffers += bytes;
    }
    leave();
    if (hit || fails) return hit ? hit : refuse(asked);
    void *p = new_buffer(bytes);
    if (!p) {
        lc_memory_trim();
        p = new_buffer(bytes);
    }
    if (!p) return refuse(asked);
    enter();
    count_up(bytes);
    stats.buffers += bytes;
    leave();
    return p;
}

void lc_buffer_free(void *p, size_t bytes) {
    if (!p) return;
    int class = size_class(&bytes);
    enter();
    ((cached *)p)->next = classes[class];
    classes[class] = p;
    stats.live -= bytes;
    stats.buffers -= bytes;
    stats.cached += bytes;
    leave();
}

lc_memory_stats lc_memory_get(void) {
    enter();
    lc_memory_stats now = stats;
    leave();
    return now;
}

void lc_memory_reset_peak(void) {
    enter();
    stats.peak = stats.live;
    leave();
}

void lc_memory_trim(void) {
    enter();
    for (int i = 0; i < CLASSES; i++) {
        while (classes[i]) {
            cached *next = classes[i]->next;
            free(classes[i]);
            classes[i] = next;
        }
    }
    stats.cached = 0;
    leave();
}

void lc_memory_fail_times(uint64_t n, uint64_t times) {
    enter();
    fail_at = times ? n : 0;
    fail_times = times;
    leave();
}

void lc_memory_fail_at(uint64_t n) {
    lc_memory_fail_times(n, 1);
}

uint64_t lc_memory_count(void) {
    return allocations;
}

/* A line "<field>:  <n> kB" of /proc/self/status, in bytes; 0 when it is not there. */
static size_t process_status(const char *field) {
    FILE *f = fopen("/proc/self/status", "r");
    if (!f) return 0;
    char line[256];
    size_t kib = 0;
    while (fgets(line, sizeof line, f)) {
        if (strncmp(line, field, strlen(field)) == 0) {
            sscanf(line + strlen(field), ": %zu", &kib);
            break;
        }
    }
    fclose(f);
    return kib * 1024;
}

size_t lc_resident_peak(void) {
    return process_status("VmHWM");
}
size_t lc_resident_now(void) {
    return process_status("VmRSS");
}
