/* schedule.h: schedules as arguments: wherever a value may vary in time, a number, a knot list or a schedule is taken.
 */
#ifndef LCL_SCHEDULE_H
#define LCL_SCHEDULE_H

#include "lcl.h"
#include "schedule/schedule.h"

extern const lcl_type LCL_SCHEDULE;

/* The schedule that the value at `arg` means; pushes one value, which keeps it. Module lacuna.core.schedule must be
 * open. */
lc_schedule *lcl_schedule(lua_State *L, int arg);

#endif
