/* prune.c: the module lacuna.core.prune: lc.prune.magnitude, random, wanda, ria, sparsegpt, by, and what refine.c
 * adds. */
#include <string.h>

#include "calibrate.h"
#include "grad/graph.h"
#include "refine.h"
#include "solve/magnitude.h"
#include "solve/sparsegpt.h"
#include "solve/wanda.h"

/* -- options ------------------------------------------------------------------------------------------------------ */

typedef struct options {
    lcl_pruning common;
    int64_t seed;
    double power;
    lc_sparsegpt_options sparsegpt;
    lc_calibrate_options calibrate;
} options;

/* clang-format off */
static const lcl_option magnitude_rows[] = {LCL_PRUNE_ROWS, LCL_SCOPE_ROW("layer"), {0}};
static const lcl_option random_rows[] = {
    LCL_PRUNE_ROWS,
    LCL_SCOPE_ROW("layer"),
    {"seed", LCL_INT, offsetof(options, seed), .doc = "of the draw; without it each call takes the next of lc.seed's"},
    {0},
};
static const lcl_option wanda_rows[] = {LCL_PRUNE_ROWS, LCL_SCOPE_ROW("row"), LCL_SEQUENTIAL_ROW, LCL_REFINE_ROWS, {0}};
static const lcl_option ria_rows[] = {
    LCL_PRUNE_ROWS,
    LCL_SCOPE_ROW("row"),
    LCL_SEQUENTIAL_ROW,
    LCL_REFINE_ROWS,
    {"power", LCL_NUMBER, offsetof(options, power), .min = 0, .max = 10, .fallback = "0.5",
     .doc = "of the input's norm; a in the paper"},
    {0},
};
static const lcl_option sparsegpt_rows[] = {
    LCL_PRUNE_ROWS,
    LCL_SEQUENTIAL_ROW,
    LCL_REFINE_ROWS,
    {"damp", LCL_NUMBER, offsetof(options, sparsegpt.damp), .min = 0, .max = 1e6, .fallback = "0.01",
     .doc = "added to the Hessian's diagonal: this share of its mean"},
    {"epsilon", LCL_NUMBER, offsetof(options, sparsegpt.epsilon), .min = 0, .max = 1e300, .fallback = "0",
     .doc = "and this number, after that; the Hessian is 2 / windows times H"},
    {"block", LCL_INT, offsetof(options, sparsegpt.block), .min = 1, .max = 1e9, .fallback = "128",
     .doc = "columns between two updates of the rest of the weights"},
    {"mask_block", LCL_INT, offsetof(options, sparsegpt.mask_block), .min = 1, .max = 1e9,
     .doc = "columns whose mask is chosen together, over all rows; default: block. Not with a pattern"},
    {"exact", LCL_BOOL, offsetof(options, sparsegpt.exact), .fallback = "true",
     .doc = "floor(sparsity n) weights of each mask block; false: one more, as in the published code"},
    {0},
};
static const lcl_option by_rows[] = {
    LCL_PRUNE_ROWS,
    LCL_SCOPE_ROW("layer"),
    LCL_SEQUENTIAL_ROW,
    LCL_REFINE_ROWS,
    {"H", LCL_BOOL, offsetof(options, calibrate.gram), .fallback = "true", .doc = "sum stats.H"},
    {"input", LCL_BOOL, offsetof(options, calibrate.input), .fallback = "false", .doc = "keep stats.input"},
    {0},
};
/* clang-format on */
static const lcl_option_set magnitude_set = {"prune.magnitude", magnitude_rows};
static const lcl_option_set random_set = {"prune.random", random_rows};
static const lcl_option_set wanda_set = {"prune.wanda", wanda_rows};
static const lcl_option_set ria_set = {"prune.ria", ria_rows};
static const lcl_option_set sparsegpt_set = {"prune.sparsegpt", sparsegpt_rows};
static const lcl_option_set by_set = {"prune.by", by_rows};

/* -- magnitude and random ----------------------------------------------------------------------------------------- */

/* These look at no text. It may stand before the options all the same, so that every method is called alike. */
static void skip_data(lua_State *L) {
    lua_settop(L, 3);
    if (!lua_isnil(L, 3)) {
        if (!lua_isnil(L, 2)) lcl_check_data(L, 2);
        lua_remove(L, 2);
    }
    lua_settop(L, 2);
}

static int prune_magnitude(lua_State *L) {
    skip_data(L);
    lc_selection *layers = lcl_layers(L, 1);
    options o = {0};
    lcl_pruning_options(L, 2, &magnitude_set, layers, &o);
    lc_mask **mask = lcl_push(L, &LCL_MASK);
    return lcl_done(L, lc_prune_magnitude(layers, &o.common.core, mask), 1);
}

static int prune_random(lua_State *L) {
    skip_data(L);
    lc_selection *layers = lcl_layers(L, 1);
    options o = {0};
    lcl_pruning_options(L, 2, &random_set, layers, &o);
    if (lcl_field(L, 2, "seed") == LUA_TNIL) o.seed = (int64_t)lc_stream_u64(lcl_stream(L, "prune.random"));
    lc_mask **mask = lcl_push(L, &LCL_MASK);
    return lcl_done(L, lc_prune_random(layers, &o.common.core, (uint64_t)o.seed, mask), 1);
}

/* -- on calibration text ------------------------------------------------------------------------------------------ */

/* Reads (layers, data, options) and pushes the calibration, after which the mask may be pushed. Calling into core is
 * the caller's, between lcl_enter and lcl_leave: layers may have functions in Lua. */
static lc_calibration *open_calibration(lua_State *L, const lcl_option_set *set, int arg, options *o) {
    lc_selection *layers = lcl_layers(L, 1);
    lcl_check_data(L, 2); /* forgotten, it would be looked for among the options */
    lcl_pruning_options(L, arg, set, layers, o);
    if (o->common.core.pattern && o->sparsegpt.mask_block)
        lcl_error(L, "%s: mask_block and pattern are both given; a pattern's mask is chosen group by group",
                  set->function);
    o->calibrate.sequential = lcl_sequential(L, arg, set);
    if (o->common.core.refine) o->calibrate.gram = true;
    return lcl_calibration(L, set->function, layers, 2, &o->calibrate);
}

static lc_status run_wanda(lc_calibration *c, const options *o, lc_mask **mask) {
    return lc_prune_wanda(c, &o->common.core, mask);
}

static lc_status run_ria(lc_calibration *c, const options *o, lc_mask **mask) {
    return lc_prune_ria(c, o->power, &o->common.core, mask);
}

static lc_status run_sparsegpt(lc_calibration *c, const options *o, lc_mask **mask) {
    return lc_prune_sparsegpt(c, &o->sparsegpt, &o->common.core, mask);
}

/* (layers, data, options) -> mask. What the calibration holds is let go at once, not when Lua collects it. */
static int prune_on_text(lua_State *L, const lcl_option_set *set, bool gram,
                         lc_status (*run)(lc_calibration *, const options *, lc_mask **)) {
    lua_settop(L, 3);
    options o = {.calibrate.gram = gram};
    lc_calibration *c = open_calibration(L, set, 3, &o);
    int calibration = lua_gettop(L);
    lc_mask **mask = lcl_push(L, &LCL_MASK);
    lua_State *outer = lcl_enter(L);
    lc_status status = run(c, &o, mask);
    lcl_leave(outer);
    lcl_close(L, calibration);
    return lcl_done(L, status, 1);
}

static int prune_wanda(lua_State *L) {
    return prune_on_text(L, &wanda_set, false, run_wanda);
}

static int prune_ria(lua_State *L) {
    return prune_on_text(L, &ria_set, false, run_ria);
}

static int prune_sparsegpt(lua_State *L) {
    return prune_on_text(L, &sparsegpt_set, true, run_sparsegpt);
}

/* -- scores written in Lua ---------------------------------------------------------------------------------------- */

typedef struct score_job {
    lc_layer *layer;
    const lc_layer_stats *stats; /* NULL where there is no data */
    lc_scores *out;
} score_job;

/* Arguments: the job, and the user's function. */
static int score_protected(lua_State *L) {
    score_job *job = lua_touserdata(L, 1);
    lcl_push_layer(L, job->layer);
    if (job->stats)
        lcl_push_stats(L, job->stats);
    else
        lua_pushnil(L);
    lua_call(L, 2, 1);
    lc_tensor *scores = lcl_test(L, -1, &LCL_TENSOR);
    if (!scores)
        lcl_error(L, "prune.by: %s: the function must return a tensor of scores %s, got %s", job->layer->name,
                  LC_SHAPE(job->layer->weight->leaf), lcl_describe(L, -1));
    job->out->values = lc_tensor_retain(scores);
    return 0;
}

/* Calls the function at stack index *context of the running coroutine. */
static lc_status call_score(void *context, score_job *job) {
    lua_State *L = lcl_running();
    lua_pushcfunction(L, score_protected);
    lua_pushlightuserdata(L, job);
    lua_pushvalue(L, *(int *)context);
    return lcl_call(L, 2, 0);
}

static lc_status score_layer(void *context, lc_layer *layer, lc_scores *out) {
    return call_score(context, &(score_job){layer, NULL, out});
}

static lc_status score_stats(void *context, const lc_layer_stats *stats, lc_tensor *W, lc_scores *out) {
    (void)W; /* the function sees the layer's own */
    return call_score(context, &(score_job){stats->layer, stats, out});
}

static int prune_by(lua_State *L) {
    lua_settop(L, 4);
    lc_selection *layers = lcl_layers(L, 1);
    if (!lua_isfunction(L, 3)) lcl_expected(L, 3, "a function(layer, stats) that returns scores, higher kept");
    options o = {0};
    lc_calibration *c = NULL;
    if (lua_isnil(L, 2))
        lcl_pruning_options(L, 4, &by_set, layers, &o);
    else
        c = open_calibration(L, &by_set, 4, &o);
    if (!c && o.common.core.refine) lcl_error(L, "prune.by: swap and reconstruct need data to measure errors on");
    int function = 3, calibration = lua_gettop(L);
    lc_mask **mask = lcl_push(L, &LCL_MASK);
    bool recording = lc_set_recording(false);
    lua_State *outer = lcl_enter(L);
    lc_status status = c ? lc_prune_scored(c, score_stats, &function, &o.common.core, mask)
                         : lc_prune("prune.by", layers, score_layer, &function, &o.common.core, mask);
    lcl_leave(outer);
    lc_set_recording(recording);
    if (c) lcl_close(L, calibration);
    return lcl_done(L, status, 1);
}

static const lcl_function functions[] = {
    {"magnitude", prune_magnitude, "lc.prune.magnitude(layers, [data,] {sparsity | pattern, ...}) -> mask",
     "Prunes the weights of smallest magnitude and holds the mask. Text is not looked at.", &magnitude_set},
    {"random", prune_random, "lc.prune.random(layers, [data,] {sparsity | pattern, ...}) -> mask",
     "Prunes weights drawn at random: the baseline. Text is not looked at.", &random_set},
    {"wanda", prune_wanda, "lc.prune.wanda(layers, data, {sparsity | pattern, ...}) -> mask",
     "Prunes by |w| times the norm of its input over the text, within rows (Sun et al. 2024).", &wanda_set},
    {"ria", prune_ria, "lc.prune.ria(layers, data, {sparsity | pattern, ...}) -> mask",
     "Prunes by a weight's share of its row and column, times the root of its input's norm (Zhang et al. 2024).",
     &ria_set},
    {"sparsegpt", prune_sparsegpt, "lc.prune.sparsegpt(layers, data, {sparsity | pattern, ...}) -> mask",
     "Prunes column by column, and moves the weights that stay to make up for it (Frantar & Alistarh 2023).",
     &sparsegpt_set},
    {"by", prune_by,
     "lc.prune.by(layers, data | nil, function(layer, stats) return scores end, {sparsity | pattern, ...}) -> mask",
     "Prunes by your own scores, a tensor (O, I) for each layer; higher is kept. With data, stats are those of "
     "lc.calibrate.",
     &by_set},
    {0},
};

int luaopen_lacuna_prune(lua_State *L);
int luaopen_lacuna_prune(lua_State *L) {
    luaL_requiref(L, "lacuna.core.mask", luaopen_lacuna_mask, 0); /* the metatables must exist */
    luaL_requiref(L, "lacuna.core.calibrate", luaopen_lacuna_calibrate, 0);
    lua_pop(L, 2);
    lua_newtable(L);
    lcl_functions(L, functions);
    lcl_open_refine(L);
    return 1;
}
