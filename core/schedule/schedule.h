/* schedule.h: values that vary over a training loop.
 *
 * A schedule is an immutable value that gives a number at a moment. A moment is a step t (from 1) of n, seen as the
 * share of optimizer steps done before it, (t - 1) / n. A knot takes effect at the first step with (t - 1) / n >= from,
 * compared as doubles. Knots hold their value until the next; ramps go from one to the next. Schedules are counted
 * references. */
#ifndef LC_SCHEDULE_H
#define LC_SCHEDULE_H

#include "base/status.h"

typedef struct lc_schedule lc_schedule;

/* One knot: `value` from the share `from` of training on, or from the optimizer step `step` (from 1) on. step = 0: by
 * share. */
typedef struct lc_knot {
    double value, from;
    int64_t step;
} lc_knot;

typedef enum lc_curve { LC_CURVE_HOLD, LC_CURVE_LINEAR, LC_CURVE_CUBIC, LC_CURVE_COSINE } lc_curve;

/* The share of steps done before step t (from 1) of n. */
static inline double lc_progress(int64_t t, int64_t n) {
    return n > 0 ? (double)(t - 1) / (double)n : 0.0;
}

/* Knots in the order of their moments. All by share, or all by step; the first may always be {value, from = 0}. Before
 * the first and after the last knot of a ramp its value holds; held knots must begin at 0. With s the way from one knot
 * to the next in 0..1, a ramp from a to b is, linear: a + (b - a) s; cubic: b + (a - b)(1 - s)^3 (gradual pruning, Zhu
 * & Gupta 2017); cosine: a + (b - a)(1 - cos(pi s)) / 2. LC_EINVAL says which knot is wrong. */
lc_status lc_schedule_knots(const lc_knot *knots, int n, lc_curve curve, lc_schedule **out);
lc_status lc_schedule_constant(double value, lc_schedule **out);
lc_status lc_schedule_add(lc_schedule *a, lc_schedule *b, lc_schedule **out);
lc_status lc_schedule_multiply(lc_schedule *a, lc_schedule *b, lc_schedule **out);
/* a, kept within low..high. */
lc_status lc_schedule_clamp(lc_schedule *a, double low, double high, lc_schedule **out);
/* `outer` at the share of training that `inner` gives. LC_EINVAL when outer has knots by step. */
lc_status lc_schedule_compose(lc_schedule *outer, lc_schedule *inner, lc_schedule **out);
lc_schedule *lc_schedule_retain(lc_schedule *s);
void lc_schedule_release(lc_schedule *s); /* NULL is fine */

/* The value at a share of training; `step` (from 1) is read by knots given by step only. */
double lc_schedule_at(const lc_schedule *s, double progress, int64_t step);
/* True when some knot is given by step, so that a share alone does not tell the value. */
bool lc_schedule_by_step(const lc_schedule *s);
/* "schedule {0, from 0}, {0.9, from 0.25}" into fresh memory (lc_free). `digits` of each number: 6 for people, 17 to tell
 * any two numbers apart. */
lc_status lc_schedule_text(const lc_schedule *s, int digits, char **out);

/* -- learning rates: a factor on the base rate, as in transformers -- */
typedef enum lc_decay { LC_DECAY_CONSTANT, LC_DECAY_LINEAR, LC_DECAY_COSINE, LC_DECAY_SCHEDULE } lc_decay;

/* The factor at step t (from 1) of n. Warm-up takes `warmup` steps and rises in a line from 0 at the first; then
 * constant 1, a line or half a cosine down to 0 at n. With LC_DECAY_SCHEDULE `s` gives the factor, times the warm-up's.
 */
double lc_rate_factor(lc_decay decay, const lc_schedule *s, int64_t warmup, int64_t t, int64_t n);

#endif
