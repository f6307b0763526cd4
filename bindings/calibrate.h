/* calibrate.h: calibration data and the options of pruning, for the bindings of methods that use them. */
#ifndef LCL_CALIBRATE_H
#define LCL_CALIBRATE_H

#include "mask.h"
#include "model.h"
#include "solve/layerwise.h"
#include "solve/refine.h"

extern const lcl_type LCL_CALIBRATION; /* lc_calibration * */

/* What every way of pruning is told. A method's own options begin with it. */
typedef struct lcl_pruning {
    lc_prune_options core;
    int scope;
    lc_refine_options refine; /* core.refine points here when there is anything to do after pruning */
} lcl_pruning;

/* Rows of a struct that begins with an lcl_pruning. The first is for all methods, the others for those that rank by
 * scope, and for those with data. */
#define LCL_PRUNE_ROWS                                                                                                 \
    {"sparsity", LCL_ANY,                                                                                              \
     .doc = "share of zeros when done, 0 to 1, what is held included; or a table of them by layer or layer name"},     \
        {"pattern", LCL_STRING, offsetof(lcl_pruning, core.pattern),                                                   \
         .doc = "'n:m' in place of sparsity and scope: n of every m neighbours in a row stay"},                        \
        {"apply", LCL_BOOL, offsetof(lcl_pruning, core.apply), .fallback = "true",                                     \
         .doc = "zero the weights; false only makes the mask"},                                                        \
        {"hold", LCL_BOOL, offsetof(lcl_pruning, core.hold), .fallback = "true", .doc = "keep them zero in training"}, \
        {"regrow", LCL_BOOL, offsetof(lcl_pruning, core.regrow), .fallback = "false",                                  \
         .doc = "rank again what is held"},                                                                            \
    {                                                                                                                  \
        "keep_values", LCL_BOOL, offsetof(lcl_pruning, core.keep_values),                                              \
            .fallback = "false", .doc = "remember the pruned weights, for regrow"                                      \
    }
#define LCL_SCOPE_ROW(choice)                                                                                 \
    {                                                                                                         \
        "scope", LCL_CHOICE, offsetof(lcl_pruning, scope), .choices = lcl_scopes, .fallback = "'" choice "'", \
                                                           .doc = "within what scores are compared"           \
    }
#define LCL_SEQUENTIAL_ROW                                                                                           \
    {                                                                                                                \
        "sequential", LCL_ANY,                                                                                       \
            .doc = "where inputs come from: 'block', the blocks before as they are by then (the default); 'layer', " \
                   "the layers "                                                                                     \
                   "before; false, the model as it was"                                                              \
    }
/* For methods with data: what is done to each layer afterwards. */
#define LCL_REFINE_ROWS                                                                                            \
    {"swap", LCL_BOOL, offsetof(lcl_pruning, refine.swap), .fallback = "false",                                    \
     .doc = "then exchange kept and pruned weights of a row, or n:m group, as long as its error falls"},           \
    {                                                                                                              \
        "reconstruct", LCL_BOOL, offsetof(lcl_pruning, refine.reconstruct),                                        \
            .fallback = "false", .doc = "then least squares: what stays makes up for what went, as well as it can" \
    }
extern const char *const lcl_scopes[];

/* Reads the options at `arg` into `out`, whose first member is an lcl_pruning, those for `layers` among them. May push
 * a value, which keeps what it reads. */
void lcl_pruning_options(lua_State *L, int arg, const lcl_option_set *set, const lc_selection *layers, void *out);
/* The option 'sequential' of the table at `arg`. */
lc_sequential lcl_sequential(lua_State *L, int arg, const lcl_option_set *set);
/* The dataset at `data`; NULL for a list of batches, or a function that gives the i-th. Raises for anything else. */
lc_dataset *lcl_check_data(lua_State *L, int data);
/* Pushes a calibration of these layers on the data at `data`. */
lc_calibration *lcl_calibration(lua_State *L, const char *name, const lc_selection *layers, int data,
                                const lc_calibrate_options *options);
/* Pushes {H, norm, n, input}: tensors of Lua's own. */
void lcl_push_stats(lua_State *L, const lc_layer_stats *stats);

int luaopen_lacuna_calibrate(lua_State *L);

#endif
