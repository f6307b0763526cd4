/* select.c: picking out and putting together: whole runs of bytes move at once. */
#include "ops/cpu/cpu.h"

#include <string.h>

lc_status cpu_read_indices(const lc_call *call, lc_tensor *indices, int64_t size, const char *what, int64_t **out) {
    int64_t n = lc_numel(indices), *index = lc_alloc(sizeof *index * (size_t)n);
    if (!index) return LC_ENOMEM;
    for (int64_t i = 0; i < n; i++) {
        index[i] = lc_get_i64(indices, lc_position(indices, i));
        if (index[i] >= 0 && index[i] < size) continue;
        lc_status status = lc_fail(LC_EINVAL, "%s: %s %lld is outside 0..%lld", lc_op_name(call->op), what,
                                   (long long)index[i], (long long)size - 1);
        lc_free(index);
        return status;
    }
    *out = index;
    return LC_OK;
}

/* x (outer, size, inner); index (n), or (outer, n, inner) for gather; out (outer, n, inner). */
typedef struct select_job {
    const char *x;
    char *out;
    const int64_t *index;
    int64_t size, n, inner;
    size_t bytes; /* of an element */
} select_job;

static select_job select_of(const lc_call *call, const int64_t *index) {
    lc_tensor *x = call->in[0];
    int dim = call->attr->dim;
    return (select_job){.x = lc_data(x),
                        .out = lc_data(call->out[0]),
                        .index = index,
                        .size = x->shape[dim],
                        .inner = lc_shape_numel(x->ndim - dim - 1, x->shape + dim + 1),
                        .bytes = lc_dtype_size(x->dtype)};
}

static void index_rows(void *context, int64_t begin, int64_t end) {
    const select_job *j = context;
    size_t row = (size_t)j->inner * j->bytes;
    for (int64_t r = begin; r < end; r++)
        memcpy(j->out + (size_t)r * row, j->x + (size_t)(r / j->n * j->size + j->index[r % j->n]) * row, row);
}

lc_status cpu_index(const lc_call *call) {
    lc_tensor *x = call->in[0];
    int64_t *index;
    LC_TRY(cpu_read_indices(call, call->in[1], x->shape[call->attr->dim], "index", &index));
    select_job j = select_of(call, index);
    j.n = lc_numel(call->in[1]);
    int64_t rows = j.inner ? lc_numel(call->out[0]) / j.inner : 0;
    lc_status status = lc_parallel_range(rows, cpu_row_grain(j.inner), index_rows, &j);
    lc_free(index);
    return status;
}

#define GATHER(width, T)                                                                           \
    static void gather_##width(void *context, int64_t begin, int64_t end) {                        \
        const select_job *j = context;                                                             \
        for (int64_t i = begin; i < end; i++) {                                                    \
            int64_t outer = i / (j->n * j->inner), in = i % j->inner;                              \
            ((T *)j->out)[i] = ((const T *)j->x)[(outer * j->size + j->index[i]) * j->inner + in]; \
        }                                                                                          \
    }
GATHER(8, uint8_t)
GATHER(32, uint32_t)
GATHER(64, uint64_t)

lc_status cpu_gather(const lc_call *call) {
    lc_tensor *x = call->in[0], *out = call->out[0];
    int64_t *index;
    LC_TRY(cpu_read_indices(call, call->in[1], x->shape[call->attr->dim], "index", &index));
    select_job j = select_of(call, index);
    j.n = out->shape[call->attr->dim];
    lc_range_task task = j.bytes == 1 ? gather_8 : j.bytes == 4 ? gather_32 : gather_64;
    lc_status status = lc_parallel_range(lc_numel(out), GRAIN, task, &j);
    lc_free(index);
    return status;
}

/* Each input is copied into its slice of the output. */
lc_status cpu_cat(const lc_call *call) {
    lc_tensor *out = call->out[0];
    int64_t start = 0;
    for (int k = 0; k < call->n_in; k++) {
        lc_tensor *x = call->in[k], *slice = NULL;
        int64_t length = x->shape[call->attr->dim];
        LC_TRY(lc_view_slice(out, call->attr->dim, start, length, 1, &slice));
        lc_attr attr = {.dtype = out->dtype};
        lc_status status =
            cpu_copy(&(lc_call){.op = LC_OP_COPY, .attr = &attr, .n_in = 1, .n_out = 1, .in = {x}, .out = {slice}});
        lc_tensor_release(slice);
        if (status) return status;
        start += length;
    }
    return LC_OK;
}

/* where(mask, attr.a, x). The number is a tensor on the stack: a weight is pruned in place, where an allocation that
 * fails would leave some layers pruned and others not. */
lc_status cpu_masked_fill(const lc_call *call) {
    lc_tensor *x = call->in[0];
    lc_block choose = lc_simd_get()->map[LC_OP_WHERE][x->dtype];
    if (!choose) return cpu_on_ref(call);
    double cell = 0;
    lc_storage storage = {.refs = 1, .bytes = sizeof cell, .data = &cell};
    lc_tensor number = {.refs = 1, .dtype = x->dtype, .ndim = x->ndim, .storage = &storage}; /* all strides are 0 */
    memcpy(number.shape, x->shape, sizeof number.shape);
    lc_set_f64(&number, 0, call->attr->a);
    return cpu_map(choose, call->attr, call->out[0], (lc_tensor *[]){call->in[1], &number, x}, 3);
}
