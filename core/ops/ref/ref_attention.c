/* ref_attention.c: embeddings and attention.
 *
 * Attention: query (b, t, h) sees key (b, s, g), g = h / (H / G), where keep(b, s) allows it and, if causal, s <= t + S
 * - T. With p = softmax(scale q.k) over the keys seen and z = 0 or 1 / (1 - rate) from dropout, y = sum over s of z p
 * v. */
#include "base/memory.h"
#include "base/pool.h"
#include "ops/ref/ref.h"
#include <math.h>

lc_status lc_ref_embedding(const lc_call *call) {
    lc_tensor *w = call->in[0], *ids = call->in[1], *out = call->out[0];
    LC_TRY(ref_check_indices(call, ids, w->shape[0], "id"));
    for (int64_t t = 0, tokens = lc_numel(ids); t < tokens; t++) {
        ref_line from = ref_line_at(w, 1, lc_get_i64(ids, lc_position(ids, t))),
                 to = ref_line_at(out, out->ndim - 1, t);
        for (int64_t c = 0; c < from.length; c++) ref_write(out, ref_at(&to, c), ref_read(w, ref_at(&from, c)));
    }
    return LC_OK;
}

lc_status lc_ref_embedding_backward(const lc_call *call) {
    lc_tensor *ids = call->in[0], *dy = call->in[1], *dw = call->out[0];
    LC_TRY(ref_check_indices(call, ids, dw->shape[0], "id"));
    return ref_add_rows(dw, call->attr->add ? dw : NULL, 0, ids, dy);
}

/* -- attention --------------------------------------------------------------------------------- */

/* Position of element (i, j, k, 0) of a 4-d tensor. */
static int64_t at(const lc_tensor *t, int64_t i, int64_t j, int64_t k) {
    return t->offset + i * t->strides[0] + j * t->strides[1] + k * t->strides[2];
}

static double dot(const lc_tensor *a, int64_t pa, const lc_tensor *b, int64_t pb) {
    double sum = 0;
    for (int64_t d = 0; d < a->shape[3]; d++)
        sum += lc_get_f64(a, pa + d * a->strides[3]) * lc_get_f64(b, pb + d * b->strides[3]);
    return sum;
}

static bool sees(const lc_call *call, int64_t b, int64_t t, int64_t s) {
    const lc_tensor *q = call->in[0], *k = call->in[1], *keep = call->in[3];
    if (call->attr->causal && s > t + k->shape[1] - q->shape[1]) return false;
    return ref_kept(keep, b * k->shape[1] + s);
}

/* p[s], the softmax for one query over its S keys, 0 for those not seen; gives log(sum(exp(score))), -infinity when
 * none is. */
static double probabilities(const lc_call *call, int64_t b, int64_t t, int64_t h, double *p) {
    const lc_tensor *q = call->in[0], *k = call->in[1];
    int64_t S = k->shape[1], g = h / (q->shape[2] / k->shape[2]);
    double most = -INFINITY, sum = 0;
    for (int64_t s = 0; s < S; s++) {
        p[s] = sees(call, b, t, s) ? call->attr->a * dot(q, at(q, b, t, h), k, at(k, b, s, g)) : -INFINITY;
        most = fmax(most, p[s]);
    }
    for (int64_t s = 0; s < S; s++) {
        p[s] = sees(call, b, t, s) ? exp(p[s] - most) : 0;
        sum += p[s];
    }
    for (int64_t s = 0; s < S && sum != 0; s++) p[s] /= sum;
    return most + log(sum);
}

/* What dropout multiplies p[s] by. */
static double factor(const lc_call *call, int64_t b, int64_t t, int64_t h, int64_t s) {
    const lc_attr *attr = call->attr;
    if (attr->b == 0) return 1;
    int64_t T = call->in[0]->shape[1], H = call->in[0]->shape[2], S = call->in[1]->shape[1];
    return ref_dropout_factor(attr->b, attr->key, attr->counter, ((b * H + h) * T + t) * S + s);
}

/* Pairs of a query and a key it may see by position; padding is not taken off. */
static uint64_t pairs(const lc_call *call) {
    const lc_tensor *q = call->in[0], *k = call->in[1];
    int64_t B = q->shape[0], T = q->shape[1], H = q->shape[2], S = k->shape[1], count = 0;
    for (int64_t t = 0; t < T; t++) count += call->attr->causal ? lc_max(0, t + S - T + 1) : S;
    return (uint64_t)(B * H * count);
}

lc_status lc_ref_attention(const lc_call *call) {
    const lc_tensor *q = call->in[0], *k = call->in[1], *v = call->in[2];
    lc_tensor *y = call->out[0], *lse = call->out[1];
    int64_t B = q->shape[0], T = q->shape[1], H = q->shape[2], D = q->shape[3], S = k->shape[1];
    int64_t heads_per_group = H / k->shape[2];
    double *p = lc_alloc((size_t)S * sizeof *p);
    if (!p) return LC_ENOMEM;
    lc_status status = LC_OK;
    for (int64_t b = 0; b < B; b++) {
        for (int64_t h = 0; h < H; h++) {
            for (int64_t t = 0; t < T; t++) {
                LC_GOTO(done, lc_poll());
                double row_lse = probabilities(call, b, t, h, p);
                if (lse) lc_set_f64(lse, lc_position(lse, (b * H + h) * T + t), row_lse);
                for (int64_t d = 0; y && d < D; d++) {
                    double sum = 0;
                    for (int64_t s = 0; s < S; s++)
                        if (p[s] != 0)
                            sum += factor(call, b, t, h, s) * p[s] *
                                   lc_get_f64(v, at(v, b, s, h / heads_per_group) + d * v->strides[3]);
                    lc_set_f64(y, at(y, b, t, h) + d * y->strides[3], sum);
                }
            }
        }
    }
    lc_macs_add(2 * pairs(call) * (uint64_t)D);
done:
    lc_free(p);
    return status;
}

/* Sums for one batch entry and one key head, over all its queries. */
typedef struct sums {
    double *p, *ds;  /* (S): of one query */
    double *dq;      /* (D): of one query */
    double *dk, *dv; /* (S, D) */
} sums;

/* With dy the gradient of this query's y:  dv_s += z p dy;  dp = z (dy.v_s);  ds = scale p (dp - sum(p dp));  dq = sum
 * over s of ds k_s; dk_s += ds q. p is computed anew, so that y and lse are not needed. */
static void backward_of_query(const lc_call *call, int64_t b, int64_t t, int64_t h, int64_t g, sums w) {
    const lc_tensor *q = call->in[0], *k = call->in[1], *v = call->in[2], *dy = call->in[6];
    int64_t S = k->shape[1], D = q->shape[3];
    double mean = 0;
    probabilities(call, b, t, h, w.p);
    for (int64_t s = 0; s < S; s++) {
        double z = w.p[s] == 0 ? 0 : factor(call, b, t, h, s);
        w.ds[s] = z == 0 ? 0 : z * dot(dy, at(dy, b, t, h), v, at(v, b, s, g));
        mean += w.p[s] * w.ds[s];
        for (int64_t d = 0; z != 0 && d < D; d++)
            w.dv[s * D + d] += z * w.p[s] * lc_get_f64(dy, at(dy, b, t, h) + d * dy->strides[3]);
    }
    for (int64_t d = 0; d < D; d++) w.dq[d] = 0;
    for (int64_t s = 0; s < S; s++) {
        if (w.p[s] == 0) continue;
        double ds = call->attr->a * w.p[s] * (w.ds[s] - mean);
        for (int64_t d = 0; d < D; d++) {
            w.dq[d] += ds * lc_get_f64(k, at(k, b, s, g) + d * k->strides[3]);
            w.dk[s * D + d] += ds * lc_get_f64(q, at(q, b, t, h) + d * q->strides[3]);
        }
    }
}

/* rows[s, d] into out (b, s, g, d). */
static void write_rows(lc_tensor *out, int64_t b, int64_t g, const double *rows) {
    if (!out) return;
    for (int64_t s = 0; s < out->shape[1]; s++)
        for (int64_t d = 0; d < out->shape[3]; d++)
            lc_set_f64(out, at(out, b, s, g) + d * out->strides[3], rows[s * out->shape[3] + d]);
}

lc_status lc_ref_attention_backward(const lc_call *call) {
    const lc_tensor *q = call->in[0], *k = call->in[1];
    lc_tensor *dq = call->out[0];
    int64_t B = q->shape[0], T = q->shape[1], H = q->shape[2], D = q->shape[3], S = k->shape[1], G = k->shape[2];
    double *memory = lc_alloc((size_t)(2 * S + D + 2 * S * D) * sizeof *memory);
    if (!memory) return LC_ENOMEM;
    sums w = {.p = memory, .ds = memory + S, .dq = memory + 2 * S};
    w.dk = w.dq + D;
    w.dv = w.dk + S * D;
    lc_status status = LC_OK;
    for (int64_t b = 0; b < B; b++) {
        for (int64_t g = 0; g < G; g++) {
            for (int64_t i = 0; i < 2 * S * D; i++) w.dk[i] = 0; /* and dv, which follows it */
            for (int64_t h = g * (H / G); h < (g + 1) * (H / G); h++) {
                for (int64_t t = 0; t < T; t++) {
                    LC_GOTO(done, lc_poll());
                    backward_of_query(call, b, t, h, g, w);
                    for (int64_t d = 0; dq && d < D; d++) lc_set_f64(dq, at(dq, b, t, h) + d * dq->strides[3], w.dq[d]);
                }
            }
            write_rows(call->out[1], b, g, w.dk);
            write_rows(call->out[2], b, g, w.dv);
        }
    }
    lc_macs_add(5 * pairs(call) * (uint64_t)D);
done:
    lc_free(memory);
    return status;
}
