/* clock.c: see clock.h. */
#include "model/clock.h"

static lc_clock shown;

lc_clock lc_clock_now(void) {
    return shown;
}

void lc_clock_show(const lc_clock *clock) {
    shown = *clock;
}
