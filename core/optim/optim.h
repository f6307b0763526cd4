/* optim.h: the optimizer: which tensors are trained, by which rule, and the pass that changes them.
 *
 * A slot is one trained tensor with its moments. A slot without a gradient is left alone, moments and step count too,
 * as in PyTorch. A held mask acts inside the pass: pruned weights and their moments stay zero, and their gradients do
 * not count in the norm.
 *
 * Ops ADAMW_STEP and SGD_STEP read attr: a = lr, b = beta1 (sgd: momentum), c = beta2, d = eps, e = weight_decay, f =
 * factor on the gradient, n = this tensor's update, from 1. AdamW: Loshchilov & Hutter 2019, decay apart from the
 * gradient; SGD: momentum buffer b m + g, decay added to the gradient. Both as in PyTorch. */
#ifndef LC_OPTIM_H
#define LC_OPTIM_H

#include "model/param.h"

typedef enum lc_optimizer { LC_ADAMW, LC_SGD } lc_optimizer;

/* How one group of tensors is trained. */
typedef struct lc_recipe {
    lc_optimizer optimizer;
    double lr;
    double beta1, beta2, eps; /* AdamW */
    double momentum;          /* SGD; 0 = no buffer */
    double weight_decay;      /* for matrices and embeddings; */
    bool decay_all;           /* for every tensor of the group */
} lc_recipe;

/* What becomes of a slot in one step. A skipped gradient counts in no norm. */
typedef enum lc_skip {
    LC_SKIP_NO,
    LC_SKIP_FREEZE, /* weight and moments stay as they are */
    LC_SKIP_GRAD    /* an update with a gradient of zero: moments fade, decay acts */
} lc_skip;

typedef struct lc_slot {
    char *name;      /* owned; unique in its optimizer */
    lc_tensor *leaf; /* retained */
    lc_param *param; /* of the model, for held masks; NULL for other leaves. Borrowed: set again whenever its owner may
                        be gone */
    lc_recipe recipe;
    bool from_model;  /* it comes and goes with its model's parameters */
    bool suspended;   /* leaf->requires_grad is off while a backward pass leaves it out */
    bool decays;      /* weight decay applies */
    lc_tensor *m, *v; /* moments, the leaf's dtype and shape; m alone for SGD. NULL before the first update */
    int64_t updates;  /* done to this tensor */
    lc_skip skip;     /* in this step; the pass sets it back */
} lc_slot;

typedef struct lc_optim {
    int64_t n, capacity;
    lc_slot *slots;
} lc_optim; /* starts as {0} */

/* Adds a tensor, or finds it when it is there already (its recipe stays). *out, when not NULL, is good until the next
 * addition. LC_EINVAL when another tensor has that name. */
lc_status lc_optim_add(lc_optim *o, const char *name, lc_tensor *leaf, lc_param *param, const lc_recipe *recipe,
                       lc_slot **out);
lc_slot *lc_optim_find(const lc_optim *o, const lc_tensor *leaf); /* NULL when it is not trained here */
/* Takes a slot out, moments and all; the others keep their order. */
void lc_optim_remove(lc_optim *o, int64_t index);
void lc_optim_close(lc_optim *o);

/* Root of the sum of squares of all gradients that are not skipped, pruned weights left out. LC_ENUMERIC names the
 * first tensor whose gradient is not finite. */
lc_status lc_optim_norm(const lc_optim *o, double *norm);
/* Gradients shorter than `limit` stay; longer ones are scaled to it: the factor, as PyTorch's clip_grad_norm_ has it.
 * limit 0 = off. */
double lc_clip_factor(double norm, double limit);
/* One pass over all slots: rates times `rate`, gradients times `scale`. Clears gradients and skips. Moments are made
 * first; from then on nothing interrupts it. */
lc_status lc_optim_update(lc_optim *o, double rate, double scale);
/* Multiplies every gradient by `factor`. */
lc_status lc_optim_scale(lc_optim *o, double factor);
lc_status lc_optim_clear(lc_optim *o);
/* Name of the first trained tensor with a non-finite value; NULL when all are finite. */
lc_status lc_optim_first_bad(const lc_optim *o, const char **name);

#endif
