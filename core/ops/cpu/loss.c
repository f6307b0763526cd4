/* loss.c: cross-entropy, alone and together with the linear layer in front of it, in f32.
 *
 * The fused form takes labelled rows of x in chunks. A chunk's logits are computed, turned into their own gradient in
 * place, and used up in dx = dlogits W and dw += dlogits^T x before the next chunk begins: (N, V) never exists, and
 * rows labelled -100 cost nothing. */
#include "ops/cpu/cpu.h"
#include "ops/gemm.h"

#include <math.h>
#include <string.h>

enum { IGNORED = -100 };
#define CHUNK_NUMBERS (18 << 20) /* logits of a chunk: 72 MiB, where products run at full rate (375 rows of 50,257) */

/* Labels as int64_t (N), and how many are not ignored; checked. */
static lc_status read_labels(const lc_call *call, lc_tensor *labels, int64_t classes, int64_t **out,
                             int64_t *labelled) {
    int64_t N = lc_numel(labels), count = 0, *label = lc_alloc(sizeof *label * (size_t)N);
    if (!label) return LC_ENOMEM;
    for (int64_t n = 0; n < N; n++) {
        label[n] = lc_get_i64(labels, lc_position(labels, n));
        if (label[n] == IGNORED) continue;
        if (label[n] < 0 || label[n] >= classes) {
            lc_status status = lc_fail(LC_EINVAL, "%s: label %lld is outside 0..%lld (-100 is ignored)",
                                       lc_op_name(call->op), (long long)label[n], (long long)classes - 1);
            lc_free(label);
            return status;
        }
        count++;
    }
    *out = label;
    *labelled = count;
    return LC_OK;
}

static double weight_of(const lc_call *call, int64_t labelled) {
    return 1 / (call->attr->a != 0 ? call->attr->a : (double)lc_max(labelled, 1));
}

/* -- from logits ------------------------------------------------------------------------------- */

typedef struct rows_job {
    const lc_simd *simd;
    const float *logits;
    const int64_t *label;
    double *loss; /* of each row */
    float *lse, *dlogits;
    double weight;
    int64_t V;
} rows_job;

/* The sum of exp(x - most), most being the largest x: of large logits, their logarithm alone would lose the digits. */
static double sum_exp(const lc_simd *simd, const float *x, int64_t n, float *most) {
    float scratch[1024];
    double sum = 0;
    *most = simd->max(x, n);
    for (int64_t i = 0; i < n; i += 1024) sum += simd->exp_sum(scratch, x + i, 1, *most, lc_min(1024, n - i));
    return sum;
}

static void loss_of_rows(void *context, int64_t begin, int64_t end) {
    const rows_job *j = context;
    for (int64_t n = begin; n < end; n++) {
        const float *x = j->logits + n * j->V;
        float most = 0;
        double sum = j->label[n] == IGNORED ? 1 : sum_exp(j->simd, x, j->V, &most);
        j->loss[n] = j->label[n] == IGNORED ? 0 : log(sum) + ((double)most - x[j->label[n]]);
        if (j->lse) j->lse[n] = most + (float)log(sum);
    }
}

lc_status cpu_cross_entropy(const lc_call *call) {
    lc_tensor *logits = call->in[0], *loss = call->out[0], *lse = call->out[1];
    if (logits->dtype != LC_F32) return cpu_on_ref(call);
    int64_t N = logits->shape[0], V = logits->shape[1], labelled;
    rows_job j = {.simd = lc_simd_get(), .logits = LC_DATA(float, logits), .V = V};
    int64_t *label;
    LC_TRY(read_labels(call, call->in[1], V, &label, &labelled));
    j.label = label;
    lc_status status = LC_OK;
    j.lse = lse ? LC_DATA(float, lse) : NULL;
    j.loss = lc_alloc(sizeof *j.loss * (size_t)N);
    if (!j.loss) status = LC_ENOMEM;
    if (!status) status = lc_parallel_range(N, cpu_row_grain(V), loss_of_rows, &j);
    if (!status && loss) {
        double sum = 0;
        for (int64_t n = 0; n < N; n++) sum += j.loss[n];
        *LC_DATA(float, loss) = (float)(sum * weight_of(call, labelled));
    }
    lc_free(j.loss);
    lc_free(label);
    return status;
}

static void dlogits_rows(void *context, int64_t begin, int64_t end) {
    const rows_job *j = context;
    for (int64_t n = begin; n < end; n++) {
        float *d = j->dlogits + n * j->V;
        if (j->label[n] == IGNORED) {
            memset(d, 0, sizeof *d * (size_t)j->V);
            continue;
        }
        const float *x = j->logits + n * j->V;
        float most;
        double sum = sum_exp(j->simd, x, j->V, &most);
        j->simd->exp_sum(d, x, 1, most, j->V);
        j->simd->scale(d, (float)(j->weight / sum), j->V);
        d[j->label[n]] -= (float)j->weight;
    }
}

lc_status cpu_cross_entropy_backward(const lc_call *call) {
    lc_tensor *logits = call->in[0];
    if (logits->dtype != LC_F32) return cpu_on_ref(call);
    int64_t N = logits->shape[0], V = logits->shape[1], labelled, *label;
    LC_TRY(read_labels(call, call->in[1], V, &label, &labelled));
    rows_job j = {.simd = lc_simd_get(),
                  .logits = LC_DATA(float, logits),
                  .label = label,
                  .dlogits = LC_DATA(float, call->out[0]),
                  .V = V};
    j.weight = weight_of(call, labelled) * lc_get_f64(call->in[3], call->in[3]->offset);
    lc_status status = lc_parallel_range(N, cpu_row_grain(V), dlogits_rows, &j);
    lc_free(label);
    return status;
}

/* -- from the layer before it ------------------------------------------------------------------ */

typedef struct head {
    const lc_simd *simd;
    lc_dtype dtype;    /* f32 or f64, of all numbers */
    size_t size;       /* of one */
    const char *x, *w; /* (N, C), (V, C) */
    char *dx, *dw;     /* may be NULL */
    int64_t N, C, V;
    const int64_t *label; /* (N) */
    int64_t *row;         /* (labelled): which rows of x */
    double *loss;         /* (labelled): of each */
    double weight;
    char *logits;         /* (chunk, V) */
    char *packed;         /* (chunk, C): rows of x, then of dx; used where some rows are ignored */
    int64_t first, count; /* the chunk: labelled rows [first, first + count) */
} head;

/* Logits of a row become their gradient. */
static void loss_rows_f32(void *context, int64_t begin, int64_t end) {
    const head *h = context;
    for (int64_t i = begin; i < end; i++) {
        float *z = (float *)h->logits + i * h->V, most = h->simd->max(z, h->V);
        int64_t label = h->label[h->row[h->first + i]];
        double at_label = z[label], sum = 0;
        for (int64_t v = 0; v < h->V; v += 4096) sum += h->simd->exp_sum(z + v, z + v, 1, most, lc_min(4096, h->V - v));
        h->loss[h->first + i] = most + log(sum) - at_label;
        if (!h->dx && !h->dw) continue;
        h->simd->scale(z, (float)(h->weight / sum), h->V);
        z[label] -= (float)h->weight;
    }
}

static void loss_rows_f64(void *context, int64_t begin, int64_t end) {
    const head *h = context;
    for (int64_t i = begin; i < end; i++) {
        double *z = (double *)h->logits + i * h->V, most = -INFINITY, sum = 0;
        int64_t label = h->label[h->row[h->first + i]];
        for (int64_t v = 0; v < h->V; v++) most = z[v] > most ? z[v] : most;
        double at_label = z[label];
        for (int64_t v = 0; v < h->V; v++) sum += z[v] = exp(z[v] - most);
        h->loss[h->first + i] = most + log(sum) - at_label;
        if (!h->dx && !h->dw) continue;
        for (int64_t v = 0; v < h->V; v++) z[v] *= h->weight / sum;
        z[label] -= h->weight;
    }
}

static bool all_labelled(const head *h, int64_t labelled) {
    return labelled == h->N;
}

static lc_status run_chunk(const head *h, bool packed, double beta) {
    size_t row_bytes = h->size * (size_t)h->C, start = row_bytes * (size_t)h->first;
    const char *x = packed ? h->packed : h->x + start;
    for (int64_t i = 0; packed && i < h->count; i++)
        memcpy(h->packed + row_bytes * (size_t)i, h->x + row_bytes * (size_t)h->row[h->first + i], row_bytes);
    LC_TRY(lc_gemm(h->dtype, false, true, h->count, h->V, h->C, 1, x, h->C, h->w, h->C, 0, h->logits, h->V));
    LC_TRY(lc_parallel_range(h->count, cpu_row_grain(h->V), h->dtype == LC_F32 ? loss_rows_f32 : loss_rows_f64,
                             (void *)h));
    if (h->dw)
        LC_TRY(lc_gemm(h->dtype, true, false, h->V, h->C, h->count, 1, h->logits, h->V, x, h->C, beta, h->dw, h->C));
    if (!h->dx) return LC_OK;
    char *dx = packed ? h->packed : h->dx + start;
    LC_TRY(lc_gemm(h->dtype, false, false, h->count, h->C, h->V, 1, h->logits, h->V, h->w, h->C, 0, dx, h->C));
    for (int64_t i = 0; packed && i < h->count; i++)
        memcpy(h->dx + row_bytes * (size_t)h->row[h->first + i], dx + row_bytes * (size_t)i, row_bytes);
    return LC_OK;
}

/* All chunks, of nearly equal size. */
static lc_status run_chunks(head *h, int64_t labelled, bool add) {
    int64_t most = lc_max(16, CHUNK_NUMBERS / h->V), chunks = lc_max(1, (labelled + most - 1) / most);
    int64_t size = (labelled + chunks - 1) / chunks;
    bool packed = !all_labelled(h, labelled);
    size_t logits_bytes = h->size * (size_t)(size * h->V), packed_bytes = packed ? h->size * (size_t)(size * h->C) : 0;
    lc_status status = LC_OK;
    h->logits = lc_buffer_new(logits_bytes);
    h->packed = h->logits && packed ? lc_buffer_new(packed_bytes) : NULL;
    if (!h->logits || (packed && !h->packed)) status = LC_ENOMEM;
    for (h->first = 0; !status && h->first < labelled; h->first += size) {
        h->count = lc_min(size, labelled - h->first);
        status = run_chunk(h, packed, h->first > 0 || add);
    }
    if (h->logits) lc_buffer_free(h->logits, logits_bytes);
    if (h->packed) lc_buffer_free(h->packed, packed_bytes);
    return status;
}

static char *data_or_null(const lc_tensor *t) {
    return t ? lc_data(t) : NULL;
}

lc_status cpu_linear_cross_entropy(const lc_call *call) {
    lc_tensor *x = call->in[0], *w = call->in[1], *loss = call->out[0], *dx = call->out[1], *dw = call->out[2];
    head h = {.simd = lc_simd_get(),
              .dtype = x->dtype,
              .size = lc_dtype_size(x->dtype),
              .x = lc_data(x),
              .w = lc_data(w),
              .dx = data_or_null(dx),
              .dw = data_or_null(dw),
              .N = x->shape[0],
              .C = x->shape[1],
              .V = w->shape[0]};
    int64_t labelled, *label;
    LC_TRY(read_labels(call, call->in[2], h.V, &label, &labelled));
    lc_status status = LC_OK;
    h.label = label;
    h.weight = h.dtype == LC_F32 ? (float)weight_of(call, labelled) : weight_of(call, labelled);
    h.row = lc_alloc(sizeof *h.row * (size_t)h.N);
    h.loss = lc_alloc(sizeof *h.loss * (size_t)h.N);
    if (!h.row || !h.loss) status = LC_ENOMEM;
    for (int64_t n = 0, i = 0; !status && n < h.N; n++)
        if (label[n] != IGNORED) h.row[i++] = n;
    if (!status && dx && labelled < h.N) status = lc_fill(dx, 0);
    if (!status && dw && labelled == 0 && !call->attr->add) status = lc_fill(dw, 0);
    if (!status) status = run_chunks(&h, labelled, call->attr->add);
    if (!status && loss) {
        double sum = 0;
        for (int64_t i = 0; i < labelled; i++) sum += h.loss[i];
        lc_set_f64(loss, loss->offset, sum * weight_of(call, labelled));
    }
    lc_free(h.loss);
    lc_free(h.row);
    lc_free(label);
    return status;
}
