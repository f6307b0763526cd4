/* scratch.h: writing a rule as a chain of expressions.
 *
 * A scratch keeps every temporary that a rule makes and remembers the first failure; after it each step gives NULL and
 * does nothing, so that a rule reads as its formula and has one check, at its end. Tensors returned by the steps below
 * are borrowed from the scratch. */
#ifndef LC_SCRATCH_H
#define LC_SCRATCH_H

#include "grad/rules.h"

#define LC_SCRATCH_TENSORS 40

typedef struct lc_scratch {
    lc_status status;
    int n;
    lc_tensor *kept[LC_SCRATCH_TENSORS];
} lc_scratch; /* starts as {0} */

/* Any op: the outputs beyond the first come in out[1..], which may be NULL. */
lc_tensor *lc_step(lc_scratch *s, lc_op op, const lc_attr *attr, lc_tensor *const *in, int n_in, lc_tensor **out);
lc_tensor *lc_step1(lc_scratch *s, lc_op op, lc_tensor *x);
lc_tensor *lc_step2(lc_scratch *s, lc_op op, lc_tensor *a, lc_tensor *b);
/* `op` along `dim` (-1 = all), the dimension kept. */
lc_tensor *lc_step_dim(lc_scratch *s, lc_op op, lc_tensor *x, int dim);
/* x op value, for any op of two inputs. */
lc_tensor *lc_step_number(lc_scratch *s, lc_op op, lc_tensor *x, double value);
static inline lc_tensor *lc_step_times(lc_scratch *s, lc_tensor *x, double value) {
    return lc_step_number(s, LC_OP_MUL, x, value);
}
/* x where the condition holds, 0 elsewhere. */
lc_tensor *lc_step_where(lc_scratch *s, lc_tensor *condition, lc_tensor *x);
lc_tensor *lc_step_unless(lc_scratch *s, lc_tensor *condition, lc_tensor *x);
/* The number `value` in a shape, of the given type, on the device of `like`. */
lc_tensor *lc_step_filled(lc_scratch *s, lc_tensor *like, lc_dtype dtype, int ndim, const int64_t *shape, double value);
/* The i64 numbers 0..n-1. */
lc_tensor *lc_step_counted(lc_scratch *s, lc_tensor *like, int64_t n);
/* a b, or into += a b when `into` is given (then NULL is returned). */
lc_tensor *lc_step_matmul(lc_scratch *s, lc_tensor *a, lc_tensor *b, lc_tensor *into);

/* Views, and a copy where a view cannot do it. */
lc_tensor *lc_step_reshape(lc_scratch *s, lc_tensor *x, int ndim, const int64_t *shape);
lc_tensor *lc_step_expand(lc_scratch *s, lc_tensor *x, int ndim, const int64_t *shape);
lc_tensor *lc_step_swap(lc_scratch *s, lc_tensor *x); /* the last two dimensions exchanged */
lc_tensor *lc_step_slice(lc_scratch *s, lc_tensor *x, int dim, int64_t start, int64_t length);
/* A reduction's t (its output or dy) with the reduced dimensions put back at size 1: it broadcasts against the input.
 */
lc_tensor *lc_step_unreduced(lc_scratch *s, const lc_rule_call *call, lc_tensor *t);

/* Makes t the gradient of input i. NULL is no gradient. */
void lc_scratch_give(lc_scratch *s, lc_rule_call *call, int i, lc_tensor *t);
/* Releases the temporaries, and on failure the gradients given; the rule's result. */
lc_status lc_scratch_finish(lc_scratch *s, lc_rule_call *call);

#endif
