/* infer.h: the shapes and types of an op's outputs, before anything is computed. */
#ifndef LC_INFER_H
#define LC_INFER_H

#include "ops/op.h"

typedef struct lc_spec {
    bool wanted; /* false: this output is not made with these attributes */
    lc_dtype dtype;
    int ndim;
    int64_t shape[LC_MAX_DIMS];
} lc_spec;

/* call->in are cast and expanded already, as ops.def says. Fills out[0..outputs of the op); messages begin with the
 * op's name. */
typedef lc_status (*lc_infer)(const lc_call *call, lc_spec *out);
lc_infer lc_op_infer(lc_op op);

#endif
