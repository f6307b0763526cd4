/* test_ref.c: the reference kernels on single elements, reductions, orders and selections, against values worked out by
 * hand. */
#include "base/memory.h"
#include "ops/backend.h"
#include "tensors.h"

#define F32 LC_F32
#define F64 LC_F64
#define I64 LC_I64
#define I32 LC_I32
#define BOOL LC_BOOL

static void test_unary(void) {
    lc_tensor *x = tensor(F64, SHAPE(6), VALUES(-2.5, -0.5, 0, 0.5, 2.5, NAN));
    CHECK_TENSOR(RUN(LC_OP_NEG, NULL, x), F64, SHAPE(6), VALUES(2.5, 0.5, 0, -0.5, -2.5, NAN), 0);
    CHECK_TENSOR(RUN(LC_OP_ABS, NULL, x), F64, SHAPE(6), VALUES(2.5, 0.5, 0, 0.5, 2.5, NAN), 0);
    CHECK_TENSOR(RUN(LC_OP_SIGN, NULL, x), F64, SHAPE(6), VALUES(-1, -1, 0, 1, 1, NAN), 0);
    CHECK_TENSOR(RUN(LC_OP_SQUARE, NULL, x), F64, SHAPE(6), VALUES(6.25, 0.25, 0, 0.25, 6.25, NAN), 0);
    CHECK_TENSOR(RUN(LC_OP_FLOOR, NULL, x), F64, SHAPE(6), VALUES(-3, -1, 0, 0, 2, NAN), 0);
    CHECK_TENSOR(RUN(LC_OP_CEIL, NULL, x), F64, SHAPE(6), VALUES(-2, 0, 0, 1, 3, NAN), 0);
    CHECK_TENSOR(RUN(LC_OP_ROUND, NULL, x), F64, SHAPE(6), VALUES(-2, 0, 0, 0, 2, NAN), 0);
    CHECK_TENSOR(RUN(LC_OP_RELU, NULL, x), F64, SHAPE(6), VALUES(0, 0, 0, 0.5, 2.5, NAN), 0);
    CHECK_TENSOR(RUN(LC_OP_IS_NAN, NULL, x), BOOL, SHAPE(6), VALUES(0, 0, 0, 0, 0, 1), 0);
    CHECK_TENSOR(RUN(LC_OP_NOT, NULL, x), BOOL, SHAPE(6), VALUES(0, 0, 1, 0, 0, 0), 0);
    CHECK_TENSOR(RUN(LC_OP_CLAMP, (&(lc_attr){.a = -1, .b = 2}), x), F64, SHAPE(6), VALUES(-1, -0.5, 0, 0.5, 2, NAN),
                 0);
    lc_tensor *one = tensor(F64, SHAPE(1), VALUES(1));
    struct {
        lc_op op;
        double want; /* f(1) */
    } cases[] = {
        {LC_OP_EXP, 2.718281828459045},
        {LC_OP_EXPM1, 1.718281828459045},
        {LC_OP_LOG, 0},
        {LC_OP_LOG1P, 0.6931471805599453},
        {LC_OP_SQRT, 1},
        {LC_OP_RSQRT, 1},
        {LC_OP_RECIPROCAL, 1},
        {LC_OP_SIN, 0.8414709848078965},
        {LC_OP_COS, 0.5403023058681398},
        {LC_OP_TANH, 0.7615941559557649},
        {LC_OP_SIGMOID, 0.7310585786300049},
        {LC_OP_ERF, 0.8427007929497149},
        {LC_OP_SILU, 0.7310585786300049},
        {LC_OP_GELU, 0.8413447460685429},
        {LC_OP_GELU_TANH, 0.8411919906082768},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        CHECK_TENSOR(RUN(cases[i].op, NULL, one), F64, SHAPE(1), &cases[i].want, 1e-14);
    lc_tensor *far = tensor(F64, SHAPE(2), VALUES(-800, 800));
    CHECK_TENSOR(RUN(LC_OP_SIGMOID, NULL, far), F64, SHAPE(2), VALUES(0, 1), 0);
    CHECK_TENSOR(RUN(LC_OP_IS_FINITE, NULL, tensor(F32, SHAPE(3), VALUES(INFINITY, 1, NAN))), BOOL, SHAPE(3),
                 VALUES(0, 1, 0), 0);
    drop_all();
}

static void test_integers(void) {
    double big = 0x1p53;
    lc_tensor *a = tensor(I64, SHAPE(3), VALUES(big, -7, 7)), *b = tensor(I64, SHAPE(3), VALUES(1, 3, -3));
    lc_set_i64(a, 0, (int64_t)big + 1); /* no double holds it */
    lc_tensor *sum = RUN(LC_OP_ADD, NULL, a, b);
    CHECK(sum->dtype == I64 && lc_get_i64(sum, 0) == (int64_t)big + 2);
    lc_tensor *same = RUN(LC_OP_GT, NULL, a, tensor(I64, SHAPE(1), VALUES(big)));
    CHECK(lc_get_i64(same, 0) == 1);
    CHECK_TENSOR(
        RUN(LC_OP_MOD, NULL, tensor(I32, SHAPE(4), VALUES(-7, 7, -7, 5)), tensor(I32, SHAPE(4), VALUES(3, -3, -3, 0))),
        I32, SHAPE(4), VALUES(2, -2, -1, 0), 0);
    CHECK_TENSOR(RUN(LC_OP_MOD, NULL, tensor(F32, SHAPE(2), VALUES(-7.5, 7.5)), tensor(F32, SHAPE(2), VALUES(2, -2))),
                 F32, SHAPE(2), VALUES(0.5, -0.5), 0);
    CHECK_TENSOR(RUN(LC_OP_POW, NULL, tensor(I64, SHAPE(5), VALUES(3, -2, 2, -1, 0)),
                     tensor(I64, SHAPE(5), VALUES(4, 3, -1, -3, 0))),
                 I64, SHAPE(5), VALUES(81, -8, 0, -1, 1), 0);
    lc_tensor *u8 = tensor(LC_U8, SHAPE(1), VALUES(255));
    CHECK_TENSOR(RUN(LC_OP_ADD, NULL, u8, tensor(LC_U8, SHAPE(1), VALUES(2))), LC_U8, SHAPE(1), VALUES(1), 0);
    lc_tensor *yes = tensor(BOOL, SHAPE(2), VALUES(1, 0));
    CHECK_TENSOR(RUN(LC_OP_ADD, NULL, yes, yes), I32, SHAPE(2), VALUES(2, 0), 0);
    CHECK_TENSOR(RUN(LC_OP_DIV, NULL, yes, tensor(I32, SHAPE(1), VALUES(2))), F32, SHAPE(2), VALUES(0.5, 0), 0);
    drop_all();
}

static void test_binary(void) {
    lc_tensor *a = tensor(F32, SHAPE(2, 1), VALUES(1, NAN)), *b = tensor(F32, SHAPE(3), VALUES(0, 1, 2));
    CHECK_TENSOR(RUN(LC_OP_MINIMUM, NULL, a, b), F32, SHAPE(2, 3), VALUES(0, 1, 1, NAN, NAN, NAN), 0);
    CHECK_TENSOR(RUN(LC_OP_MAXIMUM, NULL, b, a), F32, SHAPE(2, 3), VALUES(1, 1, 2, NAN, NAN, NAN), 0);
    CHECK_TENSOR(RUN(LC_OP_SUB, NULL, a, b), F32, SHAPE(2, 3), VALUES(1, 0, -1, NAN, NAN, NAN), 0);
    CHECK_TENSOR(RUN(LC_OP_LE, NULL, a, b), BOOL, SHAPE(2, 3), VALUES(0, 1, 1, 0, 0, 0), 0);
    CHECK_TENSOR(RUN(LC_OP_NE, NULL, a, b), BOOL, SHAPE(2, 3), VALUES(1, 0, 1, 1, 1, 1), 0);
    CHECK_TENSOR(RUN(LC_OP_XOR, NULL, a, b), BOOL, SHAPE(2, 3), VALUES(1, 0, 0, 1, 0, 0), 0);
    lc_tensor *mask = tensor(BOOL, SHAPE(3), VALUES(1, 0, 1));
    CHECK_TENSOR(RUN(LC_OP_WHERE, NULL, mask, tensor(I32, SCALAR, VALUES(7)), b), F32, SHAPE(3), VALUES(7, 1, 7), 0);
    CHECK_TENSOR(RUN(LC_OP_MASKED_FILL, (&(lc_attr){.a = -1}), b, mask), F32, SHAPE(3), VALUES(-1, 1, -1), 0);
    CHECK_REFUSED(LC_OP_ADD, NULL, LC_ESHAPE, "add: shapes (2) and (3)", tensor(F32, SHAPE(2), NULL),
                  tensor(F32, SHAPE(3), NULL));
    CHECK_REFUSED(LC_OP_MASKED_FILL, NULL, LC_EDTYPE, "mask is u8", b, tensor(LC_U8, SHAPE(3), NULL));
    CHECK_REFUSED(LC_OP_ADD, NULL, LC_EDTYPE, "f16", tensor(LC_F16, SHAPE(3), NULL), b);
    drop_all();
}

static void test_copy(void) {
    lc_tensor *x = tensor(F64, SHAPE(6), VALUES(-1.5, 0, 300, 1e30, NAN, 2.0001));
    CHECK_TENSOR(RUN(LC_OP_COPY, (&(lc_attr){.dtype = LC_U8}), x), LC_U8, SHAPE(6), VALUES(0, 0, 255, 255, 0, 2), 0);
    CHECK_TENSOR(RUN(LC_OP_COPY, (&(lc_attr){.dtype = BOOL}), x), BOOL, SHAPE(6), VALUES(1, 0, 1, 1, 1, 1), 0);
    CHECK_TENSOR(RUN(LC_OP_COPY, (&(lc_attr){.dtype = LC_F16}), x), LC_F16, SHAPE(6),
                 VALUES(-1.5, 0, 300, INFINITY, NAN, 2), 0);
    lc_tensor *bf16 = RUN(LC_OP_COPY, (&(lc_attr){.dtype = LC_BF16}), x);
    CHECK_NEAR(element(bf16, 2), 300, 0);
    CHECK_NEAR(element(bf16, 5), 2, 0);
    lc_tensor *back = RUN(LC_OP_COPY, (&(lc_attr){.dtype = F32}), bf16);
    CHECK(back->dtype == F32 && element(back, 0) == -1.5);
    lc_tensor *filled = tensor(I32, SHAPE(2, 2), NULL), *column = NULL;
    CHECK_OK(lc_view_select(filled, 1, 1, &column));
    CHECK_OK(lc_fill(keep_for_drop(column), 5));
    CHECK_TENSOR(filled, I32, SHAPE(2, 2), VALUES(0, 5, 0, 5), 0);
    CHECK_OK(lc_run_into(LC_OP_FILL, &(lc_attr){.a = 3}, NULL, 0, &column));
    CHECK_TENSOR(filled, I32, SHAPE(2, 2), VALUES(0, 3, 0, 3), 0);
    drop_all();
}

/* Ops with this infer function give the same on views as on copies, and write the same through strides. */
static void check_strides(lc_op op, int n_in) {
    lc_attr attr = {.a = -0.5, .b = 0.5};
    int order[] = {1, 0};
    lc_tensor *view[2], *copy[2], *target = tensor(F64, SHAPE(4, 6), NULL), *strided = NULL;
    for (int i = 0; i < n_in; i++) {
        CHECK_OK(lc_view_permute(noise(F64, SHAPE(3, 4), (unsigned)i), order, &view[i]));
        CHECK_OK(lc_contiguous(keep_for_drop(view[i]), &copy[i]));
        keep_for_drop(copy[i]);
    }
    lc_tensor *want = run(op, &attr, copy, n_in), *got = run(op, &attr, view, n_in);
    CHECK_SAME(want, got, 0);
    CHECK_OK(lc_view_slice(target, 1, 1, 3, 2, &strided));
    CHECK_OK(lc_run_into(op, &attr, view, n_in, &strided));
    CHECK_SAME(want, keep_for_drop(strided), 0);
    CHECK_OK(lc_run_into(op, &attr, copy, n_in, &copy[0]));
    CHECK_SAME(want, copy[0], 0);
    drop_all();
}

static void test_strides(void) {
    static const struct {
        lc_op op;
        const char *infer;
        int inputs;
    } rows[] = {
#define VAR LC_MAX_IN
#define LC_OP(ENUM, name, infer, inputs, outputs, types, layout) {LC_OP_##ENUM, #infer, inputs},
#include "ops/ops.def"
#undef LC_OP
    };
    int count = 0; /* so that a renamed column is noticed */
    for (int i = 0; i < LC_OPS; i++) {
        if (strcmp(rows[i].infer, "unary") && strcmp(rows[i].infer, "binary")) continue;
        check_strides(rows[i].op, rows[i].inputs);
        count++;
    }
    CHECK(count > 30);
}

static void test_reduce(void) {
    lc_tensor *x = tensor(F32, SHAPE(2, 3), VALUES(1, 5, 3, 4, 2, 6));
    lc_attr all = {.dim = -1}, rows = {.dim = 1}, columns = {.dim = 0, .keepdim = true};
    CHECK_TENSOR(RUN(LC_OP_SUM, &all, x), F32, SCALAR, VALUES(21), 0);
    CHECK_TENSOR(RUN(LC_OP_SUM, &rows, x), F32, SHAPE(2), VALUES(9, 12), 0);
    CHECK_TENSOR(RUN(LC_OP_SUM, &columns, x), F32, SHAPE(1, 3), VALUES(5, 7, 9), 0);
    CHECK_TENSOR(RUN(LC_OP_MEAN, &rows, x), F32, SHAPE(2), VALUES(3, 4), 0);
    CHECK_TENSOR(RUN(LC_OP_VAR, (&(lc_attr){.dim = 1, .a = 1}), x), F32, SHAPE(2), VALUES(4, 4), 0);
    CHECK_TENSOR(RUN(LC_OP_VAR, (&(lc_attr){.dim = -1}), x), F32, SCALAR, VALUES(17.5 / 6), 1e-6);
    CHECK_TENSOR(RUN(LC_OP_NORM, &all, x), F32, SCALAR, VALUES(sqrt(91)), 1e-6);
    CHECK_TENSOR(RUN(LC_OP_MAX, &rows, x), F32, SHAPE(2), VALUES(5, 6), 0);
    CHECK_TENSOR(RUN(LC_OP_MIN, &columns, x), F32, SHAPE(1, 3), VALUES(1, 2, 3), 0);
    CHECK_TENSOR(RUN(LC_OP_ARGMAX, &all, x), I64, SCALAR, VALUES(5), 0);
    CHECK_TENSOR(RUN(LC_OP_ARGMIN, &rows, x), I64, SHAPE(2), VALUES(0, 1), 0);
    CHECK_TENSOR(RUN(LC_OP_CUMSUM, &rows, x), F32, SHAPE(2, 3), VALUES(1, 6, 9, 4, 6, 12), 0);
    CHECK_TENSOR(RUN(LC_OP_LOGSUMEXP, &all, tensor(F64, SHAPE(2), VALUES(1000, 1000))), F64, SCALAR,
                 VALUES(1000.6931471805599), 1e-12);
    CHECK_TENSOR(RUN(LC_OP_LOGSUMEXP, &all, tensor(F64, SHAPE(2), VALUES(INFINITY, -INFINITY))), F64, SCALAR,
                 VALUES(INFINITY), 0);
    lc_tensor *gap = tensor(F32, SHAPE(4), VALUES(3, NAN, 9, NAN));
    CHECK_TENSOR(RUN(LC_OP_MAX, &all, gap), F32, SCALAR, VALUES(NAN), 0);
    CHECK_TENSOR(RUN(LC_OP_MIN, &all, gap), F32, SCALAR, VALUES(NAN), 0);
    CHECK_TENSOR(RUN(LC_OP_ARGMAX, &all, gap), I64, SCALAR, VALUES(1), 0);
    lc_tensor *ties = tensor(I32, SHAPE(4), VALUES(2, 7, 7, 2));
    CHECK_TENSOR(RUN(LC_OP_ARGMAX, &all, ties), I64, SCALAR, VALUES(1), 0);
    CHECK_TENSOR(RUN(LC_OP_ARGMIN, &all, ties), I64, SCALAR, VALUES(0), 0);
    CHECK_TENSOR(RUN(LC_OP_SUM, &all, ties), I64, SCALAR, VALUES(18), 0);
    CHECK_TENSOR(RUN(LC_OP_SUM, &all, tensor(BOOL, SHAPE(3), VALUES(1, 1, 0))), I64, SCALAR, VALUES(2), 0);
    CHECK_TENSOR(RUN(LC_OP_ANY, &rows, tensor(BOOL, SHAPE(2, 2), VALUES(0, 1, 0, 0))), BOOL, SHAPE(2), VALUES(1, 0), 0);
    CHECK_TENSOR(RUN(LC_OP_ALL, &all, tensor(F32, SHAPE(0), NULL)), BOOL, SCALAR, VALUES(1), 0);
    CHECK_TENSOR(RUN(LC_OP_MEAN, &all, tensor(F32, SHAPE(0), NULL)), F32, SCALAR, VALUES(NAN), 0);
    CHECK_REFUSED(LC_OP_MAX, &rows, LC_ESHAPE, "max: (2, 0) has nothing", tensor(F32, SHAPE(2, 0), NULL));
    CHECK_REFUSED(LC_OP_SUM, (&(lc_attr){.dim = 2}), LC_ESHAPE, "sum: (2, 3) has no", x);
    CHECK_TENSOR(RUN(LC_OP_SUM_TO, (&(lc_attr){.ndim = 1, .shape = {3}}), x), F32, SHAPE(3), VALUES(5, 7, 9), 0);
    CHECK_TENSOR(RUN(LC_OP_SUM_TO, (&(lc_attr){.ndim = 2, .shape = {2, 1}}), x), F32, SHAPE(2, 1), VALUES(9, 12), 0);
    CHECK_TENSOR(RUN(LC_OP_SUM_TO, (&(lc_attr){.ndim = 0}), x), F32, SCALAR, VALUES(21), 0);
    CHECK_REFUSED(LC_OP_SUM_TO, (&(lc_attr){.ndim = 1, .shape = {2}}), LC_ESHAPE, "(2) does not broadcast to (2, 3)",
                  x);
    drop_all();
}

static void test_order(void) {
    lc_tensor *x = tensor(F32, SHAPE(2, 4), VALUES(3, NAN, 1, 3, 0, -1, 2, -1));
    CHECK_TENSOR(RUN(LC_OP_SORT, (&(lc_attr){.dim = 1}), x), F32, SHAPE(2, 4), VALUES(1, 3, 3, NAN, -1, -1, 0, 2), 0);
    CHECK_TENSOR(outputs[1], I64, SHAPE(2, 4), VALUES(2, 0, 3, 1, 1, 3, 0, 2), 0);
    CHECK_TENSOR(RUN(LC_OP_SORT, (&(lc_attr){.dim = 1, .descending = true}), x), F32, SHAPE(2, 4),
                 VALUES(3, 3, 1, NAN, 2, 0, -1, -1), 0);
    CHECK_TENSOR(outputs[1], I64, SHAPE(2, 4), VALUES(0, 3, 2, 1, 2, 0, 1, 3), 0);
    CHECK_TENSOR(RUN(LC_OP_SORT, (&(lc_attr){.dim = 0}), tensor(I32, SHAPE(2, 2), VALUES(5, 1, 4, 2))), I32,
                 SHAPE(2, 2), VALUES(4, 1, 5, 2), 0);
    CHECK_TENSOR(RUN(LC_OP_TOPK, (&(lc_attr){.dim = 1, .n = 2, .descending = true}), x), F32, SHAPE(2, 2),
                 VALUES(3, 3, 2, 0), 0);
    CHECK_TENSOR(outputs[1], I64, SHAPE(2, 2), VALUES(0, 3, 2, 0), 0);
    CHECK_TENSOR(RUN(LC_OP_TOPK, (&(lc_attr){.dim = 1, .n = 1}), x), F32, SHAPE(2, 1), VALUES(1, -1), 0);
    CHECK_TENSOR(RUN(LC_OP_KTH, (&(lc_attr){.dim = 1, .n = 2}), x), F32, SHAPE(2), VALUES(3, -1), 0);
    CHECK_TENSOR(outputs[1], I64, SHAPE(2), VALUES(0, 3), 0);
    CHECK_REFUSED(LC_OP_KTH, (&(lc_attr){.dim = 1, .n = 5}), LC_EINVAL, "kthvalue: 5 is outside 1..4", x);
    lc_tensor *five = tensor(F32, SHAPE(5), VALUES(40, 10, 50, 20, 30));
    CHECK_TENSOR(RUN(LC_OP_QUANTILE, (&(lc_attr){.a = 0.5}), five), F32, SCALAR, VALUES(30), 0);
    CHECK_TENSOR(RUN(LC_OP_QUANTILE, (&(lc_attr){.a = 0.9, .dim = -1}), five), F32, SCALAR, VALUES(46), 1e-5);
    CHECK_TENSOR(RUN(LC_OP_QUANTILE, (&(lc_attr){.a = 0.5, .dim = 1}), x), F32, SHAPE(2), VALUES(NAN, -0.5), 0);
    CHECK_REFUSED(LC_OP_QUANTILE, (&(lc_attr){.a = 1.5, .dim = -1}), LC_EINVAL, "1.5 is outside 0..1", five);
    lc_tensor *ties = tensor(F32, SHAPE(2, 3), VALUES(1, 1, 1, NAN, 0, 1));
    CHECK_TENSOR(RUN(LC_OP_KEEP, (&(lc_attr){.dim = 1, .n = 2}), ties), BOOL, SHAPE(2, 3), VALUES(1, 1, 0, 0, 1, 1), 0);
    CHECK_TENSOR(RUN(LC_OP_KEEP, (&(lc_attr){.dim = -1, .n = 4}), ties), BOOL, SHAPE(2, 3), VALUES(1, 1, 1, 0, 0, 1),
                 0);
    CHECK_TENSOR(RUN(LC_OP_KEEP, (&(lc_attr){.dim = -1, .n = 0}), ties), BOOL, SHAPE(2, 3), VALUES(0, 0, 0, 0, 0, 0),
                 0);
    drop_all();
}

/* Sorting noise gives a permutation in order. */
static void test_order_of_many(void) {
    int64_t n = 1000;
    lc_tensor *x = noise(F32, SHAPE(n), 3), *sorted = RUN(LC_OP_SORT, NULL, x), *index = outputs[1];
    lc_tensor *again = RUN(LC_OP_GATHER, NULL, x, index), *places = RUN(LC_OP_SORT, NULL, index);
    CHECK_SAME(sorted, again, 0);
    bool rising = true, permutation = true;
    for (int64_t i = 0; i < n; i++) {
        rising = rising && (i == 0 || element(sorted, i - 1) <= element(sorted, i));
        permutation = permutation && element(places, i) == (double)i;
    }
    CHECK(rising);
    CHECK(permutation);
    lc_tensor *kept = RUN(LC_OP_KEEP, (&(lc_attr){.dim = -1, .n = 371}), x);
    CHECK_TENSOR(RUN(LC_OP_SUM, (&(lc_attr){.dim = -1}), kept), I64, SCALAR, VALUES(371), 0);
    drop_all();
}

static void test_select(void) {
    lc_tensor *x = tensor(F32, SHAPE(2, 3), VALUES(1, 2, 3, 4, 5, 6));
    lc_attr rows = {.dim = 1};
    lc_tensor *at = tensor(I64, SHAPE(2, 2), VALUES(2, 0, 1, 1));
    CHECK_TENSOR(RUN(LC_OP_GATHER, &rows, x, at), F32, SHAPE(2, 2), VALUES(3, 1, 5, 5), 0);
    lc_tensor *source = tensor(F32, SHAPE(2, 2), VALUES(10, 20, 30, 40));
    CHECK_TENSOR(RUN(LC_OP_SCATTER, &rows, x, at, source), F32, SHAPE(2, 3), VALUES(20, 2, 10, 4, 40, 6), 0);
    CHECK_TENSOR(RUN(LC_OP_SCATTER, (&(lc_attr){.dim = 1, .add = true}), x, at, source), F32, SHAPE(2, 3),
                 VALUES(21, 2, 13, 4, 75, 6), 0);
    CHECK_REFUSED(LC_OP_GATHER, &rows, LC_EINVAL, "gather: index 3 is outside 0..2", x,
                  tensor(I64, SHAPE(2, 1), VALUES(0, 3)));
    CHECK_REFUSED(LC_OP_GATHER, &rows, LC_EDTYPE, "indices is f32", x, source);
    lc_tensor *pick = tensor(I32, SHAPE(2, 2), VALUES(1, 0, 2, 2));
    CHECK_TENSOR(RUN(LC_OP_INDEX, &rows, x, pick), F32, SHAPE(2, 2, 2), VALUES(2, 1, 3, 3, 5, 4, 6, 6), 0);
    CHECK_TENSOR(RUN(LC_OP_INDEX, NULL, x, tensor(I64, SCALAR, VALUES(1))), F32, SHAPE(3), VALUES(4, 5, 6), 0);
    lc_tensor *ones = tensor(F32, SHAPE(2, 2, 2), VALUES(1, 1, 1, 1, 1, 1, 1, 1));
    CHECK_TENSOR(RUN(LC_OP_INDEX_ADD, &rows, x, pick, ones), F32, SHAPE(2, 3), VALUES(2, 3, 5, 5, 6, 8), 0);
    lc_tensor *sum = tensor(F32, SHAPE(2, 3), VALUES(100, 100, 100, 100, 100, 100));
    CHECK_OK(lc_run_into(LC_OP_INDEX_ADD, &(lc_attr){.dim = 1, .add = true}, (lc_tensor *[]){x, pick, ones}, 3, &sum));
    CHECK_TENSOR(sum, F32, SHAPE(2, 3), VALUES(101, 101, 102, 101, 101, 102), 0);
    CHECK_TENSOR(RUN(LC_OP_NONZERO, NULL, tensor(I32, SHAPE(2, 3), VALUES(0, 7, 0, 1, 0, -1))), I64, SHAPE(3, 2),
                 VALUES(0, 1, 1, 0, 1, 2), 0);
    CHECK_TENSOR(RUN(LC_OP_NONZERO, NULL, tensor(I32, SHAPE(2), NULL)), I64, SHAPE(0, 1), NULL, 0);
    CHECK_TENSOR(RUN(LC_OP_CAT, &rows, x, tensor(I32, SHAPE(2, 1), VALUES(7, 8)), x), F32, SHAPE(2, 7),
                 VALUES(1, 2, 3, 7, 1, 2, 3, 4, 5, 6, 8, 4, 5, 6), 0);
    CHECK_REFUSED(LC_OP_CAT, NULL, LC_ESHAPE, "cat: (2, 3) and (2, 2)", x, source);
    CHECK_TENSOR(RUN(LC_OP_TRIANGLE, NULL, x), F32, SHAPE(2, 3), VALUES(1, 0, 0, 4, 5, 0), 0);
    CHECK_TENSOR(RUN(LC_OP_TRIANGLE, (&(lc_attr){.upper = true, .n = 1}), x), F32, SHAPE(2, 3),
                 VALUES(0, 2, 3, 0, 0, 6), 0);
    drop_all();
}

int main(void) {
    size_t live = lc_memory_get().live;
    lc_backend_force_ref(true);
    test_unary();
    test_integers();
    test_binary();
    test_copy();
    test_strides();
    test_reduce();
    test_order();
    test_order_of_many();
    test_select();
    CHECK(lc_memory_get().live == live);
    return check_done();
}
