/* mask.h: which weights of which layers stay. Depends on model, ops.
 *
 * A mask is a value: a list of (layer name, bits (O, I)), 1 = kept. It names layers as their checkpoint does, so
 * that it can be held by a clone or another run's model too, and it is never changed once made. A layer that a mask
 * does not name is wholly kept. */
#ifndef LC_MASK_H
#define LC_MASK_H

#include "model/selection.h"
#include <math.h>

typedef struct lc_mask_entry {
    char *name;    /* owned */
    lc_bits *keep; /* retained; (O, I) */
} lc_mask_entry;

typedef struct lc_mask {
    int64_t refs;
    lc_model *model; /* retained: whose layers these were; what hold and lift mean when they are given no other */
    int64_t n;
    lc_mask_entry *entries; /* in the model's order; of a & b and a | b, a's, then those that only b names */
    double requested;       /* the sparsity that was asked for, where pruning made this mask; else NAN */
} lc_mask;

/* keep[i] ((O, I) of the i-th selected layer) becomes the mask of that layer; retained. LC_ESHAPE names the layer;
 * LC_EINVAL unless the selection is of layers. */
lc_status lc_mask_new(const lc_selection *layers, lc_bits *const *keep, lc_mask **out);
/* The same from bool tensors, which are packed. LC_EDTYPE names the layer. */
lc_status lc_mask_from(const lc_selection *layers, lc_tensor *const *keep, lc_mask **out);
/* What is not zero now. */
lc_status lc_mask_of(const lc_selection *layers, lc_mask **out);
/* What the layers hold; all of a layer that holds nothing. */
lc_status lc_mask_held(const lc_selection *layers, lc_mask **out);
lc_mask *lc_mask_retain(lc_mask *m);
void lc_mask_release(lc_mask *m); /* NULL is fine */

/* The layer's bits, borrowed; NULL when the mask does not name it. */
lc_bits *lc_mask_find(const lc_mask *m, const char *name);

/* Kept by both, kept by either, kept where m prunes. The first two name every layer that a or b names. LC_ESHAPE when
 * they see one layer in two shapes. */
lc_status lc_mask_and(const lc_mask *a, const lc_mask *b, lc_mask **out);
lc_status lc_mask_or(const lc_mask *a, const lc_mask *b, lc_mask **out);
lc_status lc_mask_not(const lc_mask *m, lc_mask **out);

/* How many weights there are, and how many are pruned; either pointer may be NULL. Sparsity is their ratio, 0 for no
 * weights. */
void lc_mask_count(const lc_mask *m, int64_t *weights, int64_t *pruned);
double lc_mask_sparsity(const lc_mask *m);
/* Weights kept by both over weights kept by either (Jaccard): 1 for equal masks, 0 for disjoint ones. LC_EINVAL unless
 * both name the same layers. */
lc_status lc_mask_overlap(const lc_mask *a, const lc_mask *b, double *out);

/* For the functions below: `model` NULL = the mask's own; LC_ENOTFOUND and LC_ESHAPE name the first layer that the
 * model does not have in that shape, before anything is changed. They are not interrupted half-way. */

/* Zeroes what the mask prunes. */
lc_status lc_mask_apply(const lc_mask *m, lc_model *model);
/* Zeroes it, and keeps it zero from here on, in place of what these layers held. keep_values remembers the weights that
 * go, for pruning with `regrow`. */
lc_status lc_mask_hold(const lc_mask *m, lc_model *model, bool keep_values);
/* The layers that hold this mask hold nothing any more; their zeros stay until trained. A layer that holds another by
 * now, such as one pruned further since, keeps that: LC_ESTATE when this is so for some and none holds this one. */
lc_status lc_mask_lift(const lc_mask *m, lc_model *model);
/* How many weights that the mask prunes are not zero. */
lc_status lc_mask_violations(const lc_mask *m, lc_model *model, int64_t *out);

/* "mask of 48 layers: 50.0% of 84,934,656 weights pruned (asked for 50.0%)", and a line for each layer. Fresh memory
 * (lc_free). */
lc_status lc_mask_text(const lc_mask *m, char **out);

#endif
