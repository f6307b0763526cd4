/* factor.c: U with A^-1 = U^T U.
 *
 * With R R^T = A for an upper R, U = R^-1: one factorisation and one triangular inverse, half the work of inverting A
 * and factoring that. R is what Cholesky gives when it starts from the last row; a matrix whose rows and columns are
 * counted from the end is its memory read backwards. So: reverse, L L^T, L^-1, reverse. Both steps go block by block,
 * with products of blocks in parallel. */
#include "ops/factor.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/pool.h"
#include "ops/blas.h"
#include "ops/op.h"

enum { BLOCK = 192 };

typedef struct job {
    const lc_blas *blas;
    int64_t n;
    double *A;
    int64_t k, width; /* the block at hand: its first row, and how many */
    double *row;      /* (width, k) */
} job;

static double *at(const job *j, int64_t row, int64_t column) {
    return j->A + row * j->n + column;
}

/* C (M, N) += alpha A op(B) */
static void multiply(const job *j, int trans_b, int64_t M, int64_t N, int64_t K, double alpha, const double *A,
                     const double *B, double *C, int64_t ldc) {
    j->blas->dgemm(LC_BLAS_ROW_MAJOR, LC_BLAS_NO_TRANS, trans_b, (int)M, (int)N, (int)K, alpha, A, (int)j->n, B,
                   (int)j->n, 1, C, (int)ldc);
}

static void reverse(double *a, int64_t n) {
    for (int64_t i = 0, k = n - 1; i < k; i++, k--) {
        double t = a[i];
        a[i] = a[k];
        a[k] = t;
    }
}

/* -- L L^T --------------------------------------------------------------------------------------------------------- */

/* Rows of L below the block. */
static void solve_panel(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    int64_t first = j->k + j->width;
    j->blas->dtrsm(LC_BLAS_ROW_MAJOR, LC_BLAS_RIGHT, LC_BLAS_LOWER, LC_BLAS_TRANS, LC_BLAS_NON_UNIT, (int)(end - begin),
                   (int)j->width, 1, at(j, j->k, j->k), (int)j->n, at(j, first + begin, j->k), (int)j->n);
}

/* Takes the block's part off what lies below and to the right: tile number `index` of its lower triangle. */
static void update_tile(void *context, int64_t index) {
    const job *j = context;
    int64_t row = 0, first = j->k + j->width;
    while (index > row) index -= ++row;
    int64_t i0 = first + row * BLOCK, k0 = first + index * BLOCK;
    multiply(j, LC_BLAS_TRANS, lc_min(BLOCK, j->n - i0), lc_min(BLOCK, j->n - k0), j->width, -1, at(j, i0, j->k),
             at(j, k0, j->k), at(j, i0, k0), j->n);
}

/* A row-major lower triangle is LAPACK's upper one. The library lets NaN pass: the diagonal is checked. */
static int64_t factor_block(const job *j) {
    int size = (int)j->width, stride = (int)j->n, failed = 0;
    j->blas->dpotrf("U", &size, at(j, j->k, j->k), &stride, &failed);
    if (failed) return j->k + failed - 1;
    for (int64_t i = j->k; i < j->k + j->width; i++)
        if (!(*at(j, i, i) > 0 && isfinite(*at(j, i, i)))) return i;
    return -1;
}

static lc_status factor(job *j, int64_t *row) {
    for (j->k = 0; j->k < j->n; j->k += BLOCK) {
        j->width = lc_min(BLOCK, j->n - j->k);
        LC_TRY(lc_poll());
        *row = factor_block(j);
        if (*row >= 0) return LC_OK;
        int64_t below = j->n - j->k - j->width, tiles = (below + BLOCK - 1) / BLOCK;
        LC_TRY(lc_parallel_range(below, BLOCK / 2, solve_panel, j));
        LC_TRY(lc_parallel(tiles * (tiles + 1) / 2, update_tile, j));
    }
    return LC_OK;
}

/* -- L^-1 ---------------------------------------------------------------------------------------------------------- */

/* The inverse's rows above the block are there. With D the block on the diagonal, those of the block are -D^-1 (L X),
 * columns [c, c + BLOCK) of them here; row holds L, X's place in A gets the result. */
static void invert_columns(void *context, int64_t index) {
    const job *j = context;
    int64_t c = index * BLOCK, columns = lc_min(BLOCK, j->k - c);
    for (int64_t i = 0; i < j->width; i++) memset(at(j, j->k + i, c), 0, (size_t)columns * sizeof(double));
    j->blas->dgemm(LC_BLAS_ROW_MAJOR, LC_BLAS_NO_TRANS, LC_BLAS_NO_TRANS, (int)j->width, (int)columns, (int)(j->k - c),
                   -1, j->row + c, (int)j->k, at(j, c, c), (int)j->n, 0, at(j, j->k, c), (int)j->n);
    j->blas->dtrsm(LC_BLAS_ROW_MAJOR, LC_BLAS_LEFT, LC_BLAS_LOWER, LC_BLAS_NO_TRANS, LC_BLAS_NON_UNIT, (int)j->width,
                   (int)columns, 1, at(j, j->k, j->k), (int)j->n, at(j, j->k, c), (int)j->n);
}

/* The inverse of the block on the diagonal, by substitution; row is free to work in. */
static void invert_block(const job *j) {
    double *X = j->row;
    int64_t w = j->width;
    memset(X, 0, (size_t)(w * w) * sizeof *X);
    for (int64_t i = 0; i < w; i++) X[i * (w + 1)] = 1;
    j->blas->dtrsm(LC_BLAS_ROW_MAJOR, LC_BLAS_LEFT, LC_BLAS_LOWER, LC_BLAS_NO_TRANS, LC_BLAS_NON_UNIT, (int)w, (int)w,
                   1, at(j, j->k, j->k), (int)j->n, X, (int)w);
    for (int64_t i = 0; i < w; i++) memcpy(at(j, j->k + i, j->k), X + i * w, (size_t)w * sizeof *X);
}

static lc_status invert(job *j) {
    for (j->k = 0; j->k < j->n; j->k += BLOCK) {
        j->width = lc_min(BLOCK, j->n - j->k);
        for (int64_t i = 0; i < j->width; i++)
            memcpy(j->row + i * j->k, at(j, j->k + i, 0), (size_t)j->k * sizeof(double));
        LC_TRY(lc_parallel(j->k / BLOCK, invert_columns, j));
        invert_block(j);
    }
    return LC_OK;
}

/* -- both ---------------------------------------------------------------------------------------------------------- */

lc_status lc_inverse_factor(int64_t n, double *A, int64_t *row) {
    job j = {.n = n, .A = A};
    size_t bytes = (size_t)(BLOCK * (n + BLOCK)) * sizeof(double);
    LC_TRY(lc_blas_open(&j.blas));
    if (!(j.row = lc_buffer_new(bytes))) return LC_ENOMEM;
    *row = -1;
    for (int64_t i = 0; i < n; i++) /* so that its lower triangle is there when read backwards */
        for (int64_t k = 0; k < i; k++) A[k * n + i] = A[i * n + k];
    reverse(A, n * n);
    lc_status status = factor(&j, row);
    if (!status && *row < 0) {
        for (int64_t i = 0; i < n; i++) memset(at(&j, i, i + 1), 0, (size_t)(n - i - 1) * sizeof(double));
        status = invert(&j);
        reverse(A, n * n);
    }
    lc_buffer_free(j.row, bytes);
    return status;
}
