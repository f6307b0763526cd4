/* graph.h: reverse-mode differentiation over ops.
 *
 * While recording is on, an op with an input that requires a gradient makes a node; its outputs hold the node, the node
 * holds its inputs' nodes or leaves and what its rule needs saved. lc_backward walks the nodes from the last made to
 * the first, adds into the leaves' .grad, and releases what each node saved as soon as it was used. */
#ifndef LC_GRAPH_H
#define LC_GRAPH_H

#include "ops/op.h"

bool lc_recording(void);
bool lc_set_recording(bool on); /* returns what it was */

/* Runs an op and records it where an input requires a gradient. As lc_run. */
lc_status lc_apply(lc_op op, const lc_attr *attr, lc_tensor *const *in, int n_in, lc_tensor **out);
/* Counts (lc_macs_skip) the backward pass that an op on frozen inputs will not have while recording is on, after its
 * `forward` multiply-adds: a linear layer costs forward : dX : dW = 1 : 1 : 1, attention 2 : 5. lc_apply does it itself. */
void lc_skip_backward(lc_op op, uint64_t forward);
/* In place: lc_run_into with the rules of recording. Never interrupted half-way. LC_ESTATE when a target was computed
 * under recording (write `x + y` or use lc.no_grad), or an input requires a gradient that would be lost. Leaves may be
 * written. */
lc_status lc_apply_into(lc_op op, const lc_attr *attr, lc_tensor *const *in, int n_in, lc_tensor *const *into);

/* Marks a leaf: gradients wanted (its .grad stays NULL until a backward pass). LC_EDTYPE unless float; LC_ESTATE if it
 * was computed. */
lc_status lc_require_grad(lc_tensor *leaf, bool on);
/* A view on the same storage that records nothing. */
lc_status lc_detach(lc_tensor *x, lc_tensor **out);

/* Gradients of `root` with respect to every leaf behind it are added into their .grad. `seed` has root's shape; NULL
 * stands for 1 and needs a root of one element. LC_ESTATE: root was not recorded, was passed through already, or a
 * saved tensor changed since. */
lc_status lc_backward(lc_tensor *root, lc_tensor *seed);
lc_status lc_clear_grad(lc_tensor *leaf);
/* The leaf's gradient as this tensor sees it: itself, or permuted for an alias. NULL out when there is none. */
lc_status lc_get_grad(lc_tensor *t, lc_tensor **out);

/* Short forms. Recording. */
lc_status lc_unary(lc_op op, lc_tensor *x, lc_tensor **out);
lc_status lc_binary(lc_op op, lc_tensor *a, lc_tensor *b, lc_tensor **out);
lc_status lc_reduce(lc_op op, lc_tensor *x, int dim, bool keepdim, lc_tensor **out); /* dim -1 = all */
lc_status lc_matmul(lc_tensor *a, lc_tensor *b, lc_tensor **out);
lc_status lc_linear(lc_tensor *x, lc_tensor *w, lc_tensor *b, lc_activation act, lc_tensor **out); /* b may be NULL */
lc_status lc_to(lc_tensor *x, lc_dtype dtype, lc_tensor **out);
/* Recording views. reshape copies when no view can do it; permute's order, slice's range count from 0. */
lc_status lc_reshape(lc_tensor *x, int ndim, const int64_t *shape, lc_tensor **out);
lc_status lc_permute(lc_tensor *x, const int *order, lc_tensor **out);
lc_status lc_transpose(lc_tensor *x, int a, int b, lc_tensor **out);
lc_status lc_expand(lc_tensor *x, int ndim, const int64_t *shape, lc_tensor **out);
lc_status lc_slice(lc_tensor *x, int dim, int64_t start, int64_t length, int64_t step, lc_tensor **out);
lc_status lc_select(lc_tensor *x, int dim, int64_t index, lc_tensor **out);
/* A permuted alias of a leaf: same storage; gradients through it reach the leaf, and lc_get_grad gives the leaf's,
 * permuted. */
lc_status lc_leaf_alias(lc_tensor *leaf, const int *order, lc_tensor **out);

/* The way back to the bindings (lc.func, layer:transform, layer:replace), and for recomputation. `forward` is called
 * with recording off; `backward` gets the outputs' gradients (NULL where none came) and fills dx[i] where wanted[i]
 * (NULL = no gradient). `release` is called once, when nothing can call backward any more. */
typedef struct lc_external {
    void *context;
    lc_status (*forward)(void *context, lc_tensor *const *in, int n_in, lc_tensor **out, int *n_out);
    lc_status (*backward)(void *context, lc_tensor *const *dy, int n_out, const bool *wanted, lc_tensor **dx, int n_in);
    void (*release)(void *context);
    const char *name;
} lc_external;
/* Takes over `external->context` (release is called on failure too). */
lc_status lc_apply_external(const lc_external *external, lc_tensor *const *in, int n_in, lc_tensor **out, int *n_out);

/* True while lc_backward runs: scopes, yields and prompts must not be entered then. */
bool lc_in_backward(void);

#endif
