/* ref_reduce.c: one number from each line of x: sums, extremes, statistics. A line is x along attr.dim, or all of x. */
#include "base/memory.h"
#include "base/pool.h"
#include "ops/ref/ref.h"
#include <math.h>

typedef double (*real_reduction)(const lc_attr *attr, const ref_line *x);
typedef int64_t (*exact_reduction)(const ref_line *x);

/* out = exact(line) where that exists and x is an integer, or there is no other; else real(line). */
static lc_status reduce(const lc_call *call, real_reduction real, exact_reduction exact) {
    lc_tensor *x = call->in[0], *out = call->out[0];
    bool integer = exact && (!real || !lc_dtype_is_float(x->dtype));
    int64_t lines = lc_numel(out);
    for (int64_t l = 0; l < lines; l++) {
        LC_TRY(lc_poll());
        ref_line line = ref_line_at(x, call->attr->dim, l);
        if (integer)
            lc_set_i64(out, lc_position(out, l), exact(&line));
        else
            lc_set_f64(out, lc_position(out, l), real(call->attr, &line));
    }
    return LC_OK;
}

static double sum_real(const lc_attr *attr, const ref_line *x) {
    (void)attr;
    double sum = 0;
    for (int64_t i = 0; i < x->length; i++) sum += ref_get(x, i);
    return sum;
}

static int64_t sum_exact(const ref_line *x) {
    uint64_t sum = 0; /* unsigned: overflow wraps */
    for (int64_t i = 0; i < x->length; i++) sum += (uint64_t)lc_get_i64(x->t, ref_at(x, i));
    return (int64_t)sum;
}

lc_status lc_ref_sum(const lc_call *call) {
    return reduce(call, sum_real, sum_exact);
}

/* 0/0 = NaN for an empty line. */
static double mean_real(const lc_attr *attr, const ref_line *x) {
    return sum_real(attr, x) / (double)x->length;
}

lc_status lc_ref_mean(const lc_call *call) {
    return reduce(call, mean_real, NULL);
}

static double var_real(const lc_attr *attr, const ref_line *x) {
    double mean = mean_real(attr, x), sum = 0;
    for (int64_t i = 0; i < x->length; i++) {
        double d = ref_get(x, i) - mean;
        sum += d * d;
    }
    return sum / fmax(0, (double)x->length - attr->a);
}

lc_status lc_ref_var(const lc_call *call) {
    return reduce(call, var_real, NULL);
}

static double norm_real(const lc_attr *attr, const ref_line *x) {
    (void)attr;
    double sum = 0;
    for (int64_t i = 0; i < x->length; i++) sum += ref_get(x, i) * ref_get(x, i);
    return sqrt(sum);
}

lc_status lc_ref_norm(const lc_call *call) {
    return reduce(call, norm_real, NULL);
}

static double logsumexp_real(const lc_attr *attr, const ref_line *x) {
    (void)attr;
    double most = -INFINITY, sum = 0;
    for (int64_t i = 0; i < x->length; i++)
        if (ref_get(x, i) > most || isnan(ref_get(x, i))) most = ref_get(x, i);
    if (!isfinite(most)) return most;
    for (int64_t i = 0; i < x->length; i++) sum += exp(ref_get(x, i) - most);
    return most + log(sum);
}

lc_status lc_ref_logsumexp(const lc_call *call) {
    return reduce(call, logsumexp_real, NULL);
}

/* -- extremes: the first of the largest or smallest; a NaN beats everything -------------------- */

static int64_t extreme(const ref_line *x, bool largest) {
    bool real = lc_dtype_is_float(x->t->dtype);
    int64_t best = 0;
    for (int64_t i = 1; i < x->length; i++) {
        ref_number a = ref_read(x->t, ref_at(x, i)), b = ref_read(x->t, ref_at(x, best));
        bool better;
        if (real)
            better = !isnan(b.f) && (isnan(a.f) || (largest ? a.f > b.f : a.f < b.f));
        else
            better = largest ? a.i > b.i : a.i < b.i;
        if (better) best = i;
    }
    return best;
}

static int64_t argmax(const ref_line *x) {
    return extreme(x, true);
}
static int64_t argmin(const ref_line *x) {
    return extreme(x, false);
}
static int64_t max_exact(const ref_line *x) {
    return lc_get_i64(x->t, ref_at(x, argmax(x)));
}
static int64_t min_exact(const ref_line *x) {
    return lc_get_i64(x->t, ref_at(x, argmin(x)));
}

static double max_real(const lc_attr *attr, const ref_line *x) {
    (void)attr;
    return ref_get(x, argmax(x));
}

static double min_real(const lc_attr *attr, const ref_line *x) {
    (void)attr;
    return ref_get(x, argmin(x));
}

lc_status lc_ref_max(const lc_call *call) {
    return reduce(call, max_real, max_exact);
}
lc_status lc_ref_min(const lc_call *call) {
    return reduce(call, min_real, min_exact);
}
lc_status lc_ref_argmax(const lc_call *call) {
    return reduce(call, NULL, argmax);
}
lc_status lc_ref_argmin(const lc_call *call) {
    return reduce(call, NULL, argmin);
}

/* -- truth ------------------------------------------------------------------------------------- */

static int64_t count_nonzero(const ref_line *x) {
    int64_t count = 0;
    for (int64_t i = 0; i < x->length; i++) count += ref_get(x, i) != 0;
    return count;
}

static int64_t any(const ref_line *x) {
    return count_nonzero(x) > 0;
}
static int64_t all(const ref_line *x) {
    return count_nonzero(x) == x->length;
}

lc_status lc_ref_any(const lc_call *call) {
    return reduce(call, NULL, any);
}
lc_status lc_ref_all(const lc_call *call) {
    return reduce(call, NULL, all);
}

/* -- sums that keep more than one number ------------------------------------------------------- */

lc_status lc_ref_cumsum(const lc_call *call) {
    lc_tensor *x = call->in[0], *out = call->out[0];
    int dim = call->attr->dim;
    bool real = lc_dtype_is_float(x->dtype);
    for (int64_t l = 0, lines = ref_lines(x, dim); l < lines; l++) {
        LC_TRY(lc_poll());
        ref_line from = ref_line_at(x, dim, l), to = ref_line_at(out, dim, l);
        double sum = 0;
        uint64_t exact = 0;
        for (int64_t i = 0; i < from.length; i++) {
            if (real)
                ref_set(&to, i, sum += ref_get(&from, i));
            else
                lc_set_i64(out, ref_at(&to, i), (int64_t)(exact += (uint64_t)lc_get_i64(x, ref_at(&from, i))));
        }
    }
    return LC_OK;
}

/* The element of attr.shape that element i of x was broadcast from, as a row-major number. */
static int64_t source_of(const lc_call *call, int64_t i) {
    const lc_tensor *x = call->in[0];
    const lc_attr *attr = call->attr;
    int64_t source = 0, stride = 1;
    for (int d = x->ndim - 1, s = attr->ndim - 1; s >= 0; d--, s--) {
        if (attr->shape[s] != 1) source += i % x->shape[d] * stride;
        i /= x->shape[d];
        stride *= attr->shape[s];
    }
    return source;
}

lc_status lc_ref_sum_to(const lc_call *call) {
    lc_tensor *x = call->in[0], *out = call->out[0];
    bool real = lc_dtype_is_float(x->dtype);
    int64_t n = lc_numel(out);
    ref_number *sum = lc_calloc((size_t)n, sizeof *sum);
    if (!sum) return LC_ENOMEM;
    for (int64_t i = 0, count = lc_numel(x); i < count; i++) {
        ref_number value = ref_read(x, lc_position(x, i)), *to = &sum[source_of(call, i)];
        if (real)
            to->f += value.f;
        else
            to->i = (int64_t)((uint64_t)to->i + (uint64_t)value.i);
    }
    for (int64_t i = 0; i < n; i++) ref_write(out, lc_position(out, i), sum[i]);
    lc_free(sum);
    return LC_OK;
}
