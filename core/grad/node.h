/* node.h: the inside of the graph, shared by the files of grad/ alone.
 *
 * A node keeps, for each input, the edge that its gradient goes to (another node's output, or a leaf) and, where the
 * rule reads it, the input itself with the version it had. Saved outputs are kept as bare views: they do not hold the
 * node that holds them. */
#ifndef LC_NODE_H
#define LC_NODE_H

#include "grad/graph.h"
#include "grad/rules.h"

typedef struct lc_saved {
    lc_tensor *tensor; /* NULL when not saved */
    uint64_t version;  /* of the content when it was recorded; of an output, whether saved or not */
    lc_activation act; /* what the rule reads is this activation of `tensor`: applied again in the backward pass */
} lc_saved;

typedef struct lc_edge {
    lc_node *node; /* where the gradient goes: this node's output `output`, */
    int output;
    lc_tensor *leaf; /* or this leaf, or nowhere */
    bool present;
    lc_dtype dtype;
    int ndim;
    int64_t shape[LC_MAX_DIMS];
    lc_saved input;
} lc_edge;

struct lc_node {
    struct lc_node_head head;
    lc_op op;
    lc_attr attr;
    lc_external external; /* for LC_OP_EXTERNAL */
    uint64_t sequence;    /* in the order of making: a node's inputs have smaller ones */
    uint64_t pass;        /* the backward pass that has collected this node */
    bool spent;           /* what was saved is gone */
    lc_node *next_dying;
    lc_tensor *dy[LC_MAX_OUT]; /* gradients arrived in this pass */
    lc_saved output[LC_MAX_OUT];
    int n_in, n_out;
    lc_edge in[]; /* n_in of them */
};

/* Does this input want a gradient? A leaf that stopped asking since (t:skip before the backward pass) gets none. */
static inline bool lc_edge_wanted(const lc_edge *e) {
    return e->node || (e->leaf && e->leaf->requires_grad);
}
/* Should an op on these inputs be recorded now? */
bool lc_must_record(lc_tensor *const *in, int n_in);
/* Records an op that has run: makes the node and hangs the outputs on it. On failure the outputs are left to the
 * caller. */
lc_status lc_record(lc_op op, const lc_attr *attr, lc_tensor *const *in, int n_in, lc_tensor **out, int n_out);
/* The same for a function; on failure `external` is still the caller's. */
lc_status lc_record_external(const lc_external *external, lc_tensor *const *in, int n_in, lc_tensor **out, int n_out);
lc_node *lc_node_retain(lc_node *node);
void lc_node_release(lc_node *node);
/* Lets go of what a node saved for its rule. */
void lc_node_spend(lc_node *node);

#endif
