/* rules.h: the table of backward rules, one per op, each written in ops. */
#ifndef LC_RULES_H
#define LC_RULES_H

#include "grad/graph.h"

#define LC_MAX_SAVED 8

/* What a rule reads. Rules run with recording off. */
typedef struct lc_rule_call {
    lc_op op;
    const lc_attr *attr;
    int n_in, n_out;
    lc_tensor *in[LC_MAX_IN];   /* inputs that the op's `saves` kept, else NULL; see shape_in for the rest */
    lc_tensor *out[LC_MAX_OUT]; /* outputs that were kept, else NULL */
    int ndim_in[LC_MAX_IN];
    int64_t shape_in[LC_MAX_IN][LC_MAX_DIMS]; /* every input's shape before broadcasting */
    lc_dtype dtype_in[LC_MAX_IN];
    bool present[LC_MAX_IN];   /* false for an optional input that was not given */
    bool wanted[LC_MAX_IN];    /* this input's gradient is needed */
    lc_tensor *dy[LC_MAX_OUT]; /* NULL where no gradient came */
    /* Where a wanted gradient may be added directly (a leaf's .grad, contiguous, of the leaf's type and shape), else
     * NULL: a rule that can accumulate (matmul's attr.add, embedding_backward's) writes there and leaves dx[i] NULL.
     * Saves a buffer and a pass. */
    lc_tensor *into[LC_MAX_IN];
    lc_tensor *dx[LC_MAX_IN]; /* the answer: fresh references; may have the broadcast shape, the graph sums it down */
} lc_rule_call;

typedef lc_status (*lc_rule)(lc_rule_call *call);

/* Bit sets: which inputs and outputs a rule reads. */
#define LC_SAVE_IN(i) (1u << (i))
#define LC_SAVE_OUT(i) (1u << (16 + (i)))

typedef struct lc_rule_row {
    lc_rule rule; /* NULL: not differentiable (integers, comparisons, orders' indices) */
    unsigned saves;
    unsigned (*saves_for)(const lc_attr *attr, const bool *wanted); /* narrower, where it depends; NULL = `saves` */
    int outputs; /* how many of the first outputs carry gradients; 0 = one: the others (orders, statistics, what went
                    into an activation) are constants to the graph */
} lc_rule_row;

const lc_rule_row *lc_rule_of(lc_op op);

#endif
