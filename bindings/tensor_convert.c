/* tensor_convert.c: tensors from Lua values and back, and between dtypes. */
#include "tensor.h"

/* -- from tables -- */

/* Reads the shape of nested tables by their first entries; returns the number of dimensions. */
static int table_shape(lua_State *L, int arg, int64_t shape[LC_MAX_DIMS]) {
    int ndim = 0, top = lua_gettop(L);
    lua_pushvalue(L, arg);
    while (lua_istable(L, -1)) {
        if (ndim == LC_MAX_DIMS)
            lcl_error(L, "tensor: tables are nested deeper than the %d dimensions of a tensor, or contain themselves",
                      LC_MAX_DIMS);
        shape[ndim++] = (int64_t)lua_rawlen(L, -1);
        lua_rawgeti(L, -1, 1);
    }
    lua_settop(L, top);
    return ndim;
}

static void write_value(lua_State *L, lc_tensor *t, int64_t position) {
    switch (lua_type(L, -1)) {
    case LUA_TBOOLEAN:
        lc_set_i64(t, position, lua_toboolean(L, -1));
        return;
    case LUA_TNUMBER:
        break;
    default:
        lcl_error(L, "tensor: entries must be numbers or booleans, got %s", lcl_describe(L, -1));
    }
    if (lc_dtype_is_float(t->dtype)) {
        lc_set_f64(t, position, lua_tonumber(L, -1));
        return;
    }
    int exact;
    int64_t value = lua_tointegerx(L, -1, &exact);
    if (exact) lc_set_i64(t, position, value);
    if (!exact || lc_get_i64(t, position) != value)
        lcl_error(L, "tensor: %s does not fit into %s", lcl_describe(L, -1), lc_dtype_name(t->dtype));
}

/* Writes the table on top of the stack as dimension `dim` of t, from flat position *position on. */
static void write_table(lua_State *L, lc_tensor *t, int dim, int64_t *position) {
    if (!lua_istable(L, -1))
        lcl_error(L, "tensor: tables must be nested alike: expected a table of %lld entries, got %s",
                  (long long)t->shape[dim], lcl_describe(L, -1));
    int64_t length = (int64_t)lua_rawlen(L, -1);
    if (length != t->shape[dim])
        lcl_error(L, "tensor: tables in dimension %d must have equal lengths, got %lld and %lld", dim + 1,
                  (long long)t->shape[dim], (long long)length);
    luaL_checkstack(L, 4, NULL);
    for (int64_t i = 1; i <= length; i++) {
        lua_rawgeti(L, -1, i);
        if (dim + 1 < t->ndim)
            write_table(L, t, dim + 1, position);
        else
            write_value(L, t, (*position)++);
        lua_pop(L, 1);
    }
}

/* Options among the numbers, as in lc.tensor { 1, 2, dtype = "f64" }, would be passed over. */
static void refuse_options(lua_State *L, int arg) {
    static const char *const names[] = {"dtype", "device"};
    for (int i = 0; i < 2; i++) {
        lua_pushstring(L, names[i]);
        if (lua_rawget(L, arg) != LUA_TNIL)
            lcl_error(L,
                      "tensor: %s stands among the numbers; options are a second table: lc.tensor({1, 2}, {%s = ...})",
                      names[i], names[i]);
        lua_pop(L, 1);
    }
}

lc_tensor *lcl_table_to_tensor(lua_State *L, int arg, lc_dtype dtype) {
    int64_t shape[LC_MAX_DIMS], position = 0;
    arg = lua_absindex(L, arg);
    refuse_options(L, arg);
    int ndim = table_shape(L, arg, shape);
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    lcl_done(L, lc_tensor_new(dtype, ndim, shape, LC_CPU, slot), 1);
    lua_pushvalue(L, arg);
    write_table(L, *slot, 0, &position);
    lua_pop(L, 1);
    return *slot;
}

/* -- to Lua -- */

static void push_value(lua_State *L, const lc_tensor *t, int64_t position) {
    if (t->dtype == LC_BOOL)
        lua_pushboolean(L, lc_get_i64(t, position) != 0);
    else if (lc_dtype_is_float(t->dtype))
        lua_pushnumber(L, lcl_plain(lc_get_f64(t, position)));
    else
        lua_pushinteger(L, lc_get_i64(t, position));
}

static void push_table(lua_State *L, const lc_tensor *t, int dim, int64_t position) {
    if (dim == t->ndim) {
        push_value(L, t, position);
        return;
    }
    luaL_checkstack(L, 4, NULL);
    lua_createtable(L, (int)t->shape[dim], 0);
    for (int64_t i = 0; i < t->shape[dim]; i++) {
        push_table(L, t, dim + 1, position + i * t->strides[dim]);
        lua_rawseti(L, -2, i + 1);
    }
}

static int totable(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    push_table(L, x, 0, x->offset);
    return 1;
}

static int item(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    if (lc_numel(x) != 1)
        lcl_error(L, "item: expected a tensor of one number, got shape %s; use x:mean(), x[i] or x:totable()",
                  LC_SHAPE(x));
    push_value(L, x, x->offset);
    return 1;
}

static int numel(lua_State *L) {
    lua_pushinteger(L, lc_numel(lcl_tensor(L, 1)));
    return 1;
}

static int to(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    lcl_string(L, 2);
    lc_dtype dtype = lcl_dtype(L, 2, x->dtype);
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    return lcl_done(L, lc_to(x, dtype, slot), 1);
}

const lcl_function lcl_convert_functions[] = {
    {"to", to, "x:to(dtype) -> tensor",
     "x in another dtype: \"f32\", \"f64\", \"bf16\", \"f16\", \"i32\", \"i64\", \"u8\", \"bool\". Floats are cut "
     "towards 0 for integers; what does not fit becomes the nearest that does, NaN 0."},
    {"item", item, "x:item() -> number", "The one number of x; a boolean for a tensor of booleans."},
    {"totable", totable, "x:totable() -> table", "Nested Lua tables with x's numbers."},
    {"tolist", totable, "x:tolist() -> table", "The same as totable."},
    {"numel", numel, "x:numel() -> integer", "How many numbers x has."},
    {0},
};
