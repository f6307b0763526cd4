/* embedding.c: rows of a table by their numbers, and the way back. */
#include "ops/cpu/cpu.h"

#include <string.h>

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
    LC_TRY(cpu_read_indices(call, ids, w->shape[0], "id", &id));
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
    LC_TRY(cpu_read_indices(call, ids, dw->shape[0], "id", &id));
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
