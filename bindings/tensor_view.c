/* tensor_view.c: views: parts of a tensor and other shapes of it, sharing its storage; what is written into a view is
 * written into the tensor. Views are recorded like any op. */
#include "tensor.h"

/* Replaces the tensor in `slot` by `next`. */
static void move_to(lc_tensor **slot, lc_tensor *next) {
    lc_tensor_release(*slot);
    *slot = next;
}

/* -- x[i] and x { {2, 5}, {}, -1 } -- */

/* The number at `index` of the list on top of the stack, 1..size or negative, as 0..size-1. */
static int64_t range_end(lua_State *L, int position, int64_t size) {
    lua_rawgeti(L, -1, position);
    int64_t index = lcl_index(L, lua_gettop(L), size);
    lua_pop(L, 1);
    return index;
}

/* Narrows dimension `dim` of *slot to the range on top of the stack: {}, {first, last} or {first, last, step}. */
static void apply_range(lua_State *L, lc_tensor **slot, int dim) {
    size_t entries = lua_rawlen(L, -1);
    int64_t size = (*slot)->shape[dim], step = 1;
    if (entries == 0) return;
    if (entries != 2 && entries != 3) lcl_error(L, "a range is {}, {first, last} or {first, last, step}");
    int64_t first = range_end(L, 1, size), last = range_end(L, 2, size);
    if (last < first) lcl_error(L, "the range from %lld to %lld is empty", (long long)first + 1, (long long)last + 1);
    if (entries == 3) {
        lua_rawgeti(L, -1, 3);
        step = lcl_integer(L, lua_gettop(L));
        lua_pop(L, 1);
        if (step < 1)
            lcl_error(L, "a range's step must be at least 1, got %lld; x:flip(dim) turns a dimension round",
                      (long long)step);
    }
    lc_tensor *next;
    lcl_done(L, lc_slice(*slot, dim, first, (last - first) / step + 1, step, &next), 0);
    move_to(slot, next);
}

/* Pushes the view that the table at `spec` describes: one entry per dimension, a number (which drops the dimension) or
 * a range; missing ones stand for the whole. */
static lc_tensor *push_view(lua_State *L, lc_tensor *x, int spec) {
    int64_t entries = (int64_t)lua_rawlen(L, spec);
    if (entries > x->ndim)
        lcl_error(L, "%lld indices for a tensor of %d dimensions %s", (long long)entries, x->ndim, LC_SHAPE(x));
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    *slot = lc_tensor_retain(x);
    int dim = 0;
    for (int64_t i = 1; i <= entries; i++) {
        int type = lua_rawgeti(L, spec, i);
        if (type == LUA_TTABLE) {
            apply_range(L, slot, dim++);
        } else if (type == LUA_TNUMBER) {
            lc_tensor *next;
            lcl_done(L, lc_select(*slot, dim, lcl_index(L, lua_gettop(L), (*slot)->shape[dim]), &next), 0);
            move_to(slot, next);
        } else {
            lcl_error(L, "an index is a number or a range such as {2, 5}, got %s", lcl_describe(L, -1));
        }
        lua_pop(L, 1);
    }
    return *slot;
}

/* Pushes the part of x that the key at argument 2 names. */
static lc_tensor *push_part(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    if (lua_istable(L, 2)) return push_view(L, x, 2);
    if (lcl_test(L, 2, &LCL_TENSOR)) lcl_error(L, "x[t] is not a view: use x:index(t), or x:masked_fill_(t, number)");
    if (lua_type(L, 2) != LUA_TNUMBER)
        lcl_error(L, "an index is a number or a table of ranges, got %s", lcl_describe(L, 2));
    if (x->ndim == 0) lcl_error(L, "a tensor without dimensions has no parts; use x:item()");
    int64_t index = lcl_index(L, 2, x->shape[0]);
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    lcl_done(L, lc_select(x, 0, index, slot), 1);
    return *slot;
}

int lcl_view_index(lua_State *L) {
    push_part(L);
    return 1;
}

int lcl_view_call(lua_State *L) {
    if (!lua_istable(L, 2)) lcl_error(L, "x { ... } takes a table of indices and ranges, got %s", lcl_describe(L, 2));
    push_part(L);
    return 1;
}

int lcl_view_assign(lua_State *L) {
    lc_tensor *part = push_part(L), *source = lcl_source(L, 3, part);
    lc_tensor **expanded = lcl_push(L, &LCL_TENSOR);
    lcl_done(L, lc_expand(source, part->ndim, part->shape, expanded), 0);
    lc_attr attr = {.dtype = part->dtype};
    lcl_apply_into(L, LC_OP_COPY, &attr, expanded, 1, part);
    return 0;
}

/* -- shapes -- */

static int reshape(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    int64_t shape[LC_MAX_DIMS];
    int ndim = lcl_shape(L, 2, true, shape);
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    return lcl_done(L, lc_reshape(x, ndim, shape, slot), 1);
}

static int flatten(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    int64_t shape = -1;
    if (lc_numel(x) == 0) shape = 0;
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    return lcl_done(L, lc_reshape(x, 1, &shape, slot), 1);
}

static int expand(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    int64_t shape[LC_MAX_DIMS];
    int ndim = lcl_shape(L, 2, true, shape);
    int added = ndim - x->ndim;
    for (int i = 0; i < ndim; i++) {
        if (shape[i] != -1) continue;
        if (i < added) lcl_error(L, "expand: -1 keeps a size that is there; dimension %d is new", i + 1);
        shape[i] = x->shape[i - added];
    }
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    return lcl_done(L, lc_expand(x, ndim, shape, slot), 1);
}

static int transpose(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    int a = lcl_dim(L, 2, x->ndim), b = lcl_dim(L, 3, x->ndim);
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    return lcl_done(L, lc_transpose(x, a, b, slot), 1);
}

/* x:t() of a matrix. */
static int transpose_matrix(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    if (x->ndim != 2) lcl_error(L, "t: expected a matrix, got shape %s; use x:transpose(a, b)", LC_SHAPE(x));
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    return lcl_done(L, lc_transpose(x, 0, 1, slot), 1);
}

static int permute(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    int order[LC_MAX_DIMS];
    bool seen[LC_MAX_DIMS] = {false};
    if (!lua_istable(L, 2) || (int)lua_rawlen(L, 2) != x->ndim)
        lcl_error(L, "permute: expected a table of all %d dimensions in their new order", x->ndim);
    for (int i = 0; i < x->ndim; i++) {
        lua_rawgeti(L, 2, i + 1);
        order[i] = lcl_dim(L, lua_gettop(L), x->ndim);
        lua_pop(L, 1);
        if (seen[order[i]]) lcl_error(L, "permute: dimension %d is named twice", order[i] + 1);
        seen[order[i]] = true;
    }
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    return lcl_done(L, lc_permute(x, order, slot), 1);
}

/* x:squeeze() drops all dimensions of size 1; x:squeeze(dim) that one, which must be 1. */
static int squeeze(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    int only = lcl_optional_dim(L, 2, x->ndim, -1), ndim = 0;
    if (only >= 0 && x->shape[only] != 1)
        lcl_error(L, "squeeze: dimension %d has size %lld, not 1", only + 1, (long long)x->shape[only]);
    int64_t shape[LC_MAX_DIMS];
    for (int i = 0; i < x->ndim; i++)
        if (x->shape[i] != 1 || (only >= 0 && i != only)) shape[ndim++] = x->shape[i];
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    return lcl_done(L, lc_reshape(x, ndim, shape, slot), 1);
}

/* A new dimension of size 1, which becomes number `dim`. */
static int unsqueeze(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    if (x->ndim == LC_MAX_DIMS) lcl_error(L, "unsqueeze: a tensor has at most %d dimensions", LC_MAX_DIMS);
    int dim = lcl_dim(L, 2, x->ndim + 1);
    int64_t shape[LC_MAX_DIMS];
    for (int i = 0; i <= x->ndim; i++) shape[i] = i < dim ? x->shape[i] : i == dim ? 1 : x->shape[i - 1];
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    return lcl_done(L, lc_reshape(x, x->ndim + 1, shape, slot), 1);
}

/* -- parts by name -- */

static int narrow(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    int dim = lcl_dim(L, 2, x->ndim);
    int64_t start = lcl_index(L, 3, x->shape[dim]), length = lcl_integer(L, 4);
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    return lcl_done(L, lc_slice(x, dim, start, length, 1, slot), 1);
}

static int select_index(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    int dim = lcl_dim(L, 2, x->ndim);
    int64_t index = lcl_index(L, 3, x->shape[dim]);
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    return lcl_done(L, lc_select(x, dim, index, slot), 1);
}

/* Element i of the diagonal is element i (columns + 1) of the flat matrix: a slice, so writing into it works. */
static int diagonal(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    int64_t k = lua_isnoneornil(L, 2) ? 0 : lcl_integer(L, 2);
    if (x->ndim != 2) lcl_error(L, "diagonal: expected a matrix, got shape %s", LC_SHAPE(x));
    int64_t rows = x->shape[0], columns = x->shape[1];
    int64_t row = k < 0 ? -k : 0, column = k > 0 ? k : 0;
    int64_t length = lc_max(0, lc_min(rows - row, columns - column));
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    if (!x->requires_grad) {
        int64_t stride = x->strides[0] + x->strides[1];
        int64_t offset = length ? x->offset + row * x->strides[0] + column * x->strides[1] : x->offset;
        return lcl_done(L, lc_view_strided(x, 1, &length, &stride, offset, slot), 1);
    }
    int64_t flat = rows * columns, step = columns + 1;
    lc_tensor **line = lcl_push(L, &LCL_TENSOR);
    lcl_done(L, lc_reshape(x, 1, &flat, line), 0);
    lcl_done(L, lc_slice(*line, 0, length ? row * columns + column : 0, length, step, slot), 0);
    lua_pop(L, 1);
    return 1;
}

/* -- copies -- */

static int clone(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    lc_attr attr = {.dtype = x->dtype};
    return lcl_apply(L, LC_OP_COPY, &attr, &x, 1, 1);
}

static int contiguous(lua_State *L) {
    if (!lc_is_contiguous(lcl_tensor(L, 1))) return clone(L);
    lua_settop(L, 1);
    return 1;
}

static int is_contiguous(lua_State *L) {
    lua_pushboolean(L, lc_is_contiguous(lcl_tensor(L, 1)));
    return 1;
}

const lcl_function lcl_view_functions[] = {
    {"reshape", reshape, "x:reshape(shape) -> tensor",
     "The same numbers in another shape; one size may be -1. A view where that is possible, else a copy."},
    {"flatten", flatten, "x:flatten() -> tensor", "One dimension."},
    {"expand", expand, "x:expand(shape) -> view",
     "Dimensions of size 1, and new ones in front, repeated; -1 keeps a size."},
    {"transpose", transpose, "x:transpose(a, b) -> view", "Two dimensions exchanged."},
    {"t", transpose_matrix, "x:t() -> view", "The transposed matrix."},
    {"permute", permute, "x:permute({3, 1, 2}) -> view", "All dimensions in a new order."},
    {"squeeze", squeeze, "x:squeeze([dim]) -> tensor", "Without dimensions of size 1, or without that one."},
    {"unsqueeze", unsqueeze, "x:unsqueeze(dim) -> tensor", "With a new dimension of size 1 at dim."},
    {"narrow", narrow, "x:narrow(dim, start, length) -> view", "A range of one dimension."},
    {"select", select_index, "x:select(dim, index) -> view", "One index of one dimension, which is dropped."},
    {"diagonal", diagonal, "x:diagonal([k = 0]) -> view", "The diagonal of a matrix, k places above the main one."},
    {"clone", clone, "x:clone() -> tensor", "A copy, through which gradients pass."},
    {"contiguous", contiguous, "x:contiguous() -> tensor", "x itself, or a copy with its numbers in order."},
    {"is_contiguous", is_contiguous, "x:is_contiguous() -> boolean", "Whether the numbers lie in order."},
    {0},
};
