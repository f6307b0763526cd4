/* infer_helpers.h: what infer.c and infer_model.c share: one function per `infer` column of ops.def, and the checks
 * they are made of. Private to core/ops. Messages speak of inputs by the names that ops.def gives them. */
#ifndef LC_INFER_HELPERS_H
#define LC_INFER_HELPERS_H

#include "ops/infer.h"

/* Rows that share an infer function declare it more than once, which C allows. */
#define LC_OP(ENUM, name, infer, inputs, outputs, types, layout) \
    lc_status lc_infer_##infer(const lc_call *call, lc_spec *out);
#include "ops/ops.def"
#undef LC_OP

/* Every input is there and of a type that ops compute in. `names` lists them: "x w? b?", where '?' marks what may be
 * absent. */
lc_status lc_infer_inputs(const lc_call *call, const char *names);
/* Input i, called `name`, is float; is an integer type (bool is not); is bool. Absent inputs pass. */
lc_status lc_infer_float(const lc_call *call, int i, const char *name);
lc_status lc_infer_integer(const lc_call *call, int i, const char *name);
lc_status lc_infer_mask(const lc_call *call, int i, const char *name);
/* Input i has input 0's dtype. Absent inputs pass. */
lc_status lc_infer_same_dtype(const lc_call *call, int i, const char *name);
/* Input i has exactly this shape. Absent inputs pass. */
lc_status lc_infer_shape(const lc_call *call, int i, const char *name, int ndim, const int64_t *shape);
/* attr.dim is a dimension of input 0. */
lc_status lc_infer_dim(const lc_call *call);

/* A wanted output. */
void lc_spec_set(lc_spec *out, lc_dtype dtype, int ndim, const int64_t *shape);
static inline void lc_spec_like(lc_spec *out, lc_dtype dtype, const lc_tensor *t) {
    lc_spec_set(out, dtype, t->ndim, t->shape);
}

#endif
