/* quadratic.h: a layer's error on its calibration text, as the quadratic that solvers lower. Depends on ops.
 *
 * With the inputs' H = sum over tokens of x x^T, the outputs of a row of weights w differ from those of a row t by
 * (w - t) H (w - t)^T, squared and summed over the text. Rows are independent of each other. All of it is in f64. */
#ifndef LC_QUADRATIC_H
#define LC_QUADRATIC_H

#include "base/status.h"

/* Weights (O, I) are to do what T does. */
typedef struct lc_quadratic {
    int64_t O, I;
    const double *H; /* (I, I) symmetric, positive semidefinite */
    const double *T; /* (O, I) */
} lc_quadratic;

/* errors[o] = (w - t) H (w - t)^T for each row of W (O, I). */
lc_status lc_quadratic_errors(const lc_quadratic *q, const double *W, double *errors);

/* Least squares on a fixed support by conjugate gradients, all rows together, preconditioned by H's diagonal. W is the
 * starting point and the result; it must be 0, and stays so, where keep (O, I) is 0. A row is done when its residual,
 * as the preconditioner measures it, is `tolerance` times that of a row of zeros, or after so many iterations. No step
 * raises a row's error. H may be singular. */
lc_status lc_quadratic_descend(const lc_quadratic *q, const uint8_t *keep, int64_t iterations, double tolerance,
                               double *W);

#endif
