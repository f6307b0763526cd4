/* param.h: one trained tensor of a model: its leaf, how its file sees it, and the mask that holds it.
 *
 * A weight of a linear layer is stored (O, I), whatever its file does: the leaf is (O, I), and `file` is an alias of it
 * in the file's shape (GPT-2's Conv1D stores (I, O)); one buffer, one gradient. Names are those of the state_dict of
 * transformers' model with its language-modelling head: "transformer.h.0.attn.c_attn.weight".
 *
 * A held mask keeps pruned weights at zero. Writing into a held weight is allowed: what is pruned is zeroed again
 * before it is next used, and the storage's version tells whether anything has to be done. */
#ifndef LC_PARAM_H
#define LC_PARAM_H

#include "tensor/bits.h"

typedef struct lc_param {
    char *name; /* owned */
    const char
        *role;       /* "embedding", "position", "norm", or that of the linear layer it belongs to; "" for a method's */
    int block;       /* from 0; -1 outside blocks */
    lc_tensor *leaf; /* what is trained; requires_grad unless frozen */
    lc_tensor *file; /* the leaf itself, or its permuted alias: what model:parameter(name) shows and files hold */
    bool frozen;     /* no gradient, no moments, no decay */
    bool decays;     /* weight decay applies: matrices and embeddings, not biases and norms */
    lc_bits *held;   /* the leaf's shape, 1 = kept; NULL = nothing is held. Set by lc_param_hold only */
    lc_tensor *held_values; /* the leaf's shape: what pruned weights were before, 0 elsewhere; NULL unless asked for */
    uint64_t held_version;  /* of the leaf's storage when pruned weights were last known to be zero */
} lc_param;

/* Fills *p. Retains `leaf`, names it, requires its gradient, and lets it decay when it has two dimensions or more. With
 * `transposed` the file holds the leaf's two dimensions the other way round. */
lc_status lc_param_init(lc_param *p, const char *name, lc_tensor *leaf, bool transposed);
void lc_param_close(lc_param *p);

lc_status lc_param_freeze(lc_param *p, bool frozen);

/* Holds `keep` (the leaf's shape) in place of what is held now, and zeroes what it prunes. Retained. With keep_values the
 * weights pruned now are remembered, beside those that were remembered before and stay pruned; without it, what was
 * remembered goes, unless this very mask is held. On failure nothing has changed. */
lc_status lc_param_hold(lc_param *p, lc_bits *keep, bool keep_values);
/* The same for a bool tensor, which is packed. */
lc_status lc_param_hold_bools(lc_param *p, lc_tensor *keep, bool keep_values);
/* The same in two steps, so that many parameters are held or none: all that can run out of memory is in the first. */
typedef struct lc_hold {
    lc_param *param;
    lc_bits *keep;
    lc_tensor *values; /* what is remembered, or NULL */
} lc_hold;
lc_status lc_hold_prepare(lc_param *p, lc_bits *keep, bool keep_values, lc_hold *out);
lc_status lc_hold_commit(lc_hold *h);
lc_status lc_hold_zero(lc_hold *h); /* instead of commit: zeroes what is pruned, and holds nothing */
void lc_hold_drop(lc_hold *h);      /* after either; an empty one is fine */

/* Lets go of the mask: pruned weights stay zero until trained again. */
void lc_param_lift(lc_param *p);
/* The weight with its old values where they are remembered: a fresh tensor; else the leaf, retained. */
lc_status lc_param_before(const lc_param *p, lc_tensor **out);
/* Zeroes what the held mask prunes, if the storage changed since that was last known; nothing to do costs nothing. */
lc_status lc_param_enforce(lc_param *p);
/* For an update that kept pruned weights at zero by itself. */
void lc_param_enforced(lc_param *p);

/* Number of zeros in the leaf. */
lc_status lc_param_zeros(const lc_param *p, int64_t *zeros);

#endif
