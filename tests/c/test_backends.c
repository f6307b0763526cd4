/* test_backends.c: each kernel that a backend overrides gives what the plain one gives: outputs, what is written in
 * place, and gradients, for every case of op_cases.h in every size set and layout, in f32 and f64. */
#include "check.h"
#include "grad/graph.h"
#include "grad/rules.h"
#include "op_cases.h"
#include "ops/backend.h"

/* Everything that one call made: outputs, then inputs as they are afterwards, then gradients. */
#define MOST (LC_MAX_OUT + 2 * LC_MAX_IN)
typedef struct result {
    lc_status status;
    lc_tensor *made[MOST];
} result;

static void result_free(result *r) {
    for (int i = 0; i < MOST; i++) lc_tensor_release(r->made[i]);
}

/* Backward from output 0 with gradients 1, cos 1, cos 2, ... */
static lc_status add_gradients(lc_tensor *y) {
    lc_tensor *seed = NULL;
    LC_TRY(lc_tensor_new(y->dtype, y->ndim, y->shape, LC_CPU, &seed));
    for (int64_t i = 0; i < lc_numel(seed); i++) lc_set_f64(seed, i, cos((double)i));
    lc_status status = lc_backward(y, seed);
    lc_tensor_release(seed);
    return status;
}

static result run_on(bool ref, const op_case *c, int set, op_layout layout, lc_dtype real) {
    result r = {0};
    lc_attr attr = op_case_attr(c, set);
    lc_tensor *in[LC_MAX_IN] = {0}, **leaf = r.made + LC_MAX_OUT, **grad = leaf + LC_MAX_IN;
    int n = op_case_inputs(c);
    lc_backend_force_ref(ref);
    for (int i = 0; i < n && !r.status; i++) {
        if (!c->in[i].shape) continue;
        r.status = op_case_leaf(c, i, set, layout, real, &leaf[i]);
        bool varied = !r.status && leaf[i]->dtype == real && !c->in[i].constant && !c->no_gradient && !c->dense;
        if (varied) r.status = lc_require_grad(leaf[i], true);
        if (!r.status) r.status = op_case_view(c, i, set, layout, leaf[i], &in[i]);
    }
    if (!r.status) r.status = lc_apply(c->op, &attr, in, n, r.made);
    if (!r.status && r.made[0] && r.made[0]->requires_grad) r.status = add_gradients(r.made[0]);
    for (int i = 0; i < n; i++) {
        lc_tensor_release(in[i]);
        if (leaf[i] && leaf[i]->grad) grad[i] = lc_tensor_retain(leaf[i]->grad);
    }
    lc_backend_force_ref(false);
    return r;
}

/* max |a - b| over max |b|, NaN and infinities in equal places counting as equal; infinite when shapes or types differ.
 */
static double difference(const lc_tensor *a, const lc_tensor *b) {
    if (!a && !b) return 0;
    if (!a || !b || a->dtype != b->dtype || !lc_same_shape(a, b)) return INFINITY;
    double worst = 0, largest = 0;
    for (int64_t i = 0, n = lc_numel(a); i < n; i++) {
        double x = lc_get_f64(a, lc_position(a, i)), y = lc_get_f64(b, lc_position(b, i));
        if (x == y || (isnan(x) && isnan(y))) continue;
        if (!isfinite(x) || !isfinite(y)) return INFINITY;
        worst = fmax(worst, fabs(x - y));
        largest = fmax(largest, fabs(y));
    }
    if (!lc_dtype_is_float(a->dtype)) return worst;
    return worst / fmax(largest, 0.5); /* sums that cancel are compared with what went into them, about 1 */
}

static double tolerance(lc_dtype dtype) {
    return dtype == LC_F64 ? 1e-12 : 2e-5;
}

static void compare(const op_case *c, int set, op_layout layout, lc_dtype real) {
    result want = run_on(true, c, set, layout, real), got = run_on(false, c, set, layout, real);
    double worst = 0;
    int where = 0;
    for (int i = 0; i < MOST; i++) {
        double d = difference(got.made[i], want.made[i]);
        if (d > worst) worst = d, where = i;
    }
    if (worst > tolerance(real) || want.status || got.status) {
        const char *what = where < LC_MAX_OUT ? "output" : where < LC_MAX_OUT + LC_MAX_IN ? "input" : "gradient";
        int which = where < LC_MAX_OUT ? where : (where - LC_MAX_OUT) % LC_MAX_IN;
        fprintf(stderr, "%s (%s), sizes %d, %s, %s: %s %d\n", lc_op_name(c->op), c->note, set, op_layout_name(layout),
                lc_dtype_name(real), what, which);
    }
    CHECK_OK(want.status);
    CHECK_OK(got.status);
    CHECK_NEAR(worst, 0, tolerance(real));
    result_free(&want);
    result_free(&got);
}

/* Every op has a case. Those below need inputs that belong together, and run inside the backward pass of another. */
static void test_coverage(void) {
    const lc_op inside[] = {LC_OP_LAYER_NORM_BACKWARD, LC_OP_RMS_NORM_BACKWARD, LC_OP_ATTENTION_BACKWARD,
                            LC_OP_CROSS_ENTROPY_BACKWARD, LC_OP_FILL};
    for (lc_op op = 0; op < LC_OPS; op++) {
        bool covered = false;
        for (int k = 0; k < op_case_count; k++) covered |= op_cases[k].op == op;
        for (size_t k = 0; k < sizeof inside / sizeof *inside; k++) covered |= inside[k] == op;
        if (!covered) fprintf(stderr, "%s has no case\n", lc_op_name(op));
        CHECK(covered);
    }
}

/* Only ops whose forward or backward kernel somebody overrides can differ. */
static bool runs_on_ref(lc_op op) {
    static const struct {
        lc_op op, backward;
    } pairs[] = {{LC_OP_LAYER_NORM, LC_OP_LAYER_NORM_BACKWARD},   {LC_OP_RMS_NORM, LC_OP_RMS_NORM_BACKWARD},
                 {LC_OP_ATTENTION, LC_OP_ATTENTION_BACKWARD},     {LC_OP_CROSS_ENTROPY, LC_OP_CROSS_ENTROPY_BACKWARD},
                 {LC_OP_EMBEDDING, LC_OP_EMBEDDING_BACKWARD},     {LC_OP_SOFTMAX, LC_OP_SOFTMAX_BACKWARD},
                 {LC_OP_LOG_SOFTMAX, LC_OP_LOG_SOFTMAX_BACKWARD}, {LC_OP_LINEAR, LC_OP_MATMUL}};
    if (strcmp(lc_op_backend(op, LC_CPU), lc_backend_ref.name) != 0) return false;
    for (size_t k = 0; k < sizeof pairs / sizeof *pairs; k++)
        if (pairs[k].op == op && strcmp(lc_op_backend(pairs[k].backward, LC_CPU), lc_backend_ref.name) != 0)
            return false;
    return true;
}

int main(void) {
    test_coverage();
    for (int k = 0; k < op_case_count; k++) {
        const op_case *c = &op_cases[k];
        if (runs_on_ref(c->op)) continue;
        for (int set = 0; set < OP_SIZE_SETS; set++) {
            /* The wide sizes are slow on plain loops: f32 only, and one strided layout. */
            bool wide = set == OP_SIZE_SETS - 1;
            op_layout layouts = c->dense ? 1 : wide ? 2 : OP_LAYOUTS;
            for (op_layout layout = 0; layout < layouts; layout++) {
                compare(c, set, layout, LC_F32);
                if (!wide) compare(c, set, layout, LC_F64);
            }
        }
    }
    return check_done();
}
