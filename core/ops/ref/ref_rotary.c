/* ref_rotary.c: rotary position embedding (Su et al. 2021, "RoFormer"), with the halves of a head turned against each
 * other. */
#include "base/pool.h"
#include "ops/ref/ref.h"

#include <math.h>

/* position times frequency, rounded as the type of the frequencies is: far along, rounding the angle matters. */
static double angle_of(const lc_tensor *inv_freq, int64_t i, double position) {
    double frequency = ref_flat(inv_freq, i);
    return inv_freq->dtype == LC_F32 ? (float)position * (float)frequency : position * frequency;
}

/* One head of one token: D numbers from `from` to `to`. */
static void rotate_head(const lc_call *call, const ref_line *from, const ref_line *to, double position) {
    const lc_tensor *inv_freq = call->in[2];
    int64_t n = inv_freq->shape[0];
    for (int64_t i = 0; i < n; i++) {
        double angle = angle_of(inv_freq, i, position), a = ref_get(from, i), b = ref_get(from, n + i);
        double cosine = call->attr->a * cos(angle), sine = call->attr->a * sin(angle);
        if (call->attr->transpose) sine = -sine;
        ref_set(to, i, a * cosine - b * sine);
        ref_set(to, n + i, b * cosine + a * sine);
    }
    for (int64_t i = 2 * n; i < from->length; i++) ref_set(to, i, ref_get(from, i));
}

lc_status lc_ref_rotary(const lc_call *call) {
    lc_tensor *x = call->in[0], *positions = call->in[1];
    int64_t T = x->shape[1], H = x->shape[2], each = positions->ndim == 2 ? x->shape[0] * T : T;
    for (int64_t row = 0, rows = ref_lines(x, 3); row < rows; row++) {
        LC_TRY(lc_poll());
        ref_line from = ref_line_at(x, 3, row), to = ref_line_at(call->out[0], 3, row);
        rotate_head(call, &from, &to, ref_flat(positions, row / H % each));
    }
    return LC_OK;
}
