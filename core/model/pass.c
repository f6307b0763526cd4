/* pass.c: forward passes: hidden states, logits, the loss. */
#include <string.h>

#include "grad/graph.h"
#include "model/family.h"

/* -- what goes in ------------------------------------------------------------------------------- */

static lc_status check_integers(const lc_tensor *t, const char *name, const lc_tensor *ids) {
    if (t->dtype != LC_I64 && t->dtype != LC_I32 && !(strcmp(name, "attention_mask") == 0 && t->dtype <= LC_I64))
        return lc_fail(LC_EDTYPE, "%s is %s; it must hold integers (i64 or i32)", name, lc_dtype_name(t->dtype));
    if (!lc_same_shape(t, ids)) return lc_fail(LC_ESHAPE, "%s is %s, ids are %s", name, LC_SHAPE(t), LC_SHAPE(ids));
    return LC_OK;
}

lc_status lc_batch_check(lc_model *m, const lc_batch *batch) {
    const lc_tensor *ids = batch->ids;
    if (!ids) return lc_fail(LC_EINVAL, "a batch needs ids (B, T)");
    if (ids->ndim != 2 || !lc_numel(ids))
        return lc_fail(LC_ESHAPE, "ids are %s; they must be (B, T), neither of them 0", LC_SHAPE(ids));
    LC_TRY(check_integers(ids, "ids", ids));
    if (batch->labels) LC_TRY(check_integers(batch->labels, "labels", ids));
    if (batch->attention_mask) LC_TRY(check_integers(batch->attention_mask, "attention_mask", ids));
    if (batch->token_type_ids) LC_TRY(check_integers(batch->token_type_ids, "token_type_ids", ids));
    if (ids->shape[1] > m->sizes.positions)
        return lc_fail(LC_ESHAPE, "the input has %lld tokens; this %s takes at most %lld", (long long)ids->shape[1],
                       m->family->name, (long long)m->sizes.positions);
    return LC_OK;
}

/* 0, 1, ..., n - 1. */
static lc_status count_up(int64_t n, lc_tensor **out) {
    LC_TRY(lc_tensor_new(LC_I64, 1, &n, LC_CPU, out));
    for (int64_t i = 0; i < n; i++) LC_DATA(int64_t, *out)[i] = i;
    return LC_OK;
}

/* The mask as bool; NULL when it masks nothing, which is the faster way through attention. */
static lc_status keep_of(lc_tensor *mask, lc_tensor **out) {
    *out = NULL;
    if (!mask) return LC_OK;
    lc_tensor *zero = NULL, *keep = NULL, *all = NULL;
    lc_status status;
    LC_GOTO(done, lc_tensor_scalar(mask->dtype, 0, &zero));
    LC_GOTO(done, lc_run(LC_OP_NE, NULL, (lc_tensor *[]){mask, zero}, 2, &keep));
    LC_GOTO(done, lc_run(LC_OP_ALL, &(lc_attr){.dim = -1}, &keep, 1, &all));
    if (!lc_get_i64(all, all->offset)) *out = lc_tensor_retain(keep);
done:
    lc_tensor_release(zero);
    lc_tensor_release(keep);
    lc_tensor_release(all);
    return status;
}

/* The place of each token among those that are kept (B, T); -1 for padding. */
static lc_status count_kept(const lc_tensor *keep, lc_tensor **out) {
    int64_t B = keep->shape[0], T = keep->shape[1];
    LC_TRY(lc_tensor_new(LC_I64, 2, keep->shape, LC_CPU, out));
    for (int64_t b = 0; b < B; b++) {
        int64_t kept = 0;
        for (int64_t i = b * T; i < (b + 1) * T; i++)
            LC_DATA(int64_t, *out)[i] = lc_get_i64(keep, lc_position(keep, i)) ? kept++ : -1;
    }
    return LC_OK;
}

/* -- passes ------------------------------------------------------------------------------------- */

static lc_tensor *retain(lc_tensor *t) {
    return t ? lc_tensor_retain(t) : NULL;
}

void lc_pass_close(lc_pass *pass) {
    lc_tensor_release(pass->ids);
    lc_tensor_release(pass->positions);
    lc_tensor_release(pass->token_types);
    lc_tensor_release(pass->keep);
    lc_tensor_release(pass->inv_freq);
    *pass = (lc_pass){0};
}

lc_status lc_pass_place(lc_model *m, lc_tensor *positions, int64_t length, lc_pass *pass) {
    if (m->rotary) {
        LC_TRY(lc_rotary_frequencies(m->rotary, length, m->dtype, &pass->inv_freq));
        pass->rotary_scale = lc_rotary_scale(m->rotary);
    }
    pass->positions = lc_tensor_retain(positions);
    return LC_OK;
}

lc_status lc_pass_open(lc_model *m, const lc_batch *batch, bool train, lc_pass *out) {
    LC_TRY(lc_batch_check(m, batch));
    lc_pass pass = {.ids = lc_tensor_retain(batch->ids), .token_types = retain(batch->token_type_ids), .train = train};
    pass.dropout_seed = m->dropout_seed;
    pass.dropout_pass = m->dropout_pass;
    int64_t tokens = batch->ids->shape[1];
    lc_tensor *positions = NULL;
    lc_status status;
    LC_GOTO(failed, keep_of(batch->attention_mask, &pass.keep));
    if (pass.keep && m->family->positions_by_mask)
        LC_GOTO(failed, count_kept(pass.keep, &positions));
    else
        LC_GOTO(failed, count_up(tokens, &positions));
    LC_GOTO(failed, lc_pass_place(m, positions, tokens, &pass));
    lc_tensor_release(positions);
    *out = pass;
    return LC_OK;
failed:
    lc_tensor_release(positions);
    lc_pass_close(&pass);
    return status;
}

lc_status lc_model_pass(lc_model *m, const lc_pass *pass, lc_tensor **hidden) {
    LC_TRY(lc_model_enforce(m));
    lc_tensor *x = NULL;
    LC_TRY(m->family->embed(m, pass, &x));
    bool recompute = m->recompute && pass->train && lc_recording();
    for (int64_t i = 0; i < m->n_blocks; i++) {
        lc_tensor *y = NULL;
        lc_status status =
            recompute ? lc_block_recomputed(m, m->blocks[i], pass, x, &y) : lc_block_forward(m->blocks[i], pass, x, &y);
        lc_tensor_release(x);
        LC_TRY(status);
        x = y;
    }
    lc_status status = m->family->finish(m, pass, x, hidden);
    lc_tensor_release(x);
    return status;
}

lc_status lc_model_hidden(lc_model *m, const lc_batch *batch, bool train, lc_tensor **hidden) {
    lc_pass pass = {0};
    LC_TRY(lc_pass_open(m, batch, train, &pass));
    m->clock.training = train;
    lc_clock_show(&m->clock);
    lc_status status = lc_model_pass(m, &pass, hidden);
    if (!status && train) m->dropout_pass++;
    lc_pass_close(&pass);
    return status;
}

lc_status lc_model_logits(lc_model *m, const lc_batch *batch, bool train, lc_tensor **logits) {
    lc_tensor *hidden = NULL;
    LC_TRY(lc_model_hidden(m, batch, train, &hidden));
    lc_status status = lc_layer_forward(m->head, hidden, LC_ACT_NONE, logits);
    lc_tensor_release(hidden);
    return status;
}

/* -- the loss ----------------------------------------------------------------------------------- */

static int64_t integer_at(const lc_tensor *t, int64_t index) {
    return lc_get_i64(t, lc_position(t, index));
}

/* What position `from` is to predict: the label of `index`. Without labels neither of the two may be padding. */
static int64_t label_at(const lc_batch *batch, int64_t from, int64_t index) {
    if (batch->labels) return integer_at(batch->labels, index);
    const lc_tensor *mask = batch->attention_mask;
    if (mask && !(integer_at(mask, from) && integer_at(mask, index))) return LC_IGNORE_LABEL;
    return integer_at(batch->ids, index);
}

lc_status lc_model_labels(lc_model *m, const lc_batch *batch, lc_tensor **labels, int64_t *count) {
    LC_TRY(lc_batch_check(m, batch));
    int64_t B = batch->ids->shape[0], T = batch->ids->shape[1], shift = m->family->causal ? 1 : 0, labelled = 0;
    lc_tensor *shifted = NULL;
    LC_TRY(lc_tensor_new(LC_I64, 2, batch->ids->shape, LC_CPU, &shifted));
    for (int64_t i = 0; i < B * T; i++) {
        int64_t label = i % T + shift < T ? label_at(batch, i, i + shift) : LC_IGNORE_LABEL;
        if (label != LC_IGNORE_LABEL && (label < 0 || label >= m->sizes.vocabulary)) {
            lc_tensor_release(shifted);
            return lc_fail(LC_EINVAL, "label %lld is outside 0..%lld; use %d for what is not to be learned",
                           (long long)label, (long long)m->sizes.vocabulary - 1, LC_IGNORE_LABEL);
        }
        labelled += label != LC_IGNORE_LABEL;
        LC_DATA(int64_t, shifted)[i] = label;
    }
    *labels = shifted;
    if (count) *count = labelled;
    return LC_OK;
}

/* Through logits that exist whole: where they are wanted, or the head is more than a product with its weight. */
static lc_status loss_by_logits(lc_model *m, lc_tensor *hidden, lc_tensor *labels, const lc_attr *attr, lc_tensor **out,
                                lc_tensor **loss) {
    lc_tensor *logits = NULL, *flat = NULL, *result[LC_MAX_OUT] = {NULL};
    int64_t shape[] = {lc_numel(labels), m->head->outputs};
    LC_TRY(lc_layer_forward(m->head, hidden, LC_ACT_NONE, &logits));
    lc_status status;
    LC_GOTO(done, lc_reshape(logits, 2, shape, &flat));
    LC_GOTO(done, lc_apply(LC_OP_CROSS_ENTROPY, attr, (lc_tensor *[]){flat, labels}, 2, result));
    *loss = result[0];
    lc_tensor_release(result[1]);
    if (out) *out = lc_tensor_retain(logits);
done:
    lc_tensor_release(flat);
    lc_tensor_release(logits);
    return status;
}

/* The head's products that were left out after it did `done`: those of tokens without a label, and what is frozen. In
 * a causal model the last token of a row predicts nothing, labels or not. */
static void count_skipped(const lc_model *m, const lc_batch *batch, uint64_t done) {
    int64_t tokens = batch->ids->shape[0] * (batch->ids->shape[1] - (m->family->causal ? 1 : 0));
    uint64_t product = (uint64_t)(tokens * m->head->outputs * m->sizes.width);
    lc_macs_skip(product * (lc_recording() ? 3 : 1) - done);
}

/* Head and loss in one, in chunks of tokens: logits never exist whole, nor does their gradient. */
static lc_status loss_in_chunks(lc_model *m, const lc_batch *batch, lc_tensor *hidden, lc_tensor *labels, lc_attr attr,
                                lc_tensor **loss) {
    lc_tensor *w = NULL, *flat = NULL, *result[LC_MAX_OUT] = {NULL};
    int64_t shape[] = {lc_numel(labels), m->head->inputs};
    LC_TRY(lc_layer_weight(m->head, &w));
    lc_status status;
    LC_GOTO(done, lc_reshape(hidden, 2, shape, &flat));
    attr.train = lc_recording() && (flat->requires_grad || w->requires_grad);
    uint64_t before = lc_macs();
    LC_GOTO(done, lc_apply(LC_OP_LINEAR_CROSS_ENTROPY, &attr, (lc_tensor *[]){flat, w, labels}, 3, result));
    count_skipped(m, batch, lc_macs() - before);
    *loss = result[0];
    lc_tensor_release(result[1]);
    lc_tensor_release(result[2]);
done:
    lc_tensor_release(w);
    lc_tensor_release(flat);
    return status;
}

lc_status lc_model_loss(lc_model *m, const lc_batch *batch, const lc_loss_options *options, lc_tensor **loss) {
    static const lc_loss_options defaults;
    if (!options) options = &defaults;
    lc_tensor *labels = NULL, *flat = NULL, *hidden = NULL;
    int64_t count;
    lc_status status;
    LC_TRY(lc_model_labels(m, batch, &labels, &count));
    if (!count && options->divisor == 0) {
        lc_tensor_release(labels);
        return lc_fail(LC_EINVAL, "loss: no token of this batch has a label; give labels that are not all %d",
                       LC_IGNORE_LABEL);
    }
    lc_attr attr = {.a = options->divisor};
    int64_t tokens = lc_numel(labels);
    LC_GOTO(done, lc_view_reshape(labels, 1, &tokens, &flat));
    LC_GOTO(done, lc_model_hidden(m, batch, options->train, &hidden));
    if (options->logits || m->head->product || m->head->bias)
        status = loss_by_logits(m, hidden, flat, &attr, options->logits, loss);
    else
        status = loss_in_chunks(m, batch, hidden, flat, attr, loss);
done:
    lc_tensor_release(labels);
    lc_tensor_release(flat);
    lc_tensor_release(hidden);
    return status;
}
