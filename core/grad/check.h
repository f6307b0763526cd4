/* check.h: the gradient checker. */
#ifndef LC_CHECK_H
#define LC_CHECK_H

#include "grad/graph.h"

/* Compares the recorded gradient of sum(weights * f(x...)) with central differences in f64, for every element of every
 * input. f gets the inputs and gives one float tensor. The worst |difference| / max(1, |value|) is written to *worst.
 * LC_EDTYPE unless every input is an f64 leaf. */
lc_status lc_gradient_check(lc_status (*f)(void *context, lc_tensor *const *x, int n, lc_tensor **y), void *context,
                            lc_tensor *const *x, int n, double step, double *worst);

#endif
