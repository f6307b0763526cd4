/* matmul.c: MATMUL and LINEAR by the tiled products of gemm.h.
 *
 * BLAS wants one of a matrix's two strides to be 1. Views for which that holds, transposed ones and slices of a wider
 * matrix, are used where they lie; others are copied first. */
#include "ops/cpu/cpu.h"
#include "ops/gemm.h"

/* op(A) of a product, as it lies in memory. */
typedef struct matrix {
    int64_t rows, cols;
    int64_t row_stride, col_stride;
} matrix;

/* Can BLAS read it? Then whether it lies transposed, and the distance between stored rows. A stride of a dimension of
 * size 1 says nothing. */
static bool as_stored(matrix m, bool *transposed, int64_t *distance) {
    *transposed = false;
    *distance = m.rows == 1 ? m.cols : m.row_stride;
    if ((m.col_stride == 1 || m.cols == 1) && *distance >= m.cols) return true;
    *transposed = true;
    *distance = m.cols == 1 ? m.rows : m.col_stride;
    return (m.row_stride == 1 || m.rows == 1) && *distance >= m.rows;
}

static matrix last_two(const lc_tensor *t) {
    int n = t->ndim;
    return (matrix){t->shape[n - 2], t->shape[n - 1], t->strides[n - 2], t->strides[n - 1]};
}

/* t itself, retained, where BLAS can read it; else a contiguous copy. */
static lc_status readable(lc_tensor *t, lc_tensor **out) {
    bool transposed;
    int64_t distance;
    if (!as_stored(last_two(t), &transposed, &distance)) return lc_contiguous(t, out);
    *out = lc_tensor_retain(t);
    return LC_OK;
}

lc_status cpu_by_contiguous_outputs(const lc_call *call, lc_kernel kernel) {
    lc_call inner = *call;
    lc_status status = LC_OK;
    for (int i = 0; i < call->n_out; i++) inner.out[i] = NULL;
    for (int i = 0; i < call->n_out; i++) {
        lc_tensor *t = call->out[i];
        if (!t) continue;
        LC_GOTO(done, lc_tensor_new(t->dtype, t->ndim, t->shape, LC_CPU, &inner.out[i]));
        if (call->attr->add) LC_GOTO(done, lc_copy_into(inner.out[i], t));
    }
    LC_GOTO(done, kernel(&inner));
    for (int i = 0; i < call->n_out; i++)
        if (call->out[i]) LC_GOTO(done, lc_copy_into(call->out[i], inner.out[i]));
done:
    for (int i = 0; i < call->n_out; i++) lc_tensor_release(inner.out[i]);
    return status;
}

/* -- matmul ------------------------------------------------------------------------------------ */

/* Offsets of t's matrices for every batch of `out`, to whose leading dimensions t's broadcast. */
static void batch_offsets(const lc_tensor *t, const lc_tensor *out, int64_t batches, int64_t *offsets) {
    for (int64_t n = 0; n < batches; n++) {
        int64_t rest = n;
        offsets[n] = 0;
        for (int d = out->ndim - 3; d >= 0; d--) {
            int own = d - (out->ndim - t->ndim);
            if (own >= 0 && t->shape[own] != 1) offsets[n] += rest % out->shape[d] * t->strides[own];
            rest /= out->shape[d];
        }
    }
}

/* Many products with one b are one product, where a's and out's rows go on from batch to batch. */
static bool fold_batches(const lc_tensor *a, const lc_tensor *b, const lc_tensor *out, matrix *ma, matrix *mo) {
    int64_t batches = lc_shape_numel(out->ndim - 2, out->shape);
    if (batches == 1 || lc_shape_numel(b->ndim - 2, b->shape) != 1) return false;
    int64_t rows[2] = {batches * ma->rows, ma->cols}, cols[2] = {rows[0], mo->cols}, sa[2], so[2];
    if (lc_shape_numel(a->ndim, a->shape) != rows[0] * rows[1]) return false;
    if (!lc_can_view_as(a, 2, rows, sa) || !lc_can_view_as(out, 2, cols, so)) return false;
    matrix wide = {rows[0], rows[1], sa[0], sa[1]}, result = {cols[0], cols[1], so[0], so[1]};
    bool transposed;
    int64_t distance;
    if (!as_stored(wide, &transposed, &distance) || !as_stored(result, &transposed, &distance)) return false;
    *ma = wide;
    *mo = result;
    return true;
}

/* out (+)= a b, all of them readable. Where out lies transposed, its transpose is computed: b^T a^T. */
static lc_status product(const lc_call *call, lc_tensor *a, lc_tensor *b) {
    lc_tensor *out = call->out[0];
    matrix ma = last_two(a), mb = last_two(b), mo = last_two(out);
    bool folded = fold_batches(a, b, out, &ma, &mo), swap;
    lc_product p = {.dtype = out->dtype, .alpha = 1, .beta = call->attr->add, .batches = 1, .C = lc_data(out)};
    as_stored(mo, &swap, &p.ldc);
    p.M = swap ? mo.cols : mo.rows;
    p.N = swap ? mo.rows : mo.cols;
    p.K = ma.cols;
    p.A = lc_data(swap ? b : a);
    p.B = lc_data(swap ? a : b);
    as_stored(ma, swap ? &p.trans_b : &p.trans_a, swap ? &p.ldb : &p.lda);
    as_stored(mb, swap ? &p.trans_a : &p.trans_b, swap ? &p.lda : &p.ldb);
    if (swap) {
        p.trans_a = !p.trans_a;
        p.trans_b = !p.trans_b;
    }
    if (!folded) p.batches = lc_shape_numel(out->ndim - 2, out->shape);
    if (p.batches == 1) return lc_products(&p);
    int64_t *offsets = lc_alloc(sizeof *offsets * 3 * (size_t)lc_max(p.batches, 1));
    if (!offsets) return LC_ENOMEM;
    batch_offsets(swap ? b : a, out, p.batches, offsets);
    batch_offsets(swap ? a : b, out, p.batches, offsets + p.batches);
    batch_offsets(out, out, p.batches, offsets + 2 * p.batches);
    p.at_a = offsets;
    p.at_b = offsets + p.batches;
    p.at_c = offsets + 2 * p.batches;
    lc_status status = lc_products(&p);
    lc_free(offsets);
    return status;
}

lc_status cpu_matmul(const lc_call *call) {
    lc_tensor *out = call->out[0], *a = NULL, *b = NULL;
    bool transposed;
    int64_t distance;
    if (!as_stored(last_two(out), &transposed, &distance)) return cpu_by_contiguous_outputs(call, cpu_matmul);
    lc_status status;
    LC_GOTO(done, readable(call->in[0], &a));
    LC_GOTO(done, readable(call->in[1], &b));
    status = product(call, a, b);
done:
    lc_tensor_release(a);
    lc_tensor_release(b);
    return status;
}

/* -- linear ------------------------------------------------------------------------------------ */

typedef struct linear_job {
    size_t size;
    int64_t O;
    char *y, *before;  /* (N, O); before is y where it is not wanted */
    const char *bias;  /* (O) or NULL */
    lc_block add, act; /* act NULL: none */
} linear_job;

/* Bias and activation on a finished tile. */
static void finish_tile(void *context, int64_t batch, int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
    const linear_job *l = context;
    (void)batch;
    for (int64_t i = i0; i < i1; i++) {
        size_t at = (size_t)(i * l->O + j0) * l->size;
        if (l->bias)
            l->add(l->before + at, (const void *[]){l->before + at, l->bias + (size_t)j0 * l->size}, j1 - j0, NULL);
        if (l->act) l->act(l->y + at, (const void *[]){l->before + at}, j1 - j0, NULL);
    }
}

static lc_block activation(lc_activation act, lc_dtype dtype) {
    static const lc_op op[] = {[LC_ACT_RELU] = LC_OP_RELU,
                               [LC_ACT_GELU] = LC_OP_GELU,
                               [LC_ACT_GELU_TANH] = LC_OP_GELU_TANH,
                               [LC_ACT_SILU] = LC_OP_SILU,
                               [LC_ACT_TANH] = LC_OP_TANH};
    return act == LC_ACT_NONE ? NULL : lc_simd_get()->map[op[act]][dtype];
}

/* x seen as (N, I): itself where BLAS can read that, else a contiguous copy. */
static lc_status as_rows(lc_tensor *x, int64_t N, int64_t I, lc_tensor **out) {
    lc_tensor *flat = NULL;
    int64_t shape[2] = {N, I}, strides[2];
    if (lc_can_view_as(x, 2, shape, strides)) {
        LC_TRY(lc_view_strided(x, 2, shape, strides, x->offset, &flat));
    } else {
        lc_tensor *dense = NULL;
        LC_TRY(lc_contiguous(x, &dense));
        lc_status status = lc_view_reshape(dense, 2, shape, &flat);
        lc_tensor_release(dense);
        if (status) return status;
    }
    lc_status status = readable(flat, out);
    lc_tensor_release(flat);
    return status;
}

lc_status cpu_linear(const lc_call *call) {
    lc_tensor *y = call->out[0], *before = call->out[1], *x = NULL, *w = NULL, *bias = NULL;
    if (!y || !lc_is_contiguous(y) || (before && !lc_is_contiguous(before)))
        return cpu_by_contiguous_outputs(call, cpu_linear);
    int64_t O = call->in[1]->shape[0], I = call->in[1]->shape[1];
    int64_t N = lc_shape_numel(call->in[0]->ndim - 1, call->in[0]->shape);
    lc_status status;
    LC_GOTO(done, as_rows(call->in[0], N, I, &x));
    LC_GOTO(done, readable(call->in[1], &w));
    if (call->in[2]) LC_GOTO(done, lc_contiguous(call->in[2], &bias));
    linear_job l = {.size = lc_dtype_size(y->dtype),
                    .O = O,
                    .y = lc_data(y),
                    .before = lc_data(before ? before : y),
                    .bias = bias ? lc_data(bias) : NULL,
                    .add = lc_simd_get()->map[LC_OP_ADD][y->dtype],
                    .act = activation(call->attr->act, y->dtype)};
    lc_product p = {.dtype = y->dtype,
                    .M = N,
                    .N = O,
                    .K = I,
                    .alpha = 1,
                    .batches = 1,
                    .A = lc_data(x),
                    .B = lc_data(w),
                    .C = l.before,
                    .ldc = O,
                    .epilogue = l.bias || l.act ? finish_tile : NULL,
                    .context = &l};
    as_stored(last_two(x), &p.trans_a, &p.lda);
    as_stored((matrix){I, O, w->strides[1], w->strides[0]}, &p.trans_b, &p.ldb);
    status = lc_products(&p);
done:
    lc_tensor_release(x);
    lc_tensor_release(w);
    lc_tensor_release(bias);
    return status;
}
