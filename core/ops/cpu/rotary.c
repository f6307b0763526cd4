/* rotary.c: rotary position embedding in f32. Cosines and sines are worked out once for each position, and serve all
 * heads; x is read, and y written, where it lies: also inside a fused q, k, v buffer. */
#include "ops/cpu/attention.h"

#include <math.h>
#include <string.h>

typedef struct rotary {
    const lc_simd *simd;
    const lc_attr *attr;
    const lc_tensor *positions;
    const float *inv_freq; /* (n) */
    float *turn;           /* (positions, 2, n): cosines, then sines, both times the factor */
    bool each_row;         /* positions are (B, T), not (T) */
    int64_t T, H, D, n;
    head_rows x, y;
} rotary;

static void fill_turns(void *context, int64_t begin, int64_t end) {
    const rotary *r = context;
    float factor = (float)r->attr->a;
    for (int64_t p = begin; p < end; p++) {
        float position = (float)lc_get_i64(r->positions, lc_position(r->positions, p));
        float *cosine = r->turn + p * 2 * r->n, *sine = cosine + r->n;
        for (int64_t i = 0; i < r->n; i++) {
            float angle = position * r->inv_freq[i];
            cosine[i] = factor * cosf(angle);
            sine[i] = (r->attr->transpose ? -factor : factor) * sinf(angle);
        }
    }
}

/* Tokens begin..end of all texts, each with all its heads. */
static void turn_tokens(void *context, int64_t begin, int64_t end) {
    const rotary *r = context;
    size_t rest = (size_t)(r->D - 2 * r->n) * sizeof(float);
    for (int64_t token = begin; token < end; token++) {
        int64_t b = token / r->T, t = token % r->T;
        const float *cosine = r->turn + (r->each_row ? token : t) * 2 * r->n;
        for (int64_t h = 0; h < r->H; h++) {
            const float *x = cpu_row(&r->x, b, t, h);
            float *y = cpu_row(&r->y, b, t, h);
            r->simd->rotate(y, x, cosine, cosine + r->n, r->n);
            if (rest && x != y) memcpy(y + 2 * r->n, x + 2 * r->n, rest);
        }
    }
}

lc_status cpu_rotary(const lc_call *call) {
    lc_tensor *x = call->in[0], *y = call->out[0], *inv_freq = call->in[2], *copies[2] = {NULL};
    if (x->dtype != LC_F32 || !cpu_has_head_rows(y)) return cpu_on_ref(call);
    rotary r = {.simd = lc_simd_get(),
                .attr = call->attr,
                .positions = call->in[1],
                .each_row = call->in[1]->ndim == 2,
                .T = x->shape[1],
                .H = x->shape[2],
                .D = x->shape[3],
                .n = inv_freq->shape[0],
                .y = cpu_rows_of(y)};
    int64_t positions = lc_numel(r.positions), tokens = x->shape[0] * r.T;
    size_t bytes = (size_t)(positions * 2 * r.n) * sizeof(float);
    lc_status status;
    LC_GOTO(done, cpu_head_rows(x, &r.x, &copies[0]));
    LC_GOTO(done, lc_contiguous(inv_freq, &copies[1]));
    r.inv_freq = LC_DATA(float, copies[1]);
    if (bytes && !(r.turn = lc_buffer_new(bytes))) {
        status = LC_ENOMEM;
        goto done;
    }
    LC_GOTO(done, lc_parallel_range(positions, cpu_row_grain(16 * r.n), fill_turns, &r));
    status = lc_parallel_range(tokens, cpu_row_grain(r.H * r.D), turn_tokens, &r);
done:
    if (r.turn) lc_buffer_free(r.turn, bytes);
    for (int i = 0; i < 2; i++) lc_tensor_release(copies[i]);
    return status;
}
