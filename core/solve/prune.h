/* prune.h: from scores to a mask that is applied and held: what every way of pruning has in common. Depends on mask,
 * model.
 *
 * The count is exact: of each unit's n weights, floor(sparsity n) are pruned, those with the lowest scores; of equal
 * scores the ones with the lower index stay. What a layer's held mask has pruned goes first and stays; so a sparsity at
 * or below the held one changes nothing. */
#ifndef LC_PRUNE_H
#define LC_PRUNE_H

#include "mask/mask.h"

/* Within what weights are compared with each other. */
typedef enum lc_scope { LC_SCOPE_LAYER, LC_SCOPE_ROW, LC_SCOPE_MODEL } lc_scope;

typedef struct lc_prune_options {
    double sparsity;     /* share of zeros when done, 0..1; NAN = not given */
    const char *pattern; /* "n:m": n of every m neighbours in a row stay (1 - n/m pruned); NULL = none. In place of
                            sparsity and scope */
    lc_scope scope;
    bool apply;  /* zero what is pruned; false only makes the mask */
    bool hold;   /* and keep it zero in training */
    bool regrow; /* held weights are ranked again, by their old values where the mask was held with keep_values, else as
                    0; what comes back starts from that value */
    bool keep_values; /* remember the weights that go */
} lc_prune_options;

/* One layer's scores (O, I), f32 or f64; higher stays. With `absolute` their magnitude counts. */
typedef struct lc_scores {
    lc_tensor *values;
    bool absolute;
} lc_scores;

/* Asked for each selected layer in turn; out->values is a fresh reference. */
typedef lc_status (*lc_score)(void *context, lc_layer *layer, lc_scores *out);

/* Prunes the selected layers by score. `name` ("prune.magnitude") begins the messages. LC_EINVAL for options that make
 * no sense, and for scores that are NaN, with the layer and the place. Weights are written only when every score and
 * the whole mask are there. */
lc_status lc_prune(const char *name, const lc_selection *layers, lc_score score, void *context,
                   const lc_prune_options *options, lc_mask **out);

#endif
