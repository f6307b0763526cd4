/* tensor_math.c: element by element: operators, functions of one number, comparisons, and writing in place. */
#include <math.h>

#include "tensor.h"

static int unary(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    return lcl_finish(L, NULL, &x, 1);
}

/* Is this an integer tensor raised to a negative integer? That makes fractions. */
static bool makes_fractions(lua_State *L, const lc_tensor *x) {
    return x && lcl_op(L) == LC_OP_POW && lua_isinteger(L, 2) && lua_tointeger(L, 2) < 0 &&
           !lc_dtype_is_float(x->dtype);
}

/* A tensor and a number: the number's tensor lives only inside this call, which spares a handle. */
static int with_number(lua_State *L, lc_tensor *const given[2]) {
    int arg = given[0] ? 2 : 1;
    lc_tensor *in[2] = {given[0], given[1]}, *out[LC_MAX_OUT] = {0};
    lc_dtype dtype = makes_fractions(L, given[0]) ? LC_F32 : lcl_number_dtype(L, arg, in[2 - arg]);
    double value = lcl_number_value(L, arg);
    lc_tensor **slot = lcl_push(L, &LCL_TENSOR);
    lc_status status = lc_tensor_scalar(dtype, value, &in[arg - 1]);
    if (!status) {
        status = lc_apply(lcl_op(L), NULL, in, 2, out);
        lc_tensor_release(in[arg - 1]);
        *slot = out[0];
    }
    return lcl_done(L, status, 1);
}

static int binary(lua_State *L) {
    lc_tensor *in[2] = {lcl_test(L, 1, &LCL_TENSOR), lcl_test(L, 2, &LCL_TENSOR)};
    if (in[0] && in[1]) return lcl_finish(L, NULL, in, 2);
    if (!in[0] && !in[1]) lcl_expected(L, 1, "a tensor");
    if (!lcl_in_place(L)) return with_number(L, in);
    in[0] = lcl_tensor(L, 1);
    if (makes_fractions(L, in[0]))
        lcl_error(L, "pow_: a negative power gives floats, which a tensor of %s cannot hold; use x:to",
                  lc_dtype_name(in[0]->dtype));
    in[1] = lcl_operand(L, 2, in[0]);
    return lcl_finish(L, NULL, in, 2);
}

static int clamp(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    lc_attr attr = {.a = -INFINITY, .b = INFINITY};
    if (!lua_isnoneornil(L, 2)) attr.a = lcl_number(L, 2);
    if (!lua_isnoneornil(L, 3)) attr.b = lcl_number(L, 3);
    if (!lc_dtype_is_float(x->dtype)) { /* the integers within */
        attr.a = ceil(attr.a);
        attr.b = floor(attr.b);
    }
    if (attr.a > attr.b) lcl_error(L, "clamp: the low end %g is above the high end %g", attr.a, attr.b);
    return lcl_finish(L, &attr, &x, 1);
}

/* lc.where(condition, a, b): a and b may be numbers, but not both unless they make f32. */
static int where(lua_State *L) {
    lc_tensor *condition = lcl_tensor(L, 1);
    lua_settop(L, 3);
    lc_tensor *a = lcl_test(L, 2, &LCL_TENSOR), *b = lcl_test(L, 3, &LCL_TENSOR);
    const lc_tensor number = {.dtype = LC_F32}; /* two numbers meet as f32 */
    a = lcl_operand(L, 2, b ? b : &number);
    b = lcl_operand(L, 3, a);
    lc_tensor *in[3] = {condition, a, b};
    return lcl_apply(L, LC_OP_WHERE, NULL, in, 3, 1);
}

/* -- in place -- */

static int copy_into(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1), *source = lcl_source(L, 2, x);
    lc_tensor **expanded = lcl_push(L, &LCL_TENSOR);
    lcl_done(L, lc_expand(source, x->ndim, x->shape, expanded), 1);
    lc_attr attr = {.dtype = x->dtype};
    return lcl_apply_into(L, LC_OP_COPY, &attr, expanded, 1, x);
}

static int fill(lua_State *L) {
    lc_tensor *x = lcl_tensor(L, 1);
    lcl_check_fits(L, 2, x->dtype);
    lc_attr attr = {.a = lcl_number_value(L, 2)};
    return lcl_apply_into(L, LC_OP_FILL, &attr, NULL, 0, x);
}

static int zero(lua_State *L) {
    lc_attr attr = {0};
    return lcl_apply_into(L, LC_OP_FILL, &attr, NULL, 0, lcl_tensor(L, 1));
}

#define UNARY(name, OP, doc) \
    { #name, unary, "x:" #name "() -> tensor", doc, NULL, LC_OP_##OP, true }
#define BINARY(name, OP, doc) \
    { #name, binary, "x:" #name "(y) -> tensor", doc, NULL, LC_OP_##OP, true }
#define TEST(name, OP, doc) \
    { #name, unary, "x:" #name "() -> booleans", doc, NULL, LC_OP_##OP }
#define COMPARE(name, OP, doc) \
    { #name, binary, "x:" #name "(y) -> booleans", doc, NULL, LC_OP_##OP }

const lcl_function lcl_math_functions[] = {
    BINARY(add, ADD, "x + y, broadcasting. add_ adds into x."),
    BINARY(sub, SUB, "x - y, broadcasting."),
    BINARY(mul, MUL, "x * y element by element, broadcasting; booleans count as 0 and 1."),
    BINARY(div, DIV, "x / y, broadcasting; integers give floats."),
    BINARY(mod, MOD, "x % y, with the divisor's sign."),
    BINARY(pow, POW,
           "x ^ y, broadcasting. Integers give integers, fractions cut towards 0; with a fraction or a "
           "negative number as y, floats."),
    BINARY(minimum, MINIMUM, "The smaller of x and y, element by element; NaN wins. Of equal ones x has the gradient."),
    BINARY(maximum, MAXIMUM, "The larger of x and y, element by element; NaN wins. Of equal ones x has the gradient."),
    COMPARE(eq, EQ, "Where x equals y. (x == y in Lua asks whether both are one handle.)"),
    COMPARE(ne, NE, "Where x differs from y."),
    COMPARE(lt, LT, "Where x is less than y."),
    COMPARE(le, LE, "Where x is less than y or equal."),
    COMPARE(gt, GT, "Where x is greater than y."),
    COMPARE(ge, GE, "Where x is greater than y or equal."),
    COMPARE(logical_and, AND, "Where both are not zero; & for booleans."),
    COMPARE(logical_or, OR, "Where one is not zero; | for booleans."),
    COMPARE(logical_xor, XOR, "Where exactly one is not zero; ~ between booleans."),
    TEST(logical_not, NOT, "Where x is zero; ~x for booleans."),
    TEST(isnan, IS_NAN, "Where x is not a number."),
    TEST(isfinite, IS_FINITE, "Where x is neither infinite nor NaN."),
    UNARY(neg, NEG, "-x."),
    UNARY(abs, ABS, "The absolute value."),
    UNARY(sign, SIGN, "-1, 0 or 1; a constant to gradients."),
    UNARY(square, SQUARE, "x * x."),
    UNARY(floor, FLOOR, "The next integer below."),
    UNARY(ceil, CEIL, "The next integer above."),
    UNARY(round, ROUND, "The nearest integer; a half goes to the even one."),
    UNARY(exp, EXP, "e to the power x."),
    UNARY(expm1, EXPM1, "exp(x) - 1, exact near 0."),
    UNARY(log, LOG, "The natural logarithm."),
    UNARY(log1p, LOG1P, "log(1 + x), exact near 0."),
    UNARY(sqrt, SQRT, "The square root."),
    UNARY(rsqrt, RSQRT, "1 / sqrt(x)."),
    UNARY(reciprocal, RECIPROCAL, "1 / x."),
    UNARY(sin, SIN, "The sine of x radians."),
    UNARY(cos, COS, "The cosine of x radians."),
    UNARY(tanh, TANH, "The hyperbolic tangent."),
    UNARY(sigmoid, SIGMOID, "1 / (1 + exp(-x))."),
    UNARY(erf, ERF, "The error function."),
    UNARY(relu, RELU, "x where it is positive, else 0."),
    UNARY(silu, SILU, "x sigmoid(x)."),
    UNARY(gelu, GELU, "x Phi(x), with the normal distribution's Phi by erf."),
    UNARY(gelu_tanh, GELU_TANH, "gelu by its tanh approximation (\"gelu_new\")."),
    {"clamp", clamp, "x:clamp(low, high) -> tensor",
     "x moved into low..high; nil leaves an end open. The gradient is 1 inside and at both ends.", NULL, LC_OP_CLAMP,
     true},
    {"where", where, "lc.where(condition, a, b) -> tensor",
     "a where the condition is true, else b; numbers and tensors, broadcasting."},
    {"copy_", copy_into, "x:copy_(v) -> x",
     "Writes v (a tensor, a number or a table), broadcast to x's shape, into x."},
    {"fill_", fill, "x:fill_(number) -> x", "Writes one number everywhere."},
    {"zero_", zero, "x:zero_() -> x", "Writes 0 everywhere."},
    {0},
};
