/* infer_model.c: the checks and output shapes of products, row ops, transformer pieces, losses and updates. */
#include "ops/infer_helpers.h"
#include "tensor/bits.h"

/* -- products ---------------------------------------------------------------------------------- */

lc_status lc_infer_matmul(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "a b"));
    const lc_tensor *a = call->in[0], *b = call->in[1];
    if (a->ndim < 2 || b->ndim < 2)
        return lc_fail(LC_ESHAPE, "matmul: needs matrices, got %s x %s; reshape a vector to (1, n) or (n, 1)",
                       LC_SHAPE(a), LC_SHAPE(b));
    int64_t rows = a->shape[a->ndim - 2], columns = b->shape[b->ndim - 1];
    if (a->shape[a->ndim - 1] != b->shape[b->ndim - 2])
        return lc_fail(LC_ESHAPE, "matmul: inner sizes differ: %s x %s", LC_SHAPE(a), LC_SHAPE(b));
    int ndim;
    int64_t shape[LC_MAX_DIMS];
    lc_status status = lc_broadcast_shape(a->ndim - 2, a->shape, b->ndim - 2, b->shape, &ndim, shape);
    if (status) return lc_fail(status, "matmul: batches do not broadcast: %s x %s", LC_SHAPE(a), LC_SHAPE(b));
    shape[ndim++] = rows;
    shape[ndim++] = columns;
    lc_spec_set(out, a->dtype, ndim, shape);
    return LC_OK;
}

lc_status lc_infer_linear(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "x w b?"));
    const lc_tensor *x = call->in[0], *w = call->in[1];
    if (w->ndim != 2) return lc_fail(LC_ESHAPE, "linear: w is %s; it must be (outputs, inputs)", LC_SHAPE(w));
    if (x->ndim < 1 || x->shape[x->ndim - 1] != w->shape[1])
        return lc_fail(LC_ESHAPE, "linear: inner sizes differ: x %s, w %s", LC_SHAPE(x), LC_SHAPE(w));
    LC_TRY(lc_infer_shape(call, 2, "b", 1, w->shape));
    for (int i = 0; i < 2; i++) {
        lc_spec_like(&out[i], x->dtype, x);
        out[i].shape[x->ndim - 1] = w->shape[0];
    }
    out[1].wanted = call->attr->act != LC_ACT_NONE && call->attr->train;
    return LC_OK;
}

lc_status lc_infer_square(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "a"));
    const lc_tensor *a = call->in[0];
    if (a->ndim < 2 || a->shape[a->ndim - 1] != a->shape[a->ndim - 2])
        return lc_fail(LC_ESHAPE, "%s: needs a square matrix, got %s", lc_op_name(call->op), LC_SHAPE(a));
    lc_spec_like(out, a->dtype, a);
    return LC_OK;
}

lc_status lc_infer_eigh(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_square(call, &out[1]));
    const lc_tensor *a = call->in[0];
    lc_spec_set(&out[0], a->dtype, a->ndim - 1, a->shape);
    return LC_OK;
}

lc_status lc_infer_solve(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "a b"));
    const lc_tensor *a = call->in[0], *b = call->in[1];
    if (a->ndim != 2 || a->shape[0] != a->shape[1])
        return lc_fail(LC_ESHAPE, "solve_triangular: needs a square matrix, got %s", LC_SHAPE(a));
    if (b->ndim != 2 || b->shape[0] != a->shape[0])
        return lc_fail(LC_ESHAPE, "solve_triangular: rows differ: a %s, b %s", LC_SHAPE(a), LC_SHAPE(b));
    lc_spec_like(out, b->dtype, b);
    return LC_OK;
}

/* -- rows: x (..., C) -------------------------------------------------------------------------- */

/* The shape of one number per row. */
static lc_status row_spec(const lc_call *call, lc_spec *out) {
    const lc_tensor *x = call->in[0];
    if (x->ndim < 1) return lc_fail(LC_ESHAPE, "%s: x has no dimension to work along", lc_op_name(call->op));
    lc_spec_set(out, x->dtype, x->ndim - 1, x->shape);
    return LC_OK;
}

/* Input i has one number per column of x. */
static lc_status column_shape(const lc_call *call, int i, const char *name) {
    const lc_tensor *x = call->in[0];
    return lc_infer_shape(call, i, name, 1, &x->shape[x->ndim - 1]);
}

static lc_status row_shape(const lc_call *call, int i, const char *name) {
    const lc_tensor *x = call->in[0];
    return lc_infer_shape(call, i, name, x->ndim - 1, x->shape);
}

static lc_status same_shape(const lc_call *call, int i, const char *name) {
    return lc_infer_shape(call, i, name, call->in[0]->ndim, call->in[0]->shape);
}

lc_status lc_infer_layer_norm(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "x w? b?"));
    LC_TRY(row_spec(call, &out[1]));
    LC_TRY(column_shape(call, 1, "w"));
    LC_TRY(column_shape(call, 2, "b"));
    lc_spec_like(&out[0], call->in[0]->dtype, call->in[0]);
    out[2] = out[1];
    return LC_OK;
}

lc_status lc_infer_layer_norm_backward(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "x w? mean rstd dy"));
    const lc_tensor *x = call->in[0];
    lc_spec rows;
    LC_TRY(row_spec(call, &rows));
    LC_TRY(column_shape(call, 1, "w"));
    LC_TRY(row_shape(call, 2, "mean"));
    LC_TRY(row_shape(call, 3, "rstd"));
    LC_TRY(same_shape(call, 4, "dy"));
    lc_spec_like(&out[0], x->dtype, x);
    lc_spec_set(&out[1], x->dtype, 1, &x->shape[x->ndim - 1]);
    out[2] = out[1];
    out[1].wanted = call->in[1] != NULL;
    return LC_OK;
}

lc_status lc_infer_rms_norm(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "x w?"));
    LC_TRY(row_spec(call, &out[1]));
    LC_TRY(column_shape(call, 1, "w"));
    lc_spec_like(&out[0], call->in[0]->dtype, call->in[0]);
    return LC_OK;
}

lc_status lc_infer_rms_norm_backward(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "x w? rrms dy"));
    const lc_tensor *x = call->in[0];
    lc_spec rows;
    LC_TRY(row_spec(call, &rows));
    LC_TRY(column_shape(call, 1, "w"));
    LC_TRY(row_shape(call, 2, "rrms"));
    LC_TRY(same_shape(call, 3, "dy"));
    lc_spec_like(&out[0], x->dtype, x);
    lc_spec_set(&out[1], x->dtype, 1, &x->shape[x->ndim - 1]);
    out[1].wanted = call->in[1] != NULL;
    return LC_OK;
}

/* -- transformer pieces ------------------------------------------------------------------------ */

lc_status lc_infer_embedding(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "w ids"));
    const lc_tensor *w = call->in[0], *ids = call->in[1];
    if (w->ndim != 2) return lc_fail(LC_ESHAPE, "embedding: w is %s; it must be (ids, width)", LC_SHAPE(w));
    LC_TRY(lc_infer_integer(call, 1, "ids"));
    if (ids->ndim + 1 > LC_MAX_DIMS)
        return lc_fail(LC_ESHAPE, "embedding: ids %s have too many dimensions", LC_SHAPE(ids));
    lc_spec_like(out, w->dtype, ids);
    out->shape[out->ndim++] = w->shape[1];
    return LC_OK;
}

lc_status lc_infer_embedding_backward(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "ids dy"));
    const lc_tensor *ids = call->in[0], *dy = call->in[1];
    LC_TRY(lc_infer_integer(call, 0, "ids"));
    LC_TRY(lc_infer_float(call, 1, "dy"));
    if (dy->ndim != ids->ndim + 1)
        return lc_fail(LC_ESHAPE, "embedding_backward: dy %s does not go with ids %s", LC_SHAPE(dy), LC_SHAPE(ids));
    int64_t width = dy->shape[ids->ndim];
    for (int d = 0; d < ids->ndim; d++)
        if (dy->shape[d] != ids->shape[d])
            return lc_fail(LC_ESHAPE, "embedding_backward: dy %s does not go with ids %s", LC_SHAPE(dy), LC_SHAPE(ids));
    lc_spec_set(out, dy->dtype, 2, (int64_t[]){call->attr->n, width});
    return LC_OK;
}

lc_status lc_infer_rotary(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "x positions inv_freq"));
    const lc_tensor *x = call->in[0], *positions = call->in[1], *inv_freq = call->in[2];
    LC_TRY(lc_infer_float(call, 0, "x"));
    if (x->ndim != 4) return lc_fail(LC_ESHAPE, "rotary: x is %s; it must be (B, T, H, D)", LC_SHAPE(x));
    LC_TRY(lc_infer_integer(call, 1, "positions"));
    int64_t tokens = positions->ndim ? positions->shape[positions->ndim - 1] : -1;
    if (tokens != x->shape[1] || positions->ndim > 2 || (positions->ndim == 2 && positions->shape[0] != x->shape[0]))
        return lc_fail(LC_ESHAPE, "rotary: positions %s do not go with x %s: they must be (T) or (B, T)",
                       LC_SHAPE(positions), LC_SHAPE(x));
    LC_TRY(lc_infer_same_dtype(call, 2, "inv_freq"));
    if (inv_freq->ndim != 1 || 2 * inv_freq->shape[0] > x->shape[3])
        return lc_fail(LC_ESHAPE, "rotary: inv_freq is %s; heads of %lld numbers take at most (%lld)",
                       LC_SHAPE(inv_freq), (long long)x->shape[3], (long long)x->shape[3] / 2);
    lc_spec_like(out, x->dtype, x);
    return LC_OK;
}

/* q (B,T,H,D), k and v (B,S,G,D) with G | H, and keep (B,S) bool or none. */
static lc_status attention_inputs(const lc_call *call) {
    const char *op = lc_op_name(call->op);
    const lc_tensor *q = call->in[0], *k = call->in[1], *v = call->in[2];
    if (q->ndim != 4) return lc_fail(LC_ESHAPE, "%s: q is %s; it must be (B, T, H, D)", op, LC_SHAPE(q));
    if (k->ndim != 4 || k->shape[0] != q->shape[0] || k->shape[3] != q->shape[3])
        return lc_fail(LC_ESHAPE, "%s: k %s does not fit q %s", op, LC_SHAPE(k), LC_SHAPE(q));
    if (q->shape[2] == 0 || k->shape[2] == 0 || q->shape[2] % k->shape[2] != 0)
        return lc_fail(LC_ESHAPE, "%s: %lld query heads cannot share %lld key heads", op, (long long)q->shape[2],
                       (long long)k->shape[2]);
    if (!lc_same_shape(k, v)) return lc_fail(LC_ESHAPE, "%s: k is %s, v is %s", op, LC_SHAPE(k), LC_SHAPE(v));
    LC_TRY(lc_infer_float(call, 0, "q"));
    LC_TRY(lc_infer_same_dtype(call, 1, "k"));
    LC_TRY(lc_infer_same_dtype(call, 2, "v"));
    LC_TRY(lc_infer_mask(call, 3, "keep"));
    LC_TRY(lc_infer_shape(call, 3, "keep", 2, k->shape));
    if (!(call->attr->b >= 0 && call->attr->b <= 1))
        return lc_fail(LC_EINVAL, "%s: dropout rate %g is outside 0..1", op, call->attr->b);
    return LC_OK;
}

static void lse_spec(const lc_tensor *q, lc_spec *out) {
    lc_spec_set(out, q->dtype, 3, (int64_t[]){q->shape[0], q->shape[2], q->shape[1]});
}

lc_status lc_infer_attention(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "q k v keep?"));
    LC_TRY(attention_inputs(call));
    lc_spec_like(&out[0], call->in[0]->dtype, call->in[0]);
    lse_spec(call->in[0], &out[1]);
    return LC_OK;
}

lc_status lc_infer_attention_backward(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "q k v keep? y lse dy"));
    LC_TRY(attention_inputs(call));
    LC_TRY(same_shape(call, 4, "y"));
    lc_spec lse;
    lse_spec(call->in[0], &lse);
    LC_TRY(lc_infer_shape(call, 5, "lse", lse.ndim, lse.shape));
    LC_TRY(same_shape(call, 6, "dy"));
    for (int i = 0; i < 3; i++) lc_spec_like(&out[i], call->in[0]->dtype, call->in[i]);
    return LC_OK;
}

/* -- losses ------------------------------------------------------------------------------------ */

static lc_status logits_and_labels(const lc_call *call) {
    const lc_tensor *logits = call->in[0];
    LC_TRY(lc_infer_float(call, 0, "logits"));
    if (logits->ndim != 2)
        return lc_fail(LC_ESHAPE, "%s: logits are %s; they must be (tokens, classes)", lc_op_name(call->op),
                       LC_SHAPE(logits));
    LC_TRY(lc_infer_integer(call, 1, "labels"));
    return lc_infer_shape(call, 1, "labels", 1, logits->shape);
}

lc_status lc_infer_cross_entropy(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "logits labels"));
    LC_TRY(logits_and_labels(call));
    lc_spec_set(&out[0], call->in[0]->dtype, 0, NULL);
    lc_spec_set(&out[1], call->in[0]->dtype, 1, call->in[0]->shape);
    return LC_OK;
}

lc_status lc_infer_cross_entropy_backward(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "logits labels lse dloss"));
    LC_TRY(logits_and_labels(call));
    LC_TRY(lc_infer_shape(call, 2, "lse", 1, call->in[0]->shape));
    LC_TRY(lc_infer_shape(call, 3, "dloss", 0, call->in[0]->shape));
    lc_spec_like(out, call->in[0]->dtype, call->in[0]);
    return LC_OK;
}

lc_status lc_infer_linear_cross_entropy(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "x w labels"));
    const lc_tensor *x = call->in[0], *w = call->in[1];
    LC_TRY(lc_infer_float(call, 0, "x"));
    LC_TRY(lc_infer_same_dtype(call, 1, "w"));
    LC_TRY(lc_infer_integer(call, 2, "labels"));
    if (x->ndim != 2 || w->ndim != 2 || x->shape[1] != w->shape[1])
        return lc_fail(LC_ESHAPE, "linear_cross_entropy: x %s and w %s must be (tokens, width) and (classes, width)",
                       LC_SHAPE(x), LC_SHAPE(w));
    LC_TRY(lc_infer_shape(call, 2, "labels", 1, x->shape));
    lc_spec_set(&out[0], x->dtype, 0, NULL);
    lc_spec_like(&out[1], x->dtype, x);
    lc_spec_like(&out[2], w->dtype, w);
    out[1].wanted = out[2].wanted = call->attr->train;
    return LC_OK;
}

/* -- the update -------------------------------------------------------------------------------- */

/* Packed bits (tensor/bits.h), one for each element of the first input; or none. */
static lc_status check_bits(const lc_call *call, int i) {
    const lc_tensor *keep = i < call->n_in ? call->in[i] : NULL;
    if (!keep) return LC_OK;
    if (keep->dtype != LC_U8)
        return lc_fail(LC_EDTYPE, "%s: keep is %s; it must be packed bits, u8", lc_op_name(call->op),
                       lc_dtype_name(keep->dtype));
    int64_t bytes = lc_bits_bytes(lc_numel(call->in[0]));
    return lc_infer_shape(call, i, "keep", 1, &bytes);
}

lc_status lc_infer_square_sum(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "g keep?"));
    LC_TRY(lc_infer_float(call, 0, "g"));
    LC_TRY(check_bits(call, 1));
    lc_spec_set(out, LC_F64, 0, NULL);
    return LC_OK;
}

/* w and everything that goes with it, element by element. No outputs: w and the moments are written in place. */
lc_status lc_infer_update(const lc_call *call, lc_spec *out) {
    (void)out;
    bool adamw = call->op == LC_OP_ADAMW_STEP;
    LC_TRY(lc_infer_inputs(call, adamw ? "w g m v keep?" : "w g momentum? keep?"));
    int keep = adamw ? 4 : 3;
    LC_TRY(lc_infer_float(call, 0, "w"));
    for (int i = 1; i < keep; i++) {
        static const char *const name[] = {"w", "the gradient", "the first moment", "the second moment"};
        LC_TRY(lc_infer_same_dtype(call, i, name[i]));
        LC_TRY(same_shape(call, i, name[i]));
    }
    LC_TRY(check_bits(call, keep));
    if (call->attr->n < 1)
        return lc_fail(LC_EINVAL, "%s: steps count from 1, got %lld", lc_op_name(call->op), (long long)call->attr->n);
    return LC_OK;
}

lc_status lc_infer_zero_pruned(const lc_call *call, lc_spec *out) {
    (void)out;
    LC_TRY(lc_infer_inputs(call, "w keep"));
    LC_TRY(lc_infer_float(call, 0, "w"));
    return check_bits(call, 1);
}
