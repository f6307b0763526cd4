/* ref_rows.c: ops on rows, the lines along the last dimension (a 0-d tensor is one row of one): softmax, normalisation,
 * dropout. */
#include "base/memory.h"
#include "base/pool.h"
#include "base/random.h"
#include "ops/ref/ref.h"
#include <math.h>

static int64_t rows_of(const lc_tensor *t) {
    return ref_lines(t, t->ndim - 1);
}
static ref_line row_of(lc_tensor *t, int64_t number) {
    return ref_line_at(t, t->ndim - 1, number);
}

/* -- softmax ----------------------------------------------------------------------------------- */

static double largest(const ref_line *x) {
    double most = -INFINITY;
    for (int64_t i = 0; i < x->length; i++) most = fmax(most, ref_get(x, i));
    return most;
}

static lc_status softmax(const lc_call *call, bool logarithm) {
    lc_tensor *x = call->in[0], *out = call->out[0];
    for (int64_t r = 0, rows = rows_of(x); r < rows; r++) {
        LC_TRY(lc_poll());
        ref_line from = row_of(x, r), to = row_of(out, r);
        double most = largest(&from), sum = 0;
        for (int64_t i = 0; i < from.length; i++) sum += exp(ref_get(&from, i) - most);
        for (int64_t i = 0; i < from.length; i++) {
            double y = ref_get(&from, i) - most - log(sum); /* most + log(sum) would lose the digits of a large most */
            ref_set(&to, i, logarithm ? y : exp(y));
        }
    }
    return LC_OK;
}

lc_status lc_ref_softmax(const lc_call *call) {
    return softmax(call, false);
}
lc_status lc_ref_log_softmax(const lc_call *call) {
    return softmax(call, true);
}

/* softmax: dx = y (dy - sum(y dy)).  log_softmax: dx = dy - exp(y) sum(dy). */
static lc_status softmax_backward(const lc_call *call, bool logarithm) {
    lc_tensor *y = call->in[0], *dy = call->in[1], *dx = call->out[0];
    for (int64_t r = 0, rows = rows_of(y); r < rows; r++) {
        LC_TRY(lc_poll());
        ref_line yr = row_of(y, r), dyr = row_of(dy, r), dxr = row_of(dx, r);
        double sum = 0;
        for (int64_t i = 0; i < yr.length; i++) sum += ref_get(&dyr, i) * (logarithm ? 1 : ref_get(&yr, i));
        for (int64_t i = 0; i < yr.length; i++) {
            double yi = ref_get(&yr, i), dyi = ref_get(&dyr, i);
            ref_set(&dxr, i, logarithm ? dyi - exp(yi) * sum : yi * (dyi - sum));
        }
    }
    return LC_OK;
}

lc_status lc_ref_softmax_backward(const lc_call *call) {
    return softmax_backward(call, false);
}
lc_status lc_ref_log_softmax_backward(const lc_call *call) {
    return softmax_backward(call, true);
}

/* -- normalisation ----------------------------------------------------------------------------- */

/* Element i of an optional (C) tensor, or what stands for it. */
static double column(const lc_tensor *t, int64_t i, double absent) {
    return t ? ref_flat(t, i) : absent;
}

/* y = (x - mean) rstd w + b, with rstd = 1 / sqrt(mean((x - mean)^2) + eps). */
lc_status lc_ref_layer_norm(const lc_call *call) {
    lc_tensor *x = call->in[0], *w = call->in[1], *b = call->in[2];
    lc_tensor *y = call->out[0], *mean_out = call->out[1], *rstd_out = call->out[2];
    for (int64_t r = 0, rows = rows_of(x); r < rows; r++) {
        LC_TRY(lc_poll());
        ref_line xr = row_of(x, r);
        double C = (double)xr.length, mean = 0, square = 0;
        for (int64_t i = 0; i < xr.length; i++) mean += ref_get(&xr, i) / C;
        for (int64_t i = 0; i < xr.length; i++) square += (ref_get(&xr, i) - mean) * (ref_get(&xr, i) - mean);
        double rstd = 1 / sqrt(square / C + call->attr->a);
        for (int64_t i = 0; y && i < xr.length; i++) {
            ref_line yr = row_of(y, r);
            ref_set(&yr, i, (ref_get(&xr, i) - mean) * rstd * column(w, i, 1) + column(b, i, 0));
        }
        if (mean_out) lc_set_f64(mean_out, lc_position(mean_out, r), mean);
        if (rstd_out) lc_set_f64(rstd_out, lc_position(rstd_out, r), rstd);
    }
    return LC_OK;
}

/* y = x rrms w, with rrms = 1 / sqrt(mean(x^2) + eps). */
lc_status lc_ref_rms_norm(const lc_call *call) {
    lc_tensor *x = call->in[0], *w = call->in[1], *y = call->out[0], *rrms_out = call->out[1];
    for (int64_t r = 0, rows = rows_of(x); r < rows; r++) {
        LC_TRY(lc_poll());
        ref_line xr = row_of(x, r);
        double square = 0;
        for (int64_t i = 0; i < xr.length; i++) square += ref_get(&xr, i) * ref_get(&xr, i);
        double rrms = 1 / sqrt(square / (double)xr.length + call->attr->a);
        for (int64_t i = 0; y && i < xr.length; i++) {
            ref_line yr = row_of(y, r);
            ref_set(&yr, i, ref_get(&xr, i) * rrms * column(w, i, 1));
        }
        if (rrms_out) lc_set_f64(rrms_out, lc_position(rrms_out, r), rrms);
    }
    return LC_OK;
}

/* Both norms are n = (x - mean) scale with mean either the row's or 0. With g = dy w, the gradient of what is
 * normalised, dx = scale (g - n mean(g n) - mean(g)),  the last term only where a mean was subtracted; dw = sum over
 * rows of dy n,  db = sum over rows of dy. */
static lc_status norm_backward(lc_tensor *x, lc_tensor *w, lc_tensor *mean, lc_tensor *scale, lc_tensor *dy,
                               lc_tensor *dx, lc_tensor *dw, lc_tensor *db) {
    int64_t C = x->shape[x->ndim - 1];
    double *dw_sum = lc_calloc((size_t)C * 2, sizeof *dw_sum);
    if (!dw_sum) return LC_ENOMEM;
    double *db_sum = dw_sum + C;
    lc_status status = LC_OK;
    for (int64_t r = 0, rows = rows_of(x); r < rows; r++) {
        LC_GOTO(done, lc_poll());
        ref_line xr = row_of(x, r), dyr = row_of(dy, r);
        double m = mean ? ref_flat(mean, r) : 0, s = ref_flat(scale, r), g_sum = 0, gn_sum = 0;
        for (int64_t i = 0; i < C; i++) {
            double n = (ref_get(&xr, i) - m) * s, d = ref_get(&dyr, i), g = d * column(w, i, 1);
            g_sum += g;
            gn_sum += g * n;
            dw_sum[i] += d * n;
            db_sum[i] += d;
        }
        for (int64_t i = 0; dx && i < C; i++) {
            ref_line dxr = row_of(dx, r);
            double n = (ref_get(&xr, i) - m) * s, g = ref_get(&dyr, i) * column(w, i, 1);
            ref_set(&dxr, i, s * (g - n * gn_sum / (double)C - (mean ? g_sum / (double)C : 0)));
        }
    }
    for (int64_t i = 0; i < C; i++) {
        if (dw) lc_set_f64(dw, lc_position(dw, i), dw_sum[i]);
        if (db) lc_set_f64(db, lc_position(db, i), db_sum[i]);
    }
done:
    lc_free(dw_sum);
    return status;
}

lc_status lc_ref_layer_norm_backward(const lc_call *call) {
    lc_tensor *const *in = call->in, *const *out = call->out;
    return norm_backward(in[0], in[1], in[2], in[3], in[4], out[0], out[1], out[2]);
}

lc_status lc_ref_rms_norm_backward(const lc_call *call) {
    lc_tensor *const *in = call->in, *const *out = call->out;
    return norm_backward(in[0], in[1], NULL, in[2], in[3], out[0], out[1], NULL);
}

/* -- dropout ----------------------------------------------------------------------------------- */

double ref_dropout_factor(double rate, uint64_t key, uint64_t counter, int64_t i) {
    uint32_t random[4];
    lc_philox(key, counter + (uint64_t)i / 4, random);
    return random[i % 4] < rate * 0x1p32 ? 0 : 1 / (1 - rate);
}

lc_status lc_ref_dropout(const lc_call *call) {
    lc_tensor *x = call->in[0], *out = call->out[0];
    const lc_attr *attr = call->attr;
    for (int64_t i = 0, n = lc_numel(x); i < n; i++) {
        double factor = ref_dropout_factor(attr->a, attr->key, attr->counter, i);
        lc_set_f64(out, lc_position(out, i), factor == 0 ? 0 : ref_flat(x, i) * factor);
    }
    return LC_OK;
}
