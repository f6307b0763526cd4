/* tensor_print.c: a tensor as a person reads it: what it is, statistics, and at most 6 x 6 of its numbers. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tensor.h"

/* -- statistics over the finite numbers -- */

typedef struct statistics {
    int64_t count, zeros, not_finite;
    double min, max, mean, squares; /* squares: sum of squared distances from the mean */
} statistics;

/* Welford's running mean, which stays exact where the mean is large beside the deviation. */
static void add_number(statistics *s, double value) {
    if (!isfinite(value)) {
        s->not_finite++;
        return;
    }
    s->count++;
    s->zeros += value == 0;
    s->min = s->count == 1 ? value : fmin(s->min, value);
    s->max = s->count == 1 ? value : fmax(s->max, value);
    double distance = value - s->mean;
    s->mean += distance / (double)s->count;
    s->squares += distance * (value - s->mean);
}

static statistics measure(lc_tensor *x) {
    statistics s = {0};
    lc_iter it;
    lc_iter_init(&it, 1, &x);
    for (int64_t row = 0; row < it.rows; row++) {
        int64_t offsets[LC_MAX_OPERANDS];
        lc_iter_row(&it, row, offsets);
        for (int64_t i = 0; i < it.inner; i++)
            add_number(&s, lc_get_f64(x, x->offset + offsets[0] + i * it.inner_stride[0]));
    }
    return s;
}

static void add_statistics(luaL_Buffer *b, lc_tensor *x) {
    char text[256];
    statistics s = measure(x);
    if (s.count) {
        double deviation = s.count > 1 ? sqrt(s.squares / (double)(s.count - 1)) : 0;
        snprintf(text, sizeof text, "  min %.4g  max %.4g  mean %.4g  std %.4g  zeros %.1f%%", s.min, s.max,
                 lcl_plain(s.mean), lcl_plain(deviation), 100 * (double)s.zeros / (double)(s.count + s.not_finite));
        luaL_addstring(b, text);
    }
    if (s.not_finite) {
        snprintf(text, sizeof text, "  not finite %lld", (long long)s.not_finite);
        luaL_addstring(b, text);
    }
}

/* -- numbers -- */

#define EDGE 3 /* rows and columns shown at each end of a long dimension */
#define CELL 32

static void format_number(const lc_tensor *x, int64_t position, char text[CELL]) {
    if (x->dtype == LC_BOOL)
        snprintf(text, CELL, "%s", lc_get_i64(x, position) ? "true" : "false");
    else if (lc_dtype_is_float(x->dtype))
        snprintf(text, CELL, "%.4g", lcl_plain(lc_get_f64(x, position)));
    else
        snprintf(text, CELL, "%lld", (long long)lc_get_i64(x, position));
}

/* Which indices of a dimension are shown: all of up to 6, else the first and last 3, with -1 for the gap. */
static int shown(int64_t size, int64_t index[2 * EDGE + 1]) {
    if (size <= 2 * EDGE) {
        for (int i = 0; i < size; i++) index[i] = i;
        return (int)size;
    }
    for (int i = 0; i < EDGE; i++) {
        index[i] = i;
        index[EDGE + 1 + i] = size - EDGE + i;
    }
    index[EDGE] = -1;
    return 2 * EDGE + 1;
}

/* The matrix of the last two dimensions (a vector is one row) that begins at `position`. */
static void add_matrix(luaL_Buffer *b, const lc_tensor *x, int64_t position) {
    bool matrix = x->ndim >= 2;
    int64_t rows = matrix ? x->shape[x->ndim - 2] : 1, columns = x->shape[x->ndim - 1];
    int64_t row_stride = matrix ? x->strides[x->ndim - 2] : 0, column_stride = x->strides[x->ndim - 1];
    int64_t row[2 * EDGE + 1], column[2 * EDGE + 1];
    int n_rows = shown(rows, row), n_columns = shown(columns, column), width = 0;
    char text[2 * CELL];
    for (int pass = 0; pass < 2; pass++) { /* first measures the widest cell, then writes */
        for (int i = 0; i < n_rows; i++) {
            if (row[i] < 0) {
                if (pass) luaL_addstring(b, "\n  ...");
                continue;
            }
            if (pass) luaL_addstring(b, "\n");
            for (int j = 0; j < n_columns; j++) {
                char cell[CELL] = "...";
                if (column[j] >= 0) format_number(x, position + row[i] * row_stride + column[j] * column_stride, cell);
                width = pass ? width : (int)lc_max(width, (int64_t)strlen(cell));
                if (!pass) continue;
                snprintf(text, sizeof text, "  %*s", width, cell);
                luaL_addstring(b, text);
            }
        }
    }
}

int lcl_tensor_tostring(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    char text[256], number[CELL];
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    snprintf(text, sizeof text, "tensor %s %s", lc_dtype_name(x->dtype), LC_SHAPE(x));
    luaL_addstring(&b, text);
    if (x->ndim == 0) {
        format_number(x, x->offset, number);
        snprintf(text, sizeof text, "  %s", number);
        luaL_addstring(&b, text);
    } else if (lc_numel(x) > 0) {
        add_statistics(&b, x);
        add_matrix(&b, x, x->offset);
        if (x->ndim > 2) luaL_addstring(&b, "\n  (the first matrix of the last two dimensions)");
    }
    luaL_pushresult(&b);
    return 1;
}
