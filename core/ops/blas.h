/* blas.h: the BLAS library, opened when a product is first asked for.
 *
 * OpenBLAS is opened with dlopen, so that a program that multiplies nothing starts fast, and always with one thread:
 * lc_parallel is the only source of threads (see gemm.h). Before opening, OPENBLAS_NUM_THREADS and OMP_NUM_THREADS are
 * set to 1 for the process, and OPENBLAS_CORETYPE to the fastest kernels this CPU can run: a preset, or a CPU newer
 * than the library, may otherwise halve the rate. */
#ifndef LC_BLAS_H
#define LC_BLAS_H

#include "base/status.h"

/* Values of the CBLAS interface. */
enum { LC_BLAS_ROW_MAJOR = 101, LC_BLAS_NO_TRANS = 111, LC_BLAS_TRANS = 112, LC_BLAS_UPPER = 121, LC_BLAS_LOWER = 122 };
enum { LC_BLAS_NON_UNIT = 131, LC_BLAS_UNIT = 132, LC_BLAS_LEFT = 141, LC_BLAS_RIGHT = 142 };

/* Row-major CBLAS, and of LAPACK (column-major, by address) Cholesky factors, inverses by LU and eigenvectors. All run
 * on the calling thread alone. */
typedef struct lc_blas {
    void (*sgemm)(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a, int lda,
                  const float *b, int ldb, float beta, float *c, int ldc);
    void (*dgemm)(int order, int trans_a, int trans_b, int m, int n, int k, double alpha, const double *a, int lda,
                  const double *b, int ldb, double beta, double *c, int ldc);
    void (*sgemv)(int order, int trans, int m, int n, float alpha, const float *a, int lda, const float *x, int incx,
                  float beta, float *y, int incy);
    void (*dgemv)(int order, int trans, int m, int n, double alpha, const double *a, int lda, const double *x, int incx,
                  double beta, double *y, int incy);
    void (*ssyrk)(int order, int uplo, int trans, int n, int k, float alpha, const float *a, int lda, float beta,
                  float *c, int ldc);
    void (*dsyrk)(int order, int uplo, int trans, int n, int k, double alpha, const double *a, int lda, double beta,
                  double *c, int ldc);
    void (*strsm)(int order, int side, int uplo, int trans, int diag, int m, int n, float alpha, const float *a,
                  int lda, float *b, int ldb);
    void (*dtrsm)(int order, int side, int uplo, int trans, int diag, int m, int n, double alpha, const double *a,
                  int lda, double *b, int ldb);
    void (*spotrf)(const char *uplo, const int *n, float *a, const int *lda, int *info);
    void (*dpotrf)(const char *uplo, const int *n, double *a, const int *lda, int *info);
    void (*sgetrf)(const int *m, const int *n, float *a, const int *lda, int *pivots, int *info);
    void (*dgetrf)(const int *m, const int *n, double *a, const int *lda, int *pivots, int *info);
    void (*sgetri)(const int *n, float *a, const int *lda, const int *pivots, float *work, const int *lwork, int *info);
    void (*dgetri)(const int *n, double *a, const int *lda, const int *pivots, double *work, const int *lwork,
                   int *info);
    void (*dsyevd)(const char *jobz, const char *uplo, const int *n, double *a, const int *lda, double *w, double *work,
                   const int *lwork, int *iwork, const int *liwork, int *info);
} lc_blas;

/* The library's functions; opens it at the first call, which belongs to the main thread. LC_ENOTFOUND names the missing
 * package. */
lc_status lc_blas_open(const lc_blas **out);

/* True: leave OPENBLAS_CORETYPE as the environment has it. LC_ESTATE once the library is open. Default false. */
lc_status lc_blas_keep_environment(bool keep);

typedef struct lc_blas_info {
    const char *library; /* path of the opened file */
    const char *config;  /* what the library says of its build */
    const char *core;    /* the kernels it runs, such as "SkylakeX" */
    const char *chosen;  /* OPENBLAS_CORETYPE as set here; NULL: the library's or the environment's choice */
    const char *preset;  /* OPENBLAS_CORETYPE as found in the environment; NULL if it was unset */
} lc_blas_info;

/* Opens the library if need be. The texts live as long as the process. */
lc_status lc_blas_describe(lc_blas_info *out);

#endif
