/* test_calibrate.c: statistics against the inputs that they sum, streams against each other, pruning on them through
 * every failing allocation. */
#include "base/memory.h"
#include "base/pool.h"
#include "ops/factor.h"
#include "ops/gemm.h"
#include "ops/op.h"
#include "solve/sparsegpt.h"
#include "solve/wanda.h"
#include "tensors.h"
#include "tiny.h"

/* Two rows of six tokens, the second with two of padding. */
static lc_batch text(void) {
    double ids[] = {1, 5, 9, 2, 2, 7, 4, 4, 10, 3, 0, 0}, keep[] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0};
    return (lc_batch){.ids = tensor(LC_I64, SHAPE(2, 6), ids), .attention_mask = tensor(LC_I64, SHAPE(2, 6), keep)};
}

static lc_calibration *calibration(const lc_selection *layers, lc_calibrate_options options) {
    lc_calibration *c = NULL;
    lc_batch batch = text();
    CHECK_OK(lc_calibration_new("test", layers, &options, &c));
    CHECK_OK(lc_calibration_feed(c, &batch));
    drop_all();
    return c;
}

/* H = X^T X and its diagonal's roots, over the ten tokens that are no padding. */
static void check_stats(const lc_layer_stats *s, lc_dtype dtype) {
    int64_t I = s->layer->inputs;
    double worst = 0;
    CHECK(s->tokens == 10 && s->input->shape[0] == 10 && s->input->shape[1] == I && s->input->dtype == dtype);
    for (int64_t i = 0; i < I; i++)
        for (int64_t k = 0; k < I; k++) {
            double sum = 0;
            for (int64_t t = 0; t < 10; t++) sum += lc_get_f64(s->input, t * I + i) * lc_get_f64(s->input, t * I + k);
            worst = fmax(worst, fabs(sum - LC_DATA(double, s->H)[i * I + k]));
            if (i == k) worst = fmax(worst, fabs(sqrt(sum) - LC_DATA(double, s->norm)[i]));
        }
    CHECK_NEAR(worst, 0, dtype == LC_F32 ? 1e-5 : 1e-13);
}

/* While no weight changes, all three streams are one. */
static void test_streams(lc_dtype dtype) {
    lc_model *m = tiny_model(2, dtype);
    lc_selection *layers = NULL;
    CHECK_OK(lc_select_all(m, LC_PART_LINEAR, &layers));
    lc_calibration *c[3];
    for (int k = 0; k < 3; k++) c[k] = calibration(layers, (lc_calibrate_options){(lc_sequential)k, true, true});
    lc_layer_stats s[3];
    for (int64_t i = 0; i <= layers->n; i++) {
        for (int k = 0; k < 3; k++) {
            CHECK_OK(lc_calibration_next(c[k], &s[k]));
            CHECK(s[k].layer == (i < layers->n ? lc_selected_layer(layers, i) : NULL));
            if (!s[k].layer) continue;
            CHECK(s[k].index == i && s[k].first && s[k].last);
            check_stats(&s[k], dtype);
            size_t bytes = (size_t)(s[k].layer->inputs * s[k].layer->inputs) * sizeof(double);
            CHECK(memcmp(lc_data(s[k].H), lc_data(s[0].H), bytes) == 0);
        }
    }
    for (int k = 0; k < 3; k++) lc_calibration_free(c[k]);
    lc_selection_release(layers);
    lc_model_release(m);
}

/* Norms alone are those of H; the head's input comes after the last block. */
static void test_norms_and_head(void) {
    lc_model *m = tiny_model(2, LC_F64);
    lc_selection *all = NULL, *layers = NULL;
    CHECK_OK(lc_select_items(m, LC_PART_LINEAR, (void *const *)m->linears, m->n_linears, &all));
    CHECK_OK(lc_select_matching(m, LC_PART_LINEAR, "head", &layers));
    lc_calibration *whole = calibration(all, (lc_calibrate_options){.gram = true});
    lc_calibration *norms = calibration(all, (lc_calibrate_options){0});
    lc_calibration *head = calibration(layers, (lc_calibrate_options){.gram = true});
    lc_layer_stats a, b, h;
    CHECK_OK(lc_calibration_next(head, &h));
    for (int64_t i = 0; i < all->n; i++) {
        CHECK_OK(lc_calibration_next(whole, &a));
        CHECK_OK(lc_calibration_next(norms, &b));
        CHECK(a.layer == b.layer && !b.H && !b.input);
        for (int64_t k = 0; k < a.layer->inputs; k++)
            CHECK_NEAR(LC_DATA(double, b.norm)[k], LC_DATA(double, a.norm)[k], 1e-12);
    }
    CHECK(a.layer == m->head && h.layer == m->head);
    for (int64_t k = 0; k < 36; k++) CHECK_NEAR(LC_DATA(double, h.H)[k], LC_DATA(double, a.H)[k], 0);
    lc_calibration_free(whole);
    lc_calibration_free(norms);
    lc_calibration_free(head);
    lc_selection_release(all);
    lc_selection_release(layers);
    lc_model_release(m);
}

static void test_messages(void) {
    lc_model *m = tiny_model(2, LC_F32);
    lc_selection *layers = NULL, *params = NULL;
    lc_calibration *c = NULL;
    lc_layer_stats s;
    CHECK_OK(lc_select_all(m, LC_PART_LINEAR, &layers));
    CHECK_OK(lc_select_all(m, LC_PART_PARAMETER, &params));
    CHECK_MESSAGE(lc_calibration_new("test", params, &(lc_calibrate_options){0}, &c), LC_EINVAL,
                  "test: calibrates linear layers; take model:linears()");
    CHECK_OK(lc_calibration_new("test", layers, &(lc_calibrate_options){0}, &c));
    CHECK_MESSAGE(lc_calibration_next(c, &s), LC_EINVAL, "test: the calibration text has no tokens");
    lc_calibration_free(c);
    LC_DATA(float, lc_selected_layer(layers, 1)->weight->leaf)[3] = INFINITY;
    c = calibration(layers, (lc_calibrate_options){0});
    CHECK_MESSAGE(lc_calibration_next(c, &s), LC_ENUMERIC,
                  "test: transformer.h.0.mlp.c_fc: input 1 is not finite; check the layers before it for NaN and inf");
    lc_calibration_free(c);
    lc_selection_release(layers);
    lc_selection_release(params);
    lc_model_release(m);
}

/* -- pruning ------------------------------------------------------------------------------------------------------- */

/* A score of its own: the norm of the input alone, so that each row loses the same columns. */
static lc_status by_norm(void *context, const lc_layer_stats *stats, lc_tensor *W, lc_scores *out) {
    (void)context;
    lc_tensor *wide = NULL;
    LC_TRY(lc_view_expand(stats->norm, 2, W->shape, &wide));
    out->values = wide;
    return LC_OK;
}

/* The ways of pruning that the sweep below takes in turn. */
enum { BY_NORM, WANDA, RIA, SPARSEGPT, WAYS };

static lc_status prune_by(int way, lc_calibration *c, const lc_prune_options *o, lc_mask **mask) {
    lc_sparsegpt_options how = {.damp = 0.01, .block = 4, .mask_block = 2, .exact = true};
    if (way == WANDA) return lc_prune_wanda(c, o, mask);
    if (way == RIA) return lc_prune_ria(c, 0.5, o, mask);
    if (way == SPARSEGPT) return lc_prune_sparsegpt(c, &how, o, mask);
    return lc_prune_scored(c, by_norm, NULL, o, mask);
}

/* Out of memory anywhere: nothing leaks, no layer is half pruned, and with apply = false all is as it was. */
static void test_failing_allocations(int way, lc_sequential sequential, bool apply) {
    lc_model *m = tiny_model(2, LC_F32);
    lc_selection *layers = NULL;
    CHECK_OK(lc_select_all(m, LC_PART_LINEAR, &layers));
    lc_prune_options o = {.sparsity = 0.5, .scope = LC_SCOPE_ROW, .apply = apply, .hold = true};
    for (uint64_t n = 1;; n += 1 + (uint64_t)way * (n / 40)) {
        lc_calibration *c = NULL;
        lc_mask *mask = NULL;
        lc_batch batch = text();
        size_t before = lc_memory_get().live;
        lc_memory_fail_at(n);
        lc_status status = lc_calibration_new("test", layers, &(lc_calibrate_options){sequential, true, true}, &c);
        if (!status) status = lc_calibration_feed(c, &batch);
        if (!status) status = prune_by(way, c, &o, &mask);
        lc_memory_fail_at(0);
        lc_calibration_free(c);
        int64_t zeros = zeros_of(layers);
        if (!status) {
            CHECK(n > 50);
            CHECK(zeros == (apply ? 432 : 0));
            lc_mask_release(mask);
            drop_all();
            break;
        }
        CHECK(status == LC_ENOMEM && mask == NULL);
        CHECK(apply || zeros == 0);
        for (int64_t i = 0; i < layers->n; i++) {
            lc_param *p = lc_selected_layer(layers, i)->weight;
            int64_t pruned = 0;
            CHECK_OK(lc_param_zeros(p, &pruned));
            CHECK(pruned == (p->held ? lc_numel(p->leaf) / 2 : 0));
            lc_param_lift(p);
            for (int64_t k = 0; k < lc_numel(p->leaf); k++) LC_DATA(float, p->leaf)[k] = 1 + (float)k; /* grown again */
            lc_touch(p->leaf);
        }
        CHECK(lc_memory_get().live == before);
        drop_all();
    }
    lc_selection_release(layers);
    lc_model_release(m);
}

/* Interrupted between layers: those before are pruned and held, the others as they were. */
static lc_status cancel_at_third(void *context, const lc_layer_stats *stats, lc_tensor *W, lc_scores *out) {
    if (stats->index == 2) lc_cancel();
    return by_norm(context, stats, W, out);
}

static void test_interruption(void) {
    lc_model *m = tiny_model(2, LC_F32);
    lc_selection *layers = NULL;
    lc_mask *mask = NULL;
    CHECK_OK(lc_select_all(m, LC_PART_LINEAR, &layers));
    lc_calibration *c = calibration(layers, (lc_calibrate_options){0});
    lc_prune_options o = {.sparsity = 0.5, .scope = LC_SCOPE_ROW, .apply = true, .hold = true};
    CHECK_MESSAGE(lc_prune_scored(c, cancel_at_third, NULL, &o, &mask), LC_ECANCEL, "interrupted");
    lc_cancel_clear();
    CHECK(zeros_of(layers) == 54 + 18);
    for (int64_t i = 0; i < layers->n; i++) CHECK(!!lc_selected_layer(layers, i)->weight->held == (i < 2));
    lc_calibration_free(c);
    lc_selection_release(layers);
    lc_model_release(m);
}

/* The factor against its definition, U^T U A = 1, at sizes around its blocks; the same bits at any number of threads. */
static void test_factor(int64_t n) {
    lc_tensor *x = noise(LC_F64, SHAPE(n, n), 3), *A[2] = {NULL};
    int64_t row;
    for (int t = 0; t < 2; t++) {
        CHECK_OK(lc_set_threads(t + 1));
        CHECK_OK(lc_tensor_zeros(LC_F64, 2, x->shape, LC_CPU, &A[t]));
        CHECK_OK(lc_gram_add(LC_F64, n, n, lc_data(x), n, LC_DATA(double, A[t])));
        for (int64_t i = 0; i < n; i++) LC_DATA(double, A[t])[i * (n + 1)] += 1;
    }
    lc_tensor *whole = NULL, *product = NULL;
    CHECK_OK(lc_run(LC_OP_COPY, &(lc_attr){.dtype = LC_F64}, &A[0], 1, &whole));
    CHECK_OK(lc_gram_mirror(n, LC_DATA(double, whole)));
    CHECK_OK(lc_set_threads(1));
    CHECK_OK(lc_inverse_factor(n, LC_DATA(double, A[0]), &row));
    CHECK(row == -1);
    CHECK_OK(lc_set_threads(2));
    CHECK_OK(lc_inverse_factor(n, LC_DATA(double, A[1]), &row));
    CHECK(memcmp(lc_data(A[0]), lc_data(A[1]), (size_t)(n * n) * sizeof(double)) == 0);
    const double *U = LC_DATA(double, A[0]);
    CHECK_OK(lc_run(LC_OP_MATMUL, NULL, (lc_tensor *[]){A[0], whole}, 2, &product)); /* U A = U^-T, lower triangular */
    double worst = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < n; k++) {
            if (k < i) CHECK_NEAR(U[i * n + k], 0, 0);
            if (k > i) worst = fmax(worst, fabs(LC_DATA(double, product)[i * n + k]));
            if (k == i) worst = fmax(worst, fabs(LC_DATA(double, product)[i * n + k] * U[i * n + k] - 1));
        }
    CHECK_NEAR(worst, 0, 1e-9);
    LC_DATA(double, whole)[(n / 2) * (n + 1)] = -1;
    CHECK_OK(lc_inverse_factor(n, LC_DATA(double, whole), &row));
    CHECK(row >= 0);
    lc_tensor_release(A[0]);
    lc_tensor_release(A[1]);
    lc_tensor_release(whole);
    lc_tensor_release(product);
    drop_all();
}

int main(void) {
    for (int i = 0; i < 5; i++) test_factor((int64_t[]){1, 7, 192, 193, 500}[i]);
    test_streams(LC_F32);
    test_streams(LC_F64);
    test_norms_and_head();
    test_messages();
    for (int sequential = 0; sequential < 3; sequential++)
        for (int apply = 0; apply < 2; apply++) test_failing_allocations(BY_NORM, (lc_sequential)sequential, apply);
    for (int way = WANDA; way < WAYS; way++) test_failing_allocations(way, LC_SEQUENTIAL_BLOCK, true);
    test_interruption();
    return check_done();
}
