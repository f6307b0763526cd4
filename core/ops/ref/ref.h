/* ref.h: what the reference kernels share. They are the oracle: plain loops over numbers read and written one at a
 * time, sums in double, integers exact, any strides, every dtype by one body. Private to core/ops/ref. */
#ifndef LC_REF_H
#define LC_REF_H

#include "ops/op.h"

/* One kernel per row of ops.def: lc_ref_<name>. */
#define LC_OP(ENUM, name, infer, inputs, outputs, types, layout) lc_status lc_ref_##name(const lc_call *call);
#include "ops/ops.def"
#undef LC_OP

/* An element: `f` of a float tensor, `i` of any other. {0} is zero as both. */
typedef union ref_number {
    double f;
    int64_t i;
} ref_number;

/* An integer result, wrapped to its type as two's complement does. */
static inline int64_t ref_wrapped(lc_dtype dtype, int64_t value) {
    if (dtype == LC_U8) return (uint8_t)value;
    return dtype == LC_I32 ? (int32_t)(uint32_t)value : value;
}

static inline ref_number ref_read(const lc_tensor *t, int64_t position) {
    if (lc_dtype_is_float(t->dtype)) return (ref_number){.f = lc_get_f64(t, position)};
    return (ref_number){.i = lc_get_i64(t, position)};
}

static inline void ref_write(lc_tensor *t, int64_t position, ref_number value) {
    if (lc_dtype_is_float(t->dtype))
        lc_set_f64(t, position, value.f);
    else
        lc_set_i64(t, position, value.i);
}

/* A line: the elements of t along one dimension, the others fixed; with dim = -1 all elements, in row-major order.
 * Lines are numbered row-major over the other dimensions, so that line i of x belongs to element i of x reduced along
 * dim. */
typedef struct ref_line {
    lc_tensor *t;
    int64_t length;
    int64_t start, stride; /* positions; unused where `all` */
    bool all;
} ref_line;

int64_t ref_lines(const lc_tensor *t, int dim); /* how many */
ref_line ref_line_at(lc_tensor *t, int dim, int64_t number);
static inline int64_t ref_at(const ref_line *line, int64_t i) {
    return line->all ? lc_position(line->t, i) : line->start + i * line->stride;
}
static inline double ref_get(const ref_line *line, int64_t i) {
    return lc_get_f64(line->t, ref_at(line, i));
}
static inline void ref_set(const ref_line *line, int64_t i, double value) {
    lc_set_f64(line->t, ref_at(line, i), value);
}

/* Element number i of t, row-major. */
static inline double ref_flat(const lc_tensor *t, int64_t i) {
    return lc_get_f64(t, lc_position(t, i));
}
static inline bool ref_kept(const lc_tensor *keep, int64_t i) {
    return !keep || ref_flat(keep, i) != 0;
}

/* Every stored index is in 0..size-1; `what` is the word for one in the message. Checked before anything is written. */
lc_status ref_check_indices(const lc_call *call, const lc_tensor *indices, int64_t size, const char *what);
/* out = base + rows of `source` along `dim`: out[.., indices[n], ..] += source[.., n, ..], n counting through all of
 * `indices`. base may be out itself, or NULL for zero. */
lc_status ref_add_rows(lc_tensor *out, lc_tensor *base, int dim, const lc_tensor *indices, const lc_tensor *source);

double ref_activate(lc_activation act, double x);

/* Dropout: what element i is multiplied by, 0 or 1 / (1 - rate). */
double ref_dropout_factor(double rate, uint64_t key, uint64_t counter, int64_t i);

#endif
