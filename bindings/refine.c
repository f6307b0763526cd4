/* refine.c: of lc.prune what solves for weights and shares sparsity out: alps, reconstruct, swap, allocate. */
#include <math.h>
#include <string.h>

#include "calibrate.h"
#include "refine.h"
#include "solve/allocate.h"
#include "solve/alps.h"

/* -- alps --------------------------------------------------------------------------------------------------------- */

typedef struct alps_options {
    lcl_pruning pruning;
    lc_alps_options alps;
} alps_options;

static const lcl_option alps_rows[] = {
    LCL_PRUNE_ROWS,
    LCL_SCOPE_ROW("layer"),
    LCL_SEQUENTIAL_ROW,
    LCL_REFINE_ROWS,
    {"damp", LCL_NUMBER, offsetof(alps_options, alps.damp), .max = 1e6, .fallback = "0.01",
     .doc = "share of the mean of H's diagonal that is added to it"},
    {"epsilon", LCL_NUMBER, offsetof(alps_options, alps.epsilon), .max = 1e300, .fallback = "0",
     .doc = "added to it after that"},
    {"rho", LCL_NUMBER, offsetof(alps_options, alps.rho), .min = 1e-6, .max = 1e6, .fallback = "0.1",
     .doc = "penalty that ADMM begins with"},
    {"iterations", LCL_INT, offsetof(alps_options, alps.iterations), .min = 1, .max = 1e6, .fallback = "300",
     .doc = "of ADMM, at most"},
    {"refine", LCL_INT, offsetof(alps_options, alps.refine), .max = 1e6, .fallback = "10",
     .doc = "steps of conjugate gradients on the support at the end"},
    {0},
};
static const lcl_option_set alps_set = {"prune.alps", alps_rows};

static int prune_alps(lua_State *L) {
    lua_settop(L, 3);
    lc_selection *layers = lcl_layers(L, 1);
    alps_options o = {0};
    lcl_check_data(L, 2);
    lcl_pruning_options(L, 3, &alps_set, layers, &o);
    lc_calibrate_options what = {.sequential = lcl_sequential(L, 3, &alps_set), .gram = true};
    lc_calibration *c = lcl_calibration(L, "prune.alps", layers, 2, &what);
    int calibration = lua_gettop(L);
    lc_mask **mask = lcl_push(L, &LCL_MASK);
    lua_State *outer = lcl_enter(L);
    lc_status status = lc_prune_alps(c, &o.pruning.core, &o.alps, mask);
    lcl_leave(outer);
    lcl_close(L, calibration);
    return lcl_done(L, status, 1);
}

/* -- after-steps by themselves ------------------------------------------------------------------------------------ */

typedef struct refine_options {
    lc_refine_options core;
    const char *pattern;
    bool hold;
} refine_options;

/* clang-format off */
#define REFINE_ROWS                                                                                                    \
    {"target", LCL_ANY, .required = true, .doc = "a snapshot of the model before it was pruned: what its layers did"}, \
    LCL_SEQUENTIAL_ROW,                                                                                                \
    {"hold", LCL_BOOL, offsetof(refine_options, hold), .fallback = "true",                                             \
     .doc = "keep zero in training what is pruned; layers that hold a mask always do"}
/* clang-format on */

static const lcl_option reconstruct_rows[] = {
    REFINE_ROWS,
    {"damp", LCL_NUMBER, offsetof(refine_options, core.damp), .max = 1e6, .fallback = "0",
     .doc = "share of the mean of H's diagonal that is added to it; 0 fits the text alone"},
    {"epsilon", LCL_NUMBER, offsetof(refine_options, core.epsilon), .max = 1e300, .fallback = "0",
     .doc = "added to it after that"},
    {"iterations", LCL_INT, offsetof(refine_options, core.iterations), .min = 1, .max = 1e6, .fallback = "100",
     .doc = "of conjugate gradients, at most, where rows are too long to be solved directly"},
    {0},
};
static const lcl_option_set reconstruct_set = {"prune.reconstruct", reconstruct_rows};

static const lcl_option swap_rows[] = {
    REFINE_ROWS,
    {"pattern", LCL_STRING, offsetof(refine_options, pattern),
     .doc = "'n:m': exchange within groups of m only, so that the pattern stays"},
    {"swaps", LCL_INT, offsetof(refine_options, core.swaps), .min = 1, .max = 1e9, .fallback = "100",
     .doc = "in each row, at most"},
    {"held", LCL_ANY, .doc = "a mask of an earlier round: what it prunes does not come back, in layers that it names"},
    {0},
};
static const lcl_option_set swap_set = {"prune.swap", swap_rows};

static int refine(lua_State *L, const lcl_option_set *set, refine_options *o) {
    lua_settop(L, 3);
    lc_selection *layers = lcl_layers(L, 1);
    lcl_check_data(L, 2);
    lcl_options(L, 3, set, o);
    lcl_field(L, 3, "target");
    lc_snapshot *target = lcl_test(L, -1, &LCL_SNAPSHOT);
    if (!target)
        lcl_error(L, "%s: option 'target' must be a snapshot, as model:snapshot() gives it, got %s", set->function,
                  lcl_describe(L, -1));
    lc_mask *held = NULL;
    if (set == &swap_set && lcl_field(L, 3, "held") != LUA_TNIL && !(held = lcl_test(L, -1, &LCL_MASK)))
        lcl_error(L, "%s: option 'held' must be a mask, got %s", set->function, lcl_describe(L, -1));
    lc_calibrate_options what = {.sequential = lcl_sequential(L, 3, set), .gram = true};
    lc_calibration *c = lcl_calibration(L, set->function, layers, 2, &what);
    int calibration = lua_gettop(L);
    lc_mask **mask = lcl_push(L, &LCL_MASK);
    lua_State *outer = lcl_enter(L);
    lc_status status = lc_prune_refine(c, target, o->pattern, held, o->hold, &o->core, mask);
    lcl_leave(outer);
    lcl_close(L, calibration);
    return lcl_done(L, status, 1);
}

static int prune_reconstruct(lua_State *L) {
    refine_options o = {.core = {.reconstruct = true}};
    return refine(L, &reconstruct_set, &o);
}

static int prune_swap(lua_State *L) {
    refine_options o = {.core = {.swap = true}};
    return refine(L, &swap_set, &o);
}

/* -- allocate ----------------------------------------------------------------------------------------------------- */

typedef struct allocate_options {
    double sparsity, M, lambda;
    bool H;
} allocate_options;

static const lcl_option allocate_rows[] = {
    {"sparsity", LCL_NUMBER, offsetof(allocate_options, sparsity), .required = true, .min = -INFINITY, .max = INFINITY,
     .doc = "of all the layers together, 0 to 1"},
    {"by", LCL_ANY,
     .doc = "'owl', by the outliers in each block (the default); 'uniform'; or a function(layer, stats) that returns a "
            "number, higher kept"},
    {"M", LCL_NUMBER, offsetof(allocate_options, M), .max = INFINITY, .fallback = "5",
     .doc = "owl: how many times the mean makes an outlier"},
    {"lambda", LCL_NUMBER, offsetof(allocate_options, lambda), .max = 1, .fallback = "0.08",
     .doc = "half of how far densities of layers may lie apart"},
    {"H", LCL_BOOL, offsetof(allocate_options, H), .fallback = "false", .doc = "the function's stats have H too"},
    {0},
};
static const lcl_option_set allocate_set = {"prune.allocate", allocate_rows};

/* The function at `by` for each layer. */
static void score_in_lua(lua_State *L, lc_calibration *c, int by, double *scores) {
    int top = lua_gettop(L);
    for (;;) {
        lc_layer_stats stats;
        lua_State *outer = lcl_enter(L);
        lc_status status = lc_calibration_next(c, &stats);
        lcl_leave(outer);
        lcl_done(L, status, 0);
        if (!stats.layer) return;
        lua_pushvalue(L, by);
        lcl_push_layer(L, stats.layer);
        lcl_push_stats(L, &stats);
        lua_call(L, 2, 1);
        if (lua_type(L, -1) != LUA_TNUMBER)
            lcl_error(L, "prune.allocate: %s: the function must return a number, got %s", stats.layer->name,
                      lcl_describe(L, -1));
        scores[stats.index] = lcl_plain(lua_tonumber(L, -1));
        lua_settop(L, top);
    }
}

static void score_by_outliers(lua_State *L, lc_calibration *c, double M, double *scores) {
    lua_State *outer = lcl_enter(L);
    lc_status status = lc_outlier_shares(c, M, scores);
    lcl_leave(outer);
    lcl_done(L, status, 0);
}

static int push_targets(lua_State *L, const lc_selection *layers, const double *targets) {
    lua_createtable(L, 0, (int)layers->n);
    for (int64_t i = 0; i < layers->n; i++) {
        lua_pushnumber(L, targets[i]);
        lua_setfield(L, -2, lc_selection_name(layers, i));
    }
    return 1;
}

static int prune_allocate(lua_State *L) {
    lua_settop(L, 3);
    lc_selection *layers = lcl_layers(L, 1);
    allocate_options o = {0};
    if (!lua_isnil(L, 2)) lcl_check_data(L, 2); /* 'uniform' needs none */
    lcl_options(L, 3, &allocate_set, &o);
    bool function = lcl_field(L, 3, "by") == LUA_TFUNCTION;
    int by = lua_gettop(L);
    const char *way = lua_type(L, by) == LUA_TSTRING ? lua_tostring(L, by) : lua_isnil(L, by) ? "owl" : "";
    bool uniform = strcmp(way, "uniform") == 0;
    lcl_done(L, lc_prune_check_sparsity("prune.allocate", NULL, o.sparsity), 0);
    if (!function && !uniform && strcmp(way, "owl") != 0)
        lcl_error(L, "prune.allocate: option 'by' must be 'owl', 'uniform' or a function, got %s", lcl_describe(L, by));
    double *scores = lua_newuserdatauv(L, (size_t)layers->n * 2 * sizeof *scores, 0), *targets = scores + layers->n;
    memset(scores, 0, (size_t)layers->n * sizeof *scores);
    if (!uniform) {
        lc_calibrate_options what = {.sequential = LC_SEQUENTIAL_OFF, .gram = function && o.H};
        lc_calibration *c = lcl_calibration(L, "prune.allocate", layers, 2, &what);
        if (function)
            score_in_lua(L, c, by, scores);
        else
            score_by_outliers(L, c, o.M, scores);
        lcl_close(L, lua_gettop(L));
    }
    lcl_done(L, lc_allocate("prune.allocate", layers, scores, o.sparsity, o.lambda, targets), 0);
    return push_targets(L, layers, targets);
}

static const lcl_function functions[] = {
    {"alps", prune_alps, "lc.prune.alps(layers, data, {sparsity | pattern, ...}) -> mask",
     "Prunes by ALPS: ADMM finds what stays, conjugate gradients its new values.", &alps_set},
    {"reconstruct", prune_reconstruct, "lc.prune.reconstruct(layers, data, {target, ...}) -> mask",
     "Changes the weights that stay so that each layer does, as nearly as it can on this text, what it did in "
     "`target`.",
     &reconstruct_set},
    {"swap", prune_swap, "lc.prune.swap(layers, data, {target, ...}) -> mask",
     "Exchanges a kept and a pruned weight of a row, the best pair first, as long as that brings the layer nearer to "
     "what it did in `target`.",
     &swap_set},
    {"allocate", prune_allocate, "lc.prune.allocate(layers, data, {sparsity, by, ...}) -> {[layer name] = sparsity}",
     "How sparse each layer is to become when all of them together are to be so sparse: option `sparsity` of every way "
     "of pruning takes the table.",
     &allocate_set},
    {0},
};

void lcl_open_refine(lua_State *L) {
    lcl_functions(L, functions);
}
