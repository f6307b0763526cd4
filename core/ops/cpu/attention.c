/* attention.c: attention in tiles, after "FlashAttention" (Dao et al. 2022): the T x S matrix of scores never exists; a
 * tile of queries meets one block of keys after another and keeps a running maximum m and sum l of exponentials for
 * each query. Blocks of keys that no query of the tile may see are skipped.
 *
 * Letters as in ops.def: q (B,T,H,D), k and v (B,S,G,D), heads h of q share key head g = h / (H / G). q, k and v are
 * read where they lie, also inside one fused buffer; only their last dimension must be contiguous. */
#include "ops/cpu/attention.h"
#include "ops/gemm.h"
#include "ops/gemm_avx512.h"

#include <math.h>
#include <string.h>

lc_status cpu_attention_views(const lc_call *call, attention *a) {
    *a = (attention){.simd = lc_simd_get(), .attr = call->attr};
    LC_TRY(lc_blas_open(&a->blas));
    a->own = lc_gemm_has_own_kernel();
    lc_tensor *q = call->in[0], *k = call->in[1];
    a->B = q->shape[0], a->T = q->shape[1], a->H = q->shape[2], a->D = q->shape[3], a->S = k->shape[1],
    a->G = k->shape[2];
    a->scale = (float)call->attr->a;
    a->dropout = cpu_dropout_of(call->attr->b, call->attr->key, call->attr->counter);
    head_rows *const rows[] = {&a->q, &a->k, &a->v};
    for (int i = 0; i < 3; i++) LC_TRY(cpu_head_rows(call->in[i], rows[i], &a->copies[i]));
    if (call->in[3]) {
        LC_TRY(lc_contiguous(call->in[3], &a->copies[3]));
        a->keep = LC_DATA(uint8_t, a->copies[3]);
    }
    return LC_OK;
}

void cpu_attention_release(attention *a) {
    for (int i = 0; i < 6; i++) lc_tensor_release(a->copies[i]);
}

head_rows cpu_rows_of(const lc_tensor *t) {
    return (head_rows){LC_DATA(float, t), t->strides[0], lc_max(t->strides[1], t->shape[3]), t->strides[2]};
}

bool cpu_has_head_rows(const lc_tensor *t) {
    return (t->strides[3] == 1 || t->shape[3] == 1) && (t->strides[1] >= t->shape[3] || t->shape[1] == 1);
}

lc_status cpu_head_rows(lc_tensor *t, head_rows *out, lc_tensor **copy) {
    if (!cpu_has_head_rows(t)) {
        LC_TRY(lc_contiguous(t, copy));
        t = *copy;
    }
    *out = cpu_rows_of(t);
    return LC_OK;
}

int64_t cpu_keys_seen(const attention *a, int64_t t) {
    return a->attr->causal ? lc_max(0, lc_min(a->S, t + 1 + a->S - a->T)) : a->S;
}

/* Pairs of a query and a key it may see by position; padding is not taken off. */
uint64_t cpu_attention_pairs(const attention *a) {
    int64_t count = 0;
    for (int64_t t = 0; t < a->T; t++) count += cpu_keys_seen(a, t);
    return (uint64_t)(a->B * a->H * count);
}

void cpu_tile_product(const attention *a, bool trans_a, bool trans_b, int64_t M, int64_t N, int64_t K, float alpha,
                      const float *A, int64_t lda, const float *B, int64_t ldb, float beta, float *C, int64_t ldc) {
    if (a->own)
        lc_sgemm_avx512(trans_a, trans_b, M, N, K, alpha, A, lda, B, ldb, beta, C, ldc);
    else
        a->blas->sgemm(LC_BLAS_ROW_MAJOR, trans_a ? LC_BLAS_TRANS : LC_BLAS_NO_TRANS,
                       trans_b ? LC_BLAS_TRANS : LC_BLAS_NO_TRANS, (int)M, (int)N, (int)K, alpha, A, (int)lda, B,
                       (int)ldb, beta, C, (int)ldc);
}

void cpu_scores(const attention *a, const float *q, const float *k, int64_t rows, int64_t keys, float *s) {
    if (rows > FEW_ROWS) {
        cpu_tile_product(a, false, true, rows, keys, a->D, a->scale, q, a->q.t, k, a->k.t, 0, s, KEYS);
        return;
    }
    for (int64_t i = 0; i < rows; i++)
        a->blas->sgemv(LC_BLAS_ROW_MAJOR, LC_BLAS_NO_TRANS, (int)keys, (int)a->D, a->scale, k, (int)a->k.t,
                       q + i * a->q.t, 1, 0, s + i * KEYS, 1);
}

/* -- forward ----------------------------------------------------------------------------------- */

/* The scores of one query become its exponentials; p past the keys it sees is 0. Gives what y so far is to be
 * multiplied by. */
static float next_exponentials(const attention *a, float *p, int64_t seen, int64_t keys, const uint8_t *keep, float *m,
                               float *l) {
    for (int64_t s = 0; keep && s < seen; s++)
        if (!keep[s]) p[s] = -INFINITY;
    float most = seen > 0 ? fmaxf(*m, a->simd->max(p, seen)) : *m, factor = 1;
    if (most == -INFINITY && !a->simd->any_nan(p, seen)) { /* no key yet */
        memset(p, 0, sizeof *p * (size_t)keys);
        return 1;
    }
    if (*l > 0) factor = expf(*m - most);
    *l = *l * factor + a->simd->exp_sum(p, p, 1, most, seen);
    *m = most;
    memset(p + seen, 0, sizeof *p * (size_t)(keys - seen));
    return factor;
}

/* y (+)= P V for one tile and block. */
static void add_values(const attention *a, const float *p, const float *v, int64_t rows, int64_t keys, bool first,
                       float *y) {
    float beta = first ? 0 : 1;
    if (rows > FEW_ROWS) {
        cpu_tile_product(a, false, false, rows, a->D, keys, 1, p, KEYS, v, a->v.t, beta, y, a->y.t);
        return;
    }
    for (int64_t i = 0; i < rows; i++)
        a->blas->sgemv(LC_BLAS_ROW_MAJOR, LC_BLAS_TRANS, (int)keys, (int)a->D, 1, v, (int)a->v.t, p + i * KEYS, 1, beta,
                       y + i * a->y.t, 1);
}

/* One head's queries [t0, t0 + rows). */
static void forward_tile(const attention *a, int64_t b, int64_t h, int64_t t0, int64_t rows) {
    _Alignas(64) float p[QUERIES * KEYS];
    float m[QUERIES], l[QUERIES];
    int64_t g = h / (a->H / a->G), limit = cpu_keys_seen(a, t0 + rows - 1);
    const float *q = cpu_row(&a->q, b, t0, h);
    float *y = cpu_row(&a->y, b, t0, h);
    for (int64_t i = 0; i < rows; i++) m[i] = -INFINITY, l[i] = 0;
    for (int64_t s0 = 0; s0 < limit; s0 += KEYS) {
        int64_t keys = lc_min(KEYS, limit - s0);
        cpu_scores(a, q, cpu_row(&a->k, b, s0, g), rows, keys, p);
        for (int64_t i = 0; i < rows; i++) {
            int64_t seen = lc_max(0, lc_min(keys, cpu_keys_seen(a, t0 + i) - s0));
            float *row = p + i * KEYS;
            float factor =
                next_exponentials(a, row, seen, keys, a->keep ? a->keep + b * a->S + s0 : NULL, &m[i], &l[i]);
            if (s0 > 0 && factor != 1) a->simd->scale(y + i * a->y.t, factor, a->D);
            if (a->attr->b > 0)
                a->simd->dropout(row, row, &a->dropout, ((b * a->H + h) * a->T + t0 + i) * a->S + s0, seen);
        }
        add_values(a, p, cpu_row(&a->v, b, s0, g), rows, keys, s0 == 0, y);
    }
    for (int64_t i = 0; i < rows; i++) {
        if (l[i] != 0)
            a->simd->scale(y + i * a->y.t, 1 / l[i], a->D);
        else
            memset(y + i * a->y.t, 0, sizeof *y * (size_t)a->D);
        if (a->lse) a->lse[(b * a->H + h) * a->T + t0 + i] = m[i] + logf(l[i]);
    }
}

/* The last tiles of queries see most keys: they go first. */
static void forward_piece(void *context, int64_t index) {
    const attention *a = context;
    int64_t tiles = (a->T + QUERIES - 1) / QUERIES, head = index % (a->B * a->H),
            tile = tiles - 1 - index / (a->B * a->H);
    forward_tile(a, head / a->H, head % a->H, tile * QUERIES, lc_min(QUERIES, a->T - tile * QUERIES));
}

lc_status cpu_attention(const lc_call *call) {
    lc_tensor *y = call->out[0], *lse = call->out[1];
    if (call->in[0]->dtype != LC_F32 || call->in[0]->shape[3] == 0) return cpu_on_ref(call);
    if (!y || !cpu_has_head_rows(y) || (lse && !lc_is_contiguous(lse)))
        return cpu_by_contiguous_outputs(call, cpu_attention);
    attention a;
    lc_status status;
    LC_GOTO(done, cpu_attention_views(call, &a));
    a.y = cpu_rows_of(y);
    a.lse = lse ? LC_DATA(float, lse) : NULL;
    LC_GOTO(done, lc_parallel((a.T + QUERIES - 1) / QUERIES * a.B * a.H, forward_piece, &a));
    lc_macs_add(2 * cpu_attention_pairs(&a) * (uint64_t)a.D);
done:
    cpu_attention_release(&a);
    return status;
}
