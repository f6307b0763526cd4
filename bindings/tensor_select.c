/* tensor_select.c: parts by index tensors and masks, and tensors put together. Index tensors hold numbers from 0. */
#include "tensor.h"

/* -- rows by index -- */

/* Pushes the indices (n) at which the flat mask is true. */
static lc_tensor *push_true_indices(lua_State *L, lc_tensor *mask) {
    int64_t shape = lc_numel(mask);
    lc_tensor **line = lcl_push(L, &LCL_TENSOR), **flat = lcl_push(L, &LCL_TENSOR);
    lcl_done(L, lc_reshape(mask, 1, &shape, line), 0);
    lcl_apply(L, LC_OP_NONZERO, NULL, line, 1, 1);
    lc_tensor *found = lcl_tensor(L, -1);
    shape = found->shape[0];
    lcl_done(L, lc_reshape(found, 1, &shape, flat), 0);
    lua_pop(L, 1);
    return *flat;
}

/* A mask over x's first dimensions picks rows of x with those dimensions made one. Pushes that x. */
static lc_tensor *push_merged(lua_State *L, lc_tensor *x, const lc_tensor *mask) {
    for (int i = 0; i < mask->ndim; i++)
        if (i >= x->ndim || mask->shape[i] != x->shape[i])
            lcl_error(L, "index: a mask of shape %s does not fit the first dimensions of %s", LC_SHAPE(mask),
                      LC_SHAPE(x));
    int64_t shape[LC_MAX_DIMS + 1] = {lc_numel(mask)};
    int ndim = 1;
    for (int i = mask->ndim; i < x->ndim; i++) shape[ndim++] = x->shape[i];
    lc_tensor **merged = lcl_push(L, &LCL_TENSOR);
    lcl_done(L, lc_reshape(x, ndim, shape, merged), 0);
    return *merged;
}

/* x:index(ids [, dim]), x:index(mask) */
static int index_rows(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    lc_attr attr = {.dim = lcl_optional_dim(L, 3, x->ndim, 0)};
    lc_tensor *in[2] = {x, lcl_test(L, 2, &LCL_TENSOR)};
    if (in[1] && in[1]->dtype == LC_BOOL) {
        if (!lua_isnoneornil(L, 3)) lcl_error(L, "index: a mask takes no dimension");
        in[0] = push_merged(L, x, in[1]);
        in[1] = push_true_indices(L, in[1]);
    } else {
        in[1] = lcl_ids(L, 2);
    }
    return lcl_apply(L, LC_OP_INDEX, &attr, in, 2, 1);
}

/* x:index_put_(ids | mask, v): rows of x along its first dimension, or where the mask is true. */
static int index_put(lua_State *L) {
    lua_settop(L, 3);
    lc_tensor *x = lcl_tensor(L, 1), *picked = lcl_test(L, 2, &LCL_TENSOR);
    bool masked = picked && picked->dtype == LC_BOOL;
    lc_tensor *rows = masked ? push_merged(L, x, picked) : x;
    lc_tensor *ids = masked ? push_true_indices(L, picked) : lcl_ids(L, 2);
    if (ids->ndim != 1) lcl_error(L, "index_put_: expected one dimension of indices, got shape %s", LC_SHAPE(ids));
    if (rows->ndim == 0) lcl_error(L, "index_put_: x has no dimensions; use x:copy_(v)");
    int64_t shape[LC_MAX_DIMS], count[LC_MAX_DIMS];
    for (int i = 0; i < rows->ndim; i++) {
        shape[i] = i ? rows->shape[i] : ids->shape[0];
        count[i] = i ? 1 : ids->shape[0];
    }
    lc_tensor *source = lcl_source(L, 3, x);
    lc_tensor **column = lcl_push(L, &LCL_TENSOR), **indices = lcl_push(L, &LCL_TENSOR),
              **values = lcl_push(L, &LCL_TENSOR);
    lcl_done(L, lc_reshape(ids, rows->ndim, count, column), 0);
    lcl_done(L, lc_expand(*column, rows->ndim, shape, indices), 0);
    lcl_done(L, lc_expand(source, rows->ndim, shape, values), 0);
    lc_tensor *in[3] = {rows, *indices, *values};
    lc_attr attr = {0};
    if (!masked) return lcl_apply_into(L, LC_OP_SCATTER, &attr, in, 3, x);
    lcl_apply(L, LC_OP_SCATTER, &attr, in, 3, 1);
    lc_tensor *written = lcl_tensor(L, -1), **shaped = lcl_push(L, &LCL_TENSOR);
    lcl_done(L, lc_reshape(written, x->ndim, x->shape, shaped), 0);
    attr.dtype = x->dtype;
    return lcl_apply_into(L, LC_OP_COPY, &attr, shaped, 1, x);
}

static int index_add(lua_State *L) {
    lua_settop(L, 4);
    lc_tensor *x = lcl_tensor(L, 1);
    lc_attr attr = {.dim = lcl_dim(L, 2, x->ndim)};
    lc_tensor *in[3] = {x, lcl_ids(L, 3), lcl_tensor(L, 4)};
    return lcl_finish(L, &attr, in, 3);
}

/* -- element by element along a dimension -- */

static int gather(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    lc_attr attr = {.dim = lcl_dim(L, 2, x->ndim)};
    lc_tensor *in[2] = {x, lcl_ids(L, 3)};
    return lcl_apply(L, LC_OP_GATHER, &attr, in, 2, 1);
}

static int scatter_with(lua_State *L, bool add) {
    lc_tensor *x = lcl_tensor(L, 1);
    lc_attr attr = {.dim = lcl_dim(L, 2, x->ndim), .add = add};
    lua_settop(L, 4);
    lc_tensor *ids = lcl_ids(L, 3), *source = lcl_operand(L, 4, x);
    lc_tensor **expanded = lcl_push(L, &LCL_TENSOR);
    if (source->ndim)
        *expanded = lc_tensor_retain(source);
    else
        lcl_done(L, lc_expand(source, ids->ndim, ids->shape, expanded), 0);
    lc_tensor *in[3] = {x, ids, *expanded};
    return lcl_finish(L, &attr, in, 3);
}

static int scatter(lua_State *L) {
    return scatter_with(L, false);
}

static int scatter_add(lua_State *L) {
    return scatter_with(L, true);
}

/* -- masks -- */

static int masked_fill(lua_State *L) {
    lc_tensor *in[2] = {lcl_tensor(L, 1), lcl_tensor(L, 2)};
    if (in[1]->dtype != LC_BOOL)
        lcl_error(L, "%s: a mask is a tensor of booleans, got %s; compare first, as in x:ne(0)", lcl_function_name(L),
                  lc_dtype_name(in[1]->dtype));
    lcl_check_fits(L, 3, in[0]->dtype);
    lc_attr attr = {.a = lcl_number_value(L, 3)};
    return lcl_finish(L, &attr, in, 2);
}

static int nonzero(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    return lcl_apply(L, LC_OP_NONZERO, NULL, &x, 1, 1);
}

static int triangle(lua_State *L, bool upper) {
    lc_tensor *x = lcl_tensor(L, 1);
    lc_attr attr = {.n = lua_isnoneornil(L, 2) ? 0 : lcl_integer(L, 2), .upper = upper};
    return lcl_finish(L, &attr, &x, 1);
}

static int tril(lua_State *L) {
    return triangle(L, false);
}

static int triu(lua_State *L) {
    return triangle(L, true);
}

/* -- putting together and taking apart -- */

/* The tensor that is entry `i`, from 1, of the list at argument 1; the table keeps it. */
static lc_tensor *list_entry(lua_State *L, int64_t i) {
    lua_rawgeti(L, 1, i);
    lc_tensor *t = lcl_test(L, -1, &LCL_TENSOR);
    if (!t)
        lcl_error(L, "%s: entry %lld of the list is %s, not a tensor", lcl_function_name(L), (long long)i,
                  lcl_describe(L, -1));
    lua_pop(L, 1);
    return t;
}

static int64_t list_length(lua_State *L) {
    const char *function = lcl_function_name(L);
    if (!lua_istable(L, 1)) lcl_error(L, "%s: expected a list of tensors, got %s", function, lcl_describe(L, 1));
    int64_t n = (int64_t)lua_rawlen(L, 1);
    if (n == 0) lcl_error(L, "%s: the list is empty", function);
    return n;
}

/* Pushes entry `i` with a new dimension of size 1 at `dim`. */
static lc_tensor *push_unsqueezed(lua_State *L, lc_tensor *x, int dim) {
    int64_t shape[LC_MAX_DIMS];
    for (int d = 0; d <= x->ndim; d++) shape[d] = d < dim ? x->shape[d] : d == dim ? 1 : x->shape[d - 1];
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    lcl_done(L, lc_reshape(x, x->ndim + 1, shape, slot), 0);
    return *slot;
}

/* Pushes entries first..last of the list put end to end along `dim`; stacked ones get that dimension first. An op takes
 * LC_MAX_IN tensors, so longer lists are put together in as many parts, and those by the same rule. */
static lc_tensor *push_joined(lua_State *L, int64_t first, int64_t last, int dim, bool stacked) {
    lc_tensor *in[LC_MAX_IN];
    int64_t count = last - first + 1;
    int parts = (int)lc_min(count, LC_MAX_IN), base = lua_gettop(L);
    luaL_checkstack(L, LC_MAX_IN + 8, NULL);
    for (int i = 0; i < parts; i++) {
        int64_t begin = first + count * i / parts, end = first + count * (i + 1) / parts - 1;
        if (begin < end)
            in[i] = push_joined(L, begin, end, dim, stacked);
        else
            in[i] = stacked ? push_unsqueezed(L, list_entry(L, begin), dim) : list_entry(L, begin);
    }
    lc_attr attr = {.dim = dim};
    lcl_apply(L, LC_OP_CAT, &attr, in, parts, 1);
    lua_copy(L, -1, base + 1);
    lua_settop(L, base + 1);
    return lcl_tensor(L, base + 1);
}

static int cat(lua_State *L) {
    int64_t n = list_length(L);
    lc_tensor *first = list_entry(L, 1);
    if (first->ndim == 0) lcl_error(L, "cat: tensors without dimensions cannot be put end to end; use lc.stack");
    push_joined(L, 1, n, lcl_optional_dim(L, 2, first->ndim, 0), false);
    return 1;
}

static int stack(lua_State *L) {
    int64_t n = list_length(L);
    lc_tensor *first = list_entry(L, 1);
    if (first->ndim == LC_MAX_DIMS) lcl_error(L, "stack: a tensor has at most %d dimensions", LC_MAX_DIMS);
    for (int64_t i = 2; i <= n; i++)
        if (!lc_same_shape(list_entry(L, i), first))
            lcl_error(L, "stack: shapes must be equal, got %s and %s", LC_SHAPE(first), LC_SHAPE(list_entry(L, i)));
    push_joined(L, 1, n, lcl_optional_dim(L, 2, first->ndim + 1, 0), true);
    return 1;
}

/* Sets entry `number` of the list on top of the stack to x's range along dim. */
static void add_part(lua_State *L, lc_tensor *x, int dim, int64_t start, int64_t length, int64_t number) {
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    lcl_done(L, lc_slice(x, dim, start, length, 1, slot), 0);
    lua_rawseti(L, -2, number);
}

/* x:split(size [, dim]): parts of that size, the last may be smaller; x:split({sizes} [, dim]). */
static int split(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    int dim = lcl_optional_dim(L, 3, x->ndim, 0);
    if (x->ndim == 0) lcl_error(L, "split: a tensor without dimensions cannot be split");
    int64_t total = x->shape[dim], start = 0;
    bool list = lua_istable(L, 2);
    int64_t size = list ? 0 : lcl_integer(L, 2), count = list ? (int64_t)lua_rawlen(L, 2) : 0;
    if (!list && size < 1) lcl_error(L, "split: the size of a part must be at least 1, got %lld", (long long)size);
    lua_newtable(L);
    for (int64_t i = 1; list ? i <= count : start < total; i++) {
        if (list) {
            lua_rawgeti(L, 2, i);
            size = lcl_integer(L, lua_gettop(L));
            lua_pop(L, 1);
            if (size < 0) lcl_error(L, "split: a size cannot be negative, got %lld", (long long)size);
        }
        int64_t length = list ? size : lc_min(size, total - start);
        add_part(L, x, dim, start, length, i);
        start += length;
    }
    if (start != total)
        lcl_error(L, "split: sizes sum to %lld, dimension %d has %lld", (long long)start, dim + 1, (long long)total);
    return 1;
}

/* n parts, as equal as they can be: the first ones are longer by one. */
static int chunk(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    int64_t n = lcl_integer(L, 2), start = 0;
    int dim = lcl_optional_dim(L, 3, x->ndim, 0);
    if (x->ndim == 0) lcl_error(L, "chunk: a tensor without dimensions cannot be split");
    if (n < 1 || n > x->shape[dim])
        lcl_error(L, "chunk: dimension %d of size %lld cannot be cut into %lld parts", dim + 1,
                  (long long)x->shape[dim], (long long)n);
    lua_newtable(L);
    for (int64_t i = 0; i < n; i++) {
        int64_t length = x->shape[dim] / n + (i < x->shape[dim] % n);
        add_part(L, x, dim, start, length, i + 1);
        start += length;
    }
    return 1;
}

static int flip(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    lc_attr attr = {.dim = lcl_dim(L, 2, x->ndim)};
    int64_t n = x->shape[attr.dim];
    lc_tensor **order = lcl_push(L, &LCL_TENSOR);
    lcl_done(L, lc_tensor_new(LC_I64, 1, &n, LC_CPU, order), 0);
    for (int64_t i = 0; i < n; i++) lc_set_i64(*order, i, n - 1 - i);
    lc_tensor *in[2] = {x, *order};
    return lcl_apply(L, LC_OP_INDEX, &attr, in, 2, 1);
}

const lcl_function lcl_select_functions[] = {
    {"index", index_rows, "x:index(ids [, dim = 1]) -> tensor, x:index(mask) -> tensor",
     "The rows that ids (from 0) name; or, with a boolean tensor over x's first dimensions, those where it is true."},
    {"index_put_", index_put, "x:index_put_(ids | mask, v) -> x",
     "Writes v into the rows that ids (from 0) name, or where the mask is true."},
    {"index_add", index_add, "x:index_add(dim, ids, source) -> tensor",
     "x with the rows of source added at ids (from 0), in order.", NULL, LC_OP_INDEX_ADD, true},
    {"gather", gather, "x:gather(dim, ids) -> tensor",
     "For each entry of ids (from 0) the entry of x with that index along dim."},
    {"scatter", scatter, "x:scatter(dim, ids, source) -> tensor",
     "x with source (a tensor or a number) written where ids (from 0) say along dim.", NULL, LC_OP_SCATTER, true},
    {"scatter_add", scatter_add, "x:scatter_add(dim, ids, source) -> tensor",
     "x with source added where ids (from 0) say along dim.", NULL, LC_OP_SCATTER, true},
    {"masked_fill", masked_fill, "x:masked_fill(mask, number) -> tensor", "x with the number where the mask is true.",
     NULL, LC_OP_MASKED_FILL, true},
    {"nonzero", nonzero, "x:nonzero() -> (n, ndim) i64", "Where x is not zero: one row of indices, from 0, for each."},
    {"tril", tril, "x:tril([k = 0]) -> tensor",
     "The lower triangle of the last two dimensions, up to k above the diagonal; 0 elsewhere.", NULL, LC_OP_TRIANGLE,
     true},
    {"triu", triu, "x:triu([k = 0]) -> tensor",
     "The upper triangle of the last two dimensions, from k above the diagonal; 0 elsewhere.", NULL, LC_OP_TRIANGLE,
     true},
    {"cat", cat, "lc.cat({a, b, ...} [, dim = 1]) -> tensor", "Tensors put end to end along a dimension."},
    {"stack", stack, "lc.stack({a, b, ...} [, dim = 1]) -> tensor",
     "Tensors of one shape put side by side along a new dimension."},
    {"split", split, "x:split(size | {sizes} [, dim = 1]) -> list of views",
     "Parts of a size along a dimension (the last may be smaller), or of the sizes given."},
    {"chunk", chunk, "x:chunk(n [, dim = 1]) -> list of views", "n parts along a dimension, as equal as can be."},
    {"flip", flip, "x:flip(dim) -> tensor", "A dimension turned round."},
    {0},
};
