/* ria.c: relative importance and activation. See wanda.h. */
#include <math.h>

#include "base/memory.h"
#include "base/pool.h"
#include "ops/op.h"
#include "solve/wanda.h"

typedef struct job {
    int64_t O, I;
    const lc_tensor *W;
    double *columns, *activation; /* (I): sum of |w|; norm to the power */
    double *scores;               /* (O, I) */
} job;

static double magnitude(const job *j, int64_t row, int64_t column) {
    return fabs(lc_get_f64(j->W, lc_position(j->W, row * j->I + column)));
}

/* A sum of 0 belongs to weights that are all 0. */
static double share(double w, double sum) {
    return sum == 0 ? 0 : w / sum;
}

static void sum_columns(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    for (int64_t i = 0; i < j->O; i++)
        for (int64_t k = begin; k < end; k++) j->columns[k] += magnitude(j, i, k);
}

static void score_rows(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    for (int64_t i = begin; i < end; i++) {
        double sum = 0;
        for (int64_t k = 0; k < j->I; k++) sum += magnitude(j, i, k);
        for (int64_t k = 0; k < j->I; k++) {
            double w = magnitude(j, i, k);
            j->scores[i * j->I + k] = (share(w, j->columns[k]) + share(w, sum)) * j->activation[k];
        }
    }
}

static lc_status ria_score(void *context, const lc_layer_stats *stats, lc_tensor *W, lc_scores *out) {
    double power = *(const double *)context, *columns, *activation;
    int64_t O = W->shape[0], I = W->shape[1];
    lc_tensor *sums = NULL, *scores = NULL;
    lc_status status;
    LC_GOTO(done, lc_tensor_zeros(LC_F64, 2, (int64_t[]){2, I}, LC_CPU, &sums));
    LC_GOTO(done, lc_tensor_new(LC_F64, 2, W->shape, LC_CPU, &scores));
    columns = LC_DATA(double, sums);
    activation = columns + I;
    job j = {O, I, W, columns, activation, LC_DATA(double, scores)};
    LC_GOTO(done, lc_parallel_range(I, 16, sum_columns, &j));
    for (int64_t k = 0; k < I; k++) activation[k] = pow(LC_DATA(double, stats->norm)[k], power);
    LC_GOTO(done, lc_parallel_range(O, 16, score_rows, &j));
    out->values = lc_tensor_retain(scores);
done:
    lc_tensor_release(sums);
    lc_tensor_release(scores);
    return status;
}

lc_status lc_prune_ria(lc_calibration *c, double power, const lc_prune_options *options, lc_mask **out) {
    return lc_prune_scored(c, ria_score, &power, options, out);
}
