/* scatter.c: writing and adding by index, and triangles of matrices.
 *
 * x (outer, size, inner) is changed line by line, a line being one place of outer and inner. No line has two writers,
 * and each meets its sources in their order, so an index that comes twice gives the same bits at any thread count. */
#include "ops/cpu/cpu.h"

#include <string.h>

typedef struct scatter_job {
    const int64_t *index; /* (n) for index_add, (outer, n, inner) for scatter */
    bool each_line;       /* the latter */
    int64_t size, n, inner;
    const void *source; /* (outer, n, inner) */
    void *out;          /* (outer, size, inner), x so far */
} scatter_job;

/* For every source element of lines begin..end-1, whose places in a row of lines are adjacent in memory. */
#define SCATTER(name, T, STATEMENT)                                                                 \
    static void name(void *context, int64_t begin, int64_t end) {                                   \
        const scatter_job *j = context;                                                             \
        for (int64_t line = begin; line < end;) {                                                   \
            int64_t outer = line / j->inner, first = line % j->inner;                               \
            int64_t last = lc_min(j->inner, first + end - line);                                    \
            for (int64_t k = 0; k < j->n; k++) {                                                    \
                const T *from = (const T *)j->source + (outer * j->n + k) * j->inner;               \
                const int64_t *at = j->each_line ? j->index + (outer * j->n + k) * j->inner : NULL; \
                for (int64_t i = first; i < last; i++) {                                            \
                    int64_t place = at ? at[i] : j->index[k];                                       \
                    T *to = (T *)j->out + (outer * j->size + place) * j->inner + i;                 \
                    STATEMENT;                                                                      \
                }                                                                                   \
            }                                                                                       \
            line += last - first;                                                                   \
        }                                                                                           \
    }
SCATTER(write_8, uint8_t, *to = from[i])
SCATTER(write_32, uint32_t, *to = from[i])
SCATTER(write_64, uint64_t, *to = from[i])
SCATTER(add_f32, float, *to += from[i])
SCATTER(add_f64, double, *to += from[i])
SCATTER(add_i32, int32_t, *to = (int32_t)((uint32_t)*to + (uint32_t)from[i]))
SCATTER(add_i64, int64_t, *to = (int64_t)((uint64_t)*to + (uint64_t)from[i]))

static lc_range_task writer_of(lc_dtype dtype, bool adds) {
    if (adds)
        return dtype == LC_F32   ? add_f32
               : dtype == LC_F64 ? add_f64
               : dtype == LC_I32 ? add_i32
               : dtype == LC_I64 ? add_i64
                                 : NULL;
    size_t bytes = lc_dtype_size(dtype);
    return bytes == 1 ? write_8 : bytes == 4 ? write_32 : bytes == 8 ? write_64 : NULL;
}

/* Makes out a copy of x unless out itself is the base, then writes or adds. */
static lc_status scatter(const lc_call *call, bool each_line, bool adds, bool onto_out) {
    lc_tensor *x = call->in[0], *indices = call->in[1], *source = call->in[2], *out = call->out[0];
    int dim = call->attr->dim;
    lc_range_task task = writer_of(out->dtype, adds);
    bool apart = source->storage != out->storage && (onto_out || x->storage != out->storage);
    if (!task || !apart) return cpu_on_ref(call);
    int64_t *index;
    LC_TRY(cpu_read_indices(call, indices, x->shape[dim], "index", &index));
    scatter_job j = {.index = index,
                     .each_line = each_line,
                     .size = x->shape[dim],
                     .n = each_line ? source->shape[dim] : lc_numel(indices),
                     .inner = lc_shape_numel(x->ndim - dim - 1, x->shape + dim + 1),
                     .source = lc_data(source),
                     .out = lc_data(out)};
    if (!onto_out) memcpy(lc_data(out), lc_data(x), (size_t)lc_numel(x) * lc_dtype_size(x->dtype));
    int64_t lines = lc_shape_numel(dim, x->shape) * j.inner;
    lc_status status = lc_parallel_range(lines, cpu_row_grain(j.n), task, &j);
    lc_free(index);
    return status;
}

lc_status cpu_scatter(const lc_call *call) {
    return scatter(call, true, call->attr->add, false);
}

/* With attr.add, source is added to what out holds, and x only tells the shape. */
lc_status cpu_index_add(const lc_call *call) {
    return scatter(call, false, true, call->attr->add);
}

/* -- triangles -- */

typedef struct triangle_job {
    char *data;
    int64_t rows, columns, diagonal;
    size_t bytes;
    bool upper;
} triangle_job;

/* Zeroes what rows begin..end-1 have outside the triangle. */
static void clear_rows(void *context, int64_t begin, int64_t end) {
    const triangle_job *j = context;
    for (int64_t r = begin; r < end; r++) {
        int64_t edge = r % j->rows + j->diagonal + !j->upper; /* upper keeps columns from here on, lower those before */
        edge = lc_max(0, lc_min(edge, j->columns));
        char *row = j->data + (size_t)(r * j->columns) * j->bytes;
        int64_t first = j->upper ? 0 : edge, last = j->upper ? edge : j->columns;
        memset(row + (size_t)first * j->bytes, 0, (size_t)(last - first) * j->bytes);
    }
}

lc_status cpu_triangle(const lc_call *call) {
    lc_tensor *x = call->in[0], *out = call->out[0];
    if (!lc_is_contiguous(out) || x->storage == out->storage || lc_numel(x) == 0) return cpu_on_ref(call);
    lc_attr attr = {.dtype = out->dtype};
    LC_TRY(cpu_copy(&(lc_call){.op = LC_OP_COPY, .attr = &attr, .n_in = 1, .n_out = 1, .in = {x}, .out = {out}}));
    triangle_job j = {.data = lc_data(out),
                      .rows = x->shape[x->ndim - 2],
                      .columns = x->shape[x->ndim - 1],
                      .bytes = lc_dtype_size(out->dtype),
                      .upper = call->attr->upper};
    j.diagonal = lc_max(-j.rows - 1, lc_min(call->attr->n, j.columns + 1));
    return lc_parallel_range(lc_numel(x) / j.columns, cpu_row_grain(j.columns), clear_rows, &j);
}
