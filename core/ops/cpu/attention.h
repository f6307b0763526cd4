/* attention.h: what the forward and the backward pass of attention share. Private to core/ops/cpu. */
#ifndef LC_CPU_ATTENTION_H
#define LC_CPU_ATTENTION_H

#include "ops/blas.h"
#include "ops/cpu/cpu.h"

/* A tile is QUERIES x KEYS scores: it fits the second cache, and the stack. Up to FEW_ROWS queries (decoding) are
 * matrix-vector products. */
enum { QUERIES = 64, KEYS = 256, FEW_ROWS = 3 };

/* Where the rows of D numbers of a (batch, token, head, D) tensor lie. */
typedef struct head_rows {
    float *data;
    int64_t b, t, h; /* strides, in elements */
} head_rows;

static inline float *cpu_row(const head_rows *r, int64_t b, int64_t t, int64_t h) {
    return r->data + b * r->b + t * r->t + h * r->h;
}

typedef struct attention {
    const lc_simd *simd;
    const lc_blas *blas;
    bool own; /* see lc_gemm_has_own_kernel */
    const lc_attr *attr;
    int64_t B, T, H, D, S, G;
    float scale;
    lc_dropout dropout;
    head_rows q, k, v;
    head_rows y;         /* written by the forward pass, read by the backward pass */
    const uint8_t *keep; /* (B, S) or NULL */
    float *lse;          /* (B, H, T); may be NULL in the forward pass */
    head_rows dy, dq, dk, dv;
    lc_tensor *copies[6]; /* of inputs that could not be read where they lie */
} attention;

/* Fills in what both passes read; cpu_attention_release whatever the outcome. */
lc_status cpu_attention_views(const lc_call *call, attention *a);
void cpu_attention_release(attention *a);
head_rows cpu_rows_of(const lc_tensor *t);
bool cpu_has_head_rows(const lc_tensor *t);
/* t's rows, or those of a contiguous copy. */
lc_status cpu_head_rows(lc_tensor *t, head_rows *out, lc_tensor **copy);
/* How many keys, from the first, query t may see. */
int64_t cpu_keys_seen(const attention *a, int64_t t);
uint64_t cpu_attention_pairs(const attention *a);
/* C = alpha op(A) op(B) + beta C as lc_gemm says, on the calling thread: a tile's products are too small to share. */
void cpu_tile_product(const attention *a, bool trans_a, bool trans_b, int64_t M, int64_t N, int64_t K, float alpha,
                      const float *A, int64_t lda, const float *B, int64_t ldb, float beta, float *C, int64_t ldc);
/* s (rows, KEYS) = scale q k^T for `rows` queries and `keys` keys. */
void cpu_scores(const attention *a, const float *q, const float *k, int64_t rows, int64_t keys, float *s);

#endif
