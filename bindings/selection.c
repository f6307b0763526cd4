/* selection.c: parts of a model chosen by role, name, glob, list or function; sets of them. */
#include <string.h>

#include "base/memory.h"
#include "grad/graph.h"
#include "model.h"

static const char *const part_word[] = {"a layer", "a parameter", "a block"};

/* -- one thing at an index ---------------------------------------------------------------------- */

/* The parameter whose leaf, or its view in the file's shape, this tensor is; NULL when it is none of this model's. */
static lc_param *param_of(lc_model *m, const lc_tensor *t) {
    for (int64_t i = 0; i < m->n_params; i++)
        if (m->params[i]->leaf == t || m->params[i]->file == t) return m->params[i];
    return NULL;
}

/* Raises: the value at `index` cannot be chosen by. */
_Noreturn static void refuse(lua_State *L, int index, lc_part part) {
    lcl_error(L, "expected a role, a name, a glob, a selection, %s, a list of those or a function, got %s",
              part_word[part], lcl_describe(L, index));
}

_Noreturn static void refuse_other_model(lua_State *L) {
    lcl_error(L, "this part belongs to another model; choose it by its name instead");
}

/* Pushes the selection of the one layer, block or parameter at `index`. */
static lc_selection *select_one(lua_State *L, int index, lc_model *m, lc_part part) {
    lc_selection **slot = lcl_push(L, &LCL_SELECTION);
    lc_layer *layer = lcl_test(L, index, &LCL_LAYER);
    lc_block *block = lcl_test(L, index, &LCL_BLOCK);
    lc_tensor *tensor = lcl_test(L, index, &LCL_TENSOR);
    lc_param *param = tensor ? param_of(m, tensor) : NULL;
    if (!layer && !block && !tensor) refuse(L, index, part);
    if ((layer && layer->model != m) || (block && block->model != m) || (tensor && !param)) refuse_other_model(L);
    lc_part own = layer ? LC_PART_LINEAR : block ? LC_PART_BLOCK : LC_PART_PARAMETER;
    void *item = layer ? (void *)layer : block ? (void *)block : (void *)param;
    lcl_done(L, lc_select_items(m, own, &item, 1, slot), 1);
    return *slot;
}

/* Replaces the selection on top of the stack by that of its parameters. */
static lc_selection *to_params(lua_State *L) {
    lc_selection *s = lcl_check(L, -1, &LCL_SELECTION);
    if (s->part == LC_PART_PARAMETER) return s;
    lc_selection **slot = lcl_push(L, &LCL_SELECTION);
    lcl_done(L, lc_selection_params(s, slot), 1);
    lua_remove(L, -2);
    return *slot;
}

/* Brings the selection on top of the stack to the wanted kind: layers of blocks, parameters of anything. */
static lc_selection *to_part(lua_State *L, lc_part part) {
    lc_selection *s = lcl_check(L, -1, &LCL_SELECTION);
    if (s->part == part) return s;
    if (part == LC_PART_PARAMETER) return to_params(L);
    lcl_error(L, "expected a selection of %ss, got one of %ss", part_word[part] + 2, part_word[s->part] + 2);
}

/* -- lists and functions ------------------------------------------------------------------------ */

static lc_selection *select_value(lua_State *L, int index, lc_model *m, lc_part part);

/* Replaces the two selections on top of the stack by their union. */
static void unite(lua_State *L) {
    lc_selection *a = lcl_check(L, -2, &LCL_SELECTION), *b = lcl_check(L, -1, &LCL_SELECTION);
    lc_selection **slot = lcl_push(L, &LCL_SELECTION);
    lcl_done(L, lc_selection_union(a, b, slot), 1);
    lua_replace(L, -3);
    lua_pop(L, 1);
}

static lc_selection *select_list(lua_State *L, int index, lc_model *m, lc_part part) {
    lua_Integer n = luaL_len(L, index);
    if (n == 0) lcl_error(L, "the list of %ss to choose is empty", part_word[part] + 2);
    for (lua_Integer i = 1; i <= n; i++) {
        lua_geti(L, index, i);
        if (lua_istable(L, -1) || lua_isfunction(L, -1)) refuse(L, -1, part);
        select_value(L, lua_gettop(L), m, part);
        lua_remove(L, -2);
        if (i > 1) unite(L);
    }
    return lcl_check(L, -1, &LCL_SELECTION);
}

static void push_item(lua_State *L, const lc_selection *s, int64_t i) {
    if (s->part == LC_PART_LINEAR) lcl_push_layer(L, lc_selected_layer(s, i));
    if (s->part == LC_PART_BLOCK) lcl_push_block(L, lc_selected_block(s, i));
    if (s->part == LC_PART_PARAMETER) lcl_push_param(L, lc_selected_param(s, i));
}

/* Those for which function(thing, name) is true. */
static lc_selection *select_by_function(lua_State *L, int index, lc_model *m, lc_part part) {
    lc_selection **all = lcl_push(L, &LCL_SELECTION);
    lcl_done(L, lc_select_all(m, part, all), 1);
    void **chosen = lua_newuserdatauv(L, (size_t)(*all)->n * sizeof *chosen, 0);
    int64_t n = 0;
    for (int64_t i = 0; i < (*all)->n; i++) {
        lua_pushvalue(L, index);
        push_item(L, *all, i);
        lua_pushstring(L, lc_selection_name(*all, i));
        lua_call(L, 2, 1);
        if (lua_toboolean(L, -1)) chosen[n++] = (*all)->items[i];
        lua_pop(L, 1);
    }
    if (n == 0) lcl_error(L, "the function chose none of %lld %ss", (long long)(*all)->n, part_word[part] + 2);
    lc_selection **slot = lcl_push(L, &LCL_SELECTION);
    lcl_done(L, lc_select_items(m, part, chosen, n, slot), 1);
    lua_replace(L, -3);
    lua_pop(L, 1);
    return *slot;
}

/* Pushes the selection that the value at `index` (absolute, not nil) stands for. */
static lc_selection *select_value(lua_State *L, int index, lc_model *m, lc_part part) {
    lc_selection *s = lcl_test(L, index, &LCL_SELECTION);
    if (s) {
        if (s->model != m) refuse_other_model(L);
        lua_pushvalue(L, index);
    } else if (lua_type(L, index) == LUA_TSTRING) {
        lcl_done(L, lc_select_matching(m, part, lua_tostring(L, index), lcl_push(L, &LCL_SELECTION)), 1);
    } else if (lua_isfunction(L, index)) {
        select_by_function(L, index, m, part);
    } else if (lua_istable(L, index)) {
        select_list(L, index, m, part);
    } else {
        select_one(L, index, m, part);
    }
    return to_part(L, part);
}

lc_selection *lcl_selection(lua_State *L, int arg, lc_model *model, lc_part part) {
    luaL_checkstack(L, 8, NULL);
    if (!lua_isnoneornil(L, arg)) return select_value(L, lua_absindex(L, arg), model, part);
    lc_selection **slot = lcl_push(L, &LCL_SELECTION);
    lcl_done(L, lc_select_all(model, part, slot), 1);
    return *slot;
}

lc_selection *lcl_layers(lua_State *L, int arg) {
    lc_selection *s = lcl_test(L, arg, &LCL_SELECTION);
    lc_layer *layer = lcl_test(L, arg, &LCL_LAYER);
    if (layer) return select_one(L, arg, layer->model, LC_PART_LINEAR);
    if (lua_istable(L, arg)) {
        luaL_checkstack(L, 8, NULL);
        lua_geti(L, arg, 1);
        layer = lcl_test(L, -1, &LCL_LAYER);
        lua_pop(L, 1);
        if (layer) return select_list(L, arg, layer->model, LC_PART_LINEAR);
    }
    if (!s || s->part != LC_PART_LINEAR) lcl_expected(L, arg, "layers, as model:linears() gives them");
    lua_pushvalue(L, arg);
    return s;
}

/* -- methods ------------------------------------------------------------------------------------ */

static lc_selection *check(lua_State *L, int arg) {
    return lcl_check(L, arg, &LCL_SELECTION);
}

static int selection_sparsity(lua_State *L) {
    double sparsity;
    lcl_done(L, lc_selection_sparsity(check(L, 1), &sparsity), 0);
    lua_pushnumber(L, sparsity);
    return 1;
}

static int selection_names(lua_State *L) {
    lc_selection *s = check(L, 1);
    lua_createtable(L, (int)s->n, 0);
    for (int64_t i = 0; i < s->n; i++) {
        lua_pushstring(L, lc_selection_name(s, i));
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static const lcl_function methods[] = {
    {"sparsity", selection_sparsity, "selection:sparsity() -> number", "Share of zeros in the selected weights."},
    {"names", selection_names, "selection:names() -> list", "The names of what is selected, as in the checkpoint."},
    {0},
};

/* s[i], nil past the end so that ipairs ends; upvalue 1 is the table of methods. */
static int selection_index(lua_State *L) {
    lc_selection *s = check(L, 1);
    if (lua_isinteger(L, 2)) {
        int64_t i = lua_tointeger(L, 2);
        if (i < 0) i += s->n + 1;
        if (i < 1 || i > s->n) return 0;
        push_item(L, s, i - 1);
        return 1;
    }
    lua_pushvalue(L, 2);
    static const char *const no_fields[] = {NULL};
    if (lua_rawget(L, lua_upvalueindex(1)) == LUA_TNIL) lcl_no_field(L, "a selection", no_fields, sizeof *no_fields);
    return 1;
}

static int selection_length(lua_State *L) {
    lua_pushinteger(L, check(L, 1)->n);
    return 1;
}

/* The iterator of pairs: the place is the upvalue, since the names are what the loop sees. */
static int next_pair(lua_State *L) {
    lc_selection *s = check(L, 1);
    lua_Integer i = lua_tointeger(L, lua_upvalueindex(1));
    if (i >= s->n) return 0;
    lua_pushinteger(L, i + 1);
    lua_replace(L, lua_upvalueindex(1));
    lua_pushstring(L, lc_selection_name(s, i));
    push_item(L, s, i);
    return 2;
}

static int selection_pairs(lua_State *L) {
    check(L, 1);
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, next_pair, 1);
    lua_pushvalue(L, 1);
    return 2;
}

/* The two operands as selections: a single layer or block counts as one. */
static int combine(lua_State *L, lc_status (*operation)(const lc_selection *, const lc_selection *, lc_selection **)) {
    lc_selection *left = lcl_test(L, 1, &LCL_SELECTION), *right = lcl_test(L, 2, &LCL_SELECTION);
    const lc_selection *known = left ? left : right;
    if (!left) left = select_value(L, 1, known->model, known->part);
    if (!right) right = select_value(L, 2, known->model, known->part);
    lc_selection **slot = lcl_push(L, &LCL_SELECTION);
    return lcl_done(L, operation(left, right, slot), 1);
}

static int selection_add(lua_State *L) {
    return combine(L, lc_selection_union);
}

static int selection_subtract(lua_State *L) {
    return combine(L, lc_selection_difference);
}

static int selection_equal(lua_State *L) {
    lc_selection *a = lcl_test(L, 1, &LCL_SELECTION), *b = lcl_test(L, 2, &LCL_SELECTION);
    bool equal = a && b && a->model == b->model && a->part == b->part && a->n == b->n;
    for (int64_t i = 0; equal && i < a->n; i++) equal = a->items[i] == b->items[i];
    lua_pushboolean(L, equal);
    return 1;
}

static int selection_tostring(lua_State *L) {
    char **text = lcl_text(L);
    lcl_done(L, lc_selection_text(check(L, 1), text), 0);
    lua_pushstring(L, *text);
    return 1;
}

static const luaL_Reg meta[] = {
    {"__len", selection_length},
    {"__pairs", selection_pairs},
    {"__add", selection_add},
    {"__sub", selection_subtract},
    {"__eq", selection_equal},
    {"__tostring", selection_tostring},
    {NULL, NULL},
};

static void release(void *object) {
    lc_selection_release(object);
}

const lcl_type LCL_SELECTION = {"lacuna.selection", release, NULL, meta};

void lcl_open_selection(lua_State *L) {
    lcl_register(L, &LCL_SELECTION);
    lcl_metatable(L, &LCL_SELECTION);
    lua_newtable(L);
    lcl_functions(L, methods);
    lua_pushcclosure(L, selection_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}
