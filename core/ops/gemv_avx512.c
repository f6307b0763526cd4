/* gemv_avx512.c: a vector times a matrix in f32 on one thread, for CPUs with AVX-512. Bound by reading the matrix: what
 * counts is how many of its lines are on their way at once. */
#include "ops/gemm_avx512.h"

#include <immintrin.h>

#ifdef __clang__ /* the fuzzers' compiler */
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma,prefer-vector-width=512")
#pragma GCC optimize("O3")
#endif

enum {
    TOGETHER = 2,      /* rows of B that are multiplied with x side by side */
    AHEAD = 3072,      /* numbers between what is multiplied and what is fetched: 12 KiB */
    ROWS_AT_A_TIME = 8 /* rows of B that are added to y in one go */
};

/* -- y_n = x . B_n ----------------------------------------------------------------------------- */

/* `rows` products, up to TOGETHER; `rows` is known where this is expanded. */
static inline __attribute__((always_inline)) void multiply_rows(int rows, int64_t K, float alpha, const float *x,
                                                                const float *B, int64_t ldb, float beta, float *y) {
    __m512 sum[TOGETHER][2];
    const float *b[TOGETHER];
    for (int r = 0; r < rows; r++) {
        sum[r][0] = sum[r][1] = _mm512_setzero_ps();
        b[r] = B + r * ldb;
    }
    for (int64_t k = 0; k < K; k += 32) {
        int64_t left = K - k;
        __mmask16 first = left >= 16 ? 0xffff : (__mmask16)((1u << left) - 1),
                  second = left >= 32   ? 0xffff
                           : left <= 16 ? 0
                                        : (__mmask16)((1u << (left - 16)) - 1);
        __m512 low = _mm512_maskz_loadu_ps(first, x + k), high = _mm512_maskz_loadu_ps(second, x + k + 16);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            _mm_prefetch((const char *)(b[r] + k + AHEAD), _MM_HINT_T0);
            _mm_prefetch((const char *)(b[r] + k + AHEAD + 16), _MM_HINT_T0);
            sum[r][0] = _mm512_fmadd_ps(low, _mm512_maskz_loadu_ps(first, b[r] + k), sum[r][0]);
            sum[r][1] = _mm512_fmadd_ps(high, _mm512_maskz_loadu_ps(second, b[r] + k + 16), sum[r][1]);
        }
    }
    for (int r = 0; r < rows; r++) {
        float product = alpha * _mm512_reduce_add_ps(_mm512_add_ps(sum[r][0], sum[r][1]));
        y[r] = beta == 0 ? product : beta * y[r] + product;
    }
}

void lc_sgemv_rows_avx512(int64_t N, int64_t K, float alpha, const float *x, const float *B, int64_t ldb, float beta,
                          float *y) {
    int64_t n = 0;
    for (; n + TOGETHER <= N; n += TOGETHER) multiply_rows(TOGETHER, K, alpha, x, B + n * ldb, ldb, beta, y + n);
    for (; n < N; n++) multiply_rows(1, K, alpha, x, B + n * ldb, ldb, beta, y + n);
}

/* -- y = sum of x_k B_k ------------------------------------------------------------------------ */

/* y += the first `rows` of x_k B_k; `rows` is known where this is expanded. */
static inline __attribute__((always_inline)) void add_rows(int rows, int64_t N, float alpha, const float *x,
                                                           const float *B, int64_t ldb, float *y) {
    __m512 factor[ROWS_AT_A_TIME];
    for (int r = 0; r < rows; r++) factor[r] = _mm512_set1_ps(alpha * x[r]);
    for (int64_t n = 0; n < N; n += 16) {
        __mmask16 there = N - n >= 16 ? 0xffff : (__mmask16)((1u << (N - n)) - 1);
        __m512 sum = _mm512_setzero_ps();
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
            sum = _mm512_fmadd_ps(factor[r], _mm512_maskz_loadu_ps(there, B + r * ldb + n), sum);
        _mm512_mask_storeu_ps(y + n, there, _mm512_add_ps(_mm512_maskz_loadu_ps(there, y + n), sum));
    }
}

void lc_sgemv_columns_avx512(int64_t N, int64_t K, float alpha, const float *x, const float *B, int64_t ldb, float beta,
                             float *y) {
    for (int64_t n = 0; beta != 1 && n < N; n++) y[n] = beta == 0 ? 0 : beta * y[n];
    int64_t k = 0;
    for (; k + ROWS_AT_A_TIME <= K; k += ROWS_AT_A_TIME) add_rows(ROWS_AT_A_TIME, N, alpha, x + k, B + k * ldb, ldb, y);
    for (; k < K; k++) add_rows(1, N, alpha, x + k, B + k * ldb, ldb, y);
}

#ifdef __clang__
#pragma clang attribute pop
#endif
