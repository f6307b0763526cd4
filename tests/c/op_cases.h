/* op_cases.h: one table of ways to call every op. Two judges walk it: test_rules.c compares recorded gradients with
 * finite differences, test_ops.c compares each backend's kernel with the plain one. */
#ifndef LC_OP_CASES_H
#define LC_OP_CASES_H

#include "ops/op.h"

/* What an input is filled with. The names say what the op needs; gradients are checked only away from kinks and ties.
 */
typedef enum op_fill {
    FILL_NORMAL,   /* deviation 1 */
    FILL_POSITIVE, /* 0.3..2 */
    FILL_NONZERO,  /* magnitude 0.3..2, either sign */
    FILL_UNIT,     /* -0.9..0.9 */
    FILL_DISTINCT, /* a permutation of n values that are 0.1 apart */
    FILL_TIES,     /* -2, -1, 0, 1, 2 */
    FILL_SPECIAL,  /* normal, with NaN, infinities and zeros between */
    FILL_GRAM,     /* z z^T + 1: positive definite */
    FILL_APART,    /* z + z^T + 0, 10, 20, ...: symmetric, its eigenvalues far apart */
    FILL_TRIANGLE, /* normal / 4, and 2 more on the diagonal: solves stay tame */
    FILL_BOOL,     /* bool, two thirds true */
    FILL_BITS,     /* u8: packed bits */
    FILL_INDEX,    /* i64 in 0..size of `limit` - 1 */
    FILL_LABEL,    /* as INDEX, every third one -100 */
    FILL_COUNT,    /* i64, -9..9 */
} op_fill;

typedef struct op_input {
    const char *shape; /* a letter per dimension, see op_size; "" is a 0-d tensor, NULL an input that is not given */
    op_fill fill;
    char limit;    /* letter of the number of values that an index may have */
    bool constant; /* its gradient is not asked for */
} op_input;

typedef struct op_case {
    lc_op op;
    const char *note; /* what this case adds; "" for the plain one */
    lc_attr attr;
    char n;            /* letter of attr.n, 0 = as in attr */
    const char *shape; /* letters of attr.shape, NULL = none */
    op_input in[7];
    bool no_gradient; /* for kernels only: ties, NaN, integers */
    bool dense;       /* contiguous inputs only: it writes into them */
} op_case;

extern const op_case op_cases[];
extern const int op_case_count;

/* Size sets for the letters: 0 is small enough for finite differences, the others are odd, degenerate and wide. */
#define OP_SIZE_SETS 5
int64_t op_size(int set, char letter);

/* How an input lies in memory. */
typedef enum op_layout { LAYOUT_DENSE, LAYOUT_TRANSPOSED, LAYOUT_SLICED, LAYOUT_EXPANDED, OP_LAYOUTS } op_layout;
const char *op_layout_name(op_layout layout);

int op_case_inputs(const op_case *c); /* how many, absent ones between included */
lc_attr op_case_attr(const op_case *c, int set);

/* The leaf behind input i: fresh, contiguous, of dtype `real` where the fill is real. */
lc_status op_case_leaf(const op_case *c, int i, int set, op_layout layout, lc_dtype real, lc_tensor **leaf);
/* The input as the op sees it, by recorded views of its leaf. */
lc_status op_case_view(const op_case *c, int i, int set, op_layout layout, lc_tensor *leaf, lc_tensor **input);

#endif
