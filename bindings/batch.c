/* batch.c: batches of ids as tables: {ids, labels, attention_mask, token_type_ids}, or ids alone. */
#include "base/memory.h"
#include "model.h"

/* A list of ids stands for one row: (T) becomes (1, T). Replaces the tensor on top of the stack where it must. */
static lc_tensor *as_rows(lua_State *L, lc_tensor *t) {
    if (t->ndim != 1) return t;
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    lcl_done(L, lc_view_reshape(t, 2, (int64_t[]){1, t->shape[0]}, slot), 1);
    lua_remove(L, -2);
    return *slot;
}

lc_tensor *lcl_rows(lua_State *L, int index) {
    return as_rows(L, lcl_ids(L, index));
}

/* Pushes the table's field as (B, T); NULL for nil. */
static lc_tensor *push_field(lua_State *L, int table, const char *name) {
    if (lua_getfield(L, table, name) == LUA_TNIL) return NULL;
    lc_tensor *given = lcl_test(L, -1, &LCL_TENSOR);
    if (!given && !lua_istable(L, -1))
        lcl_error(L, "batch: %s must be a tensor of integers or a list of them, got %s", name, lcl_describe(L, -1));
    if (given && lc_dtype_is_float(given->dtype))
        lcl_error(L, "batch: %s must be integers, got a tensor of %s; use x:to 'i64'", name,
                  lc_dtype_name(given->dtype));
    lc_tensor *t = lcl_rows(L, lua_gettop(L));
    lua_remove(L, -2);
    return t;
}

static const lcl_option batch_rows[] = {
    {"ids", LCL_ANY, .required = true, .doc = "(B, T)"},
    {"labels", LCL_ANY, .doc = "(B, T), -100 = ignored"},
    {"attention_mask", LCL_ANY, .doc = "(B, T), 0 = padding"},
    {"token_type_ids", LCL_ANY, .doc = "(B, T)"},
    {0},
};
static const lcl_option_set batch_set = {"batch", batch_rows};

/* A table with names; ids alone are a list. */
static bool has_names(lua_State *L, int arg) {
    if (!lua_istable(L, arg) || lua_rawlen(L, arg) > 0) return false;
    lua_pushnil(L);
    if (!lua_next(L, arg)) return false;
    lua_pop(L, 2);
    return true;
}

void lcl_batch(lua_State *L, int arg, lc_batch *batch) {
    luaL_checkstack(L, 8, NULL);
    *batch = (lc_batch){0};
    if (!has_names(L, arg)) {
        if (!lua_istable(L, arg) && !lcl_test(L, arg, &LCL_TENSOR))
            lcl_expected(L, arg, "a batch {ids = ..., labels = ...} or ids");
        batch->ids = lcl_rows(L, arg);
        lua_settop(L, lua_gettop(L) + 3);
        return;
    }
    lcl_options(L, arg, &batch_set, NULL);
    batch->ids = push_field(L, arg, "ids");
    batch->labels = push_field(L, arg, "labels");
    batch->attention_mask = push_field(L, arg, "attention_mask");
    batch->token_type_ids = push_field(L, arg, "token_type_ids");
}
