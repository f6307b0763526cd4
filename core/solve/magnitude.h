/* magnitude.h: pruning that looks at nothing but the weights, or not even at them. Depends on prune. */
#ifndef LC_MAGNITUDE_H
#define LC_MAGNITUDE_H

#include "solve/prune.h"

/* The smallest |w| go (Han et al. 2015, "Learning both weights and connections for efficient neural networks").
 * LC_EINVAL for NaN weights. */
lc_status lc_prune_magnitude(const lc_selection *layers, const lc_prune_options *options, lc_mask **out);

/* Weights drawn without replacement go: the baseline that every score has to beat. Each layer has its own stream, so
 * the same seed prunes a layer alike whatever else is selected, and more of it at a higher sparsity. */
lc_status lc_prune_random(const lc_selection *layers, const lc_prune_options *options, uint64_t seed, lc_mask **out);

#endif
