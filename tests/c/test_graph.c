/* test_graph.c: recording and the backward pass: what accumulates, what is refused, what is released. Rules are checked
 * elsewhere. */
#include "check.h"

#include "base/memory.h"
#include "base/pool.h"
#include "grad/graph.h"

static lc_tensor *vector(int64_t n, double first, bool leaf) {
    lc_tensor *t = NULL;
    CHECK_OK(lc_tensor_new(LC_F64, 1, &n, LC_CPU, &t));
    for (int64_t i = 0; i < n; i++) LC_DATA(double, t)[i] = first + (double)i;
    if (leaf) CHECK_OK(lc_require_grad(t, true));
    return t;
}

static double at(const lc_tensor *t, int64_t i) {
    return lc_get_f64(t, lc_position(t, i));
}

/* y = sum(a * b). */
static lc_status dot(lc_tensor *a, lc_tensor *b, lc_tensor **out) {
    lc_tensor *product = NULL;
    LC_TRY(lc_binary(LC_OP_MUL, a, b, &product));
    lc_status status = lc_reduce(LC_OP_SUM, product, -1, false, out);
    lc_tensor_release(product);
    return status;
}

static void test_accumulation(void) {
    lc_tensor *a = vector(3, 1, true), *b = vector(3, 10, true), *y = NULL, *g = NULL;
    for (int i = 1; i <= 2; i++) {
        CHECK_OK(dot(a, b, &y));
        CHECK_OK(lc_backward(y, NULL));
        CHECK_NEAR(at(a->grad, 2), 12.0 * i, 0);
        CHECK_NEAR(at(b->grad, 0), 1.0 * i, 0);
        lc_tensor_release(y);
    }
    /* A leaf used twice in one op gets both parts; and a gradient that is held is not what the next pass clears. */
    CHECK_OK(lc_get_grad(a, &g));
    CHECK_OK(lc_clear_grad(a));
    CHECK_OK(dot(a, a, &y));
    CHECK_OK(lc_backward(y, NULL));
    CHECK_NEAR(at(a->grad, 1), 4, 0);
    CHECK_NEAR(at(g, 2), 24, 0);
    lc_tensor_release(g);
    lc_tensor_release(y);
    lc_tensor_release(a);
    lc_tensor_release(b);
}

static void test_refusals(void) {
    lc_tensor *a = vector(3, 1, true), *b = vector(3, 2, false), *y = NULL, *c = NULL, *i = NULL;
    CHECK_MESSAGE(lc_backward(b, NULL), LC_ESTATE, "this tensor has no gradient");
    CHECK_OK(dot(a, b, &y));
    CHECK_OK(lc_backward(y, NULL));
    CHECK(b->grad == NULL);
    CHECK_MESSAGE(lc_backward(y, NULL), LC_ESTATE, "was passed through before");
    CHECK(a->grad == NULL); /* a failed pass leaves no gradient */
    lc_tensor_release(y);
    CHECK_OK(dot(a, b, &y));
    CHECK_OK(lc_fill(b, 7));
    CHECK_MESSAGE(lc_backward(y, NULL), LC_ESTATE, "mul needs a tensor that was changed in place");
    lc_tensor_release(y);
    CHECK_OK(lc_binary(LC_OP_MUL, a, b, &y));
    CHECK_MESSAGE(lc_backward(y, NULL), LC_ESHAPE, "a tensor of shape (3) needs a gradient of that shape");
    CHECK_MESSAGE(lc_backward(y, (c = vector(2, 0, false))), LC_ESHAPE,
                  "the gradient given has shape (2), the tensor (3)");
    lc_tensor *pair[2] = {y, b};
    CHECK_MESSAGE(lc_apply_into(LC_OP_ADD, NULL, pair, 2, &y), LC_ESTATE, "was computed with gradients");
    lc_tensor *lost[2] = {b, a};
    CHECK_MESSAGE(lc_apply_into(LC_OP_ADD, NULL, lost, 2, &b), LC_ESTATE,
                  "operand 2 has a gradient that would be lost");
    lc_tensor *fine[2] = {a, b};
    CHECK_OK(lc_apply_into(LC_OP_ADD, NULL, fine, 2, &a)); /* leaves may be written */
    CHECK_NEAR(at(a, 0), 8, 0);
    CHECK_MESSAGE(lc_require_grad(y, true), LC_ESTATE, "a computed tensor cannot be made a leaf");
    CHECK_OK(lc_cast(b, LC_I64, &i));
    CHECK_MESSAGE(lc_require_grad(i, true), LC_EDTYPE, "not i64");
    lc_tensor_release(i);
    lc_tensor_release(c);
    lc_tensor_release(y);
    lc_tensor_release(a);
    lc_tensor_release(b);
}

/* An alias shows a leaf permuted, again and again, and so does its gradient. */
static void test_alias(void) {
    lc_tensor *w = NULL, *alias = NULL, *row = NULL, *y = NULL, *g = NULL;
    CHECK_OK(lc_tensor_zeros(LC_F64, 2, (int64_t[]){2, 3}, LC_CPU, &w));
    CHECK_OK(lc_require_grad(w, true));
    CHECK_OK(lc_leaf_alias(w, (int[]){1, 0}, &alias));
    for (int pass = 1; pass <= 2; pass++) {
        CHECK_OK(lc_select(alias, 0, 2, &row));
        CHECK_OK(lc_reduce(LC_OP_SUM, row, -1, false, &y));
        CHECK_OK(lc_backward(y, NULL));
        lc_tensor_release(row);
        lc_tensor_release(y);
        CHECK_NEAR(at(w->grad, 5), pass, 0);
        CHECK_NEAR(at(w->grad, 4), 0, 0);
    }
    CHECK_OK(lc_get_grad(alias, &g));
    CHECK(g->shape[0] == 3 && at(g, 4) == 2);
    CHECK_OK(lc_clear_grad(alias));
    CHECK(w->grad == NULL);
    CHECK_OK(lc_apply_into(LC_OP_COPY, &(lc_attr){.dtype = LC_F64}, &g, 1, &alias));
    CHECK_NEAR(at(w, 5), 2, 0);
    lc_tensor_release(g);
    lc_tensor_release(alias);
    lc_tensor_release(w);
}

/* Chains of any length are walked and released without the stack. */
static void test_long_chain(void) {
    lc_tensor *x = vector(1, 1, true), *y = lc_tensor_retain(x), *one = vector(1, 1, false);
    for (int i = 0; i < 200000; i++) {
        lc_tensor *next = NULL;
        if (lc_binary(LC_OP_ADD, y, one, &next)) break;
        lc_tensor_release(y);
        y = next;
    }
    CHECK_NEAR(at(y, 0), 200001, 0);
    CHECK_OK(lc_backward(y, NULL));
    CHECK_NEAR(at(x->grad, 0), 1, 0);
    lc_tensor_release(y);
    lc_tensor_release(one);
    lc_tensor_release(x);
}

static lc_tensor *matrix(int64_t rows, int64_t columns, double step) {
    lc_tensor *t = NULL;
    CHECK_OK(lc_tensor_new(LC_F64, 2, (int64_t[]){rows, columns}, LC_CPU, &t));
    for (int64_t i = 0; i < rows * columns; i++) LC_DATA(double, t)[i] = sin(step * (double)(i + 1));
    CHECK_OK(lc_require_grad(t, true));
    return t;
}

/* Two layers with a fused activation between them keep what goes into it and not what comes out, and have the gradients of the same
 * two layers with the activation as an op of its own. */
static void test_activation_made_again(void) {
    static const lc_op unfused[] = {[LC_ACT_RELU] = LC_OP_RELU,
                                    [LC_ACT_GELU] = LC_OP_GELU,
                                    [LC_ACT_GELU_TANH] = LC_OP_GELU_TANH,
                                    [LC_ACT_SILU] = LC_OP_SILU,
                                    [LC_ACT_TANH] = LC_OP_TANH};
    for (lc_activation act = LC_ACT_RELU; act <= LC_ACT_TANH; act++) {
        lc_tensor *x = matrix(3, 4, 0.7), *up = matrix(5, 4, 1.1), *down = matrix(2, 5, 1.9), *grads[2][3];
        for (int fused = 0; fused < 2; fused++) {
            lc_tensor *h = NULL, *a = NULL, *y = NULL, *sum = NULL;
            CHECK_OK(lc_linear(x, up, NULL, fused ? act : LC_ACT_NONE, &h));
            if (fused)
                a = lc_tensor_retain(h);
            else
                CHECK_OK(lc_unary(unfused[act], h, &a));
            lc_tensor_release(h);
            CHECK_OK(lc_linear(a, down, NULL, LC_ACT_NONE, &y));
            if (fused) CHECK(a->storage->refs == 1);
            lc_tensor_release(a);
            CHECK_OK(dot(y, y, &sum));
            CHECK_OK(lc_backward(sum, NULL));
            lc_tensor_release(y);
            lc_tensor_release(sum);
            lc_tensor *leaves[3] = {x, up, down};
            for (int i = 0; i < 3; i++) {
                CHECK_OK(lc_get_grad(leaves[i], &grads[fused][i]));
                CHECK_OK(lc_clear_grad(leaves[i]));
            }
        }
        for (int i = 0; i < 3; i++) {
            for (int64_t k = 0; k < lc_numel(grads[0][i]); k++)
                CHECK_NEAR(at(grads[1][i], k), at(grads[0][i], k), 1e-12);
            lc_tensor_release(grads[0][i]);
            lc_tensor_release(grads[1][i]);
        }
        lc_tensor_release(x);
        lc_tensor_release(up);
        lc_tensor_release(down);
    }
}

static void test_no_recording(void) {
    lc_tensor *a = vector(2, 1, true), *y = NULL, *d = NULL;
    bool before = lc_set_recording(false);
    CHECK_OK(dot(a, a, &y));
    CHECK(!y->requires_grad && !y->node);
    lc_set_recording(before);
    lc_tensor_release(y);
    CHECK_OK(lc_detach(a, &d));
    CHECK(!d->requires_grad && d->storage == a->storage);
    CHECK_OK(dot(d, d, &y));
    CHECK(!y->requires_grad);
    lc_tensor_release(y);
    lc_tensor_release(d);
    lc_tensor_release(a);
}

/* -- functions behind lc_external -- */

static int released;

static lc_status triple(void *context, lc_tensor *const *in, int n_in, lc_tensor **out, int *n_out) {
    (void)context, (void)n_in;
    lc_tensor *three = NULL;
    LC_TRY(lc_tensor_scalar(LC_F64, 3, &three));
    lc_status status = lc_binary(LC_OP_MUL, in[0], three, out);
    lc_tensor_release(three);
    *n_out = 1;
    return status;
}

static lc_status triple_backward(void *context, lc_tensor *const *dy, int n_out, const bool *wanted, lc_tensor **dx,
                                 int n_in) {
    (void)n_out;
    CHECK(lc_in_backward() && !lc_recording());
    CHECK(wanted[0] && (n_in == 1 || !wanted[1]));
    int n;
    return triple(context, dy, 1, dx, &n);
}

static void count_release(void *context) {
    (void)context;
    released++;
}

static lc_status refuse(void *context, lc_tensor *const *in, int n_in, lc_tensor **out, int *n_out) {
    (void)context, (void)in, (void)n_in, (void)out, (void)n_out;
    return lc_fail(LC_EEXTERNAL, "the function said no");
}

static lc_status wrong_shape(void *context, lc_tensor *const *dy, int n_out, const bool *wanted, lc_tensor **dx,
                             int n_in) {
    (void)context, (void)n_out, (void)wanted, (void)n_in;
    return lc_reduce(LC_OP_SUM, dy[0], -1, false, dx);
}

static void test_external(void) {
    lc_external e = {NULL, triple, triple_backward, count_release, "triple"};
    lc_tensor *x = vector(2, 1, true), *c = vector(2, 5, false), *in[2] = {x, c}, *y = NULL, *s = NULL;
    int n = 0;
    CHECK_OK(lc_apply_external(&e, in, 2, &y, &n));
    CHECK(n == 1 && at(y, 1) == 6 && released == 0);
    CHECK_OK(lc_reduce(LC_OP_SUM, y, -1, false, &s));
    CHECK_OK(lc_backward(s, NULL));
    CHECK_NEAR(at(x->grad, 0), 3, 0);
    CHECK(released == 1); /* as soon as it was used */
    lc_tensor_release(s);
    lc_tensor_release(y);
    CHECK_OK(lc_apply_external(&e, &c, 1, &y, &n)); /* nothing to record: released at once */
    CHECK(released == 2 && !y->requires_grad);
    lc_tensor_release(y);
    e.forward = refuse;
    CHECK_MESSAGE(lc_apply_external(&e, &x, 1, &y, &n), LC_EEXTERNAL, "the function said no");
    CHECK(released == 3);
    e.forward = triple;
    e.backward = wrong_shape;
    CHECK_OK(lc_apply_external(&e, &x, 1, &y, &n));
    CHECK_OK(lc_reduce(LC_OP_SUM, y, -1, false, &s));
    CHECK_MESSAGE(lc_backward(s, NULL), LC_ESHAPE, "triple: backward gave gradient 1 the shape (); its input has (2)");
    lc_tensor_release(s);
    lc_tensor_release(y);
    CHECK(released == 4);
    lc_tensor_release(x);
    lc_tensor_release(c);
}

/* Any allocation may fail: the message comes back, nothing leaks, no gradient is half summed. */
static void test_out_of_memory(void) {
    lc_tensor *a = vector(50, 1, true), *b = vector(50, 3, true);
    for (uint64_t n = 1;; n++) {
        size_t before = lc_memory_get().live;
        lc_tensor *y = NULL;
        lc_memory_fail_at(n);
        lc_status status = dot(a, b, &y);
        if (!status) status = lc_backward(y, NULL);
        lc_memory_fail_at(0);
        lc_tensor_release(y);
        if (!status) {
            CHECK(n > 10);
            CHECK_NEAR(at(a->grad, 0), 3, 0);
            break;
        }
        CHECK(status == LC_ENOMEM);
        CHECK(a->grad == NULL && b->grad == NULL);
        CHECK(lc_memory_get().live == before);
    }
    lc_tensor_release(a);
    lc_tensor_release(b);
}

static void test_interruption(void) {
    lc_tensor *a = vector(5, 1, true), *y = NULL;
    CHECK_OK(dot(a, a, &y));
    lc_cancel();
    CHECK_MESSAGE(lc_backward(y, NULL), LC_ECANCEL, "interrupted");
    CHECK(a->grad == NULL);
    lc_cancel_clear();
    lc_tensor_release(y);
    lc_tensor_release(a);
}

int main(void) {
    lc_tensor *warm = vector(2, 1, false), *sum = NULL; /* what the backends allocate once */
    CHECK_OK(dot(warm, warm, &sum));
    lc_tensor_release(sum);
    lc_tensor_release(warm);
    size_t before = lc_memory_get().live;
    test_accumulation();
    test_refusals();
    test_alias();
    test_long_chain();
    test_activation_made_again();
    test_no_recording();
    test_external();
    test_out_of_memory();
    test_interruption();
    CHECK(lc_memory_get().live == before);
    return check_done();
}
