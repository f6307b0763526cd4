/* Every kernel of the cpu backend against ref, at one and more threads: small and large shapes, strided and broadcast
 * operands. */
#include "base/memory.h"
#include "base/pool.h"
#include "base/random.h"
#include "check.h"
#include "ops/backend.h"
#include "ops/cpu/simd.h"

static lc_tensor *fresh(lc_dtype dtype, int ndim, const int64_t *shape) {
    lc_tensor *t = NULL;
    CHECK_OK(lc_tensor_new(dtype, ndim, shape, LC_CPU, &t));
    return t;
}

/* Normal numbers times `scale`; integers are rounded ones, bool every other. */
static lc_tensor *random_tensor(lc_dtype dtype, int ndim, const int64_t *shape, double scale, const char *name) {
    lc_tensor *t = fresh(dtype, ndim, shape);
    lc_stream s = lc_stream_make(11, name);
    for (int64_t i = 0, n = lc_numel(t); i < n; i++) {
        double x = lc_stream_normal(&s) * scale;
        lc_set_f64(t, i,
                   dtype == LC_BOOL           ? x > 0
                   : dtype == LC_U8           ? fabs(x) * 5
                   : lc_dtype_is_float(dtype) ? x
                                              : rint(x * 3));
    }
    return t;
}
#define RANDOM(dtype, scale, name, ...) \
    random_tensor(dtype, sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), (int64_t[]){__VA_ARGS__}, scale, name)

/* max |a - b| over all elements, as a share of max(1, max |b|); NaN and infinities must agree. */
static double difference(const lc_tensor *a, const lc_tensor *b) {
    double worst = 0, most = 1;
    for (int64_t i = 0, n = lc_numel(b); i < n; i++) {
        double x = lc_get_f64(a, lc_position(a, i)), y = lc_get_f64(b, lc_position(b, i));
        if (isnan(x) != isnan(y) || (isinf(y) && x != y)) return INFINITY;
        if (isnan(x) || isinf(y)) continue;
        worst = fmax(worst, fabs(x - y));
        most = fmax(most, fabs(y));
    }
    return worst / most;
}

static bool same_bits(const lc_tensor *a, const lc_tensor *b) {
    return memcmp(lc_data(a), lc_data(b), (size_t)lc_numel(a) * lc_dtype_size(a->dtype)) == 0;
}

/* The op on ref and on cpu at one and two threads. */
static void compare(lc_op op, const lc_attr *attr, lc_tensor *const *in, int n_in, double tolerance) {
    lc_tensor *want[LC_MAX_OUT] = {NULL}, *got[2][LC_MAX_OUT] = {{NULL}};
    lc_backend_force_ref(true);
    uint64_t macs = lc_macs();
    CHECK_OK(lc_run(op, attr, in, n_in, want));
    uint64_t macs_ref = lc_macs() - macs;
    lc_backend_force_ref(false);
    for (int t = 0; t < 2; t++) {
        CHECK_OK(lc_set_threads(t + 1));
        macs = lc_macs();
        CHECK_OK(lc_run(op, attr, in, n_in, got[t]));
        CHECK(lc_macs() - macs == macs_ref);
    }
    for (int k = 0; k < lc_op_outputs(op); k++) {
        CHECK((want[k] != NULL) == (got[0][k] != NULL));
        if (!want[k] || !got[0][k]) continue;
        double worst = difference(got[0][k], want[k]);
        CHECK_NEAR(worst, 0, tolerance);
        CHECK(same_bits(got[0][k], got[1][k]));
        if (!(worst <= tolerance))
            fprintf(stderr, "    %s, output %d, of %s %s\n", lc_op_name(op), k, lc_dtype_name(in[0]->dtype),
                    LC_SHAPE(in[0]));
        lc_tensor_release(want[k]);
        lc_tensor_release(got[0][k]);
        lc_tensor_release(got[1][k]);
    }
}

static void release_all(lc_tensor **t, int n) {
    for (int i = 0; i < n; i++) lc_tensor_release(t[i]);
}

static void check_elementwise(void) {
    static const lc_dtype types[] = {LC_BOOL, LC_U8, LC_I32, LC_I64, LC_F32, LC_F64};
    lc_attr attr = {.a = -0.5, .b = 1.5};
    for (int d = 0; d < 6; d++) {
        lc_tensor *x = RANDOM(types[d], 2, "x", 7, 300), *y = RANDOM(types[d], 2, "y", 7, 300), *across, *wide = NULL,
                  *turned = NULL;
        lc_tensor *row = RANDOM(types[d], 2, "row", 300), *one = RANDOM(types[d], 2, "one", 1, 1),
                  *column = RANDOM(types[d], 2, "c", 7, 1);
        across = RANDOM(types[d], 2, "z", 300, 7);
        CHECK_OK(lc_view_permute(across, (int[]){1, 0}, &turned));
        CHECK_OK(lc_view_slice(x, 1, 3, 90, 3, &wide));
        lc_tensor *special = RANDOM(types[d], 100, "s", 5, 5, 5);
        if (types[d] == LC_F32) {
            double values[] = {0,   -0.0, INFINITY, -INFINITY, NAN, 1, -1,    88.5, 88.8,
                               -87, -103, 1e-40,    3e38,      0.5, 2, 1e-20, -3e38};
            for (int i = 0; i < 17; i++) lc_set_f64(special, i, values[i]);
        }
        for (int op = LC_OP_NEG; op <= LC_OP_NOT; op++) {
            if (op >= LC_OP_SILU_BACKWARD && op <= LC_OP_GELU_TANH_BACKWARD) continue;
            lc_tensor *views[] = {x, wide, turned, special};
            for (int i = 0; i < 4; i++) compare(op, &attr, &views[i], 1, 3e-6);
        }
        for (int op = LC_OP_SILU_BACKWARD; op <= LC_OP_XOR; op++) {
            if (op > LC_OP_GELU_TANH_BACKWARD && op < LC_OP_ADD) continue;
            lc_tensor *others[] = {y, row, one, column, turned, x};
            for (int i = 0; i < 6; i++) {
                compare(op, &attr, (lc_tensor *[]){x, others[i]}, 2, 3e-6);
                compare(op, &attr, (lc_tensor *[]){others[i], x}, 2, 3e-6);
            }
        }
        lc_tensor *condition = RANDOM(LC_BOOL, 1, "condition", 7, 1), *two = fresh(types[d], 0, NULL);
        lc_set_f64(two, 0, 2);
        compare(LC_OP_WHERE, &attr, (lc_tensor *[]){condition, turned, row}, 3, 0);
        compare(LC_OP_POW, &attr, (lc_tensor *[]){x, two}, 2, 1e-6);
        for (int to = 0; to < LC_DTYPES; to++) {
            lc_attr cast = {.dtype = to};
            lc_tensor *views[] = {x, turned, wide, special};
            for (int i = 0; i < 4; i++) compare(LC_OP_COPY, &cast, &views[i], 1, 0);
        }
        CHECK_OK(lc_fill(wide, 3));
        CHECK(lc_get_f64(x, 3) == (types[d] == LC_BOOL ? 1 : 3) &&
              lc_get_f64(x, lc_position(wide, lc_numel(wide) - 1)) == lc_get_f64(x, 3));
        release_all((lc_tensor *[]){x, y, across, wide, turned, row, one, column, special, condition, two}, 11);
    }
    lc_tensor *x = RANDOM(LC_F32, 1, "large", 3, 70001), *t = NULL, *row = RANDOM(LC_F32, 1, "row", 3);
    compare(LC_OP_GELU, NULL, &x, 1, 1e-6);
    CHECK_OK(lc_view_permute(x, (int[]){1, 0}, &t));
    compare(LC_OP_ADD, NULL, (lc_tensor *[]){t, row}, 2, 1e-6);
    lc_attr cast = {.dtype = LC_F32};
    compare(LC_OP_COPY, &cast, &t, 1, 0);
    compare(LC_OP_NEG, NULL, &t, 1, 0);
    cast.dtype = LC_F64;
    compare(LC_OP_COPY, &cast, &t, 1, 0);
    compare(LC_OP_SUB, NULL, (lc_tensor *[]){t, t}, 2, 0);
    lc_tensor *y = RANDOM(LC_F32, 1, "y", 70001, 3), *want = NULL; /* into a target that lies across */
    CHECK_OK(lc_run(LC_OP_ADD, NULL, (lc_tensor *[]){t, y}, 2, &want));
    CHECK_OK(lc_run_into(LC_OP_ADD, NULL, (lc_tensor *[]){t, y}, 2, &t));
    CHECK_NEAR(difference(t, want), 0, 0);
    CHECK_OK(lc_copy_into(t, y));
    CHECK_NEAR(difference(t, y), 0, 0);
    release_all((lc_tensor *[]){x, t, row, y, want}, 5);
}

/* Worst error in units in the last place over `count` numbers from low to high, against double. */
static double worst_ulp(lc_op op, double (*exact)(double), double low, double high) {
    enum { COUNT = 200000 };
    lc_tensor *x = fresh(LC_F32, 1, (int64_t[]){COUNT}), *y = NULL;
    for (int i = 0; i < COUNT; i++) LC_DATA(float, x)[i] = (float)(low + (high - low) * i / (COUNT - 1));
    CHECK_OK(lc_run(op, NULL, &x, 1, &y));
    double worst = 0;
    for (int i = 0; i < COUNT; i++) {
        double want = exact(LC_DATA(float, x)[i]);
        float near = fmaxf(fabsf((float)want), 1.2e-38f);
        worst = fmax(worst, fabs(LC_DATA(float, y)[i] - want) / (nextafterf(near, INFINITY) - near));
    }
    release_all((lc_tensor *[]){x, y}, 2);
    return worst;
}

static double sigmoid(double x) {
    return 1 / (1 + exp(-x));
}

static void check_precision(void) {
    CHECK_NEAR(worst_ulp(LC_OP_EXP, exp, -87, 88), 0, 2);
    CHECK_NEAR(worst_ulp(LC_OP_EXPM1, expm1, -5, 5), 0, 4);
    CHECK_NEAR(worst_ulp(LC_OP_LOG, log, 1e-6, 50), 0, 2);
    CHECK_NEAR(worst_ulp(LC_OP_LOG1P, log1p, -0.999, 10), 0, 4);
    CHECK_NEAR(worst_ulp(LC_OP_TANH, tanh, -9, 9), 0, 4);
    CHECK_NEAR(worst_ulp(LC_OP_ERF, erf, -4, 4), 0, 4);
    CHECK_NEAR(worst_ulp(LC_OP_SIGMOID, sigmoid, -80, 80), 0, 4);
}

/* x with its last two dimensions swapped: a view. */
static lc_tensor *transposed(lc_tensor *x) {
    int order[LC_MAX_DIMS];
    for (int i = 0; i < x->ndim; i++) order[i] = i;
    order[x->ndim - 1] = x->ndim - 2;
    order[x->ndim - 2] = x->ndim - 1;
    lc_tensor *t = NULL;
    CHECK_OK(lc_view_permute(x, order, &t));
    return t;
}

static void check_matmul(lc_dtype dtype) {
    double tolerance = dtype == LC_F32 ? 2e-6 : 1e-14;
    lc_tensor *a = RANDOM(dtype, 1, "a", 3, 40, 65), *b = RANDOM(dtype, 1, "b", 3, 65, 33),
              *c = RANDOM(dtype, 1, "c", 65, 33);
    lc_tensor *at = transposed(a), *bt = transposed(b), *ct = transposed(c), *odd = NULL,
              *alone = RANDOM(dtype, 1, "d", 1, 33, 65);
    CHECK_OK(lc_view_slice(c, 1, 0, 11, 3, &odd));
    lc_tensor *pairs[][2] = {{a, b}, {a, c}, {bt, at}, {ct, at}, {a, odd}, {alone, c}, {b, bt}, {ct, b}};
    for (int i = 0; i < 8; i++) compare(LC_OP_MATMUL, NULL, pairs[i], 2, tolerance);
    /* added into a transposed target */
    lc_tensor *into = RANDOM(dtype, 1, "into", 3, 33, 40), *into2 = RANDOM(dtype, 1, "into", 3, 33, 40);
    lc_tensor *t1 = transposed(into), *t2 = transposed(into2);
    lc_attr add = {.add = true};
    lc_backend_force_ref(true);
    CHECK_OK(lc_run_into(LC_OP_MATMUL, &add, (lc_tensor *[]){a, b}, 2, &t1));
    lc_backend_force_ref(false);
    CHECK_OK(lc_run_into(LC_OP_MATMUL, &add, (lc_tensor *[]){a, b}, 2, &t2));
    CHECK_NEAR(difference(t2, t1), 0, tolerance);
    release_all((lc_tensor *[]){a, b, c, at, bt, ct, odd, alone, into, into2, t1, t2}, 12);
}

static void check_linear(lc_dtype dtype) {
    double tolerance = dtype == LC_F32 ? 2e-6 : 1e-14;
    lc_tensor *x = RANDOM(dtype, 1, "x", 3, 37, 130), *w = RANDOM(dtype, 0.1, "w", 70, 130),
              *b = RANDOM(dtype, 1, "b", 70);
    lc_tensor *file = RANDOM(dtype, 0.1, "f", 130, 70), *alias = transposed(file),
              *one = RANDOM(dtype, 1, "one", 1, 130), *part = NULL;
    CHECK_OK(lc_view_slice(x, 1, 1, 30, 1, &part));
    for (int act = LC_ACT_NONE; act <= LC_ACT_TANH; act++) {
        lc_attr attr = {.act = act, .train = true};
        compare(LC_OP_LINEAR, &attr, (lc_tensor *[]){x, w, b}, 3, tolerance);
        attr.train = false;
        compare(LC_OP_LINEAR, &attr, (lc_tensor *[]){x, alias, NULL}, 3, tolerance);
        compare(LC_OP_LINEAR, &attr, (lc_tensor *[]){part, w, b}, 3, tolerance);
        compare(LC_OP_LINEAR, &attr, (lc_tensor *[]){one, w, b}, 3, tolerance);
        compare(LC_OP_LINEAR, &attr, (lc_tensor *[]){one, alias, b}, 3, tolerance);
    }
    release_all((lc_tensor *[]){x, w, b, file, alias, one, part}, 7);
    x = RANDOM(dtype, 1, "x", 300, 200), w = RANDOM(dtype, 0.1, "w", 510, 200), b = RANDOM(dtype, 1, "b", 510);
    lc_attr gelu = {.act = LC_ACT_GELU_TANH, .train = true};
    compare(LC_OP_LINEAR, &gelu, (lc_tensor *[]){x, w, b}, 3, tolerance);
    release_all((lc_tensor *[]){x, w, b}, 3);
}

static void check_rows(lc_dtype dtype, int64_t rows, int64_t C) {
    double tolerance = dtype == LC_F32 ? 3e-6 : 1e-12;
    lc_tensor *x = RANDOM(dtype, 2, "x", rows, C), *dy = RANDOM(dtype, 1, "dy", rows, C), *y = NULL, *out[3] = {NULL};
    lc_tensor *w = RANDOM(dtype, 1, "w", C), *b = RANDOM(dtype, 1, "b", C);
    lc_attr eps = {.a = 1e-5}, drop = {.a = 0.3, .key = 0x123456789abcdef, .counter = 5000000000};
    compare(LC_OP_SOFTMAX, NULL, &x, 1, tolerance);
    compare(LC_OP_LOG_SOFTMAX, NULL, &x, 1, tolerance);
    CHECK_OK(lc_run(LC_OP_SOFTMAX, NULL, &x, 1, &y));
    compare(LC_OP_SOFTMAX_BACKWARD, NULL, (lc_tensor *[]){y, dy}, 2, tolerance);
    compare(LC_OP_LOG_SOFTMAX_BACKWARD, NULL, (lc_tensor *[]){y, dy}, 2, tolerance);
    for (int i = 0; i < 4; i++) {
        lc_tensor *wi = i & 1 ? w : NULL, *bi = i & 2 ? b : NULL;
        compare(LC_OP_LAYER_NORM, &eps, (lc_tensor *[]){x, wi, bi}, 3, tolerance);
        if (i < 2) compare(LC_OP_RMS_NORM, &eps, (lc_tensor *[]){x, wi}, 2, tolerance);
        CHECK_OK(lc_run(LC_OP_LAYER_NORM, &eps, (lc_tensor *[]){x, wi, bi}, 3, out));
        compare(LC_OP_LAYER_NORM_BACKWARD, NULL, (lc_tensor *[]){x, wi, out[1], out[2], dy}, 5, tolerance * 3);
        release_all(out, 3);
        CHECK_OK(lc_run(LC_OP_RMS_NORM, &eps, (lc_tensor *[]){x, wi}, 2, out));
        compare(LC_OP_RMS_NORM_BACKWARD, NULL, (lc_tensor *[]){x, wi, out[1], dy}, 4, tolerance * 3);
        release_all(out, 2);
    }
    compare(LC_OP_DROPOUT, &drop, &x, 1, tolerance);
    drop.a = 1;
    compare(LC_OP_DROPOUT, &drop, &x, 1, 0);
    release_all((lc_tensor *[]){x, dy, y, w, b}, 5);
}

/* q, k, v inside one (B, T, (H + 2 G) D) buffer. */
static void check_attention(int64_t B, int64_t T, int64_t S, int64_t H, int64_t G, int64_t D, bool causal, bool padded,
                            double rate) {
    lc_tensor *buffer = RANDOM(LC_F32, 1, "qkv", B, lc_max(T, S), (H + 2 * G) * D), *in[7] = {NULL}, *out[3] = {NULL};
    int64_t row = (H + 2 * G) * D, strides[] = {lc_max(T, S) * row, row, D, 1};
    CHECK_OK(lc_view_strided(buffer, 4, (int64_t[]){B, T, H, D}, strides, 0, &in[0]));
    CHECK_OK(lc_view_strided(buffer, 4, (int64_t[]){B, S, G, D}, strides, H * D, &in[1]));
    CHECK_OK(lc_view_strided(buffer, 4, (int64_t[]){B, S, G, D}, strides, (H + G) * D, &in[2]));
    if (padded) {
        in[3] = RANDOM(LC_BOOL, 1, "keep", B, S);
        for (int64_t s = 0; s < S; s++) lc_set_f64(in[3], s, s < 2); /* the first text: hardly anything */
    }
    lc_attr attr = {.a = 1 / sqrt((double)D), .causal = causal, .b = rate, .key = 77, .counter = 12};
    compare(LC_OP_ATTENTION, &attr, in, 4, 3e-6);
    CHECK_OK(lc_run(LC_OP_ATTENTION, &attr, in, 4, out));
    in[4] = out[0], in[5] = out[1], in[6] = RANDOM(LC_F32, 1, "dy", B, T, H, D);
    compare(LC_OP_ATTENTION_BACKWARD, &attr, in, 7, 5e-6);
    release_all(in, 7);
    lc_tensor_release(buffer);
}

/* Labels 0..V-1, every third ignored unless `all`. */
static lc_tensor *random_labels(int64_t N, int64_t V, bool all) {
    lc_tensor *t = fresh(LC_I64, 1, &N);
    for (int64_t n = 0; n < N; n++) LC_DATA(int64_t, t)[n] = !all && n % 3 == 1 ? -100 : n * 7919 % V;
    return t;
}

static void check_losses(lc_dtype dtype) {
    double tolerance = dtype == LC_F32 ? 3e-6 : 1e-13;
    int64_t N = 50, V = 300, C = 20;
    lc_tensor *logits = RANDOM(dtype, 3, "logits", N, V), *x = RANDOM(dtype, 1, "x", N, C),
              *w = RANDOM(dtype, 1, "w", V, C);
    for (int i = 0; i < 4; i++) {
        lc_attr attr = {.a = i & 2 ? 40 : 0, .train = true}, eval = {.a = attr.a};
        lc_tensor *labels = random_labels(N, V, i & 1), *out[2] = {NULL}, *dloss = RANDOM(dtype, 1, "dloss", 1),
                  *scalar = NULL;
        compare(LC_OP_CROSS_ENTROPY, &attr, (lc_tensor *[]){logits, labels}, 2, tolerance);
        CHECK_OK(lc_run(LC_OP_CROSS_ENTROPY, &attr, (lc_tensor *[]){logits, labels}, 2, out));
        CHECK_OK(lc_view_reshape(dloss, 0, NULL, &scalar));
        compare(LC_OP_CROSS_ENTROPY_BACKWARD, &attr, (lc_tensor *[]){logits, labels, out[1], scalar}, 4, tolerance);
        compare(LC_OP_LINEAR_CROSS_ENTROPY, &attr, (lc_tensor *[]){x, w, labels}, 3, tolerance);
        compare(LC_OP_LINEAR_CROSS_ENTROPY, &eval, (lc_tensor *[]){x, w, labels}, 3, tolerance);
        release_all((lc_tensor *[]){labels, out[0], out[1], dloss, scalar}, 5);
    }
    lc_tensor *none = fresh(LC_I64, 1, &N), *result[3] = {NULL};
    for (int64_t n = 0; n < N; n++) LC_DATA(int64_t, none)[n] = n == 3 ? V : -100;
    lc_attr train = {.train = true};
    CHECK_MESSAGE(lc_run(LC_OP_LINEAR_CROSS_ENTROPY, &train, (lc_tensor *[]){x, w, none}, 3, result), LC_EINVAL,
                  "label 300");
    LC_DATA(int64_t, none)[3] = -100;
    compare(LC_OP_LINEAR_CROSS_ENTROPY, &train, (lc_tensor *[]){x, w, none}, 3, 0);
    release_all((lc_tensor *[]){logits, x, w, none}, 4);
}

/* Several chunks: the fused form against the plain one. */
static void check_chunks(void) {
    int64_t N = 90, V = 400000, C = 4;
    lc_tensor *x = RANDOM(LC_F32, 1, "x", N, C), *w = RANDOM(LC_F32, 1, "w", V, C),
              *labels = random_labels(N, V, false);
    lc_tensor *logits[2] = {NULL}, *out[3] = {NULL}, *loss[2] = {NULL}, *one = NULL, *dlogits = NULL, *dx = NULL,
              *dw = NULL;
    lc_attr train = {.train = true};
    CHECK_OK(lc_run(LC_OP_LINEAR_CROSS_ENTROPY, &train, (lc_tensor *[]){x, w, labels}, 3, out));
    CHECK_OK(lc_run(LC_OP_LINEAR, NULL, (lc_tensor *[]){x, w, NULL}, 3, logits));
    CHECK_OK(lc_run(LC_OP_CROSS_ENTROPY, NULL, (lc_tensor *[]){logits[0], labels}, 2, loss));
    CHECK_OK(lc_tensor_scalar(LC_F32, 1, &one));
    CHECK_OK(lc_run(LC_OP_CROSS_ENTROPY_BACKWARD, NULL, (lc_tensor *[]){logits[0], labels, loss[1], one}, 4, &dlogits));
    CHECK_OK(lc_run(LC_OP_MATMUL, NULL, (lc_tensor *[]){dlogits, w}, 2, &dx));
    lc_tensor *turned = transposed(dlogits);
    CHECK_OK(lc_run(LC_OP_MATMUL, NULL, (lc_tensor *[]){turned, x}, 2, &dw));
    CHECK_NEAR(difference(out[0], loss[0]), 0, 1e-6);
    CHECK_NEAR(difference(out[1], dx), 0, 1e-7);
    CHECK_NEAR(difference(out[2], dw), 0, 1e-7);
    lc_attr add = {.train = true, .add = true};
    CHECK_OK(lc_run_into(LC_OP_LINEAR_CROSS_ENTROPY, &add, (lc_tensor *[]){x, w, labels}, 3,
                         (lc_tensor *[]){NULL, NULL, dw}));
    CHECK_OK(lc_run_into(LC_OP_ADD, NULL, (lc_tensor *[]){out[2], out[2]}, 2, &out[2]));
    CHECK_NEAR(difference(out[2], dw), 0, 2e-7);
    release_all((lc_tensor *[]){x, w, labels, logits[0], logits[1], out[0], out[1], out[2], loss[0], loss[1], one,
                                dlogits, dx, dw, turned},
                15);
}

static void check_updates(lc_dtype dtype) {
    double tolerance = dtype == LC_F32 ? 1e-6 : 1e-14;
    int64_t n = 40003;
    lc_attr adamw = {.a = 1e-2, .b = 0.9, .c = 0.999, .d = 1e-8, .e = 0.1, .f = 0.5, .n = 3},
            sgd = {.a = 0.1, .b = 0.9, .e = 0.01, .f = 2};
    for (int masked = 0; masked < 2; masked++)
        for (int step = 1; step <= 3; step++) {
            lc_tensor *side[3][4], *g = RANDOM(dtype, 1, "g", n),
                                   *keep = masked ? RANDOM(LC_U8, 20, "keep", n / 8 + 1) : NULL;
            for (int i = 0; i < 3; i++) {
                side[i][0] = RANDOM(dtype, 1, "w", n), side[i][1] = RANDOM(dtype, 0.1, "m", n),
                side[i][2] = fresh(dtype, 1, &n);
                CHECK_OK(lc_run_into(LC_OP_SQUARE, NULL, &side[i][1], 1, &side[i][2]));
                side[i][3] = RANDOM(dtype, 1, "w2", n);
                lc_backend_force_ref(i == 0);
                CHECK_OK(lc_set_threads(lc_max(1, i)));
                adamw.n = sgd.n = step;
                CHECK_OK(lc_run(LC_OP_ADAMW_STEP, &adamw, (lc_tensor *[]){side[i][0], g, side[i][1], side[i][2], keep},
                                5, NULL));
                lc_tensor *buffer = step == 3 ? NULL : side[i][1];
                CHECK_OK(lc_run(LC_OP_SGD_STEP, &sgd, (lc_tensor *[]){side[i][3], g, buffer, keep}, 4, NULL));
                lc_backend_force_ref(false);
            }
            for (int k = 0; k < 4; k++) {
                CHECK_NEAR(difference(side[1][k], side[0][k]), 0, tolerance);
                CHECK(same_bits(side[1][k], side[2][k]));
                for (int i = 0; i < 3; i++) lc_tensor_release(side[i][k]);
            }
            compare(LC_OP_SQUARE_SUM, NULL, (lc_tensor *[]){g, keep}, 2, 1e-6);
            release_all((lc_tensor *[]){g, keep}, 2);
        }
}

static void check_embedding(lc_dtype dtype) {
    lc_tensor *w = RANDOM(dtype, 1, "w", 50, 33), *ids = fresh(LC_I32, 2, (int64_t[]){7, 30}),
              *dy = RANDOM(dtype, 1, "dy", 7, 30, 33);
    for (int i = 0; i < 210; i++) LC_DATA(int32_t, ids)[i] = i * i % 50;
    lc_attr attr = {.n = 50};
    compare(LC_OP_EMBEDDING, NULL, (lc_tensor *[]){w, ids}, 2, 0);
    compare(LC_OP_EMBEDDING_BACKWARD, &attr, (lc_tensor *[]){ids, dy}, 2, 1e-6);
    LC_DATA(int32_t, ids)[5] = 50;
    lc_tensor *out = NULL;
    CHECK_MESSAGE(lc_run(LC_OP_EMBEDDING, NULL, (lc_tensor *[]){w, ids}, 2, &out), LC_EINVAL, "id 50 is outside 0..49");
    release_all((lc_tensor *[]){w, ids, dy}, 3);
}

static void check_reductions(lc_dtype dtype) {
    static const lc_op ops[] = {LC_OP_SUM,    LC_OP_MEAN,   LC_OP_VAR, LC_OP_MIN, LC_OP_MAX,      LC_OP_NORM,
                                LC_OP_ARGMIN, LC_OP_ARGMAX, LC_OP_ANY, LC_OP_ALL, LC_OP_LOGSUMEXP};
    lc_tensor *x = RANDOM(dtype, 1, "x", 5, 40, 33), *turned = transposed(x), *far = RANDOM(dtype, 1, "far", 7, 9, 3);
    lc_tensor *views[] = {x, turned, far, NULL};
    if (lc_dtype_is_float(dtype)) {
        lc_set_f64(far, 20, NAN);
        lc_set_f64(far, 50, INFINITY);
        lc_set_f64(far, 51, INFINITY);
        lc_set_f64(far, 90, -INFINITY);
    }
    lc_tensor *zeros = NULL;
    CHECK_OK(lc_tensor_zeros(dtype, 2, (int64_t[]){4, 20}, LC_CPU, &zeros));
    views[3] = zeros;
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 11; k++)
            for (int dim = -1; dim < views[i]->ndim; dim++) {
                lc_attr attr = {.dim = dim, .a = 1, .keepdim = k & 1};
                compare(ops[k], &attr, &views[i], 1, 3e-6);
            }
    static const int64_t targets[][3] = {{5, 40, 33}, {1, 40, 33}, {5, 1, 33}, {5, 40, 1},
                                         {1, 1, 33},  {1, 40, 1},  {5, 1, 1},  {1, 1, 1}};
    for (int i = 0; i < 8; i++)
        for (int skip = 0; skip < (i == 4 ? 3 : i == 1 ? 2 : 1); skip++) {
            lc_attr attr = {.ndim = 3 - skip};
            memcpy(attr.shape, targets[i] + skip, sizeof *attr.shape * (size_t)attr.ndim);
            compare(LC_OP_SUM_TO, &attr, &x, 1, 3e-6);
        }
    release_all((lc_tensor *[]){x, turned, far, zeros}, 4);
}

static void check_long_reductions(void) {
    lc_tensor *x = RANDOM(LC_F32, 1, "x", 2, 50000), *offset = RANDOM(LC_F32, 1e-3, "o", 60000),
              *bytes = RANDOM(LC_BOOL, 1, "b", 70001);
    for (int64_t i = 0; i < 60000; i++) LC_DATA(float, offset)[i] += 10;
    for (int op = LC_OP_SUM; op <= LC_OP_LOGSUMEXP; op++) {
        if (op == LC_OP_CUMSUM) continue;
        for (int dim = -1; dim < 2; dim++) {
            lc_attr attr = {.dim = dim, .a = 1};
            compare(op, &attr, &x, 1, 1e-6);
            if (dim < 1) compare(op, &attr, &offset, 1, 1e-6);
        }
        lc_attr all = {.dim = -1};
        if (op == LC_OP_SUM || op == LC_OP_ANY || op == LC_OP_ALL) compare(op, &all, &bytes, 1, 0);
    }
    lc_attr columns = {.ndim = 1, .shape = {50000}};
    compare(LC_OP_SUM_TO, &columns, &x, 1, 1e-6);
    release_all((lc_tensor *[]){x, offset, bytes}, 3);
}

static void check_order_of(lc_tensor *x, double share) {
    for (int dim = -1; dim < x->ndim; dim++) {
        int64_t n = dim < 0 ? lc_numel(x) : x->shape[dim];
        int64_t counts[] = {1, (int64_t)(share * (double)n) + 1, n};
        for (int i = 0; i < 3; i++)
            for (int down = 0; down < 2; down++) {
                lc_attr attr = {.dim = dim, .n = counts[i], .descending = down, .a = i == 1 ? share : i / 2.0};
                if (dim >= 0) compare(LC_OP_SORT, &attr, &x, 1, 0);
                if (dim >= 0) compare(LC_OP_TOPK, &attr, &x, 1, 0);
                compare(LC_OP_KTH, &attr, &x, 1, 0);
                compare(LC_OP_QUANTILE, &attr, &x, 1, 1e-7);
                compare(LC_OP_KEEP, &attr, &x, 1, 0);
            }
        lc_attr none = {.dim = dim};
        compare(LC_OP_KEEP, &none, &x, 1, 0);
    }
}

static void check_order(void) {
    lc_tensor *x = RANDOM(LC_F32, 1, "x", 6, 50, 7), *ties = RANDOM(LC_I32, 1, "ties", 9, 40), *f = NULL,
              *large = RANDOM(LC_F32, 1, "l", 90001);
    CHECK_OK(lc_cast(ties, LC_F32, &f));
    double special[] = {NAN, 0, -0.0, INFINITY, -INFINITY, NAN, -1e-42, 1e-42};
    for (int i = 0; i < 8; i++) lc_set_f64(f, 7 * i, special[i]);
    check_order_of(x, 0.37);
    check_order_of(f, 0.5);
    check_order_of(ties, 0.5);
    lc_attr attr = {.dim = -1, .n = 45000, .a = 0.9};
    compare(LC_OP_KEEP, &attr, &large, 1, 0);
    compare(LC_OP_KTH, &attr, &large, 1, 0);
    compare(LC_OP_QUANTILE, &attr, &large, 1, 1e-7);
    attr.dim = 0;
    compare(LC_OP_TOPK, &attr, &large, 1, 0);
    release_all((lc_tensor *[]){x, ties, f, large}, 4);
}

/* Enough lines for several threads; indices come more than once. */
static void check_scattering(lc_dtype dtype) {
    lc_tensor *x = RANDOM(dtype, 1, "x", 70, 90, 11), *rows = fresh(LC_I64, 1, (int64_t[]){40}),
              *turned = transposed(x);
    lc_tensor *places = fresh(LC_I32, 3, (int64_t[]){70, 200, 11}), *source = RANDOM(dtype, 1, "s", 70, 200, 11);
    for (int i = 0; i < 40; i++) LC_DATA(int64_t, rows)[i] = i * 7 % 11;
    for (int i = 0; i < 70 * 200 * 11; i++) LC_DATA(int32_t, places)[i] = (int32_t)(i * 31L % 90);
    bool adds = dtype != LC_BOOL && dtype != LC_U8;
    for (int add = 0; add <= adds; add++)
        compare(LC_OP_SCATTER, &(lc_attr){.dim = 1, .add = add}, (lc_tensor *[]){x, places, source}, 3, 1e-5);
    for (int dim = 0; dim < 3; dim++) {
        int64_t shape[3] = {70, 90, 11};
        shape[dim] = 40;
        lc_tensor *part = random_tensor(dtype, 3, shape, 1, "part");
        if (adds) compare(LC_OP_INDEX_ADD, &(lc_attr){.dim = dim}, (lc_tensor *[]){x, rows, part}, 3, 1e-5);
        compare(LC_OP_CUMSUM, &(lc_attr){.dim = dim}, &x, 1, 1e-6);
        compare(LC_OP_CUMSUM, &(lc_attr){.dim = dim}, &turned, 1, 1e-6);
        lc_tensor_release(part);
    }
    for (int k = 0; k < 6; k++) {
        static const int64_t diagonals[] = {0, -3, 5, INT64_MIN, INT64_MAX, 11};
        for (int upper = 0; upper < 2; upper++) {
            lc_attr attr = {.n = diagonals[k], .upper = upper};
            compare(LC_OP_TRIANGLE, &attr, &x, 1, 0);
            compare(LC_OP_TRIANGLE, &attr, &turned, 1, 0);
        }
    }
    release_all((lc_tensor *[]){x, rows, turned, places, source}, 5);
}

static void check_selection(lc_dtype dtype) {
    lc_tensor *x = RANDOM(dtype, 1, "x", 5, 8, 6), *rows = fresh(LC_I64, 1, (int64_t[]){4}), *turned = transposed(x);
    lc_tensor *picks = fresh(LC_I32, 3, (int64_t[]){5, 3, 6}), *mask = RANDOM(LC_BOOL, 1, "mask", 8, 1), *out = NULL;
    for (int i = 0; i < 4; i++) LC_DATA(int64_t, rows)[i] = (i * 3 + 1) % 5;
    for (int i = 0; i < 90; i++) LC_DATA(int32_t, picks)[i] = i * 7 % 8;
    for (int dim = 0; dim < 3; dim++) {
        lc_attr attr = {.dim = dim};
        compare(LC_OP_INDEX, &attr, (lc_tensor *[]){x, rows}, 2, 0);
        compare(LC_OP_CAT, &attr, (lc_tensor *[]){x, x, x}, 3, 0);
    }
    lc_attr middle = {.dim = 1, .a = 2};
    compare(LC_OP_GATHER, &middle, (lc_tensor *[]){x, picks}, 2, 0);
    compare(LC_OP_MASKED_FILL, &middle, (lc_tensor *[]){x, mask}, 2, 0);
    lc_tensor *odd = RANDOM(dtype, 1, "odd", 5, 6, 2);
    lc_attr last = {.dim = 2};
    compare(LC_OP_CAT, &last, (lc_tensor *[]){turned, odd}, 2, 0);
    LC_DATA(int64_t, rows)[2] = -1;
    CHECK_MESSAGE(lc_run(LC_OP_INDEX, NULL, (lc_tensor *[]){x, rows}, 2, &out), LC_EINVAL, "index -1 is outside 0..4");
    release_all((lc_tensor *[]){x, rows, turned, picks, mask, odd}, 6);
}

static void check_solvers(lc_dtype dtype) {
    int64_t n = 60;
    double tolerance = dtype == LC_F32 ? 1e-4 : 1e-12;
    lc_tensor *x = RANDOM(dtype, 1, "x", 200, n), *turned = transposed(x), *gram = NULL,
              *b = RANDOM(dtype, 1, "b", n, 300), *band = RANDOM(dtype, 1, "band", n, 300), *l = NULL;
    for (int64_t i = 0; i < n * 300; i++) /* zeros at both ends, and whole columns of them */
        if (i < 20 * 300 || i >= 45 * 300 || i % 300 < 130) lc_set_f64(band, i, 0);
    CHECK_OK(lc_run(LC_OP_MATMUL, NULL, (lc_tensor *[]){turned, x}, 2, &gram));
    for (int i = 0; i < 8; i++) {
        lc_attr attr = {.upper = i & 1, .transpose = i & 2, .unit = i & 4};
        if (i < 2) compare(LC_OP_CHOLESKY, &attr, &gram, 1, tolerance);
        CHECK_OK(lc_run(LC_OP_CHOLESKY, &attr, &gram, 1, &l));
        if (!attr.unit) compare(LC_OP_SOLVE_TRIANGULAR, &attr, (lc_tensor *[]){l, b}, 2, tolerance);
        if (!attr.unit) compare(LC_OP_SOLVE_TRIANGULAR, &attr, (lc_tensor *[]){l, band}, 2, tolerance);
        lc_tensor_release(l);
    }
    lc_tensor *bad[2] = {NULL}, *out = NULL;
    for (int i = 0; i < 2; i++) {
        CHECK_OK(lc_tensor_zeros(dtype, 2, (int64_t[]){3, 3}, LC_CPU, &bad[i]));
        for (int k = 0; k < 3; k++) lc_set_f64(bad[i], 4 * k, k == 1 && i == 0 ? -1 : k == 2 && i == 1 ? NAN : 1);
    }
    CHECK_MESSAGE(lc_run(LC_OP_CHOLESKY, NULL, &bad[0], 1, &out), LC_ENUMERIC, "row 2");
    CHECK_MESSAGE(lc_run(LC_OP_CHOLESKY, NULL, &bad[1], 1, &out), LC_ENUMERIC, "row 3");
    lc_set_f64(bad[0], 4, 0);
    CHECK_MESSAGE(lc_run(LC_OP_SOLVE_TRIANGULAR, NULL, (lc_tensor *[]){bad[0], bad[0]}, 2, &out), LC_ENUMERIC, "row 2");
    lc_set_f64(bad[0], 4, 1); /* NaN below a diagonal of ones reaches what is solved behind it, though it meets zeros */
    lc_set_f64(bad[0], 3, NAN);
    lc_set_f64(bad[1], 0, 0);
    lc_set_f64(bad[1], 8, 1);
    compare(LC_OP_SOLVE_TRIANGULAR, NULL, bad, 2, 0);
    release_all((lc_tensor *[]){x, turned, gram, b, band, bad[0], bad[1]}, 7);
}

/* The one op without a kernel of its own is as fast as it needs to be. */
static void check_table(void) {
    for (int op = 0; op < LC_OPS; op++) CHECK((lc_backend_cpu()->kernel[op] == NULL) == (op == LC_OP_NONZERO));
}

/* The loops for other CPUs, as far as this one runs them, against those that were chosen. */
static void check_instruction_sets(void) {
    enum { N = 333 };
    const lc_simd *sets[] = {&lc_simd_plain,
                             __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &lc_simd_avx2 : NULL};
    const lc_simd *chosen = lc_simd_get();
    lc_attr attr = {.a = -0.5, .b = 1.5};
    for (int s = 0; s < 2 && sets[s]; s++) {
        for (int d = 0; d < LC_DTYPES; d++) {
            if (lc_dtype_is_half(d)) continue;
            lc_tensor *in[3] = {RANDOM(d, 2, "a", N), RANDOM(d, 2, "b", N), RANDOM(d, 2, "c", N)}, *y[2];
            const void *x[] = {lc_data(in[0]), lc_data(in[1]), lc_data(in[2])};
            for (int op = LC_OP_NEG; op <= LC_OP_XOR; op++) {
                CHECK((chosen->map[op][d] == NULL) == (sets[s]->map[op][d] == NULL));
                if (!chosen->map[op][d]) continue;
                bool test = (op >= LC_OP_IS_NAN && op <= LC_OP_NOT) || op >= LC_OP_EQ;
                for (int k = 0; k < 2; k++) {
                    y[k] = fresh(test ? LC_BOOL : (lc_dtype)d, 1, (int64_t[]){N});
                    (k ? chosen : sets[s])->map[op][d](lc_data(y[k]), x, N, &attr);
                }
                CHECK_NEAR(difference(y[0], y[1]), 0, 2e-6);
                release_all(y, 2);
            }
            release_all(in, 3);
        }
        lc_tensor *ta = RANDOM(LC_F32, 1, "a", N), *tb = RANDOM(LC_F32, 1, "b", N);
        const float *a = LC_DATA(float, ta), *b = LC_DATA(float, tb);
        float p[2][N];
        CHECK_NEAR(sets[s]->sum(a, N), chosen->sum(a, N), 1e-4);
        CHECK_NEAR(sets[s]->dot(a, b, N), chosen->dot(a, b, N), 1e-4);
        CHECK_NEAR(sets[s]->square_sum(a, 0.5, N), chosen->square_sum(a, 0.5, N), 1e-3);
        CHECK(sets[s]->max(a, N) == chosen->max(a, N) && sets[s]->min(a, N) == chosen->min(a, N));
        CHECK(!sets[s]->any_nan(a, N));
        CHECK_NEAR(sets[s]->exp_sum(p[0], a, 2, 1, N), chosen->exp_sum(p[1], a, 2, 1, N), 1e-3);
        double wide[3][N], y[2][N], least[2];
        for (int i = 0; i < N; i++) wide[0][i] = a[i], wide[1][i] = b[i], wide[2][i] = a[N - 1 - i];
        for (int k = 0; k < 2; k++)
            least[k] = (k ? chosen : sets[s])->least_after(y[k], wide[0], wide[1], wide[2], 0.5, N);
        double smallest = INFINITY;
        for (int i = 0; i < N; i++) {
            CHECK_NEAR(y[0][i], wide[0][i] - 0.5 * wide[1][i] * wide[2][i], 1e-14);
            CHECK_NEAR(y[1][i], y[0][i], 1e-14);
            smallest = fmin(smallest, y[0][i]);
        }
        CHECK(least[0] == smallest);
        CHECK_NEAR(least[1], smallest, 1e-14);
        CHECK(chosen->least_after(y[1], wide[0], wide[1], wide[2], 0.5, 0) == INFINITY);
        lc_dropout d = {.key = 5, .counter = 6, .threshold = 1u << 31, .scale = 2};
        sets[s]->dropout(p[0], a, &d, 3, N);
        chosen->dropout(p[1], a, &d, 3, N);
        CHECK(memcmp(p[0], p[1], sizeof p[0]) == 0);
        release_all((lc_tensor *[]){ta, tb}, 2);
    }
}

int main(void) {
    check_table();
    check_instruction_sets();
    check_elementwise();
    check_precision();
    for (int d = LC_F32; d <= LC_F64; d++) {
        check_matmul(d);
        check_linear(d);
        check_solvers(d);
        check_losses(d);
        check_updates(d);
        check_embedding(d);
        check_rows(d, 3, 5);
        check_rows(d, 70, 203);
    }
    check_rows(LC_F32, 3, 20000);
    check_attention(2, 130, 130, 4, 4, 16, true, false, 0);
    check_attention(2, 33, 33, 4, 2, 7, false, true, 0);
    check_attention(1, 70, 330, 2, 1, 8, true, true, 0.2);
    check_attention(2, 1, 300, 3, 3, 16, true, false, 0);
    check_attention(1, 3, 5, 2, 2, 4, true, true, 0);
    check_attention(1, 5, 3, 2, 2, 4, true, false, 0.5);
    check_chunks();
    static const lc_dtype types[] = {LC_BOOL, LC_U8, LC_I32, LC_I64, LC_F32, LC_F64};
    for (int d = 0; d < 6; d++) check_reductions(types[d]);
    for (int d = 0; d < 6; d++) check_selection(types[d]);
    for (int d = 0; d < 6; d++) check_scattering(types[d]);
    check_long_reductions();
    check_order();
    return check_done();
}
