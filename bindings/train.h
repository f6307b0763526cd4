/* train.h: trainers as handles, and tensors as the leaves that they train. */
#ifndef LCL_TRAIN_H
#define LCL_TRAIN_H

#include "lcl.h"
#include "run/trainer.h"

extern const lcl_type LCL_TRAINER;

/* The leaf behind a tensor argument: itself, or what a parameter in its file's shape stands for. */
lc_tensor *lcl_leaf(lua_State *L, int arg);
/* Reads field `betas`, {beta1, beta2}, of the table at `arg` into the recipe, when it is there. */
void lcl_betas(lua_State *L, int arg, const char *function, lc_recipe *recipe);

#endif
