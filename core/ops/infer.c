/* infer.c: the checks and output shapes of elementwise ops, reductions, orders and selections; the table of all of
 * them. */
#include "ops/infer_helpers.h"
#include <math.h>
#include <string.h>

lc_infer lc_op_infer(lc_op op) {
    static const lc_infer rows[LC_OPS] = {
#define LC_OP(ENUM, name, infer, inputs, outputs, types, layout) [LC_OP_##ENUM] = lc_infer_##infer,
#include "ops/ops.def"
#undef LC_OP
    };
    return rows[op];
}

/* -- the checks -------------------------------------------------------------------------------- */

static lc_tensor *input(const lc_call *call, int i) {
    return i < call->n_in ? call->in[i] : NULL;
}

lc_status lc_infer_inputs(const lc_call *call, const char *names) {
    const char *op = lc_op_name(call->op);
    int i = 0;
    for (const char *name = names; *name; i++) {
        int length = (int)strcspn(name, " ?");
        bool optional = name[length] == '?';
        const lc_tensor *t = input(call, i);
        if (!t && !optional) return lc_fail(LC_EINVAL, "%s: %.*s is missing", op, length, name);
        if (t && lc_dtype_is_half(t->dtype))
            return lc_fail(LC_EDTYPE, "%s: %.*s is %s, which is only stored; cast it to f32 first", op, length, name,
                           lc_dtype_name(t->dtype));
        name += length + optional;
        name += strspn(name, " ");
    }
    if (call->n_in > i) return lc_fail(LC_EINVAL, "%s: takes at most %d inputs, got %d", op, i, call->n_in);
    return LC_OK;
}

lc_status lc_infer_float(const lc_call *call, int i, const char *name) {
    const lc_tensor *t = input(call, i);
    if (!t || lc_dtype_is_float(t->dtype)) return LC_OK;
    return lc_fail(LC_EDTYPE, "%s: %s is %s; it must be f32 or f64", lc_op_name(call->op), name,
                   lc_dtype_name(t->dtype));
}

lc_status lc_infer_integer(const lc_call *call, int i, const char *name) {
    const lc_tensor *t = input(call, i);
    if (!t || (!lc_dtype_is_float(t->dtype) && t->dtype != LC_BOOL)) return LC_OK;
    return lc_fail(LC_EDTYPE, "%s: %s is %s; it must be i64, i32 or u8", lc_op_name(call->op), name,
                   lc_dtype_name(t->dtype));
}

lc_status lc_infer_mask(const lc_call *call, int i, const char *name) {
    const lc_tensor *t = input(call, i);
    if (!t || t->dtype == LC_BOOL) return LC_OK;
    return lc_fail(LC_EDTYPE, "%s: %s is %s; it must be bool (a comparison makes one)", lc_op_name(call->op), name,
                   lc_dtype_name(t->dtype));
}

lc_status lc_infer_same_dtype(const lc_call *call, int i, const char *name) {
    const lc_tensor *t = input(call, i);
    if (!t || t->dtype == call->in[0]->dtype) return LC_OK;
    return lc_fail(LC_EDTYPE, "%s: %s is %s beside %s; cast one of them", lc_op_name(call->op), name,
                   lc_dtype_name(t->dtype), lc_dtype_name(call->in[0]->dtype));
}

lc_status lc_infer_shape(const lc_call *call, int i, const char *name, int ndim, const int64_t *shape) {
    const lc_tensor *t = input(call, i);
    if (!t || (t->ndim == ndim && !memcmp(t->shape, shape, (size_t)ndim * sizeof *shape))) return LC_OK;
    return lc_fail(LC_ESHAPE, "%s: %s is %s; it must be %s", lc_op_name(call->op), name, LC_SHAPE(t),
                   lc_shape_text(ndim, shape));
}

lc_status lc_infer_dim(const lc_call *call) {
    const lc_tensor *x = call->in[0];
    if (call->attr->dim >= 0 && call->attr->dim < x->ndim) return LC_OK;
    return lc_fail(LC_ESHAPE, "%s: %s has no such dimension", lc_op_name(call->op), LC_SHAPE(x));
}

void lc_spec_set(lc_spec *out, lc_dtype dtype, int ndim, const int64_t *shape) {
    out->wanted = true;
    out->dtype = dtype;
    out->ndim = ndim;
    for (int d = 0; d < ndim; d++) out->shape[d] = shape[d];
}

/* -- element by element ------------------------------------------------------------------------ */

lc_status lc_infer_copy(const lc_call *call, lc_spec *out) {
    if (!input(call, 0)) return lc_fail(LC_EINVAL, "copy: x is missing");
    if (call->attr->dtype < 0 || call->attr->dtype >= LC_DTYPES) return lc_fail(LC_EDTYPE, "copy: unknown dtype");
    lc_spec_like(out, call->attr->dtype, call->in[0]);
    return LC_OK;
}

lc_status lc_infer_fill(const lc_call *call, lc_spec *out) {
    if (!call->out[0]) return lc_fail(LC_EINVAL, "fill: needs a tensor to write into");
    lc_spec_like(out, call->out[0]->dtype, call->out[0]);
    return LC_OK;
}

lc_status lc_infer_unary(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "x"));
    lc_spec_like(out, call->in[0]->dtype, call->in[0]);
    return LC_OK;
}

lc_status lc_infer_test(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "x"));
    lc_spec_like(out, LC_BOOL, call->in[0]);
    return LC_OK;
}

static lc_status same_shapes(const lc_call *call) {
    if (lc_same_shape(call->in[0], call->in[1])) return LC_OK;
    return lc_fail(LC_ESHAPE, "%s: shapes differ: %s and %s", lc_op_name(call->op), LC_SHAPE(call->in[0]),
                   LC_SHAPE(call->in[1]));
}

lc_status lc_infer_binary(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "a b"));
    LC_TRY(same_shapes(call));
    lc_spec_like(out, call->in[0]->dtype, call->in[0]);
    return LC_OK;
}

lc_status lc_infer_compare(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "a b"));
    LC_TRY(same_shapes(call));
    lc_spec_like(out, LC_BOOL, call->in[0]);
    return LC_OK;
}

lc_status lc_infer_where(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "condition a b"));
    LC_TRY(lc_infer_mask(call, 0, "condition"));
    const lc_tensor *condition = call->in[0], *a = call->in[1], *b = call->in[2];
    if (a->dtype != b->dtype)
        return lc_fail(LC_EDTYPE, "where: a is %s, b is %s", lc_dtype_name(a->dtype), lc_dtype_name(b->dtype));
    LC_TRY(lc_infer_shape(call, 1, "a", condition->ndim, condition->shape));
    LC_TRY(lc_infer_shape(call, 2, "b", condition->ndim, condition->shape));
    lc_spec_like(out, a->dtype, a);
    return LC_OK;
}

lc_status lc_infer_masked_fill(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "x mask"));
    LC_TRY(lc_infer_mask(call, 1, "mask"));
    LC_TRY(same_shapes(call));
    lc_spec_like(out, call->in[0]->dtype, call->in[0]);
    return LC_OK;
}

lc_status lc_infer_dropout(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_unary(call, out));
    if (call->attr->a >= 0 && call->attr->a <= 1) return LC_OK;
    return lc_fail(LC_EINVAL, "dropout: rate %g is outside 0..1", call->attr->a);
}

lc_status lc_infer_triangle(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_unary(call, out));
    if (call->in[0]->ndim >= 2) return LC_OK;
    return lc_fail(LC_ESHAPE, "triangle: needs a matrix, got %s", LC_SHAPE(call->in[0]));
}

/* -- reductions -------------------------------------------------------------------------------- */

/* The shape left by reducing attr.dim (-1 = all); `nonempty` for those with no answer on nothing. */
static lc_status reduced(const lc_call *call, lc_dtype dtype, bool nonempty, lc_spec *out) {
    const lc_tensor *x = call->in[0];
    int dim = call->attr->dim;
    if (dim != -1) LC_TRY(lc_infer_dim(call));
    if (nonempty && (dim == -1 ? lc_numel(x) : x->shape[dim]) == 0)
        return lc_fail(LC_ESHAPE, "%s: %s has nothing to choose from", lc_op_name(call->op), LC_SHAPE(x));
    int64_t shape[LC_MAX_DIMS];
    int ndim = 0;
    for (int d = 0; d < x->ndim; d++) {
        bool gone = dim == -1 || d == dim;
        if (!gone || call->attr->keepdim) shape[ndim++] = gone ? 1 : x->shape[d];
    }
    lc_spec_set(out, dtype, ndim, shape);
    return LC_OK;
}

/* Integers and bool add up in i64. */
static lc_dtype sum_dtype(const lc_tensor *x) {
    return lc_dtype_is_float(x->dtype) ? x->dtype : LC_I64;
}

lc_status lc_infer_sum(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "x"));
    return reduced(call, sum_dtype(call->in[0]), false, out);
}

lc_status lc_infer_reduce(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "x"));
    return reduced(call, call->in[0]->dtype, call->op == LC_OP_MIN || call->op == LC_OP_MAX, out);
}

lc_status lc_infer_quantile(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "x"));
    if (!(call->attr->a >= 0 && call->attr->a <= 1))
        return lc_fail(LC_EINVAL, "quantile: %g is outside 0..1", call->attr->a);
    return reduced(call, call->in[0]->dtype, true, out);
}

lc_status lc_infer_index_reduce(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "x"));
    return reduced(call, LC_I64, true, out);
}

lc_status lc_infer_bool_reduce(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "x"));
    return reduced(call, LC_BOOL, false, out);
}

lc_status lc_infer_cumsum(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "x"));
    LC_TRY(lc_infer_dim(call));
    lc_spec_like(out, sum_dtype(call->in[0]), call->in[0]);
    return LC_OK;
}

lc_status lc_infer_sum_to(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "x"));
    const lc_tensor *x = call->in[0];
    const lc_attr *attr = call->attr;
    int new_dims = x->ndim - attr->ndim;
    bool fits = new_dims >= 0;
    for (int d = 0; fits && d < attr->ndim; d++) fits = attr->shape[d] == x->shape[new_dims + d] || attr->shape[d] == 1;
    if (!fits)
        return lc_fail(LC_ESHAPE, "sum_to: %s does not broadcast to %s", lc_shape_text(attr->ndim, attr->shape),
                       LC_SHAPE(x));
    lc_spec_set(out, sum_dtype(x), attr->ndim, attr->shape);
    return LC_OK;
}

/* -- order ------------------------------------------------------------------------------------- */

lc_status lc_infer_sort(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "x"));
    LC_TRY(lc_infer_dim(call));
    lc_spec_like(&out[0], call->in[0]->dtype, call->in[0]);
    lc_spec_like(&out[1], LC_I64, call->in[0]);
    return LC_OK;
}

/* attr.n lies in least..(how many there are along attr.dim, or in all). */
static lc_status count_fits(const lc_call *call, int64_t least) {
    const lc_tensor *x = call->in[0];
    if (call->attr->dim != -1) LC_TRY(lc_infer_dim(call));
    int64_t most = call->attr->dim == -1 ? lc_numel(x) : x->shape[call->attr->dim];
    if (call->attr->n >= least && call->attr->n <= most) return LC_OK;
    return lc_fail(LC_EINVAL, "%s: %lld is outside %lld..%lld, the number of elements to choose from",
                   lc_op_name(call->op), (long long)call->attr->n, (long long)least, (long long)most);
}

lc_status lc_infer_topk(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_sort(call, out));
    LC_TRY(count_fits(call, 0));
    out[0].shape[call->attr->dim] = out[1].shape[call->attr->dim] = call->attr->n;
    return LC_OK;
}

lc_status lc_infer_kth(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "x"));
    LC_TRY(count_fits(call, 1));
    LC_TRY(reduced(call, call->in[0]->dtype, true, &out[0]));
    return reduced(call, LC_I64, true, &out[1]);
}

lc_status lc_infer_keep(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "x"));
    LC_TRY(count_fits(call, 0));
    lc_spec_like(out, LC_BOOL, call->in[0]);
    return LC_OK;
}

/* -- selection and assembly -------------------------------------------------------------------- */

/* Indices for gather and scatter have the shape of x, except along attr.dim. */
static lc_status indices_fit(const lc_call *call) {
    const lc_tensor *x = call->in[0], *indices = call->in[1];
    LC_TRY(lc_infer_dim(call));
    LC_TRY(lc_infer_integer(call, 1, "indices"));
    bool fits = indices->ndim == x->ndim;
    for (int d = 0; fits && d < x->ndim; d++) fits = d == call->attr->dim || indices->shape[d] == x->shape[d];
    if (fits) return LC_OK;
    return lc_fail(LC_ESHAPE, "%s: indices %s must have the shape of x %s, except along the chosen dimension",
                   lc_op_name(call->op), LC_SHAPE(indices), LC_SHAPE(x));
}

lc_status lc_infer_gather(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "x indices"));
    LC_TRY(indices_fit(call));
    lc_spec_like(out, call->in[0]->dtype, call->in[1]);
    return LC_OK;
}

lc_status lc_infer_scatter(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "x indices source"));
    LC_TRY(indices_fit(call));
    LC_TRY(lc_infer_same_dtype(call, 2, "source"));
    LC_TRY(lc_infer_shape(call, 2, "source", call->in[1]->ndim, call->in[1]->shape));
    lc_spec_like(out, call->in[0]->dtype, call->in[0]);
    return LC_OK;
}

/* x's shape with attr.dim replaced by the shape of the indices. */
static lc_status indexed_shape(const lc_call *call, int *ndim, int64_t *shape) {
    const lc_tensor *x = call->in[0], *indices = call->in[1];
    LC_TRY(lc_infer_dim(call));
    LC_TRY(lc_infer_integer(call, 1, "indices"));
    if (x->ndim - 1 + indices->ndim > LC_MAX_DIMS)
        return lc_fail(LC_ESHAPE, "%s: x %s by indices %s has more than %d dimensions", lc_op_name(call->op),
                       LC_SHAPE(x), LC_SHAPE(indices), LC_MAX_DIMS);
    int n = 0;
    for (int d = 0; d < call->attr->dim; d++) shape[n++] = x->shape[d];
    for (int d = 0; d < indices->ndim; d++) shape[n++] = indices->shape[d];
    for (int d = call->attr->dim + 1; d < x->ndim; d++) shape[n++] = x->shape[d];
    *ndim = n;
    return LC_OK;
}

lc_status lc_infer_index(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "x indices"));
    int ndim;
    int64_t shape[LC_MAX_DIMS];
    LC_TRY(indexed_shape(call, &ndim, shape));
    lc_spec_set(out, call->in[0]->dtype, ndim, shape);
    return LC_OK;
}

lc_status lc_infer_index_add(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "x indices source"));
    int ndim;
    int64_t shape[LC_MAX_DIMS];
    LC_TRY(indexed_shape(call, &ndim, shape));
    LC_TRY(lc_infer_same_dtype(call, 2, "source"));
    LC_TRY(lc_infer_shape(call, 2, "source", ndim, shape));
    lc_spec_like(out, call->in[0]->dtype, call->in[0]);
    return LC_OK;
}

lc_status lc_infer_nonzero(const lc_call *call, lc_spec *out) {
    LC_TRY(lc_infer_inputs(call, "x"));
    const lc_tensor *x = call->in[0];
    int64_t count = 0;
    for (int64_t i = 0, n = lc_numel(x); i < n; i++) count += lc_get_f64(x, lc_position(x, i)) != 0;
    lc_spec_set(out, LC_I64, 2, (int64_t[]){count, x->ndim});
    return LC_OK;
}

lc_status lc_infer_cat(const lc_call *call, lc_spec *out) {
    if (!input(call, 0)) return lc_fail(LC_EINVAL, "cat: nothing to join");
    LC_TRY(lc_infer_dim(call));
    const lc_tensor *first = call->in[0];
    int dim = call->attr->dim;
    int64_t total = 0;
    for (int i = 0; i < call->n_in; i++) {
        const lc_tensor *t = call->in[i];
        if (!t) return lc_fail(LC_EINVAL, "cat: input %d of %d is missing", i + 1, call->n_in);
        if (lc_dtype_is_half(t->dtype))
            return lc_fail(LC_EDTYPE, "cat: %s is only stored; cast to f32 first", lc_dtype_name(t->dtype));
        bool fits = t->ndim == first->ndim;
        for (int d = 0; fits && d < t->ndim; d++) fits = d == dim || t->shape[d] == first->shape[d];
        if (!fits)
            return lc_fail(LC_ESHAPE, "cat: %s and %s differ beside the joined dimension", LC_SHAPE(first),
                           LC_SHAPE(t));
        total += t->shape[dim];
    }
    lc_spec_like(out, first->dtype, first);
    out->shape[dim] = total;
    return LC_OK;
}
