/* ref_product.c: matrix products, and the two triangular pieces that solvers need. Sums run along the inner dimension
 * in double. */
#include "base/memory.h"
#include "base/pool.h"
#include "ops/ref/ref.h"
#include <math.h>

/* Position of the first element of t's matrix that belongs to batch `number` of `out`: t's leading dimensions broadcast
 * to out's. */
static int64_t batch_start(const lc_tensor *t, const lc_tensor *out, int64_t number) {
    int64_t position = t->offset;
    for (int d = out->ndim - 3; d >= 0; d--) {
        int own = d - (out->ndim - t->ndim);
        if (own >= 0 && t->shape[own] != 1) position += number % out->shape[d] * t->strides[own];
        number /= out->shape[d];
    }
    return position;
}

lc_status lc_ref_matmul(const lc_call *call) {
    const lc_tensor *a = call->in[0], *b = call->in[1];
    lc_tensor *out = call->out[0];
    int64_t M = a->shape[a->ndim - 2], K = a->shape[a->ndim - 1], N = b->shape[b->ndim - 1];
    int64_t batches = lc_shape_numel(out->ndim - 2, out->shape);
    const int64_t *sa = &a->strides[a->ndim - 2], *sb = &b->strides[b->ndim - 2], *so = &out->strides[out->ndim - 2];
    for (int64_t n = 0; n < batches; n++) {
        int64_t a0 = batch_start(a, out, n), b0 = batch_start(b, out, n), o0 = batch_start(out, out, n);
        for (int64_t i = 0; i < M; i++) {
            LC_TRY(lc_poll());
            for (int64_t j = 0; j < N; j++) {
                int64_t at = o0 + i * so[0] + j * so[1];
                double sum = call->attr->add ? lc_get_f64(out, at) : 0;
                for (int64_t k = 0; k < K; k++)
                    sum += lc_get_f64(a, a0 + i * sa[0] + k * sa[1]) * lc_get_f64(b, b0 + k * sb[0] + j * sb[1]);
                lc_set_f64(out, at, sum);
            }
        }
    }
    lc_macs_add((uint64_t)(batches * M * N * K));
    return LC_OK;
}

/* y = act(x w^T + b). The second output is what went into act. */
lc_status lc_ref_linear(const lc_call *call) {
    lc_tensor *x = call->in[0], *w = call->in[1], *b = call->in[2], *y = call->out[0], *before = call->out[1];
    int64_t outputs = w->shape[0], inputs = w->shape[1], tokens = ref_lines(x, x->ndim - 1);
    for (int64_t t = 0; t < tokens; t++) {
        LC_TRY(lc_poll());
        ref_line from = ref_line_at(x, x->ndim - 1, t);
        for (int64_t o = 0; o < outputs; o++) {
            ref_line weights = ref_line_at(w, 1, o);
            double sum = b ? ref_flat(b, o) : 0;
            for (int64_t i = 0; i < inputs; i++) sum += ref_get(&from, i) * ref_get(&weights, i);
            int64_t number = t * outputs + o;
            if (before) lc_set_f64(before, lc_position(before, number), sum);
            if (y) lc_set_f64(y, lc_position(y, number), ref_activate(call->attr->act, sum));
        }
    }
    lc_macs_add((uint64_t)(tokens * outputs * inputs));
    return LC_OK;
}

/* L with A = L L^T, from A's lower triangle, row by row into l (n, n). Gives the row where it fails, or -1. */
static int64_t cholesky(const lc_tensor *a, int64_t matrix, int64_t n, double *l) {
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j <= i; j++) {
            double sum = ref_flat(a, (matrix * n + i) * n + j);
            for (int64_t k = 0; k < j; k++) sum -= l[i * n + k] * l[j * n + k];
            if (j < i)
                l[i * n + j] = sum / l[j * n + j];
            else if (sum > 0 && isfinite(sum))
                l[i * n + i] = sqrt(sum);
            else
                return i;
        }
    }
    return -1;
}

/* The upper factor is the transposed lower one: A = U^T U. */
lc_status lc_ref_cholesky(const lc_call *call) {
    lc_tensor *a = call->in[0], *out = call->out[0];
    int64_t n = a->shape[a->ndim - 1], matrices = lc_shape_numel(a->ndim - 2, a->shape);
    double *l = lc_alloc((size_t)(n * n) * sizeof *l);
    if (!l) return LC_ENOMEM;
    lc_status status = LC_OK;
    for (int64_t m = 0; m < matrices; m++) {
        LC_GOTO(done, lc_poll());
        int64_t row = cholesky(a, m, n, l);
        if (row >= 0) {
            status = lc_fail(
                LC_ENUMERIC,
                "cholesky: the %lld x %lld matrix is not positive definite (row %lld); add a little to its diagonal",
                (long long)n, (long long)n, (long long)row + 1);
            goto done;
        }
        for (int64_t i = 0; i < n; i++) {
            for (int64_t j = 0; j < n; j++) {
                int64_t r = call->attr->upper ? j : i, c = call->attr->upper ? i : j; /* where in L */
                lc_set_f64(out, lc_position(out, (m * n + i) * n + j), c <= r ? l[r * n + c] : 0);
            }
        }
    }
done:
    lc_free(l);
    return status;
}

/* Substitution, column by column of B: forward where op(A) is lower, backward where it is upper. Only that triangle is
 * read. */
lc_status lc_ref_solve_triangular(const lc_call *call) {
    lc_tensor *a = call->in[0], *b = call->in[1], *out = call->out[0];
    const lc_attr *attr = call->attr;
    int64_t n = a->shape[0], m = b->shape[1];
    bool upper = attr->upper != attr->transpose;
    int64_t down = attr->transpose ? a->strides[1] : a->strides[0]; /* steps in op(A) */
    int64_t right = attr->transpose ? a->strides[0] : a->strides[1];
    for (int64_t i = 0; i < n && !attr->unit; i++)
        if (lc_get_f64(a, a->offset + i * (down + right)) == 0)
            return lc_fail(LC_ENUMERIC, "solve_triangular: the matrix is singular: its diagonal is 0 in row %lld",
                           (long long)i + 1);
    double *x = lc_alloc((size_t)n * sizeof *x);
    if (!x) return LC_ENOMEM;
    for (int64_t c = 0; c < m; c++) {
        ref_line from = ref_line_at(b, 0, c), to = ref_line_at(out, 0, c);
        for (int64_t k = 0; k < n; k++) {
            int64_t i = upper ? n - 1 - k : k;
            double sum = ref_get(&from, i);
            for (int64_t j = upper ? i + 1 : 0, end = upper ? n : i; j < end; j++)
                sum -= lc_get_f64(a, a->offset + i * down + j * right) * x[j];
            x[i] = attr->unit ? sum : sum / lc_get_f64(a, a->offset + i * (down + right));
        }
        for (int64_t i = 0; i < n; i++) ref_set(&to, i, x[i]);
    }
    lc_free(x);
    return LC_OK;
}
