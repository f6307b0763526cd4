/* test_refine.c: least squares on a support, optimal swaps, and both on a model: optimality, errors that never rise, the
 * same bits at any thread count, every failing allocation. */
#include "base/memory.h"
#include "base/pool.h"
#include "base/random.h"
#include "ops/op.h"
#include "solve/layerwise.h"
#include "solve/quadratic.h"
#include "solve/reconstruct.h"
#include "solve/refine.h"
#include "solve/swap.h"
#include "tensors.h"
#include "tiny.h"

#include <stdlib.h>

/* -- problems ------------------------------------------------------------------------------------------------------ */

typedef struct problem {
    lc_quadratic q;
    double *H, *T, *W;
    uint8_t *keep;
} problem;

/* Inputs that depend on each other: n tokens of mixed sources. With n < I, H is singular. Of each group of m weights,
 * those of even draw stay; m = 0: half of all, at random. */
static problem make_problem(int64_t O, int64_t I, int64_t n, int64_t m, uint64_t seed) {
    lc_stream stream = lc_stream_make(seed, "problem");
    problem p = {{O, I, NULL, NULL},
                 calloc((size_t)(I * I), 8),
                 calloc((size_t)(O * I), 8),
                 calloc((size_t)(O * I), 8),
                 calloc((size_t)(O * I), 1)};
    double *x = calloc((size_t)I, 8);
    for (int64_t t = 0; t < n; t++) {
        double common = lc_stream_normal(&stream);
        for (int64_t i = 0; i < I; i++)
            x[i] = (lc_stream_normal(&stream) + common + (i ? 0.7 * x[i - 1] : 0)) * (1 + (double)(i % 3));
        for (int64_t a = 0; a < I; a++)
            for (int64_t b = 0; b < I; b++) p.H[a * I + b] += x[a] * x[b];
    }
    for (int64_t k = 0; k < O * I; k++) {
        p.T[k] = lc_stream_normal(&stream);
        p.keep[k] = m ? k % m < m / 2 : lc_stream_below(&stream, 2) == 0;
        p.W[k] = p.keep[k] ? p.T[k] : 0;
    }
    free(x);
    p.q.H = p.H;
    p.q.T = p.T;
    return p;
}

static void free_problem(problem *p) {
    free(p->H);
    free(p->T);
    free(p->W);
    free(p->keep);
}

/* (w - t) H (w - t)^T by plain loops. */
static double plain_error(const lc_quadratic *q, const double *W, int64_t o) {
    double sum = 0;
    for (int64_t a = 0; a < q->I; a++)
        for (int64_t b = 0; b < q->I; b++)
            sum += (W[o * q->I + a] - q->T[o * q->I + a]) * q->H[a * q->I + b] * (W[o * q->I + b] - q->T[o * q->I + b]);
    return sum;
}

/* The largest gradient on the support, as a share of what it is for a row of zeros. */
static double worst_gradient(const problem *p) {
    int64_t I = p->q.I;
    double worst = 0;
    for (int64_t o = 0; o < p->q.O; o++) {
        double largest = 0, scale = 0;
        for (int64_t i = 0; i < I; i++) {
            double g = 0, zero = 0;
            for (int64_t k = 0; k < I; k++) {
                g += (p->W[o * I + k] - p->T[o * I + k]) * p->H[k * I + i];
                zero += p->T[o * I + k] * p->H[k * I + i];
            }
            if (p->keep[o * I + i]) largest = fmax(largest, fabs(g));
            scale = fmax(scale, fabs(zero));
        }
        worst = fmax(worst, largest / scale);
    }
    return worst;
}

static bool zero_where_pruned(const problem *p) {
    for (int64_t k = 0; k < p->q.O * p->q.I; k++)
        if (!p->keep[k] && p->W[k] != 0) return false;
    return true;
}

static void test_errors(void) {
    problem p = make_problem(5, 13, 30, 0, 1);
    double errors[5];
    CHECK_OK(lc_quadratic_errors(&p.q, p.W, errors));
    for (int64_t o = 0; o < 5; o++) CHECK_NEAR(errors[o], plain_error(&p.q, p.W, o), 1e-9 * errors[o]);
    free_problem(&p);
}

/* -- least squares ------------------------------------------------------------------------------------------------- */

static void test_least_squares(void) {
    problem direct = make_problem(9, 21, 60, 0, 2), steps = make_problem(9, 21, 60, 0, 2);
    CHECK_OK(lc_reconstruct(&direct.q, direct.keep, 100, direct.W));
    CHECK_OK(lc_quadratic_descend(&steps.q, steps.keep, 200, 1e-12, steps.W));
    CHECK_NEAR(worst_gradient(&direct), 0, 1e-11);
    CHECK_NEAR(worst_gradient(&steps), 0, 1e-9);
    CHECK(zero_where_pruned(&direct) && zero_where_pruned(&steps));
    for (int64_t k = 0; k < 9 * 21; k++) CHECK_NEAR(steps.W[k], direct.W[k], 1e-7);
    free_problem(&direct);
    free_problem(&steps);
}

/* Fewer tokens than inputs: nothing to factor, and still the least error. One input is never seen. */
static void test_singular(void) {
    problem p = make_problem(7, 24, 10, 0, 3);
    for (int64_t i = 0; i < 24; i++) p.H[5 * 24 + i] = p.H[i * 24 + 5] = 0;
    double before[7], after[7];
    CHECK_OK(lc_quadratic_errors(&p.q, p.W, before));
    CHECK_OK(lc_reconstruct(&p.q, p.keep, 200, p.W));
    CHECK_OK(lc_quadratic_errors(&p.q, p.W, after));
    CHECK_NEAR(worst_gradient(&p), 0, 1e-6);
    CHECK(zero_where_pruned(&p));
    for (int o = 0; o < 7; o++) CHECK(after[o] <= before[o] && isfinite(after[o]));
    free_problem(&p);
}

/* Each further step lowers the error or leaves it; rows too long for a factor are solved so too. */
static void test_descent(void) {
    problem p = make_problem(3, 40, 45, 0, 4);
    double last[3], now[3];
    CHECK_OK(lc_quadratic_errors(&p.q, p.W, last));
    for (int k = 0; k < 30; k++) {
        CHECK_OK(lc_quadratic_descend(&p.q, p.keep, 1, 1e-12, p.W));
        CHECK_OK(lc_quadratic_errors(&p.q, p.W, now));
        for (int o = 0; o < 3; o++) CHECK(now[o] <= last[o] * (1 + 1e-12));
        memcpy(last, now, sizeof now);
    }
    free_problem(&p);
    problem wide = make_problem(2, 420, 500, 0, 5);
    memset(wide.keep, 1, 400);
    for (int64_t k = 0; k < 400; k++) wide.W[k] = wide.T[k];
    CHECK_OK(lc_reconstruct(&wide.q, wide.keep, 2000, wide.W));
    CHECK_NEAR(worst_gradient(&wide), 0, 1e-6);
    free_problem(&wide);
}

/* -- swaps --------------------------------------------------------------------------------------------------------- */

/* The least error of row o over all swaps within groups, by trying each. */
static double best_by_trying(const problem *p, int64_t o, int64_t group, const uint8_t *held) {
    int64_t I = p->q.I;
    double least = INFINITY, *w = p->W + o * I;
    const uint8_t *keep = p->keep + o * I;
    for (int64_t u = 0; u < I; u++)
        for (int64_t b = u / group * group; b < u / group * group + group; b++) {
            if (!keep[u] || keep[b] || (held && !held[o * I + b])) continue;
            double was = w[u];
            w[u] = 0;
            w[b] = p->T[o * I + b];
            least = fmin(least, plain_error(&p->q, p->W, o));
            w[u] = was;
            w[b] = 0;
        }
    return least;
}

/* Each swap is the best there is, and the end is where no swap helps. */
static void test_swaps(int64_t group, bool some_held, bool compensated) {
    int64_t O = 6, I = 12;
    problem p = make_problem(O, I, 40, group, 6 + (uint64_t)group);
    uint8_t held[6 * 12];
    lc_stream stream = lc_stream_make(9, "held");
    for (int64_t k = 0; k < O * I; k++) held[k] = p.keep[k] || lc_stream_below(&stream, 3) > 0;
    for (int64_t k = 0; compensated && k < O * I; k++) p.W[k] *= 0.7 + 0.1 * (double)(k % 5);
    int64_t all = 0;
    for (int step = 0;; step++) {
        double before[6], expected[6], after[6];
        int64_t swaps = 0;
        CHECK_OK(lc_quadratic_errors(&p.q, p.W, before));
        for (int64_t o = 0; o < O; o++)
            expected[o] = fmin(before[o], best_by_trying(&p, o, group ? group : I, some_held ? held : NULL));
        CHECK_OK(lc_swap(&p.q, group, some_held ? held : NULL, 1, p.W, p.keep, &swaps));
        CHECK_OK(lc_quadratic_errors(&p.q, p.W, after));
        for (int64_t o = 0; o < O; o++) CHECK_NEAR(after[o], expected[o], 1e-9 * before[o]);
        all += swaps;
        if (swaps == 0) break;
        CHECK(step < 100);
    }
    CHECK(all > 0);
    CHECK(zero_where_pruned(&p));
    int64_t kept = 0;
    for (int64_t k = 0; k < O * I; k++) {
        kept += p.keep[k];
        CHECK(!(some_held && !held[k] && p.keep[k]));
        if (group && (k + 1) % group == 0) {
            CHECK(kept == group / 2);
            kept = 0;
        }
    }
    free_problem(&p);
}

/* Many swaps in one call end where single ones do. */
static void test_many_swaps(void) {
    problem one = make_problem(4, 30, 70, 0, 20), many = make_problem(4, 30, 70, 0, 20);
    int64_t swaps = 1, total = 0, at_once = 0;
    while (swaps) {
        CHECK_OK(lc_swap(&one.q, 0, NULL, 1, one.W, one.keep, &swaps));
        total += swaps;
    }
    CHECK_OK(lc_swap(&many.q, 0, NULL, 1000, many.W, many.keep, &at_once));
    CHECK(total == at_once && memcmp(one.keep, many.keep, 120) == 0 && memcmp(one.W, many.W, 120 * 8) == 0);
    free_problem(&one);
    free_problem(&many);
}

static void test_threads(void) {
    problem p[2];
    for (int k = 0; k < 2; k++) {
        p[k] = make_problem(37, 50, 90, 0, 30);
        CHECK_OK(lc_set_threads(1 + k));
        CHECK_OK(lc_swap(&p[k].q, 0, NULL, 20, p[k].W, p[k].keep, NULL));
        CHECK_OK(lc_quadratic_descend(&p[k].q, p[k].keep, 5, 1e-9, p[k].W));
        CHECK_OK(lc_reconstruct(&p[k].q, p[k].keep, 5, p[k].W));
    }
    CHECK(memcmp(p[0].keep, p[1].keep, 37 * 50) == 0 && memcmp(p[0].W, p[1].W, 37 * 50 * 8) == 0);
    free_problem(&p[0]);
    free_problem(&p[1]);
}

/* -- a model ------------------------------------------------------------------------------------------------------- */

static const lc_calibrate_options apart = {.sequential = LC_SEQUENTIAL_OFF, .gram = true};

static lc_status by_magnitude(void *context, const lc_layer_stats *stats, lc_tensor *W, lc_scores *out) {
    (void)context;
    (void)stats;
    *out = (lc_scores){lc_tensor_retain(W), true};
    return LC_OK;
}

/* Prunes half of each row, refined as it goes or not at all. */
static lc_status prune_half(const lc_selection *layers, const lc_refine_options *refine, lc_mask **out) {
    lc_prune_options o = {.sparsity = 0.5, .scope = LC_SCOPE_ROW, .apply = true, .hold = true, .refine = refine};
    lc_calibration *c = NULL;
    LC_TRY(open_text(layers, apart, &c));
    lc_status status = lc_prune_scored(c, by_magnitude, NULL, &o, out);
    lc_calibration_free(c);
    return status;
}

static lc_status refine_half(const lc_selection *layers, const lc_snapshot *target, const lc_refine_options *o,
                             lc_mask **out) {
    lc_calibration *c = NULL;
    LC_TRY(open_text(layers, apart, &c));
    lc_status status = lc_prune_refine(c, target, NULL, NULL, true, o, out);
    lc_calibration_free(c);
    return status;
}

/* The first layer alone: its inputs stay as they are whatever happens to it. */
static lc_selection *first_layer(lc_model *m) {
    lc_selection *layers = NULL;
    CHECK_OK(lc_select_items(m, LC_PART_LINEAR, (void *const *)m->linears, 1, &layers));
    return layers;
}

/* Pruning with after-steps is pruning, then refining towards the dense weights. */
static void test_on_model(bool swap, bool reconstruct) {
    lc_refine_options o = lc_refine_defaults();
    o.swap = swap;
    o.reconstruct = reconstruct;
    lc_model *at_once = tiny_model(2, LC_F64), *later = tiny_model(2, LC_F64);
    lc_selection *a = first_layer(at_once), *b = first_layer(later);
    lc_mask *mask[3] = {NULL};
    lc_snapshot *dense = NULL;
    CHECK_OK(lc_model_snapshot(later, &dense));
    CHECK_OK(prune_half(a, &o, &mask[0]));
    CHECK_OK(prune_half(b, NULL, &mask[1]));
    CHECK_OK(refine_half(b, dense, &o, &mask[2]));
    lc_param *p = lc_selected_layer(a, 0)->weight, *r = lc_selected_layer(b, 0)->weight;
    int64_t n = lc_numel(p->leaf), zeros = 0;
    bool same_mask = lc_bits_equal(mask[1]->entries[0].keep, r->held);
    CHECK(same_mask != swap);
    CHECK(lc_bits_equal(p->held, r->held));
    CHECK_SAME(p->leaf, r->leaf, 0);
    CHECK(lc_bits_equal(mask[2]->entries[0].keep, r->held));
    CHECK_OK(lc_param_zeros(r, &zeros));
    CHECK(zeros == n / 2);
    lc_snapshot_release(dense);
    for (int k = 0; k < 3; k++) lc_mask_release(mask[k]);
    lc_selection_release(a);
    lc_selection_release(b);
    lc_model_release(at_once);
    lc_model_release(later);
}

/* A layer that keeps everything is left alone; a snapshot of another model is refused; NaN is named. */
static void test_left_alone_and_refused(void) {
    lc_refine_options o = lc_refine_defaults();
    o.reconstruct = true;
    lc_model *m = tiny_model(2, LC_F64), *other = NULL;
    lc_selection *layers = first_layer(m);
    lc_param *p = lc_selected_layer(layers, 0)->weight;
    lc_snapshot *dense = NULL, *foreign = NULL;
    lc_mask *mask = NULL;
    CHECK_OK(lc_model_snapshot(m, &dense));
    LC_DATA(double, p->leaf)[4] += 1;
    double moved = LC_DATA(double, p->leaf)[4];
    CHECK_OK(refine_half(layers, dense, &o, &mask));
    CHECK(LC_DATA(double, p->leaf)[4] == moved);
    lc_mask_release(mask);
    json_t *config = json_pack("{s:s, s:i, s:i, s:i, s:i, s:i}", "model_type", "gpt2", "vocab_size", 11, "n_positions",
                               8, "n_embd", 4, "n_layer", 2, "n_head", 2);
    CHECK_OK(lc_model_new(config, 1, LC_F64, &other));
    json_decref(config);
    CHECK_OK(lc_model_snapshot(other, &foreign));
    CHECK_MESSAGE(refine_half(layers, foreign, &o, &mask), LC_EINVAL,
                  "prune.test: the target snapshot has no transformer.h.0.attn.c_attn.weight of shape (18, 6); take it "
                  "from this model before pruning");
    LC_DATA(double, p->leaf)[8] = NAN;
    LC_DATA(double, p->leaf)[9] = 0;
    CHECK_MESSAGE(refine_half(layers, dense, &o, &mask), LC_EINVAL,
                  "prune.test: transformer.h.0.attn.c_attn: the weight at row 2, column 3 is not finite");
    lc_snapshot_release(dense);
    lc_snapshot_release(foreign);
    lc_selection_release(layers);
    lc_model_release(other);
    lc_model_release(m);
}

/* Out of memory anywhere, in pruning with after-steps or in these alone: a clear status, nothing leaked; layers are done
 * or as they were. */
static void test_failing_allocations(bool at_once) {
    lc_refine_options o = lc_refine_defaults();
    o.swap = o.reconstruct = true;
    for (uint64_t n = 1;; n++) {
        lc_model *m = tiny_model(2, LC_F64);
        lc_selection *layers = NULL;
        lc_snapshot *dense = NULL;
        lc_mask *first = NULL, *mask = NULL;
        CHECK_OK(lc_select_matching(m, LC_PART_LINEAR, "mlp", &layers));
        CHECK_OK(lc_model_snapshot(m, &dense));
        if (!at_once) CHECK_OK(prune_half(layers, NULL, &first));
        lc_mask_release(first); /* from here on the layers alone hold it */
        size_t before = lc_memory_get().live;
        lc_memory_fail_at(n);
        lc_status status = at_once ? prune_half(layers, &o, &mask) : refine_half(layers, dense, &o, &mask);
        lc_memory_fail_at(0);
        CHECK(!status || (status == LC_ENOMEM && !mask));
        CHECK(!status || at_once || lc_memory_get().live == before);
        for (int64_t i = 0; i < layers->n; i++) {
            int64_t zeros = 0;
            lc_param *p = lc_selected_layer(layers, i)->weight;
            CHECK_OK(lc_param_zeros(p, &zeros));
            CHECK(zeros == (p->held ? 72 : 0) && (p->held || (at_once && status)));
        }
        lc_mask_release(mask);
        lc_snapshot_release(dense);
        lc_selection_release(layers);
        lc_model_release(m);
        if (status) continue;
        CHECK(n > 50);
        break;
    }
}

int main(void) {
    test_errors();
    test_least_squares();
    test_singular();
    test_descent();
    test_swaps(0, false, false);
    test_swaps(0, true, true);
    test_swaps(4, false, false);
    test_swaps(6, true, true);
    test_many_swaps();
    test_threads();
    test_on_model(true, false);
    test_on_model(false, true);
    test_on_model(true, true);
    test_left_alone_and_refused();
    test_failing_allocations(false);
    test_failing_allocations(true);
    return check_done();
}
