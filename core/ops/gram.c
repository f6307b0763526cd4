/* gram.c: H += X^T X, the sum over tokens that calibration is made of: the lower triangle on all threads, cut into strips
 * of columns, which are cut into parts of at most TALLEST rows.
 *
 * A part is summed in X's type in a buffer that stays in the cache, and added to H in f64 every SECTION rows of X. */
#include "base/memory.h"
#include "base/pool.h"
#include "ops/blas.h"
#include "ops/gemm.h"
#include "ops/gemm_avx512.h"
#include "ops/op.h"

#include <limits.h>

enum {
    SECTION = 4096, /* rows of X that are summed in its own type */
    WIDEST = 384,   /* columns of a strip */
    TALLEST = 768,  /* rows of a part */
    PANEL = 48,     /* strips are multiples of the f32 kernel's panels */
    BAND = 96       /* rows of a part that the library does at once: it knows no diagonal */
};

typedef struct job {
    lc_dtype dtype;
    size_t size; /* of an element of X */
    const lc_blas *blas;
    bool own; /* by lc_sgemm_avx512 */
    int64_t N, K;
    int64_t width, height; /* of a part, at most */
    const char *X;
    int64_t ldx;
    double *H;
} job;

static const void *at(const job *g, int64_t row, int64_t column) {
    return g->X + (size_t)(row * g->ldx + column) * g->size;
}

typedef struct part {
    int64_t i0, M, j0, N; /* rows and columns of H */
} part;

/* sums (M, N) = X[k0.., i0..]^T X[k0.., j0..] over K rows, as far as the lower triangle needs it. */
static void multiply(const job *g, const part *p, int64_t k0, int64_t K, void *sums) {
    if (g->own) {
        lc_sgram_avx512(p->M, p->N, K, p->i0 - p->j0, at(g, k0, p->i0), at(g, k0, p->j0), g->ldx, sums);
        return;
    }
    for (int64_t i = 0; i < p->M; i += BAND) {
        int64_t M = lc_min(BAND, p->M - i), N = lc_min(p->N, p->i0 + i + M - p->j0);
        const void *A = at(g, k0, p->i0 + i), *B = at(g, k0, p->j0);
        void *C = (char *)sums + (size_t)(i * p->N) * g->size;
        if (g->dtype == LC_F32)
            g->blas->sgemm(LC_BLAS_ROW_MAJOR, LC_BLAS_TRANS, LC_BLAS_NO_TRANS, (int)M, (int)N, (int)K, 1, A,
                           (int)g->ldx, B, (int)g->ldx, 0, C, (int)p->N);
        else
            g->blas->dgemm(LC_BLAS_ROW_MAJOR, LC_BLAS_TRANS, LC_BLAS_NO_TRANS, (int)M, (int)N, (int)K, 1, A,
                           (int)g->ldx, B, (int)g->ldx, 0, C, (int)p->N);
    }
}

/* Adds what lies in the lower triangle. */
static void add(const job *g, const part *p, const void *sums) {
    for (int64_t i = 0; i < p->M; i++) {
        double *to = g->H + (p->i0 + i) * g->N + p->j0;
        int64_t n = lc_min(p->N, p->i0 + i - p->j0 + 1);
        if (g->dtype == LC_F32)
            for (int64_t j = 0; j < n; j++) to[j] += (double)((const float *)sums)[i * p->N + j];
        else
            for (int64_t j = 0; j < n; j++) to[j] += ((const double *)sums)[i * p->N + j];
    }
}

/* The parts of strip `strip`: it begins on the diagonal. */
static int64_t parts_of(const job *g, int64_t strip) {
    return (g->N - strip * g->width + g->height - 1) / g->height;
}

/* Part number `index`, counted strip by strip. */
static void run_part(void *context, int64_t index) {
    const job *g = context;
    int64_t strip = 0;
    for (; index >= parts_of(g, strip); strip++) index -= parts_of(g, strip);
    part p = {.j0 = strip * g->width};
    p.N = lc_min(g->width, g->N - p.j0);
    p.i0 = p.j0 + index * g->height;
    p.M = lc_min(g->height, g->N - p.i0);
    _Alignas(64) char sums[(size_t)TALLEST * WIDEST * sizeof(float)];
    for (int64_t k = 0; k < g->K; k += SECTION) {
        multiply(g, &p, k, lc_min(SECTION, g->K - k), sums);
        add(g, &p, sums);
    }
}

static int64_t round_up(int64_t n, int64_t step) {
    return (n + step - 1) / step * step;
}

lc_status lc_gram_add(lc_dtype dtype, int64_t N, int64_t K, const void *X, int64_t ldx, double *H) {
    if (dtype != LC_F32 && dtype != LC_F64)
        return lc_fail(LC_EDTYPE, "gram: needs f32 or f64, got %s", lc_dtype_name(dtype));
    if (lc_max(N, ldx) > INT_MAX / 2) return lc_fail(LC_ESHAPE, "gram: %lld columns are too many", (long long)N);
    job g = {.dtype = dtype, .size = lc_dtype_size(dtype), .N = N, .K = K, .X = X, .ldx = ldx, .H = H};
    LC_TRY(lc_blas_open(&g.blas));
    g.own = dtype == LC_F32 && N >= 16 && K >= 16 && lc_gemm_has_own_kernel();
    g.width = N <= 128 ? lc_max(N, 1) : lc_min(WIDEST, round_up((N + 3) / 4, PANEL));
    g.height = TALLEST * (int64_t)sizeof(float) / (int64_t)g.size;
    int64_t parts = 0;
    for (int64_t strip = 0; strip * g.width < N; strip++) parts += parts_of(&g, strip);
    LC_TRY(lc_parallel(parts, run_part, &g));
    lc_macs_add((uint64_t)N * (uint64_t)(N + 1) / 2 * (uint64_t)K);
    return LC_OK;
}

/* -- the other triangle -------------------------------------------------------------------------------------------- */

/* Rows [begin, end) of the upper triangle, block by block so that both sides stay in the cache. */
static void mirror_rows(void *context, int64_t begin, int64_t end) {
    const job *g = context;
    for (int64_t block = begin; block < g->N; block += 32)
        for (int64_t i = begin; i < end; i++)
            for (int64_t j = lc_max(block, i + 1); j < lc_min(block + 32, g->N); j++)
                g->H[i * g->N + j] = g->H[j * g->N + i];
}

lc_status lc_gram_mirror(int64_t N, double *H) {
    job g = {.N = N, .H = H};
    return lc_parallel_range(N, 32, mirror_rows, &g);
}
