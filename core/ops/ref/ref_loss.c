/* ref_loss.c: cross-entropy. Over the rows whose label is not -100:
 *
 *     loss = sum(lse - logits[label]) / divisor,   dlogits = (softmax(logits) - onehot(label)) dloss / divisor,
 *
 * with divisor = attr.a, or the number of such rows where attr.a is 0. Without any such row, loss and gradients are 0.
 */
#include "base/memory.h"
#include "base/pool.h"
#include "ops/ref/ref.h"
#include <math.h>

enum { IGNORED = -100 };

static int64_t label_at(const lc_tensor *labels, int64_t n) {
    return lc_get_i64(labels, lc_position(labels, n));
}

/* 1 / divisor, after a check of the labels. */
static lc_status label_weight(const lc_call *call, const lc_tensor *labels, int64_t classes, double *weight) {
    int64_t count = 0;
    for (int64_t n = 0, N = lc_numel(labels); n < N; n++) {
        int64_t label = label_at(labels, n);
        if (label == IGNORED) continue;
        if (label < 0 || label >= classes)
            return lc_fail(LC_EINVAL, "%s: label %lld is outside 0..%lld (-100 is ignored)", lc_op_name(call->op),
                           (long long)label, (long long)classes - 1);
        count++;
    }
    double divisor = call->attr->a != 0 ? call->attr->a : (double)lc_max(count, 1);
    *weight = 1 / divisor;
    return LC_OK;
}

static double log_sum_exp(const double *x, int64_t n) {
    double most = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++) most = fmax(most, x[i]);
    for (int64_t i = 0; i < n; i++) sum += exp(x[i] - most);
    return most + log(sum);
}

/* lse of ignored rows is 0. */
lc_status lc_ref_cross_entropy(const lc_call *call) {
    lc_tensor *logits = call->in[0], *labels = call->in[1], *loss = call->out[0], *lse_out = call->out[1];
    int64_t N = logits->shape[0], V = logits->shape[1];
    double weight, sum = 0;
    LC_TRY(label_weight(call, labels, V, &weight));
    double *z = lc_alloc((size_t)V * sizeof *z);
    if (!z) return LC_ENOMEM;
    lc_status status = LC_OK;
    for (int64_t n = 0; n < N; n++) {
        LC_GOTO(done, lc_poll());
        int64_t label = label_at(labels, n);
        double lse = 0;
        if (label != IGNORED) {
            ref_line row = ref_line_at(logits, 1, n);
            for (int64_t c = 0; c < V; c++) z[c] = ref_get(&row, c);
            lse = log_sum_exp(z, V);
            sum += lse - z[label];
        }
        if (lse_out) lc_set_f64(lse_out, lc_position(lse_out, n), lse);
    }
    if (loss) lc_set_f64(loss, loss->offset, sum * weight);
done:
    lc_free(z);
    return status;
}

lc_status lc_ref_cross_entropy_backward(const lc_call *call) {
    lc_tensor *logits = call->in[0], *labels = call->in[1], *lse = call->in[2], *dloss = call->in[3];
    lc_tensor *dlogits = call->out[0];
    int64_t N = logits->shape[0], V = logits->shape[1];
    double weight;
    LC_TRY(label_weight(call, labels, V, &weight));
    weight *= lc_get_f64(dloss, dloss->offset);
    for (int64_t n = 0; n < N; n++) {
        LC_TRY(lc_poll());
        int64_t label = label_at(labels, n);
        ref_line row = ref_line_at(logits, 1, n), to = ref_line_at(dlogits, 1, n);
        for (int64_t c = 0; c < V; c++) {
            double p = label == IGNORED ? 0 : exp(ref_get(&row, c) - ref_flat(lse, n));
            ref_set(&to, c, (p - (c == label)) * weight);
        }
    }
    return LC_OK;
}

/* -- the linear layer and its loss in one ------------------------------------------------------ */

typedef struct head {
    lc_tensor *x, *w, *labels; /* (N, C), (V, C), (N) */
    int64_t N, C, V;
    double weight;
    double *lse; /* (N) */
    double *row; /* (V): logits of one token */
    double *sum; /* (C): a row of dx or dw */
} head;

static double logit(const head *h, int64_t n, int64_t v) {
    ref_line x = ref_line_at(h->x, 1, n), w = ref_line_at(h->w, 1, v);
    double sum = 0;
    for (int64_t c = 0; c < h->C; c++) sum += ref_get(&x, c) * ref_get(&w, c);
    return sum;
}

/* dlogits[n, v] from the logit. */
static double dlogit(const head *h, int64_t n, int64_t v, double z) {
    return (exp(z - h->lse[n]) - (label_at(h->labels, n) == v)) * h->weight;
}

static void write_row(lc_tensor *out, int64_t row, const double *values) {
    ref_line to = ref_line_at(out, 1, row);
    for (int64_t c = 0; c < to.length; c++) ref_set(&to, c, values[c]);
}

static void add_row(double *sum, double factor, lc_tensor *t, int64_t row) {
    ref_line from = ref_line_at(t, 1, row);
    for (int64_t c = 0; c < from.length; c++) sum[c] += factor * ref_get(&from, c);
}

static void clear(double *sum, int64_t n) {
    for (int64_t c = 0; c < n; c++) sum[c] = 0;
}

/* The loss, every lse and, where wanted, dx: token by token. */
static lc_status token_pass(const head *h, lc_tensor *dx, double *loss) {
    for (int64_t n = 0; n < h->N; n++) {
        LC_TRY(lc_poll());
        int64_t label = label_at(h->labels, n);
        clear(h->sum, h->C);
        if (label != IGNORED) {
            for (int64_t v = 0; v < h->V; v++) h->row[v] = logit(h, n, v);
            h->lse[n] = log_sum_exp(h->row, h->V);
            *loss += (h->lse[n] - h->row[label]) * h->weight;
            for (int64_t v = 0; dx && v < h->V; v++) add_row(h->sum, dlogit(h, n, v, h->row[v]), h->w, v);
        }
        if (dx) write_row(dx, n, h->sum);
    }
    return LC_OK;
}

/* dw, class by class: the logits are computed a second time rather than kept. */
static lc_status class_pass(const head *h, lc_tensor *dw) {
    for (int64_t v = 0; v < h->V; v++) {
        LC_TRY(lc_poll());
        clear(h->sum, h->C);
        for (int64_t n = 0; n < h->N; n++)
            if (label_at(h->labels, n) != IGNORED) add_row(h->sum, dlogit(h, n, v, logit(h, n, v)), h->x, n);
        write_row(dw, v, h->sum);
    }
    return LC_OK;
}

lc_status lc_ref_linear_cross_entropy(const lc_call *call) {
    lc_tensor *loss_out = call->out[0], *dx = call->out[1], *dw = call->out[2];
    head h = {.x = call->in[0], .w = call->in[1], .labels = call->in[2]};
    h.N = h.x->shape[0], h.C = h.x->shape[1], h.V = h.w->shape[0];
    LC_TRY(label_weight(call, h.labels, h.V, &h.weight));
    h.lse = lc_alloc((size_t)(h.N + h.V + h.C) * sizeof *h.lse);
    if (!h.lse) return LC_ENOMEM;
    h.row = h.lse + h.N;
    h.sum = h.row + h.V;
    lc_status status = LC_OK;
    double loss = 0;
    LC_GOTO(done, token_pass(&h, dx, &loss));
    if (dw) LC_GOTO(done, class_pass(&h, dw));
    if (loss_out) lc_set_f64(loss_out, loss_out->offset, loss);
    int64_t labelled = 0;
    for (int64_t n = 0; n < h.N; n++) labelled += label_at(h.labels, n) != IGNORED;
    lc_macs_add((uint64_t)(labelled * h.V * h.C) * (1u + (dx != NULL) + (dw != NULL)));
done:
    lc_free(h.lse);
    return status;
}
