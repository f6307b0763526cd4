/* op_cases.c: the table of op cases, and the inputs that it describes. */
#include "op_cases.h"

#include "base/random.h"
#include "grad/graph.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* clang-format off */
#define X(shape_) {.shape = shape_}
#define IN(shape_, fill_) {.shape = shape_, .fill = FILL_##fill_}
#define INDEX(shape_, limit_) {.shape = shape_, .fill = FILL_INDEX, .limit = limit_}
#define LABEL(shape_, limit_) {.shape = shape_, .fill = FILL_LABEL, .limit = limit_}
#define BOOL(shape_) {.shape = shape_, .fill = FILL_BOOL}
#define BITS {.shape = "8", .fill = FILL_BITS}
#define CONSTANT(shape_) {.shape = shape_, .constant = true}
#define ABSENT {.shape = NULL}

#define UNARY(OP, fill_) \
    {LC_OP_##OP, "", .in = {IN("BTC", fill_)}}, \
    {LC_OP_##OP, "special", .in = {IN("TC", SPECIAL)}, .no_gradient = true}
#define BINARY(OP, a, b) \
    {LC_OP_##OP, "", .in = {IN("TC", a), IN("TC", b)}}, \
    {LC_OP_##OP, "broadcast", .in = {IN("BTC", a), IN("T1", b)}}, \
    {LC_OP_##OP, "number", .in = {IN("TC", a), IN("", b)}}, \
    {LC_OP_##OP, "outer", .in = {IN("T1", a), IN("C", b)}}, \
    {LC_OP_##OP, "special", .in = {IN("TC", SPECIAL), IN("C", TIES)}, .no_gradient = true}
#define COMPARISON(OP) \
    {LC_OP_##OP, "", .in = {IN("TC", TIES), IN("TC", TIES)}}, \
    {LC_OP_##OP, "special", .in = {IN("BTC", SPECIAL), IN("C", SPECIAL)}}, \
    {LC_OP_##OP, "integers", .in = {IN("TC", COUNT), IN("TC", COUNT)}}, \
    {LC_OP_##OP, "bool", .in = {BOOL("TC"), BOOL("T1")}}
#define REDUCTION(OP, fill_, ...) \
    {LC_OP_##OP, "all", .attr = {.dim = -1, __VA_ARGS__}, .in = {IN("BTC", fill_)}}, \
    {LC_OP_##OP, "first", .attr = {.dim = 0, __VA_ARGS__}, .in = {IN("BTC", fill_)}}, \
    {LC_OP_##OP, "middle", .attr = {.dim = 1, .keepdim = true, __VA_ARGS__}, .in = {IN("BTC", fill_)}}, \
    {LC_OP_##OP, "last", .attr = {.dim = 2, __VA_ARGS__}, .in = {IN("BTC", fill_)}}, \
    {LC_OP_##OP, "all kept", .attr = {.dim = -1, .keepdim = true, __VA_ARGS__}, .in = {IN("TC", fill_)}}, \
    {LC_OP_##OP, "special", .attr = {.dim = 1, __VA_ARGS__}, .in = {IN("TC", SPECIAL)}, .no_gradient = true}, \
    {LC_OP_##OP, "ties", .attr = {.dim = 1, __VA_ARGS__}, .in = {IN("TC", TIES)}, .no_gradient = true}
#define ADAMW {.a = 1e-2, .b = 0.9, .c = 0.99, .d = 1e-6, .e = 0.1, .f = 0.5, .n = 3}
#define SGD {.a = 1e-2, .b = 0.9, .e = 0.1, .f = 0.5, .n = 3}
/* clang-format on */

const op_case op_cases[] = {
    {LC_OP_COPY, "cast", .attr = {.dtype = LC_F32}, .in = {X("BTC")}, .no_gradient = true},
    {LC_OP_COPY, "", .attr = {.dtype = LC_F64}, .in = {X("BTC")}},
    {LC_OP_COPY, "to integers", .attr = {.dtype = LC_I32}, .in = {IN("TC", TIES)}, .no_gradient = true},
    UNARY(NEG, NORMAL),
    UNARY(ABS, NONZERO),
    UNARY(SIGN, NONZERO),
    UNARY(SQUARE, NORMAL),
    UNARY(FLOOR, NORMAL),
    UNARY(CEIL, NORMAL),
    UNARY(ROUND, NORMAL),
    UNARY(EXP, NORMAL),
    UNARY(EXPM1, NORMAL),
    UNARY(LOG, POSITIVE),
    UNARY(LOG1P, POSITIVE),
    UNARY(SQRT, POSITIVE),
    UNARY(RSQRT, POSITIVE),
    UNARY(RECIPROCAL, NONZERO),
    UNARY(SIN, NORMAL),
    UNARY(COS, NORMAL),
    UNARY(TANH, NORMAL),
    UNARY(SIGMOID, NORMAL),
    UNARY(ERF, NORMAL),
    UNARY(RELU, NONZERO),
    UNARY(SILU, NORMAL),
    UNARY(GELU, NORMAL),
    UNARY(GELU_TANH, NORMAL),
    BINARY(SILU_BACKWARD, NORMAL, NORMAL),
    BINARY(GELU_BACKWARD, NORMAL, NORMAL),
    BINARY(GELU_TANH_BACKWARD, NORMAL, NORMAL),
    {LC_OP_CLAMP, "", .attr = {.a = -0.25, .b = 0.25}, .in = {IN("BTC", NONZERO)}},
    {LC_OP_CLAMP, "one side", .attr = {.a = -INFINITY, .b = 0.1}, .in = {IN("TC", NONZERO)}},
    {LC_OP_CLAMP, "special", .attr = {.a = -1, .b = 1}, .in = {IN("TC", SPECIAL)}, .no_gradient = true},
    UNARY(IS_NAN, SPECIAL),
    UNARY(IS_FINITE, SPECIAL),
    UNARY(NOT, BOOL),
    BINARY(ADD, NORMAL, NORMAL),
    {LC_OP_ADD, "integers", .in = {IN("TC", COUNT), IN("C", COUNT)}, .no_gradient = true},
    BINARY(SUB, NORMAL, NORMAL),
    BINARY(MUL, NORMAL, NORMAL),
    {LC_OP_MUL, "with bool", .in = {X("TC"), BOOL("TC")}},
    BINARY(DIV, NORMAL, NONZERO),
    BINARY(MOD, UNIT, POSITIVE),
    {LC_OP_MOD, "integers", .in = {IN("TC", COUNT), IN("C", COUNT)}, .no_gradient = true},
    BINARY(POW, POSITIVE, NORMAL),
    BINARY(MINIMUM, DISTINCT, UNIT),
    BINARY(MAXIMUM, DISTINCT, UNIT),
    COMPARISON(EQ),
    COMPARISON(NE),
    COMPARISON(LT),
    COMPARISON(LE),
    COMPARISON(GT),
    COMPARISON(GE),
    COMPARISON(AND),
    COMPARISON(OR),
    COMPARISON(XOR),
    {LC_OP_WHERE, "", .in = {BOOL("TC"), X("TC"), X("TC")}},
    {LC_OP_WHERE, "broadcast", .in = {BOOL("T1"), X("BTC"), X("")}},
    {LC_OP_WHERE, "mixed types", .in = {BOOL("TC"), X("TC"), IN("TC", COUNT)}},

    REDUCTION(SUM, NORMAL),
    {LC_OP_SUM, "bool", .attr = {.dim = 1}, .in = {BOOL("BTC")}, .no_gradient = true},
    REDUCTION(MEAN, NORMAL),
    REDUCTION(VAR, NORMAL, .a = 0),
    {LC_OP_VAR, "corrected", .attr = {.dim = 0, .a = 1}, .in = {X("TC")}},
    REDUCTION(MIN, DISTINCT),
    REDUCTION(MAX, DISTINCT),
    REDUCTION(NORM, NORMAL),
    REDUCTION(ARGMIN, DISTINCT),
    REDUCTION(ARGMAX, DISTINCT),
    REDUCTION(ANY, TIES),
    REDUCTION(ALL, TIES),
    {LC_OP_CUMSUM, "first", .attr = {.dim = 0}, .in = {X("BTC")}},
    {LC_OP_CUMSUM, "last", .attr = {.dim = 2}, .in = {X("BTC")}},
    {LC_OP_CUMSUM, "integers", .attr = {.dim = 0}, .in = {IN("TC", COUNT)}, .no_gradient = true},
    REDUCTION(LOGSUMEXP, NORMAL),
    {LC_OP_SUM_TO, "row", .shape = "C", .in = {X("BTC")}},
    {LC_OP_SUM_TO, "column", .shape = "T1", .in = {X("BTC")}},
    {LC_OP_SUM_TO, "number", .shape = "", .in = {X("TC")}},

    {LC_OP_SORT, "last", .attr = {.dim = 1}, .in = {IN("TC", DISTINCT)}},
    {LC_OP_SORT, "first", .attr = {.dim = 0, .descending = true}, .in = {IN("BTC", DISTINCT)}},
    {LC_OP_SORT, "ties", .attr = {.dim = 1}, .in = {IN("TC", TIES)}, .no_gradient = true},
    {LC_OP_SORT, "special", .attr = {.dim = 1, .descending = true}, .in = {IN("TC", SPECIAL)}, .no_gradient = true},
    {LC_OP_TOPK, "largest", .n = 'P', .attr = {.dim = 1, .descending = true}, .in = {IN("TC", DISTINCT)}},
    {LC_OP_TOPK, "smallest", .n = 'P', .attr = {.dim = 0}, .in = {IN("CT", DISTINCT)}},
    {LC_OP_TOPK, "ties", .n = 'P', .attr = {.dim = 1, .descending = true}, .in = {IN("TC", TIES)}, .no_gradient = true},
    {LC_OP_TOPK, "special", .n = 'P', .attr = {.dim = 1, .descending = true}, .in = {IN("TC", SPECIAL)},
     .no_gradient = true},
    {LC_OP_KTH, "last", .n = 'P', .attr = {.dim = 1}, .in = {IN("TC", DISTINCT)}},
    {LC_OP_KTH, "first kept", .n = 'P', .attr = {.dim = 0, .keepdim = true}, .in = {IN("CT", DISTINCT)}},
    {LC_OP_KTH, "all", .n = 'P', .attr = {.dim = -1}, .in = {IN("TC", DISTINCT)}},
    {LC_OP_KTH, "ties", .n = 'P', .attr = {.dim = 1}, .in = {IN("TC", TIES)}, .no_gradient = true},
    {LC_OP_QUANTILE, "last", .attr = {.dim = 1, .a = 0.35}, .in = {IN("TC", DISTINCT)}},
    {LC_OP_QUANTILE, "first", .attr = {.dim = 0, .a = 0.8, .keepdim = true}, .in = {IN("TC", DISTINCT)}},
    {LC_OP_QUANTILE, "all", .attr = {.dim = -1, .a = 0.5}, .in = {IN("TC", DISTINCT)}},
    {LC_OP_QUANTILE, "largest", .attr = {.dim = 1, .a = 1}, .in = {IN("TC", DISTINCT)}},
    {LC_OP_KEEP, "last", .n = 'P', .attr = {.dim = 1}, .in = {IN("TC", DISTINCT)}},
    {LC_OP_KEEP, "all", .n = 'P', .attr = {.dim = -1}, .in = {IN("TC", TIES)}},
    {LC_OP_KEEP, "special", .n = 'P', .attr = {.dim = 0}, .in = {IN("CT", SPECIAL)}},

    {LC_OP_GATHER, "last", .attr = {.dim = 1}, .in = {X("TC"), INDEX("TP", 'C')}},
    {LC_OP_GATHER, "first", .attr = {.dim = 0}, .in = {X("TC"), INDEX("MC", 'T')}},
    {LC_OP_SCATTER, "last", .attr = {.dim = 1}, .in = {X("TC"), INDEX("TP", 'C'), X("TP")}},
    {LC_OP_SCATTER, "first, overwriting", .attr = {.dim = 0}, .in = {X("TC"), INDEX("LC", 'T'), X("LC")}},
    {LC_OP_SCATTER, "adding", .attr = {.dim = 0, .add = true}, .in = {X("TC"), INDEX("LC", 'T'), X("LC")}},
    {LC_OP_INDEX, "rows", .attr = {.dim = 0}, .in = {X("TC"), INDEX("L", 'T')}},
    {LC_OP_INDEX, "middle, by a matrix", .attr = {.dim = 1}, .in = {X("BTC"), INDEX("MP", 'T')}},
    {LC_OP_INDEX, "one", .attr = {.dim = 1}, .in = {X("TC"), INDEX("", 'C')}},
    {LC_OP_INDEX_ADD, "rows", .attr = {.dim = 0}, .in = {X("TC"), INDEX("L", 'T'), X("LC")}},
    {LC_OP_INDEX_ADD, "columns", .attr = {.dim = 1}, .in = {X("TC"), INDEX("L", 'C'), X("TL")}},
    {LC_OP_NONZERO, "", .in = {IN("TC", TIES)}},
    {LC_OP_CAT, "first", .attr = {.dim = 0}, .in = {X("TC"), X("LC"), X("1C")}},
    {LC_OP_CAT, "last", .attr = {.dim = 2}, .in = {X("BTC"), X("BTL")}},
    {LC_OP_CAT, "mixed types", .attr = {.dim = 0}, .in = {X("TC"), IN("LC", COUNT)}},
    {LC_OP_MASKED_FILL, "", .attr = {.a = -3}, .in = {X("TC"), BOOL("TC")}},
    {LC_OP_MASKED_FILL, "broadcast mask", .attr = {.a = 0.5}, .in = {X("BTC"), BOOL("T1")}},
    {LC_OP_MASKED_FILL, "broadcast x", .in = {X("C"), BOOL("TC")}},
    {LC_OP_TRIANGLE, "lower", .in = {X("TC")}},
    {LC_OP_TRIANGLE, "strictly lower", .attr = {.n = -1}, .in = {X("CT")}},
    {LC_OP_TRIANGLE, "upper", .attr = {.n = 1, .upper = true}, .in = {X("BTC")}},

    {LC_OP_MATMUL, "", .in = {X("MK"), X("KN")}},
    {LC_OP_MATMUL, "batch", .in = {X("BMK"), X("BKN")}},
    {LC_OP_MATMUL, "batch by matrix", .in = {X("BMK"), X("KN")}},
    {LC_OP_MATMUL, "matrix by batch", .in = {X("MK"), X("BKN")}},
    {LC_OP_MATMUL, "batches broadcast", .in = {X("B1MK"), X("PKN")}},
    {LC_OP_LINEAR, "", .in = {X("BTI"), X("OI"), X("O")}},
    {LC_OP_LINEAR, "no bias", .in = {X("TI"), X("OI")}},
    {LC_OP_LINEAR, "one row", .in = {X("I"), X("OI"), X("O")}},
    {LC_OP_LINEAR, "frozen weight", .in = {X("TI"), CONSTANT("OI"), X("O")}},
    {LC_OP_LINEAR, "frozen input", .in = {CONSTANT("TI"), X("OI"), X("O")}},
    {LC_OP_LINEAR, "relu", .attr = {.act = LC_ACT_RELU, .train = true}, .in = {X("BTI"), X("OI"), X("O")}},
    {LC_OP_LINEAR, "gelu", .attr = {.act = LC_ACT_GELU, .train = true}, .in = {X("BTI"), X("OI"), X("O")}},
    {LC_OP_LINEAR, "gelu_tanh", .attr = {.act = LC_ACT_GELU_TANH, .train = true}, .in = {X("BTI"), X("OI")}},
    {LC_OP_LINEAR, "silu", .attr = {.act = LC_ACT_SILU, .train = true}, .in = {X("TI"), X("OI"), X("O")}},
    {LC_OP_LINEAR, "tanh", .attr = {.act = LC_ACT_TANH, .train = true}, .in = {X("TI"), X("OI"), X("O")}},
    {LC_OP_CHOLESKY, "lower", .in = {IN("SS", GRAM)}},
    {LC_OP_CHOLESKY, "upper", .attr = {.upper = true}, .in = {IN("SS", GRAM)}},
    {LC_OP_INVERSE, "", .in = {IN("SS", GRAM)}},
    {LC_OP_EIGH, "", .in = {IN("SS", TRIANGLE)}, .no_gradient = true},
    {LC_OP_EIGH, "apart", .in = {IN("SS", APART)}},
    {LC_OP_SOLVE_TRIANGULAR, "lower", .in = {IN("SS", TRIANGLE), X("SN")}},
    {LC_OP_SOLVE_TRIANGULAR, "upper", .attr = {.upper = true}, .in = {IN("SS", TRIANGLE), X("SN")}},
    {LC_OP_SOLVE_TRIANGULAR, "lower transposed", .attr = {.transpose = true}, .in = {IN("SS", TRIANGLE), X("SN")}},
    {LC_OP_SOLVE_TRIANGULAR, "upper transposed", .attr = {.upper = true, .transpose = true},
     .in = {IN("SS", TRIANGLE), X("SN")}},
    {LC_OP_SOLVE_TRIANGULAR, "unit diagonal", .attr = {.unit = true}, .in = {IN("SS", TRIANGLE), X("S1")}},
    {LC_OP_SOLVE_TRIANGULAR, "unit, upper", .attr = {.unit = true, .upper = true}, .in = {IN("SS", TRIANGLE), X("SN")}},

    {LC_OP_SOFTMAX, "", .in = {X("BTC")}},
    {LC_OP_LOG_SOFTMAX, "", .in = {X("BTC")}},
    {LC_OP_SOFTMAX_BACKWARD, "", .in = {IN("BTC", POSITIVE), X("BTC")}},
    {LC_OP_LOG_SOFTMAX_BACKWARD, "", .in = {X("BTC"), X("BTC")}},
    {LC_OP_LAYER_NORM, "", .attr = {.a = 1e-2}, .in = {X("BTC"), X("C"), X("C")}},
    {LC_OP_LAYER_NORM, "no bias", .attr = {.a = 1e-2}, .in = {X("TC"), X("C")}},
    {LC_OP_LAYER_NORM, "bias only", .attr = {.a = 1e-2}, .in = {X("TC"), ABSENT, X("C")}},
    {LC_OP_LAYER_NORM, "plain", .attr = {.a = 1e-2}, .in = {X("TC")}},
    {LC_OP_RMS_NORM, "", .attr = {.a = 1e-2}, .in = {X("BTC"), X("C")}},
    {LC_OP_RMS_NORM, "no weight", .attr = {.a = 1e-2}, .in = {X("TC")}},
    {LC_OP_DROPOUT, "", .attr = {.a = 0.4, .key = 7, .counter = 3}, .in = {X("BTC")}},
    {LC_OP_DROPOUT, "off", .in = {X("TC")}},

    {LC_OP_EMBEDDING, "", .in = {X("VC"), INDEX("BT", 'V')}},
    {LC_OP_EMBEDDING, "one id", .in = {X("VC"), INDEX("", 'V')}},
    {LC_OP_EMBEDDING_BACKWARD, "", .n = 'V', .in = {INDEX("BT", 'V'), X("BTC")}},
    {LC_OP_ROTARY, "", .attr = {.a = 1}, .in = {X("BTHD"), INDEX("T", 'V'), CONSTANT("R")}},
    {LC_OP_ROTARY, "back, scaled", .attr = {.a = 1.3, .transpose = true},
     .in = {X("BTHD"), INDEX("BT", 'V'), CONSTANT("R")}},
    {LC_OP_ATTENTION, "", .attr = {.a = 0.7}, .in = {X("BTHD"), X("BSHD"), X("BSHD")}},
    {LC_OP_ATTENTION, "causal", .attr = {.a = 0.7, .causal = true}, .in = {X("BTHD"), X("BTHD"), X("BTHD")}},
    {LC_OP_ATTENTION, "causal, cached", .attr = {.a = 0.7, .causal = true}, .in = {X("BMHD"), X("BSHD"), X("BSHD")}},
    {LC_OP_ATTENTION, "grouped", .attr = {.a = 0.7, .causal = true}, .in = {X("BTHD"), X("BTGD"), X("BTGD")}},
    {LC_OP_ATTENTION, "padding", .attr = {.a = 0.7}, .in = {X("BTHD"), X("BSGD"), X("BSGD"), BOOL("BS")}},
    {LC_OP_ATTENTION, "causal padding", .attr = {.a = 0.7, .causal = true},
     .in = {X("BTHD"), X("BTHD"), X("BTHD"), BOOL("BT")}},
    {LC_OP_ATTENTION, "dropout", .attr = {.a = 0.7, .causal = true, .b = 0.3, .key = 5, .counter = 11},
     .in = {X("BTHD"), X("BTHD"), X("BTHD")}},
    {LC_OP_CROSS_ENTROPY, "", .in = {X("TV"), LABEL("T", 'V')}},
    {LC_OP_CROSS_ENTROPY, "divisor", .attr = {.a = 7}, .in = {X("TV"), LABEL("T", 'V')}},
    {LC_OP_LINEAR_CROSS_ENTROPY, "", .attr = {.train = true}, .in = {X("TC"), X("VC"), LABEL("T", 'V')}},
    {LC_OP_LINEAR_CROSS_ENTROPY, "divisor", .attr = {.train = true, .a = 7}, .in = {X("TC"), X("VC"), LABEL("T", 'V')}},

    {LC_OP_SQUARE_SUM, "", .in = {X("TC")}},
    {LC_OP_SQUARE_SUM, "kept", .in = {X("TC"), BITS}},
    {LC_OP_ADAMW_STEP, "", .attr = ADAMW, .in = {X("TC"), X("TC"), X("TC"), IN("TC", POSITIVE)}, .dense = true},
    {LC_OP_ADAMW_STEP, "kept", .attr = ADAMW, .in = {X("TC"), X("TC"), X("TC"), IN("TC", POSITIVE), BITS},
     .dense = true},
    {LC_OP_SGD_STEP, "", .attr = SGD, .in = {X("TC"), X("TC")}, .dense = true},
    {LC_OP_SGD_STEP, "kept", .attr = SGD, .in = {X("TC"), X("TC"), X("TC"), BITS}, .dense = true},
    {LC_OP_ZERO_PRUNED, "", .in = {X("TC"), BITS}, .dense = true},
};
const int op_case_count = sizeof op_cases / sizeof *op_cases;

/* -- sizes and layouts ------------------------------------------------------------------------- */

int64_t op_size(int set, char letter) {
    /* S: keys in attention, and the side of square matrices. P: how many are chosen, never more than C or T. R: pairs
     * of columns that are turned, 2 R <= D. 8: bytes for T C bits. */
    static const struct {
        char letter;
        int64_t size[OP_SIZE_SETS];
    } sizes[] = {
        {'B', {2, 1, 3, 1, 2}},    {'T', {3, 7, 17, 1, 66}},    {'C', {4, 5, 67, 1, 771}}, {'H', {4, 6, 6, 1, 4}},
        {'G', {2, 3, 2, 1, 2}},    {'D', {2, 5, 16, 1, 64}},    {'S', {4, 9, 33, 1, 129}}, {'V', {5, 11, 129, 1, 517}},
        {'O', {3, 9, 35, 1, 259}}, {'I', {4, 7, 67, 1, 258}},   {'M', {2, 5, 33, 1, 129}}, {'K', {4, 13, 65, 1, 300}},
        {'N', {3, 9, 31, 1, 130}}, {'L', {6, 4, 21, 1, 70}},    {'P', {2, 3, 5, 1, 37}},   {'R', {1, 2, 4, 0, 32}},
        {'1', {1, 1, 1, 1, 1}},    {'8', {2, 5, 143, 1, 6361}},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i].letter == letter) return sizes[i].size[set];
    return -1; /* a letter that is not in the table: lc_tensor_new refuses it */
}

static int shape_of(const char *letters, int set, int64_t *shape) {
    int ndim = (int)strlen(letters);
    for (int d = 0; d < ndim; d++) shape[d] = op_size(set, letters[d]);
    return ndim;
}

const char *op_layout_name(op_layout layout) {
    static const char *const names[] = {"dense", "transposed", "sliced", "expanded"};
    return names[layout];
}

int op_case_inputs(const op_case *c) {
    int n = 0;
    for (int i = 0; i < 7; i++)
        if (c->in[i].shape) n = i + 1;
    return n;
}

lc_attr op_case_attr(const op_case *c, int set) {
    lc_attr attr = c->attr;
    if (c->n) attr.n = op_size(set, c->n);
    if (c->shape) attr.ndim = shape_of(c->shape, set, attr.shape);
    return attr;
}

/* Whether what the op gets is made of the leaf and its transpose. */
static bool is_symmetric(const op_input *in) {
    return in->fill == FILL_GRAM || in->fill == FILL_APART;
}

/* The layout that input i really gets: distinct values cannot be expanded, products of a leaf stay as they are. */
static op_layout layout_of(const op_input *in, op_layout layout) {
    size_t ndim = strlen(in->shape);
    bool distinct = in->fill == FILL_DISTINCT || in->fill == FILL_TRIANGLE;
    if (is_symmetric(in)) return LAYOUT_DENSE;
    if (layout == LAYOUT_TRANSPOSED && ndim < 2) return LAYOUT_DENSE;
    if (layout == LAYOUT_SLICED && ndim < 1) return LAYOUT_DENSE;
    if (layout == LAYOUT_EXPANDED && (ndim < 1 || distinct)) return LAYOUT_DENSE;
    return layout;
}

/* z z^T + 1, or z + z^T + 0, 10, 20, ... */
static lc_status symmetric(lc_tensor *z, bool apart, lc_tensor **out) {
    lc_tensor *zt = NULL, *made = NULL, *diagonal = NULL;
    lc_status status;
    LC_GOTO(done, lc_transpose(z, 0, 1, &zt));
    LC_GOTO(done, apart ? lc_binary(LC_OP_ADD, z, zt, &made) : lc_matmul(z, zt, &made));
    LC_GOTO(done, lc_tensor_zeros(z->dtype, 2, z->shape, LC_CPU, &diagonal));
    for (int64_t i = 0, S = z->shape[0]; i < S; i++) lc_set_f64(diagonal, i * (S + 1), apart ? 10.0 * (double)i : 1);
    LC_GOTO(done, lc_binary(LC_OP_ADD, made, diagonal, out));
done:
    lc_tensor_release(zt);
    lc_tensor_release(made);
    lc_tensor_release(diagonal);
    return status;
}

lc_status op_case_view(const op_case *c, int i, int set, op_layout layout, lc_tensor *leaf, lc_tensor **input) {
    const op_input *in = &c->in[i];
    int last = leaf->ndim - 1;
    int64_t shape[LC_MAX_DIMS];
    if (is_symmetric(in)) return symmetric(leaf, in->fill == FILL_APART, input);
    switch (layout_of(in, layout)) {
    case LAYOUT_TRANSPOSED:
        return lc_transpose(leaf, last, last - 1, input);
    case LAYOUT_SLICED:
        return lc_slice(leaf, last, 1, leaf->shape[last] / 2, 2, input);
    case LAYOUT_EXPANDED:
        return lc_expand(leaf, shape_of(in->shape, set, shape), shape, input);
    default:
        *input = lc_tensor_retain(leaf);
        return LC_OK;
    }
}

/* -- content ----------------------------------------------------------------------------------- */

static lc_dtype dtype_of(op_fill fill, lc_dtype real) {
    switch (fill) {
    case FILL_BOOL:
        return LC_BOOL;
    case FILL_BITS:
        return LC_U8;
    case FILL_INDEX:
    case FILL_LABEL:
    case FILL_COUNT:
        return LC_I64;
    default:
        return real;
    }
}

static double special(lc_stream *stream) {
    static const double values[] = {NAN, INFINITY, -INFINITY, 0, -0.0};
    uint64_t k = lc_stream_below(stream, 15);
    return k < 5 ? values[k] : lc_stream_normal(stream);
}

/* Writes element `index` of n, whose place in the last two dimensions is (row, column). */
static void fill_element(const op_input *in, int set, lc_stream *stream, lc_tensor *t, int64_t index) {
    int64_t at = lc_position(t, index), n = lc_numel(t), limit = in->limit ? op_size(set, in->limit) : 0;
    int64_t width = t->ndim ? t->shape[t->ndim - 1] : 1;
    double u = lc_stream_uniform(stream), sign = u < 0.5 ? -1 : 1;
    switch (in->fill) {
    case FILL_NORMAL:
    case FILL_GRAM:
    case FILL_APART:
        lc_set_f64(t, at, lc_stream_normal(stream));
        break;
    case FILL_POSITIVE:
        lc_set_f64(t, at, 0.3 + 1.7 * u);
        break;
    case FILL_NONZERO:
        lc_set_f64(t, at, sign * (0.3 + 1.7 * lc_stream_uniform(stream)));
        break;
    case FILL_UNIT:
        lc_set_f64(t, at, 1.8 * u - 0.9);
        break;
    case FILL_DISTINCT: /* 7919 is prime: i -> 7919 i mod n is a permutation of every n used here */
        lc_set_f64(t, at, 0.1 * (double)(index * 7919 % n - n / 2) + 0.03);
        break;
    case FILL_TIES:
        lc_set_f64(t, at, (double)lc_stream_below(stream, 5) - 2);
        break;
    case FILL_SPECIAL:
        lc_set_f64(t, at, special(stream));
        break;
    case FILL_TRIANGLE:
        lc_set_f64(t, at, lc_stream_normal(stream) / 4 + (index / width == index % width ? 2 : 0));
        break;
    case FILL_BOOL:
        lc_set_i64(t, at, u < 0.66);
        break;
    case FILL_BITS:
        lc_set_i64(t, at, (int64_t)lc_stream_below(stream, 256));
        break;
    case FILL_INDEX:
        lc_set_i64(t, at, (int64_t)lc_stream_below(stream, (uint64_t)limit));
        break;
    case FILL_LABEL:
        lc_set_i64(t, at, index % 3 == 2 ? -100 : (int64_t)lc_stream_below(stream, (uint64_t)limit));
        break;
    case FILL_COUNT:
        lc_set_i64(t, at, (int64_t)lc_stream_below(stream, 19) - 9);
        break;
    }
}

lc_status op_case_leaf(const op_case *c, int i, int set, op_layout layout, lc_dtype real, lc_tensor **leaf) {
    const op_input *in = &c->in[i];
    int64_t shape[LC_MAX_DIMS];
    int ndim = shape_of(in->shape, set, shape);
    op_layout real_layout = layout_of(in, layout);
    if (real_layout == LAYOUT_TRANSPOSED) {
        int64_t last = shape[ndim - 1];
        shape[ndim - 1] = shape[ndim - 2];
        shape[ndim - 2] = last;
    }
    if (real_layout == LAYOUT_SLICED) shape[ndim - 1] = 2 * shape[ndim - 1] + 1;
    if (real_layout == LAYOUT_EXPANDED) shape[0] = 1;
    lc_tensor *t = NULL, *view = NULL;
    LC_TRY(lc_tensor_zeros(dtype_of(in->fill, real), ndim, shape, LC_CPU, &t));
    lc_status status = LC_OK;
    if (is_symmetric(in))
        view = lc_tensor_retain(t);
    else
        status = op_case_view(c, i, set, layout, t, &view);
    char name[64];
    snprintf(name, sizeof name, "%s %s %d", lc_op_name(c->op), c->note, i);
    lc_stream stream = lc_stream_make(20, name);
    for (int64_t k = 0; !status && k < lc_numel(view); k++) fill_element(in, set, &stream, view, k);
    lc_tensor_release(view);
    if (status)
        lc_tensor_release(t);
    else
        *leaf = t;
    return status;
}
