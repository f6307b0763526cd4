/* op.h: running one op, without recording. grad/graph.h has the recording form that most callers want. */
#ifndef LC_OP_H
#define LC_OP_H

#include "tensor/tensor.h"

typedef enum lc_op {
#define LC_OP(ENUM, name, infer, inputs, outputs, types, layout) LC_OP_##ENUM,
#include "ops/ops.def"
#undef LC_OP
    LC_OPS,
    /* Recorded in graphs, with no kernel behind them: */
    LC_OP_RESHAPE = LC_OPS,
    LC_OP_PERMUTE,
    LC_OP_EXPAND,
    LC_OP_SLICE,
    LC_OP_EXTERNAL,
    LC_GRAPH_OPS
} lc_op;

#define LC_MAX_IN 16
#define LC_MAX_OUT 4

typedef enum lc_activation {
    LC_ACT_NONE,
    LC_ACT_RELU,
    LC_ACT_GELU,
    LC_ACT_GELU_TANH,
    LC_ACT_SILU,
    LC_ACT_TANH
} lc_activation;

/* Everything that is not a tensor. Zero unless the op's row names it. */
typedef struct lc_attr {
    int dim; /* from 0; -1 = all, for reductions: set it explicitly there */
    lc_dtype dtype;
    lc_activation act;
    bool keepdim, descending, upper, transpose, unit, causal, add, train;
    int ndim; /* of shape */
    int64_t n;
    double a, b, c, d, e, f;
    uint64_t key, counter;
    int64_t shape[LC_MAX_DIMS];
    int order[LC_MAX_DIMS];      /* permute */
    int64_t start, length, step; /* slice */
} lc_attr;

/* What a kernel sees. Absent optional inputs and outputs nobody wants are NULL. Kernels read inputs, write outputs,
 * keep nothing. */
typedef struct lc_call {
    lc_op op;
    const lc_attr *attr;
    int n_in, n_out;
    lc_tensor *in[LC_MAX_IN];
    lc_tensor *out[LC_MAX_OUT];
} lc_call;

typedef lc_status (*lc_kernel)(const lc_call *call);

const char *lc_op_name(lc_op op);
int lc_op_outputs(lc_op op);
/* "ref", "cpu", ...: whose kernel runs for this op on this device; NULL when none does. */
const char *lc_op_backend(lc_op op, lc_device device);

/* Checks, casts, lays out, allocates out[0..outputs) and runs. All inputs must be on one device. `out` gets fresh
 * references; an entry may be NULL when the op did not make it. attr may be NULL. */
lc_status lc_run(lc_op op, const lc_attr *attr, lc_tensor *const *in, int n_in, lc_tensor **out);
/* The same into tensors that exist, whose shape must be the result's; the result is cast to their type. Kernels of
 * STRIDED and BROADCAST ops write any strides; elsewhere a copy is made. Entries of `into` that are NULL are not
 * computed where the kernel allows it. Bumps their storage's version. An output that shares memory with an input is
 * right in the same layout for elementwise ops; else the input is copied first. Interrupted, it leaves a half-written
 * target: who writes what must stay whole holds cancel. */
lc_status lc_run_into(lc_op op, const lc_attr *attr, lc_tensor *const *in, int n_in, lc_tensor *const *into);

/* Copies of content: contiguous and of `dtype` (itself, retained, when it is that already). */
lc_status lc_contiguous(lc_tensor *x, lc_tensor **out);
lc_status lc_cast(lc_tensor *x, lc_dtype dtype, lc_tensor **out);
lc_status lc_copy_into(lc_tensor *destination, lc_tensor *source); /* broadcasts and casts */
lc_status lc_fill(lc_tensor *x, double value);

/* Multiply-adds done by products since the process began: what t.macs is a difference of. */
uint64_t lc_macs(void);
void lc_macs_add(uint64_t n);
/* The same with those that were left out because their result was known not to be needed: what t.dense_macs is a
 * difference of. Who leaves work out says so with lc_macs_skip. */
uint64_t lc_dense_macs(void);
void lc_macs_skip(uint64_t n);

#endif
