/* factor.h: the factor that second-order pruning works with, on all threads. Depends on tensor, base. */
#ifndef LC_FACTOR_H
#define LC_FACTOR_H

#include "base/status.h"

/* A (n, n), f64, symmetric positive definite, of which the lower triangle is read, becomes the upper triangular U with
 * A^-1 = U^T U: the upper Cholesky factor of the inverse, without the inverse. *row is the row where A turned out not to
 * be positive definite, from 0 and counted from the last, or -1; then A's content is lost. The same bits at any number
 * of threads. */
lc_status lc_inverse_factor(int64_t n, double *A, int64_t *row);

#endif
