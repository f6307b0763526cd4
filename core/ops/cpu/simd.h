/* simd.h: the inner loops of the cpu kernels, compiled once for each instruction set and chosen when the program
 * starts.
 *
 * Every function here works on contiguous memory on the calling thread; kernels bring strides, threads and shapes. y
 * may be an input itself. Errors of the f32 functions, against exact results: exp, expm1, log, log1p, tanh, erf,
 * sigmoid at most 4 units in the last place; gelu and its like 4e-7 of max(1, |x|). f64 comes from the C library. */
#ifndef LC_SIMD_H
#define LC_SIMD_H

#include "ops/op.h"

/* y[i] = f(x[0][i], x[1][i] ...). The dtype of the inputs names the function; the op says what y's is. */
typedef void (*lc_block)(void *y, const void *const *x, int64_t n, const lc_attr *attr);

/* Where one AdamW step stands: attr of ADAMW_STEP with what follows from it. */
typedef struct lc_adamw {
    double lr, beta1, beta2, eps, weight_decay, grad_scale;
    double correction1, correction2; /* 1 - beta^t */
} lc_adamw;

/* Where elements are dropped: see DROPOUT in ops.def. */
typedef struct lc_dropout {
    uint64_t key, counter;
    uint64_t threshold; /* smaller random numbers drop */
    float scale;        /* of the rest */
} lc_dropout;

typedef struct lc_simd {
    const char *name;
    lc_block map[LC_OPS][LC_DTYPES];     /* by op and dtype of the inputs (of the last one, for WHERE); NULL: none */
    lc_block cast[LC_DTYPES][LC_DTYPES]; /* from, to */

    /* f32 sums keep 64 partial sums; callers keep n to some thousands, and add further in double. */
    float (*sum)(const float *x, int64_t n);
    float (*square_sum)(const float *x, float center, int64_t n); /* of x - center */
    float (*dot)(const float *x, const float *y, int64_t n);
    float (*max)(const float *x, int64_t n); /* NaN is passed over; -inf for n = 0 */
    float (*min)(const float *x, int64_t n);
    /* y = a - scale x b, in f64; its least element, infinite for n = 0. */
    double (*least_after)(double *y, const double *a, const double *x, const double *b, double scale, int64_t n);
    bool (*any_nan)(const float *x, int64_t n);
    float (*exp_sum)(float *y, const float *x, float scale, float shift,
                     int64_t n);                                /* y = exp(scale x - shift); their sum */
    void (*scale)(float *y, float a, int64_t n);                /* y *= a */
    void (*axpy)(float *y, float a, const float *x, int64_t n); /* y += a x */
    void (*softmax_backward)(float *dx, const float *y, const float *dy, float dot, int64_t n); /* y (dy - dot) */
    void (*normalise)(float *y, const float *x, float mean, float rstd, const float *w, const float *b, int64_t n);
    /* Sums over one row: *sum_g of dy w, *sum_gx of dy w xhat; adds dy xhat to dw and dy to db (each may be NULL). */
    void (*norm_sums)(const float *x, const float *dy, const float *w, float mean, float rstd, float *dw, float *db,
                      float *sum_g, float *sum_gx, int64_t n);
    void (*norm_dx)(float *dx, const float *x, const float *dy, const float *w, float mean, float rstd, float mean_g,
                    float mean_gx, int64_t n);
    /* Pairs (x[i], x[n + i]) turned by angles of these cosines and sines. */
    void (*rotate)(float *y, const float *x, const float *cosine, const float *sine, int64_t n);
    /* y = 0 where dropped, else x times the scale, for elements first .. first + n of a tensor; x NULL: as if 1. */
    void (*dropout)(float *y, const float *x, const lc_dropout *d, int64_t first, int64_t n);
    void (*adamw)(float *w, const float *g, float *m, float *v, const uint8_t *keep, const lc_adamw *a, int64_t n);
} lc_simd;

/* The one for this CPU. */
const lc_simd *lc_simd_get(void);

extern const lc_simd lc_simd_plain, lc_simd_avx2, lc_simd_avx512;

#endif
