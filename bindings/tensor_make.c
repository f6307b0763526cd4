/* tensor_make.c: tensors made from nothing: filled, counted, or written down in Lua. */
#include <math.h>

#include "tensor.h"

typedef struct make_options {
    const char *dtype; /* NULL = the function's own default */
    int device;
} make_options;

static const char *const devices[] = {"cpu", "cuda", NULL};
static const lcl_option make_rows[] = {
    {"dtype", LCL_STRING, offsetof(make_options, dtype), .doc = "f32, f64, bf16, f16, i32, i64, u8 or bool"},
    {"device", LCL_CHOICE, offsetof(make_options, device), .choices = devices, .fallback = "'cpu'",
     .doc = "where it lives"},
    {0},
};
static const lcl_option_set make_set = {"tensor", make_rows};

/* Of the functions that make a tensor like another, which lives where that one does. */
static const lcl_option like_rows[] = {
    {"dtype", LCL_STRING, offsetof(make_options, dtype),
     .doc = "f32, f64, bf16, f16, i32, i64, u8 or bool; as x's when nil"},
    {0},
};
static const lcl_option_set like_set = {"tensor", like_rows};

/* Reads {dtype, device} at `arg`; *dtype holds the default before. */
static lc_device read_rows(lua_State *L, int arg, const lcl_option *rows, lc_dtype *dtype) {
    make_options o = {0};
    lcl_option_set set = {lcl_function_name(L), rows};
    lcl_options(L, arg, &set, &o);
    if (o.dtype) lcl_done(L, lc_dtype_parse(o.dtype, dtype), 0);
    return (lc_device)o.device;
}

static lc_device read_options(lua_State *L, int arg, lc_dtype *dtype) {
    return read_rows(L, arg, make_rows, dtype);
}

/* The same for tensors whose numbers are written one by one, which only the cpu's can be. */
static void read_options_cpu(lua_State *L, int arg, lc_dtype *dtype) {
    lc_device device = read_options(L, arg, dtype);
    if (device != LC_CPU)
        lcl_error(L, "%s: this build has no memory on device '%s'", lcl_function_name(L), lc_device_name(device));
}

/* Pushes a tensor of one number. */
static int push_filled(lua_State *L, lc_dtype dtype, int ndim, const int64_t *shape, lc_device device, double value) {
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    lcl_done(L, lc_tensor_zeros(dtype, ndim, shape, device, slot), 1);
    return lcl_done(L, value ? lc_fill(*slot, value) : LC_OK, 1);
}

/* -- by shape -- */

static int filled_by_shape(lua_State *L, double value) {
    int64_t shape[LC_MAX_DIMS];
    int ndim = lcl_shape(L, 1, false, shape);
    lc_dtype dtype = LC_F32;
    lc_device device = read_options(L, 2, &dtype);
    return push_filled(L, dtype, ndim, shape, device, value);
}

static int zeros(lua_State *L) {
    return filled_by_shape(L, 0);
}

static int ones(lua_State *L) {
    return filled_by_shape(L, 1);
}

static int full(lua_State *L) {
    int64_t shape[LC_MAX_DIMS];
    int ndim = lcl_shape(L, 1, false, shape);
    lc_dtype dtype = lua_isboolean(L, 2) ? LC_BOOL : LC_F32;
    lc_device device = read_options(L, 3, &dtype);
    lcl_check_fits(L, 2, dtype);
    return push_filled(L, dtype, ndim, shape, device, lcl_number_value(L, 2));
}

/* -- like another tensor -- */

/* The dtype that the options at `arg` ask for, x's by default. */
static lc_dtype like_dtype(lua_State *L, int arg, const lc_tensor *x) {
    lc_dtype dtype = x->dtype;
    read_rows(L, arg, like_rows, &dtype);
    return dtype;
}

static int filled_like(lua_State *L, double value) {
    lc_tensor *x = lcl_tensor(L, 1);
    return push_filled(L, like_dtype(L, 2, x), x->ndim, x->shape, x->storage->device, value);
}

static int zeros_like(lua_State *L) {
    return filled_like(L, 0);
}

static int ones_like(lua_State *L) {
    return filled_like(L, 1);
}

static int full_like(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    lc_dtype dtype = like_dtype(L, 3, x);
    lcl_check_fits(L, 2, dtype);
    return push_filled(L, dtype, x->ndim, x->shape, x->storage->device, lcl_number_value(L, 2));
}

/* -- counted -- */

/* Writes a number of a row of them; raises where the dtype cannot hold it. */
static void write_number(lua_State *L, lc_tensor *t, int64_t i, double value) {
    lc_set_f64(t, i, value);
    if (!lc_dtype_is_float(t->dtype) && lc_get_f64(t, i) != value)
        lcl_error(L, "%s: %.14g does not fit into a tensor of %s", lcl_function_name(L), value,
                  lc_dtype_name(t->dtype));
}

/* lc.arange(stop), (start, stop), (start, stop, step), as the field counts: from 0, stop left out. */
static int arange(lua_State *L) {
    int numbers = 0;
    while (numbers < 3 && lua_type(L, numbers + 1) == LUA_TNUMBER) numbers++;
    if (numbers == 0) lcl_expected(L, 1, "a number");
    lc_dtype dtype = LC_I64;
    for (int i = 1; i <= numbers; i++)
        if (!lua_isinteger(L, i)) dtype = LC_F32;
    read_options_cpu(L, numbers + 1, &dtype);
    double start = numbers > 1 ? lua_tonumber(L, 1) : 0;
    double stop = lua_tonumber(L, numbers > 1 ? 2 : 1);
    double step = numbers > 2 ? lua_tonumber(L, 3) : 1;
    if (step == 0) lcl_error(L, "arange: the step cannot be 0");
    double length = ceil((stop - start) / step);
    if (!(length < 1e15))
        lcl_error(L, "arange: from %g to %g in steps of %g is too long", lcl_plain(start), lcl_plain(stop),
                  lcl_plain(step));
    int64_t n = length > 0 ? (int64_t)length : 0;
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    lcl_done(L, lc_tensor_new(dtype, 1, &n, LC_CPU, slot), 1);
    for (int64_t i = 0; i < n; i++) write_number(L, *slot, i, start + (double)i * step);
    return 1;
}

static int linspace(lua_State *L) {
    double start = lcl_number(L, 1), stop = lcl_number(L, 2);
    int64_t n = lcl_integer(L, 3);
    if (n < 1) lcl_error(L, "linspace: needs at least 1 point, got %lld", (long long)n);
    lc_dtype dtype = LC_F32;
    read_options_cpu(L, 4, &dtype);
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    lcl_done(L, lc_tensor_new(dtype, 1, &n, LC_CPU, slot), 1);
    double step = n > 1 ? (stop - start) / (double)(n - 1) : 0;
    for (int64_t i = 0; i < n; i++) {
        bool last = i > 0 && i == n - 1; /* exact, whatever the step rounded to */
        write_number(L, *slot, i, last ? stop : start + step * (double)i);
    }
    return 1;
}

/* lc.eye(n) and lc.eye(n, m): ones where row = column. */
static int eye(lua_State *L) {
    int64_t n = lcl_integer(L, 1);
    bool square = lua_type(L, 2) != LUA_TNUMBER;
    int64_t shape[2] = {n, square ? n : lcl_integer(L, 2)};
    if (shape[0] < 0 || shape[1] < 0) lcl_error(L, "eye: sizes cannot be negative");
    lc_dtype dtype = LC_F32;
    lc_device device = read_options(L, square ? 2 : 3, &dtype);
    push_filled(L, dtype, 2, shape, device, 0);
    lc_tensor *x = lcl_tensor(L, -1);
    for (int64_t i = 0; i < lc_min(shape[0], shape[1]); i++) lc_set_f64(x, i * (shape[1] + 1), 1);
    return 1;
}

/* -- written down -- */

/* Whether the nested table on top of the stack holds booleans: its first entry tells. A tensor is not nested deeper. */
static bool holds_booleans(lua_State *L) {
    int top = lua_gettop(L);
    lua_pushvalue(L, top);
    for (int depth = 0; depth < LC_MAX_DIMS && lua_istable(L, -1); depth++) lua_rawgeti(L, -1, 1);
    bool booleans = lua_isboolean(L, -1);
    lua_settop(L, top);
    return booleans;
}

static int tensor(lua_State *L) {
    lua_settop(L, 2);
    lua_insert(L, 1); /* options below, the value on top */
    lc_tensor *x = lcl_test(L, 2, &LCL_TENSOR);
    if (x) { /* a copy of its own */
        lc_attr attr = {.dtype = x->dtype};
        read_options_cpu(L, 1, &attr.dtype);
        lcl_apply(L, LC_OP_COPY, &attr, &x, 1, 1);
        x = lcl_tensor(L, -1);
        lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
        return lcl_done(L, lc_detach(x, slot), 1);
    }
    if (lua_istable(L, 2)) {
        lc_dtype dtype = holds_booleans(L) ? LC_BOOL : LC_F32;
        read_options_cpu(L, 1, &dtype);
        lcl_table_to_tensor(L, 2, dtype);
        return 1;
    }
    if (lua_type(L, 2) != LUA_TNUMBER && !lua_isboolean(L, 2))
        lcl_error(L, "tensor: expected a table, a number or a tensor, got %s", lcl_describe(L, 2));
    lc_dtype dtype = lua_isboolean(L, 2) ? LC_BOOL : LC_F32;
    read_options_cpu(L, 1, &dtype);
    lcl_check_fits(L, 2, dtype);
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    return lcl_done(L, lc_tensor_scalar(dtype, lcl_number_value(L, 2), slot), 1);
}

const lcl_function lcl_make_functions[] = {
    {"tensor", tensor, "lc.tensor(table | number | tensor, {dtype, device}) -> tensor",
     "A tensor with these numbers: f32 unless dtype says otherwise, bool for a table of booleans.", &make_set},
    {"zeros", zeros, "lc.zeros(shape, {dtype, device}) -> tensor", "Zeros; the shape is a table of sizes, or one size.",
     &make_set},
    {"ones", ones, "lc.ones(shape, {dtype, device}) -> tensor", "Ones.", &make_set},
    {"full", full, "lc.full(shape, number, {dtype, device}) -> tensor", "One number everywhere.", &make_set},
    {"zeros_like", zeros_like, "x:zeros_like({dtype}) -> tensor", "Zeros in x's shape and dtype.", &like_set},
    {"ones_like", ones_like, "x:ones_like({dtype}) -> tensor", "Ones in x's shape and dtype.", &like_set},
    {"full_like", full_like, "x:full_like(number, {dtype}) -> tensor", "One number in x's shape and dtype.", &like_set},
    {"arange", arange, "lc.arange([start = 0,] stop [, step = 1], {dtype}) -> tensor",
     "start, start + step, ... below stop: i64 when all are integers, else f32. It counts from 0, as stored indices "
     "do.",
     &make_set},
    {"linspace", linspace, "lc.linspace(start, stop, n, {dtype}) -> tensor",
     "n numbers at equal distances, both ends included.", &make_set},
    {"eye", eye, "lc.eye(n [, m], {dtype, device}) -> tensor", "The identity matrix.", &make_set},
    {0},
};
