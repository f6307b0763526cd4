/* prune.c: the module lacuna.core.prune: lc.prune.magnitude, lc.prune.random, lc.prune.by. */
#include <string.h>

#include "grad/graph.h"
#include "mask.h"
#include "model.h"
#include "solve/magnitude.h"

/* -- options ------------------------------------------------------------------------------------------------------ */

typedef struct options {
    lc_prune_options core;
    int scope;
    int64_t seed;
} options;

static const char *const scopes[] = {"layer", "row", "model", NULL};

#define COMMON_ROWS                                                                                                    \
    {"sparsity", LCL_NUMBER, offsetof(options, core.sparsity),                                                         \
     .doc = "share of zeros when done, 0 to 1, what is held included"},                                                \
        {"pattern", LCL_STRING, offsetof(options, core.pattern),                                                       \
         .doc = "'n:m' in place of sparsity: n of every m neighbours in a row stay"},                                  \
        {"scope",                                                                                                      \
         LCL_CHOICE,                                                                                                   \
         offsetof(options, scope),                                                                                     \
         .choices = scopes,                                                                                            \
         .fallback = "'layer'",                                                                                        \
         .doc = "within what scores are compared"},                                                                    \
        {"apply", LCL_BOOL, offsetof(options, core.apply), .fallback = "true",                                         \
         .doc = "zero the weights; false only makes the mask"},                                                        \
        {"hold", LCL_BOOL, offsetof(options, core.hold), .fallback = "true", .doc = "keep them zero in training"},     \
        {"regrow", LCL_BOOL, offsetof(options, core.regrow), .fallback = "false", .doc = "rank again what is held"}, { \
        "keep_values", LCL_BOOL, offsetof(options, core.keep_values), .fallback = "false",                             \
                                                                      .doc = "remember the pruned weights, for regrow" \
    }
/* clang-format off */
static const lcl_option common_rows[] = {COMMON_ROWS, {0}};
static const lcl_option random_rows[] = {
    COMMON_ROWS,
    {"seed", LCL_INT, offsetof(options, seed), .doc = "of the draw; without it each call takes the next of lc.seed's"},
    {0},
};
/* clang-format on */
static const lcl_option_set magnitude_set = {"prune.magnitude", common_rows};
static const lcl_option_set random_set = {"prune.random", random_rows};
static const lcl_option_set by_set = {"prune.by", common_rows};

static options read_options(lua_State *L, int arg, const lcl_option_set *set) {
    options o = {.core = {.sparsity = NAN}};
    lcl_options(L, arg, set, &o);
    o.core.scope = (lc_scope)o.scope;
    return o;
}

/* -- magnitude and random ----------------------------------------------------------------------------------------- */

static int prune_magnitude(lua_State *L) {
    lua_settop(L, 2);
    lc_selection *layers = lcl_layers(L, 1);
    options o = read_options(L, 2, &magnitude_set);
    lc_mask **mask = lcl_push(L, &LCL_MASK);
    return lcl_done(L, lc_prune_magnitude(layers, &o.core, mask), 1);
}

static int prune_random(lua_State *L) {
    lua_settop(L, 2);
    lc_selection *layers = lcl_layers(L, 1);
    options o = read_options(L, 2, &random_set);
    if (lcl_field(L, 2, "seed") == LUA_TNIL) o.seed = (int64_t)lc_stream_u64(lcl_stream(L, "prune.random"));
    lc_mask **mask = lcl_push(L, &LCL_MASK);
    return lcl_done(L, lc_prune_random(layers, &o.core, (uint64_t)o.seed, mask), 1);
}

/* -- scores written in Lua ---------------------------------------------------------------------------------------- */

typedef struct score_job {
    lc_layer *layer;
    lc_scores *out;
} score_job;

/* Arguments: the job, and the user's function. */
static int score_protected(lua_State *L) {
    score_job *job = lua_touserdata(L, 1);
    lcl_push_layer(L, job->layer);
    lua_call(L, 1, 1);
    lc_tensor *scores = lcl_test(L, -1, &LCL_TENSOR);
    if (!scores)
        lcl_error(L, "prune.by: %s: the function must return a tensor of scores %s, got %s", job->layer->name,
                  LC_SHAPE(job->layer->weight->leaf), lcl_describe(L, -1));
    job->out->values = lc_tensor_retain(scores);
    return 0;
}

/* Calls the function at stack index *context of the running coroutine. */
static lc_status score_in_lua(void *context, lc_layer *layer, lc_scores *out) {
    lua_State *L = lcl_running();
    score_job job = {layer, out};
    lua_pushcfunction(L, score_protected);
    lua_pushlightuserdata(L, &job);
    lua_pushvalue(L, *(int *)context);
    return lcl_call(L, 2, 0);
}

static int prune_by(lua_State *L) {
    lua_settop(L, 4);
    lc_selection *layers = lcl_layers(L, 1);
    if (!lua_isnil(L, 2))
        lcl_error(L, "prune.by: scores from calibration data are not in this build; give nil for data");
    if (!lua_isfunction(L, 3)) lcl_expected(L, 3, "a function(layer) that returns scores, higher kept");
    options o = read_options(L, 4, &by_set);
    int function = 3;
    lc_mask **mask = lcl_push(L, &LCL_MASK);
    bool recording = lc_set_recording(false);
    lua_State *outer = lcl_enter(L);
    lc_status status = lc_prune("prune.by", layers, score_in_lua, &function, &o.core, mask);
    lcl_leave(outer);
    lc_set_recording(recording);
    return lcl_done(L, status, 1);
}

static const lcl_function functions[] = {
    {"magnitude", prune_magnitude, "lc.prune.magnitude(layers, {sparsity | pattern, ...}) -> mask",
     "Prunes the weights of smallest magnitude and holds the mask.", &magnitude_set},
    {"random", prune_random, "lc.prune.random(layers, {sparsity | pattern, ...}) -> mask",
     "Prunes weights drawn at random: the baseline.", &random_set},
    {"by", prune_by, "lc.prune.by(layers, nil, function(layer) return scores end, {sparsity | pattern, ...}) -> mask",
     "Prunes by your own scores, a tensor (O, I) for each layer; higher is kept.", &by_set},
    {0},
};

int luaopen_lacuna_prune(lua_State *L);
int luaopen_lacuna_prune(lua_State *L) {
    luaL_requiref(L, "lacuna.core.mask", luaopen_lacuna_mask, 0); /* the metatable of masks must exist */
    lua_pop(L, 1);
    lua_newtable(L);
    lcl_functions(L, functions);
    return 1;
}
