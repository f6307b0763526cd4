/* test_rules.c: every differentiable op's recorded gradient equals central differences in f64, whatever the layout of
 * its inputs. */
#include "check.h"
#include "grad/check.h"
#include "grad/rules.h"
#include "op_cases.h"

#define STEP 1e-5
#define TOLERANCE 2e-7

/* What the checked function needs besides the leaves that are varied. */
typedef struct run_case {
    const op_case *c;
    op_layout layout;
    lc_attr attr;
    int n;
    lc_tensor *leaf[LC_MAX_IN]; /* all of them; NULL where absent */
    bool varied[LC_MAX_IN];
} run_case;

static lc_status call_op(void *context, lc_tensor *const *x, int n, lc_tensor **y) {
    run_case *r = context;
    (void)x; /* the leaves that are varied are r's own */
    (void)n;
    lc_tensor *in[LC_MAX_IN] = {0}, *out[LC_MAX_OUT] = {0};
    lc_status status = LC_OK;
    for (int i = 0; i < r->n && !status; i++)
        if (r->leaf[i]) status = op_case_view(r->c, i, 0, r->layout, r->leaf[i], &in[i]);
    if (!status) status = lc_apply(r->c->op, &r->attr, in, r->n, out);
    if (!status) *y = out[0];
    for (int i = 1; i < LC_MAX_OUT; i++) lc_tensor_release(out[i]);
    for (int i = 0; i < r->n; i++) lc_tensor_release(in[i]);
    return status;
}

static lc_status make_leaves(run_case *r) {
    for (int i = 0; i < r->n; i++) {
        if (!r->c->in[i].shape) continue;
        LC_TRY(op_case_leaf(r->c, i, 0, r->layout, LC_F64, &r->leaf[i]));
        r->varied[i] = r->leaf[i]->dtype == LC_F64 && !r->c->in[i].constant;
        if (r->varied[i]) LC_TRY(lc_require_grad(r->leaf[i], true));
    }
    return LC_OK;
}

/* Prints which case failed; CHECK_NEAR then counts it. */
static void check_gradient(const op_case *c, op_layout layout) {
    run_case r = {.c = c, .layout = layout, .attr = op_case_attr(c, 0), .n = op_case_inputs(c)};
    lc_tensor *x[LC_MAX_IN];
    int n = 0;
    double worst = NAN;
    lc_status status = make_leaves(&r);
    for (int i = 0; i < r.n; i++)
        if (r.varied[i]) x[n++] = r.leaf[i];
    if (!status) status = lc_gradient_check(call_op, &r, x, n, STEP, &worst);
    if (status || !(worst <= TOLERANCE))
        fprintf(stderr, "%s (%s), %s:\n", lc_op_name(c->op), c->note, op_layout_name(layout));
    CHECK_OK(status);
    CHECK_NEAR(worst, 0, TOLERANCE);
    for (int i = 0; i < r.n; i++) lc_tensor_release(r.leaf[i]);
}

/* -- views, and what the table cannot say -- */

static lc_status reshape_to_6(void *context, lc_tensor *const *x, int n, lc_tensor **y) {
    (void)context;
    (void)n;
    lc_tensor *crossed = NULL;
    LC_TRY(lc_transpose(x[0], 0, 1, &crossed)); /* no view can do this reshape */
    lc_status status = lc_reshape(crossed, 2, (int64_t[]){2, 3}, y);
    lc_tensor_release(crossed);
    return status;
}

static lc_status permute_dims(void *context, lc_tensor *const *x, int n, lc_tensor **y) {
    (void)context;
    (void)n;
    lc_tensor *deep = NULL;
    LC_TRY(lc_reshape(x[0], 3, (int64_t[]){3, 2, 1}, &deep));
    lc_status status = lc_permute(deep, (int[]){2, 0, 1}, y);
    lc_tensor_release(deep);
    return status;
}

static lc_status expand_dims(void *context, lc_tensor *const *x, int n, lc_tensor **y) {
    (void)context;
    (void)n;
    return lc_expand(x[0], 3, (int64_t[]){4, 3, 2}, y);
}

static lc_status slice_steps(void *context, lc_tensor *const *x, int n, lc_tensor **y) {
    (void)context;
    (void)n;
    return lc_slice(x[0], 0, 0, 2, 2, y);
}

/* A loss that is scaled: its gradient is not 1, and the products that the forward pass left have to be multiplied. */
static lc_status scaled_loss(void *context, lc_tensor *const *x, int n, lc_tensor **y) {
    lc_tensor *out[3] = {0}, *in[3] = {x[0], x[1], context};
    (void)n;
    LC_TRY(lc_apply(LC_OP_LINEAR_CROSS_ENTROPY, &(lc_attr){.train = true}, in, 3, out));
    lc_status status = lc_binary(LC_OP_MUL, out[0], out[0], y);
    for (int i = 0; i < 3; i++) lc_tensor_release(out[i]);
    return status;
}

/* One leaf on both sides. */
static lc_status times_itself(void *context, lc_tensor *const *x, int n, lc_tensor **y) {
    (void)context;
    (void)n;
    lc_tensor *turned = NULL;
    LC_TRY(lc_transpose(x[0], 0, 1, &turned));
    lc_status status = lc_matmul(turned, x[0], y);
    lc_tensor_release(turned);
    return status;
}

static lc_tensor *leaf(int64_t rows, int64_t columns, double shift) {
    lc_tensor *t = NULL;
    CHECK_OK(lc_tensor_zeros(LC_F64, 2, (int64_t[]){rows, columns}, LC_CPU, &t));
    for (int64_t i = 0; i < rows * columns; i++) lc_set_f64(t, i, sin((double)i * 1.7 + shift));
    CHECK_OK(lc_require_grad(t, true));
    return t;
}

static void check_function(lc_status (*f)(void *, lc_tensor *const *, int, lc_tensor **), void *context,
                           lc_tensor *const *x, int n) {
    double worst = NAN;
    CHECK_OK(lc_gradient_check(f, context, x, n, STEP, &worst));
    CHECK_NEAR(worst, 0, TOLERANCE);
}

static void test_functions(void) {
    lc_tensor *x = leaf(3, 2, 0), *w = leaf(5, 2, 1), *labels = NULL;
    check_function(reshape_to_6, NULL, &x, 1);
    check_function(permute_dims, NULL, &x, 1);
    check_function(expand_dims, NULL, &x, 1);
    check_function(slice_steps, NULL, &x, 1);
    check_function(times_itself, NULL, &x, 1);
    CHECK_OK(lc_tensor_zeros(LC_I64, 1, (int64_t[]){3}, LC_CPU, &labels));
    for (int64_t i = 0; i < 3; i++) lc_set_i64(labels, i, i + 1);
    check_function(scaled_loss, labels, (lc_tensor *[]){x, w}, 2);
    lc_tensor_release(x);
    lc_tensor_release(w);
    lc_tensor_release(labels);
}

/* -- what rules say at kinks and ties -- */

/* The gradient of sum(op(x)) for three f64 numbers x. */
static void check_slopes(lc_op op, lc_attr attr, const double x[3], const double want[3]) {
    lc_tensor *t = NULL, *out[LC_MAX_OUT] = {0}, *sum = NULL;
    CHECK_OK(lc_tensor_zeros(LC_F64, 1, (int64_t[]){3}, LC_CPU, &t));
    for (int i = 0; i < 3; i++) lc_set_f64(t, i, x[i]);
    CHECK_OK(lc_require_grad(t, true));
    CHECK_OK(lc_apply(op, &attr, &t, 1, out));
    CHECK_OK(lc_reduce(LC_OP_SUM, out[0], -1, false, &sum));
    CHECK_OK(lc_backward(sum, NULL));
    for (int i = 0; i < 3; i++) CHECK_NEAR(lc_get_f64(t->grad, i), want[i], 1e-15);
    lc_tensor_release(t);
    lc_tensor_release(sum);
    for (int i = 0; i < LC_MAX_OUT; i++) lc_tensor_release(out[i]);
}

static void test_kinks(void) {
    const double ties[] = {2, 5, 5}, zeros[] = {0, 0, 0}, low[] = {-1, 0, 1};
    check_slopes(LC_OP_MAX, (lc_attr){.dim = -1}, ties, (double[]){0, 1, 0});
    check_slopes(LC_OP_MAX, (lc_attr){.dim = 0}, ties, (double[]){0, 1, 0});
    check_slopes(LC_OP_MIN, (lc_attr){.dim = -1}, zeros, (double[]){1, 0, 0});
    check_slopes(LC_OP_NORM, (lc_attr){.dim = -1}, zeros, zeros);
    check_slopes(LC_OP_RELU, (lc_attr){0}, low, (double[]){0, 0, 1});
    check_slopes(LC_OP_ABS, (lc_attr){0}, low, (double[]){-1, 0, 1});
    check_slopes(LC_OP_CLAMP, (lc_attr){.a = -1, .b = 0.5}, low, (double[]){1, 1, 0});
    check_slopes(LC_OP_LOGSUMEXP, (lc_attr){.dim = -1}, (double[]){-INFINITY, -INFINITY, -INFINITY}, zeros);
    check_slopes(LC_OP_QUANTILE, (lc_attr){.dim = -1, .a = 0.25}, (double[]){3, 1, 2}, (double[]){0, 0.5, 0.5});
}

/* Every op with a rule is in the table with a case that asks for its gradient. */
static void test_coverage(void) {
    for (lc_op op = 0; op < LC_OPS; op++) {
        bool covered = !lc_rule_of(op)->rule;
        for (int k = 0; k < op_case_count; k++) covered |= op_cases[k].op == op && !op_cases[k].no_gradient;
        if (!covered) fprintf(stderr, "%s has a rule and no case\n", lc_op_name(op));
        CHECK(covered);
    }
}

int main(void) {
    test_coverage();
    test_functions();
    test_kinks();
    for (int k = 0; k < op_case_count; k++) {
        if (op_cases[k].no_gradient || !lc_rule_of(op_cases[k].op)->rule) continue;
        for (op_layout layout = 0; layout < OP_LAYOUTS; layout++) check_gradient(&op_cases[k], layout);
    }
    return check_done();
}
