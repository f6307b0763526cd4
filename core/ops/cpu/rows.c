/* rows.c: softmax, layer norm, rms norm and dropout in f32: contiguous rows along the last dimension, in parallel. */
#include "ops/cpu/cpu.h"

#include <math.h>

typedef struct rows {
    int64_t count, length;
} rows;

static rows rows_of(const lc_tensor *t) {
    if (t->ndim == 0) return (rows){1, 1};
    return (rows){lc_shape_numel(t->ndim - 1, t->shape), t->shape[t->ndim - 1]};
}

static float *data_or_null(const lc_tensor *t) {
    return t ? LC_DATA(float, t) : NULL;
}

/* -- softmax ----------------------------------------------------------------------------------- */

typedef struct softmax_job {
    const lc_simd *simd;
    const float *x, *dy; /* dy only in the backward pass, where x is y */
    float *out;
    int64_t n;
} softmax_job;

static void softmax_rows(void *context, int64_t begin, int64_t end) {
    const softmax_job *j = context;
    for (int64_t r = begin; r < end; r++) {
        const float *x = j->x + r * j->n;
        float *y = j->out + r * j->n;
        float sum = j->simd->exp_sum(y, x, 1, j->simd->max(x, j->n), j->n);
        j->simd->scale(y, 1 / sum, j->n);
    }
}

static void log_softmax_rows(void *context, int64_t begin, int64_t end) {
    const softmax_job *j = context;
    for (int64_t r = begin; r < end; r++) {
        const float *x = j->x + r * j->n;
        float *y = j->out + r * j->n, most = j->simd->max(x, j->n);
        float sum = j->simd->exp_sum(y, x, 1, most, j->n);
        j->simd->normalise(y, x, most, 1, NULL, NULL, j->n); /* most + log(sum) would lose the digits of a large most */
        j->simd->normalise(y, y, logf(sum), 1, NULL, NULL, j->n);
    }
}

static void softmax_backward_rows(void *context, int64_t begin, int64_t end) {
    const softmax_job *j = context;
    for (int64_t r = begin; r < end; r++) {
        const float *y = j->x + r * j->n, *dy = j->dy + r * j->n;
        j->simd->softmax_backward(j->out + r * j->n, y, dy, j->simd->dot(y, dy, j->n), j->n);
    }
}

static void log_softmax_backward_rows(void *context, int64_t begin, int64_t end) {
    const softmax_job *j = context;
    for (int64_t r = begin; r < end; r++) {
        const float *dy = j->dy + r * j->n;
        float *dx = j->out + r * j->n;
        j->simd->exp_sum(dx, j->x + r * j->n, 1, 0, j->n);
        j->simd->scale(dx, -j->simd->sum(dy, j->n), j->n);
        j->simd->axpy(dx, 1, dy, j->n);
    }
}

lc_status cpu_softmax(const lc_call *call) {
    lc_tensor *x = call->in[0];
    bool backward = call->op == LC_OP_SOFTMAX_BACKWARD || call->op == LC_OP_LOG_SOFTMAX_BACKWARD;
    if (x->dtype != LC_F32) return cpu_on_ref(call);
    rows r = rows_of(x);
    softmax_job j = {.simd = lc_simd_get(), .x = LC_DATA(float, x), .out = LC_DATA(float, call->out[0]), .n = r.length};
    if (backward) j.dy = LC_DATA(float, call->in[1]);
    lc_range_task task = call->op == LC_OP_SOFTMAX            ? softmax_rows
                         : call->op == LC_OP_LOG_SOFTMAX      ? log_softmax_rows
                         : call->op == LC_OP_SOFTMAX_BACKWARD ? softmax_backward_rows
                                                              : log_softmax_backward_rows;
    return lc_parallel_range(r.count, cpu_row_grain(r.length), task, &j);
}

/* -- normalisation ----------------------------------------------------------------------------- */

typedef struct norm_job {
    const lc_simd *simd;
    const float *x, *w, *b; /* b NULL for rms */
    float *y, *mean, *rstd; /* mean NULL for rms; any may be NULL */
    bool centered;          /* layer norm */
    float eps;
    int64_t C, N;
    /* backward only */
    const float *dy, *given_mean, *given_rstd;
    float *dx;
    float *partial; /* (chunks, 2, C): dw and db of each chunk of rows */
    int64_t chunk;  /* rows */
} norm_job;

static void norm_rows(void *context, int64_t begin, int64_t end) {
    const norm_job *j = context;
    float C = (float)j->C;
    for (int64_t r = begin; r < end; r++) {
        const float *x = j->x + r * j->C;
        float mean = j->centered ? j->simd->sum(x, j->C) / C : 0;
        float rstd = 1 / sqrtf(j->simd->square_sum(x, mean, j->C) / C + j->eps);
        if (j->y) j->simd->normalise(j->y + r * j->C, x, mean, rstd, j->w, j->b, j->C);
        if (j->mean) j->mean[r] = mean;
        if (j->rstd) j->rstd[r] = rstd;
    }
}

static lc_status norm(const lc_call *call, bool centered) {
    lc_tensor *x = call->in[0];
    if (x->dtype != LC_F32) return cpu_on_ref(call);
    rows r = rows_of(x);
    norm_job j = {.simd = lc_simd_get(),
                  .x = LC_DATA(float, x),
                  .w = data_or_null(call->in[1]),
                  .y = data_or_null(call->out[0]),
                  .centered = centered,
                  .eps = (float)call->attr->a,
                  .C = r.length,
                  .N = r.count};
    j.b = centered ? data_or_null(call->in[2]) : NULL;
    j.mean = centered ? data_or_null(call->out[1]) : NULL;
    j.rstd = data_or_null(call->out[centered ? 2 : 1]);
    return lc_parallel_range(j.N, cpu_row_grain(j.C), norm_rows, &j);
}

lc_status cpu_layer_norm(const lc_call *call) {
    return norm(call, true);
}
lc_status cpu_rms_norm(const lc_call *call) {
    return norm(call, false);
}

static void norm_backward_chunk(void *context, int64_t index) {
    const norm_job *j = context;
    float *dw = j->partial ? j->partial + index * 2 * j->C : NULL, *db = dw ? dw + j->C : NULL, C = (float)j->C;
    for (int64_t i = 0; dw && i < 2 * j->C; i++) dw[i] = 0;
    for (int64_t r = index * j->chunk; r < lc_min((index + 1) * j->chunk, j->N); r++) {
        const float *x = j->x + r * j->C, *dy = j->dy + r * j->C;
        float mean = j->centered ? j->given_mean[r] : 0, rstd = j->given_rstd[r], g, gx;
        j->simd->norm_sums(x, dy, j->w, mean, rstd, dw, j->centered ? db : NULL, &g, &gx, j->C);
        if (j->dx) j->simd->norm_dx(j->dx + r * j->C, x, dy, j->w, mean, rstd, j->centered ? g / C : 0, gx / C, j->C);
    }
}

/* Adds the chunks' sums in their order. */
static void add_partials(const norm_job *j, int64_t chunks, int which, float *out) {
    for (int64_t i = 0; i < j->C; i++) out[i] = 0;
    for (int64_t c = 0; c < chunks; c++) j->simd->axpy(out, 1, j->partial + (c * 2 + which) * j->C, j->C);
}

static lc_status norm_backward(const lc_call *call, bool centered) {
    lc_tensor *const *in = call->in, *const *out = call->out;
    if (in[0]->dtype != LC_F32) return cpu_on_ref(call);
    rows r = rows_of(in[0]);
    norm_job j = {.simd = lc_simd_get(),
                  .x = LC_DATA(float, in[0]),
                  .w = data_or_null(in[1]),
                  .centered = centered,
                  .C = r.length,
                  .N = r.count,
                  .dx = data_or_null(out[0])};
    j.given_mean = centered ? LC_DATA(float, in[2]) : NULL;
    j.given_rstd = LC_DATA(float, in[centered ? 3 : 2]);
    j.dy = LC_DATA(float, in[centered ? 4 : 3]);
    float *dw = data_or_null(out[1]), *db = centered ? data_or_null(out[2]) : NULL;
    j.chunk = lc_max(16, (j.N + 63) / 64);
    int64_t chunks = (j.N + j.chunk - 1) / j.chunk;
    size_t bytes = (size_t)(chunks * 2 * j.C) * sizeof(float);
    if ((dw || db) && !(j.partial = lc_buffer_new(bytes))) return LC_ENOMEM;
    lc_status status = lc_parallel(chunks, norm_backward_chunk, &j);
    if (!status && dw) add_partials(&j, chunks, 0, dw);
    if (!status && db) add_partials(&j, chunks, 1, db);
    if (j.partial) lc_buffer_free(j.partial, bytes);
    return status;
}

lc_status cpu_layer_norm_backward(const lc_call *call) {
    return norm_backward(call, true);
}
lc_status cpu_rms_norm_backward(const lc_call *call) {
    return norm_backward(call, false);
}

/* -- dropout ----------------------------------------------------------------------------------- */

typedef struct dropout_job {
    lc_dropout dropout;
    const float *x;
    float *y;
} dropout_job;

static void dropout_range(void *context, int64_t begin, int64_t end) {
    const dropout_job *j = context;
    lc_simd_get()->dropout(j->y + begin, j->x + begin, &j->dropout, begin, end - begin);
}

lc_dropout cpu_dropout_of(double rate, uint64_t key, uint64_t counter) {
    return (lc_dropout){
        .key = key, .counter = counter, .threshold = (uint64_t)ceil(rate * 0x1p32), .scale = (float)(1 / (1 - rate))};
}

lc_status cpu_dropout(const lc_call *call) {
    lc_tensor *x = call->in[0];
    if (x->dtype != LC_F32) return cpu_on_ref(call);
    dropout_job j = {cpu_dropout_of(call->attr->a, call->attr->key, call->attr->counter), LC_DATA(float, x),
                     LC_DATA(float, call->out[0])};
    return lc_parallel_range(lc_numel(x), GRAIN, dropout_range, &j);
}
