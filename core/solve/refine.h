/* refine.h: what is done to a pruned layer after its mask was chosen: exchanges in the mask (swap.h), then least squares
 * on the support (reconstruct.h). Depends on calibrate, mask. */
#ifndef LC_REFINE_H
#define LC_REFINE_H

#include "mask/mask.h"
#include "solve/calibrate.h"

typedef struct lc_refine_options {
    bool swap;
    int64_t swaps; /* in each row, at most */
    bool reconstruct;
    int64_t iterations; /* of conjugate gradients, at most, where rows are too long for a direct solution */
    double damp,
        epsilon; /* share of H's mean diagonal, and number, that are added to its diagonal; 0: the text alone */
} lc_refine_options;

/* Swaps and least squares as they are when only asked for: 100 swaps a row, 100 iterations, no damping. */
lc_refine_options lc_refine_defaults(void);

/* One layer. W (O, I), contiguous, is 0 where keep (bool) is; it is to do what T (O, I) did. `group` and `held`: of
 * lc_swap. Changes W, and with `swap` keep. LC_EINVAL, with the layer, for NaN and inf in W or T; LC_ENUMERIC
 * when the weights that were found are not finite. */
lc_status lc_refine(const char *name, const lc_layer_stats *stats, const lc_refine_options *options, int64_t group,
                    const uint8_t *held, lc_tensor *T, lc_tensor *W, lc_tensor *keep);

/* Refines the calibration's layers, one after another, towards their weights in `target`. A layer's support is the mask
 * it holds, or, where it holds none, what is not 0; a layer that is wholly kept is left alone. pattern "n:m" (NULL =
 * none): exchanges stay within groups of m. What the mask `held` prunes (NULL = nothing) never comes back: that of an
 * earlier round. Layers that held a mask hold the refined one; with `hold` the others do too. *out is the mask. Fails as
 * lc_prune_layerwise does, and with LC_EINVAL for a target without such a weight. */
lc_status lc_prune_refine(lc_calibration *c, const lc_snapshot *target, const char *pattern, const lc_mask *held,
                          bool hold, const lc_refine_options *options, lc_mask **out);

#endif
