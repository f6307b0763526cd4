/* calibrate.c: the module lacuna.core.calibrate: lc.calibrate, and what pruning with data shares. */
#include "calibrate.h"

#include <math.h>
#include <string.h>

#include "ops/op.h"
#include "text.h"

static void release(void *object) {
    lc_calibration_free(object);
}
const lcl_type LCL_CALIBRATION = {"lacuna.calibration", release, NULL, NULL};

/* -- options of pruning ------------------------------------------------------------------------------------------- */

const char *const lcl_scopes[] = {"layer", "row", "model", NULL};

/* The number under the layer, or under its name, in the table on top. */
static double target_of(lua_State *L, const char *function, lc_layer *layer) {
    lcl_push_layer(L, layer);
    if (lua_rawget(L, -2) == LUA_TNIL) {
        lua_pop(L, 1);
        lua_getfield(L, -1, layer->name);
    }
    if (lua_type(L, -1) != LUA_TNUMBER)
        lcl_error(L, "%s: option 'sparsity' has no number for %s, got %s", function, layer->name, lcl_describe(L, -1));
    double target = lua_tonumber(L, -1);
    lua_pop(L, 1);
    return target;
}

/* Every key of the table on top is one of these layers or its name. */
static void check_keys(lua_State *L, const char *function, const lc_selection *layers) {
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        const lc_layer *layer = lcl_test(L, -2, &LCL_LAYER);
        bool known = layer && lc_selection_has(layers, layer);
        for (int64_t i = 0; !known && lua_type(L, -2) == LUA_TSTRING && i < layers->n; i++)
            known = strcmp(lua_tostring(L, -2), lc_selection_name(layers, i)) == 0;
        if (!known)
            lcl_error(L, "%s: option 'sparsity': %s is none of the selected layers, nor the name of one", function,
                      lcl_describe(L, -2));
    }
}

/* Pushes what keeps the targets. */
static void read_targets(lua_State *L, const char *function, const lc_selection *layers, lc_prune_options *o) {
    check_keys(L, function, layers);
    double *targets = lua_newuserdatauv(L, (size_t)layers->n * sizeof *targets, 0);
    lua_insert(L, -2);
    for (int64_t i = 0; i < layers->n; i++) targets[i] = target_of(L, function, lc_selected_layer(layers, i));
    o->targets = targets;
}

void lcl_pruning_options(lua_State *L, int arg, const lcl_option_set *set, const lc_selection *layers, void *out) {
    lcl_pruning *o = out;
    o->core.sparsity = NAN;
    o->refine = lc_refine_defaults();
    lcl_options(L, arg, set, out);
    if (o->refine.swap || o->refine.reconstruct) o->core.refine = &o->refine;
    o->core.scope = (lc_scope)o->scope;
    bool scope = lcl_field(L, arg, "scope") != LUA_TNIL;
    lua_pop(L, 1);
    if (o->core.pattern && scope)
        lcl_error(L, "%s: scope and pattern are both given; a pattern compares within its groups", set->function);
    int type = lcl_field(L, arg, "sparsity");
    if (type == LUA_TTABLE)
        read_targets(L, set->function, layers, &o->core);
    else if (type == LUA_TNUMBER)
        o->core.sparsity = lua_tonumber(L, -1);
    else if (type != LUA_TNIL)
        lcl_error(L, "%s: option 'sparsity' must be a number or a table, got %s", set->function, lcl_describe(L, -1));
    if (type == LUA_TNUMBER && isnan(o->core.sparsity)) /* core takes it for none */
        lcl_error(L, "%s: sparsity nan is not a share from 0 to 1", set->function);
    lua_pop(L, 1);
}

lc_sequential lcl_sequential(lua_State *L, int arg, const lcl_option_set *set) {
    lc_sequential result = LC_SEQUENTIAL_BLOCK;
    int type = lcl_field(L, arg, "sequential");
    const char *text = type == LUA_TSTRING ? lua_tostring(L, -1) : "";
    if (strcmp(text, "layer") == 0)
        result = LC_SEQUENTIAL_LAYER;
    else if (type == LUA_TBOOLEAN && !lua_toboolean(L, -1))
        result = LC_SEQUENTIAL_OFF;
    else if (type != LUA_TNIL && strcmp(text, "block") != 0)
        lcl_error(L, "%s: option 'sequential' must be 'block', 'layer' or false, got %s", set->function,
                  lcl_describe(L, -1));
    lua_pop(L, 1);
    return result;
}

/* -- data --------------------------------------------------------------------------------------------------------- */

/* Pushes batch number i of a list or a function; false at the end. */
static bool push_batch(lua_State *L, int data, lua_Integer i) {
    if (lua_istable(L, data)) return lua_geti(L, data, i) != LUA_TNIL;
    lua_pushvalue(L, data);
    lua_pushinteger(L, i);
    lua_call(L, 1, 1);
    return !lua_isnil(L, -1);
}

static void feed_batches(lua_State *L, lc_calibration *c, int data) {
    int top = lua_gettop(L);
    for (lua_Integer i = 1; push_batch(L, data, i); i++) {
        lc_batch batch;
        lcl_batch(L, top + 1, &batch);
        lcl_done(L, lc_calibration_feed(c, &batch), 0);
        lua_settop(L, top);
    }
    lua_settop(L, top);
}

static bool is_empty(lua_State *L, int table) {
    lua_pushnil(L);
    if (!lua_next(L, table)) return true;
    lua_pop(L, 2);
    return false;
}

/* A table with names in it and no list is one batch, or the options where the text was forgotten. */
static void check_list(lua_State *L, int data) {
    bool list = lua_geti(L, data, 1) != LUA_TNIL, batch = lua_getfield(L, data, "ids") != LUA_TNIL;
    lua_pop(L, 2);
    if (list || is_empty(L, data)) return;
    const char *function = lcl_function_name(L);
    if (batch) lcl_error(L, "%s: this is one batch, and a list of them is expected: { { ids = ... } }", function);
    lcl_error(L, "%s: the calibration text is missing: it stands between the layers and the options", function);
}

lc_dataset *lcl_check_data(lua_State *L, int data) {
    lc_dataset *dataset = lcl_test(L, data, &LCL_DATASET);
    if (!dataset && !lua_istable(L, data) && !lua_isfunction(L, data))
        lcl_expected(L, data, "calibration text: a dataset, a list of batches, or a function that gives them");
    if (!dataset && lua_istable(L, data)) check_list(L, data);
    return dataset;
}

lc_calibration *lcl_calibration(lua_State *L, const char *name, const lc_selection *layers, int data,
                                const lc_calibrate_options *options) {
    lc_dataset *dataset = lcl_check_data(L, data);
    lc_calibration **slot = lcl_push(L, &LCL_CALIBRATION);
    lcl_done(L, lc_calibration_new(name, layers, options, slot), 0);
    if (dataset) {
        lcl_use_text(L, dataset, LCL_CALIBRATES);
        lcl_done(L, lc_calibration_feed_dataset(*slot, dataset), 0);
    } else {
        feed_batches(L, *slot, data);
    }
    return *slot;
}

/* -- lc.calibrate ------------------------------------------------------------------------------------------------- */

void lcl_push_stats(lua_State *L, const lc_layer_stats *s) {
    lua_createtable(L, 0, 4);
    lua_pushinteger(L, s->tokens);
    lua_setfield(L, -2, "n");
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    lc_dtype dtype = s->layer->weight->leaf->dtype;
    lcl_done(L, lc_run(LC_OP_COPY, &(lc_attr){.dtype = dtype}, (lc_tensor *[]){s->norm}, 1, slot), 0);
    lua_setfield(L, -2, "norm");
    if (s->H) {
        slot = lcl_push(L, &LCL_TENSOR);
        if (s->spare)
            *slot = lc_tensor_retain(s->H);
        else
            lcl_done(L, lc_run(LC_OP_COPY, &(lc_attr){.dtype = LC_F64}, (lc_tensor *[]){s->H}, 1, slot), 0);
        lua_setfield(L, -2, "H");
    }
    if (s->input) {
        lcl_push_tensor(L, s->input);
        lua_setfield(L, -2, "input");
    }
}

/* Upvalue 1: the calibration. Garbage goes first: what the body did not keep is as large as a block's statistics. */
static int next_layer(lua_State *L) {
    lc_calibration *c = lcl_check(L, lua_upvalueindex(1), &LCL_CALIBRATION);
    lc_layer_stats stats;
    lua_settop(L, 0);
    lua_gc(L, LUA_GCCOLLECT);
    lua_State *outer = lcl_enter(L);
    lc_status status = lc_calibration_next(c, &stats);
    lcl_leave(outer);
    if (status) {
        lcl_close(L, lua_upvalueindex(1));
        lcl_raise(L, status);
    }
    if (!stats.layer) return 0;
    lcl_push_layer(L, stats.layer);
    lcl_push_stats(L, &stats);
    return 2;
}

static const lcl_option rows[] = {
    LCL_SEQUENTIAL_ROW,
    {"H", LCL_BOOL, offsetof(lc_calibrate_options, gram), .fallback = "true",
     .doc = "sum H; without it norms alone cost next to nothing"},
    {"input", LCL_BOOL, offsetof(lc_calibrate_options, input), .fallback = "false",
     .doc = "the inputs themselves too, as stats.input"},
    {0},
};
static const lcl_option_set set = {"calibrate", rows};

static int calibrate(lua_State *L) {
    lua_settop(L, 3);
    lc_selection *layers = lcl_layers(L, 1);
    lc_calibrate_options o = {0};
    lcl_options(L, 3, &set, &o);
    o.sequential = lcl_sequential(L, 3, &set);
    lcl_calibration(L, "calibrate", layers, 2, &o);
    int calibration = lua_gettop(L);
    lua_pushvalue(L, calibration);
    lua_pushcclosure(L, next_layer, 1);
    lua_pushnil(L);
    lua_pushnil(L);
    lua_pushvalue(L, calibration); /* closed when the loop is left */
    return 4;
}

static const lcl_function functions[] = {
    {"calibrate", calibrate, "lc.calibrate(layers, data, {sequential, H, input}) -> iterator of layer, stats",
     "For each layer, in the model's order, statistics of what the text puts into it: stats.H = sum over tokens of x "
     "x^T "
     "(f64, yours to overwrite), stats.norm = the root of its diagonal, stats.n tokens, stats.input (n, I) when asked "
     "for. What the body does to weights is seen by the layers behind, as `sequential` says.",
     &set},
    {0},
};

int luaopen_lacuna_calibrate(lua_State *L) {
    lcl_register(L, &LCL_CALIBRATION);
    lua_newtable(L);
    lcl_functions(L, functions);
    return 1;
}
