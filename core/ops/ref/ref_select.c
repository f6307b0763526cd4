/* ref_select.c: picking elements by index, putting them back, and joining tensors. */
#include "base/memory.h"
#include "base/pool.h"
#include "ops/ref/ref.h"

lc_status ref_check_indices(const lc_call *call, const lc_tensor *indices, int64_t size, const char *what) {
    for (int64_t i = 0, n = lc_numel(indices); i < n; i++) {
        int64_t index = lc_get_i64(indices, lc_position(indices, i));
        if (index < 0 || index >= size)
            return lc_fail(LC_EINVAL, "%s: %s %lld is outside 0..%lld", lc_op_name(call->op), what, (long long)index,
                           (long long)size - 1);
    }
    return LC_OK;
}

static ref_number add(const lc_tensor *t, ref_number a, ref_number b) {
    if (lc_dtype_is_float(t->dtype)) return (ref_number){.f = a.f + b.f};
    return (ref_number){.i = ref_wrapped(t->dtype, (int64_t)((uint64_t)a.i + (uint64_t)b.i))};
}

/* Element i of a line of indices. */
static int64_t index_at(const ref_line *indices, int64_t i) {
    return lc_get_i64(indices->t, ref_at(indices, i));
}

lc_status lc_ref_gather(const lc_call *call) {
    lc_tensor *x = call->in[0], *indices = call->in[1], *out = call->out[0];
    int dim = call->attr->dim;
    LC_TRY(ref_check_indices(call, indices, x->shape[dim], "index"));
    for (int64_t l = 0, lines = ref_lines(out, dim); l < lines; l++) {
        ref_line from = ref_line_at(x, dim, l), at = ref_line_at(indices, dim, l), to = ref_line_at(out, dim, l);
        for (int64_t i = 0; i < to.length; i++)
            ref_write(out, ref_at(&to, i), ref_read(x, ref_at(&from, index_at(&at, i))));
    }
    return LC_OK;
}

/* Where an index comes twice, the later source wins; with attr.add both count. */
lc_status lc_ref_scatter(const lc_call *call) {
    lc_tensor *x = call->in[0], *indices = call->in[1], *source = call->in[2], *out = call->out[0];
    int dim = call->attr->dim;
    int64_t length = x->shape[dim];
    LC_TRY(ref_check_indices(call, indices, length, "index"));
    ref_number *result = lc_alloc((size_t)length * sizeof *result);
    if (!result) return LC_ENOMEM;
    for (int64_t l = 0, lines = ref_lines(x, dim); l < lines; l++) {
        ref_line base = ref_line_at(x, dim, l), at = ref_line_at(indices, dim, l);
        ref_line from = ref_line_at(source, dim, l), to = ref_line_at(out, dim, l);
        for (int64_t i = 0; i < length; i++) result[i] = ref_read(x, ref_at(&base, i));
        for (int64_t i = 0; i < from.length; i++) {
            ref_number value = ref_read(source, ref_at(&from, i)), *slot = &result[index_at(&at, i)];
            *slot = call->attr->add ? add(x, *slot, value) : value;
        }
        for (int64_t i = 0; i < length; i++) ref_write(out, ref_at(&to, i), result[i]);
    }
    lc_free(result);
    return LC_OK;
}

/* Elements of t in the dimensions after `dim`: the distance, in row-major numbers, between neighbours along dim. */
static int64_t inner_size(const lc_tensor *t, int dim) {
    return lc_shape_numel(t->ndim - dim - 1, t->shape + dim + 1);
}

lc_status lc_ref_index(const lc_call *call) {
    lc_tensor *x = call->in[0], *indices = call->in[1], *out = call->out[0];
    int dim = call->attr->dim;
    LC_TRY(ref_check_indices(call, indices, x->shape[dim], "index"));
    int64_t inner = inner_size(x, dim), n = lc_numel(indices);
    for (int64_t o = 0, count = lc_numel(out); o < count; o++) {
        int64_t in = o % inner, at = o / inner % n, outer = o / inner / n;
        int64_t index = lc_get_i64(indices, lc_position(indices, at));
        int64_t from = (outer * x->shape[dim] + index) * inner + in;
        ref_write(out, lc_position(out, o), ref_read(x, lc_position(x, from)));
    }
    return LC_OK;
}

lc_status ref_add_rows(lc_tensor *out, lc_tensor *base, int dim, const lc_tensor *indices, const lc_tensor *source) {
    int64_t length = out->shape[dim], inner = inner_size(out, dim), n = lc_numel(indices);
    ref_number *sum = lc_alloc((size_t)length * sizeof *sum);
    if (!sum) return LC_ENOMEM;
    for (int64_t l = 0, lines = ref_lines(out, dim); l < lines; l++) {
        ref_line to = ref_line_at(out, dim, l), from = ref_line_at(base ? base : out, dim, l);
        for (int64_t i = 0; i < length; i++) sum[i] = base ? ref_read(base, ref_at(&from, i)) : (ref_number){0};
        for (int64_t i = 0; i < n; i++) {
            int64_t row = (l / inner * n + i) * inner + l % inner;
            ref_number *slot = &sum[lc_get_i64(indices, lc_position(indices, i))];
            *slot = add(out, *slot, ref_read(source, lc_position(source, row)));
        }
        for (int64_t i = 0; i < length; i++) ref_write(out, ref_at(&to, i), sum[i]);
    }
    lc_free(sum);
    return LC_OK;
}

/* With attr.add, source is added to what `out` holds, and x only tells the shape. */
lc_status lc_ref_index_add(const lc_call *call) {
    lc_tensor *x = call->in[0], *out = call->out[0];
    LC_TRY(ref_check_indices(call, call->in[1], x->shape[call->attr->dim], "index"));
    return ref_add_rows(out, call->attr->add ? out : x, call->attr->dim, call->in[1], call->in[2]);
}

/* The coordinates of each element that is not zero, in row-major order. */
lc_status lc_ref_nonzero(const lc_call *call) {
    lc_tensor *x = call->in[0], *out = call->out[0];
    for (int64_t i = 0, row = 0, n = lc_numel(x); i < n; i++) {
        if (ref_flat(x, i) == 0) continue;
        int64_t rest = i;
        for (int d = x->ndim - 1; d >= 0; d--) {
            lc_set_i64(out, lc_position(out, row * x->ndim + d), rest % x->shape[d]);
            rest /= x->shape[d];
        }
        row++;
    }
    return LC_OK;
}

lc_status lc_ref_cat(const lc_call *call) {
    lc_tensor *out = call->out[0];
    int dim = call->attr->dim;
    int64_t start = 0;
    for (int k = 0; k < call->n_in; k++) {
        lc_tensor *x = call->in[k];
        for (int64_t l = 0, lines = ref_lines(x, dim); l < lines; l++) {
            LC_TRY(lc_poll());
            ref_line from = ref_line_at(x, dim, l), to = ref_line_at(out, dim, l);
            for (int64_t i = 0; i < from.length; i++)
                ref_write(out, ref_at(&to, start + i), ref_read(x, ref_at(&from, i)));
        }
        start += x->shape[dim];
    }
    return LC_OK;
}

/* Element (i, j) stays where j - i >= n (upper) or j - i <= n (lower). */
lc_status lc_ref_triangle(const lc_call *call) {
    lc_tensor *x = call->in[0], *out = call->out[0];
    int64_t columns = x->shape[x->ndim - 1], rows = x->shape[x->ndim - 2];
    for (int64_t e = 0, count = lc_numel(x); e < count; e++) {
        int64_t i = e / columns % rows, j = e % columns;
        bool stays = call->attr->upper ? j - i >= call->attr->n : j - i <= call->attr->n;
        ref_write(out, lc_position(out, e), stays ? ref_read(x, lc_position(x, e)) : (ref_number){0});
    }
    return LC_OK;
}
