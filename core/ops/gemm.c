/* gemm.c: cuts products into tiles, and runs each tile by the library, or in f32 on CPUs with AVX-512 by gemm_avx512.c.
 */
#include "ops/gemm.h"

#include "base/memory.h"
#include "base/pool.h"
#include "ops/blas.h"
#include "ops/cpu/simd.h"
#include "ops/gemm_avx512.h"
#include "ops/op.h"

#include <limits.h>

/* In multiply-adds. Below SMALL a product is not worth waking a second thread. Products are cut further until a tile is
 * down to TILE, as long as the tiles stay so wide that packing is cheap: the library packs both operands anew for each.
 * No tile is above LONGEST, so that Ctrl-C is answered at once. */
#define SMALL 1e6
#define SMALL_READ 0.1e6 /* where a matrix is only read once: each multiply-add costs four bytes of it */
#define TILE 0.1e9
#define LONGEST 2e9
/* Of a tile's packing, as choose_grid counts it: 256 x 768 is the smallest that runs at nearly full rate. */
#define MOST_PACKING 0.0066
/* Up to this many rows a product is bound by reading B: each row is a matrix-vector product over strips that stay in
 * the cache. */
#define FEW_ROWS 4
#define STRIP_BYTES (256 << 10)
#define STRIP_COLUMNS 512 /* of B stored (K, N): narrower rows are read slower */
/* A product much deeper than its result is large is cut along the inner dimension, into at most this many partial
 * products; they are added in their order, which depends on the shape alone as well. */
#define MOST_DEEP 8

typedef struct job {
    const lc_product *p;
    const lc_blas *blas;
    size_t size;          /* of an element */
    int64_t rows, cols;   /* of a tile */
    int64_t down, across; /* tiles of one product */
    bool vectors;         /* a tile is done row by row, with matrix-vector products */
    bool own;             /* by lc_sgemm_avx512 */
    int64_t deep, depth;  /* partial products, and the inner dimension of each; deep 0: not cut */
    void *partial;        /* (deep, M, N) */
} job;

static const void *at(const void *base, size_t size, int64_t index) {
    return (const char *)base + (int64_t)size * index;
}

static int64_t round_up(int64_t n, int64_t step) {
    return (n + step - 1) / step * step;
}

static void gemm(const job *j, int M, int N, int K, const void *A, const void *B, double beta, void *C, int64_t ldc) {
    const lc_product *p = j->p;
    if (j->own) {
        lc_sgemm_avx512(p->trans_a, p->trans_b, M, N, K, (float)p->alpha, A, p->lda, B, p->ldb, (float)beta, C, ldc);
        return;
    }
    int ta = p->trans_a ? LC_BLAS_TRANS : LC_BLAS_NO_TRANS, tb = p->trans_b ? LC_BLAS_TRANS : LC_BLAS_NO_TRANS;
    if (p->dtype == LC_F32)
        j->blas->sgemm(LC_BLAS_ROW_MAJOR, ta, tb, M, N, K, (float)p->alpha, A, (int)p->lda, B, (int)p->ldb, (float)beta,
                       C, (int)ldc);
    else
        j->blas->dgemm(LC_BLAS_ROW_MAJOR, ta, tb, M, N, K, p->alpha, A, (int)p->lda, B, (int)p->ldb, beta, C, (int)ldc);
}

/* One row of A times a part of B, rows or columns of B as they are stored: y (N) += or = x (K) op(B). */
static void gemv(const job *j, int N, int K, const void *x, int step, const void *B, double beta, void *y) {
    const lc_product *p = j->p;
    int trans = p->trans_b ? LC_BLAS_NO_TRANS : LC_BLAS_TRANS, m = p->trans_b ? N : K, n = p->trans_b ? K : N;
    if (p->dtype == LC_F64)
        j->blas->dgemv(LC_BLAS_ROW_MAJOR, trans, m, n, p->alpha, B, (int)p->ldb, x, step, beta, y, 1);
    else if (!j->own || step != 1)
        j->blas->sgemv(LC_BLAS_ROW_MAJOR, trans, m, n, (float)p->alpha, B, (int)p->ldb, x, step, (float)beta, y, 1);
    else
        (p->trans_b ? lc_sgemv_rows_avx512 : lc_sgemv_columns_avx512)(N, K, (float)p->alpha, x, B, p->ldb, (float)beta,
                                                                      y);
}

/* A tile with few rows: each in turn meets a part of B that stays in the cache until the last has. */
static void gemv_rows(const job *j, int M, int N, const void *A, const void *B, void *C) {
    const lc_product *p = j->p;
    int64_t depth = M == 1 ? p->K : lc_min(p->K, round_up(STRIP_BYTES / ((int64_t)j->size * N), 8));
    for (int64_t k = 0; k < p->K; k += depth)
        for (int i = 0; i < M; i++)
            gemv(j, N, (int)lc_min(depth, p->K - k), at(A, j->size, p->trans_a ? k * p->lda + i : i * p->lda + k),
                 p->trans_a ? (int)p->lda : 1, at(B, j->size, p->trans_b ? k : k * p->ldb), k == 0 ? p->beta : 1,
                 (void *)at(C, j->size, i * p->ldc));
}

static void run_tile(void *context, int64_t index) {
    const job *j = context;
    const lc_product *p = j->p;
    int64_t batch = index / (j->down * j->across), tile = index % (j->down * j->across);
    int64_t i0 = tile / j->across * j->rows, i1 = lc_min(i0 + j->rows, p->M);
    int64_t j0 = tile % j->across * j->cols, j1 = lc_min(j0 + j->cols, p->N);
    const void *A = at(p->A, j->size, (p->at_a ? p->at_a[batch] : 0) + (p->trans_a ? i0 : i0 * p->lda));
    const void *B = at(p->B, j->size, (p->at_b ? p->at_b[batch] : 0) + (p->trans_b ? j0 * p->ldb : j0));
    void *C = (void *)at(p->C, j->size, (p->at_c ? p->at_c[batch] : 0) + i0 * p->ldc + j0);
    if (j->vectors)
        gemv_rows(j, (int)(i1 - i0), (int)(j1 - j0), A, B, C);
    else
        gemm(j, (int)(i1 - i0), (int)(j1 - j0), (int)p->K, A, B, p->beta, C, p->ldc);
    if (p->epilogue) p->epilogue(p->context, batch, i0, i1, j0, j1);
}

static void run_tiles(void *context, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) run_tile(context, i);
}

/* What packing costs a tile for each multiply-add: its part of A is packed once for each column strip and of B once for
 * each row strip. Wide tiles suit the library better than tall ones, by a factor of about two; the own kernel packs A
 * only where it is stored transposed, and else reads it again for each column strip. */
static double packing(const job *j, int64_t rows, int64_t cols) {
    return 1.0 / (double)rows + (!j->own ? 2.0 : j->p->trans_a ? 1.0 : 0.1) / (double)cols;
}

/* Of the grids with `count` tiles, the one that packs least. */
static double choose_grid(const job *j, int64_t count, int64_t *rows, int64_t *cols) {
    const lc_product *p = j->p;
    double best = 1e300;
    for (int64_t down = 1; down <= count; down *= 2) {
        int64_t across = count / down;
        int64_t r = lc_min(p->M, round_up((p->M + down - 1) / down, 16));
        int64_t c = lc_min(p->N, round_up((p->N + across - 1) / across, 48));
        int64_t tiles = ((p->M + r - 1) / r) * ((p->N + c - 1) / c);
        if (tiles * 8 < count * 7 || packing(j, r, c) >= best)
            continue; /* rounding left too few to share, or no gain */
        best = packing(j, r, c);
        *rows = r;
        *cols = c;
    }
    return best;
}

static void choose_tiles(job *j) {
    const lc_product *p = j->p;
    double work = (double)p->M * (double)p->N * (double)p->K;
    j->rows = p->M;
    j->cols = p->N;
    j->vectors = p->M <= FEW_ROWS && p->K > 0;
    if (j->vectors) {
        j->cols = p->trans_b ? round_up(STRIP_BYTES / ((int64_t)j->size * lc_max(p->K, 1)), 32) + 32
                             : lc_min(STRIP_COLUMNS, round_up((p->N + 1) / 2, 16));
    } else if (work > 2 * SMALL) {
        int64_t rows, cols, first = p->batches > 1 ? 1 : 2;
        for (int64_t count = first; count == first || work > TILE * (double)count; count *= 2) {
            double cost = choose_grid(j, count, &rows, &cols);
            if (cost > 1e9 || (cost > MOST_PACKING && count > first && work < LONGEST * (double)count)) break;
            j->rows = rows;
            j->cols = cols;
        }
    }
    j->down = (p->M + j->rows - 1) / j->rows;
    j->across = (p->N + j->cols - 1) / j->cols;
}

/* -- deep products ----------------------------------------------------------------------------- */

static bool is_deep(const lc_product *p) {
    double work = (double)p->M * (double)p->N * (double)p->K;
    return p->batches == 1 && !p->epilogue && p->M > FEW_ROWS && p->K > 16 * lc_max(p->M, p->N) && work > 4 * SMALL;
}

static void run_partial(void *context, int64_t index) {
    const job *j = context;
    const lc_product *p = j->p;
    int64_t k0 = index * j->depth, k1 = lc_min(k0 + j->depth, p->K);
    const void *A = at(p->A, j->size, p->trans_a ? k0 * p->lda : k0),
               *B = at(p->B, j->size, p->trans_b ? k0 : k0 * p->ldb);
    gemm(j, (int)p->M, (int)p->N, (int)(k1 - k0), A, B, 0, (void *)at(j->partial, j->size, index * p->M * p->N), p->N);
}

#define ADD_PARTIALS(T)                                                                               \
    for (int64_t c = 0; c < N; c++) {                                                                 \
        T *to = (T *)p->C + i * p->ldc + c, sum = p->beta == 0 ? 0 : (T)p->beta * *to;                \
        for (int64_t k = 0; k < j->deep; k++) sum += ((const T *)j->partial)[(k * p->M + i) * N + c]; \
        *to = sum;                                                                                    \
    }

static void add_partials(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    const lc_product *p = j->p;
    int64_t N = p->N;
    for (int64_t i = begin; i < end; i++) {
        if (p->dtype == LC_F32)
            ADD_PARTIALS(float)
        else
            ADD_PARTIALS(double)
    }
}

static lc_status run_deep(job *j) {
    const lc_product *p = j->p;
    double work = (double)p->M * (double)p->N * (double)p->K;
    j->deep = lc_min(MOST_DEEP, lc_min(p->K / (4 * lc_max(p->M, p->N)), (int64_t)(work / SMALL)));
    j->depth = (p->K + j->deep - 1) / j->deep;
    j->deep = (p->K + j->depth - 1) / j->depth;
    size_t bytes = (size_t)(j->deep * p->M * p->N) * j->size;
    if (!(j->partial = lc_buffer_new(bytes))) return LC_ENOMEM;
    lc_status status = lc_parallel(j->deep, run_partial, j);
    if (!status) status = lc_parallel_range(p->M, 16, add_partials, j);
    lc_buffer_free(j->partial, bytes);
    return status;
}

/* For vectors, and where its rows and panels of columns are mostly full. Where the environment chose the library's
 * kernels, it chose for all products. */
static bool own_kernel(const lc_product *p) {
    bool full = p->M >= 16 && p->K >= 16 && (p->N >= 256 || p->N % 48 == 0);
    return p->dtype == LC_F32 && ((p->M <= FEW_ROWS && p->K > 0) || full) && lc_gemm_has_own_kernel();
}

bool lc_gemm_has_own_kernel(void) {
    lc_blas_info info;
    return lc_has_avx512() && lc_blas_describe(&info) == LC_OK && info.chosen;
}

static lc_status check(const lc_product *p) {
    if (p->dtype != LC_F32 && p->dtype != LC_F64)
        return lc_fail(LC_EDTYPE, "gemm: needs f32 or f64, got %s", lc_dtype_name(p->dtype));
    if (lc_max(p->M, lc_max(p->N, p->K)) > INT_MAX / 2 || lc_max(p->lda, lc_max(p->ldb, p->ldc)) > INT_MAX)
        return lc_fail(LC_ESHAPE, "gemm: a matrix of %lld x %lld x %lld is beyond the library's 32-bit sizes",
                       (long long)p->M, (long long)p->N, (long long)p->K);
    return LC_OK;
}

lc_status lc_products(const lc_product *given) {
    lc_product copy = *given;
    const lc_product *p = &copy;
    LC_TRY(check(p));
    if (p->M == 0 || p->N == 0 || p->batches == 0) return LC_OK;
    if (p->K == 0) { /* nothing of A and B is read, but BLAS refuses the strides that empty matrices may have */
        copy.trans_a = copy.trans_b = false;
        copy.lda = 1;
        copy.ldb = p->N;
    }
    job j = {.p = p, .size = lc_dtype_size(p->dtype)};
    LC_TRY(lc_blas_open(&j.blas));
    j.own = own_kernel(p);
    double work = (double)p->M * (double)p->N * (double)p->K * (double)p->batches;
    if (is_deep(p)) {
        LC_TRY(run_deep(&j));
    } else {
        choose_tiles(&j);
        int64_t count = p->batches * j.down * j.across;
        double each = work / (double)count, least = j.vectors ? SMALL_READ : SMALL;
        int64_t grain = each < least ? (int64_t)(least / (each + 1)) + 1 : 1;
        LC_TRY(lc_parallel_range(count, grain, run_tiles, &j));
    }
    lc_macs_add((uint64_t)work);
    return LC_OK;
}

lc_status lc_gemm(lc_dtype dtype, bool trans_a, bool trans_b, int64_t M, int64_t N, int64_t K, double alpha,
                  const void *A, int64_t lda, const void *B, int64_t ldb, double beta, void *C, int64_t ldc) {
    lc_product p = {.dtype = dtype,
                    .trans_a = trans_a,
                    .trans_b = trans_b,
                    .M = M,
                    .N = N,
                    .K = K,
                    .alpha = alpha,
                    .beta = beta,
                    .A = A,
                    .B = B,
                    .C = C,
                    .lda = lda,
                    .ldb = ldb,
                    .ldc = ldc,
                    .batches = 1};
    return lc_products(&p);
}

void lc_axpy(lc_dtype dtype, int64_t n, double a, const void *x, void *y) {
    if (dtype == LC_F32)
        lc_simd_get()->axpy(y, (float)a, x, n);
    else
        for (int64_t i = 0; i < n; i++) ((double *)y)[i] += a * ((const double *)x)[i];
}
