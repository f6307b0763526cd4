/* tensor_product.c: matrix products, factorisations and solvers. */
#include "tensor.h"

/* Pushes x reshaped. */
static lc_tensor *push_reshaped(lua_State *L, lc_tensor *x, int ndim, const int64_t *shape) {
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    lcl_done(L, lc_reshape(x, ndim, shape, slot), 0);
    return *slot;
}

/* A vector counts as a row on the left and a column on the right; the result loses that dimension again. */
static int matmul(lua_State *L) {
    lc_tensor *in[2] = {lcl_tensor(L, 1), lcl_tensor(L, 2)};
    bool row = in[0]->ndim == 1, column = in[1]->ndim == 1;
    if (row) in[0] = push_reshaped(L, in[0], 2, (int64_t[]){1, in[0]->shape[0]});
    if (column) in[1] = push_reshaped(L, in[1], 2, (int64_t[]){in[1]->shape[0], 1});
    lcl_apply(L, LC_OP_MATMUL, NULL, in, 2, 1);
    if (!row && !column) return 1;
    lc_tensor *y = lcl_tensor(L, -1);
    int64_t shape[LC_MAX_DIMS];
    int ndim = 0;
    for (int i = 0; i < y->ndim; i++) {
        bool added = (row && i == y->ndim - 2) || (column && i == y->ndim - 1);
        if (!added) shape[ndim++] = y->shape[i];
    }
    push_reshaped(L, y, ndim, shape);
    return 1;
}

typedef struct addmm_options {
    double alpha, beta;
} addmm_options;

static const lcl_option addmm_rows[] = {
    {"alpha", LCL_NUMBER, offsetof(addmm_options, alpha), .fallback = "1", .doc = "factor on the product"},
    {"beta", LCL_NUMBER, offsetof(addmm_options, beta), .fallback = "1", .doc = "factor on what x held"},
    {0},
};
static const lcl_option_set addmm_set = {"addmm_", addmm_rows};

/* Pushes x times a number of x's type. */
static lc_tensor *push_scaled(lua_State *L, lc_tensor *x, double factor) {
    lc_tensor **number = lcl_push(L, &LCL_TENSOR);
    lcl_done(L, lc_tensor_scalar(x->dtype, factor, number), 0);
    lc_tensor *in[2] = {x, *number};
    lcl_apply(L, LC_OP_MUL, NULL, in, 2, 1);
    return lcl_tensor(L, -1);
}

/* x = beta x + alpha a b. Only where beta is neither 0 nor 1 is there a buffer: a and b may be x, and nothing is written
 * when the product fails. */
static int addmm(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1), *in[2] = {lcl_tensor(L, 2), lcl_tensor(L, 3)};
    addmm_options o;
    lcl_options(L, 4, &addmm_set, &o);
    if (!lc_dtype_is_float(x->dtype))
        lcl_error(L, "addmm_: the result has floats, which a tensor of %s cannot hold; use x:to",
                  lc_dtype_name(x->dtype));
    if (o.alpha != 1) in[0] = push_scaled(L, in[0], o.alpha);
    lc_attr attr = {.add = o.beta == 1};
    if (o.beta == 0 || o.beta == 1) return lcl_apply_into(L, LC_OP_MATMUL, &attr, in, 2, x);
    lc_tensor **values = lcl_push(L, &LCL_TENSOR);
    lcl_done(L, lc_detach(x, values), 0);
    lc_tensor *sum = push_scaled(L, *values, o.beta);
    attr.add = true;
    lcl_done(L, lc_apply_into(LC_OP_MATMUL, &attr, in, 2, &sum), 0);
    return lcl_apply_into(L, LC_OP_COPY, &(lc_attr){.dtype = x->dtype}, &sum, 1, x);
}

static int outer(lua_State *L) {
    lc_tensor *in[2] = {lcl_tensor(L, 1), lcl_tensor(L, 2)};
    if (in[0]->ndim != 1 || in[1]->ndim != 1)
        lcl_error(L, "outer: expected two vectors, got %s and %s", LC_SHAPE(in[0]), LC_SHAPE(in[1]));
    in[0] = push_reshaped(L, in[0], 2, (int64_t[]){in[0]->shape[0], 1});
    return lcl_apply(L, LC_OP_MUL, NULL, in, 2, 1);
}

static int dot(lua_State *L) {
    lc_tensor *in[2] = {lcl_tensor(L, 1), lcl_tensor(L, 2)};
    if (in[0]->ndim != 1 || !lc_same_shape(in[0], in[1]))
        lcl_error(L, "dot: expected two vectors of one length, got %s and %s", LC_SHAPE(in[0]), LC_SHAPE(in[1]));
    lcl_apply(L, LC_OP_MUL, NULL, in, 2, 1);
    lc_tensor *products = lcl_tensor(L, -1);
    lc_attr attr = {.dim = -1};
    return lcl_apply(L, LC_OP_SUM, &attr, &products, 1, 1);
}

/* A square matrix with the vector on its diagonal: rows of the identity, scaled. */
static int diag(lua_State *L) {
    lc_tensor *v = lcl_tensor(L, 1);
    if (v->ndim != 1)
        lcl_error(L, "diag: expected a vector, got shape %s; x:diagonal() takes one out of a matrix", LC_SHAPE(v));
    int64_t n = v->shape[0];
    lc_tensor **identity = lcl_push(L, &LCL_TENSOR);
    lcl_done(L, lc_tensor_zeros(v->dtype, 2, (int64_t[]){n, n}, v->storage->device, identity), 0);
    for (int64_t i = 0; i < n; i++) lc_set_f64(*identity, i * (n + 1), 1);
    lc_tensor *in[2] = {*identity, v};
    return lcl_apply(L, LC_OP_MUL, NULL, in, 2, 1);
}

/* -- factorisations -- */

static const lcl_option cholesky_rows[] = {
    {"upper", LCL_BOOL, 0, .fallback = "false",
     .doc = "the upper factor U, x = U^T U, instead of the lower L, x = L L^T"},
    {0},
};
static const lcl_option_set cholesky_set = {"cholesky", cholesky_rows};

static int cholesky(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    lc_attr attr = {0};
    lcl_options(L, 2, &cholesky_set, &attr.upper);
    return lcl_apply(L, LC_OP_CHOLESKY, &attr, &x, 1, 1);
}

static const lcl_option solve_rows[] = {
    {"upper", LCL_BOOL, offsetof(lc_attr, upper), .fallback = "false", .doc = "x is upper triangular, not lower"},
    {"transpose", LCL_BOOL, offsetof(lc_attr, transpose), .fallback = "false",
     .doc = "solve with the transposed matrix"},
    {"unit", LCL_BOOL, offsetof(lc_attr, unit), .fallback = "false", .doc = "take the diagonal as ones"},
    {0},
};
static const lcl_option_set solve_set = {"solve_triangular", solve_rows};

static int solve_triangular(lua_State *L) {
    lc_tensor *in[2] = {lcl_tensor(L, 1), lcl_tensor(L, 2)};
    lc_attr attr = {0};
    lcl_options(L, 3, &solve_set, &attr);
    bool vector = in[1]->ndim == 1;
    if (vector) in[1] = push_reshaped(L, in[1], 2, (int64_t[]){in[1]->shape[0], 1});
    lcl_apply(L, LC_OP_SOLVE_TRIANGULAR, &attr, in, 2, 1);
    if (vector) push_reshaped(L, lcl_tensor(L, -1), 1, in[1]->shape);
    return 1;
}

/* The inverse of a positive definite matrix from its lower factor L: with W = L^-1 it is W^T W. */
static int cholesky_inverse(lua_State *L) {
    lc_tensor *in[2] = {lcl_tensor(L, 1)};
    lc_attr attr = {0};
    lcl_options(L, 2, &cholesky_set, &attr.upper);
    if (in[0]->ndim != 2 || in[0]->shape[0] != in[0]->shape[1])
        lcl_error(L, "cholesky_inverse: expected a square factor, got shape %s", LC_SHAPE(in[0]));
    int64_t n = in[0]->shape[0];
    attr.transpose = attr.upper; /* U^T is the lower factor */
    lc_tensor **identity = lcl_push(L, &LCL_TENSOR), **transposed = lcl_push(L, &LCL_TENSOR);
    lcl_done(L, lc_tensor_zeros(in[0]->dtype, 2, in[0]->shape, in[0]->storage->device, identity), 0);
    for (int64_t i = 0; i < n; i++) lc_set_f64(*identity, i * (n + 1), 1);
    in[1] = *identity;
    lcl_apply(L, LC_OP_SOLVE_TRIANGULAR, &attr, in, 2, 1);
    in[1] = lcl_tensor(L, -1);
    lcl_done(L, lc_transpose(in[1], 0, 1, transposed), 0);
    in[0] = *transposed;
    return lcl_apply(L, LC_OP_MATMUL, NULL, in, 2, 1);
}

static int inverse(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    return lcl_apply(L, LC_OP_INVERSE, NULL, &x, 1, 1);
}

static int eigh(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    return lcl_apply(L, LC_OP_EIGH, NULL, &x, 1, 2);
}

const lcl_function lcl_product_functions[] = {
    {"matmul", matmul, "x:matmul(y) -> tensor",
     "The matrix product over the last two dimensions; those before broadcast. A vector is a row on the left, a column "
     "on the right."},
    {"addmm_", addmm, "x:addmm_(a, b, {alpha, beta}) -> x", "x = beta x + alpha a b, in place.", &addmm_set},
    {"outer", outer, "x:outer(y) -> matrix", "x y^T of two vectors."},
    {"dot", dot, "x:dot(y) -> tensor", "The sum of the products of two vectors."},
    {"diag", diag, "x:diag() -> matrix", "The square matrix with x on its diagonal."},
    {"cholesky", cholesky, "x:cholesky({upper}) -> tensor", "The triangular factor of a positive definite matrix.",
     &cholesky_set},
    {"cholesky_inverse", cholesky_inverse, "x:cholesky_inverse({upper}) -> tensor",
     "The inverse of the matrix whose Cholesky factor x is.", &cholesky_set},
    {"inverse", inverse, "x:inverse() -> tensor", "The inverse of a square matrix; a singular one is an error."},
    {"eigh", eigh, "x:eigh() -> values, vectors",
     "Eigenvalues in ascending order and eigenvectors, as columns with their largest entry positive, of a symmetric "
     "matrix, of which the lower triangle is read. The gradient is that of a symmetric matrix; what depends on how "
     "vectors of equal eigenvalues are turned gets none."},
    {"solve_triangular", solve_triangular, "x:solve_triangular(b, {upper, transpose, unit}) -> tensor",
     "y with x y = b, for a triangular x; b is a matrix or a vector.", &solve_set},
    {0},
};
