/* ref_elementwise.c: ops on single elements. Each op is a formula in double and, where its result has the inputs' type,
 * one in exact integers, which wrap around on overflow. */
#include "base/pool.h"
#include "ops/ref/ref.h"
#include <math.h>

/* -- the walks --------------------------------------------------------------------------------- */

static void set_wrapped(lc_tensor *t, int64_t position, int64_t value) {
    lc_set_i64(t, position, ref_wrapped(t->dtype, value));
}

typedef double (*real_unary)(const lc_attr *attr, double x);
typedef int64_t (*exact_unary)(const lc_attr *attr, int64_t x);

/* y = exact(x) where that exists and x is an integer, else real(x). */
static lc_status unary(const lc_call *call, real_unary real, exact_unary exact) {
    lc_tensor *x = call->in[0], *y = call->out[0];
    lc_iter it;
    lc_iter_init(&it, 2, (lc_tensor *[]){x, y});
    bool integer = exact && !lc_dtype_is_float(x->dtype);
    for (int64_t r = 0; r < it.rows; r++) {
        LC_TRY(lc_poll());
        int64_t offset[LC_MAX_OPERANDS];
        lc_iter_row(&it, r, offset);
        for (int64_t i = 0; i < it.inner; i++) {
            int64_t px = x->offset + offset[0] + i * it.inner_stride[0];
            int64_t py = y->offset + offset[1] + i * it.inner_stride[1];
            if (integer)
                set_wrapped(y, py, exact(call->attr, lc_get_i64(x, px)));
            else
                lc_set_f64(y, py, real(call->attr, lc_get_f64(x, px)));
        }
    }
    return LC_OK;
}

typedef double (*real_binary)(double a, double b);
typedef int64_t (*exact_binary)(int64_t a, int64_t b);

/* y = exact(a, b) where that exists and both are integers, else real(a, b). */
static lc_status binary(const lc_call *call, real_binary real, exact_binary exact) {
    lc_tensor *a = call->in[0], *b = call->in[1], *y = call->out[0];
    lc_iter it;
    lc_iter_init(&it, 3, (lc_tensor *[]){a, b, y});
    bool integer = exact && !lc_dtype_is_float(a->dtype) && !lc_dtype_is_float(b->dtype);
    for (int64_t r = 0; r < it.rows; r++) {
        LC_TRY(lc_poll());
        int64_t offset[LC_MAX_OPERANDS];
        lc_iter_row(&it, r, offset);
        for (int64_t i = 0; i < it.inner; i++) {
            int64_t pa = a->offset + offset[0] + i * it.inner_stride[0];
            int64_t pb = b->offset + offset[1] + i * it.inner_stride[1];
            int64_t py = y->offset + offset[2] + i * it.inner_stride[2];
            if (integer)
                set_wrapped(y, py, exact(lc_get_i64(a, pa), lc_get_i64(b, pb)));
            else
                lc_set_f64(y, py, real(lc_get_f64(a, pa), lc_get_f64(b, pb)));
        }
    }
    return LC_OK;
}

/* y = condition ? a : b, where a may be NULL: the number attr.a. */
static lc_status choose(const lc_call *call, lc_tensor *condition, lc_tensor *a, lc_tensor *b) {
    lc_tensor *y = call->out[0];
    lc_iter it;
    lc_iter_init(&it, 4, (lc_tensor *[]){condition, a ? a : b, b, y});
    for (int64_t r = 0; r < it.rows; r++) {
        LC_TRY(lc_poll());
        int64_t offset[LC_MAX_OPERANDS];
        lc_iter_row(&it, r, offset);
        for (int64_t i = 0; i < it.inner; i++) {
            int64_t py = y->offset + offset[3] + i * it.inner_stride[3];
            bool yes = lc_get_i64(condition, condition->offset + offset[0] + i * it.inner_stride[0]);
            if (!yes)
                ref_write(y, py, ref_read(b, b->offset + offset[2] + i * it.inner_stride[2]));
            else if (a)
                ref_write(y, py, ref_read(a, a->offset + offset[1] + i * it.inner_stride[1]));
            else
                lc_set_f64(y, py, call->attr->a);
        }
    }
    return LC_OK;
}

lc_status lc_ref_where(const lc_call *call) {
    return choose(call, call->in[0], call->in[1], call->in[2]);
}

lc_status lc_ref_masked_fill(const lc_call *call) {
    return choose(call, call->in[1], NULL, call->in[0]);
}

/* Casts as lc_set_f64 and lc_set_i64 do: integers saturate. */
lc_status lc_ref_copy(const lc_call *call) {
    lc_tensor *x = call->in[0], *y = call->out[0];
    lc_iter it;
    lc_iter_init(&it, 2, (lc_tensor *[]){x, y});
    bool integer = !lc_dtype_is_float(x->dtype);
    for (int64_t r = 0; r < it.rows; r++) {
        LC_TRY(lc_poll());
        int64_t offset[LC_MAX_OPERANDS];
        lc_iter_row(&it, r, offset);
        for (int64_t i = 0; i < it.inner; i++) {
            int64_t px = x->offset + offset[0] + i * it.inner_stride[0];
            int64_t py = y->offset + offset[1] + i * it.inner_stride[1];
            if (integer)
                lc_set_i64(y, py, lc_get_i64(x, px));
            else
                lc_set_f64(y, py, lc_get_f64(x, px));
        }
    }
    return LC_OK;
}

lc_status lc_ref_fill(const lc_call *call) {
    lc_tensor *y = call->out[0];
    lc_iter it;
    lc_iter_init(&it, 1, &y);
    for (int64_t r = 0; r < it.rows; r++) {
        int64_t offset[LC_MAX_OPERANDS];
        lc_iter_row(&it, r, offset);
        for (int64_t i = 0; i < it.inner; i++)
            lc_set_f64(y, y->offset + offset[0] + i * it.inner_stride[0], call->attr->a);
    }
    return LC_OK;
}

/* -- formulas ---------------------------------------------------------------------------------- */

/* name, its value for a double x, its value for an int64_t x */
#define UNARY_EXACT(name, formula, integer_formula)               \
    static double real_##name(const lc_attr *attr, double x) {    \
        (void)attr;                                               \
        return formula;                                           \
    }                                                             \
    static int64_t exact_##name(const lc_attr *attr, int64_t x) { \
        (void)attr;                                               \
        return integer_formula;                                   \
    }                                                             \
    lc_status lc_ref_##name(const lc_call *call) {                \
        return unary(call, real_##name, exact_##name);            \
    }

/* name, its value for a double x */
#define UNARY(name, formula)                                   \
    static double real_##name(const lc_attr *attr, double x) { \
        (void)attr;                                            \
        return formula;                                        \
    }                                                          \
    lc_status lc_ref_##name(const lc_call *call) {             \
        return unary(call, real_##name, NULL);                 \
    }

/* name, its value for doubles a and b, its value for int64_t a and b */
#define BINARY_EXACT(name, formula, integer_formula)    \
    static double real_##name(double a, double b) {     \
        return formula;                                 \
    }                                                   \
    static int64_t exact_##name(int64_t a, int64_t b) { \
        return integer_formula;                         \
    }                                                   \
    lc_status lc_ref_##name(const lc_call *call) {      \
        return binary(call, real_##name, exact_##name); \
    }

/* name, its value for doubles a and b */
#define BINARY(name, formula)                       \
    static double real_##name(double a, double b) { \
        return formula;                             \
    }                                               \
    lc_status lc_ref_##name(const lc_call *call) {  \
        return binary(call, real_##name, NULL);     \
    }

/* Sums that wrap instead of being undefined. */
static int64_t wrap_add(int64_t a, int64_t b) {
    return (int64_t)((uint64_t)a + (uint64_t)b);
}
static int64_t wrap_sub(int64_t a, int64_t b) {
    return (int64_t)((uint64_t)a - (uint64_t)b);
}
static int64_t wrap_mul(int64_t a, int64_t b) {
    return (int64_t)((uint64_t)a * (uint64_t)b);
}

static double clamp_real(const lc_attr *attr, double x) {
    if (x < attr->a) x = attr->a;
    if (x > attr->b) x = attr->b;
    return x;
}

static int64_t clamp_exact(const lc_attr *attr, int64_t x) {
    if ((double)x < attr->a) return (int64_t)attr->a;
    if ((double)x > attr->b) return (int64_t)attr->b;
    return x;
}

static double sigmoid(double x) {
    return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x));
}

/* Phi, the normal distribution, and its density. erfc keeps the digits of the lower tail. */
static double normal_below(double x) {
    return 0.5 * erfc(-x * M_SQRT1_2);
}
static double normal_density(double x) {
    return exp(-0.5 * x * x) * M_2_SQRTPI * M_SQRT1_2 * 0.5;
}

/* GELU_TANH is x (1 + tanh u) / 2 with u = sqrt(2/pi) (x + 0.044715 x^3); (1 + tanh u) / 2 = sigmoid(2 u) keeps the
 * digits of the lower tail. */
static double gelu_tanh_share(double x) {
    return sigmoid(2 * M_2_SQRTPI * M_SQRT1_2 * (x + 0.044715 * x * x * x));
}
static double gelu_tanh_derivative(double x) {
    double s = gelu_tanh_share(x), slope = 2 * M_2_SQRTPI * M_SQRT1_2 * (1 + 3 * 0.044715 * x * x);
    return s + x * s * (1 - s) * slope;
}

double ref_activate(lc_activation act, double x) {
    switch (act) {
    case LC_ACT_NONE:
        return x;
    case LC_ACT_RELU:
        return x <= 0 ? 0 : x;
    case LC_ACT_GELU:
        return x * normal_below(x);
    case LC_ACT_GELU_TANH:
        return x * gelu_tanh_share(x);
    case LC_ACT_SILU:
        return x * sigmoid(x);
    case LC_ACT_TANH:
        return tanh(x);
    }
    return x;
}

/* The divisor's sign. */
static double mod_real(double a, double b) {
    double r = fmod(a, b);
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

/* b = -1 is apart because the smallest integer divided by it overflows. */
static int64_t mod_exact(int64_t a, int64_t b) {
    if (b == 0 || b == -1) return 0;
    int64_t r = a % b;
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

/* By squaring. A negative power of an integer is 0, unless the base is 1 or -1; 0 to a negative power is 0 as well. */
static int64_t pow_exact(int64_t base, int64_t power) {
    if (power < 0) return base == 1 ? 1 : base == -1 ? (power % 2 ? -1 : 1) : 0;
    int64_t result = 1;
    for (; power; power /= 2) {
        if (power % 2) result = wrap_mul(result, base);
        base = wrap_mul(base, base);
    }
    return result;
}

UNARY_EXACT(neg, -x, wrap_sub(0, x))
UNARY_EXACT(abs, fabs(x), x < 0 ? wrap_sub(0, x) : x)
UNARY_EXACT(sign, x > 0 ? 1 : x < 0 ? -1 : x, (x > 0) - (x < 0)) /* NaN stays NaN */
UNARY_EXACT(square, (x)*x, wrap_mul(x, x))
UNARY_EXACT(floor, floor(x), x)
UNARY_EXACT(ceil, ceil(x), x)
UNARY_EXACT(round, rint(x), x)
UNARY(exp, exp(x))
UNARY(expm1, expm1(x))
UNARY(log, log(x))
UNARY(log1p, log1p(x))
UNARY(sqrt, sqrt(x))
UNARY(rsqrt, 1 / sqrt(x))
UNARY(reciprocal, 1 / x)
UNARY(sin, sin(x))
UNARY(cos, cos(x))
UNARY(tanh, tanh(x))
UNARY(sigmoid, sigmoid(x))
UNARY(erf, erf(x))
UNARY_EXACT(relu, ref_activate(LC_ACT_RELU, x), x > 0 ? x : 0) /* NaN stays NaN */
UNARY(silu, ref_activate(LC_ACT_SILU, x))
UNARY(gelu, ref_activate(LC_ACT_GELU, x))
UNARY(gelu_tanh, ref_activate(LC_ACT_GELU_TANH, x))
UNARY_EXACT(clamp, clamp_real(attr, x), clamp_exact(attr, x)) /* NaN stays NaN */
UNARY(isnan, isnan(x) ? 1 : 0)
UNARY(isfinite, isfinite(x) ? 1 : 0)
UNARY(logical_not, x == 0)

BINARY(silu_backward, sigmoid(a) * (1 + a * (1 - sigmoid(a))) * b)
BINARY(gelu_backward, (normal_below(a) + a * normal_density(a)) * b)
BINARY(gelu_tanh_backward, gelu_tanh_derivative(a) * b)

BINARY_EXACT(add, a + b, wrap_add(a, b))
BINARY_EXACT(sub, a - b, wrap_sub(a, b))
BINARY_EXACT(mul, (a)*b, wrap_mul(a, b))
BINARY(div, a / b)
BINARY_EXACT(mod, mod_real(a, b), mod_exact(a, b))
BINARY_EXACT(pow, pow(a, b), pow_exact(a, b))
BINARY_EXACT(minimum, isnan(a) || a < b ? a : b, lc_min(a, b)) /* NaN wins: where b is NaN, a < b is false */
BINARY_EXACT(maximum, isnan(a) || a > b ? a : b, lc_max(a, b))
BINARY_EXACT(eq, a == b, a == b)
BINARY_EXACT(ne, a != b, a != b)
BINARY_EXACT(lt, a < b, a < b)
BINARY_EXACT(le, a <= b, a <= b)
BINARY_EXACT(gt, a > b, a > b)
BINARY_EXACT(ge, a >= b, a >= b)
BINARY(logical_and, a != 0 && b != 0)
BINARY(logical_or, a != 0 || b != 0)
BINARY(logical_xor, (a != 0) != (b != 0))
