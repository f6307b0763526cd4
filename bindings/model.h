/* model.h: models, layers and selections as handles, and what other bindings take from them. */
#ifndef LCL_MODEL_H
#define LCL_MODEL_H

#include "lcl.h"
#include "model/selection.h"

extern const lcl_type LCL_MODEL;     /* lc_model *      bindings/model.c */
extern const lcl_type LCL_SNAPSHOT;  /* lc_snapshot *   bindings/model.c */
extern const lcl_type LCL_SELECTION; /* lc_selection *  bindings/selection.c */
extern const lcl_type LCL_LAYER;     /* lc_layer *      bindings/layer.c */
extern const lcl_type LCL_BLOCK;     /* lc_block *      bindings/layer.c */
extern const lcl_type
    LCL_INSTALLED; /* lc_installed *  bindings/method.c: what layer:transform and layer:replace give */

/* Pushes the handle of a layer, a block, or of a parameter's tensor in its file's shape. A part has one handle as long
 * as that lives, so that handles can be keys of tables. */
void lcl_push_layer(lua_State *L, lc_layer *layer);
void lcl_push_block(lua_State *L, lc_block *block);
void lcl_push_param(lua_State *L, lc_param *param);

/* The parts of `model` that the argument chooses: a selection, a layer, block or parameter, a role, name or glob, a
 * list of those, a function(thing, name) -> whether, or nil for all. Layers and blocks stand for their parameters where
 * those are wanted. Pushes one value, which keeps it. */
lc_selection *lcl_selection(lua_State *L, int arg, lc_model *model, lc_part part);
/* A selection of layers, one layer, or a list of layers, whose model is not known beforehand. Pushes one value. */
lc_selection *lcl_layers(lua_State *L, int arg);

/* Reads a table {ids, labels, attention_mask, token_type_ids}, or ids alone, into *batch. Pushes four values, which
 * keep the tensors: those are borrowed. */
void lcl_batch(lua_State *L, int arg, lc_batch *batch);
/* The integers of one such field as (B, T); a list of T is one row. Pushes one value. */
lc_tensor *lcl_rows(lua_State *L, int index);

/* Registers the types of selection.c, layer.c and method.c; called when lacuna.core.model opens. */
void lcl_open_selection(lua_State *L);
void lcl_open_layer(lua_State *L);
void lcl_open_method(lua_State *L);

/* model:generate, and its options. bindings/generate.c */
int lcl_model_generate(lua_State *L);
extern const lcl_option_set lcl_generate_set;

/* layer:transform and layer:replace. bindings/method.c */
int lcl_layer_transform(lua_State *L);
int lcl_layer_replace(lua_State *L);
/* Warns where transforms are installed that a model's file does not have. */
void lcl_warn_of_transforms(lua_State *L, lc_model *m);

#endif
