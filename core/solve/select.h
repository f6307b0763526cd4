/* select.h: exactly which weights go: of many scores, the given number of lowest ones. Depends on tensor.
 *
 * Scores are read where they are; nothing is sorted or gathered, so that a whole model can be ranked in place: the
 * threshold is found by counting (a radix selection, 8 bits at a time), then ties are cut by position. */
#ifndef LC_SOLVE_SELECT_H
#define LC_SOLVE_SELECT_H

#include "tensor/tensor.h"

/* A run of n consecutive scores and what becomes of them. */
typedef struct lc_ranked {
    lc_dtype dtype; /* of the scores: f32 or f64 */
    const void *scores;
    bool absolute;       /* their magnitude counts */
    const uint8_t *held; /* 0 = pruned before: ranks below every score. NULL = none */
    uint8_t *keep;       /* the answer: 1 = kept */
    int64_t n;
} lc_ranked;

/* The index of the first NaN, or -1. */
int64_t lc_ranked_nan(const lc_ranked *r);
/* The elements [start, start + n) of r. */
lc_ranked lc_ranked_part(const lc_ranked *r, int64_t start, int64_t n);

/* Prunes the `pruned` lowest of all parts taken together, at least those that were pruned before; of equal scores those
 * with the lower index stay (parts in their order). LC_ECANCEL. */
lc_status lc_prune_lowest(const lc_ranked *parts, int64_t n_parts, int64_t pruned);
/* The same for each group of m neighbours, of which n stay; m divides r->n. */
lc_status lc_prune_groups(const lc_ranked *r, int64_t n, int64_t m);

#endif
