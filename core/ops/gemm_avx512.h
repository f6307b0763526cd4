/* gemm_avx512.h: the kernels of f32 products on CPUs with AVX-512. Private to core/ops. */
#ifndef LC_GEMM_AVX512_H
#define LC_GEMM_AVX512_H

#include <stdbool.h>
#include <stdint.h>

/* May lc_sgemm_avx512 be called on this CPU? */
bool lc_has_avx512(void);

/* C = alpha op(A) op(B) + beta C as lc_gemm says, on the calling thread; M, N, K > 0. */
void lc_sgemm_avx512(bool trans_a, bool trans_b, int64_t M, int64_t N, int64_t K, float alpha, const float *A,
                     int64_t lda, const float *B, int64_t ldb, float beta, float *C, int64_t ldc);

/* C (M, N) = A^T B for parts A (K, M) and B (K, N) of one matrix whose rows lie `ld` apart. Only column j of row i with
 * j <= i + diagonal is needed; what is right of it may be left as it was. */
void lc_sgram_avx512(int64_t M, int64_t N, int64_t K, int64_t diagonal, const float *A, const float *B, int64_t ld,
                     float *C);

/* y = alpha x op(B) + beta y on the calling thread, for x (K) and y (N): B stored as rows (N, K), or as columns (K, N). */
void lc_sgemv_rows_avx512(int64_t N, int64_t K, float alpha, const float *x, const float *B, int64_t ldb, float beta,
                          float *y);
void lc_sgemv_columns_avx512(int64_t N, int64_t K, float alpha, const float *x, const float *B, int64_t ldb, float beta,
                             float *y);

#endif
