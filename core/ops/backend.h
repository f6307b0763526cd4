/* backend.h: one table of kernels per backend. ref is complete and plain: the oracle. cpu starts as a copy of ref and
 * overrides what it does better. cuda starts empty: a missing kernel is an error, never a silent copy to the host. */
#ifndef LC_BACKEND_H
#define LC_BACKEND_H

#include "ops/op.h"

typedef struct lc_backend {
    const char *name;
    lc_kernel kernel[LC_OPS]; /* by lc_op; NULL = none */
} lc_backend;

extern const lc_backend lc_backend_ref;
/* What the cpu backend overrides on this CPU; entries that are NULL run on ref. Chosen once, at first use. */
const lc_backend *lc_backend_cpu(void);

/* For tests: run every op on ref (true) or as usual. */
void lc_backend_force_ref(bool on);

#endif
