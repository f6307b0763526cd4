/* layerwise.h: pruning one layer after another on the statistics of a calibration text: what wanda, sparsegpt and their
 * like have in common. Depends on calibrate, prune.
 *
 * A layer's weights and mask are written when its solver is done, and only then; the layers behind it see them, as the
 * calibration's `sequential` says. What fails or is interrupted leaves the layers before it pruned and held, and the
 * others as they were. */
#ifndef LC_LAYERWISE_H
#define LC_LAYERWISE_H

#include "solve/calibrate.h"
#include "solve/prune.h"

/* One layer's turn. */
typedef struct lc_turn {
    const char *name; /* "prune.sparsegpt": begins messages, before the layer's name */
    const lc_layer_stats *stats;
    const lc_prune_options *options;
    lc_target target;
    const uint8_t *held; /* (O, I): 0 = pruned before, to be pruned first; NULL: nothing is */
    lc_tensor *W;        /* (O, I) contiguous, in the model's type: a copy of the weight, to be changed at will. What is
                            held is 0, or, to be regrown, what it was */
    lc_tensor *keep;     /* bool (O, I): to be filled, 1 = kept. What it prunes of W counts as 0 */
} lc_turn;

typedef lc_status (*lc_solver)(void *context, lc_turn *turn);

/* Prunes the calibration's layers. A layer that holds as much as is asked for, or more, is left alone, and so is one of
 * which the solver prunes nothing that is not held already. With apply = false everything is as it was when done. */
lc_status lc_prune_layerwise(lc_calibration *c, lc_solver solve, void *context, const lc_prune_options *options,
                             lc_mask **out);

/* LC_EINVAL, with the place, unless all of the layer's weights are finite. */
lc_status lc_check_finite(const char *name, const char *layer, lc_tensor *W);
/* LC_ENUMERIC unless what a solver found is finite: weights of 1e38 are, and their products may not be. */
lc_status lc_check_found(const char *name, const char *layer, lc_tensor *W);
/* Writes a layer's weight, W like its leaf and 0 where pruned, and from then on holds `keep` (NULL: leaves what is held
 * as it is). keep_values as in lc_prune_options. All of it or nothing. */
lc_status lc_layer_write(lc_param *p, const lc_tensor *W, lc_bits *keep, bool keep_values);

/* Scores of W (O, I), the layer's weight as pruning starts from it, on the layer's statistics. */
typedef lc_status (*lc_stats_score)(void *context, const lc_layer_stats *stats, lc_tensor *W, lc_scores *out);
/* Prunes by them; survivors keep their values. Scope MODEL needs a calibration with LC_SEQUENTIAL_OFF: LC_EINVAL. */
lc_status lc_prune_scored(lc_calibration *c, lc_stats_score score, void *context, const lc_prune_options *options,
                          lc_mask **out);

#endif
