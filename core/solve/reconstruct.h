/* reconstruct.h: least squares on a support: the weights that stay make up for those that went. Depends on quadratic. */
#ifndef LC_RECONSTRUCT_H
#define LC_RECONSTRUCT_H

#include "solve/quadratic.h"

/* Each row of W becomes the one of least error among those that are 0 where keep (O, I) is 0; W must be so before.
 * Rows of at most 384 kept weights are solved directly, by a Cholesky factor of H on their support; larger ones, and
 * all of them where some H on a support is singular or nearly so, by at most `iterations` steps of conjugate gradients
 * from W. No row's error rises. */
lc_status lc_reconstruct(const lc_quadratic *q, const uint8_t *keep, int64_t iterations, double *W);

#endif
