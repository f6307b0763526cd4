/* mask.h: masks as handles, for the bindings that make them. */
#ifndef LCL_MASK_H
#define LCL_MASK_H

#include "lcl.h"
#include "mask/mask.h"

extern const lcl_type LCL_MASK; /* lc_mask *  bindings/mask.c */

/* lacuna.core.mask. */
int luaopen_lacuna_mask(lua_State *L);

#endif
