/* gemm.h: matrix products on all threads, with the same bits at any number of them.
 *
 * The output is cut into tiles whose sizes depend on the shape alone; each tile is done on one thread over the
 * whole inner dimension, so that no sum is ever split by the number of threads. Between tiles the cancel flag is
 * polled. Row-major throughout: a matrix is a pointer and the distance between its rows, in elements. f32 and f64. */
#ifndef LC_GEMM_H
#define LC_GEMM_H

#include "tensor/dtype.h"

/* C = alpha op(A) op(B) + beta C with op(A) (M, K), op(B) (K, N), C (M, N); op transposes what is stored where trans_
 * says so. With beta = 0, C is only written. C must not overlap A or B. Counts its multiply-adds (lc_macs_add).
 * LC_EDTYPE unless f32 or f64. */
lc_status lc_gemm(lc_dtype dtype, bool trans_a, bool trans_b, int64_t M, int64_t N, int64_t K, double alpha,
                  const void *A, int64_t lda, const void *B, int64_t ldb, double beta, void *C, int64_t ldc);

/* H (N, N) += X^T X for X (K, N), f32 or f64, at half the work of a product: only the lower triangle of H is written.
 * Products run in X's type over 4096 rows at most; their sums are added in f64, so that many calls lose nothing. H must
 * not overlap X. Counts its multiply-adds. ops/gram.c */
lc_status lc_gram_add(lc_dtype dtype, int64_t N, int64_t K, const void *X, int64_t ldx, double *H);
/* Writes the upper triangle of H (N, N) from the lower one. */
lc_status lc_gram_mirror(int64_t N, double *H);

/* y[i] += a x[i] for i < n, f32 or f64, on the calling thread. */
void lc_axpy(lc_dtype dtype, int64_t n, double a, const void *x, void *y);

/* Called for each finished tile, rows [i0, i1) and columns [j0, j1) of product number `batch`, while it is still in
 * cache. */
typedef void (*lc_epilogue)(void *context, int64_t batch, int64_t i0, int64_t i1, int64_t j0, int64_t j1);

/* One or many products of one shape. */
typedef struct lc_product {
    lc_dtype dtype;
    bool trans_a, trans_b;
    int64_t M, N, K;
    double alpha, beta;
    const void *A, *B;
    void *C;
    int64_t lda, ldb, ldc;
    int64_t batches;                   /* 1 or more */
    const int64_t *at_a, *at_b, *at_c; /* each batch's offsets in elements; NULL: all 0 */
    lc_epilogue epilogue;              /* NULL: none */
    void *context;
} lc_product;

lc_status lc_products(const lc_product *p);

/* Do f32 products on this CPU run by gemm_avx512.c, and by the library only where they are small? */
bool lc_gemm_has_own_kernel(void);

#endif
