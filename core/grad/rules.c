/* rules.c: the table of backward rules, and those of elementwise ops and reductions. x is the input, y the output, dy
 * the gradient that came; formulas are written in ops (grad/scratch.h). Where a function has a kink the rule says which
 * side it takes. SIGN, FLOOR, CEIL and ROUND have no rule: their derivative is 0 wherever it exists, so they are
 * constants to the graph. */
#include "grad/rules_parts.h"
#include "grad/scratch.h"
#include <math.h>

static lc_tensor *sub(lc_scratch *s, lc_tensor *a, lc_tensor *b) {
    return lc_step2(s, LC_OP_SUB, a, b);
}
static lc_tensor *mul(lc_scratch *s, lc_tensor *a, lc_tensor *b) {
    return lc_step2(s, LC_OP_MUL, a, b);
}
static lc_tensor *divide(lc_scratch *s, lc_tensor *a, lc_tensor *b) {
    return lc_step2(s, LC_OP_DIV, a, b);
}
static lc_tensor *neg(lc_scratch *s, lc_tensor *x) {
    return lc_step1(s, LC_OP_NEG, x);
}
static lc_tensor *square(lc_scratch *s, lc_tensor *x) {
    return lc_step1(s, LC_OP_SQUARE, x);
}
static lc_tensor *one_minus(lc_scratch *s, lc_tensor *x) {
    return lc_step_number(s, LC_OP_ADD, neg(s, x), 1);
}

/* -- element by element ------------------------------------------------------------------------ */

static lc_status rule_copy(lc_rule_call *call) {
    lc_scratch s = {0};
    lc_attr attr = {.dtype = call->dtype_in[0]};
    lc_scratch_give(&s, call, 0, lc_step(&s, LC_OP_COPY, &attr, call->dy, 1, NULL));
    return lc_scratch_finish(&s, call);
}

/* True where clamp changed nothing. */
static lc_tensor *unclamped(lc_scratch *s, const lc_rule_call *call) {
    lc_tensor *x = call->in[0];
    return lc_step2(s, LC_OP_EQ, x, lc_step(s, LC_OP_CLAMP, call->attr, &x, 1, NULL));
}

/* relu has gradient 0 at 0; abs too; clamp passes the gradient on at its bounds. Where relu met a NaN the gradient
 * passes, so that a broken step is seen. */
static lc_tensor *unary_gradient(lc_scratch *s, const lc_rule_call *call) {
    lc_tensor *x = call->in[0], *y = call->out[0], *dy = call->dy[0];
    /* clang-format off */
    switch (call->op) {
    case LC_OP_NEG: return neg(s, dy);
    case LC_OP_ABS: return mul(s, dy, lc_step1(s, LC_OP_SIGN, x));
    case LC_OP_SQUARE: return mul(s, dy, lc_step_times(s, x, 2));
    case LC_OP_EXP: return mul(s, dy, y);
    case LC_OP_EXPM1: return mul(s, dy, lc_step_number(s, LC_OP_ADD, y, 1));
    case LC_OP_LOG: return divide(s, dy, x);
    case LC_OP_LOG1P: return divide(s, dy, lc_step_number(s, LC_OP_ADD, x, 1));
    case LC_OP_SQRT: return divide(s, dy, lc_step_times(s, y, 2));
    case LC_OP_RSQRT: return mul(s, dy, lc_step_times(s, mul(s, y, square(s, y)), -0.5));
    case LC_OP_RECIPROCAL: return mul(s, dy, neg(s, square(s, y)));
    case LC_OP_SIN: return mul(s, dy, lc_step1(s, LC_OP_COS, x));
    case LC_OP_COS: return mul(s, dy, neg(s, lc_step1(s, LC_OP_SIN, x)));
    case LC_OP_TANH: return mul(s, dy, one_minus(s, square(s, y)));
    case LC_OP_SIGMOID: return mul(s, dy, mul(s, y, one_minus(s, y)));
    case LC_OP_ERF: return mul(s, dy, lc_step_times(s, lc_step1(s, LC_OP_EXP, neg(s, square(s, x))), M_2_SQRTPI));
    case LC_OP_RELU: return lc_step_unless(s, lc_step_number(s, LC_OP_LE, y, 0), dy);
    case LC_OP_SILU: return lc_step2(s, LC_OP_SILU_BACKWARD, x, dy);
    case LC_OP_GELU: return lc_step2(s, LC_OP_GELU_BACKWARD, x, dy);
    case LC_OP_GELU_TANH: return lc_step2(s, LC_OP_GELU_TANH_BACKWARD, x, dy);
    case LC_OP_CLAMP: return lc_step_where(s, unclamped(s, call), dy);
    default:
        s->status = lc_fail(LC_EINVAL, "%s: no backward rule", lc_op_name(call->op));
        return NULL;
    }
    /* clang-format on */
}

static lc_status rule_unary(lc_rule_call *call) {
    lc_scratch s = {0};
    lc_scratch_give(&s, call, 0, unary_gradient(&s, call));
    return lc_scratch_finish(&s, call);
}

static lc_status rule_add(lc_rule_call *call) {
    lc_scratch s = {0};
    for (int i = 0; i < 2; i++)
        if (call->wanted[i])
            lc_scratch_give(&s, call, i, i && call->op == LC_OP_SUB ? neg(&s, call->dy[0]) : call->dy[0]);
    return lc_scratch_finish(&s, call);
}

static lc_status rule_mul(lc_rule_call *call) {
    lc_scratch s = {0};
    for (int i = 0; i < 2; i++)
        if (call->wanted[i]) lc_scratch_give(&s, call, i, mul(&s, call->dy[0], call->in[1 - i]));
    return lc_scratch_finish(&s, call);
}

static unsigned saves_mul(const lc_attr *attr, const bool *wanted) {
    (void)attr;
    return (wanted[0] ? LC_SAVE_IN(1) : 0) | (wanted[1] ? LC_SAVE_IN(0) : 0);
}

/* da = dy / b,  db = -(dy / b) (a / b) */
static lc_status rule_div(lc_rule_call *call) {
    lc_scratch s = {0};
    lc_tensor *a = call->in[0], *b = call->in[1];
    lc_tensor *da = divide(&s, call->dy[0], b);
    if (call->wanted[0]) lc_scratch_give(&s, call, 0, da);
    if (call->wanted[1]) lc_scratch_give(&s, call, 1, neg(&s, mul(&s, da, divide(&s, a, b))));
    return lc_scratch_finish(&s, call);
}

static unsigned saves_div(const lc_attr *attr, const bool *wanted) {
    (void)attr;
    return LC_SAVE_IN(1) | (wanted[1] ? LC_SAVE_IN(0) : 0);
}

/* a mod b = a - b floor(a / b):  da = dy,  db = -dy floor(a / b) */
static lc_status rule_mod(lc_rule_call *call) {
    lc_scratch s = {0};
    lc_scratch_give(&s, call, 0, call->wanted[0] ? call->dy[0] : NULL);
    if (call->wanted[1]) {
        lc_tensor *times = lc_step1(&s, LC_OP_FLOOR, divide(&s, call->in[0], call->in[1]));
        lc_scratch_give(&s, call, 1, neg(&s, mul(&s, call->dy[0], times)));
    }
    return lc_scratch_finish(&s, call);
}

static unsigned saves_mod(const lc_attr *attr, const bool *wanted) {
    (void)attr;
    return wanted[1] ? LC_SAVE_IN(0) | LC_SAVE_IN(1) : 0;
}

static lc_tensor *cast(lc_scratch *s, lc_tensor *x, lc_dtype dtype) {
    lc_attr attr = {.dtype = dtype};
    return x->dtype == dtype ? x : lc_step(s, LC_OP_COPY, &attr, &x, 1, NULL);
}

/* da = dy b a^(b-1), 0 where b is 0;  db = dy a^b log a, 0 where a is 0 and b >= 0 (the limits). Both in the type of the
 * result: b - 1 in b's own f32 would not do beside an a of f64. */
static lc_status rule_pow(lc_rule_call *call) {
    lc_scratch s = {0};
    lc_tensor *dy = call->dy[0], *a = cast(&s, call->in[0], dy->dtype), *b = cast(&s, call->in[1], dy->dtype);
    if (call->wanted[0]) {
        lc_tensor *slope = mul(&s, b, lc_step2(&s, LC_OP_POW, a, lc_step_number(&s, LC_OP_SUB, b, 1)));
        lc_tensor *flat = lc_step_number(&s, LC_OP_EQ, b, 0);
        lc_scratch_give(&s, call, 0, lc_step_unless(&s, flat, mul(&s, dy, slope)));
    }
    if (call->wanted[1]) {
        lc_tensor *slope = mul(&s, lc_step2(&s, LC_OP_POW, a, b), lc_step1(&s, LC_OP_LOG, a));
        lc_tensor *flat =
            lc_step2(&s, LC_OP_AND, lc_step_number(&s, LC_OP_EQ, a, 0), lc_step_number(&s, LC_OP_GE, b, 0));
        lc_scratch_give(&s, call, 1, lc_step_unless(&s, flat, mul(&s, dy, slope)));
    }
    return lc_scratch_finish(&s, call);
}

/* minimum and maximum: to the operand that was taken; to a where they are equal; to both where one is NaN. */
static lc_status rule_extremum(lc_rule_call *call) {
    lc_scratch s = {0};
    bool minimum = call->op == LC_OP_MINIMUM;
    lc_tensor *a = call->in[0], *b = call->in[1];
    lc_tensor *a_lost = lc_step2(&s, minimum ? LC_OP_GT : LC_OP_LT, a, b);
    lc_tensor *b_lost = lc_step2(&s, minimum ? LC_OP_LE : LC_OP_GE, a, b);
    if (call->wanted[0]) lc_scratch_give(&s, call, 0, lc_step_unless(&s, a_lost, call->dy[0]));
    if (call->wanted[1]) lc_scratch_give(&s, call, 1, lc_step_unless(&s, b_lost, call->dy[0]));
    return lc_scratch_finish(&s, call);
}

static lc_status rule_where(lc_rule_call *call) {
    lc_scratch s = {0};
    if (call->wanted[1]) lc_scratch_give(&s, call, 1, lc_step_where(&s, call->in[0], call->dy[0]));
    if (call->wanted[2]) lc_scratch_give(&s, call, 2, lc_step_unless(&s, call->in[0], call->dy[0]));
    return lc_scratch_finish(&s, call);
}

/* -- reductions -------------------------------------------------------------------------------- */

static lc_tensor *like_input(lc_scratch *s, const lc_rule_call *call, lc_tensor *t) {
    return lc_step_expand(s, t, call->ndim_in[0], call->shape_in[0]);
}

/* How many elements go into one result. */
static double reduced_count(const lc_rule_call *call) {
    int dim = call->attr->dim;
    return (double)(dim < 0 ? lc_shape_numel(call->ndim_in[0], call->shape_in[0]) : call->shape_in[0][dim]);
}

static lc_status rule_sum(lc_rule_call *call) {
    lc_scratch s = {0};
    lc_tensor *dy = lc_step_unreduced(&s, call, call->dy[0]);
    if (call->op == LC_OP_MEAN) dy = lc_step_times(&s, dy, 1 / reduced_count(call));
    lc_scratch_give(&s, call, 0, like_input(&s, call, dy));
    return lc_scratch_finish(&s, call);
}

/* dx = dy 2 (x - mean) / (n - correction) */
static lc_status rule_var(lc_rule_call *call) {
    lc_scratch s = {0};
    lc_tensor *x = call->in[0];
    lc_tensor *centred = sub(&s, x, lc_step_dim(&s, LC_OP_MEAN, x, call->attr->dim));
    lc_tensor *dy =
        lc_step_times(&s, lc_step_unreduced(&s, call, call->dy[0]), 2 / (reduced_count(call) - call->attr->a));
    lc_scratch_give(&s, call, 0, mul(&s, centred, dy));
    return lc_scratch_finish(&s, call);
}

/* dx = dy x / |x|, 0 at x = 0 */
static lc_status rule_norm(lc_rule_call *call) {
    lc_scratch s = {0};
    lc_tensor *y = lc_step_unreduced(&s, call, call->out[0]), *dy = lc_step_unreduced(&s, call, call->dy[0]);
    lc_tensor *scale = lc_step_unless(&s, lc_step_number(&s, LC_OP_EQ, y, 0), divide(&s, dy, y));
    lc_scratch_give(&s, call, 0, mul(&s, call->in[0], scale));
    return lc_scratch_finish(&s, call);
}

/* t with the order along `dim` reversed. */
static lc_tensor *reversed(lc_scratch *s, lc_tensor *t, int dim) {
    if (s->status) return NULL;
    int64_t n = t->shape[dim];
    lc_tensor *order = lc_step_number(s, LC_OP_ADD, neg(s, lc_step_counted(s, t, n)), (double)(n - 1));
    lc_attr attr = {.dim = dim};
    lc_tensor *in[2] = {t, order};
    return lc_step(s, LC_OP_INDEX, &attr, in, 2, NULL);
}

/* dx_i = sum of dy_j over j >= i */
static lc_status rule_cumsum(lc_rule_call *call) {
    lc_scratch s = {0};
    int dim = call->attr->dim;
    lc_tensor *back = reversed(&s, call->dy[0], dim);
    lc_scratch_give(&s, call, 0, reversed(&s, lc_step(&s, LC_OP_CUMSUM, call->attr, &back, 1, NULL), dim));
    return lc_scratch_finish(&s, call);
}

/* dx = dy exp(x - y); a y of -inf (nothing but -inf went in) counts as 0, which gives 0 and not NaN */
static lc_status rule_logsumexp(lc_rule_call *call) {
    lc_scratch s = {0};
    lc_tensor *y = lc_step_unreduced(&s, call, call->out[0]);
    y = lc_step_unless(&s, lc_step_number(&s, LC_OP_EQ, y, -INFINITY), y);
    lc_tensor *share = lc_step1(&s, LC_OP_EXP, sub(&s, call->in[0], y));
    lc_scratch_give(&s, call, 0, mul(&s, share, lc_step_unreduced(&s, call, call->dy[0])));
    return lc_scratch_finish(&s, call);
}

static lc_status rule_sum_to(lc_rule_call *call) {
    lc_scratch s = {0};
    lc_scratch_give(&s, call, 0, like_input(&s, call, call->dy[0]));
    return lc_scratch_finish(&s, call);
}

/* -- the table --------------------------------------------------------------------------------- */

#define IN(i) LC_SAVE_IN(i)
#define OUT(i) LC_SAVE_OUT(i)

/* clang-format off */
static const lc_rule_row rows[LC_GRAPH_OPS] = {
    [LC_OP_COPY] = {rule_copy, 0, NULL},
    [LC_OP_NEG] = {rule_unary, 0, NULL},
    [LC_OP_ABS] = {rule_unary, IN(0), NULL},
    [LC_OP_SQUARE] = {rule_unary, IN(0), NULL},
    [LC_OP_EXP] = {rule_unary, OUT(0), NULL},
    [LC_OP_EXPM1] = {rule_unary, OUT(0), NULL},
    [LC_OP_LOG] = {rule_unary, IN(0), NULL},
    [LC_OP_LOG1P] = {rule_unary, IN(0), NULL},
    [LC_OP_SQRT] = {rule_unary, OUT(0), NULL},
    [LC_OP_RSQRT] = {rule_unary, OUT(0), NULL},
    [LC_OP_RECIPROCAL] = {rule_unary, OUT(0), NULL},
    [LC_OP_SIN] = {rule_unary, IN(0), NULL},
    [LC_OP_COS] = {rule_unary, IN(0), NULL},
    [LC_OP_TANH] = {rule_unary, OUT(0), NULL},
    [LC_OP_SIGMOID] = {rule_unary, OUT(0), NULL},
    [LC_OP_ERF] = {rule_unary, IN(0), NULL},
    [LC_OP_RELU] = {rule_unary, OUT(0), NULL},
    [LC_OP_SILU] = {rule_unary, IN(0), NULL},
    [LC_OP_GELU] = {rule_unary, IN(0), NULL},
    [LC_OP_GELU_TANH] = {rule_unary, IN(0), NULL},
    [LC_OP_CLAMP] = {rule_unary, IN(0), NULL},
    [LC_OP_ADD] = {rule_add, 0, NULL},
    [LC_OP_SUB] = {rule_add, 0, NULL},
    [LC_OP_MUL] = {rule_mul, IN(0) | IN(1), saves_mul},
    [LC_OP_DIV] = {rule_div, IN(0) | IN(1), saves_div},
    [LC_OP_MOD] = {rule_mod, IN(0) | IN(1), saves_mod},
    [LC_OP_POW] = {rule_pow, IN(0) | IN(1), NULL},
    [LC_OP_MINIMUM] = {rule_extremum, IN(0) | IN(1), NULL},
    [LC_OP_MAXIMUM] = {rule_extremum, IN(0) | IN(1), NULL},
    [LC_OP_WHERE] = {rule_where, IN(0), NULL},

    [LC_OP_SUM] = {rule_sum, 0, NULL},
    [LC_OP_MEAN] = {rule_sum, 0, NULL},
    [LC_OP_VAR] = {rule_var, IN(0), NULL},
    [LC_OP_MIN] = {lc_rule_minmax, IN(0), NULL},
    [LC_OP_MAX] = {lc_rule_minmax, IN(0), NULL},
    [LC_OP_NORM] = {rule_norm, IN(0) | OUT(0), NULL},
    [LC_OP_CUMSUM] = {rule_cumsum, 0, NULL},
    [LC_OP_LOGSUMEXP] = {rule_logsumexp, IN(0) | OUT(0), NULL},
    [LC_OP_SUM_TO] = {rule_sum_to, 0, NULL},

    [LC_OP_SORT] = {lc_rule_order, OUT(1), NULL},
    [LC_OP_TOPK] = {lc_rule_order, OUT(1), NULL},
    [LC_OP_KTH] = {lc_rule_kth, OUT(1), NULL},
    [LC_OP_QUANTILE] = {lc_rule_quantile, IN(0), NULL},

    [LC_OP_GATHER] = {lc_rule_gather, IN(1), NULL},
    [LC_OP_SCATTER] = {lc_rule_scatter, IN(1), NULL},
    [LC_OP_INDEX] = {lc_rule_index, IN(1), NULL},
    [LC_OP_INDEX_ADD] = {lc_rule_index_add, IN(1), NULL},
    [LC_OP_CAT] = {lc_rule_cat, 0, NULL},
    [LC_OP_MASKED_FILL] = {lc_rule_masked_fill, IN(1), NULL},
    [LC_OP_TRIANGLE] = {lc_rule_same_op, 0, NULL},

    [LC_OP_MATMUL] = {lc_rule_matmul, IN(0) | IN(1), saves_mul},
    [LC_OP_LINEAR] = {lc_rule_linear, IN(0) | IN(1) | OUT(1), lc_saves_linear},
    [LC_OP_CHOLESKY] = {lc_rule_cholesky, OUT(0), NULL},
    [LC_OP_INVERSE] = {lc_rule_inverse, OUT(0), NULL},
    [LC_OP_EIGH] = {lc_rule_eigh, OUT(0) | OUT(1), NULL, .outputs = 2},
    [LC_OP_SOLVE_TRIANGULAR] = {lc_rule_solve_triangular, IN(0) | OUT(0), NULL},

    [LC_OP_SOFTMAX] = {lc_rule_softmax, OUT(0), NULL},
    [LC_OP_LOG_SOFTMAX] = {lc_rule_softmax, OUT(0), NULL},
    [LC_OP_LAYER_NORM] = {lc_rule_layer_norm, IN(0) | IN(1) | OUT(1) | OUT(2), NULL},
    [LC_OP_RMS_NORM] = {lc_rule_rms_norm, IN(0) | IN(1) | OUT(1), NULL},
    [LC_OP_DROPOUT] = {lc_rule_same_op, 0, NULL},

    [LC_OP_EMBEDDING] = {lc_rule_embedding, IN(1), NULL},
    [LC_OP_ROTARY] = {lc_rule_rotary, IN(1) | IN(2), NULL},
    [LC_OP_ATTENTION] = {lc_rule_attention, IN(0) | IN(1) | IN(2) | IN(3) | OUT(0) | OUT(1), NULL},
    [LC_OP_CROSS_ENTROPY] = {lc_rule_cross_entropy, IN(0) | IN(1) | OUT(1), NULL},
    [LC_OP_LINEAR_CROSS_ENTROPY] = {lc_rule_linear_cross_entropy, OUT(1) | OUT(2), NULL},

    [LC_OP_RESHAPE] = {lc_rule_reshape, 0, NULL},
    [LC_OP_PERMUTE] = {lc_rule_permute, 0, NULL},
    [LC_OP_EXPAND] = {lc_rule_expand, 0, NULL},
    [LC_OP_SLICE] = {lc_rule_slice, 0, NULL},
};
/* clang-format on */

const lc_rule_row *lc_rule_of(lc_op op) {
    return &rows[op];
}
