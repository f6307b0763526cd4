/* gram.c: H += X^T X, the sum over tokens that calibration is made of: tiles of the lower triangle on all threads.
 *
 * A tile is summed in X's type in a buffer that stays in the cache, and added to H in f64 every SECTION rows. On the
 * diagonal a tile is cut into strips, each as wide as its part of the triangle. */
#include "base/memory.h"
#include "base/pool.h"
#include "ops/blas.h"
#include "ops/gemm.h"
#include "ops/gemm_avx512.h"
#include "ops/op.h"

#include <limits.h>

enum {
    SECTION = 4096, /* rows of X that are summed in its own type */
    TILE = 384,     /* rows and columns of a tile, at most */
    PANEL = 48,     /* tiles are multiples of the f32 kernel's panels */
    STRIP = 96      /* rows of a diagonal tile done at once */
};

typedef struct job {
    lc_dtype dtype;
    size_t size; /* of an element of X */
    const lc_blas *blas;
    bool own; /* by lc_sgemm_avx512 */
    int64_t N, K, tile;
    const char *X;
    int64_t ldx;
    double *H;
} job;

static const void *at(const job *g, int64_t row, int64_t column) {
    return g->X + (size_t)(row * g->ldx + column) * g->size;
}

/* sums (M, N) = X[k0.., i0..]^T X[k0.., j0..] over K rows. */
static void multiply(const job *g, int64_t k0, int64_t K, int64_t i0, int64_t M, int64_t j0, int64_t N, void *sums) {
    const void *A = at(g, k0, i0), *B = at(g, k0, j0);
    if (g->own)
        lc_sgemm_avx512(true, false, M, N, K, 1, A, g->ldx, B, g->ldx, 0, sums, N);
    else if (g->dtype == LC_F32)
        g->blas->sgemm(LC_BLAS_ROW_MAJOR, LC_BLAS_TRANS, LC_BLAS_NO_TRANS, (int)M, (int)N, (int)K, 1, A, (int)g->ldx, B,
                       (int)g->ldx, 0, sums, (int)N);
    else
        g->blas->dgemm(LC_BLAS_ROW_MAJOR, LC_BLAS_TRANS, LC_BLAS_NO_TRANS, (int)M, (int)N, (int)K, 1, A, (int)g->ldx, B,
                       (int)g->ldx, 0, sums, (int)N);
}

/* Adds what lies in the lower triangle. */
static void add(const job *g, int64_t i0, int64_t M, int64_t j0, int64_t N, const void *sums) {
    for (int64_t i = 0; i < M; i++) {
        double *to = g->H + (i0 + i) * g->N + j0;
        int64_t n = lc_min(N, i0 + i - j0 + 1);
        if (g->dtype == LC_F32)
            for (int64_t j = 0; j < n; j++) to[j] += (double)((const float *)sums)[i * N + j];
        else
            for (int64_t j = 0; j < n; j++) to[j] += ((const double *)sums)[i * N + j];
    }
}

static void run_strip(const job *g, int64_t i0, int64_t M, int64_t j0, int64_t N, void *sums) {
    for (int64_t k = 0; k < g->K; k += SECTION) {
        multiply(g, k, lc_min(SECTION, g->K - k), i0, M, j0, N, sums);
        add(g, i0, M, j0, N, sums);
    }
}

/* Tile number `index` of the lower triangle, counted row by row. */
static void run_tile(void *context, int64_t index) {
    const job *g = context;
    int64_t row = 0;
    while (index > row) index -= ++row;
    int64_t i0 = row * g->tile, i1 = lc_min(i0 + g->tile, g->N), j0 = index * g->tile;
    _Alignas(64) char sums[TILE * TILE * sizeof(double)];
    if (i0 != j0) {
        run_strip(g, i0, i1 - i0, j0, lc_min(g->tile, g->N - j0), sums);
        return;
    }
    for (int64_t i = i0; i < i1; i += STRIP) {
        int64_t end = lc_min(i + STRIP, i1);
        run_strip(g, i, end - i, j0, end - j0, sums);
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
    g.tile = N <= 128 ? lc_max(N, 1) : lc_min(TILE, round_up((N + 3) / 4, PANEL));
    int64_t tiles = (N + g.tile - 1) / g.tile;
    LC_TRY(lc_parallel(tiles * (tiles + 1) / 2, run_tile, &g));
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
