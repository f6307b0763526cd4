/* allocate.h: how sparse each layer becomes when all of them together are to be so sparse. Depends on calibrate.
 *
 * Scores of layers, higher kept, become targets as in OWL (Yin et al. 2024, "Outlier weighed layerwise sparsity (OWL): a
 * missing secret sauce for pruning LLMs to high sparsity"): densities spread over at most 2 lambda, in proportion to the
 * scores, about the density asked for. */
#ifndef LC_ALLOCATE_H
#define LC_ALLOCATE_H

#include "solve/calibrate.h"

/* OWL's score: shares[i] of the weights in the i-th layer's block have |w| times the norm of their input above M times
 * that product's mean over the block's selected layers. A layer outside all blocks stands for itself. The calibration
 * has no part but norms to give. LC_EINVAL for NaN, with the layer. */
lc_status lc_outlier_shares(lc_calibration *c, double M, double *shares);

/* targets[i] = 1 - d_i, the i-th layer's sparsity, where d_i = 2 lambda (s_i - min s) / (max s - min s) + shift, brought
 * into 0..1; the shift is such that the layers together, each counted by its weights, are as sparse as asked for. Equal
 * scores, or lambda = 0, give every layer `sparsity`. LC_EINVAL, after `name`, for a score that is not finite. */
lc_status lc_allocate(const char *name, const lc_selection *layers, const double *scores, double sparsity,
                      double lambda, double *targets);

#endif
