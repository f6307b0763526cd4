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

#endif
