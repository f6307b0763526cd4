/* test_alps.c: ALPS, swaps and least squares against PyTorch's answers (tests/golden/solvers.json), and ALPS's laws: the
 * first iteration against a direct solution, optimality on the support, exact counts, what is held, the same bits at any
 * thread count, every failing allocation. */
#include <jansson.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/pool.h"
#include "base/random.h"
#include "solve/alps.h"
#include "solve/quadratic.h"
#include "solve/reconstruct.h"
#include "solve/swap.h"
#include "tensors.h"
#include "tiny.h"

static const lc_alps_options published = {.damp = 0.01, .rho = 0.1, .iterations = 300, .refine = 10};

/* -- a layer without a model --------------------------------------------------------------------------------------- */

typedef struct problem {
    int64_t O, I, tokens;
    lc_tensor *H, *W;
    lc_prune_options options;
    lc_target target;
    const uint8_t *held;
} problem;

/* H = X^T X for X (tokens, I). */
static problem from_inputs(int64_t O, int64_t I, int64_t tokens, const double *x, const double *w) {
    problem p = {O, I, tokens, NULL, NULL, {.scope = LC_SCOPE_LAYER}, {.sparsity = 0.5}, NULL};
    p.H = tensor(LC_F64, SHAPE(I, I), NULL);
    p.W = tensor(LC_F64, SHAPE(O, I), w);
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t a = 0; a < I; a++)
            for (int64_t b = 0; b < I; b++) LC_DATA(double, p.H)[a * I + b] += x[t * I + a] * x[t * I + b];
    return p;
}

/* Inputs of mixed sources. */
static problem random_problem(int64_t O, int64_t I, int64_t tokens, uint64_t seed) {
    lc_stream stream = lc_stream_make(seed, "problem");
    double *x = malloc((size_t)(tokens * I) * 8), *w = malloc((size_t)(O * I) * 8);
    for (int64_t t = 0; t < tokens; t++) {
        double common = lc_stream_normal(&stream);
        for (int64_t i = 0; i < I; i++)
            x[t * I + i] = (lc_stream_normal(&stream) + common + (i ? 0.6 * x[t * I + i - 1] : 0)) * (i % 7 ? 1 : 4);
    }
    for (int64_t k = 0; k < O * I; k++) w[k] = lc_stream_normal(&stream);
    problem p = from_inputs(O, I, tokens, x, w);
    free(x);
    free(w);
    return p;
}

static lc_layer nameless = {.name = "layer"};

/* The pruned weights and their mask. */
static lc_status solve(const problem *p, const lc_alps_options *options, lc_tensor **W, lc_tensor **keep) {
    *W = tensor(LC_F64, SHAPE(p->O, p->I), LC_DATA(double, p->W));
    *keep = tensor(LC_BOOL, SHAPE(p->O, p->I), NULL);
    lc_layer_stats stats = {.layer = &nameless, .tokens = p->tokens, .H = p->H};
    lc_turn turn = {.name = "alps", .stats = &stats, .options = &p->options};
    turn.target = p->target;
    turn.held = p->held;
    turn.W = *W;
    turn.keep = *keep;
    LC_TRY(lc_alps_solve((void *)options, &turn));
    for (int64_t k = 0; k < p->O * p->I; k++)
        if (!LC_DATA(uint8_t, *keep)[k]) LC_DATA(double, *W)[k] = 0;
    return LC_OK;
}

static lc_quadratic quadratic_of(const problem *p) {
    return (lc_quadratic){p->O, p->I, LC_DATA(double, p->H), LC_DATA(double, p->W)};
}

static double error_of(const problem *p, const double *W) {
    lc_quadratic q = quadratic_of(p);
    double errors[64], sum = 0;
    CHECK_OK(lc_quadratic_errors(&q, W, errors));
    for (int64_t o = 0; o < p->O; o++) sum += errors[o];
    return sum;
}

static int64_t count(const lc_tensor *keep) {
    int64_t n = 0;
    for (int64_t k = 0; k < lc_numel(keep); k++) n += LC_DATA(uint8_t, keep)[k];
    return n;
}

/* -- PyTorch's answers --------------------------------------------------------------------------------------------- */

static double *numbers(const json_t *item, const char *name) {
    const json_t *list = json_object_get(item, name);
    double *values = calloc(json_array_size(list) + 1, sizeof *values);
    for (size_t i = 0; i < json_array_size(list); i++) values[i] = json_number_value(json_array_get(list, i));
    return values;
}

static int64_t integer(const json_t *item, const char *name) {
    return (int64_t)json_integer_value(json_object_get(item, name));
}

static bool same_bits(const uint8_t *keep, int64_t n, const json_t *bits) {
    const char *text = json_string_value(bits);
    if (!text || (int64_t)strlen(text) != n) return false;
    for (int64_t k = 0; k < n; k++)
        if (keep[k] != (text[k] == '1')) return false;
    return true;
}

static void check_alps(const json_t *item, problem *p, const double *found) {
    const char *pattern = json_string_value(json_object_get(item, "pattern"));
    p->target.sparsity = json_number_value(json_object_get(item, "sparsity"));
    if (pattern) p->target = (lc_target){p->target.sparsity, pattern[0] - '0', pattern[2] - '0'};
    lc_tensor *W, *keep;
    CHECK_OK(solve(p, &published, &W, &keep));
    CHECK(same_bits(LC_DATA(uint8_t, keep), p->O * p->I, json_object_get(item, "keep")));
    for (int64_t k = 0; k < p->O * p->I; k++) CHECK_NEAR(LC_DATA(double, W)[k], found[k], 1e-4 * (1 + fabs(found[k])));
    double error = json_number_value(json_object_get(item, "error"));
    CHECK_NEAR(error_of(p, LC_DATA(double, W)), error, 1e-4 * error);
}

/* Weights as they are where a mask of the file keeps them. */
static void start_from(const json_t *bits, const problem *p, double *W, uint8_t *keep) {
    const char *text = json_string_value(bits);
    for (int64_t k = 0; k < p->O * p->I; k++) {
        keep[k] = text[k] == '1';
        W[k] = keep[k] ? LC_DATA(double, p->W)[k] : 0;
    }
}

static void check_after_steps(const json_t *item, const problem *p, const double *least) {
    lc_quadratic q = quadratic_of(p);
    int64_t n = p->O * p->I, groups[] = {0, integer(item, "group")};
    double *W = calloc((size_t)n, sizeof *W);
    uint8_t *keep = calloc((size_t)n, 1);
    for (int g = 0; g < 2; g++) {
        char name[24];
        snprintf(name, sizeof name, "%d", (int)groups[g]);
        start_from(json_object_get(item, "start"), p, W, keep);
        CHECK_OK(lc_swap(&q, groups[g], NULL, 1000, W, keep, NULL));
        CHECK(same_bits(keep, n, json_object_get(json_object_get(item, "swapped"), name)));
    }
    start_from(json_object_get(item, "start"), p, W, keep);
    if (json_object_get(item, "least")) {
        CHECK_OK(lc_reconstruct(&q, keep, 0, W));
        for (int64_t k = 0; k < n; k++) CHECK_NEAR(W[k], least[k], 1e-7 * (1 + fabs(least[k])));
    }
    free(W);
    free(keep);
}

static void test_golden(void) {
    json_t *all = json_load_file("tests/golden/solvers.json", 0, NULL);
    CHECK(json_array_size(all) == 4);
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *item = json_array_get(all, i);
        double *x = numbers(item, "x"), *w = numbers(item, "w"), *found = numbers(item, "found");
        double *least = numbers(item, "least");
        problem p = from_inputs(integer(item, "rows"), integer(item, "inputs"), integer(item, "tokens"), x, w);
        check_alps(item, &p, found);
        check_after_steps(item, &p, least);
        free(x);
        free(w);
        free(found);
        free(least);
        drop_all();
    }
    json_decref(all);
}

/* -- laws ---------------------------------------------------------------------------------------------------------- */

/* Solves A X = B for B (n) in place, by elimination. */
static void eliminate(double *A, double *B, int64_t n) {
    for (int64_t c = 0; c < n; c++)
        for (int64_t r = 0; r < n; r++) {
            if (r == c) continue;
            double f = A[r * n + c] / A[c * n + c];
            for (int64_t k = c; k < n; k++) A[r * n + k] -= f * A[c * n + k];
            B[r] -= f * B[c];
        }
    for (int64_t c = 0; c < n; c++) B[c] /= A[c * (n + 1)];
}

/* One iteration, not refined: B = (T H + rho D) (H + rho)^-1 for the scaled and damped H, D the largest of T. */
static void test_first_iteration(void) {
    enum { O = 5, I = 9 };
    problem p = random_problem(O, I, 30, 1);
    lc_alps_options once = published;
    once.iterations = 1;
    once.refine = 0;
    lc_tensor *W, *keep;
    CHECK_OK(solve(&p, &once, &W, &keep));
    double norm[I], T[O * I], magnitude[O * I], sum = 0;
    uint8_t first[O * I];
    for (int i = 0; i < I; i++) sum += LC_DATA(double, p.H)[i * (I + 1)];
    for (int i = 0; i < I; i++) norm[i] = sqrt(LC_DATA(double, p.H)[i * (I + 1)] + 0.01 * sum / I);
    for (int k = 0; k < O * I; k++) magnitude[k] = T[k] = LC_DATA(double, p.W)[k] * norm[k % I];
    lc_ranked r = {LC_F64, magnitude, true, NULL, first, O * I};
    CHECK_OK(lc_prune_lowest(&r, 1, 22));
    for (int o = 0; o < O; o++) {
        double A[I * I], b[I];
        for (int i = 0; i < I; i++) {
            b[i] = 0.1 * (first[o * I + i] ? T[o * I + i] : 0);
            for (int k = 0; k < I; k++) {
                double h = (LC_DATA(double, p.H)[i * I + k] + (i == k) * 0.01 * sum / I) / norm[i] / norm[k];
                A[i * I + k] = h + (i == k) * 0.1;
                b[i] += T[o * I + k] * h;
            }
        }
        eliminate(A, b, I);
        for (int i = 0; i < I; i++)
            if (LC_DATA(uint8_t, keep)[o * I + i])
                CHECK_NEAR(LC_DATA(double, W)[o * I + i], b[i] / norm[i], 2e-5 * (1 + fabs(b[i] / norm[i])));
    }
    drop_all();
}

/* Less error than the same number of largest |w| norm, even after least squares on those; and no gradient is left. */
static void test_errors(void) {
    for (uint64_t seed = 1; seed <= 4; seed++) {
        problem p = random_problem(24, 32, 80, seed);
        lc_quadratic q = quadratic_of(&p);
        lc_alps_options exact = published;
        exact.damp = 0;
        exact.refine = 200;
        p.target.sparsity = seed % 2 ? 0.7 : 0.5;
        lc_tensor *W, *keep, *scores = tensor(LC_F64, SHAPE(24, 32), NULL);
        CHECK_OK(solve(&p, &exact, &W, &keep));
        CHECK(count(keep) == 24 * 32 - lc_prune_count(p.target.sparsity, 24 * 32));
        double error = error_of(&p, LC_DATA(double, W)), baseline[24 * 32];
        uint8_t kept[24 * 32];
        for (int64_t k = 0; k < 24 * 32; k++)
            LC_DATA(double, scores)[k] = LC_DATA(double, p.W)[k] * sqrt(LC_DATA(double, p.H)[k % 32 * 33]);
        lc_ranked r = {LC_F64, lc_data(scores), true, NULL, kept, 24 * 32};
        CHECK_OK(lc_prune_lowest(&r, 1, lc_prune_count(p.target.sparsity, 24 * 32)));
        for (int64_t k = 0; k < 24 * 32; k++) baseline[k] = kept[k] ? LC_DATA(double, p.W)[k] : 0;
        double scored = error_of(&p, baseline);
        CHECK_OK(lc_reconstruct(&q, kept, 100, baseline));
        double rebuilt = error_of(&p, baseline);
        CHECK(rebuilt < 0.7 * scored);
        CHECK(error < 0.95 * rebuilt);
        CHECK_OK(lc_reconstruct(&q, LC_DATA(uint8_t, keep), 100, LC_DATA(double, W)));
        CHECK_NEAR(error_of(&p, LC_DATA(double, W)), error, 1e-5 * error);
        drop_all();
    }
}

static void test_counts(void) {
    problem p = random_problem(8, 12, 40, 9);
    lc_tensor *W, *keep;
    uint8_t held[8 * 12];
    for (int64_t k = 0; k < 96; k++) {
        held[k] = k % 5 != 0;
        if (!held[k]) LC_DATA(double, p.W)[k] = 0;
    }
    p.held = held;
    CHECK_OK(solve(&p, &published, &W, &keep));
    CHECK(count(keep) == 48);
    for (int64_t k = 0; k < 96; k++) CHECK(held[k] || !LC_DATA(uint8_t, keep)[k]);
    p.held = NULL;
    p.target = (lc_target){0.5, 2, 4};
    CHECK_OK(solve(&p, &published, &W, &keep));
    for (int64_t g = 0; g < 96; g += 4) {
        const uint8_t *group = LC_DATA(uint8_t, keep) + g;
        CHECK(group[0] + group[1] + group[2] + group[3] == 2);
    }
    p.target = (lc_target){0.25, 0, 0};
    p.options.scope = LC_SCOPE_ROW;
    CHECK_OK(solve(&p, &published, &W, &keep));
    for (int64_t o = 0; o < 8; o++) {
        int64_t kept = 0;
        for (int64_t i = 0; i < 12; i++) kept += LC_DATA(uint8_t, keep)[o * 12 + i];
        CHECK(kept == 9);
    }
    p.target.sparsity = 1;
    CHECK_OK(solve(&p, &published, &W, &keep));
    CHECK(count(keep) == 0);
    p.target.sparsity = 0;
    CHECK_OK(solve(&p, &published, &W, &keep));
    CHECK(count(keep) == 96);
    CHECK_SAME(W, p.W, 1e-4);
    drop_all();
}

/* Inputs that are never seen, or a text of few tokens, and no damping: still finite, and those inputs go first. */
static void test_unseen_inputs(void) {
    problem p = random_problem(6, 10, 4, 12);
    lc_alps_options bare = published;
    bare.damp = 0;
    for (int64_t i = 0; i < 10; i++) LC_DATA(double, p.H)[3 * 10 + i] = LC_DATA(double, p.H)[i * 10 + 3] = 0;
    lc_tensor *W, *keep;
    CHECK_OK(solve(&p, &bare, &W, &keep));
    CHECK(count(keep) == 30);
    for (int64_t k = 0; k < 60; k++) CHECK(isfinite(LC_DATA(double, W)[k]));
    LC_DATA(double, p.W)[13] = NAN;
    CHECK_MESSAGE(solve(&p, &bare, &W, &keep), LC_EINVAL, "alps: layer: the weight at row 2, column 4 is not finite");
    drop_all();
}

static void test_threads(void) {
    problem p = random_problem(40, 65, 100, 13);
    lc_tensor *W[2], *keep[2];
    for (int k = 0; k < 2; k++) {
        CHECK_OK(lc_set_threads(1 + k));
        CHECK_OK(solve(&p, &published, &W[k], &keep[k]));
    }
    CHECK_SAME(W[0], W[1], 0);
    CHECK_SAME(keep[0], keep[1], 0);
    drop_all();
}

/* -- a model ------------------------------------------------------------------------------------------------------- */

static lc_status prune(const lc_selection *layers, lc_scope scope, lc_mask **out) {
    lc_prune_options o = {.sparsity = 0.5, .scope = scope, .apply = true, .hold = true};
    lc_calibration *c = NULL;
    LC_TRY(open_text(layers, (lc_calibrate_options){.gram = true}, &c));
    lc_status status = lc_prune_alps(c, &o, &published, out);
    lc_calibration_free(c);
    return status;
}

/* Out of memory anywhere: a clear status, nothing leaked, each layer pruned or as it was. */
static void test_failing_allocations(void) {
    lc_mask *mask = NULL;
    for (uint64_t n = 1;; n++) {
        size_t before = lc_memory_get().live;
        lc_model *m = tiny_model(2, LC_F32);
        lc_selection *layers = NULL;
        CHECK_OK(lc_select_matching(m, LC_PART_LINEAR, "attention.out", &layers));
        if (n == 1)
            CHECK_MESSAGE(prune(layers, LC_SCOPE_MODEL, &mask), LC_EINVAL,
                          "prune.test: scope 'model' compares scores of layers, and this solves each by itself; take "
                          "'layer' or 'row'");
        lc_memory_fail_at(n);
        lc_status status = prune(layers, LC_SCOPE_LAYER, &mask);
        lc_memory_fail_at(0);
        CHECK(!status || (status == LC_ENOMEM && !mask));
        for (int64_t i = 0; i < 2; i++) {
            lc_param *p = lc_selected_layer(layers, i)->weight;
            int64_t zeros = 0;
            CHECK_OK(lc_param_zeros(p, &zeros));
            CHECK(zeros == (p->held ? 18 : 0));
            CHECK(status || p->held);
        }
        lc_mask_release(mask);
        lc_selection_release(layers);
        lc_model_release(m);
        CHECK(n == 1 || lc_memory_get().live == before); /* the first opens what stays open */
        if (status) continue;
        CHECK(n > 50);
        break;
    }
}

static void test_interruption(void) {
    lc_model *m = tiny_model(2, LC_F32);
    lc_selection *layers = NULL;
    lc_mask *mask = NULL;
    problem p = random_problem(4, 6, 20, 21);
    lc_quadratic q = quadratic_of(&p);
    lc_tensor *W, *keep;
    CHECK_OK(solve(&p, &published, &W, &keep));
    CHECK_OK(lc_select_all(m, LC_PART_LINEAR, &layers));
    lc_cancel();
    CHECK_MESSAGE(prune(layers, LC_SCOPE_LAYER, &mask), LC_ECANCEL, "interrupted");
    CHECK_MESSAGE(lc_swap(&q, 0, NULL, 9, lc_data(W), lc_data(keep), NULL), LC_ECANCEL, "interrupted");
    CHECK_MESSAGE(lc_reconstruct(&q, lc_data(keep), 9, lc_data(W)), LC_ECANCEL, "interrupted");
    lc_cancel_hold(); /* held back, it changes nothing */
    CHECK_OK(lc_reconstruct(&q, lc_data(keep), 9, lc_data(W)));
    double error = error_of(&p, lc_data(W));
    lc_cancel_release();
    lc_cancel_clear();
    CHECK_OK(lc_reconstruct(&q, lc_data(keep), 9, lc_data(W)));
    CHECK_NEAR(error_of(&p, lc_data(W)), error, 1e-9 * error);
    for (int64_t i = 0; i < layers->n; i++) CHECK(!lc_selected_layer(layers, i)->weight->held);
    drop_all();
    lc_selection_release(layers);
    lc_model_release(m);
}

int main(void) {
    test_golden();
    test_first_iteration();
    test_errors();
    test_counts();
    test_unseen_inputs();
    test_threads();
    test_failing_allocations();
    test_interruption();
    return check_done();
}
