/* random.c: Philox 4x32-10 and what is drawn from it. */
#include "base/random.h"

#include <math.h>
#include <string.h>

#include "base/hash.h"
#include "base/pool.h"

#define TWO_PI 6.283185307179586476925

void lc_philox(uint64_t key, uint64_t counter, uint32_t out[4]) {
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    uint32_t x0 = (uint32_t)counter, x1 = (uint32_t)(counter >> 32), x2 = 0, x3 = 0;
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * x0, p1 = (uint64_t)0xCD9E8D57u * x2;
        x0 = (uint32_t)(p1 >> 32) ^ x1 ^ k0;
        x2 = (uint32_t)(p0 >> 32) ^ x3 ^ k1;
        x1 = (uint32_t)p1;
        x3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = x0, out[1] = x1, out[2] = x2, out[3] = x3;
}

lc_stream lc_stream_make(uint64_t seed, const char *name) {
    return (lc_stream){lc_hash64(name, strlen(name), seed), 0};
}

uint64_t lc_stream_u64(lc_stream *s) {
    uint32_t r[4];
    lc_philox(s->key, s->counter++, r);
    return (uint64_t)r[1] << 32 | r[0];
}

/* Draws again in the part of the range that would favour small numbers. */
uint64_t lc_stream_below(lc_stream *s, uint64_t n) {
    uint64_t refuse = -n % n, x;
    do x = lc_stream_u64(s);
    while (x < refuse);
    return x % n;
}

static double to_unit(uint64_t x) {
    return (double)(x >> 11) * 0x1p-53;
}
static float to_unit_f32(uint32_t x) {
    return (float)(x >> 8) * 0x1p-24f;
}

double lc_stream_uniform(lc_stream *s) {
    return to_unit(lc_stream_u64(s));
}

/* Box-Muller; 1 - u is in (0, 1], so the logarithm is finite. */
static void normal_pair(double u, double v, double *a, double *b) {
    double radius = sqrt(-2 * log(1 - u));
    *a = radius * cos(TWO_PI * v);
    *b = radius * sin(TWO_PI * v);
}

double lc_stream_normal(lc_stream *s) {
    uint32_t r[4];
    lc_philox(s->key, s->counter++, r);
    double a, b;
    normal_pair(to_unit((uint64_t)r[1] << 32 | r[0]), to_unit((uint64_t)r[3] << 32 | r[2]), &a, &b);
    return a;
}

typedef struct fill {
    uint64_t key, counter;
    void *out;
    int64_t n;
    bool normal;
} fill;

/* Blocks begin..end, four f32 each. */
static void fill_f32(void *context, int64_t begin, int64_t end) {
    fill *f = context;
    float *out = f->out;
    for (int64_t block = begin; block < end; block++) {
        uint32_t r[4];
        float x[4];
        lc_philox(f->key, f->counter + (uint64_t)block, r);
        for (int i = 0; i < 4; i++) x[i] = to_unit_f32(r[i]);
        for (int i = 0; f->normal && i < 4; i += 2) {
            float radius = sqrtf(-2 * logf(1 - x[i])), angle = (float)TWO_PI * x[i + 1];
            x[i] = radius * cosf(angle);
            x[i + 1] = radius * sinf(angle);
        }
        int64_t at = block * 4;
        memcpy(out + at, x, sizeof(float) * (size_t)lc_min(4, f->n - at));
    }
}

/* Blocks begin..end, two f64 each. */
static void fill_f64(void *context, int64_t begin, int64_t end) {
    fill *f = context;
    double *out = f->out;
    for (int64_t block = begin; block < end; block++) {
        uint32_t r[4];
        lc_philox(f->key, f->counter + (uint64_t)block, r);
        double x[2] = {to_unit((uint64_t)r[1] << 32 | r[0]), to_unit((uint64_t)r[3] << 32 | r[2])};
        if (f->normal) normal_pair(x[0], x[1], &x[0], &x[1]);
        int64_t at = block * 2;
        memcpy(out + at, x, sizeof(double) * (size_t)lc_min(2, f->n - at));
    }
}

#define FILL_GRAIN 16384 /* blocks */

static lc_status fill_from(lc_stream *s, void *out, int64_t n, bool normal, int per_block, lc_range_task task) {
    fill f = {s->key, s->counter, out, n, normal};
    int64_t blocks = (n + per_block - 1) / per_block;
    LC_TRY(lc_parallel_range(blocks, FILL_GRAIN, task, &f));
    s->counter += (uint64_t)blocks;
    return LC_OK;
}

lc_status lc_stream_fill_uniform_f32(lc_stream *s, float *out, int64_t n) {
    return fill_from(s, out, n, false, 4, fill_f32);
}
lc_status lc_stream_fill_normal_f32(lc_stream *s, float *out, int64_t n) {
    return fill_from(s, out, n, true, 4, fill_f32);
}
lc_status lc_stream_fill_uniform_f64(lc_stream *s, double *out, int64_t n) {
    return fill_from(s, out, n, false, 2, fill_f64);
}
lc_status lc_stream_fill_normal_f64(lc_stream *s, double *out, int64_t n) {
    return fill_from(s, out, n, true, 2, fill_f64);
}

void lc_stream_permutation(lc_stream *s, int64_t *out, int64_t n) {
    for (int64_t i = 0; i < n; i++) out[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = (int64_t)lc_stream_below(s, (uint64_t)i + 1), swap = out[i];
        out[i] = out[j];
        out[j] = swap;
    }
}
