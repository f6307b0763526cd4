/* sparsegpt.h: pruning with compensation, column by column (Frantar & Alistarh 2023, "SparseGPT: massive language models
 * can be accurately pruned in one-shot"). Depends on layerwise. The calibration must give H. */
#ifndef LC_SPARSEGPT_H
#define LC_SPARSEGPT_H

#include "solve/layerwise.h"

typedef struct lc_sparsegpt_options {
    double damp;        /* added to H's diagonal: this share of its mean */
    double epsilon;     /* and this, after that; of H = 2 / rows sum x x^T, as published */
    int64_t block;      /* columns between two updates of the rest of the weights; 128 in the paper */
    int64_t mask_block; /* columns whose mask is chosen together, over all rows; divides block; 0 = block */
    bool exact;         /* prune floor(sparsity n) of each mask block; false: one more, as the published code does */
} lc_sparsegpt_options;

/* Changes the weights that stay. LC_ENUMERIC for a Hessian that is not positive definite, LC_EINVAL for blocks that do
 * not fit and for weights that are not finite. options->scope is not read: the unit is the mask block, or the group of an n:m pattern, whose m rounds `block`
 * up to a multiple of itself. */
lc_status lc_prune_sparsegpt(lc_calibration *c, const lc_sparsegpt_options *how, const lc_prune_options *options,
                             lc_mask **out);

#endif
