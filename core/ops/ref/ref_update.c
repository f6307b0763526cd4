/* ref_update.c: optimizer steps, which write into their inputs. What `keep` (packed bits) masks out is set to zero,
 * moments included, so that a pruned weight never comes back.
 *
 *   ADAMW_STEP  w, g, m, v, keep?      a = learning rate, b = beta1, c = beta2, d = eps, e = weight decay, f = what g
 * is multiplied by first (clipping), n = number of this step, from 1.  As torch.optim.AdamW: w -= lr decay w;  m =
 * beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2 w -= lr / (1 - beta1^n) m / (sqrt(v) / sqrt(1 - beta2^n) +
 * eps) SGD_STEP    w, g, momentum?, keep? a = learning rate, b = momentum, e = weight decay (added to g), f, n as
 * above. As torch.optim.SGD: buffer = b buffer + g, at step 1 the buffer is g;  w -= lr buffer */
#include "ops/ref/ref.h"
#include <math.h>

static bool is_kept(const lc_tensor *keep, int64_t i) {
    return !keep || ((int64_t)ref_flat(keep, i / 8) >> i % 8 & 1);
}

lc_status lc_ref_square_sum(const lc_call *call) {
    const lc_tensor *g = call->in[0], *keep = call->in[1];
    double sum = 0;
    for (int64_t i = 0, n = lc_numel(g); i < n; i++)
        if (is_kept(keep, i)) sum += ref_flat(g, i) * ref_flat(g, i);
    lc_set_f64(call->out[0], call->out[0]->offset, sum);
    return LC_OK;
}

static void set_flat(lc_tensor *t, int64_t i, double value) {
    if (t) lc_set_f64(t, lc_position(t, i), value);
}

lc_status lc_ref_adamw_step(const lc_call *call) {
    lc_tensor *w = call->in[0], *g = call->in[1], *m = call->in[2], *v = call->in[3], *keep = call->in[4];
    const lc_attr *attr = call->attr;
    double lr = attr->a, beta1 = attr->b, beta2 = attr->c, eps = attr->d, decay = attr->e;
    double correction1 = 1 - pow(beta1, (double)attr->n), correction2 = 1 - pow(beta2, (double)attr->n);
    for (int64_t i = 0, n = lc_numel(w); i < n; i++) {
        double wi = 0, mi = 0, vi = 0;
        if (is_kept(keep, i)) {
            double gi = ref_flat(g, i) * attr->f;
            mi = beta1 * ref_flat(m, i) + (1 - beta1) * gi;
            vi = beta2 * ref_flat(v, i) + (1 - beta2) * gi * gi;
            wi = ref_flat(w, i) * (1 - lr * decay);
            wi -= lr / correction1 * mi / (sqrt(vi) / sqrt(correction2) + eps);
        }
        set_flat(w, i, wi);
        set_flat(m, i, mi);
        set_flat(v, i, vi);
    }
    return LC_OK;
}

lc_status lc_ref_sgd_step(const lc_call *call) {
    lc_tensor *w = call->in[0], *g = call->in[1], *momentum = call->in[2], *keep = call->in[3];
    const lc_attr *attr = call->attr;
    for (int64_t i = 0, n = lc_numel(w); i < n; i++) {
        double wi = 0, step = 0;
        if (is_kept(keep, i)) {
            step = ref_flat(g, i) * attr->f + attr->e * ref_flat(w, i);
            if (momentum && attr->n > 1) step += attr->b * ref_flat(momentum, i);
            wi = ref_flat(w, i) - attr->a * step;
        }
        set_flat(w, i, wi);
        set_flat(momentum, i, step);
    }
    return LC_OK;
}

lc_status lc_ref_zero_pruned(const lc_call *call) {
    lc_tensor *w = call->in[0];
    for (int64_t i = 0, n = lc_numel(w); i < n; i++)
        if (!is_kept(call->in[1], i)) set_flat(w, i, 0);
    return LC_OK;
}
