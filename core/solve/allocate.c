/* allocate.c: see allocate.h. */
#include "solve/allocate.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/pool.h"
#include "solve/prune.h"

/* -- outliers ------------------------------------------------------------------------------------------------------ */

typedef struct job {
    lc_calibration *c;
    lc_selection *layers;
    double **norms; /* of each layer's inputs */
    double M;
} job;

static lc_status read_norms(const job *j) {
    for (;;) {
        lc_layer_stats stats;
        LC_TRY(lc_calibration_next(j->c, &stats));
        if (!stats.layer) return LC_OK;
        size_t bytes = (size_t)stats.layer->inputs * sizeof(double);
        if (!(j->norms[stats.index] = lc_alloc(bytes))) return LC_ENOMEM;
        memcpy(j->norms[stats.index], lc_data(stats.norm), bytes);
    }
}

/* |w| times its input's norm. */
static double product(const job *j, int64_t layer, int64_t weight) {
    const lc_layer *l = lc_selected_layer(j->layers, layer);
    return fabs(lc_get_f64(l->weight->leaf, weight)) * j->norms[layer][weight % l->inputs];
}

static int64_t weights_of(const job *j, int64_t layer) {
    return lc_numel(lc_selected_layer(j->layers, layer)->weight->leaf);
}

/* What one layer's rows give, each by itself, so that the sum does not depend on who takes which. */
typedef struct rows_job {
    const job *j;
    int64_t layer;
    bool count; /* products above `limit`; else their sum */
    double limit;
    double *rows; /* (O) */
} rows_job;

static void sum_rows(void *context, int64_t begin, int64_t end) {
    const rows_job *r = context;
    int64_t I = lc_selected_layer(r->j->layers, r->layer)->inputs;
    for (int64_t o = begin; o < end; o++) {
        double sum = 0;
        for (int64_t k = o * I; k < (o + 1) * I; k++) {
            double p = product(r->j, r->layer, k);
            sum += r->count ? p > r->limit : p;
        }
        r->rows[o] = sum;
    }
}

/* Over layers [begin, end): the mean of the products, or the share of those above `limit`. */
static lc_status mean_of(const job *j, int64_t begin, int64_t end, bool count, double limit, double *mean) {
    double sum = 0, n = 0;
    for (int64_t i = begin; i < end; i++) {
        const lc_layer *layer = lc_selected_layer(j->layers, i);
        double *rows = lc_alloc((size_t)layer->outputs * sizeof *rows);
        if (!rows) return LC_ENOMEM;
        rows_job r = {j, i, count, limit, rows};
        lc_status status = lc_parallel_range(layer->outputs, 16, sum_rows, &r);
        for (int64_t o = 0; o < layer->outputs && !status; o++) sum += rows[o];
        lc_free(rows);
        LC_TRY(status);
        n += (double)weights_of(j, i);
        if (isnan(sum))
            return lc_fail(LC_EINVAL, "%s: %s: its weights have NaN in them", lc_calibration_name(j->c), layer->name);
    }
    *mean = sum / n;
    return LC_OK;
}

static lc_status count_outliers(const job *j, int64_t begin, int64_t end, double *share) {
    double mean = 0;
    LC_TRY(mean_of(j, begin, end, false, 0, &mean));
    return mean_of(j, begin, end, true, j->M * mean, share);
}

static int block_of(const job *j, int64_t i) {
    return lc_selected_layer(j->layers, i)->block;
}

/* Layers of one block follow each other. */
static lc_status score_blocks(const job *j, double *shares) {
    for (int64_t begin = 0, end; begin < j->layers->n; begin = end) {
        double share;
        end = begin + 1;
        while (end < j->layers->n && block_of(j, begin) >= 0 && block_of(j, end) == block_of(j, begin)) end++;
        LC_TRY(count_outliers(j, begin, end, &share));
        for (int64_t i = begin; i < end; i++) shares[i] = share;
    }
    return LC_OK;
}

lc_status lc_outlier_shares(lc_calibration *c, double M, double *shares) {
    job j = {.c = c, .layers = lc_calibration_layers(c), .M = M};
    j.norms = lc_calloc((size_t)j.layers->n, sizeof *j.norms);
    if (!j.norms) return LC_ENOMEM;
    lc_status status = read_norms(&j);
    if (!status) status = score_blocks(&j, shares);
    for (int64_t i = 0; i < j.layers->n; i++) lc_free(j.norms[i]);
    lc_free(j.norms);
    return status;
}

/* -- targets ------------------------------------------------------------------------------------------------------- */

static double within(double x) {
    return fmin(fmax(x, 0), 1);
}

/* The mean of densities + shift, brought into 0..1, each layer counted by its weights. */
static double mean_density(const lc_selection *layers, const double *densities, double shift) {
    double sum = 0, n = 0;
    for (int64_t i = 0; i < layers->n; i++) {
        double weights = (double)lc_numel(lc_selected_layer(layers, i)->weight->leaf);
        sum += weights * within(densities[i] + shift);
        n += weights;
    }
    return sum / n;
}

/* The shift that gives the mean, by bisection: the mean grows with it. */
static double find_shift(const lc_selection *layers, const double *densities, double mean) {
    double low = -2, high = 2;
    for (int k = 0; k < 80; k++) {
        double middle = (low + high) / 2;
        if (mean_density(layers, densities, middle) < mean)
            low = middle;
        else
            high = middle;
    }
    return high;
}

lc_status lc_allocate(const char *name, const lc_selection *layers, const double *scores, double sparsity,
                      double lambda, double *targets) {
    double least = INFINITY, most = -INFINITY;
    LC_TRY(lc_prune_check_sparsity(name, NULL, sparsity));
    for (int64_t i = 0; i < layers->n; i++) {
        if (!isfinite(scores[i]))
            return lc_fail(LC_EINVAL, "%s: %s: its score %g is not finite", name, lc_selected_layer(layers, i)->name,
                           scores[i]);
        least = fmin(least, scores[i]);
        most = fmax(most, scores[i]);
    }
    if (most == least || lambda == 0) {
        for (int64_t i = 0; i < layers->n; i++) targets[i] = sparsity;
        return LC_OK;
    }
    for (int64_t i = 0; i < layers->n; i++) targets[i] = 2 * lambda * (scores[i] - least) / (most - least);
    double shift = find_shift(layers, targets, 1 - sparsity);
    for (int64_t i = 0; i < layers->n; i++) targets[i] = 1 - within(targets[i] + shift);
    return LC_OK;
}
