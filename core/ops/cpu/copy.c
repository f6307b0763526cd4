/* copy.c: copies, casts, transpositions and fills. */
#include "ops/cpu/cpu.h"

#include <string.h>

/* -- transposing copies ------------------------------------------------------------------------ */

#define TILE 32 /* rows and columns: both sides of a tile stay in the first cache */

typedef struct transpose_job {
    const char *x;
    char *y;
    size_t size;
    int64_t rows, cols;   /* of y, whose elements are y[r * y_row + c] */
    int64_t y_row, x_col; /* x[r + c * x_col] */
} transpose_job;

#define TRANSPOSE(width, T)                                                                  \
    static void transpose_##width(const transpose_job *j, int64_t r0, int64_t r1) {          \
        const T *x = (const T *)j->x;                                                        \
        T *y = (T *)j->y;                                                                    \
        for (int64_t c0 = 0; c0 < j->cols; c0 += TILE) {                                     \
            int64_t c1 = lc_min(c0 + TILE, j->cols);                                         \
            for (int64_t r = r0; r < r1; r++)                                                \
                for (int64_t c = c0; c < c1; c++) y[r * j->y_row + c] = x[r + c * j->x_col]; \
        }                                                                                    \
    }
TRANSPOSE(8, uint8_t)
TRANSPOSE(32, uint32_t)
TRANSPOSE(64, uint64_t)

static void transpose_rows(void *context, int64_t begin, int64_t end) {
    const transpose_job *j = context;
    for (int64_t r = begin; r < end; r += TILE) {
        int64_t stop = lc_min(r + TILE, end);
        if (j->size == 1) transpose_8(j, r, stop);
        if (j->size == 4) transpose_32(j, r, stop);
        if (j->size == 8) transpose_64(j, r, stop);
    }
}

/* Is this a matrix whose rows are y's columns? Then *j says how. Either of the two may be the one that lies in rows. */
static bool as_transposition(const lc_iter *it, lc_tensor *x, lc_tensor *y, transpose_job *j) {
    *j = (transpose_job){.x = lc_data(x), .y = lc_data(y), .size = lc_dtype_size(x->dtype)};
    if (it->ndim != 1 || x->dtype != y->dtype || j->size == 2) return false;
    bool x_strided = it->strides[0][0] == 1 && it->inner_stride[0] > 1 && it->inner_stride[1] == 1;
    bool y_strided = it->strides[1][0] == 1 && it->inner_stride[1] > 1 && it->inner_stride[0] == 1;
    j->rows = x_strided ? it->shape[0] : it->inner;
    j->cols = x_strided ? it->inner : it->shape[0];
    j->y_row = x_strided ? it->strides[1][0] : it->inner_stride[1];
    j->x_col = x_strided ? it->inner_stride[0] : it->strides[0][0];
    return x_strided || y_strided;
}

/* -- copies and casts -------------------------------------------------------------------------- */

static void copy_8(void *y, const void *const *x, int64_t n, const lc_attr *attr) {
    (void)attr;
    memcpy(y, x[0], (size_t)n);
}
static void copy_16(void *y, const void *const *x, int64_t n, const lc_attr *attr) {
    (void)attr;
    memcpy(y, x[0], (size_t)n * 2);
}
static void copy_32(void *y, const void *const *x, int64_t n, const lc_attr *attr) {
    (void)attr;
    memcpy(y, x[0], (size_t)n * 4);
}
static void copy_64(void *y, const void *const *x, int64_t n, const lc_attr *attr) {
    (void)attr;
    memcpy(y, x[0], (size_t)n * 8);
}

lc_status cpu_copy(const lc_call *call) {
    lc_tensor *x = call->in[0], *y = call->out[0];
    static const lc_block copies[] = {[1] = copy_8, [2] = copy_16, [4] = copy_32, [8] = copy_64};
    lc_block block = x->dtype == y->dtype ? copies[lc_dtype_size(x->dtype)] : lc_simd_get()->cast[x->dtype][y->dtype];
    if (!block || (x->storage == y->storage && x->offset == y->offset && x->dtype == y->dtype)) return cpu_on_ref(call);
    lc_iter it;
    cpu_walk(&it, 2, (lc_tensor *[]){x, y});
    transpose_job j;
    if (as_transposition(&it, x, y, &j))
        return lc_parallel_range(j.rows, (cpu_row_grain(j.cols) + TILE - 1) / TILE * TILE, transpose_rows, &j);
    return cpu_map(block, call->attr, y, &x, 1);
}

/* A tensor of one number, seen in the target's shape. */
lc_status cpu_fill(const lc_call *call) {
    lc_tensor *y = call->out[0], *number = NULL, *wide = NULL;
    LC_TRY(lc_tensor_scalar(y->dtype, call->attr->a, &number));
    lc_status status = lc_view_expand(number, y->ndim, y->shape, &wide);
    if (!status)
        status = cpu_map(
            (lc_block[]){NULL, copy_8, copy_16, NULL, copy_32, NULL, NULL, NULL, copy_64}[lc_dtype_size(y->dtype)],
            call->attr, y, &wide, 1);
    lc_tensor_release(wide);
    lc_tensor_release(number);
    return status;
}
