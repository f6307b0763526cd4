/* sample.c: see sample.h. */
#include "model/sample.h"

#include <math.h>

#include "base/memory.h"
#include "ops/op.h"

static lc_status largest(lc_tensor *logits, int64_t *out) {
    lc_tensor *index = NULL;
    LC_TRY(lc_run(LC_OP_ARGMAX, &(lc_attr){.dim = -1}, &logits, 1, &index));
    *out = lc_get_i64(index, index->offset);
    lc_tensor_release(index);
    return LC_OK;
}

/* Draws a place of the n weights, which sum to `total`. */
static int64_t draw(const double *weights, int64_t n, double total, lc_stream *stream) {
    double left = lc_stream_uniform(stream) * total;
    for (int64_t i = 0; i < n; i++) {
        left -= weights[i];
        if (left < 0) return i;
    }
    return n - 1; /* rounding */
}

/* From logits in descending order: how many stay, and their unnormalised probabilities, whose sum goes to *total. */
static int64_t cut(lc_tensor *sorted, double temperature, int64_t top_k, double top_p, double *weights, double *total) {
    int64_t n = sorted->shape[0];
    double most = lc_get_f64(sorted, sorted->offset), all = 0;
    if (top_k > 0) n = lc_min(n, top_k);
    for (int64_t i = 0; i < n; i++) {
        weights[i] = exp((lc_get_f64(sorted, lc_position(sorted, i)) - most) / temperature);
        all += weights[i];
    }
    double sum = 0;
    int64_t kept = 0;
    while (kept < n && (kept == 0 || sum < top_p * all)) sum += weights[kept++];
    *total = sum;
    return kept;
}

lc_status lc_sample(lc_tensor *logits, double temperature, int64_t top_k, double top_p, lc_stream *stream,
                    int64_t *out) {
    int64_t best;
    LC_TRY(largest(logits, &best));
    if (isnan(lc_get_f64(logits, lc_position(logits, best)))) /* NaN wins every comparison of argmax */
        return lc_fail(LC_ENUMERIC, "generate: the model's logits are not numbers (NaN): its weights are broken");
    if (temperature <= 0) {
        *out = best;
        return LC_OK;
    }
    lc_tensor *sorted[LC_MAX_OUT] = {NULL};
    double *weights = lc_alloc((size_t)logits->shape[0] * sizeof *weights), total;
    if (!weights) return LC_ENOMEM;
    lc_status status = lc_run(LC_OP_SORT, &(lc_attr){.descending = true}, &logits, 1, sorted);
    if (!status) {
        int64_t kept = cut(sorted[0], temperature, top_k, top_p, weights, &total);
        int64_t place = draw(weights, kept, total, stream);
        *out = lc_get_i64(sorted[1], lc_position(sorted[1], place));
    }
    lc_tensor_release(sorted[0]);
    lc_tensor_release(sorted[1]);
    lc_free(weights);
    return status;
}
