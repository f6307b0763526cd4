/* linear.h: the linear layer, the one place where methods plug in.
 *
 * y = x W^T + b with W (O, I), b (O) or none. Between the stored weight and the product stands a chain of weight
 * transforms (soft masks, fake quantisation), applied in the order in which they were installed; the product itself can
 * be replaced once (packed weights, gradient reuse). Both are an lc_installed: functions, a context, trained tensors
 * and kept tensors. C methods and Lua's layer:transform and layer:replace fill the same struct. */
#ifndef LC_LINEAR_H
#define LC_LINEAR_H

#include "model/clock.h"
#include "model/param.h"
#include "ops/op.h"

typedef struct lc_model lc_model;
typedef struct lc_layer lc_layer;
typedef struct lc_installed lc_installed;

/* A tensor that a method keeps from step to step: stored in checkpoints, untouched by the optimizer. */
typedef struct lc_state {
    char *name;        /* owned */
    lc_tensor *tensor; /* retained; NULL until the method sets it */
} lc_state;

/* What a method gives when it installs itself. Exactly one of `transform` and `product` is set. Both run under
 * recording and build their result from recorded ops (or lc_apply_external); `me` gives them their parameters and
 * state. */
typedef struct lc_method {
    const char *name; /* "pdp", "reuse": printed, and part of its tensors' names in checkpoints; copied */
    /* w (O, I), what the chain gave so far -> the weight that the product shall see. */
    lc_status (*transform)(lc_installed *me, lc_layer *layer, lc_tensor *w, lc_tensor **out);
    /* x (..., I), w (O, I) after the transforms, b (O) or NULL -> y (..., O). */
    lc_status (*product)(lc_installed *me, lc_layer *layer, lc_tensor *x, lc_tensor *w, lc_tensor *b, lc_tensor **y);
    /* Called once, when the method is removed or its model goes. NULL = nothing to do. */
    void (*release)(void *context);
    void *context;
} lc_method;

/* A method in its place. Counted: its handle in Lua and its layer hold it. */
struct lc_installed {
    int64_t refs;
    lc_method method; /* name owned */
    lc_layer *layer;  /* NULL once removed */
    int n_params, n_state;
    lc_param **params; /* trained beside the model's: clipped, checkpointed; named "<layer>.<method>.<name>" */
    lc_state *state;   /* checkpointed */
};

/* Sees what goes into a layer, before its product: how calibration collects. LC_ESTOP ends the pass there. */
typedef struct lc_observer {
    lc_status (*see)(void *context, lc_layer *layer, lc_tensor *x);
    void *context;
} lc_observer;

struct lc_layer {
    lc_model *model;  /* borrowed: layers live as long as their model */
    char *name;       /* owned: "transformer.h.0.attn.c_attn" */
    const char *role; /* "attention.qkv" "attention.q" "attention.k" "attention.v" "attention.out" "mlp.up" "mlp.gate"
                         "mlp.down" "head" */
    int block;        /* from 0; -1 outside blocks */
    lc_param *weight; /* (O, I); a tied head shares the embedding's */
    lc_param *bias;   /* (O); NULL = none */
    int64_t outputs, inputs; /* O, I */
    int n_parts;             /* 3 for a fused q, k, v, else 0 */
    int64_t part_rows[3];    /* rows of each, in that order */
    int64_t interleaved; /* heads whose q, k and v rows follow each other, head by head; 0 = all of q, k, v in turn */
    int n_transforms;
    lc_installed **transforms;
    lc_installed *product;       /* NULL = dense */
    const lc_observer *observer; /* borrowed; NULL = nobody watches */
};

/* x (..., I) -> y (..., O) through transforms, product and the activation. Recorded. */
lc_status lc_layer_forward(lc_layer *layer, lc_tensor *x, lc_activation act, lc_tensor **y);
/* The weight as the product sees it: held zeros enforced, transforms applied: those that the layer has when it is
 * called, but for one that another removes before its turn; one that is installed meanwhile acts from the next call on. */
lc_status lc_layer_weight(lc_layer *layer, lc_tensor **w);

/* Installs a method: at the end of the chain, or as the product (LC_ESTATE, naming both, when there is one already).
 * LC_EINVAL when the layer has a method of that name. Takes over method->context: release is called on failure too. *out is a reference of the caller's. */
lc_status lc_layer_install(lc_layer *layer, const lc_method *method, lc_installed **out);
/* A tensor to be trained, or kept, with an installed method. `leaf` is retained. Names are checked: LC_EINVAL when
 * taken. */
lc_status lc_installed_add_param(lc_installed *me, const char *name, lc_tensor *leaf);
lc_status lc_installed_add_state(lc_installed *me, const char *name, lc_tensor *tensor);
/* The slot of that name, or NULL. */
lc_param *lc_installed_param(lc_installed *me, const char *name);
lc_state *lc_installed_state(lc_installed *me, const char *name);
/* Retains `tensor` (NULL empties the slot). */
void lc_state_set(lc_state *slot, lc_tensor *tensor);

/* Takes the method out of its layer; what it kept stays readable. Does nothing the second time. */
void lc_installed_remove(lc_installed *me);
lc_installed *lc_installed_retain(lc_installed *me);
void lc_installed_release(lc_installed *me);
/* The clock of the model that the layer belongs to; zeros once removed. */
lc_clock lc_installed_clock(const lc_installed *me);

/* The q, k or v of a fused layer (`part` 'q', 'k' or 'v'): rows of the weight, as a recorded view that can be written:
 * (rows, I), or (heads, D, I) where the rows are interleaved. LC_ENOTFOUND for a layer that is not fused. */
lc_status lc_layer_part(lc_layer *layer, char part, lc_tensor **out);

/* "mlp.up 3072 x 768, 50.0% zero, held, transforms: pdp, product: reuse" into fresh memory (lc_free). */
lc_status lc_layer_text(lc_layer *layer, char **out);

#endif
