/* test_ref_model.c: the reference kernels of products, rows, attention, losses and updates: small values by hand,
 * backward kernels against central differences of their forward kernels, fused forms against their parts. */
#include "base/memory.h"
#include "base/pool.h"
#include "ops/backend.h"
#include "tensors.h"

#define F32 LC_F32
#define F64 LC_F64
#define U8 LC_U8
#define I64 LC_I64
#define BOOL LC_BOOL

/* sum(weights * f(in)) for the op's first output; weights NULL stands for ones. */
static double weighted(lc_op op, const lc_attr *attr, lc_tensor *const *in, int n_in, const lc_tensor *weights) {
    lc_tensor *y[LC_MAX_OUT] = {NULL};
    double sum = NAN;
    if (lc_run(op, attr, in, n_in, y) == LC_OK) {
        sum = 0;
        for (int64_t i = 0, n = lc_numel(y[0]); i < n; i++)
            sum += element(y[0], i) * (weights ? element(weights, i) : 1);
    }
    for (int k = 0; k < LC_MAX_OUT; k++) lc_tensor_release(y[k]);
    return sum;
}

/* `gradient` is that of weighted() by the f64 input number `which`. */
static void check_gradient(lc_op op, const lc_attr *attr, lc_tensor *const *in, int n_in, int which,
                           const lc_tensor *weights, const lc_tensor *gradient) {
    lc_tensor *x = in[which];
    double step = 1e-5, worst = 0;
    CHECK(gradient && lc_same_shape(x, gradient));
    for (int64_t i = 0, n = gradient ? lc_numel(x) : 0; i < n; i++) {
        double at = element(x, i);
        lc_set_f64(x, lc_position(x, i), at + step);
        double above = weighted(op, attr, in, n_in, weights);
        lc_set_f64(x, lc_position(x, i), at - step);
        double below = weighted(op, attr, in, n_in, weights);
        lc_set_f64(x, lc_position(x, i), at);
        worst = fmax(worst, fabs((above - below) / (2 * step) - element(gradient, i)));
    }
    CHECK_NEAR(worst, 0, 1e-8);
}

static void test_matmul(void) {
    lc_tensor *a = tensor(F32, SHAPE(2, 3), VALUES(1, 2, 3, 4, 5, 6)), *b = tensor(F32, SHAPE(3, 1), VALUES(1, 0, -1));
    uint64_t macs = lc_macs();
    lc_tensor *y = RUN(LC_OP_MATMUL, NULL, a, b);
    CHECK(lc_macs() - macs == 6);
    CHECK_TENSOR(y, F32, SHAPE(2, 1), VALUES(-2, -2), 0);
    CHECK_OK(lc_run_into(LC_OP_MATMUL, &(lc_attr){.add = true}, (lc_tensor *[]){a, b}, 2, &y));
    CHECK_TENSOR(y, F32, SHAPE(2, 1), VALUES(-4, -4), 0);
    lc_tensor *batch = tensor(F32, SHAPE(2, 1, 1, 2), VALUES(1, 2, 3, 4));
    lc_tensor *shared = tensor(F32, SHAPE(3, 2, 1), VALUES(1, 0, 0, 1, 1, 1));
    CHECK_TENSOR(RUN(LC_OP_MATMUL, NULL, batch, shared), F32, SHAPE(2, 3, 1, 1), VALUES(1, 2, 3, 3, 4, 7), 0);
    lc_tensor *square = tensor(F32, SHAPE(2, 2), VALUES(1, 1, 1, 0));
    CHECK_OK(lc_run_into(LC_OP_MATMUL, NULL, (lc_tensor *[]){square, square}, 2, &square));
    CHECK_TENSOR(square, F32, SHAPE(2, 2), VALUES(2, 1, 1, 1), 0);
    lc_tensor *nothing = tensor(F32, SHAPE(2, 0), NULL);
    CHECK_TENSOR(RUN(LC_OP_MATMUL, NULL, nothing, tensor(F32, SHAPE(0, 2), NULL)), F32, SHAPE(2, 2), VALUES(0, 0, 0, 0),
                 0);
    CHECK_REFUSED(LC_OP_MATMUL, NULL, LC_ESHAPE, "matmul: inner sizes differ: (2, 3) x (4, 5)", a,
                  tensor(F32, SHAPE(4, 5), NULL));
    CHECK_REFUSED(LC_OP_MATMUL, NULL, LC_ESHAPE, "needs matrices", tensor(F32, SHAPE(3), NULL), b);
    CHECK_REFUSED(LC_OP_MATMUL, NULL, LC_ESHAPE, "batches do not broadcast", tensor(F32, SHAPE(2, 1, 2), NULL), shared);
    drop_all();
}

/* linear = matmul with the transposed weight, plus bias, then the activation. */
static void test_linear(void) {
    lc_tensor *x = noise(F64, SHAPE(2, 3, 4), 1), *w = noise(F64, SHAPE(5, 4), 2), *b = noise(F64, SHAPE(5), 3),
              *wt = NULL;
    CHECK_OK(lc_view_permute(w, (int[]){1, 0}, &wt));
    lc_tensor *plain = RUN(LC_OP_ADD, NULL, RUN(LC_OP_MATMUL, NULL, x, keep_for_drop(wt)), b);
    CHECK_SAME(RUN(LC_OP_LINEAR, NULL, x, w, b), plain, 1e-15);
    CHECK(outputs[1] == NULL);
    static const struct {
        lc_activation act;
        lc_op op;
    } acts[] = {{LC_ACT_RELU, LC_OP_RELU},
                {LC_ACT_GELU, LC_OP_GELU},
                {LC_ACT_GELU_TANH, LC_OP_GELU_TANH},
                {LC_ACT_SILU, LC_OP_SILU},
                {LC_ACT_TANH, LC_OP_TANH}};
    for (int i = 0; i < 4; i++) {
        lc_tensor *want = RUN(acts[i].op, NULL, plain),
                  *got = RUN(LC_OP_LINEAR, (&(lc_attr){.act = acts[i].act, .train = true}), x, w, b);
        CHECK_SAME(got, want, 1e-15);
        CHECK_SAME(outputs[1], plain, 1e-15);
        CHECK_SAME(RUN(LC_OP_LINEAR, (&(lc_attr){.act = acts[i].act}), x, w, b), want, 1e-15);
        CHECK(outputs[1] == NULL); /* only a gradient needs it */
    }
    CHECK_TENSOR(
        RUN(LC_OP_LINEAR, NULL, tensor(F32, SHAPE(2), VALUES(1, 2)), tensor(F32, SHAPE(1, 2), VALUES(3, 4)), NULL), F32,
        SHAPE(1), VALUES(11), 0);
    CHECK_REFUSED(LC_OP_LINEAR, NULL, LC_ESHAPE, "linear: inner sizes differ: x (2, 3, 4), w (5, 3)", x,
                  tensor(F64, SHAPE(5, 3), NULL));
    CHECK_REFUSED(LC_OP_LINEAR, NULL, LC_ESHAPE, "b is (4); it must be (5)", x, w, tensor(F64, SHAPE(4), NULL));
    drop_all();
}

static void test_triangular(void) {
    lc_tensor *a = tensor(F64, SHAPE(3, 3), VALUES(4, 2, -2, 2, 10, 2, -2, 2, 6));
    lc_tensor *lower = RUN(LC_OP_CHOLESKY, NULL, a);
    CHECK_TENSOR(lower, F64, SHAPE(3, 3), VALUES(2, 0, 0, 1, 3, 0, -1, 1, 2), 1e-15);
    lc_tensor *upper = RUN(LC_OP_CHOLESKY, (&(lc_attr){.upper = true}), a), *b = noise(F64, SHAPE(3, 2), 5);
    CHECK_TENSOR(upper, F64, SHAPE(3, 3), VALUES(2, 1, -1, 0, 3, 1, 0, 0, 2), 1e-15);
    CHECK_REFUSED(LC_OP_CHOLESKY, NULL, LC_ENUMERIC, "not positive definite (row 2)",
                  tensor(F64, SHAPE(2, 2), VALUES(1, 2, 2, 1)));
    CHECK_REFUSED(LC_OP_CHOLESKY, NULL, LC_ESHAPE, "square matrix, got (3, 2)", b);
    /* What lies in the other triangle must not matter, nor the diagonal where it is said to be one. */
    lc_tensor *full = tensor(F64, SHAPE(3, 3), VALUES(2, 7, 7, 1, 3, 7, -1, 1, 2));
    for (int i = 0; i < 8; i++) {
        lc_attr how = {.upper = i & 1, .transpose = i & 2, .unit = i & 4}, part = {.upper = i & 1};
        lc_tensor *op = RUN(LC_OP_TRIANGLE, &part, full), *turned = NULL;
        for (int64_t d = 0; d < 3 && how.unit; d++) lc_set_f64(op, d * 4, 1);
        int same[] = {0, 1}, swapped[] = {1, 0};
        CHECK_OK(lc_view_permute(op, how.transpose ? swapped : same, &turned));
        lc_tensor *x = RUN(LC_OP_SOLVE_TRIANGULAR, &how, full, b);
        CHECK_SAME(RUN(LC_OP_MATMUL, NULL, keep_for_drop(turned), x), b, 1e-14);
    }
    CHECK_REFUSED(LC_OP_SOLVE_TRIANGULAR, NULL, LC_ENUMERIC, "singular", tensor(F64, SHAPE(3, 3), NULL), b);
    drop_all();
}

static void test_softmax(void) {
    lc_tensor *x = tensor(F64, SHAPE(2, 2), VALUES(1000, 1000 + log(3), 0, -INFINITY));
    CHECK_TENSOR(RUN(LC_OP_SOFTMAX, NULL, x), F64, SHAPE(2, 2), VALUES(0.25, 0.75, 1, 0), 1e-12);
    CHECK_TENSOR(RUN(LC_OP_LOG_SOFTMAX, NULL, x), F64, SHAPE(2, 2), VALUES(-log(4), log(0.75), 0, -INFINITY), 1e-12);
    CHECK_TENSOR(RUN(LC_OP_SOFTMAX, NULL, tensor(F32, SCALAR, VALUES(5))), F32, SCALAR, VALUES(1), 0);
    lc_tensor *z = noise(F64, SHAPE(3, 4), 1), *dy = noise(F64, SHAPE(3, 4), 2);
    static const lc_op pairs[][2] = {{LC_OP_SOFTMAX, LC_OP_SOFTMAX_BACKWARD},
                                     {LC_OP_LOG_SOFTMAX, LC_OP_LOG_SOFTMAX_BACKWARD}};
    for (int i = 0; i < 2; i++) {
        lc_tensor *y = RUN(pairs[i][0], NULL, z);
        check_gradient(pairs[i][0], NULL, &z, 1, 0, dy, RUN(pairs[i][1], NULL, y, dy));
    }
    static const lc_op activations[][2] = {{LC_OP_SILU, LC_OP_SILU_BACKWARD},
                                           {LC_OP_GELU, LC_OP_GELU_BACKWARD},
                                           {LC_OP_GELU_TANH, LC_OP_GELU_TANH_BACKWARD}};
    for (int i = 0; i < 3; i++)
        check_gradient(activations[i][0], NULL, &z, 1, 0, dy, RUN(activations[i][1], NULL, z, dy));
    drop_all();
}

static void test_norms(void) {
    lc_attr eps = {.a = 1e-5};
    lc_tensor *pair = tensor(F64, SHAPE(1, 2), VALUES(1, 3));
    CHECK_TENSOR(RUN(LC_OP_LAYER_NORM, (&(lc_attr){.a = 3}), pair, tensor(F64, SHAPE(2), VALUES(2, 4)),
                     tensor(F64, SHAPE(2), VALUES(0, 10))),
                 F64, SHAPE(1, 2), VALUES(-1, 12), 1e-15);
    CHECK_TENSOR(outputs[1], F64, SHAPE(1), VALUES(2), 0);
    CHECK_TENSOR(outputs[2], F64, SHAPE(1), VALUES(0.5), 0);
    CHECK_TENSOR(RUN(LC_OP_RMS_NORM, (&(lc_attr){.a = 4}), pair, NULL), F64, SHAPE(1, 2), VALUES(1.0 / 3, 1), 1e-15);
    CHECK_TENSOR(outputs[1], F64, SHAPE(1), VALUES(1.0 / 3), 1e-15);

    lc_tensor *x = noise(F64, SHAPE(2, 3, 5), 1), *w = noise(F64, SHAPE(5), 2), *b = noise(F64, SHAPE(5), 3);
    lc_tensor *dy = noise(F64, SHAPE(2, 3, 5), 4), *in[] = {x, w, b}, *bare[] = {x, NULL, NULL};
    RUN(LC_OP_LAYER_NORM, &eps, x, w, b);
    lc_tensor *mean = outputs[1], *rstd = outputs[2];
    RUN(LC_OP_LAYER_NORM_BACKWARD, NULL, x, w, mean, rstd, dy);
    for (int i = 0; i < 3; i++) check_gradient(LC_OP_LAYER_NORM, &eps, in, 3, i, dy, outputs[i]);
    RUN(LC_OP_LAYER_NORM_BACKWARD, NULL, x, NULL, mean, rstd, dy);
    CHECK(outputs[1] == NULL);
    check_gradient(LC_OP_LAYER_NORM, &eps, bare, 3, 0, dy, outputs[0]);

    RUN(LC_OP_RMS_NORM, &eps, x, w);
    lc_tensor *rrms = outputs[1];
    RUN(LC_OP_RMS_NORM_BACKWARD, NULL, x, w, rrms, dy);
    for (int i = 0; i < 2; i++) check_gradient(LC_OP_RMS_NORM, &eps, in, 2, i, dy, outputs[i]);
    CHECK_REFUSED(LC_OP_LAYER_NORM, &eps, LC_ESHAPE, "w is (3); it must be (5)", x, tensor(F64, SHAPE(3), NULL));
    CHECK_REFUSED(LC_OP_LAYER_NORM_BACKWARD, NULL, LC_EINVAL, "mean is missing", x, w, NULL, rstd, dy);
    drop_all();
}

static void test_dropout(void) {
    int64_t n = 10001;
    lc_tensor *ones = tensor(F32, SHAPE(n), NULL);
    CHECK_OK(lc_fill(ones, 1));
    lc_attr attr = {.a = 0.25, .key = 7, .counter = 3}, shifted = {.a = 0.25, .key = 7, .counter = 4};
    lc_tensor *y = RUN(LC_OP_DROPOUT, &attr, ones), *next = RUN(LC_OP_DROPOUT, &shifted, ones);
    int64_t zeros = 0;
    bool two_values = true, same_stream = true;
    for (int64_t i = 0; i < n; i++) {
        double v = element(y, i);
        zeros += v == 0;
        two_values = two_values && (v == 0 || fabs(v - 1 / 0.75) < 1e-6);
        if (i + 4 < n) same_stream = same_stream && element(y, i + 4) == element(next, i);
    }
    CHECK(two_values);
    CHECK(same_stream);
    CHECK_NEAR((double)zeros / (double)n, 0.25, 0.02);
    CHECK_SAME(RUN(LC_OP_DROPOUT, (&(lc_attr){.a = 0}), ones), ones, 0);
    CHECK_TENSOR(RUN(LC_OP_DROPOUT, (&(lc_attr){.a = 1}), tensor(F32, SHAPE(1), VALUES(2))), F32, SHAPE(1), VALUES(0),
                 0);
    CHECK_REFUSED(LC_OP_DROPOUT, (&(lc_attr){.a = 2}), LC_EINVAL, "rate 2 is outside 0..1", ones);
    drop_all();
}

static void test_embedding(void) {
    lc_tensor *w = tensor(F32, SHAPE(3, 2), VALUES(1, 2, 3, 4, 5, 6)),
              *ids = tensor(I64, SHAPE(2, 2), VALUES(2, 0, 2, 1));
    CHECK_TENSOR(RUN(LC_OP_EMBEDDING, NULL, w, ids), F32, SHAPE(2, 2, 2), VALUES(5, 6, 1, 2, 5, 6, 3, 4), 0);
    CHECK_REFUSED(LC_OP_EMBEDDING, NULL, LC_EINVAL, "embedding: id 3 is outside 0..2", w,
                  tensor(I64, SHAPE(1), VALUES(3)));
    CHECK_REFUSED(LC_OP_EMBEDDING, NULL, LC_EDTYPE, "ids is f32", w, tensor(F32, SHAPE(1), VALUES(0)));
    lc_tensor *dy = tensor(F32, SHAPE(2, 2, 2), VALUES(1, 10, 2, 20, 3, 30, 4, 40));
    lc_attr rows = {.n = 4};
    lc_tensor *dw = RUN(LC_OP_EMBEDDING_BACKWARD, &rows, ids, dy);
    CHECK_TENSOR(dw, F32, SHAPE(4, 2), VALUES(2, 20, 4, 40, 4, 40, 0, 0), 0);
    rows.add = true;
    CHECK_OK(lc_run_into(LC_OP_EMBEDDING_BACKWARD, &rows, (lc_tensor *[]){ids, dy}, 2, &dw));
    CHECK_TENSOR(dw, F32, SHAPE(4, 2), VALUES(4, 40, 8, 80, 8, 80, 0, 0), 0);
    drop_all();
}

static void test_attention_values(void) {
    /* Scores 0 and log 3 give weights 1/4 and 3/4. */
    lc_tensor *q = tensor(F64, SHAPE(1, 2, 1, 1), VALUES(1, 1)), *k = tensor(F64, SHAPE(1, 2, 1, 1), VALUES(0, log(3)));
    lc_tensor *v = tensor(F64, SHAPE(1, 2, 1, 1), VALUES(8, 4)), *keep = tensor(BOOL, SHAPE(1, 2), VALUES(0, 1));
    lc_attr plain = {.a = 1}, causal = {.a = 1, .causal = true};
    CHECK_TENSOR(RUN(LC_OP_ATTENTION, &plain, q, k, v), F64, SHAPE(1, 2, 1, 1), VALUES(5, 5), 1e-14);
    CHECK_TENSOR(outputs[1], F64, SHAPE(1, 1, 2), VALUES(log(4), log(4)), 1e-14);
    CHECK_TENSOR(RUN(LC_OP_ATTENTION, &causal, q, k, v), F64, SHAPE(1, 2, 1, 1), VALUES(8, 5), 1e-14);
    CHECK_TENSOR(RUN(LC_OP_ATTENTION, &causal, q, k, v, keep), F64, SHAPE(1, 2, 1, 1), VALUES(0, 4), 1e-14);
    CHECK_TENSOR(outputs[1], F64, SHAPE(1, 1, 2), VALUES(-INFINITY, log(3)), 1e-14);
    lc_tensor *last = NULL;
    CHECK_OK(lc_view_slice(q, 1, 1, 1, 1, &last));
    CHECK_TENSOR(RUN(LC_OP_ATTENTION, &causal, keep_for_drop(last), k, v), F64, SHAPE(1, 1, 1, 1), VALUES(5), 1e-14);
    CHECK_REFUSED(LC_OP_ATTENTION, &plain, LC_ESHAPE, "3 query heads cannot share 2 key heads",
                  tensor(F64, SHAPE(1, 2, 3, 1), NULL), tensor(F64, SHAPE(1, 2, 2, 1), NULL),
                  tensor(F64, SHAPE(1, 2, 2, 1), NULL));
    CHECK_REFUSED(LC_OP_ATTENTION, &plain, LC_ESHAPE, "keep is (2); it must be (1, 2)", q, k, v,
                  tensor(BOOL, SHAPE(2), NULL));
    drop_all();
}

static void test_attention_gradients(void) {
    lc_tensor *q = noise(F64, SHAPE(2, 3, 4, 2), 1), *k = noise(F64, SHAPE(2, 5, 2, 2), 2);
    lc_tensor *v = noise(F64, SHAPE(2, 5, 2, 2), 3), *dy = noise(F64, SHAPE(2, 3, 4, 2), 4);
    lc_tensor *keep = tensor(BOOL, SHAPE(2, 5), VALUES(1, 1, 0, 1, 1, 0, 0, 0, 0, 1));
    for (int i = 0; i < 8; i++) {
        lc_attr attr = {.a = 0.7, .causal = i & 1, .b = i & 4 ? 0.4 : 0, .key = 11, .counter = 5};
        lc_tensor *in[] = {q, k, v, i & 2 ? keep : NULL};
        lc_tensor *y = run(LC_OP_ATTENTION, &attr, in, 4), *lse = outputs[1];
        RUN(LC_OP_ATTENTION_BACKWARD, &attr, q, k, v, in[3], y, lse, dy);
        for (int j = 0; j < 3; j++) check_gradient(LC_OP_ATTENTION, &attr, in, 4, j, dy, outputs[j]);
    }
    drop_all();
}

static void test_cross_entropy(void) {
    lc_tensor *two = tensor(F64, SHAPE(2, 2), VALUES(0, log(3), 5, 5)),
              *ignore = tensor(I64, SHAPE(2), VALUES(0, -100));
    CHECK_TENSOR(RUN(LC_OP_CROSS_ENTROPY, NULL, two, ignore), F64, SCALAR, VALUES(log(4)), 1e-15);
    CHECK_TENSOR(outputs[1], F64, SHAPE(2), VALUES(log(4), 0), 1e-15);
    CHECK_TENSOR(RUN(LC_OP_CROSS_ENTROPY, (&(lc_attr){.a = 10}), two, ignore), F64, SCALAR, VALUES(log(4) / 10), 1e-15);
    CHECK_TENSOR(RUN(LC_OP_CROSS_ENTROPY, NULL, two, tensor(I64, SHAPE(2), VALUES(-100, -100))), F64, SCALAR, VALUES(0),
                 0);
    CHECK_REFUSED(LC_OP_CROSS_ENTROPY, NULL, LC_EINVAL, "label 2 is outside 0..1", two,
                  tensor(I64, SHAPE(2), VALUES(0, 2)));

    lc_tensor *x = noise(F64, SHAPE(4, 3), 1), *w = noise(F64, SHAPE(5, 3), 2);
    lc_tensor *labels = tensor(I64, SHAPE(4), VALUES(4, -100, 0, 2)), *dloss = tensor(F64, SCALAR, VALUES(0.5));
    for (int divisor = 0; divisor < 8; divisor += 7) {
        lc_attr attr = {.a = divisor, .train = true};
        lc_tensor *logits = RUN(LC_OP_LINEAR, NULL, x, w), *in[] = {logits, labels}, *fused_in[] = {x, w, labels};
        lc_tensor *loss = RUN(LC_OP_CROSS_ENTROPY, &attr, logits, labels), *lse = outputs[1];
        check_gradient(LC_OP_CROSS_ENTROPY, &attr, in, 2, 0, dloss,
                       RUN(LC_OP_CROSS_ENTROPY_BACKWARD, &attr, logits, labels, lse, dloss));
        uint64_t macs = lc_macs();
        CHECK_SAME(run(LC_OP_LINEAR_CROSS_ENTROPY, &attr, fused_in, 3), loss, 1e-15);
        CHECK(lc_macs() - macs == 3 * 3 * 5 * 3); /* three labelled tokens, three products */
        lc_tensor *dx = outputs[1], *dw = outputs[2];
        check_gradient(LC_OP_LINEAR_CROSS_ENTROPY, &attr, fused_in, 3, 0, NULL, dx);
        check_gradient(LC_OP_LINEAR_CROSS_ENTROPY, &attr, fused_in, 3, 1, NULL, dw);
        attr.train = false;
        CHECK_SAME(run(LC_OP_LINEAR_CROSS_ENTROPY, &attr, fused_in, 3), loss, 1e-15);
        CHECK(outputs[1] == NULL && outputs[2] == NULL);
    }
    drop_all();
}

static void test_updates(void) {
    lc_tensor *keep = tensor(U8, SHAPE(1), VALUES(1)), *g = tensor(F64, SHAPE(2), VALUES(3, NAN)); /* keep: 1, 0 */
    CHECK_TENSOR(RUN(LC_OP_SQUARE_SUM, NULL, g, keep), F64, SCALAR, VALUES(9), 0);
    CHECK_TENSOR(RUN(LC_OP_SQUARE_SUM, NULL, g), F64, SCALAR, VALUES(NAN), 0);

    /* The first step of AdamW is lr in the gradient's direction, whatever its size, after the decay. */
    lc_tensor *w = tensor(F64, SHAPE(2), VALUES(1, 1)), *m = tensor(F64, SHAPE(2), VALUES(0, 5));
    lc_tensor *v = tensor(F64, SHAPE(2), VALUES(0, 5)), *in[] = {w, g, m, v, keep};
    lc_attr adamw = {.a = 0.1, .b = 0.9, .c = 0.99, .d = 0, .e = 0.5, .f = 2, .n = 1};
    CHECK_OK(lc_run(LC_OP_ADAMW_STEP, &adamw, in, 5, NULL));
    CHECK_TENSOR(w, F64, SHAPE(2), VALUES(0.95 - 0.1, 0), 1e-15);
    CHECK_TENSOR(m, F64, SHAPE(2), VALUES(0.6, 0), 1e-15);
    CHECK_TENSOR(v, F64, SHAPE(2), VALUES(0.36, 0), 1e-15);
    adamw.n = 2, adamw.f = 0;
    CHECK_OK(lc_run(LC_OP_ADAMW_STEP, &adamw, in, 5, NULL));
    double want = 0.85 * 0.95 - 0.1 / 0.19 * 0.54 / (sqrt(0.3564) / sqrt(1 - 0.99 * 0.99));
    CHECK_TENSOR(w, F64, SHAPE(2), VALUES(want, 0), 1e-15);

    lc_tensor *s = tensor(F64, SHAPE(2), VALUES(1, 1)), *buffer = tensor(F64, SHAPE(2), VALUES(99, 99));
    lc_tensor *sgd_in[] = {s, g, buffer, keep}, *bare_in[] = {s, g, NULL, keep};
    lc_attr sgd = {.a = 0.1, .b = 0.9, .e = 0.5, .f = 1, .n = 1};
    CHECK_OK(lc_run(LC_OP_SGD_STEP, &sgd, sgd_in, 4, NULL));
    CHECK_TENSOR(s, F64, SHAPE(2), VALUES(1 - 0.35, 0), 1e-15);
    CHECK_TENSOR(buffer, F64, SHAPE(2), VALUES(3.5, 0), 1e-15);
    sgd.n = 2;
    CHECK_OK(lc_run(LC_OP_SGD_STEP, &sgd, sgd_in, 4, NULL));
    CHECK_TENSOR(buffer, F64, SHAPE(2), VALUES(0.9 * 3.5 + 3 + 0.5 * 0.65, 0), 1e-15);
    double before = element(s, 0);
    CHECK_OK(lc_run(LC_OP_SGD_STEP, &sgd, bare_in, 4, NULL));
    CHECK_NEAR(element(s, 0), before - 0.1 * (3 + 0.5 * before), 1e-15);
    CHECK_REFUSED(LC_OP_SGD_STEP, &sgd, LC_EDTYPE, "keep is f64", s, g, NULL, w);
    CHECK_REFUSED(LC_OP_SGD_STEP, &sgd, LC_ESHAPE, "keep is (2); it must be (1)", s, g, NULL,
                  tensor(U8, SHAPE(2), VALUES(1, 1)));
    CHECK_REFUSED(LC_OP_SGD_STEP, (&(lc_attr){.n = 0}), LC_EINVAL, "steps count from 1", s, g);

    lc_tensor *ten = tensor(F64, SHAPE(2, 5), VALUES(1, 2, NAN, 4, 5, 6, 7, 8, 9, 10));
    CHECK_OK(lc_run(LC_OP_ZERO_PRUNED, NULL, (lc_tensor *[]){ten, tensor(U8, SHAPE(2), VALUES(0xfb, 1))}, 2, NULL));
    CHECK_TENSOR(ten, F64, SHAPE(2, 5), VALUES(1, 2, 0, 4, 5, 6, 7, 8, 9, 0), 0);
    CHECK_REFUSED(LC_OP_ZERO_PRUNED, NULL, LC_ESHAPE, "keep is (1); it must be (2)", ten, keep);
    drop_all();
}

/* Kernels with memory of their own give it back when an allocation fails or the user interrupts. */
static void test_no_memory(void) {
    lc_tensor *x = noise(F64, SHAPE(3, 3), 1), *w = noise(F64, SHAPE(3), 2), *rows = noise(F64, SHAPE(3), 3);
    lc_tensor *ids = tensor(I64, SHAPE(3), VALUES(0, 1, 2)), *q = noise(F64, SHAPE(1, 3, 2, 2), 4);
    lc_tensor *lse = noise(F64, SHAPE(1, 2, 3), 5), *eye = tensor(F64, SHAPE(2, 2), VALUES(1, 0, 0, 1));
    lc_tensor *pick = tensor(I64, SHAPE(3, 3), VALUES(0, 1, 2, 0, 1, 2, 0, 1, 2));
    const struct {
        lc_op op;
        lc_tensor *in[7];
        int n_in;
    } calls[] = {
        {LC_OP_SORT, {x}, 1},
        {LC_OP_SUM_TO, {x}, 1},
        {LC_OP_SCATTER, {x, pick, x}, 3},
        {LC_OP_INDEX_ADD, {x, ids, x}, 3},
        {LC_OP_EMBEDDING_BACKWARD, {ids, x}, 2},
        {LC_OP_CHOLESKY, {eye}, 1},
        {LC_OP_SOLVE_TRIANGULAR, {eye, eye}, 2},
        {LC_OP_LAYER_NORM_BACKWARD, {x, w, rows, rows, x}, 5},
        {LC_OP_ATTENTION, {q, q, q, NULL}, 4},
        {LC_OP_ATTENTION_BACKWARD, {q, q, q, NULL, q, lse, q}, 7},
        {LC_OP_CROSS_ENTROPY, {x, ids}, 2},
        {LC_OP_LINEAR_CROSS_ENTROPY, {x, x, ids}, 3},
    };
    lc_attr attr = {.n = 3, .a = 1, .train = true};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        size_t live = lc_memory_get().live;
        uint64_t before = lc_memory_count();
        run(calls[i].op, &attr, calls[i].in, calls[i].n_in);
        uint64_t allocations = lc_memory_count() - before;
        CHECK(allocations > 0);
        for (uint64_t n = 1; n <= allocations; n++) {
            lc_tensor *out[LC_MAX_OUT] = {NULL};
            size_t now = lc_memory_get().live;
            lc_memory_fail_at(n);
            CHECK(lc_run(calls[i].op, &attr, calls[i].in, calls[i].n_in, out) == LC_ENOMEM);
            CHECK(!out[0] && lc_memory_get().live == now);
        }
        lc_memory_fail_at(0);
        CHECK(lc_memory_get().live > live);
    }
    size_t now = lc_memory_get().live;
    lc_cancel();
    for (int i = 9; i < 12; i++) {
        lc_tensor *out[LC_MAX_OUT] = {NULL};
        CHECK(lc_run(calls[i].op, &attr, calls[i].in, calls[i].n_in, out) == LC_ECANCEL);
        CHECK(!out[0] && lc_memory_get().live == now);
    }
    lc_cancel_clear();
    drop_all();
}

int main(void) {
    size_t live = lc_memory_get().live;
    lc_backend_force_ref(true);
    test_matmul();
    test_linear();
    test_triangular();
    test_softmax();
    test_norms();
    test_dropout();
    test_embedding();
    test_attention_values();
    test_attention_gradients();
    test_cross_entropy();
    test_updates();
    test_no_memory();
    CHECK(lc_memory_get().live == live);
    return check_done();
}
