/* elementwise.c: brings strided and broadcast operands to the contiguous loops of simd.h.
 *
 * Work goes in blocks that fit the first cache. Where an operand is contiguous the loop reads and writes it in place;
 * else it is gathered into a block first, or scattered from one afterwards. */
#include "ops/cpu/cpu.h"

#include <string.h>

#define BLOCK 1024   /* elements */
#define SHORT_ROW 64 /* shorter rows are gathered, many to a block */
#define OPERANDS 3   /* inputs at most */

typedef struct map_job {
    lc_block block;
    const lc_attr *attr;
    int n; /* inputs; operand n is the output */
    char *data[OPERANDS + 1];
    size_t size[OPERANDS + 1];
    lc_iter it;
    int64_t rows_per_piece, pieces_per_row, piece; /* one of the first two is 1; piece: elements of a part of a row */
} map_job;

/* One element after another; `size` is known where this is expanded, so that the copy is one instruction. */
static inline __attribute__((always_inline)) void move(char *to, int64_t to_step, const char *from, int64_t from_step,
                                                       int64_t n, size_t size) {
    for (int64_t i = 0; i < n; i++)
        memcpy(to + i * to_step * (int64_t)size, from + i * from_step * (int64_t)size, size);
}

static void move_elements(char *to, int64_t to_step, const char *from, int64_t from_step, int64_t n, size_t size) {
    switch (size) {
    case 1:
        move(to, to_step, from, from_step, n, 1);
        break;
    case 2:
        move(to, to_step, from, from_step, n, 2);
        break;
    case 4:
        move(to, to_step, from, from_step, n, 4);
        break;
    default:
        move(to, to_step, from, from_step, n, 8);
    }
}

typedef struct scratch {
    _Alignas(64) char block[OPERANDS + 1][BLOCK * 8];
} scratch;

/* Elements [begin, end) of one row. */
static void map_row(const map_job *j, int64_t row, int64_t begin, int64_t end) {
    scratch s;
    int64_t at[LC_MAX_OPERANDS];
    lc_iter_row(&j->it, row, at);
    const int64_t *stride = j->it.inner_stride;
    for (int k = 0; k < j->n; k++)
        if (stride[k] == 0)
            move_elements(s.block[k], 1, j->data[k] + at[k] * (int64_t)j->size[k], 0, lc_min(BLOCK, end - begin),
                          j->size[k]);
    for (int64_t i = begin; i < end; i += BLOCK) {
        int64_t count = lc_min(BLOCK, end - i);
        const void *x[OPERANDS];
        for (int k = 0; k < j->n; k++) {
            const char *from = j->data[k] + (at[k] + i * stride[k]) * (int64_t)j->size[k];
            x[k] = stride[k] == 1 ? from : s.block[k];
            if (stride[k] > 1 || stride[k] < 0) move_elements(s.block[k], 1, from, stride[k], count, j->size[k]);
        }
        char *to = j->data[j->n] + (at[j->n] + i * stride[j->n]) * (int64_t)j->size[j->n];
        bool direct = stride[j->n] == 1 || count == 1;
        j->block(direct ? to : s.block[j->n], x, count, j->attr);
        if (!direct) move_elements(to, stride[j->n], s.block[j->n], 1, count, j->size[j->n]);
    }
}

/* Short rows [begin, end), gathered as many as fill a block. */
static void map_short_rows(const map_job *j, int64_t begin, int64_t end) {
    scratch s;
    int64_t per_block = lc_max(1, BLOCK / j->it.inner), inner = j->it.inner, at[LC_MAX_OPERANDS];
    const void *x[OPERANDS];
    for (int k = 0; k < j->n; k++) x[k] = s.block[k];
    for (int64_t r = begin; r < end; r += per_block) {
        int64_t rows = lc_min(per_block, end - r);
        for (int64_t i = 0; i < rows; i++) {
            lc_iter_row(&j->it, r + i, at);
            for (int k = 0; k < j->n; k++)
                move_elements(s.block[k] + i * inner * (int64_t)j->size[k], 1, j->data[k] + at[k] * (int64_t)j->size[k],
                              j->it.inner_stride[k], inner, j->size[k]);
        }
        j->block(s.block[j->n], x, rows * inner, j->attr);
        for (int64_t i = 0; i < rows; i++) {
            lc_iter_row(&j->it, r + i, at);
            move_elements(j->data[j->n] + at[j->n] * (int64_t)j->size[j->n], j->it.inner_stride[j->n],
                          s.block[j->n] + i * inner * (int64_t)j->size[j->n], 1, inner, j->size[j->n]);
        }
    }
}

static void map_piece(void *context, int64_t index) {
    const map_job *j = context;
    if (j->pieces_per_row > 1) {
        int64_t begin = index % j->pieces_per_row * j->piece;
        map_row(j, index / j->pieces_per_row, begin, lc_min(begin + j->piece, j->it.inner));
        return;
    }
    int64_t begin = index * j->rows_per_piece, end = lc_min(begin + j->rows_per_piece, j->it.rows);
    if (j->it.inner < SHORT_ROW && end - begin > 1) {
        map_short_rows(j, begin, end);
        return;
    }
    for (int64_t r = begin; r < end; r++) map_row(j, r, 0, j->it.inner);
}

void cpu_walk(lc_iter *it, int n, lc_tensor *const *t) {
    const lc_tensor *y = t[n - 1];
    lc_tensor turned[OPERANDS + 1], *operands[OPERANDS + 1];
    int order[LC_MAX_DIMS];
    bool same = true;
    for (int d = 0; d < y->ndim; d++) {
        int at = d;
        for (; at > 0 && y->strides[order[at - 1]] < y->strides[d]; at--) order[at] = order[at - 1];
        order[at] = d;
        same = same && at == d;
    }
    if (same) {
        lc_iter_init(it, n, t);
        return;
    }
    for (int k = 0; k < n; k++) {
        operands[k] = &turned[k];
        turned[k] = *t[k];
        for (int d = 0; d < y->ndim; d++) {
            turned[k].shape[d] = t[k]->shape[order[d]];
            turned[k].strides[d] = t[k]->strides[order[d]];
        }
    }
    lc_iter_init(it, n, operands);
}

/* Is input k a large matrix that lies across the walk, its columns contiguous? Then a transposing copy is faster than
 * gathering element by element. */
static bool lies_across(const map_job *j, int k) {
    return j->it.ndim == 1 && j->it.strides[k][0] == 1 && j->it.inner_stride[k] > 1 && j->size[k] != 2 &&
           j->it.rows * j->it.inner > GRAIN;
}

/* The same with a contiguous copy of input k. */
static lc_status map_with_copy(lc_block block, const lc_attr *attr, lc_tensor *y, lc_tensor *const *x, int n, int k) {
    lc_tensor *inputs[OPERANDS], *copy = NULL;
    for (int i = 0; i < n; i++) inputs[i] = x[i];
    LC_TRY(lc_tensor_new(x[k]->dtype, y->ndim, y->shape, LC_CPU, &copy));
    lc_attr same = {.dtype = x[k]->dtype};
    lc_call call = {.op = LC_OP_COPY, .attr = &same, .n_in = 1, .n_out = 1, .in = {x[k]}, .out = {copy}};
    lc_status status = cpu_copy(&call);
    inputs[k] = copy;
    if (!status) status = cpu_map(block, attr, y, inputs, n);
    lc_tensor_release(copy);
    return status;
}

lc_status cpu_map(lc_block block, const lc_attr *attr, lc_tensor *y, lc_tensor *const *x, int n) {
    map_job j = {.block = block, .attr = attr, .n = n, .rows_per_piece = 1, .pieces_per_row = 1};
    lc_tensor *operands[OPERANDS + 1] = {NULL};
    const void *data[OPERANDS];
    for (int k = 0; k <= n; k++) {
        operands[k] = k < n ? x[k] : y;
        j.data[k] = lc_data(operands[k]);
        j.size[k] = lc_dtype_size(operands[k]->dtype);
        if (k < n) data[k] = j.data[k];
    }
    cpu_walk(&j.it, n + 1, operands);
    if (j.it.rows == 0) return LC_OK;
    for (int k = 0; k < n; k++)
        if (lc_is_contiguous(y) && lies_across(&j, k)) return map_with_copy(block, attr, y, x, n, k);
    bool contiguous = j.it.rows == 1;
    for (int k = 0; k <= n; k++) contiguous = contiguous && (j.it.inner_stride[k] == 1 || j.it.inner == 1);
    if (contiguous && j.it.inner <= GRAIN) { /* the common small case */
        block(j.data[n], data, j.it.inner, attr);
        return LC_OK;
    }
    j.piece = GRAIN;
    if (j.it.inner >= 2 * GRAIN)
        j.pieces_per_row = (j.it.inner + GRAIN - 1) / GRAIN;
    else
        j.rows_per_piece = cpu_row_grain(j.it.inner);
    int64_t pieces =
        j.pieces_per_row > 1 ? j.it.rows * j.pieces_per_row : (j.it.rows + j.rows_per_piece - 1) / j.rows_per_piece;
    if (pieces > 1) return lc_parallel(pieces, map_piece, &j);
    map_piece(&j, 0);
    return LC_OK;
}

lc_status cpu_elementwise(const lc_call *call) {
    lc_block block = lc_simd_get()->map[call->op][call->in[0]->dtype];
    if (!block) return cpu_on_ref(call);
    return cpu_map(block, call->attr, call->out[0], call->in, call->n_in);
}

lc_status cpu_where(const lc_call *call) {
    lc_block block = lc_simd_get()->map[LC_OP_WHERE][call->in[2]->dtype];
    if (!block) return cpu_on_ref(call);
    return cpu_map(block, call->attr, call->out[0], call->in, call->n_in);
}

static bool is_one_number(const lc_tensor *t, double value) {
    for (int i = 0; i < t->ndim; i++)
        if (t->strides[i] != 0 && t->shape[i] != 1) return false;
    return lc_numel(t) > 0 && lc_get_f64(t, t->offset) == value;
}

/* x^2 is by far the most frequent power. */
lc_status cpu_pow(const lc_call *call) {
    lc_block square = lc_simd_get()->map[LC_OP_SQUARE][call->in[0]->dtype];
    if (square && is_one_number(call->in[1], 2)) return cpu_map(square, call->attr, call->out[0], call->in, 1);
    return cpu_elementwise(call);
}
