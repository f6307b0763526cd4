/* alps.h: ALPS (Meng et al. 2024, "ALPS: improved optimization for highly sparse one-shot pruning for large language
 * models"): ADMM finds the support, conjugate gradients the weights on it. Depends on layerwise, quadratic.
 *
 * Inputs are scaled so that the damped H has a diagonal of ones. With its eigenvectors at hand, the inverse of
 * H + rho for any rho is one product; ADMM then repeats, for weights B, their sparse copy D and multipliers V,
 *     B = (T H - V + rho D) (H + rho)^-1        D = the largest of B + V / rho        V = V + rho (B - D),
 * and rho grows with what the support still changes (section 3.2, and the published code):
 *     looked at every 3rd iteration, as the share of kept weights that came or went since the last look:
 *     > 0.1: rho x 1.3;  > 0.005: rho x 1.2;  > 0: rho x 1.1;  none: done; done, too, from the 31st iteration on, when it
 *     is below 0.0003. While rho has never grown, the support hardly moving means that rho began too high: it is divided
 *     by 5, and, unless nothing at all has moved, everything starts over.
 * The support is that of the largest B at the end, and the weights come from preconditioned conjugate gradients on it.
 *
 * Where this differs from the published code: exactly floor(sparsity n) weights are pruned, ties by place, held weights
 * first (there: round((1 - sparsity) n) kept); after each projection V is exactly 0 where D is not, as it is there up to
 * rounding; the conjugate gradients run in f64 and end early for rows whose residual on the support is small (there: it
 * is measured on all weights, and never is); an input that is never seen, without damping, counts as of norm 1. */
#ifndef LC_ALPS_H
#define LC_ALPS_H

#include "solve/layerwise.h"

typedef struct lc_alps_options {
    double damp;        /* share of H's mean diagonal that is added to it; published: 0.01 */
    double epsilon;     /* added after that; 0 */
    double rho;         /* the first; 0.1 */
    int64_t iterations; /* of ADMM, at most; 300 */
    int64_t refine;     /* steps of conjugate gradients; 10 */
} lc_alps_options;

/* A solver for lc_prune_layerwise; context: lc_alps_options. Needs H. Scope LAYER or ROW. LC_EINVAL for NaN and inf weights. */
lc_status lc_alps_solve(void *context, lc_turn *turn);

/* Prunes by it. The calibration has H. LC_EINVAL for scope MODEL: errors of layers cannot be compared. */
lc_status lc_prune_alps(lc_calibration *c, const lc_prune_options *options, const lc_alps_options *alps, lc_mask **out);

#endif
