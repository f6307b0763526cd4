/* update.c: the optimizer's pass over weights, gradients and moments: each number is read and written once. And the sum
 * of squares that clipping needs. f32. Masks come as packed bits, and are spread part by part. */
#include "ops/cpu/cpu.h"
#include "tensor/bits.h"

#include <math.h>

#define PART 2048 /* numbers whose mask is spread at once; in a sum, those summed in f32 before double takes over */
_Static_assert(PART % 8 == 0 && GRAIN % 8 == 0, "pieces begin with a whole byte of bits");

static const uint8_t *bits_or_null(const lc_tensor *keep) {
    return keep ? LC_DATA(uint8_t, keep) : NULL;
}

/* n bits from number `begin`, spread to `room`; NULL where nothing is masked. */
static const uint8_t *spread(const uint8_t *keep, int64_t begin, int64_t n, uint8_t room[PART]) {
    if (!keep) return NULL;
    lc_bits_spread(keep + begin / 8, n, room);
    return room;
}

/* -- AdamW ------------------------------------------------------------------------------------- */

typedef struct adamw_job {
    const lc_simd *simd;
    lc_adamw a;
    float *w, *m, *v;
    const float *g;
    const uint8_t *keep;
} adamw_job;

static void adamw_range(void *context, int64_t begin, int64_t end) {
    const adamw_job *j = context;
    uint8_t room[PART];
    for (int64_t i = begin; i < end; i += PART) {
        int64_t n = lc_min(PART, end - i);
        j->simd->adamw(j->w + i, j->g + i, j->m + i, j->v + i, spread(j->keep, i, n, room), &j->a, n);
    }
}

lc_status cpu_adamw_step(const lc_call *call) {
    lc_tensor *const *in = call->in;
    const lc_attr *attr = call->attr;
    if (in[0]->dtype != LC_F32) return cpu_on_ref(call);
    adamw_job j = {.simd = lc_simd_get(),
                   .w = LC_DATA(float, in[0]),
                   .g = LC_DATA(float, in[1]),
                   .m = LC_DATA(float, in[2]),
                   .v = LC_DATA(float, in[3]),
                   .keep = bits_or_null(in[4])};
    j.a = (lc_adamw){.lr = attr->a,
                     .beta1 = attr->b,
                     .beta2 = attr->c,
                     .eps = attr->d,
                     .weight_decay = attr->e,
                     .grad_scale = attr->f,
                     .correction1 = 1 - pow(attr->b, (double)attr->n),
                     .correction2 = 1 - pow(attr->c, (double)attr->n)};
    return lc_parallel_range(lc_numel(in[0]), GRAIN, adamw_range, &j);
}

/* -- SGD --------------------------------------------------------------------------------------- */

typedef struct sgd_job {
    float lr, momentum, weight_decay, grad_scale;
    float *w, *buffer;
    const float *g;
    const uint8_t *keep;
} sgd_job;

static void sgd_part(const sgd_job *j, const uint8_t *keep, int64_t begin, int64_t n) {
    for (int64_t i = begin; i < begin + n; i++) {
        bool kept = !keep || keep[i - begin];
        float step = j->g[i] * j->grad_scale + j->weight_decay * j->w[i];
        if (j->buffer) {
            if (j->momentum != 0) step += j->momentum * j->buffer[i];
            j->buffer[i] = kept ? step : 0;
        }
        j->w[i] = kept ? j->w[i] - j->lr * step : 0;
    }
}

static void sgd_range(void *context, int64_t begin, int64_t end) {
    const sgd_job *j = context;
    uint8_t room[PART];
    for (int64_t i = begin; i < end; i += PART) {
        int64_t n = lc_min(PART, end - i);
        sgd_part(j, spread(j->keep, i, n, room), i, n);
    }
}

lc_status cpu_sgd_step(const lc_call *call) {
    lc_tensor *const *in = call->in;
    const lc_attr *attr = call->attr;
    if (in[0]->dtype != LC_F32) return cpu_on_ref(call);
    sgd_job j = {.lr = (float)attr->a,
                 .momentum = attr->n > 1 ? (float)attr->b : 0,
                 .weight_decay = (float)attr->e,
                 .grad_scale = (float)attr->f,
                 .w = LC_DATA(float, in[0]),
                 .g = LC_DATA(float, in[1]),
                 .buffer = in[2] ? LC_DATA(float, in[2]) : NULL,
                 .keep = bits_or_null(in[3])};
    return lc_parallel_range(lc_numel(in[0]), GRAIN, sgd_range, &j);
}

/* -- the norm of a gradient -------------------------------------------------------------------- */

typedef struct square_job {
    const lc_simd *simd;
    const float *g;
    const uint8_t *keep;
    int64_t n;
    double *partial; /* of each piece */
} square_job;

static void square_piece(void *context, int64_t index) {
    const square_job *j = context;
    float kept[PART];
    uint8_t room[PART];
    double sum = 0;
    for (int64_t i = index * GRAIN; i < lc_min((index + 1) * GRAIN, j->n); i += PART) {
        int64_t n = lc_min(PART, j->n - i);
        const uint8_t *keep = spread(j->keep, i, n, room);
        for (int64_t k = 0; keep && k < n; k++) kept[k] = keep[k] ? j->g[i + k] : 0;
        sum += j->simd->square_sum(keep ? kept : j->g + i, 0, n);
    }
    j->partial[index] = sum;
}

lc_status cpu_square_sum(const lc_call *call) {
    lc_tensor *g = call->in[0], *keep = call->in[1];
    if (g->dtype != LC_F32 || !lc_is_contiguous(g) || (keep && !lc_is_contiguous(keep))) return cpu_on_ref(call);
    square_job j = {.simd = lc_simd_get(), .g = LC_DATA(float, g), .keep = bits_or_null(keep), .n = lc_numel(g)};
    int64_t pieces = (j.n + GRAIN - 1) / GRAIN;
    if (!(j.partial = lc_alloc(sizeof *j.partial * (size_t)pieces))) return LC_ENOMEM;
    lc_status status = lc_parallel(pieces, square_piece, &j);
    double sum = 0;
    for (int64_t i = 0; !status && i < pieces; i++) sum += j.partial[i];
    if (!status) *LC_DATA(double, call->out[0]) = sum;
    lc_free(j.partial);
    return status;
}

/* -- held zeros -------------------------------------------------------------------------------- */

typedef struct zero_job {
    float *w;
    const uint8_t *keep;
} zero_job;

static void zero_range(void *context, int64_t begin, int64_t end) {
    const zero_job *j = context;
    uint8_t room[PART];
    for (int64_t i = begin; i < end; i += PART) {
        int64_t n = lc_min(PART, end - i);
        const uint8_t *keep = spread(j->keep, i, n, room);
        for (int64_t k = 0; k < n; k++) j->w[i + k] = keep[k] ? j->w[i + k] : 0;
    }
}

lc_status cpu_zero_pruned(const lc_call *call) {
    lc_tensor *w = call->in[0];
    if (w->dtype != LC_F32) return cpu_on_ref(call);
    zero_job j = {LC_DATA(float, w), LC_DATA(uint8_t, call->in[1])};
    return lc_parallel_range(lc_numel(w), GRAIN, zero_range, &j);
}
