/* embedding.c: rows of a table by their numbers, and the way back. */
#include "ops/cpu/cpu.h"

#include <string.h>

/* Ids as int64_t, checked. */
static lc_status read_ids(const lc_call *call, lc_tensor *ids, int64_t rows, int64_t **out) {
    int64_t n = lc_numel(ids), *id = lc_alloc(sizeof *id * (size_t)n);
    if (!id) return LC_ENOMEM;
    for (int64_t i = 0; i < n; i++) {
        id[i] = lc_get_i64(ids, lc_position(ids, i));
        if (id[i] < 0 || id[i] >= rows) {
            lc_status status = lc_fail(LC_EINVAL, "%s: id %lld is outside 0..%lld", lc_op_name(call->op),
                                       (long long)id[i], (long long)rows - 1);
            lc_free(id);
            return status;
        }
    }
    *out = id;
    return LC_OK;
}

typedef struct rows_job {
    const lc_simd *simd;
    const int64_t *id;
    int64_t n, C;
    size_t row_bytes;
    const char *w;
    char *y;
    const float *dy;
    float *dw;
} rows_job;

static void copy_rows(void *context, int64_t begin, int64_t end) {
    const rows_job *j = context;
    for (int64_t i = begin; i < end; i++)
        memcpy(j->y + (size_t)i * j->row_bytes, j->w + (size_t)j->id[i] * j->row_bytes, j->row_bytes);
}

lc_status cpu_embedding(const lc_call *call) {
    lc_tensor *w = call->in[0], *ids = call->in[1], *y = call->out[0];
    int64_t *id;
    LC_TRY(read_ids(call, ids, w->shape[0], &id));
    rows_job j = {.id = id,
                  .C = w->shape[1],
                  .row_bytes = (size_t)w->shape[1] * lc_dtype_size(w->dtype),
                  .w = lc_data(w),
                  .y = lc_data(y)};
    lc_status status = lc_parallel_range(lc_numel(ids), cpu_row_grain(j.C), copy_rows, &j);
    lc_free(id);
    return status;
}

/* Each writer owns the ids with one remainder, and meets them in their order: no row has two writers. */
enum { WRITERS = 16 };

static void add_rows(void *context, int64_t writer) {
    const rows_job *j = context;
    for (int64_t i = 0; i < j->n; i++)
        if (j->id[i] % WRITERS == writer) j->simd->axpy(j->dw + j->id[i] * j->C, 1, j->dy + i * j->C, j->C);
}

lc_status cpu_embedding_backward(const lc_call *call) {
    lc_tensor *ids = call->in[0], *dy = call->in[1], *dw = call->out[0];
    if (dy->dtype != LC_F32) return cpu_on_ref(call);
    int64_t *id;
    LC_TRY(read_ids(call, ids, dw->shape[0], &id));
    rows_job j = {.simd = lc_simd_get(),
                  .id = id,
                  .n = lc_numel(ids),
                  .C = dw->shape[1],
                  .dy = LC_DATA(float, dy),
                  .dw = LC_DATA(float, dw)};
    lc_status status = call->attr->add ? LC_OK : lc_fill(dw, 0);
    if (!status) status = lc_parallel(WRITERS, add_rows, &j);
    lc_free(id);
    return status;
}
