/* tensor_reduce.c: many numbers to few: sums and the like, order, and statistics. */
#include <math.h>

#include "tensor.h"

/* -- reductions over one dimension, several, or all -- */

typedef struct reduce_options {
    bool keepdim;
    int64_t correction;
} reduce_options;

static const lcl_option reduce_rows[] = {
    {"keepdim", LCL_BOOL, offsetof(reduce_options, keepdim), .fallback = "false",
     .doc = "leave reduced dimensions in, with size 1"},
    {0},
};
static const lcl_option variance_rows[] = {
    {"keepdim", LCL_BOOL, offsetof(reduce_options, keepdim), .fallback = "false",
     .doc = "leave reduced dimensions in, with size 1"},
    {"correction", LCL_INT, offsetof(reduce_options, correction), .fallback = "1", .min = 0, .max = 1,
     .doc = "divide by n - correction: 1 for a sample, 0 for the population"},
    {0},
};
static const lcl_option_set reduce_set = {"reduction", reduce_rows};
static const lcl_option_set variance_set = {"variance", variance_rows};

static reduce_options read_options(lua_State *L, int arg, const lcl_option_set *rows) {
    reduce_options o = {.correction = 1};
    lcl_option_set set = {lcl_function_name(L), rows->rows};
    lcl_options(L, arg, &set, &o);
    return o;
}

/* Reads the list of dimensions at `arg` into `reduced`. */
static void read_dims(lua_State *L, int arg, const lc_tensor *x, bool reduced[LC_MAX_DIMS]) {
    for (int i = 0; i < x->ndim; i++) reduced[i] = false;
    int64_t count = (int64_t)lua_rawlen(L, arg);
    for (int64_t i = 1; i <= count; i++) {
        lua_rawgeti(L, arg, i);
        int dim = lcl_dim(L, lua_gettop(L), x->ndim);
        if (reduced[dim]) lcl_error(L, "%s: dimension %d is in the list twice", lcl_function_name(L), dim + 1);
        reduced[dim] = true;
        lua_pop(L, 1);
    }
}

/* Several dimensions: they are moved behind the others and made one. `kept` is the result's shape. Pushes (others...,
 * n). */
static lc_tensor *push_merged(lua_State *L, lc_tensor *x, const bool *reduced, bool keepdim, int *kept,
                              int64_t *kept_shape) {
    int order[LC_MAX_DIMS], n = 0;
    int64_t shape[LC_MAX_DIMS], merged = 1;
    *kept = 0;
    for (int i = 0; i < x->ndim; i++) {
        if (!reduced[i])
            shape[n] = x->shape[i], order[n++] = i;
        else
            merged *= x->shape[i];
        if (!reduced[i] || keepdim) kept_shape[(*kept)++] = reduced[i] ? 1 : x->shape[i];
    }
    int others = n;
    for (int i = 0; i < x->ndim; i++)
        if (reduced[i]) order[n++] = i;
    shape[others] = merged;
    lc_tensor **permuted = lcl_push(L, &LCL_TENSOR), **line = lcl_push(L, &LCL_TENSOR);
    lcl_done(L, lc_permute(x, order, permuted), 0);
    lcl_done(L, lc_reshape(*permuted, others + 1, shape, line), 0);
    return *line;
}

/* Reduces by the running op over the dimensions at argument 2. */
static int reduce_with(lua_State *L, reduce_options o) {
    lc_tensor *x = lcl_tensor(L, 1);
    lc_attr attr = {.dim = -1, .keepdim = o.keepdim, .a = (double)o.correction};
    if (!lua_istable(L, 2)) {
        attr.dim = lcl_optional_dim(L, 2, x->ndim, -1);
        return lcl_apply(L, lcl_op(L), &attr, &x, 1, 1);
    }
    bool reduced[LC_MAX_DIMS];
    int64_t shape[LC_MAX_DIMS];
    int ndim;
    read_dims(L, 2, x, reduced);
    lc_tensor *line = push_merged(L, x, reduced, o.keepdim, &ndim, shape);
    attr.dim = line->ndim - 1;
    attr.keepdim = false;
    lcl_apply(L, lcl_op(L), &attr, &line, 1, 1);
    lc_tensor *result = lcl_tensor(L, -1), **slot = lcl_push(L, &LCL_TENSOR);
    return lcl_done(L, lc_reshape(result, ndim, shape, slot), 1);
}

static int reduce(lua_State *L) {
    return reduce_with(L, read_options(L, 3, &reduce_set));
}

static int variance(lua_State *L) {
    return reduce_with(L, read_options(L, 3, &variance_set));
}

/* Where the variance is 0, a root of 1 stands in and 0 is put back: the root's slope there is infinite, and the gradient
 * would be NaN instead of 0. */
static int deviation(lua_State *L) {
    variance(L);
    lc_tensor *in[2] = {lcl_tensor(L, -1)};
    lcl_apply(L, LC_OP_NOT, NULL, in, 1, 1);
    in[1] = lcl_tensor(L, -1);
    lcl_apply(L, LC_OP_MASKED_FILL, &(lc_attr){.a = 1}, in, 2, 1);
    in[0] = lcl_tensor(L, -1);
    lcl_apply(L, LC_OP_SQRT, NULL, in, 1, 1);
    in[0] = lcl_tensor(L, -1);
    return lcl_apply(L, LC_OP_MASKED_FILL, &(lc_attr){.a = 0}, in, 2, 1);
}

static int cumsum(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    lc_attr attr = {.dim = lcl_dim(L, 2, x->ndim)};
    return lcl_apply(L, LC_OP_CUMSUM, &attr, &x, 1, 1);
}

/* -- order -- */

static const lcl_option sort_rows[] = {
    {"descending", LCL_BOOL, 0, .fallback = "false", .doc = "largest first"},
    {0},
};
static const lcl_option_set sort_set = {"sort", sort_rows};

static int push_sorted(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    lc_attr attr = {.dim = lcl_optional_dim(L, 2, x->ndim, x->ndim - 1)};
    lcl_option_set set = {lcl_function_name(L), sort_rows};
    lcl_options(L, 3, &set, &attr.descending);
    return lcl_apply(L, LC_OP_SORT, &attr, &x, 1, 2);
}

static int sort(lua_State *L) {
    return push_sorted(L);
}

static int argsort(lua_State *L) {
    push_sorted(L);
    return 1; /* the second of the two */
}

static const lcl_option topk_rows[] = {
    {"largest", LCL_BOOL, 0, .fallback = "true", .doc = "the largest; false gives the smallest"},
    {0},
};
static const lcl_option_set topk_set = {"topk", topk_rows};

static int topk(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    lc_attr attr = {.n = lcl_integer(L, 2), .dim = lcl_optional_dim(L, 3, x->ndim, x->ndim - 1)};
    lcl_options(L, 4, &topk_set, &attr.descending);
    return lcl_apply(L, LC_OP_TOPK, &attr, &x, 1, 2);
}

static int kthvalue(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    lc_attr attr = {.n = lcl_integer(L, 2), .dim = lcl_optional_dim(L, 3, x->ndim, x->ndim - 1)};
    return lcl_apply(L, LC_OP_KTH, &attr, &x, 1, 2);
}

static int quantile(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    lc_attr attr = {.a = lcl_number(L, 2), .dim = lcl_optional_dim(L, 3, x->ndim, -1)};
    attr.keepdim = read_options(L, 4, &reduce_set).keepdim;
    return lcl_apply(L, LC_OP_QUANTILE, &attr, &x, 1, 1);
}

/* -- keep: the n largest, or a share of all -- */

typedef struct keep_options {
    int64_t dim;
    int scope;
} keep_options;

static const char *const scopes[] = {"all", NULL};
static const lcl_option keep_rows[] = {
    {"dim", LCL_INT, offsetof(keep_options, dim),
     .doc = "count along this dimension; nil counts over the whole tensor"},
    {"scope", LCL_CHOICE, offsetof(keep_options, scope), .choices = scopes,
     .doc = "\"all\": over the whole tensor, as without dim"},
    {0},
};
static const lcl_option_set keep_set = {"keep", keep_rows};

/* A share keeps what pruning floor((1 - share) n) leaves; a product that is an integer but for rounding counts as one.
 */
static int64_t share_of(double share, int64_t n) {
    double product = share * (double)n, nearest = round(product);
    return (int64_t)(fabs(product - nearest) <= 1e-9 * (double)n ? nearest : ceil(product));
}

static int keep(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    keep_options o = {.dim = 0, .scope = -1};
    double amount = lcl_number(L, 2);
    lcl_options(L, 3, &keep_set, &o);
    if (o.dim && o.scope >= 0) lcl_error(L, "keep: give dim, or scope = 'all', not both");
    lc_attr attr = {.dim = -1};
    if (lcl_field(L, 3, "dim") != LUA_TNIL) attr.dim = lcl_dim(L, lua_gettop(L), x->ndim);
    int64_t size = attr.dim < 0 ? lc_numel(x) : x->shape[attr.dim];
    bool share = !lua_isinteger(L, 2) && amount <= 1;
    if (share && !(amount >= 0)) lcl_error(L, "keep: a share is from 0.0 to 1.0, got %g", amount);
    attr.n = share ? share_of(amount, size) : lcl_integer(L, 2);
    if (attr.n < 0 || attr.n > size)
        lcl_error(L, "keep: %lld of %lld entries cannot be kept", (long long)attr.n, (long long)size);
    return lcl_apply(L, LC_OP_KEEP, &attr, &x, 1, 1);
}

#define REDUCE(name, OP, doc) \
    { #name, reduce, "x:" #name "([dim | dims], {keepdim}) -> tensor", doc, &reduce_set, LC_OP_##OP }

const lcl_function lcl_reduce_functions[] = {
    REDUCE(sum, SUM, "The sum over everything, one dimension or a list of them; integers and booleans sum to i64."),
    REDUCE(mean, MEAN, "The mean; integers give f32."),
    REDUCE(min, MIN,
           "The smallest; NaN wins. x:argmin says where: of equal ones the first, which alone has the gradient."),
    REDUCE(max, MAX,
           "The largest; NaN wins. x:argmax says where: of equal ones the first, which alone has the gradient."),
    REDUCE(norm, NORM, "The root of the sum of squares."),
    REDUCE(logsumexp, LOGSUMEXP, "log(sum(exp(x))), without overflow."),
    REDUCE(argmin, ARGMIN, "The index of the smallest, counted from 0; the first of equals."),
    REDUCE(argmax, ARGMAX, "The index of the largest, counted from 0; the first of equals."),
    REDUCE(any, ANY, "Whether one is not zero."),
    REDUCE(all, ALL, "Whether none is zero."),
    {"var", variance, "x:var([dim | dims], {keepdim, correction = 1}) -> tensor", "The variance.", &variance_set,
     LC_OP_VAR},
    {"std", deviation, "x:std([dim | dims], {keepdim, correction = 1}) -> tensor", "The standard deviation.",
     &variance_set, LC_OP_VAR},
    {"cumsum", cumsum, "x:cumsum(dim) -> tensor", "Running sums along a dimension."},
    {"sort", sort, "x:sort([dim = -1], {descending}) -> values, indices",
     "Sorted along a dimension: stable, NaN last; indices count from 0.", &sort_set},
    {"argsort", argsort, "x:argsort([dim = -1], {descending}) -> indices",
     "The indices, from 0, that sort a dimension.", &sort_set},
    {"topk", topk, "x:topk(k, [dim = -1], {largest = true}) -> values, indices",
     "The k largest along a dimension, in order; indices count from 0.", &topk_set},
    {"kthvalue", kthvalue, "x:kthvalue(k, [dim = -1]) -> values, indices",
     "The k-th smallest along a dimension, k from 1; indices count from 0."},
    {"quantile", quantile, "x:quantile(q, [dim], {keepdim}) -> tensor",
     "The value below which a share q lies, interpolated; over everything or one dimension.", &reduce_set},
    {"keep", keep, "x:keep(n | share, {dim | scope = \"all\"}) -> booleans",
     "True at exactly the n largest, ties to the lower index. A float up to 1.0 is a share, any other number a count.",
     &keep_set},
    {0},
};
