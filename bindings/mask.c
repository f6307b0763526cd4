/* mask.c: the module lacuna.core.mask: masks as values of the language: mask & mask, mask[layer], mask:hold(). */
#include "mask.h"

#include <string.h>

#include "model.h"
#include "ops/op.h"

static void release(void *mask) {
    lc_mask_release(mask);
}

static lc_mask *check_mask(lua_State *L, int arg) {
    return lcl_check(L, arg, &LCL_MASK);
}

/* The model at `arg`, or NULL for nil: the mask's own. */
static lc_model *optional_model(lua_State *L, int arg) {
    return lua_isnoneornil(L, arg) ? NULL : lcl_check(L, arg, &LCL_MODEL);
}

/* -- making ------------------------------------------------------------------------------------------------------- */

/* The layer's place in the selection, named by a handle or a name at the top of the stack; -1 when it is not there. */
static int64_t place_of_key(lua_State *L, const lc_selection *layers) {
    const lc_layer *layer = lcl_test(L, -1, &LCL_LAYER);
    const char *name = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
    for (int64_t i = 0; i < layers->n; i++) {
        const lc_layer *one = lc_selected_layer(layers, i);
        if (one == layer || (name && strcmp(one->name, name) == 0)) return i;
    }
    return -1;
}

/* Puts a copy of the boolean tensor at the top of the stack (nil: everything stays) into list[i + 1], in its place
 * there. A copy, because a mask is a value and the tensor may be written to later. */
static void keep_copy(lua_State *L, int list, const lc_layer *layer, int64_t i) {
    const lc_tensor *weight = layer->weight->leaf;
    lc_tensor *given = lua_isnil(L, -1) ? NULL : lcl_test(L, -1, &LCL_TENSOR);
    if (!given && !lua_isnil(L, -1))
        lcl_error(L, "mask.from: %s: expected a boolean tensor %s, got %s", layer->name, LC_SHAPE(weight),
                  lcl_describe(L, -1));
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    if (given) {
        lcl_done(L, lc_run(LC_OP_COPY, &(lc_attr){.dtype = given->dtype}, &given, 1, slot), 0);
    } else {
        lcl_done(L, lc_tensor_new(LC_BOOL, weight->ndim, weight->shape, LC_CPU, slot), 0);
        lcl_done(L, lc_fill(*slot, 1), 0);
    }
    lua_rawseti(L, list, (lua_Integer)i + 1);
}

/* list[i] for every layer from calling the function at `arg` with it. */
static void from_function(lua_State *L, int arg, const lc_selection *layers, int list) {
    for (int64_t i = 0; i < layers->n; i++) {
        lua_pushvalue(L, arg);
        lcl_push_layer(L, lc_selected_layer(layers, i));
        lua_call(L, 1, 1);
        keep_copy(L, list, lc_selected_layer(layers, i), i);
        lua_pop(L, 1);
    }
}

static void from_table(lua_State *L, int arg, const lc_selection *layers, int list) {
    for (lua_pushnil(L); lua_next(L, arg);) {
        lua_insert(L, -2);
        int64_t i = place_of_key(L, layers);
        const lc_layer *other = lcl_test(L, -1, &LCL_LAYER);
        if (i < 0) lcl_error(L, "mask.from: %s is not one of the layers", other ? other->name : lcl_describe(L, -1));
        lua_insert(L, -2);
        keep_copy(L, list, lc_selected_layer(layers, i), i);
        lua_pop(L, 1);
    }
    for (int64_t i = 0; i < layers->n; i++) {
        if (lua_rawgeti(L, list, (lua_Integer)i + 1) == LUA_TNIL) keep_copy(L, list, lc_selected_layer(layers, i), i);
        lua_pop(L, 1);
    }
}

static int mask_from(lua_State *L) {
    lua_settop(L, 2);
    lc_selection *layers = lcl_layers(L, 1);
    lua_newtable(L);
    int list = lua_gettop(L);
    if (lua_isfunction(L, 2))
        from_function(L, 2, layers, list);
    else if (lua_istable(L, 2))
        from_table(L, 2, layers, list);
    else
        lcl_expected(L, 2, "a function of a layer, or a table {[layer] = boolean tensor}");
    lc_tensor **keep = lua_newuserdatauv(L, (size_t)layers->n * sizeof *keep, 0);
    for (int64_t i = 0; i < layers->n; i++) {
        lua_rawgeti(L, list, (lua_Integer)i + 1);
        keep[i] = lcl_tensor(L, -1);
        lua_pop(L, 1);
    }
    lc_mask **slot = lcl_push(L, &LCL_MASK);
    return lcl_done(L, lc_mask_from(layers, keep, slot), 1);
}

/* A mask that `make` reads off the layers at argument 1, or all of a model's. */
static int mask_read(lua_State *L, lc_status (*make)(const lc_selection *, lc_mask **)) {
    lc_model *model = lcl_test(L, 1, &LCL_MODEL);
    lc_selection *layers;
    if (model) {
        lc_selection **slot = lcl_push(L, &LCL_SELECTION);
        lcl_done(L, lc_select_all(model, LC_PART_LINEAR, slot), 0);
        layers = *slot;
    } else {
        layers = lcl_layers(L, 1);
    }
    lc_mask **slot = lcl_push(L, &LCL_MASK);
    return lcl_done(L, make(layers, slot), 1);
}

static int mask_of(lua_State *L) {
    return mask_read(L, lc_mask_of);
}

static int mask_held(lua_State *L) {
    return mask_read(L, lc_mask_held);
}

/* -- methods ------------------------------------------------------------------------------------------------------ */

static const lcl_option hold_rows[] = {
    {"model", LCL_ANY, .doc = "whose layers; the mask's own model when left out"},
    {"keep_values", LCL_BOOL, 0, .fallback = "false", .doc = "remember the pruned weights, for pruning with regrow"},
    {0},
};
static const lcl_option_set hold_set = {"mask:hold", hold_rows};

static int mask_hold(lua_State *L) {
    lua_settop(L, 2);
    lc_mask *m = check_mask(L, 1);
    bool keep_values = false;
    lcl_options(L, 2, &hold_set, &keep_values);
    lcl_field(L, 2, "model");
    lcl_done(L, lc_mask_hold(m, optional_model(L, 3), keep_values), 0);
    lua_settop(L, 1);
    return 1;
}

static int mask_lift(lua_State *L) {
    lcl_done(L, lc_mask_lift(check_mask(L, 1), optional_model(L, 2)), 0);
    lua_settop(L, 1);
    return 1;
}

static int mask_apply(lua_State *L) {
    lcl_done(L, lc_mask_apply(check_mask(L, 1), optional_model(L, 2)), 0);
    lua_settop(L, 1);
    return 1;
}

static int mask_sparsity(lua_State *L) {
    lua_pushnumber(L, lc_mask_sparsity(check_mask(L, 1)));
    return 1;
}

static int mask_count(lua_State *L) {
    int64_t weights = 0, pruned = 0;
    lc_mask_count(check_mask(L, 1), &weights, &pruned);
    lua_pushinteger(L, pruned);
    lua_pushinteger(L, weights);
    return 2;
}

static int mask_overlap(lua_State *L) {
    double overlap = 0;
    lcl_done(L, lc_mask_overlap(check_mask(L, 1), check_mask(L, 2), &overlap), 0);
    lua_pushnumber(L, overlap);
    return 1;
}

static int mask_violations(lua_State *L) {
    int64_t count = 0;
    lcl_done(L, lc_mask_violations(check_mask(L, 1), optional_model(L, 2), &count), 0);
    lua_pushinteger(L, count);
    return 1;
}

static const lcl_function methods[] = {
    {"hold", mask_hold, "mask:hold({model, keep_values}) -> mask",
     "Zeroes what is pruned and keeps it zero in training, in place of what these layers held.", &hold_set},
    {"lift", mask_lift, "mask:lift(model) -> mask",
     "The layers that hold this mask let go: pruned weights stay zero until they are trained again. A layer that was "
     "pruned further since holds that later mask, and keeps it."},
    {"apply", mask_apply, "mask:apply(model) -> mask", "Zeroes what is pruned, once."},
    {"sparsity", mask_sparsity, "mask:sparsity() -> number", "Share of weights that are pruned."},
    {"count", mask_count, "mask:count() -> pruned, weights", "How many weights are pruned, and of how many."},
    {"overlap", mask_overlap, "mask:overlap(other) -> number",
     "Weights kept by both over weights kept by either: 1 for equal masks, 0 for disjoint ones."},
    {"violations", mask_violations, "mask:violations(model) -> integer", "How many pruned weights are not zero."},
    {0},
};

/* -- operators ---------------------------------------------------------------------------------------------------- */

static int mask_and(lua_State *L) {
    lc_mask *a = check_mask(L, 1), *b = check_mask(L, 2), **slot = lcl_push(L, &LCL_MASK);
    return lcl_done(L, lc_mask_and(a, b, slot), 1);
}

static int mask_or(lua_State *L) {
    lc_mask *a = check_mask(L, 1), *b = check_mask(L, 2), **slot = lcl_push(L, &LCL_MASK);
    return lcl_done(L, lc_mask_or(a, b, slot), 1);
}

static int mask_not(lua_State *L) {
    lc_mask *m = check_mask(L, 1), **slot = lcl_push(L, &LCL_MASK);
    return lcl_done(L, lc_mask_not(m, slot), 1);
}

static int mask_length(lua_State *L) {
    lua_pushinteger(L, check_mask(L, 1)->n);
    return 1;
}

static int mask_tostring(lua_State *L) {
    char **text = lcl_text(L);
    lcl_done(L, lc_mask_text(check_mask(L, 1), text), 0);
    lua_pushstring(L, *text);
    return 1;
}

/* A boolean tensor of its own. */
static int push_keep(lua_State *L, const lc_bits *keep) {
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    return lcl_done(L, lc_bits_unpack(keep, slot), 1);
}

/* mask.requested, mask:method(), mask[layer], mask[name]. Upvalue 1 is the table of methods. */
static int mask_index(lua_State *L) {
    const lc_mask *m = check_mask(L, 1);
    const lc_layer *layer = lcl_test(L, 2, &LCL_LAYER);
    const char *name = layer ? layer->name : lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : NULL;
    if (!name) lcl_error(L, "mask: index it with a layer or its name, got %s", lcl_describe(L, 2));
    if (!layer) {
        lua_pushvalue(L, 2);
        if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) return 1;
        if (strcmp(name, "requested") == 0) {
            if (isnan(m->requested))
                lua_pushnil(L);
            else
                lua_pushnumber(L, m->requested);
            return 1;
        }
    }
    const lc_bits *keep = lc_mask_find(m, name);
    if (!keep) lcl_error(L, "mask: it names no layer '%s'; pairs(mask) lists those it has", name);
    return push_keep(L, keep);
}

/* Upvalue 1 counts the layers that were given. */
static int mask_next(lua_State *L) {
    const lc_mask *m = check_mask(L, 1);
    lua_Integer i = lua_tointeger(L, lua_upvalueindex(1));
    if (i >= m->n) return 0;
    lua_pushinteger(L, i + 1);
    lua_replace(L, lua_upvalueindex(1));
    lua_pushstring(L, m->entries[i].name);
    return 1 + push_keep(L, m->entries[i].keep);
}

/* for name, keep in pairs(mask) */
static int mask_pairs(lua_State *L) {
    check_mask(L, 1);
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, mask_next, 1);
    lua_pushvalue(L, 1);
    return 2;
}

static const luaL_Reg meta[] = {
    {"__band", mask_and},          {"__bor", mask_or},      {"__bnot", mask_not}, {"__len", mask_length},
    {"__tostring", mask_tostring}, {"__pairs", mask_pairs}, {NULL, NULL},
};

const lcl_type LCL_MASK = {"lacuna.mask", release, NULL, meta};

static void make_metatable(lua_State *L) {
    lcl_register(L, &LCL_MASK);
    lcl_metatable(L, &LCL_MASK);
    lua_newtable(L);
    lcl_functions(L, methods);
    lua_pushcclosure(L, mask_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

static const lcl_function functions[] = {
    {"from", mask_from, "lc.mask.from(layers, function(layer) or {[layer] = tensor}) -> mask",
     "A mask of boolean tensors (O, I), true = kept. A layer without one is wholly kept."},
    {"of", mask_of, "lc.mask.of(model or layers) -> mask", "What is not zero now."},
    {"held", mask_held, "lc.mask.held(model or layers) -> mask",
     "What the layers hold; a layer that holds nothing is wholly kept."},
    {0},
};

int luaopen_lacuna_mask(lua_State *L) {
    make_metatable(L);
    lua_newtable(L);
    lcl_functions(L, functions);
    return 1;
}
