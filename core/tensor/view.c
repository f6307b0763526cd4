/* view.c: views of tensors, broadcasting of shapes, and the walk over strided operands. */
#include <string.h>

#include "base/memory.h"
#include "tensor/tensor.h"

lc_status lc_view_strided(lc_tensor *x, int ndim, const int64_t *shape, const int64_t *strides, int64_t offset,
                          lc_tensor **out) {
    if (ndim > LC_MAX_DIMS) return lc_fail(LC_ESHAPE, "a tensor has at most %d dimensions, not %d", LC_MAX_DIMS, ndim);
    lc_tensor *t = lc_buffer_new(sizeof *t);
    if (!t) return LC_ENOMEM;
    memset(t, 0, sizeof *t);
    t->refs = 1;
    t->dtype = x->dtype;
    t->ndim = ndim;
    memcpy(t->shape, shape, sizeof *shape * (size_t)ndim);
    memcpy(t->strides, strides, sizeof *strides * (size_t)ndim);
    t->offset = offset;
    t->storage = x->storage;
    t->storage->refs++;
    *out = t;
    return LC_OK;
}

lc_status lc_view_alias(lc_tensor *x, lc_tensor **out) {
    return lc_view_strided(x, x->ndim, x->shape, x->strides, x->offset, out);
}

/* Puts the size that -1 stands for. */
static lc_status resolve_shape(const lc_tensor *x, int ndim, const int64_t *shape, int64_t *resolved) {
    int64_t known = 1, total = lc_numel(x);
    int unknown = -1;
    if (ndim > LC_MAX_DIMS) return lc_fail(LC_ESHAPE, "a tensor has at most %d dimensions, not %d", LC_MAX_DIMS, ndim);
    for (int i = 0; i < ndim; i++) {
        resolved[i] = shape[i];
        if (shape[i] >= 0) {
            if (__builtin_mul_overflow(known, shape[i], &known)) known = -1;
        } else if (shape[i] == -1 && unknown < 0) {
            unknown = i;
        } else {
            return lc_fail(LC_ESHAPE, "reshape: %s has a size that cannot be; one -1 may stand for the size to infer",
                           lc_shape_text(ndim, shape));
        }
    }
    if (unknown >= 0 && known > 0 && total % known == 0) resolved[unknown] = total / known, known = total;
    if (known != total || (unknown >= 0 && resolved[unknown] < 0))
        return lc_fail(LC_ESHAPE, "reshape: %s has %lld elements and cannot become %s", LC_SHAPE(x), (long long)total,
                       lc_shape_text(ndim, shape));
    return LC_OK;
}

/* Walks both shapes from the back, matching groups of dimensions of equal product; inside a group of x the strides must
 * chain. */
bool lc_can_view_as(const lc_tensor *x, int ndim, const int64_t *shape, int64_t *strides) {
    if (lc_numel(x) == 0 || lc_is_contiguous(x)) {
        int64_t stride = 1;
        for (int i = ndim - 1; i >= 0; i--) strides[i] = stride, stride *= lc_max(shape[i], 1);
        return true;
    }
    int i = x->ndim - 1, j = ndim - 1;
    while (j >= 0) {
        while (i >= 0 && x->shape[i] == 1) i--;
        if (shape[j] == 1) {
            strides[j--] = 1;
            continue;
        }
        int64_t have = x->shape[i], stride = x->strides[i], want = 1;
        for (; j >= 0; j--) {
            if (shape[j] == 1) {
                strides[j] = 1;
                continue;
            }
            if (want == have) break;
            strides[j] = stride * want;
            want *= shape[j];
            while (have % want != 0) { /* the group needs the next dimension of x, chained to this one */
                int next = i - 1;
                while (next >= 0 && x->shape[next] == 1) next--;
                if (next < 0 || x->strides[next] != x->strides[i] * x->shape[i]) return false;
                have *= x->shape[next];
                i = next;
            }
        }
        i--;
    }
    return true;
}

lc_status lc_view_reshape(lc_tensor *x, int ndim, const int64_t *shape, lc_tensor **out) {
    int64_t resolved[LC_MAX_DIMS], strides[LC_MAX_DIMS];
    LC_TRY(resolve_shape(x, ndim, shape, resolved));
    if (!lc_can_view_as(x, ndim, resolved, strides))
        return lc_fail(LC_ESHAPE, "view: %s with these strides cannot be seen as %s without a copy; use reshape",
                       LC_SHAPE(x), lc_shape_text(ndim, resolved));
    return lc_view_strided(x, ndim, resolved, strides, x->offset, out);
}

lc_status lc_view_permute(lc_tensor *x, const int *order, lc_tensor **out) {
    int64_t shape[LC_MAX_DIMS], strides[LC_MAX_DIMS];
    unsigned seen = 0;
    for (int i = 0; i < x->ndim; i++) {
        if (order[i] < 0 || order[i] >= x->ndim || seen >> order[i] & 1)
            return lc_fail(LC_ESHAPE, "permute: the order must name each of the %d dimensions once", x->ndim);
        seen |= 1u << order[i];
        shape[i] = x->shape[order[i]];
        strides[i] = x->strides[order[i]];
    }
    return lc_view_strided(x, x->ndim, shape, strides, x->offset, out);
}

lc_status lc_view_expand(lc_tensor *x, int ndim, const int64_t *shape, lc_tensor **out) {
    int64_t sizes[LC_MAX_DIMS], strides[LC_MAX_DIMS];
    int front = ndim - x->ndim;
    bool fits = front >= 0 && ndim <= LC_MAX_DIMS;
    for (int i = 0; fits && i < ndim; i++) {
        int64_t have = i < front ? 1 : x->shape[i - front];
        sizes[i] = shape[i] == -1 ? have : shape[i];
        if (have != sizes[i] && have != 1)
            fits = false;
        else
            strides[i] = i < front || have != sizes[i] ? 0 : x->strides[i - front];
    }
    if (!fits)
        return lc_fail(LC_ESHAPE, "expand: %s cannot be broadcast to %s; only sizes of 1 stretch", LC_SHAPE(x),
                       lc_shape_text(ndim, shape));
    size_t bytes;
    LC_TRY(lc_shape_bytes(x->dtype, ndim, sizes, &bytes));
    return lc_view_strided(x, ndim, sizes, strides, x->offset, out);
}

lc_status lc_view_slice(lc_tensor *x, int dim, int64_t start, int64_t length, int64_t step, lc_tensor **out) {
    if (dim < 0 || dim >= x->ndim) return lc_fail(LC_ESHAPE, "slice: %s has no dimension %d", LC_SHAPE(x), dim + 1);
    int64_t size = x->shape[dim], last;
    if (__builtin_mul_overflow(length - 1, step, &last) || __builtin_add_overflow(start, last, &last))
        last = INT64_MAX - 1; /* past the end of any dimension */
    if (length < 0 || start < 0 || start > size || (length > 0 && (last < 0 || last >= size)))
        return lc_fail(LC_ESHAPE, "slice: positions %lld to %lld are outside dimension %d of %s",
                       (long long)lc_min(start, INT64_MAX - 1) + 1, (long long)lc_min(last, INT64_MAX - 1) + 1, dim + 1,
                       LC_SHAPE(x));
    int64_t shape[LC_MAX_DIMS], strides[LC_MAX_DIMS];
    memcpy(shape, x->shape, sizeof shape);
    memcpy(strides, x->strides, sizeof strides);
    shape[dim] = length;
    if (length > 1) strides[dim] *= step;
    return lc_view_strided(x, x->ndim, shape, strides, x->offset + (length ? start * x->strides[dim] : 0), out);
}

lc_status lc_view_select(lc_tensor *x, int dim, int64_t index, lc_tensor **out) {
    lc_tensor *row = NULL;
    LC_TRY(lc_view_slice(x, dim, index, 1, 1, &row));
    row->ndim--;
    for (int i = dim; i < row->ndim; i++) {
        row->shape[i] = row->shape[i + 1];
        row->strides[i] = row->strides[i + 1];
    }
    *out = row;
    return LC_OK;
}

lc_status lc_broadcast_shape(int na, const int64_t *a, int nb, const int64_t *b, int *n, int64_t *shape) {
    int ndim = na > nb ? na : nb;
    int64_t result[LC_MAX_DIMS] = {0};
    for (int i = 0; i < ndim; i++) {
        int64_t x = i < ndim - na ? 1 : a[i - (ndim - na)], y = i < ndim - nb ? 1 : b[i - (ndim - nb)];
        if (x != y && x != 1 && y != 1)
            return lc_fail(LC_ESHAPE,
                           "shapes %s and %s do not broadcast: dimension %d is %lld in one and %lld in the other",
                           lc_shape_text(na, a), lc_shape_text(nb, b), i + 1, (long long)x, (long long)y);
        result[i] = x == 1 ? y : x;
    }
    *n = ndim;
    memcpy(shape, result, sizeof *shape * (size_t)ndim);
    return LC_OK;
}

/* Can dimension i of every operand be walked as a continuation of the one collected so far? */
static bool merges(const lc_iter *it, lc_tensor *const *t, int i, int64_t size, const int64_t *stride) {
    for (int k = 0; k < it->operands; k++)
        if (t[k]->strides[i] != stride[k] * size) return false;
    return true;
}

void lc_iter_init(lc_iter *it, int operands, lc_tensor *const *t) {
    it->operands = operands;
    it->ndim = 0;
    it->rows = 1;
    it->inner = 1;
    for (int k = 0; k < operands; k++) it->inner_stride[k] = 0;
    bool have_inner = false;
    for (int i = t[0]->ndim - 1; i >= 0; i--) {
        int64_t size = t[0]->shape[i];
        if (size == 1) continue;
        if (!have_inner) {
            it->inner = size;
            for (int k = 0; k < operands; k++) it->inner_stride[k] = t[k]->strides[i];
            have_inner = true;
        } else if (it->ndim == 0 && merges(it, t, i, it->inner, it->inner_stride)) {
            it->inner *= size;
        } else {
            it->shape[it->ndim] = size; /* innermost first */
            for (int k = 0; k < operands; k++) it->strides[k][it->ndim] = t[k]->strides[i];
            it->ndim++;
            it->rows *= size;
        }
    }
    if (it->inner == 0) it->rows = 0;
}

void lc_iter_row(const lc_iter *it, int64_t row, int64_t offsets[LC_MAX_OPERANDS]) {
    for (int k = 0; k < it->operands; k++) offsets[k] = 0;
    for (int i = 0; i < it->ndim; i++) {
        int64_t at = row % it->shape[i];
        row /= it->shape[i];
        for (int k = 0; k < it->operands; k++) offsets[k] += at * it->strides[k][i];
    }
}
