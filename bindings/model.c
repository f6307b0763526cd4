/* model.c: the module lacuna.core.model: loading, making and using models. */
#include "model.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "grad/graph.h"
#include "io/hub.h"
#include "model/family.h"
#include "text.h"

static lc_model *check(lua_State *L) {
    return lcl_check(L, 1, &LCL_MODEL);
}

/* Registry key of the models that are alive: slot -> handle. Values are weak: a handle leaves before its finalizer
 * runs. */
static char live_models;

static void push_live(lua_State *L) {
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &live_models) == LUA_TTABLE) return;
    lua_pop(L, 1);
    lua_newtable(L);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "v");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &live_models);
}

/* live() -> {model, ...}: stages look there for models that changed unsaid, optimizers for held masks. */
static int live(lua_State *L) {
    lua_newtable(L);
    push_live(L);
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        lc_model **slot = lua_touserdata(L, -2);
        if (!*slot) continue; /* closed, or not made yet */
        lua_pushvalue(L, -1);
        lua_rawseti(L, -5, (lua_Integer)lua_rawlen(L, -5) + 1);
    }
    lua_pop(L, 1);
    return 1;
}

static lc_model **push_model(lua_State *L) {
    lc_model **slot = lcl_push(L, &LCL_MODEL);
    push_live(L);
    lua_pushvalue(L, -2);
    lua_rawsetp(L, -2, slot);
    lua_pop(L, 1);
    return slot;
}

/* -- making models ------------------------------------------------------------------------------ */

typedef struct load_options {
    int dtype, device;
} load_options;

static const char *const dtypes[] = {"f32", "f64", NULL}, *const devices[] = {"cpu", NULL};
static const lc_dtype dtype_of[] = {LC_F32, LC_F64};

static const lcl_option load_rows[] = {
    {"dtype", LCL_CHOICE, offsetof(load_options, dtype), .choices = dtypes, .fallback = "'f32'",
     .doc = "what it computes in"},
    {"device", LCL_CHOICE, offsetof(load_options, device), .choices = devices, .fallback = "'cpu'",
     .doc = "where it lives"},
    {0},
};
static const lcl_option_set load_set = {"load", load_rows};

static int load(lua_State *L) {
    const char *name = lcl_string(L, 1);
    load_options o;
    lcl_options(L, 2, &load_set, &o);
    char **directory = lcl_text(L);
    lcl_done(L, lc_hub_resolve(name, directory), 0);
    lc_model **slot = push_model(L);
    lcl_done(L, lc_model_load(*directory, dtype_of[o.dtype], slot), 1);
    if ((*slot)->note) {
        lua_warning(L, *directory, 1);
        lua_warning(L, ": ", 1);
        lua_warning(L, (*slot)->note, 0);
    }
    return 1;
}

static void release_json(void *object) {
    json_decref(object);
}

static const lcl_type JSON = {"lacuna.configuration", release_json, NULL, NULL};

static json_t **push_json(lua_State *L, int index, int depth);

static void out_of_memory(lua_State *L) {
    lcl_error(L, "model: out of memory");
}

static void fill_array(lua_State *L, int table, json_t *array, int depth) {
    for (lua_Integer i = 1, n = luaL_len(L, table); i <= n; i++) {
        lua_geti(L, table, i);
        if (json_array_append(array, *push_json(L, -1, depth))) out_of_memory(L);
        lua_pop(L, 2);
    }
}

/* Pushes the first key behind the one on top, in the order of bytes, and takes that one away: false at the end. */
static bool next_name(lua_State *L, int table) {
    const char *last = lua_tostring(L, -1), *next = NULL;
    for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING)
            lcl_error(L, "model: a table in a configuration is a list, or has names as keys; got the key %s",
                      lcl_describe(L, -2));
        const char *name = lua_tostring(L, -2);
        if ((!last || strcmp(name, last) > 0) && (!next || strcmp(name, next) < 0)) next = name;
    }
    lua_pushstring(L, next);
    lua_remove(L, -2);
    return next != NULL;
}

/* In sorted order, so that the same model writes the same config.json. */
static void fill_object(lua_State *L, int table, json_t *object, int depth) {
    lua_pushnil(L);
    while (next_name(L, table)) {
        lua_getfield(L, table, lua_tostring(L, -1));
        json_t **value = push_json(L, -1, depth);
        if (json_object_set(object, lua_tostring(L, -3), *value)) out_of_memory(L);
        lua_pop(L, 2);
    }
    lua_pop(L, 1);
}

#define DEEPEST_CONFIG 8

/* The value at `index` as JSON, in a slot that is pushed. */
static json_t **push_json(lua_State *L, int index, int depth) {
    index = lua_absindex(L, index);
    json_t **slot = lcl_push(L, &JSON);
    bool is_table = lua_istable(L, index), is_list = is_table && luaL_len(L, index) > 0;
    if (lua_isboolean(L, index))
        *slot = json_boolean(lua_toboolean(L, index));
    else if (lua_isinteger(L, index))
        *slot = json_integer(lua_tointeger(L, index));
    else if (lua_type(L, index) == LUA_TNUMBER)
        *slot = json_real(lua_tonumber(L, index));
    else if (lua_type(L, index) == LUA_TSTRING)
        *slot = json_string(lua_tostring(L, index));
    else if (is_table && depth < DEEPEST_CONFIG)
        *slot = is_list ? json_array() : json_object();
    else
        lcl_error(L,
                  is_table ? "model: a configuration's tables are nested too deep"
                           : "model: a configuration holds numbers, strings, booleans and tables of them, got %s",
                  lcl_describe(L, index));
    if (!*slot && lua_type(L, index) == LUA_TNUMBER && !isfinite(lua_tonumber(L, index)))
        lcl_error(L, "model: a configuration's numbers are finite, got %s", lcl_describe(L, index));
    if (!*slot)
        lcl_error(L, "model: %s: %sout of memory", lcl_describe(L, index),
                  lua_type(L, index) == LUA_TSTRING ? "not UTF-8, or " : "");
    luaL_checkstack(L, 8, "model: a configuration's tables are nested too deep");
    if (is_list)
        fill_array(L, index, *slot, depth + 1);
    else if (is_table)
        fill_object(L, index, *slot, depth + 1);
    return slot;
}

/* make(config, seed or nil, dtype or nil, tokenizer or nil) -> model: for lc.model, which has checked the names. */
static int make(lua_State *L) {
    lua_settop(L, 4);
    luaL_checktype(L, 1, LUA_TTABLE);
    uint64_t seed = lua_isnil(L, 2) ? lc_stream_u64(lcl_stream(L, "model")) : (uint64_t)lcl_integer(L, 2);
    lc_dtype dtype = lcl_dtype(L, 3, LC_F32);
    lc_tokenizer *tokenizer = lua_isnil(L, 4) ? NULL : lcl_check(L, 4, &LCL_TOKENIZER);
    json_t **config = push_json(L, 1, 0);
    lc_model **slot = push_model(L);
    lcl_done(L, lc_model_new(*config, seed, dtype, slot), 1);
    if (tokenizer) (*slot)->tokenizer = lc_tokenizer_retain(tokenizer);
    return 1;
}

/* keys(family) -> the names that its configuration may have */
static int keys(lua_State *L) {
    const lc_family *family;
    lcl_done(L, lc_family_find(lcl_string(L, 1), &family), 0);
    lua_newtable(L);
    for (int i = 0; family->keys[i]; i++) {
        lua_pushstring(L, family->keys[i]);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/* -- passes ------------------------------------------------------------------------------------- */

typedef struct pass_options {
    bool train, logits;
} pass_options;

static const lcl_option logits_rows[] = {
    {"attention_mask", LCL_ANY, .doc = "(B, T), 0 = padding"},
    {"token_type_ids", LCL_ANY, .doc = "(B, T)"},
    {"train", LCL_BOOL, offsetof(pass_options, train), .fallback = "false", .doc = "dropout on"},
    {0},
};
static const lcl_option_set logits_set = {"logits", logits_rows};

static int model_logits(lua_State *L) {
    lc_model *m = check(L);
    pass_options o;
    lc_batch batch;
    lcl_options(L, 3, &logits_set, &o);
    lcl_batch(L, 2, &batch);
    if (lcl_field(L, 3, "attention_mask") != LUA_TNIL) batch.attention_mask = lcl_rows(L, lua_gettop(L));
    if (lcl_field(L, 3, "token_type_ids") != LUA_TNIL) batch.token_type_ids = lcl_rows(L, lua_gettop(L));
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    lua_State *outer = lcl_enter(L);
    lc_status status = lc_model_logits(m, &batch, o.train, slot);
    lcl_leave(outer);
    return lcl_done(L, status, 1);
}

static const lcl_option loss_rows[] = {
    {"train", LCL_BOOL, offsetof(pass_options, train), .fallback = "false", .doc = "dropout on"},
    {"logits", LCL_BOOL, offsetof(pass_options, logits), .fallback = "false", .doc = "give the logits too"},
    {0},
};
static const lcl_option_set loss_set = {"loss", loss_rows};

static int model_loss(lua_State *L) {
    lc_model *m = check(L);
    pass_options o;
    lc_batch batch;
    lcl_options(L, 3, &loss_set, &o);
    lcl_batch(L, 2, &batch);
    lc_tensor **loss = lcl_push(L, &LCL_TENSOR), **logits = lcl_push(L, &LCL_TENSOR);
    lc_loss_options options = {.train = o.train, .logits = o.logits ? logits : NULL};
    lua_State *outer = lcl_enter(L);
    lc_status status = lc_model_loss(m, &batch, &options, loss);
    lcl_leave(outer);
    lcl_done(L, status, 0);
    if (!o.logits) lua_pop(L, 1);
    return o.logits ? 2 : 1;
}

/* -- parts -------------------------------------------------------------------------------------- */

static int select_parts(lua_State *L, lc_part part) {
    lcl_selection(L, 2, check(L), part);
    return 1;
}

static int model_parameters(lua_State *L) {
    return select_parts(L, LC_PART_PARAMETER);
}

static int model_linears(lua_State *L) {
    return select_parts(L, LC_PART_LINEAR);
}

static int model_blocks(lua_State *L) {
    return select_parts(L, LC_PART_BLOCK);
}

/* Raises for a name that no parameter has: with a near one, or what the model has, or what the name is instead. */
_Noreturn static void no_parameter(lua_State *L, lc_model *m, const char *name) {
    lc_selection **slot = lcl_push(L, &LCL_SELECTION);
    lcl_done(L, lc_select_all(m, LC_PART_PARAMETER, slot), 0);
    lua_newtable(L);
    for (int64_t i = 0; i < (*slot)->n; i++) {
        lua_pushstring(L, lc_selected_param(*slot, i)->name);
        lua_rawseti(L, -2, i + 1);
    }
    const char *near = lcl_suggestion(L, name);
    if (*near) lcl_error(L, "parameter: there is no '%s'%s", name, near);
    slot = lcl_push(L, &LCL_SELECTION);
    lcl_done(L, lc_select_matching(m, LC_PART_PARAMETER, name, slot), 0);
    lcl_error(L, "parameter: '%s' is not the name of one parameter; model:parameters '%s' selects several", name, name);
}

static int model_parameter(lua_State *L) {
    lc_model *m = check(L);
    const char *name = lcl_string(L, 2);
    lc_param *p = lc_model_param(m, name);
    if (!p) no_parameter(L, m, name);
    lcl_push_param(L, p);
    return 1;
}

static int set_frozen(lua_State *L, bool frozen) {
    lc_selection *s = lcl_selection(L, 2, check(L), LC_PART_PARAMETER);
    for (int64_t i = 0; i < s->n; i++) lcl_done(L, lc_param_freeze(lc_selected_param(s, i), frozen), 0);
    return 0;
}

static int model_freeze(lua_State *L) {
    return set_frozen(L, true);
}

static int model_unfreeze(lua_State *L) {
    return set_frozen(L, false);
}

static int model_sparsity(lua_State *L) {
    lc_model *m = check(L);
    double sparsity;
    if (lua_isnoneornil(L, 2))
        lcl_done(L, lc_model_sparsity(m, &sparsity), 0);
    else
        lcl_done(L, lc_selection_sparsity(lcl_selection(L, 2, m, LC_PART_LINEAR), &sparsity), 0);
    lua_pushnumber(L, sparsity);
    return 1;
}

/* -- copies ------------------------------------------------------------------------------------- */

static int model_clone(lua_State *L) {
    lc_model *m = check(L), **slot = push_model(L);
    return lcl_done(L, lc_model_clone(m, slot), 1);
}

static int model_snapshot(lua_State *L) {
    lc_model *m = check(L);
    lc_snapshot **slot = lcl_push(L, &LCL_SNAPSHOT);
    return lcl_done(L, lc_model_snapshot(m, slot), 1);
}

static int model_restore(lua_State *L) {
    return lcl_done(L, lc_model_restore(check(L), lcl_check(L, 2, &LCL_SNAPSHOT)), 0);
}

static int model_save(lua_State *L) {
    lc_model *m = check(L);
    lcl_done(L, lc_model_save(m, lcl_path(L, 2)), 0);
    lcl_warn_of_transforms(L, m);
    return 0;
}

/* -- perplexity --------------------------------------------------------------------------------- */

static const char *const protocols[] = {"windows", "strided", NULL};
static const lcl_option perplexity_rows[] = {
    {"protocol", LCL_CHOICE, offsetof(lc_perplexity_options, protocol), .choices = protocols, .fallback = "'windows'",
     .doc = "windows: side by side, the tail dropped; strided: overlapping, the tail kept"},
    {"window", LCL_INT, offsetof(lc_perplexity_options, window), .min = 2, .max = 1e9,
     .doc = "tokens; default the model's positions, at most 2048"},
    {"stride", LCL_INT, offsetof(lc_perplexity_options, stride), .min = 1, .max = 1e9,
     .doc = "tokens between windows, strided only; default half a window"},
    {"windows", LCL_INT, offsetof(lc_perplexity_options, windows), .max = 1e9, .fallback = "0",
     .doc = "only that many, from the beginning of the text; 0 is all"},
    {0},
};
static const lcl_option_set perplexity_set = {"perplexity", perplexity_rows};

/* Pushes the ids at `index`, a list or tensor, as a buffer of i32. */
static const int32_t *push_tokens(lua_State *L, int index, int64_t *n) {
    static const char wanted[] = "a dataset, a list or function of batches, or one list of ids";
    if (!lua_istable(L, index) && !lcl_test(L, index, &LCL_TENSOR)) lcl_expected(L, index, wanted);
    lc_tensor *ids = lcl_ids(L, index);
    if (ids->ndim != 1) lcl_expected(L, index, wanted);
    *n = ids->shape[0];
    int32_t *tokens = lua_newuserdatauv(L, (size_t)*n * sizeof *tokens, 0);
    for (int64_t i = 0; i < *n; i++) {
        int64_t id = lc_get_i64(ids, lc_position(ids, i));
        if (id < 0 || id > INT32_MAX) lcl_error(L, "perplexity: %lld is no token id", (long long)id);
        tokens[i] = (int32_t)id;
    }
    return tokens;
}

/* Pushes the number, and the table {protocol, tokens, windows}. */
static int push_perplexity(lua_State *L, const char *protocol, const lc_perplexity_result *result) {
    lua_pushnumber(L, lcl_plain(result->perplexity));
    lua_createtable(L, 0, 3);
    lua_pushstring(L, protocol);
    lua_setfield(L, -2, "protocol");
    lua_pushinteger(L, result->tokens);
    lua_setfield(L, -2, "tokens");
    lua_pushinteger(L, result->windows);
    lua_setfield(L, -2, "windows");
    return 2;
}

/* Pushes the i-th batch of a list, or the next of a function; false at the end. */
static bool push_next_batch(lua_State *L, lua_Integer i) {
    if (lua_istable(L, 2)) return lua_geti(L, 2, i) != LUA_TNIL;
    lua_pushvalue(L, 2);
    lua_call(L, 0, 1);
    return !lua_isnil(L, -1);
}

/* Over the labels of a list or function of batches. */
static int perplexity_of_batches(lua_State *L, lc_model *m, const lc_perplexity_options *o) {
    double sum = 0;
    lc_perplexity_result result = {0};
    if (o->window || o->stride || o->windows)
        lcl_error(L, "perplexity: batches are scored as they are; window, stride and windows are for a dataset");
    lua_settop(L, 2);
    for (lua_Integer i = 1; push_next_batch(L, i); i++) {
        lc_batch batch;
        lcl_batch(L, 3, &batch);
        lua_State *outer = lcl_enter(L);
        lc_status status = lc_model_score(m, &batch, &sum, &result.tokens);
        lcl_leave(outer);
        lcl_done(L, status, 0);
        result.windows += batch.ids->shape[0];
        lua_settop(L, 2);
    }
    if (!result.tokens) lcl_error(L, "perplexity: there is no labelled token in these batches");
    result.perplexity = exp(sum / (double)result.tokens);
    return push_perplexity(L, "batches", &result);
}

/* Whether the argument is a function, or a list that is not of ids. */
static bool is_batches(lua_State *L, int index) {
    if (!lua_istable(L, index)) return lua_isfunction(L, index);
    int first = lua_geti(L, index, 1);
    lua_pop(L, 1);
    return first != LUA_TNUMBER;
}

static int model_perplexity(lua_State *L) {
    lc_model *m = check(L);
    lc_perplexity_options o = {0};
    lc_perplexity_result result;
    lcl_options(L, 3, &perplexity_set, &o);
    if (is_batches(L, 2)) return perplexity_of_batches(L, m, &o);
    int64_t n;
    lc_dataset *data = lcl_test(L, 2, &LCL_DATASET);
    if (data) lcl_use_text(L, data, LCL_IS_SCORED);
    const int32_t *tokens = data ? lc_dataset_tokens(data, &n) : push_tokens(L, 2, &n);
    lua_State *outer = lcl_enter(L);
    lc_status status = lc_model_perplexity(m, tokens, n, &o, &result);
    lcl_leave(outer);
    lcl_done(L, status, 0);
    return push_perplexity(L, protocols[o.protocol], &result);
}

/* -- fields ------------------------------------------------------------------------------------- */

static int get_family(lua_State *L, lc_model *m) {
    lua_pushstring(L, m->family->name);
    return 1;
}

static int get_dtype(lua_State *L, lc_model *m) {
    lua_pushstring(L, lc_dtype_name(m->dtype));
    return 1;
}

static int get_tokenizer(lua_State *L, lc_model *m) {
    lcl_push_tokenizer(L, m->tokenizer);
    return 1;
}

static int get_recompute(lua_State *L, lc_model *m) {
    lua_pushboolean(L, m->recompute);
    return 1;
}

static int get_vocabulary(lua_State *L, lc_model *m) {
    lua_pushinteger(L, m->sizes.vocabulary);
    return 1;
}

static int get_positions(lua_State *L, lc_model *m) {
    lua_pushinteger(L, m->sizes.positions);
    return 1;
}

static int get_width(lua_State *L, lc_model *m) {
    lua_pushinteger(L, m->sizes.width);
    return 1;
}

static const struct property {
    const char *name;
    int (*get)(lua_State *L, lc_model *m); /* 0 results = nil */
} properties[] = {
    {"family", get_family},         {"dtype", get_dtype},
    {"tokenizer", get_tokenizer},   {"recompute", get_recompute},
    {"vocabulary", get_vocabulary}, {"positions", get_positions},
    {"width", get_width},           {NULL, NULL},
};

/* model.name; upvalue 1 is the table of methods. */
static int model_index(lua_State *L) {
    lc_model *m = check(L);
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) return 1;
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
    for (const struct property *p = properties; p->name; p++)
        if (!strcmp(p->name, name)) return p->get(L, m);
    lcl_no_field(L, "a model", &properties->name, sizeof *properties);
}

static int model_newindex(lua_State *L) {
    lc_model *m = check(L);
    const char *name = lcl_string(L, 2);
    if (!strcmp(name, "recompute")) {
        m->recompute = lcl_boolean(L, 3);
    } else if (!strcmp(name, "tokenizer")) {
        lc_tokenizer *tokenizer = lua_isnil(L, 3) ? NULL : lcl_check(L, 3, &LCL_TOKENIZER);
        lc_tokenizer_release(m->tokenizer);
        m->tokenizer = tokenizer ? lc_tokenizer_retain(tokenizer) : NULL;
    } else {
        lcl_error(L, "a model's '%s' cannot be assigned to; recompute and tokenizer can", name);
    }
    return 0;
}

static int model_tostring(lua_State *L) {
    lc_model *m = check(L);
    char **text = lcl_text(L);
    lcl_done(L, lc_model_text(m, text), 0);
    lua_pushstring(L, *text);
    return 1;
}

static void release_model(void *object) {
    lc_model_release(object);
}

static void release_snapshot(void *object) {
    lc_snapshot_release(object);
}

static int snapshot_tostring(lua_State *L) {
    const lc_snapshot *s = lcl_check(L, 1, &LCL_SNAPSHOT);
    lua_pushfstring(L, "snapshot of %I tensors, %I numbers", (LUAI_UACINT)lc_snapshot_tensors(s),
                    (LUAI_UACINT)lc_snapshot_numbers(s));
    return 1;
}

static const luaL_Reg snapshot_meta[] = {{"__tostring", snapshot_tostring}, {NULL, NULL}};
static const luaL_Reg meta[] = {{"__newindex", model_newindex}, {"__tostring", model_tostring}, {NULL, NULL}};

const lcl_type LCL_MODEL = {"lacuna.model", release_model, NULL, meta};
const lcl_type LCL_SNAPSHOT = {"lacuna.snapshot", release_snapshot, NULL, snapshot_meta};

/* -- the module --------------------------------------------------------------------------------- */

static const lcl_function methods[] = {
    {"logits", model_logits, "model:logits(ids, {attention_mask, token_type_ids, train}) -> tensor (B, T, V)",
     "ids is a tensor or list of lists; one list is one row.", &logits_set},
    {"loss", model_loss, "model:loss(batch, {train, logits}) -> loss [, logits]",
     "Mean cross-entropy of the next token over what is labelled. batch is {ids, labels, attention_mask, "
     "token_type_ids} or ids; "
     "label -100 is ignored.",
     &loss_set},
    {"parameters", model_parameters, "model:parameters([sel]) -> selection",
     "Trained tensors by role, name, glob, list or function; layers and blocks stand for theirs."},
    {"parameter", model_parameter, "model:parameter(name) -> tensor", "One trained tensor, in its file's shape."},
    {"linears", model_linears, "model:linears([sel]) -> selection",
     "Linear layers; without sel all inside blocks. Roles: attention (.qkv or .q .k .v, .out), mlp (.up .gate .down), "
     "head."},
    {"blocks", model_blocks, "model:blocks([sel]) -> selection", "The transformer's blocks."},
    {"freeze", model_freeze, "model:freeze([sel])", "No gradient, no moments, no decay from here on."},
    {"unfreeze", model_unfreeze, "model:unfreeze([sel])", "Trained again."},
    {"sparsity", model_sparsity, "model:sparsity([sel]) -> number",
     "Share of zeros in the weights of the linear layers inside blocks."},
    {"clone", model_clone, "model:clone() -> model", "A copy with weights and held masks of its own."},
    {"snapshot", model_snapshot, "model:snapshot() -> snapshot", "The weights as they are now."},
    {"restore", model_restore, "model:restore(snapshot)",
     "Weights back as they were; what held masks prune now stays zero."},
    {"save", model_save, "model:save(directory)",
     "Writes what transformers loads, and lacuna.safetensors beside it where masks are held."},
    {"perplexity", model_perplexity,
     "model:perplexity(data, {protocol, window, stride, windows}) -> number, {protocol, tokens, windows}",
     "data is a dataset, one list of ids, or a list or function of batches, which are scored as they are.",
     &perplexity_set},
    {"generate", lcl_model_generate,
     "model:generate(prompt, {tokens, temperature, top_k, top_p, seed, stop}) -> continuation",
     "The prompt is text or ids, or a list of prompts; the continuation comes as the prompt was.", &lcl_generate_set},
    {0},
};

static const lcl_function functions[] = {
    {"load", load, "lc.load(path or name, {dtype, device}) -> model",
     "A model from a directory in the layout of Hugging Face (safetensors or pytorch_model.bin), or by its name from "
     "the "
     "local cache; from a .gguf file of llama.cpp (llama, qwen2, gpt2, gptneox), or a .bin of llama2.c; or from a "
     "directory "
     "with one of these.",
     &load_set},
    {0},
};

int luaopen_lacuna_model(lua_State *L) {
    static const luaL_Reg helpers[] = {{"make", make}, {"keys", keys}, {"live", live}, {NULL, NULL}};
    static const lcl_type *const types[] = {&JSON, &LCL_MODEL, &LCL_SNAPSHOT};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) lcl_register(L, types[i]);
    lcl_metatable(L, &LCL_MODEL);
    lua_newtable(L);
    lcl_functions(L, methods);
    lua_pushcclosure(L, model_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lcl_open_selection(L);
    lcl_open_layer(L);
    lcl_open_method(L);
    luaL_newlib(L, helpers);
    lcl_functions(L, functions);
    return 1;
}
