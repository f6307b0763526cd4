/* gemm_avx512.c: one tile of an f32 product on one thread, for CPUs with AVX-512.
 *
 * The library spends a fifth of its time on packing both operands. Here (after Goto and van de Geijn 2008, "Anatomy of
 * high-performance matrix multiplication", with the roles of the caches shifted) only a block of B is packed, DEPTH x
 * WIDTH, to stay in the second cache; rows of A are read where they lie, eight at a time, and copied only where A is
 * stored transposed. A sum runs along k in one register, so it does not depend on how a product is cut into tiles. */
#include "ops/gemm_avx512.h"

#include <immintrin.h>
#include <string.h>

bool lc_has_avx512(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

#ifdef __clang__ /* the fuzzers' compiler */
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma,prefer-vector-width=512")
#pragma GCC optimize("O3")
#endif

enum {
    ROWS = 8,    /* of C in registers: 8 x 3 vectors */
    PANEL = 48,  /* columns of C in registers */
    DEPTH = 384, /* inner dimension of a block */
    WIDTH = 384, /* columns of a block: with DEPTH, 576 KiB */
    TALL = 96    /* rows of A packed at a time, where it is stored transposed */
};

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* -- packing ----------------------------------------------------------------------------------- */

/* Rows of 16 floats become columns: blocks of 1, 2, 4 and 8 are exchanged across the diagonal. */
static inline __attribute__((always_inline)) void transpose_16(__m512 r[16]) {
#pragma GCC unroll 4
    for (int s = 1; s < 16; s *= 2) {
        int low[16], high[16];
        for (int l = 0; l < 16; l++) {
            low[l] = l & s ? l - s + 16 : l;
            high[l] = l & s ? l + 16 : l + s;
        }
        __m512i to_low = _mm512_loadu_si512(low), to_high = _mm512_loadu_si512(high);
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            if (i & s) continue;
            __m512 a = r[i], b = r[i | s];
            r[i] = _mm512_permutex2var_ps(a, to_low, b);
            r[i | s] = _mm512_permutex2var_ps(a, to_high, b);
        }
    }
}

/* 16 columns of a panel from B stored (N, K): columns n0.. of which `columns` exist, k < K. */
static void pack_turned_16(const float *B, int64_t ldb, int64_t columns, int64_t K, float *out) {
    int64_t k = 0;
    for (; columns == 16 && k + 16 <= K; k += 16) {
        __m512 r[16];
        for (int i = 0; i < 16; i++) r[i] = _mm512_loadu_ps(B + i * ldb + k);
        transpose_16(r);
        for (int i = 0; i < 16; i++) _mm512_store_ps(out + (k + i) * PANEL, r[i]);
    }
    for (; k < K; k++)
        for (int64_t i = 0; i < 16; i++) out[k * PANEL + i] = i < columns ? B[i * ldb + k] : 0;
}

/* op(B) (K, N), from its first element, into panels (N / PANEL, K, PANEL); columns past N are 0. */
static void pack_B(bool turned, const float *B, int64_t ldb, int64_t K, int64_t N, float *out) {
    int64_t whole = N / PANEL * PANEL;
    for (int64_t n = 0; turned && n < N; n += PANEL, out += K * PANEL) {
        int64_t columns = least(PANEL, N - n);
        for (int64_t i = 0; i < PANEL; i += 16)
            pack_turned_16(i < columns ? B + (n + i) * ldb : B, ldb, i < columns ? least(16, columns - i) : 0, K,
                           out + i);
    }
    for (int64_t k = 0; !turned && k < K; k++) {
        const float *row = B + k * ldb;
        for (int64_t n = 0; n < whole; n += 16)
            _mm512_store_ps(out + n / PANEL * PANEL * K + k * PANEL + n % PANEL, _mm512_loadu_ps(row + n));
        for (int64_t i = 0; whole < N && i < PANEL; i++)
            out[whole * K + k * PANEL + i] = whole + i < N ? row[whole + i] : 0;
    }
}

/* Floats from one group of ROWS packed rows to the next. Without the line between them a whole block's groups would meet
 * in one set of the first cache. */
static int64_t group_of(int64_t K) {
    return K * ROWS + 16;
}

/* Up to TALL rows of op(A) from A stored (K, M), into groups of (K, ROWS). */
static void pack_A(const float *A, int64_t lda, int64_t K, int64_t rows, float *out) {
    int64_t whole = rows / ROWS * ROWS, group = group_of(K);
    for (int64_t k = 0; k < K; k++) {
        float *to = out + k * ROWS;
        for (int64_t i = 0; i < whole; i += ROWS, to += group) memcpy(to, A + k * lda + i, sizeof *to * ROWS);
        for (int64_t i = whole; i < rows; i++) to[i - whole] = A[k * lda + i];
    }
}

/* -- the kernel -------------------------------------------------------------------------------- */

/* ROWS rows and `vectors` times 16 columns of C = alpha A B + beta C. a[i][k * step] is A(i, k); B is a panel.
 * `vectors` and `step` are known where this is expanded. */
static inline __attribute__((always_inline)) void multiply(int vectors, int64_t step, int64_t K,
                                                           const float *const a[ROWS], const float *B, float alpha,
                                                           float beta, float *C, int64_t ldc) {
    __m512 c[ROWS][3];
    const float *line = C;
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++, line += ldc) {
#pragma GCC unroll 3
        for (int j = 0; j < vectors; j++) {
            c[i][j] = _mm512_setzero_ps();
            __builtin_prefetch(line + 16 * j, 1);
        }
    }
#pragma GCC unroll 4
    for (int64_t k = 0; k < K; k++, B += PANEL) {
        __m512 b[3];
#pragma GCC unroll 3
        for (int j = 0; j < vectors; j++) b[j] = _mm512_load_ps(B + 16 * j);
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; i++) {
            __m512 x = _mm512_set1_ps(a[i][k * step]);
#pragma GCC unroll 3
            for (int j = 0; j < vectors; j++) c[i][j] = _mm512_fmadd_ps(x, b[j], c[i][j]);
        }
    }
    __asm__("" : "+r"(C)); /* its addresses are made again: kept since the prefetches, they would crowd the loop */
    __m512 by = _mm512_set1_ps(alpha), old = _mm512_set1_ps(beta);
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++, C += ldc) {
#pragma GCC unroll 3
        for (int j = 0; j < vectors; j++) {
            __m512 r = _mm512_mul_ps(by, c[i][j]);
            _mm512_storeu_ps(C + 16 * j, beta == 0 ? r : _mm512_fmadd_ps(old, _mm512_loadu_ps(C + 16 * j), r));
        }
    }
}

typedef void kernel(int64_t K, const float *const a[ROWS], const float *B, float alpha, float beta, float *C,
                    int64_t ldc);

/* Each a function of its own: expanded in one caller, they share its registers, and run a seventh slower. */
#define KERNEL(name, vectors, step)                                                                                \
    static __attribute__((noinline)) void name(int64_t K, const float *const a[ROWS], const float *B, float alpha, \
                                               float beta, float *C, int64_t ldc) {                                \
        multiply(vectors, step, K, a, B, alpha, beta, C, ldc);                                                     \
    }
KERNEL(rows_by_16, 1, 1)
KERNEL(rows_by_32, 2, 1)
KERNEL(rows_by_48, 3, 1)
KERNEL(packed_by_16, 1, ROWS)
KERNEL(packed_by_32, 2, ROWS)
KERNEL(packed_by_48, 3, ROWS)

static kernel *const kernels[2][3] = {{rows_by_16, rows_by_32, rows_by_48}, {packed_by_16, packed_by_32, packed_by_48}};

/* The widest kernel where only rows x columns exist: by way of a whole one. */
static void multiply_part(kernel *widest, int64_t K, const float *const a[ROWS], const float *B, float alpha,
                          float beta, float *C, int64_t ldc, int64_t rows, int64_t columns) {
    _Alignas(64) float whole[ROWS * PANEL];
    widest(K, a, B, alpha, 0, whole, PANEL);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) {
            float *to = C + i * ldc + j;
            *to = beta == 0 ? whole[i * PANEL + j] : beta * *to + whole[i * PANEL + j];
        }
}

/* `rows` (up to ROWS) rows of C against a block of B. The rows of A lie `distance` apart; `packed` as pack_A leaves
 * them. */
static void multiply_rows(bool packed, int64_t K, const float *A, int64_t distance, const float *B, float alpha,
                          float beta, float *C, int64_t ldc, int64_t rows, int64_t N) {
    const float *a[ROWS];
    for (int64_t i = 0; i < ROWS; i++) a[i] = A + least(i, rows - 1) * distance;
    for (int64_t n = 0; n < N; n += PANEL, B += K * PANEL) {
        int64_t columns = least(PANEL, N - n);
        if (rows == ROWS && columns % 16 == 0)
            kernels[packed][columns / 16 - 1](K, a, B, alpha, beta, C + n, ldc);
        else
            multiply_part(kernels[packed][2], K, a, B, alpha, beta, C + n, ldc, rows, columns);
    }
}

static void multiply_block(int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const float *B, float alpha,
                           float beta, float *C, int64_t ldc) {
    for (int64_t i = 0; i < M; i += ROWS)
        multiply_rows(false, K, A + i * lda, lda, B, alpha, beta, C + i * ldc, ldc, least(ROWS, M - i), N);
}

/* The same for A stored (K, M). Of row i at least the columns to i + diagonal. */
static void multiply_turned(int64_t M, int64_t N, int64_t K, int64_t diagonal, const float *A, int64_t lda,
                            const float *B, float alpha, float beta, float *C, int64_t ldc) {
    _Alignas(64) float packed[TALL * DEPTH + TALL / ROWS * 16];
    for (int64_t t = 0; t < M; t += TALL) {
        int64_t tall = least(TALL, M - t);
        if (t + tall + diagonal <= 0) continue;
        pack_A(A + t, lda, K, tall, packed);
        for (int64_t i = 0; i < tall; i += ROWS) {
            int64_t wanted = (t + i + ROWS + diagonal + 15) / 16 * 16;
            multiply_rows(true, K, packed + i / ROWS * group_of(K), 1, B, alpha, beta, C + (t + i) * ldc, ldc,
                          least(ROWS, tall - i), least(N, wanted));
        }
    }
}

/* n in equal parts of at most `most`, multiples of `unit`. */
static int64_t part_of(int64_t n, int64_t most, int64_t unit) {
    int64_t parts = (n + most - 1) / most, part = (n + parts - 1) / parts;
    return (part + unit - 1) / unit * unit;
}

void lc_sgemm_avx512(bool trans_a, bool trans_b, int64_t M, int64_t N, int64_t K, float alpha, const float *A,
                     int64_t lda, const float *B, int64_t ldb, float beta, float *C, int64_t ldc) {
    _Alignas(64) float packed[DEPTH * WIDTH];
    int64_t width = part_of(N, WIDTH, PANEL), depth = part_of(K, DEPTH, 16);
    for (int64_t n = 0; n < N; n += width)
        for (int64_t k = 0; k < K; k += depth) {
            int64_t columns = least(width, N - n), inner = least(depth, K - k);
            pack_B(trans_b, trans_b ? B + n * ldb + k : B + k * ldb + n, ldb, inner, columns, packed);
            if (trans_a)
                multiply_turned(M, columns, inner, columns, A + k * lda, lda, packed, alpha, k == 0 ? beta : 1, C + n,
                                ldc);
            else
                multiply_block(M, columns, inner, A + k, lda, packed, alpha, k == 0 ? beta : 1, C + n, ldc);
        }
}

void lc_sgram_avx512(int64_t M, int64_t N, int64_t K, int64_t diagonal, const float *A, const float *B, int64_t ld,
                     float *C) {
    _Alignas(64) float packed[DEPTH * WIDTH];
    int64_t width = part_of(N, WIDTH, PANEL), depth = part_of(K, DEPTH, 16);
    for (int64_t n = 0; n < N; n += width)
        for (int64_t k = 0; k < K; k += depth) {
            int64_t columns = least(width, N - n), inner = least(depth, K - k);
            pack_B(false, B + k * ld + n, ld, inner, columns, packed);
            multiply_turned(M, columns, inner, diagonal - n, A + k * ld, ld, packed, 1, k > 0, C + n, N);
        }
}

#ifdef __clang__
#pragma clang attribute pop
#endif
