/* random.h: counter-based random numbers in named streams (Philox 4x32-10, Salmon et al. 2011, "Parallel random
 * numbers: as easy as 1, 2, 3"). One seed gives any number of independent streams, one per name, so that drawing more
 * in one changes no other. */
#ifndef LC_RANDOM_H
#define LC_RANDOM_H

#include "base/status.h"

typedef struct lc_stream {
    uint64_t key;     /* from seed and name */
    uint64_t counter; /* next block; the whole position, so saving it is saving the stream */
} lc_stream;

lc_stream lc_stream_make(uint64_t seed, const char *name);

/* The block of four 32-bit numbers at (key, counter). */
void lc_philox(uint64_t key, uint64_t counter, uint32_t out[4]);

/* Each draw below takes one block. */
uint64_t lc_stream_u64(lc_stream *s);
uint64_t lc_stream_below(lc_stream *s, uint64_t n); /* 0..n-1 without bias; n > 0 */
double lc_stream_uniform(lc_stream *s);             /* [0, 1), 53 bits */
double lc_stream_normal(lc_stream *s);              /* mean 0, deviation 1 (Box-Muller) */

/* n numbers from a stream; takes ceil(n / 4) blocks for f32, ceil(n / 2) for f64. Parallel, and the same at any thread
 * count. */
lc_status lc_stream_fill_uniform_f32(lc_stream *s, float *out, int64_t n); /* [0, 1), 24 bits */
lc_status lc_stream_fill_normal_f32(lc_stream *s, float *out, int64_t n);
lc_status lc_stream_fill_uniform_f64(lc_stream *s, double *out, int64_t n);
lc_status lc_stream_fill_normal_f64(lc_stream *s, double *out, int64_t n);
/* A permutation of 0..n-1 (Fisher-Yates). */
void lc_stream_permutation(lc_stream *s, int64_t *out, int64_t n);

#endif
