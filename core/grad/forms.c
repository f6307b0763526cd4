/* forms.c: the recording views, functions behind lc_external, and short forms of common ops. */
#include <string.h>

#include "grad/node.h"

/* Records a view that has been made; releases it on failure. */
static lc_status record_view(lc_op op, const lc_attr *attr, lc_tensor *x, lc_tensor *view, lc_tensor **out) {
    lc_status status = lc_must_record(&x, 1) ? lc_record(op, attr, &x, 1, &view, 1) : LC_OK;
    if (status)
        lc_tensor_release(view);
    else
        *out = view;
    return status;
}

lc_status lc_reshape(lc_tensor *x, int ndim, const int64_t *shape, lc_tensor **out) {
    lc_tensor *view = NULL, *dense = NULL;
    lc_status status = lc_view_reshape(x, ndim, shape, &view);
    if (status == LC_ESHAPE && !lc_is_contiguous(x)) {
        lc_attr copy = {.dtype = x->dtype};
        LC_TRY(lc_apply(LC_OP_COPY, &copy, &x, 1, &dense));
        status = lc_reshape(dense, ndim, shape, out);
        lc_tensor_release(dense);
        return status;
    }
    if (status) return status;
    return record_view(LC_OP_RESHAPE, NULL, x, view, out);
}

lc_status lc_permute(lc_tensor *x, const int *order, lc_tensor **out) {
    lc_attr a = {.ndim = x->ndim};
    memcpy(a.order, order, sizeof *order * (size_t)x->ndim);
    lc_tensor *view = NULL;
    LC_TRY(lc_view_permute(x, order, &view));
    return record_view(LC_OP_PERMUTE, &a, x, view, out);
}

lc_status lc_transpose(lc_tensor *x, int a, int b, lc_tensor **out) {
    int order[LC_MAX_DIMS];
    for (int i = 0; i < x->ndim; i++) order[i] = i;
    if (a < 0 || b < 0 || a >= x->ndim || b >= x->ndim)
        return lc_fail(LC_ESHAPE, "transpose: %s has no dimensions %d and %d", LC_SHAPE(x), a + 1, b + 1);
    order[a] = b;
    order[b] = a;
    return lc_permute(x, order, out);
}

lc_status lc_expand(lc_tensor *x, int ndim, const int64_t *shape, lc_tensor **out) {
    lc_tensor *view = NULL;
    LC_TRY(lc_view_expand(x, ndim, shape, &view));
    return record_view(LC_OP_EXPAND, NULL, x, view, out);
}

lc_status lc_slice(lc_tensor *x, int dim, int64_t start, int64_t length, int64_t step, lc_tensor **out) {
    lc_attr a = {.dim = dim, .start = start, .length = length, .step = step};
    lc_tensor *view = NULL;
    LC_TRY(lc_view_slice(x, dim, start, length, step, &view));
    return record_view(LC_OP_SLICE, &a, x, view, out);
}

lc_status lc_select(lc_tensor *x, int dim, int64_t index, lc_tensor **out) {
    lc_tensor *row = NULL;
    LC_TRY(lc_slice(x, dim, index, 1, 1, &row));
    int64_t shape[LC_MAX_DIMS];
    for (int i = 0; i < x->ndim - 1; i++) shape[i] = x->shape[i < dim ? i : i + 1];
    lc_status status = lc_reshape(row, x->ndim - 1, shape, out);
    lc_tensor_release(row);
    return status;
}

lc_status lc_leaf_alias(lc_tensor *leaf, const int *order, lc_tensor **out) {
    lc_tensor *alias = NULL;
    lc_attr a = {.ndim = leaf->ndim};
    memcpy(a.order, order, sizeof *order * (size_t)leaf->ndim);
    LC_TRY(lc_view_permute(leaf, order, &alias));
    lc_status status = lc_record(LC_OP_PERMUTE, &a, &leaf, 1, &alias, 1);
    if (status) {
        lc_tensor_release(alias);
        return status;
    }
    alias->leaf = lc_tensor_retain(leaf);
    *out = alias;
    return LC_OK;
}

/* Runs the function. What it gives is handed on as bare views: the function may have kept the tensors themselves. */
static lc_status run_external(const lc_external *e, lc_tensor *const *in, int n_in, lc_tensor **out, int *n_out) {
    lc_tensor *given[LC_MAX_OUT] = {0};
    int n = 0;
    bool before = lc_set_recording(false);
    lc_status status = e->forward(e->context, in, n_in, given, &n);
    lc_set_recording(before);
    int made = 0;
    while (!status && made < n && !(status = lc_view_alias(given[made], &out[made]))) made++;
    for (int i = 0; i < n; i++) lc_tensor_release(given[i]);
    for (int i = 0; status && i < made; i++) lc_tensor_release(out[i]);
    *n_out = n;
    return status;
}

lc_status lc_apply_external(const lc_external *external, lc_tensor *const *in, int n_in, lc_tensor **out, int *n_out) {
    lc_tensor *made[LC_MAX_OUT] = {0};
    int n = 0;
    lc_status status = n_in > LC_MAX_IN
                           ? lc_fail(LC_EINVAL, "%s: at most %d tensors can be given", external->name, LC_MAX_IN)
                           : run_external(external, in, n_in, made, &n);
    bool recorded = !status && external->backward && lc_must_record(in, n_in);
    if (recorded) {
        status = lc_record_external(external, in, n_in, made, n);
        for (int i = 0; status && i < n; i++) lc_tensor_release(made[i]);
        recorded = !status;
    }
    if (!recorded && external->release) external->release(external->context);
    if (status) return status;
    for (int i = 0; i < n; i++) out[i] = made[i];
    *n_out = n;
    return LC_OK;
}

/* -- short forms ------------------------------------------------------------------------------- */

lc_status lc_unary(lc_op op, lc_tensor *x, lc_tensor **out) {
    return lc_apply(op, NULL, &x, 1, out);
}

lc_status lc_binary(lc_op op, lc_tensor *a, lc_tensor *b, lc_tensor **out) {
    lc_tensor *in[2] = {a, b};
    return lc_apply(op, NULL, in, 2, out);
}

lc_status lc_reduce(lc_op op, lc_tensor *x, int dim, bool keepdim, lc_tensor **out) {
    lc_attr a = {.dim = dim, .keepdim = keepdim};
    return lc_apply(op, &a, &x, 1, out);
}

lc_status lc_matmul(lc_tensor *a, lc_tensor *b, lc_tensor **out) {
    return lc_binary(LC_OP_MATMUL, a, b, out);
}

lc_status lc_linear(lc_tensor *x, lc_tensor *w, lc_tensor *b, lc_activation act, lc_tensor **out) {
    lc_tensor *in[3] = {x, w, b}, *made[2] = {0};
    lc_attr a = {.act = act, .train = lc_must_record(in, 3)};
    LC_TRY(lc_apply(LC_OP_LINEAR, &a, in, 3, made));
    lc_tensor_release(made[1]);
    *out = made[0];
    return LC_OK;
}

lc_status lc_to(lc_tensor *x, lc_dtype dtype, lc_tensor **out) {
    if (x->dtype == dtype) {
        *out = lc_tensor_retain(x);
        return LC_OK;
    }
    lc_attr a = {.dtype = dtype};
    return lc_apply(LC_OP_COPY, &a, &x, 1, out);
}
