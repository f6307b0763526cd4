/* reduce.c: one number from each line of a tensor, sums over broadcast dimensions, and running sums.
 *
 * A line is cut into pieces of GRAIN elements; each gives a partial result in double, and partials are combined in
 * their order: the tree is the same at any thread count. Lines along a dimension that is not the last are turned into
 * rows by a transposing copy, except for sums, which go down the columns. */
#include "ops/cpu/cpu.h"

#include <math.h>

/* What is known of part of a line. */
typedef struct partial {
    double
        value; /* sum, sum of squares, count; mean; largest or smallest; log of the sum of exponentials: its largest */
    double spread; /* VAR: sum of squares about the mean; LOGSUMEXP: sum of exp(x - largest) */
    int64_t n;     /* elements; ARGMIN, ARGMAX: index of the extreme */
} partial;

#define BLOCK 1024 /* floats summed in f32 before double takes over */

/* -- parts of a line --------------------------------------------------------------------------- */

static double sum_f32(const float *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i += BLOCK) sum += lc_simd_get()->sum(x + i, lc_min(BLOCK, n - i));
    return sum;
}

static double squares_f32(const float *x, double center, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i += BLOCK) sum += lc_simd_get()->square_sum(x + i, (float)center, lc_min(BLOCK, n - i));
    return sum;
}

static partial variance_f32(const float *x, int64_t n) {
    float mean = (float)(sum_f32(x, n) / (double)n);
    double off = 0; /* what rounding the mean to f32 left */
    for (int64_t i = 0; i < n; i += BLOCK) {
        float shifted[BLOCK];
        int64_t count = lc_min(BLOCK, n - i);
        lc_simd_get()->normalise(shifted, x + i, mean, 1, NULL, NULL, count);
        off += lc_simd_get()->sum(shifted, count);
    }
    return (partial){mean + off / (double)n, squares_f32(x, mean, n) - off * off / (double)n, n};
}

/* The first of the largest or smallest; NaN beats everything. `first` is the number of x[0] in its line. */
static partial extreme_f32(const float *x, int64_t first, int64_t n, bool largest) {
    int64_t i = 0;
    if (lc_simd_get()->any_nan(x, n)) {
        while (x[i] == x[i]) i++;
        return (partial){NAN, 0, first + i};
    }
    float best = largest ? lc_simd_get()->max(x, n) : lc_simd_get()->min(x, n);
    while (x[i] != best) i++;
    return (partial){best, 0, first + i};
}

static partial log_sum_exp_f32(const float *x, int64_t n) {
    float scratch[BLOCK], most = (float)extreme_f32(x, 0, n, true).value;
    double sum = 0;
    for (int64_t i = 0; isfinite(most) && i < n; i += BLOCK)
        sum += lc_simd_get()->exp_sum(scratch, x + i, 1, most, lc_min(BLOCK, n - i));
    return (partial){most, sum, n};
}

static int64_t nonzeros(lc_dtype dtype, const void *data, int64_t n) {
    int64_t count = 0;
    switch (dtype) {
#define COUNT(ENUM, T)                                                      \
    case ENUM:                                                              \
        for (int64_t i = 0; i < n; i++) count += ((const T *)data)[i] != 0; \
        break;
        COUNT(LC_BOOL, uint8_t)
        COUNT(LC_U8, uint8_t)
        COUNT(LC_I32, int32_t)
        COUNT(LC_I64, int64_t)
        COUNT(LC_F32, float)
    default:
        COUNT(LC_F64, double)
    }
    return count;
}

static int64_t sum_integers(lc_dtype dtype, const void *data, int64_t n) {
    uint64_t sum = 0; /* unsigned: overflow wraps */
    switch (dtype) {
#define ADD(ENUM, T)                                                           \
    case ENUM:                                                                 \
        for (int64_t i = 0; i < n; i++) sum += (uint64_t)((const T *)data)[i]; \
        break;
        ADD(LC_U8, uint8_t)
        ADD(LC_I32, int32_t)
        ADD(LC_I64, int64_t)
    default:
        return nonzeros(dtype, data, n);
    }
    return (int64_t)sum;
}

static partial part_of_line(lc_op op, lc_dtype dtype, const void *data, int64_t first, int64_t n) {
    const float *x = data;
    switch (op) {
    case LC_OP_SUM:
        if (dtype == LC_F32) return (partial){sum_f32(x, n), 0, n};
        return (partial){0, 0, sum_integers(dtype, data, n)};
    case LC_OP_MEAN:
        return (partial){sum_f32(x, n), 0, n};
    case LC_OP_NORM:
        return (partial){squares_f32(x, 0, n), 0, n};
    case LC_OP_VAR:
        return variance_f32(x, n);
    case LC_OP_LOGSUMEXP:
        return log_sum_exp_f32(x, n);
    case LC_OP_MIN:
    case LC_OP_ARGMIN:
        return extreme_f32(x, first, n, false);
    case LC_OP_MAX:
    case LC_OP_ARGMAX:
        return extreme_f32(x, first, n, true);
    default: /* ANY, ALL */
        return (partial){(double)nonzeros(dtype, data, n), 0, n};
    }
}

/* -- parts together ---------------------------------------------------------------------------- */

static partial combine(lc_op op, partial a, partial b) {
    switch (op) {
    case LC_OP_VAR: { /* Chan, Golub and LeVeque (1983) */
        double n = (double)(a.n + b.n), apart = b.value - a.value;
        return (partial){a.value + apart * (double)b.n / n,
                         a.spread + b.spread + apart * apart * (double)a.n * (double)b.n / n, a.n + b.n};
    }
    case LC_OP_LOGSUMEXP: {
        if (isnan(a.value) || isnan(b.value)) return isnan(a.value) ? a : b;
        double most = fmax(a.value, b.value);
        if (isinf(most)) return a.value == most ? a : b;
        return (partial){most, a.spread * exp(a.value - most) + b.spread * exp(b.value - most), a.n + b.n};
    }
    case LC_OP_MIN:
    case LC_OP_ARGMIN:
        return !isnan(a.value) && (isnan(b.value) || b.value < a.value) ? b : a;
    case LC_OP_MAX:
    case LC_OP_ARGMAX:
        return !isnan(a.value) && (isnan(b.value) || b.value > a.value) ? b : a;
    default:
        return (partial){a.value + b.value, 0, (int64_t)((uint64_t)a.n + (uint64_t)b.n)};
    }
}

static double finish(const lc_call *call, partial p, int64_t n) {
    switch (call->op) {
    case LC_OP_MEAN:
        return p.value / (double)n;
    case LC_OP_NORM:
        return sqrt(p.value);
    case LC_OP_VAR:
        return p.spread / fmax(0, (double)n - call->attr->a);
    case LC_OP_LOGSUMEXP:
        return isfinite(p.value) ? p.value + log(p.spread) : p.value;
    case LC_OP_ANY:
        return p.value > 0;
    case LC_OP_ALL:
        return p.value == (double)n;
    default:
        return p.value;
    }
}

typedef struct lines_job {
    const lc_call *call;
    lc_op op;
    lc_dtype dtype;
    const char *x;
    lc_tensor *out;
    int64_t lines, n, pieces, lines_per_piece; /* pieces of a line, or lines of a piece: one of them is 1 */
    partial *partials;                         /* (lines, pieces) where pieces > 1 */
} lines_job;

static void write_result(const lines_job *j, int64_t line, partial p) {
    bool exact = j->op == LC_OP_ARGMIN || j->op == LC_OP_ARGMAX || (j->op == LC_OP_SUM && j->dtype != LC_F32);
    int64_t at = lc_position(j->out, line);
    if (exact)
        lc_set_i64(j->out, at, p.n);
    else
        lc_set_f64(j->out, at, finish(j->call, p, j->n));
}

static void reduce_piece(void *context, int64_t index) {
    const lines_job *j = context;
    size_t size = lc_dtype_size(j->dtype);
    if (j->pieces > 1) {
        int64_t begin = index % j->pieces * GRAIN, count = lc_min(GRAIN, j->n - begin);
        const char *x = j->x + (size_t)(index / j->pieces * j->n + begin) * size;
        j->partials[index] = part_of_line(j->op, j->dtype, x, begin, count);
        return;
    }
    for (int64_t l = index * j->lines_per_piece; l < lc_min((index + 1) * j->lines_per_piece, j->lines); l++)
        write_result(j, l, part_of_line(j->op, j->dtype, j->x + (size_t)(l * j->n) * size, 0, j->n));
}

/* x (lines, n), contiguous, n > 0. */
static lc_status reduce_lines(const lc_call *call, lc_op op, const lc_tensor *x, int64_t lines, int64_t n) {
    lines_job j = {.call = call,
                   .op = op,
                   .dtype = x->dtype,
                   .x = lc_data(x),
                   .out = call->out[0],
                   .lines = lines,
                   .n = n,
                   .pieces = 1,
                   .lines_per_piece = 1};
    if (n < 2 * GRAIN) {
        j.lines_per_piece = cpu_row_grain(n);
        int64_t count = (lines + j.lines_per_piece - 1) / j.lines_per_piece;
        if (count > 1) return lc_parallel(count, reduce_piece, &j);
        if (count == 1) reduce_piece(&j, 0);
        return LC_OK;
    }
    j.pieces = (n + GRAIN - 1) / GRAIN;
    if (!(j.partials = lc_alloc(sizeof *j.partials * (size_t)(lines * j.pieces)))) return LC_ENOMEM;
    lc_status status = lc_parallel(lines * j.pieces, reduce_piece, &j);
    for (int64_t l = 0; !status && l < lines; l++) {
        partial p = j.partials[l * j.pieces];
        for (int64_t i = 1; i < j.pieces; i++) p = combine(op, p, j.partials[l * j.pieces + i]);
        write_result(&j, l, p);
    }
    lc_free(j.partials);
    return status;
}

/* -- down the columns -------------------------------------------------------------------------- */

enum { COLUMNS = 512, ROWS = 64 }; /* a piece's columns; rows added in f32 before double takes over */

typedef struct columns_job {
    const float *x; /* (outer, n, inner) */
    float *out;     /* (outer, inner) */
    int64_t n, inner, blocks;
    double scale;
} columns_job;

static void sum_columns_piece(void *context, int64_t index) {
    const columns_job *j = context;
    int64_t o = index / j->blocks, c0 = index % j->blocks * COLUMNS, count = lc_min(COLUMNS, j->inner - c0);
    double total[COLUMNS] = {0};
    for (int64_t r = 0; r < j->n; r += ROWS) {
        float part[COLUMNS] = {0};
        for (int64_t k = r; k < lc_min(r + ROWS, j->n); k++)
            lc_simd_get()->axpy(part, 1, j->x + (o * j->n + k) * j->inner + c0, count);
        for (int64_t c = 0; c < count; c++) total[c] += part[c];
    }
    for (int64_t c = 0; c < count; c++) j->out[o * j->inner + c0 + c] = (float)(total[c] * j->scale);
}

static lc_status sum_columns(const lc_tensor *x, int64_t outer, int64_t n, int64_t inner, double scale,
                             lc_tensor *out) {
    columns_job j = {LC_DATA(float, x), LC_DATA(float, out), n, inner, (inner + COLUMNS - 1) / COLUMNS, scale};
    if (outer * n * inner > GRAIN) return lc_parallel(outer * j.blocks, sum_columns_piece, &j);
    for (int64_t i = 0; i < outer * j.blocks; i++) sum_columns_piece(&j, i);
    return LC_OK;
}

/* Are columns worth it: f32, and wide enough for vectors? */
static bool by_columns(const lc_tensor *x, const lc_tensor *out, int64_t inner) {
    return x->dtype == LC_F32 && inner >= 16 && lc_is_contiguous(out);
}

/* -- the kernels ------------------------------------------------------------------------------- */

static bool has_fast_form(const lc_call *call) {
    lc_dtype d = call->in[0]->dtype;
    if (call->op == LC_OP_SUM || call->op == LC_OP_SUM_TO) return d != LC_F64;
    return d == LC_F32 || call->op == LC_OP_ANY || call->op == LC_OP_ALL;
}

/* x, contiguous, with the dimensions of `last` (a bit set) moved behind the others. */
static lc_status dimensions_last(lc_tensor *x, unsigned last, lc_tensor **out) {
    int order[LC_MAX_DIMS], k = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int d = 0; d < x->ndim; d++)
            if ((int)(last >> d & 1) == pass) order[k++] = d;
    lc_tensor *view = NULL;
    LC_TRY(lc_view_permute(x, order, &view));
    lc_status status = lc_contiguous(view, out);
    lc_tensor_release(view);
    return status;
}

lc_status cpu_reduce(const lc_call *call) {
    lc_tensor *x = call->in[0], *dense = NULL;
    int dim = call->attr->dim;
    int64_t n = dim < 0 ? lc_numel(x) : x->shape[dim], inner = 1;
    if (!has_fast_form(call) || n == 0) return cpu_on_ref(call);
    for (int d = dim < 0 ? x->ndim : dim + 1; d < x->ndim; d++) inner *= x->shape[d];
    int64_t lines = lc_numel(call->out[0]);
    bool sums = call->op == LC_OP_SUM || call->op == LC_OP_MEAN;
    lc_status status;
    if (sums && dim >= 0 && by_columns(x, call->out[0], inner)) {
        LC_GOTO(done, lc_contiguous(x, &dense));
        status = sum_columns(dense, lines / inner, n, inner, call->op == LC_OP_MEAN ? 1 / (double)n : 1, call->out[0]);
    } else {
        LC_GOTO(done, dimensions_last(x, inner > 1 ? 1u << dim : 0, &dense));
        status = reduce_lines(call, call->op, dense, lines, n);
    }
done:
    lc_tensor_release(dense);
    return status;
}

/* The dimensions of x that are summed over. */
static unsigned summed_dimensions(const lc_call *call) {
    const lc_tensor *x = call->in[0];
    unsigned set = 0;
    for (int d = 0; d < x->ndim; d++) {
        int own = d - (x->ndim - call->attr->ndim);
        if (x->shape[d] != 1 && (own < 0 || call->attr->shape[own] == 1)) set |= 1u << d;
    }
    return set;
}

lc_status cpu_sum_to(const lc_call *call) {
    lc_tensor *x = call->in[0], *out = call->out[0], *dense = NULL;
    unsigned summed = summed_dimensions(call);
    if (!has_fast_form(call) || lc_numel(x) == 0) return cpu_on_ref(call);
    if (!summed && x->dtype == LC_F32) {
        LC_TRY(lc_view_reshape(out, x->ndim, x->shape, &dense));
        lc_status copied = lc_copy_into(dense, x);
        lc_tensor_release(dense);
        return copied;
    }
    int64_t lines = lc_numel(out), n = lc_numel(x) / lines;
    int leading = 0;
    while (leading < x->ndim && (x->shape[leading] == 1 || summed >> leading & 1)) leading++;
    bool rows_first = summed >> leading == 0; /* all that is summed comes first: columns remain */
    lc_status status;
    if (rows_first && by_columns(x, out, lines)) {
        LC_GOTO(done, lc_contiguous(x, &dense));
        status = sum_columns(dense, 1, n, lines, 1, out);
    } else {
        LC_GOTO(done, dimensions_last(x, summed, &dense));
        status = reduce_lines(call, LC_OP_SUM, dense, lines, n);
    }
done:
    lc_tensor_release(dense);
    return status;
}

/* -- running sums ------------------------------------------------------------------------------ */

typedef struct cumsum_job {
    lc_tensor *x, *out;
    int dim;
} cumsum_job;

/* Position of the first element of a line along `dim`; lines are numbered row-major over the other dimensions. */
static int64_t line_start(const lc_tensor *t, int dim, int64_t line) {
    int64_t position = t->offset;
    for (int d = t->ndim - 1; d >= 0; d--) {
        if (d == dim) continue;
        position += line % t->shape[d] * t->strides[d];
        line /= t->shape[d];
    }
    return position;
}

/* Floats are summed in double, as everywhere; integers wrap around. */
#define CUMSUM(name, T, SUM)                                                                               \
    static void name(void *context, int64_t begin, int64_t end) {                                          \
        const cumsum_job *j = context;                                                                     \
        int64_t n = j->x->shape[j->dim], step = j->x->strides[j->dim], out_step = j->out->strides[j->dim]; \
        for (int64_t l = begin; l < end; l++) {                                                            \
            const T *x = (const T *)j->x->storage->data + line_start(j->x, j->dim, l);                     \
            T *y = (T *)j->out->storage->data + line_start(j->out, j->dim, l);                             \
            SUM sum = 0;                                                                                   \
            for (int64_t i = 0; i < n; i++) y[i * out_step] = (T)(sum += (SUM)x[i * step]);                \
        }                                                                                                  \
    }
CUMSUM(cumsum_f32, float, double)
CUMSUM(cumsum_f64, double, double)
CUMSUM(cumsum_i64, int64_t, uint64_t)

lc_status cpu_cumsum(const lc_call *call) {
    cumsum_job j = {call->in[0], call->out[0], call->attr->dim};
    lc_range_task task = j.x->dtype == LC_F32   ? cumsum_f32
                         : j.x->dtype == LC_F64 ? cumsum_f64
                         : j.x->dtype == LC_I64 ? cumsum_i64
                                                : NULL;
    if (!task || j.out->dtype != j.x->dtype || lc_numel(j.x) == 0) return cpu_on_ref(call);
    return lc_parallel_range(lc_numel(j.x) / j.x->shape[j.dim], cpu_row_grain(j.x->shape[j.dim]), task, &j);
}
