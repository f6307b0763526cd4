/* prune.h: from scores to a mask that is applied and held: what every way of pruning has in common. Depends on mask,
 * model.
 *
 * The count is exact: of each unit's n weights, floor(sparsity n) are pruned, those with the lowest scores; of equal
 * scores the ones with the lower index stay. What a layer's held mask has pruned goes first and stays. A layer that
 * holds as much as is asked for in all is left alone, also where its rows hold more and less than that. */
#ifndef LC_PRUNE_H
#define LC_PRUNE_H

#include "mask/mask.h"
#include "solve/select.h"

/* Within what weights are compared with each other. */
typedef enum lc_scope { LC_SCOPE_LAYER, LC_SCOPE_ROW, LC_SCOPE_MODEL } lc_scope;

typedef struct lc_prune_options {
    double sparsity;       /* share of zeros when done, 0..1; NAN = not given */
    const double *targets; /* in place of it: one for each selected layer, in that order; NULL = none */
    const char *pattern;   /* "n:m": n of every m neighbours in a row stay (1 - n/m pruned); NULL = none. In place of
                            sparsity and scope */
    lc_scope scope;
    bool apply;  /* zero what is pruned; false only makes the mask */
    bool hold;   /* and keep it zero in training */
    bool regrow; /* held weights are ranked again, by their old values where the mask was held with keep_values, else as
                    0; what comes back starts from that value */
    bool keep_values;                       /* remember the weights that go */
    const struct lc_refine_options *refine; /* after-steps on each layer's statistics (refine.h); NULL = none */
} lc_prune_options;

/* One layer's scores (O, I), f32 or f64; higher stays. With `absolute` their magnitude counts. */
typedef struct lc_scores {
    lc_tensor *values;
    bool absolute;
} lc_scores;

/* How much of one layer goes. */
typedef struct lc_target {
    double sparsity;
    int64_t n, m; /* n of every m stay; m = 0: any weights may go */
} lc_target;

/* What the options ask of each selected layer, into fresh memory (lc_free). Checks them all: LC_EINVAL, LC_ESHAPE; and
 * LC_ESTATE in the middle of a training step. */
lc_status lc_prune_targets(const char *name, const lc_selection *layers, const lc_prune_options *options,
                           lc_target **out);
/* LC_EINVAL, with what to write for 90, unless it is a share; `where` is the layer whose own target it is, or NULL. */
lc_status lc_prune_check_sparsity(const char *name, const char *where, double sparsity);
/* What they ask of all of them together: each layer counts by its weights. */
double lc_prune_requested(const lc_selection *layers, const lc_target *targets);
/* floor(sparsity n), the number that is pruned of n weights. */
int64_t lc_prune_count(double sparsity, int64_t n);
/* Where the layer holds all that is asked for, or more, or nothing is asked for: *keep is what stays, a fresh reference.
 * Else, and where held weights are to be ranked again, NULL. */
lc_status lc_prune_held_enough(const lc_param *p, const lc_target *target, bool regrow, lc_bits **keep);
/* Prunes one layer by its scores, rows of `inputs` each; scope LAYER or ROW. */
lc_status lc_prune_layer(const lc_ranked *scores, int64_t inputs, const lc_target *target, lc_scope scope);
/* The weight that is ranked: the leaf itself, retained; with `regrow`, where old values were remembered, a fresh tensor
 * that has them again. */
lc_status lc_prune_weight(const lc_param *p, bool regrow, lc_tensor **W);
/* The scores in the form that select.h reads: *values is a fresh reference, contiguous and f32 or f64; r->keep and
 * r->held are left alone. LC_EINVAL for NaN. */
lc_status lc_prune_read_scores(const char *name, const lc_layer *layer, const lc_scores *scores, lc_tensor **values,
                               lc_ranked *r);

/* Asked for each selected layer in turn; out->values is a fresh reference. */
typedef lc_status (*lc_score)(void *context, lc_layer *layer, lc_scores *out);

/* Prunes the selected layers by score. `name` ("prune.magnitude") begins the messages. LC_EINVAL for options that make
 * no sense, and for scores that are NaN, with the layer and the place. Weights are written only when every score and
 * the whole mask are there. */
lc_status lc_prune(const char *name, const lc_selection *layers, lc_score score, void *context,
                   const lc_prune_options *options, lc_mask **out);

#endif
