/* clock.h: the time that installed things read. Each training loop sets its model's clock before a step's first forward
 * pass; outside a loop the last values stay (0 before any). */
#ifndef LC_CLOCK_H
#define LC_CLOCK_H

#include "base/status.h"

typedef struct lc_clock {
    int64_t step;    /* the optimizer step that runs now, from 1; 0 before any */
    double progress; /* share of optimizer steps done: (step - 1) / steps */
    bool training;   /* the forward pass that runs now, or ran last, is a training one (dropout on) */
} lc_clock;

/* The clock of the model whose forward pass runs now, or ran last: what a function that knows no model reads, such as
 * lc.func's. Zeros before any pass. */
lc_clock lc_clock_now(void);
/* Called by a model when a pass begins. */
void lc_clock_show(const lc_clock *clock);

#endif
