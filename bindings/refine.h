/* refine.h: the part of lc.prune in refine.c. */
#ifndef LCL_REFINE_H
#define LCL_REFINE_H

#include "lcl.h"

/* Adds alps, reconstruct, swap and allocate to the table on top of the stack. */
void lcl_open_refine(lua_State *L);

#endif
