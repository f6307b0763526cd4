/* attention_backward.c: the backward pass of attention, in the tiles of attention.c. For each pair of a query t and a
 * key s, with p = exp(score - lse), z the factor of dropout, and delta_t = dy_t . y_t:
 *
 *     dv_s += z p dy_t,    ds = p (z dy_t . v_s - delta_t) scale,    dq_t += ds k_s,    dk_s += ds q_t
 *
 * One piece is one key head of one batch entry with all query heads that share it, so that dk and dv have one writer.
 */
#include "ops/cpu/attention.h"

#include <math.h>
#include <string.h>

/* p and ds of one query, from its scores and from dp = dy v^T; both are 0 past the keys it sees. */
static void backward_row(const attention *a, float *p, float *ds, float lse, float delta, int64_t first, int64_t seen,
                         int64_t keys, const uint8_t *keep) {
    float z[KEYS];
    if (lse == -INFINITY) seen = 0;
    a->simd->exp_sum(p, p, 1, lse, seen);
    for (int64_t s = 0; keep && s < seen; s++)
        if (!keep[s]) p[s] = 0;
    if (a->attr->b > 0) {
        a->simd->dropout(z, NULL, &a->dropout, first, seen);
        for (int64_t s = 0; s < seen; s++) {
            ds[s] = p[s] * (z[s] * ds[s] - delta) * a->scale;
            p[s] *= z[s];
        }
    } else {
        a->simd->softmax_backward(ds, p, ds, delta, seen);
        a->simd->scale(ds, a->scale, seen);
    }
    memset(p + seen, 0, sizeof *p * (size_t)(keys - seen));
    memset(ds + seen, 0, sizeof *ds * (size_t)(keys - seen));
}

/* C += op(A) B with A a tile. */
static void add_product(const attention *a, bool transposed, int64_t M, int64_t K, const float *tile, const float *B,
                        int64_t ldb, float *C, int64_t ldc) {
    cpu_tile_product(a, transposed, false, M, a->D, K, 1, tile, KEYS, B, ldb, 1, C, ldc);
}

static void backward_tile(const attention *a, int64_t b, int64_t h, int64_t t0, int64_t rows) {
    _Alignas(64) float p[QUERIES * KEYS], ds[QUERIES * KEYS];
    float delta[QUERIES];
    int64_t g = h / (a->H / a->G), limit = cpu_keys_seen(a, t0 + rows - 1);
    const float *q = cpu_row(&a->q, b, t0, h), *dy = cpu_row(&a->dy, b, t0, h);
    for (int64_t i = 0; i < rows; i++) delta[i] = a->simd->dot(dy + i * a->dy.t, cpu_row(&a->y, b, t0 + i, h), a->D);
    for (int64_t s0 = 0; s0 < limit; s0 += KEYS) {
        int64_t keys = lc_min(KEYS, limit - s0);
        const float *k = cpu_row(&a->k, b, s0, g);
        cpu_scores(a, q, k, rows, keys, p);
        cpu_tile_product(a, false, true, rows, keys, a->D, 1, dy, a->dy.t, cpu_row(&a->v, b, s0, g), a->v.t, 0, ds,
                         KEYS);
        for (int64_t i = 0; i < rows; i++) {
            int64_t seen = lc_max(0, lc_min(keys, cpu_keys_seen(a, t0 + i) - s0)), row = (b * a->H + h) * a->T + t0 + i;
            backward_row(a, p + i * KEYS, ds + i * KEYS, a->lse[row], delta[i], row * a->S + s0, seen, keys,
                         a->keep ? a->keep + b * a->S + s0 : NULL);
        }
        if (a->dv.data) add_product(a, true, keys, rows, p, dy, a->dy.t, cpu_row(&a->dv, b, s0, g), a->dv.t);
        if (a->dq.data) add_product(a, false, rows, keys, ds, k, a->k.t, cpu_row(&a->dq, b, t0, h), a->dq.t);
        if (a->dk.data) add_product(a, true, keys, rows, ds, q, a->q.t, cpu_row(&a->dk, b, s0, g), a->dk.t);
    }
}

static void clear_rows(const head_rows *r, int64_t b, int64_t h, int64_t tokens, int64_t D) {
    for (int64_t t = 0; r->data && t < tokens; t++) memset(cpu_row(r, b, t, h), 0, sizeof(float) * (size_t)D);
}

static void backward_piece(void *context, int64_t index) {
    const attention *a = context;
    int64_t b = index / a->G, g = index % a->G, shared = a->H / a->G;
    clear_rows(&a->dk, b, g, a->S, a->D);
    clear_rows(&a->dv, b, g, a->S, a->D);
    for (int64_t h = g * shared; h < (g + 1) * shared; h++) {
        clear_rows(&a->dq, b, h, a->T, a->D);
        for (int64_t t0 = 0; t0 < a->T; t0 += QUERIES) {
            if (lc_poll()) return; /* a long piece; the caller polls again */
            backward_tile(a, b, h, t0, lc_min(QUERIES, a->T - t0));
        }
    }
}

static bool writable(const lc_tensor *t) {
    return !t || cpu_has_head_rows(t);
}

lc_status cpu_attention_backward(const lc_call *call) {
    lc_tensor *const *in = call->in, *const *out = call->out, *lse = NULL;
    if (in[0]->dtype != LC_F32 || in[0]->shape[3] == 0) return cpu_on_ref(call);
    if (!writable(out[0]) || !writable(out[1]) || !writable(out[2]))
        return cpu_by_contiguous_outputs(call, cpu_attention_backward);
    attention a;
    lc_status status;
    LC_GOTO(done, cpu_attention_views(call, &a));
    LC_GOTO(done, cpu_head_rows(in[4], &a.y, &a.copies[4]));
    LC_GOTO(done, cpu_head_rows(in[6], &a.dy, &a.copies[5]));
    LC_GOTO(done, lc_contiguous(in[5], &lse));
    a.lse = LC_DATA(float, lse);
    head_rows *const grad[] = {&a.dq, &a.dk, &a.dv};
    for (int i = 0; i < 3; i++)
        if (out[i]) *grad[i] = cpu_rows_of(out[i]);
    LC_GOTO(done, lc_parallel(a.B * a.G, backward_piece, &a));
    LC_GOTO(done, lc_poll());
    lc_macs_add(5 * cpu_attention_pairs(&a) * (uint64_t)a.D);
done:
    lc_tensor_release(lse);
    cpu_attention_release(&a);
    return status;
}
