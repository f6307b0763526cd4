/* lcl_args.c: strict readers of arguments, counting, tensors and shapes as arguments. */
#include "lcl.h"

/* -- numbers, booleans, strings -- */

/* Reads the value at `index` as an integer; false when it is none. */
static bool as_integer(lua_State *L, int index, int64_t *out) {
    if (lua_type(L, index) != LUA_TNUMBER) return false;
    int exact;
    *out = lua_tointegerx(L, index, &exact);
    return exact;
}

int64_t lcl_integer(lua_State *L, int arg) {
    int64_t value;
    if (!as_integer(L, arg, &value)) lcl_expected(L, arg, "an integer");
    return value;
}

double lcl_number(lua_State *L, int arg) {
    if (lua_type(L, arg) != LUA_TNUMBER) lcl_expected(L, arg, "a number");
    return lcl_plain(lua_tonumber(L, arg));
}

bool lcl_boolean(lua_State *L, int arg) {
    if (!lua_isboolean(L, arg)) lcl_expected(L, arg, "true or false");
    return lua_toboolean(L, arg);
}

const char *lcl_string(lua_State *L, int arg) {
    if (lua_type(L, arg) != LUA_TSTRING) lcl_expected(L, arg, "a string");
    return lua_tostring(L, arg);
}

/* -- counting from 1 -- */

/* 1..size or -size..-1 to 0..size-1; -1 when it is outside. */
static int64_t from_one(int64_t number, int64_t size) {
    if (number >= 1 && number <= size) return number - 1;
    if (number <= -1 && number >= -size) return size + number;
    return -1;
}

int lcl_dim(lua_State *L, int arg, int ndim) {
    int64_t number = lcl_integer(L, arg), dim = from_one(number, ndim);
    if (dim >= 0) return (int)dim;
    if (ndim == 0)
        lcl_error(L, "%s: a tensor without dimensions has no dimension %lld", lcl_function_name(L), (long long)number);
    lcl_error(L, "%s: dimension %lld is outside 1..%d (dimensions count from 1; -1 is the last)", lcl_function_name(L),
              (long long)number, ndim);
}

int64_t lcl_index(lua_State *L, int arg, int64_t size) {
    int64_t number = lcl_integer(L, arg), index = from_one(number, size);
    if (index >= 0) return index;
    lcl_error(L, "index %lld is outside 1..%lld (indices count from 1; -1 is the last)", (long long)number,
              (long long)size);
}

/* -- tables and names -- */

int lcl_shape(lua_State *L, int arg, bool infer, int64_t shape[LC_MAX_DIMS]) {
    const char *function = lcl_function_name(L);
    bool table = lua_istable(L, arg);
    if (!table && lua_type(L, arg) != LUA_TNUMBER) lcl_expected(L, arg, "a shape such as {2, 3}");
    int64_t ndim = table ? (int64_t)lua_rawlen(L, arg) : 1;
    if (ndim > LC_MAX_DIMS) lcl_error(L, "%s: at most %d dimensions, got %lld", function, LC_MAX_DIMS, (long long)ndim);
    for (int64_t i = 0; i < ndim; i++) {
        if (table)
            lua_rawgeti(L, arg, i + 1);
        else
            lua_pushvalue(L, arg);
        if (!as_integer(L, -1, &shape[i]))
            lcl_error(L, "%s: a size must be an integer, got %s", function, lcl_describe(L, -1));
        if (shape[i] < 0 && !(infer && shape[i] == -1))
            lcl_error(L, "%s: a size cannot be negative, got %lld", function, (long long)shape[i]);
        lua_pop(L, 1);
    }
    return (int)ndim;
}

lc_dtype lcl_dtype(lua_State *L, int arg, lc_dtype fallback) {
    if (lua_isnoneornil(L, arg)) return fallback;
    lc_dtype dtype;
    lc_status status = lc_dtype_parse(lcl_string(L, arg), &dtype);
    if (status) lcl_raise(L, status);
    return dtype;
}

int lcl_field(lua_State *L, int arg, const char *name) {
    if (lua_istable(L, arg)) return lua_getfield(L, arg, name);
    lua_pushnil(L);
    return LUA_TNIL;
}

/* -- tensors -- */

lc_tensor *lcl_tensor(lua_State *L, int arg) {
    return lcl_check(L, arg, &LCL_TENSOR);
}

void lcl_push_tensor(lua_State *L, lc_tensor *t) {
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    *slot = lc_tensor_retain(t);
}

lc_tensor *lcl_ids(lua_State *L, int arg) {
    if (lua_istable(L, arg)) return lcl_table_to_tensor(L, arg, LC_I64);
    lc_tensor *t = lcl_test(L, arg, &LCL_TENSOR);
    if (!t) lcl_expected(L, arg, "a tensor of integers or a list of them");
    if (lc_dtype_is_float(t->dtype))
        lcl_error(L, "%s: indices must be integers, got a tensor of %s; use x:to 'i64'", lcl_function_name(L),
                  lc_dtype_name(t->dtype));
    lua_pushvalue(L, arg);
    return t;
}
