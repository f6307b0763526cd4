/* test_allocate.c: outlier shares and targets against their definitions, over many totals, spreads and scores. */
#include "base/memory.h"
#include "base/random.h"
#include "solve/allocate.h"
#include "tensors.h"
#include "tiny.h"

static const lc_calibrate_options apart = {.sequential = LC_SEQUENTIAL_OFF};

static lc_status find_shares(const lc_selection *layers, double M, double *shares) {
    lc_calibration *c = NULL;
    LC_TRY(open_text(layers, apart, &c));
    lc_status status = lc_outlier_shares(c, M, shares);
    lc_calibration_free(c);
    return status;
}

/* -- outliers ------------------------------------------------------------------------------------------------------ */

/* Each layer's norms again, and a plain count over the block that begins at layer `first`. */
static double count_again(const lc_selection *layers, int64_t first, int64_t n, double M) {
    lc_calibration *c = NULL;
    lc_layer_stats stats;
    double products[12 * 6 * 6 + 1], sum = 0, above = 0;
    int64_t count = 0;
    CHECK_OK(open_text(layers, apart, &c));
    for (int64_t i = 0; i < first + n; i++) {
        CHECK_OK(lc_calibration_next(c, &stats));
        const lc_tensor *w = stats.layer->weight->leaf;
        for (int64_t k = 0; i >= first && k < lc_numel(w); k++) {
            products[count] = fabs(lc_get_f64(w, k)) * LC_DATA(double, stats.norm)[k % stats.layer->inputs];
            sum += products[count++];
        }
    }
    lc_calibration_free(c);
    for (int64_t k = 0; k < count; k++) above += products[k] > M * sum / (double)count;
    return above / (double)count;
}

static void test_outliers(void) {
    lc_model *m = tiny_model(2, LC_F64);
    lc_selection *all = NULL, *layers = NULL;
    double shares[9];
    CHECK_OK(lc_select_all(m, LC_PART_LINEAR, &layers));
    CHECK_OK(lc_select_items(m, LC_PART_LINEAR, (void *const *)m->linears, m->n_linears, &all));
    CHECK(all->n == 9 && lc_selected_layer(all, 8) == m->head);
    lc_param *p = lc_selected_layer(all, 6)->weight;
    for (int64_t k = 0; k < 40; k++) LC_DATA(double, p->leaf)[k] = 0.3;
    CHECK_OK(find_shares(all, 3, shares));
    for (int64_t i = 0; i < 9; i++) {
        int64_t first = i / 4 * 4;
        CHECK_NEAR(shares[i], count_again(all, first, first < 8 ? 4 : 1, 3), 0);
    }
    CHECK(shares[4] == 40.0 / 432 && shares[0] > 0 && shares[8] != shares[4]);
    lc_selection_release(all);
    LC_DATA(double, lc_selected_layer(layers, 7)->weight->leaf)[3] = NAN;
    CHECK_MESSAGE(find_shares(layers, 3, shares), LC_EINVAL,
                  "prune.test: transformer.h.1.mlp.c_proj: its weights have NaN in them");
    lc_selection_release(layers);
    lc_model_release(m);
}

static void test_failing_allocations(void) {
    lc_model *m = tiny_model(2, LC_F64);
    lc_selection *layers = NULL;
    double shares[8];
    CHECK_OK(lc_select_all(m, LC_PART_LINEAR, &layers));
    CHECK_OK(find_shares(layers, 5, shares));
    for (uint64_t n = 1;; n++) {
        size_t before = lc_memory_get().live;
        lc_memory_fail_at(n);
        lc_status status = find_shares(layers, 5, shares);
        lc_memory_fail_at(0);
        CHECK(!status || status == LC_ENOMEM);
        CHECK(lc_memory_get().live == before);
        if (status) continue;
        CHECK(n > 30);
        break;
    }
    lc_selection_release(layers);
    lc_model_release(m);
}

/* -- targets ------------------------------------------------------------------------------------------------------- */

static double mean_of(const lc_selection *layers, const double *targets) {
    double sum = 0, n = 0;
    for (int64_t i = 0; i < layers->n; i++) {
        double weights = (double)lc_numel(lc_selected_layer(layers, i)->weight->leaf);
        sum += weights * targets[i];
        n += weights;
    }
    return sum / n;
}

/* The total is kept whatever is asked for; higher scores keep more; the spread is 2 lambda where nothing is cut off. */
static void test_targets(void) {
    lc_model *m = tiny_model(3, LC_F64);
    lc_selection *layers = NULL;
    lc_stream stream = lc_stream_make(5, "scores");
    CHECK_OK(lc_select_all(m, LC_PART_LINEAR, &layers));
    CHECK(layers->n == 12);
    for (int round = 0; round < 300; round++) {
        double scores[12], targets[12], sparsity = (double)(round % 21) / 20, lambda = 0.5 * lc_stream_uniform(&stream);
        double least = 1, most = 0;
        for (int i = 0; i < 12; i++) scores[i] = floor(8 * lc_stream_uniform(&stream));
        CHECK_OK(lc_allocate("allocate", layers, scores, sparsity, lambda, targets));
        CHECK_NEAR(mean_of(layers, targets), sparsity, 1e-12);
        for (int i = 0; i < 12; i++) {
            least = fmin(least, targets[i]);
            most = fmax(most, targets[i]);
            for (int k = 0; k < 12; k++) CHECK(scores[i] <= scores[k] || targets[i] <= targets[k]);
        }
        CHECK(least >= 0 && most <= 1);
        if (least > 0 && most < 1) CHECK_NEAR(most - least, 2 * lambda, 1e-12);
    }
    double scores[12] = {0}, targets[12];
    CHECK_OK(lc_allocate("allocate", layers, scores, 0.3, 0.08, targets));
    for (int i = 0; i < 12; i++) CHECK(targets[i] == 0.3);
    scores[7] = 1;
    CHECK_OK(lc_allocate("allocate", layers, scores, 0.3, 0, targets));
    for (int i = 0; i < 12; i++) CHECK(targets[i] == 0.3);
    scores[7] = INFINITY;
    CHECK_MESSAGE(lc_allocate("allocate", layers, scores, 0.3, 0.08, targets), LC_EINVAL,
                  "allocate: transformer.h.1.mlp.c_proj: its score inf is not finite");
    lc_selection_release(layers);
    lc_model_release(m);
}

int main(void) {
    test_outliers();
    test_failing_allocations();
    test_targets();
    return check_done();
}
