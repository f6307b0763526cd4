/* tensor.h: what the files of lacuna.core.tensor share. The array library is one table of rows per file; every row is
 * both a method, x:exp(), and a function, lc.exp(x). */
#ifndef LCL_TENSOR_H
#define LCL_TENSOR_H

#include "grad/graph.h"
#include "lcl.h"

/* Arrays end with {0}. */
extern const lcl_function lcl_make_functions[];    /* tensor_make.c: zeros, arange, ... */
extern const lcl_function lcl_view_functions[];    /* tensor_view.c: reshape, transpose, slices */
extern const lcl_function lcl_math_functions[];    /* tensor_math.c: element by element, in place too */
extern const lcl_function lcl_reduce_functions[];  /* tensor_reduce.c: sums, order statistics */
extern const lcl_function lcl_select_functions[];  /* tensor_select.c: index, gather, cat, masks */
extern const lcl_function lcl_product_functions[]; /* tensor_product.c: matmul, factorisations, solvers */
extern const lcl_function lcl_network_functions[]; /* tensor_network.c: the pieces of networks */
extern const lcl_function lcl_convert_functions[]; /* tensor_convert.c: to and from Lua, dtypes */
extern const lcl_function lcl_grad_functions[];    /* grad.c: backward, detach */

/* Runs a recorded op whose first output becomes the one pushed handle; after running out of memory, collects and tries
 * once more. Raises on failure. Further outputs, up to `outputs`, are pushed as well; the rest is dropped. Returns
 * `outputs`. */
int lcl_apply(lua_State *L, lc_op op, const lc_attr *attr, lc_tensor *const *in, int n_in, int outputs);
/* Writes the result into x and pushes the handle at argument 1 again. */
int lcl_apply_into(lua_State *L, lc_op op, const lc_attr *attr, lc_tensor *const *in, int n_in, lc_tensor *x);

/* The op behind the running function, and whether it is the in-place form. */
static inline lc_op lcl_op(lua_State *L) {
    return (lc_op)lua_tointeger(L, lua_upvalueindex(1));
}
static inline bool lcl_in_place(lua_State *L) {
    return lua_toboolean(L, lua_upvalueindex(2));
}
/* lcl_apply with one output, or lcl_apply_into the tensor at argument 1, as the running function's form asks. */
int lcl_finish(lua_State *L, const lc_attr *attr, lc_tensor *const *in, int n_in);
/* The optional dimension at `arg`; `fallback` when it is nil. */
int lcl_optional_dim(lua_State *L, int arg, int ndim, int fallback);

/* A number (or boolean) at `arg` beside a tensor: the dtype it takes, and its value. */
lc_dtype lcl_number_dtype(lua_State *L, int arg, const lc_tensor *other);
double lcl_number_value(lua_State *L, int arg);
/* The tensor at `arg`, or a number there made into a 0-d tensor that fits `other` (a Lua number raises only an integer
 * or boolean `other` with a float, to f32). Pushes one value, which keeps it. */
lc_tensor *lcl_operand(lua_State *L, int arg, const lc_tensor *other);
/* Raises unless a tensor of `dtype` can hold the number (or boolean) at `arg`: integers take whole numbers in range. */
void lcl_check_fits(lua_State *L, int arg, lc_dtype dtype);
/* The tensor at `arg` for copying into `target`: numbers, booleans and tables are converted. Raises where floats would
 * be cut to integers. Pushes one value. */
lc_tensor *lcl_source(lua_State *L, int arg, const lc_tensor *target);

/* x[i], x { {2, 5}, {}, -1 } and their assignment. tensor_view.c */
int lcl_view_index(lua_State *L);
int lcl_view_call(lua_State *L);
int lcl_view_assign(lua_State *L);

/* __tostring. tensor_print.c */
int lcl_tensor_tostring(lua_State *L);

#endif
