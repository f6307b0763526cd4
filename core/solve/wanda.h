/* wanda.h: pruning by scores from weights and the norms of inputs alone: no weight that stays is changed. Depends on
 * layerwise. The calibration needs no H. */
#ifndef LC_WANDA_H
#define LC_WANDA_H

#include "solve/layerwise.h"

/* |w_ij| times the norm of input j (Sun et al. 2024, "A simple and effective pruning approach for large language
 * models"; compared within rows there). */
lc_status lc_prune_wanda(lc_calibration *c, const lc_prune_options *options, lc_mask **out);

/* Relative importance and activation (Zhang et al. 2024, "Plug-and-play: an efficient post-training pruning method for
 * large language models"): (|w_ij| / sum of column j + |w_ij| / sum of row i) times the norm of input j to the `power`
 * (a in the paper, 0.5 there). */
lc_status lc_prune_ria(lc_calibration *c, double power, const lc_prune_options *options, lc_mask **out);

#endif
