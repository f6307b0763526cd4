/* evaluate.c: perplexity, exp of the mean negative log-likelihood of the next token, by two protocols. */
#include <math.h>

#include "base/pool.h"
#include "grad/graph.h"
#include "model/model.h"

#define LONGEST_WINDOW 2048
#define TOKENS_PER_BATCH 4096

typedef struct evaluation {
    lc_model *model;
    const int32_t *tokens;
    lc_tensor *ids, *labels; /* (rows, length) i64 */
    double sum;              /* of the negative log-likelihoods */
    int64_t scored, windows;
} evaluation;

static void close_batch(evaluation *e) {
    lc_tensor_release(e->ids);
    lc_tensor_release(e->labels);
    e->ids = e->labels = NULL;
}

static lc_status open_batch(evaluation *e, int64_t rows, int64_t length) {
    int64_t shape[] = {rows, length};
    close_batch(e);
    LC_TRY(lc_tensor_new(LC_I64, 2, shape, LC_CPU, &e->ids));
    return lc_tensor_new(LC_I64, 2, shape, LC_CPU, &e->labels);
}

/* Row `row` is the window at `begin`; its last `targets` tokens are scored, as far as a token stands before them. */
static void fill_row(evaluation *e, int64_t row, int64_t begin, int64_t targets) {
    int64_t length = e->ids->shape[1];
    for (int64_t i = 0; i < length; i++) {
        bool scored = i >= length - targets && i > 0;
        LC_DATA(int64_t, e->ids)[row * length + i] = e->tokens[begin + i];
        LC_DATA(int64_t, e->labels)[row * length + i] = scored ? e->tokens[begin + i] : LC_IGNORE_LABEL;
    }
    e->windows++;
}

lc_status lc_model_score(lc_model *m, const lc_batch *batch, double *sum, int64_t *count) {
    lc_tensor *labels = NULL, *loss = NULL;
    int64_t labelled;
    LC_TRY(lc_model_labels(m, batch, &labels, &labelled));
    lc_tensor_release(labels);
    bool before = lc_set_recording(false);
    lc_status status = lc_model_loss(m, batch, &(lc_loss_options){.divisor = 1}, &loss);
    lc_set_recording(before);
    LC_TRY(status);
    *sum += lc_get_f64(loss, loss->offset);
    *count += labelled;
    lc_tensor_release(loss);
    return LC_OK;
}

static lc_status score_batch(evaluation *e) {
    lc_batch batch = {.ids = e->ids, .labels = e->labels};
    LC_TRY(lc_poll());
    return lc_model_score(e->model, &batch, &e->sum, &e->scored);
}

/* `count` windows of one length, every `stride` tokens from `begin`, several at a time. */
static lc_status score_windows(evaluation *e, int64_t begin, int64_t count, int64_t length, int64_t stride,
                               int64_t targets) {
    int64_t most = lc_max(1, TOKENS_PER_BATCH / length);
    for (int64_t done = 0; done < count; done += most) {
        int64_t rows = lc_min(most, count - done);
        if (!e->ids || e->ids->shape[0] != rows || e->ids->shape[1] != length) LC_TRY(open_batch(e, rows, length));
        for (int64_t r = 0; r < rows; r++) fill_row(e, r, begin + (done + r) * stride, targets);
        LC_TRY(score_batch(e));
    }
    return LC_OK;
}

/* All of the text: the first window whole, then those that end within it and score their last `stride` tokens, then the
 * tail. */
static lc_status score_strided(evaluation *e, int64_t n, int64_t window, int64_t stride) {
    if (n <= window) return score_windows(e, 0, 1, n, stride, n);
    int64_t whole = (n - window) / stride, begin = (whole + 1) * stride, rest = n - window - whole * stride;
    LC_TRY(score_windows(e, 0, 1, window, stride, window));
    LC_TRY(score_windows(e, stride, whole, window, stride, stride));
    return rest ? score_windows(e, begin, 1, n - begin, stride, rest) : LC_OK;
}

static lc_status check_options(const lc_model *m, int64_t n, lc_protocol protocol, int64_t window, int64_t stride) {
    if (window < 2 || window > m->sizes.positions)
        return lc_fail(LC_EINVAL, "perplexity: window is %lld; this model takes 2 to %lld", (long long)window,
                       (long long)m->sizes.positions);
    if (stride < 1 || stride > window)
        return lc_fail(LC_EINVAL, "perplexity: stride is %lld; it must be 1 to the window, %lld", (long long)stride,
                       (long long)window);
    if (protocol == LC_PERPLEXITY_WINDOWS && stride != window)
        return lc_fail(LC_EINVAL, "perplexity: protocol 'windows' has no stride; use protocol = 'strided'");
    int64_t least = protocol == LC_PERPLEXITY_WINDOWS ? window : 2;
    if (n < least)
        return lc_fail(LC_EINVAL,
                       "perplexity: the text has %lld tokens, fewer than %lld; use more text or a smaller window",
                       (long long)n, (long long)least);
    return LC_OK;
}

lc_status lc_model_perplexity(lc_model *m, const int32_t *tokens, int64_t n, const lc_perplexity_options *options,
                              lc_perplexity_result *out) {
    bool strided = options->protocol == LC_PERPLEXITY_STRIDED;
    int64_t window = options->window ? options->window : lc_min(m->sizes.positions, LONGEST_WINDOW);
    int64_t stride = options->stride ? options->stride : strided ? lc_max(1, window / 2) : window;
    LC_TRY(check_options(m, n, options->protocol, window, stride));
    if (options->windows) n = lc_min(n, window + (options->windows - 1) * stride);
    evaluation e = {.model = m, .tokens = tokens};
    lc_status status =
        strided ? score_strided(&e, n, window, stride) : score_windows(&e, 0, n / window, window, window, window);
    close_batch(&e);
    LC_TRY(status);
    *out = (lc_perplexity_result){exp(e.sum / (double)e.scored), e.scored, e.windows};
    return LC_OK;
}
