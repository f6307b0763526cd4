/* scratch.c: the steps of backward rules. */
#include "grad/scratch.h"

/* Hands t, made by a call that returned `status`, to the scratch; on failure t is released and NULL returned. */
static lc_tensor *keep(lc_scratch *s, lc_status status, lc_tensor *t) {
    if (!status && s->n == LC_SCRATCH_TENSORS)
        status = lc_fail(LC_ESTATE, "backward rule: more than %d temporaries", LC_SCRATCH_TENSORS);
    if (status) {
        lc_tensor_release(t);
        s->status = status;
        return NULL;
    }
    return s->kept[s->n++] = t;
}

lc_tensor *lc_step(lc_scratch *s, lc_op op, const lc_attr *attr, lc_tensor *const *in, int n_in, lc_tensor **out) {
    if (s->status) return NULL;
    lc_tensor *made[LC_MAX_OUT] = {0};
    s->status = lc_run(op, attr, in, n_in, made);
    for (int i = 0; i < LC_MAX_OUT; i++) {
        if (made[i]) made[i] = keep(s, s->status, made[i]);
        if (out) out[i] = made[i];
    }
    return made[0];
}

lc_tensor *lc_step1(lc_scratch *s, lc_op op, lc_tensor *x) {
    return lc_step(s, op, NULL, &x, 1, NULL);
}

lc_tensor *lc_step2(lc_scratch *s, lc_op op, lc_tensor *a, lc_tensor *b) {
    lc_tensor *in[2] = {a, b};
    return lc_step(s, op, NULL, in, 2, NULL);
}

lc_tensor *lc_step_dim(lc_scratch *s, lc_op op, lc_tensor *x, int dim) {
    lc_attr attr = {.dim = dim, .keepdim = true};
    return lc_step(s, op, &attr, &x, 1, NULL);
}

lc_tensor *lc_step_number(lc_scratch *s, lc_op op, lc_tensor *x, double value) {
    if (s->status) return NULL;
    return lc_step2(s, op, x, lc_step_filled(s, x, x->dtype, 0, NULL, value));
}

lc_tensor *lc_step_where(lc_scratch *s, lc_tensor *condition, lc_tensor *x) {
    if (s->status) return NULL;
    lc_tensor *in[3] = {condition, x, lc_step_filled(s, x, x->dtype, 0, NULL, 0)};
    return lc_step(s, LC_OP_WHERE, NULL, in, 3, NULL);
}

lc_tensor *lc_step_unless(lc_scratch *s, lc_tensor *condition, lc_tensor *x) {
    lc_tensor *in[2] = {x, condition};
    return lc_step(s, LC_OP_MASKED_FILL, NULL, in, 2, NULL);
}

lc_tensor *lc_step_filled(lc_scratch *s, lc_tensor *like, lc_dtype dtype, int ndim, const int64_t *shape,
                          double value) {
    if (s->status) return NULL;
    lc_tensor *t = NULL;
    lc_status status = lc_tensor_new(dtype, ndim, shape, like->storage->device, &t);
    if (!status) status = lc_fill(t, value);
    return keep(s, status, t);
}

lc_tensor *lc_step_counted(lc_scratch *s, lc_tensor *like, int64_t n) {
    lc_attr attr = {.dim = 0};
    lc_tensor *ones = lc_step_filled(s, like, LC_I64, 1, &n, 1);
    return lc_step_number(s, LC_OP_SUB, lc_step(s, LC_OP_CUMSUM, &attr, &ones, 1, NULL), 1);
}

lc_tensor *lc_step_matmul(lc_scratch *s, lc_tensor *a, lc_tensor *b, lc_tensor *into) {
    if (s->status) return NULL;
    lc_tensor *in[2] = {a, b};
    if (!into) return lc_step(s, LC_OP_MATMUL, NULL, in, 2, NULL);
    lc_attr attr = {.add = true};
    s->status = lc_run_into(LC_OP_MATMUL, &attr, in, 2, &into);
    return NULL;
}

lc_tensor *lc_step_reshape(lc_scratch *s, lc_tensor *x, int ndim, const int64_t *shape) {
    if (s->status) return NULL;
    lc_tensor *view = NULL;
    int64_t strides[LC_MAX_DIMS];
    if (!lc_can_view_as(x, ndim, shape, strides)) {
        lc_tensor *copy = NULL;
        lc_status copied = lc_contiguous(x, &copy);
        x = keep(s, copied, copy);
        if (!x) return NULL;
    }
    lc_status status = lc_view_reshape(x, ndim, shape, &view);
    return keep(s, status, view);
}

lc_tensor *lc_step_expand(lc_scratch *s, lc_tensor *x, int ndim, const int64_t *shape) {
    if (s->status) return NULL;
    lc_tensor *view = NULL;
    lc_status status = lc_view_expand(x, ndim, shape, &view);
    return keep(s, status, view);
}

lc_tensor *lc_step_swap(lc_scratch *s, lc_tensor *x) {
    if (s->status) return NULL;
    int order[LC_MAX_DIMS];
    for (int d = 0; d < x->ndim; d++) order[d] = d;
    order[x->ndim - 1] = x->ndim - 2;
    order[x->ndim - 2] = x->ndim - 1;
    lc_tensor *view = NULL;
    lc_status status = lc_view_permute(x, order, &view);
    return keep(s, status, view);
}

lc_tensor *lc_step_slice(lc_scratch *s, lc_tensor *x, int dim, int64_t start, int64_t length) {
    if (s->status) return NULL;
    lc_tensor *view = NULL;
    lc_status status = lc_view_slice(x, dim, start, length, 1, &view);
    return keep(s, status, view);
}

lc_tensor *lc_step_unreduced(lc_scratch *s, const lc_rule_call *call, lc_tensor *t) {
    int64_t shape[LC_MAX_DIMS];
    for (int d = 0; d < call->ndim_in[0]; d++)
        shape[d] = call->attr->dim < 0 || d == call->attr->dim ? 1 : call->shape_in[0][d];
    return lc_step_reshape(s, t, call->ndim_in[0], shape);
}

void lc_scratch_give(lc_scratch *s, lc_rule_call *call, int i, lc_tensor *t) {
    if (!s->status && t) call->dx[i] = lc_tensor_retain(t);
}

lc_status lc_scratch_finish(lc_scratch *s, lc_rule_call *call) {
    for (int i = 0; i < s->n; i++) lc_tensor_release(s->kept[i]);
    if (s->status) {
        for (int i = 0; i < call->n_in; i++) {
            lc_tensor_release(call->dx[i]);
            call->dx[i] = NULL;
        }
    }
    return s->status;
}
