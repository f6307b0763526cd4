/* trainer.c: the life of one optimizer step. */
#include "run/trainer.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/pool.h"
#include "grad/graph.h"

/* -- making -- */

lc_status lc_trainer_new(lc_model *model, const lc_trainer_options *o, lc_trainer **out) {
    if (o->steps < 1) return lc_fail(LC_EINVAL, "steps = %lld: a loop has at least one step", (long long)o->steps);
    if (o->accumulate < 1) return lc_fail(LC_EINVAL, "accumulate = %lld: at least 1", (long long)o->accumulate);
    if (o->start < 0 || o->start > o->steps)
        return lc_fail(LC_EINVAL, "start = %lld is not within the loop's %lld steps", (long long)o->start,
                       (long long)o->steps);
    lc_trainer *t = lc_calloc(1, sizeof *t);
    if (!t) return LC_ENOMEM;
    t->model = lc_model_retain(model);
    t->options = *o;
    if (o->schedule) lc_schedule_retain(o->schedule);
    t->step = o->start;
    t->rescale = 1;
    *out = t;
    return LC_OK;
}

static void release_batches(lc_trainer *t) {
    for (int64_t i = 0; i < t->n_batches; i++) lc_batch_release(&t->batches[i]);
    lc_free(t->batches);
    t->batches = NULL;
    t->n_batches = 0;
}

void lc_trainer_free(lc_trainer *t) {
    if (!t) return;
    lc_trainer_drop(t);
    release_batches(t);
    lc_loader_free(t->loader);
    lc_optim_close(&t->optim);
    lc_schedule_release(t->options.schedule);
    lc_model_release(t->model);
    lc_free(t);
}

int64_t lc_steps_per_epoch(int64_t batches, int64_t accumulate) {
    return (batches + accumulate - 1) / accumulate;
}

lc_status lc_trainer_read(lc_trainer *t, lc_dataset *data, const lc_loader_options *options) {
    lc_loader *loader = NULL;
    LC_TRY(lc_loader_new(data, options, &loader));
    int64_t per_epoch = lc_steps_per_epoch(lc_loader_batches(loader), t->options.accumulate);
    int64_t index = t->step % per_epoch * t->options.accumulate * options->batch;
    lc_status status = lc_loader_seek(loader, t->step / per_epoch, index);
    if (status) {
        lc_loader_free(loader);
        return status;
    }
    lc_loader_free(t->loader);
    t->loader = loader;
    t->reading = *options;
    lc_dataset_hash(data, t->data_hash);
    return LC_OK;
}

/* -- slots -- */

static lc_status sync_param(void *context, lc_param *p) {
    lc_trainer *t = context;
    lc_slot *slot = NULL;
    LC_TRY(lc_optim_add(&t->optim, p->name, p->leaf, p, &t->options.recipe, &slot));
    slot->from_model = true;
    return LC_OK;
}

lc_status lc_trainer_sync(lc_trainer *t) {
    lc_optim *o = &t->optim;
    for (int64_t i = 0; i < o->n; i++) o->slots[i].param = NULL;
    LC_TRY(lc_model_each_param(t->model, sync_param, t));
    for (int64_t i = o->n; i-- > 0;)
        if (o->slots[i].from_model && !o->slots[i].param) lc_optim_remove(o, i);
    return LC_OK;
}

/* -- begin -- */

/* The step's micro-batches; an epoch's last step may have fewer. */
static lc_status read_batches(lc_trainer *t) {
    int64_t per_epoch = lc_loader_batches(t->loader);
    int64_t steps = lc_steps_per_epoch(per_epoch, t->options.accumulate);
    int64_t first = (t->step - 1) % steps * t->options.accumulate;
    int64_t n = lc_min(t->options.accumulate, per_epoch - first);
    lc_loader_position(t->loader, &t->first_epoch, &t->first_index);
    for (int64_t i = 0; i < n; i++) {
        lc_batch batch = {0};
        LC_TRY(lc_loader_next(t->loader, &batch));
        lc_status status = lc_trainer_give(t, &batch);
        lc_batch_release(&batch);
        LC_TRY(status);
    }
    return LC_OK;
}

lc_status lc_trainer_begin(lc_trainer *t) {
    if (t->moment != LC_STEP_NONE && t->moment != LC_STEP_UPDATED)
        return lc_fail(LC_ESTATE, "step %lld has not ended", (long long)t->step);
    if (t->step >= t->options.steps) return lc_fail(LC_ESTATE, "all %lld steps are done", (long long)t->options.steps);
    if (t->model->stepping && t->model->stepping != t)
        return lc_fail(
            LC_ESTATE,
            "another training loop has a step of this model that is not updated, and both use its gradients; "
            "call t:update() there, leave that loop (an iterator taken by hand: close the fourth value of lc.steps), "
            "or train a clone");
    LC_TRY(lc_trainer_sync(t));
    LC_TRY(lc_optim_clear(&t->optim));
    release_batches(t);
    t->first_dropout_pass = t->model->dropout_pass;
    t->first_mac = lc_macs();
    t->first_dense_mac = lc_dense_macs();
    t->step++;
    t->moment = LC_STEP_BEGUN;
    t->model->stepping = t;
    t->loss = t->grad_norm = 0;
    t->tokens = t->labels = 0;
    t->macs = t->dense_macs = 0;
    t->rescale = 1;
    const lc_trainer_options *o = &t->options;
    t->lr = o->recipe.lr * lc_rate_factor(o->decay, o->schedule, o->warmup, t->step, o->steps);
    t->model->clock.step = t->step;
    t->model->clock.progress = lc_progress(t->step, o->steps);
    return t->loader ? read_batches(t) : LC_OK;
}

/* -- forward -- */

/* Tokens that are not padding. */
static lc_status count_tokens(const lc_batch *b, int64_t *out) {
    *out = lc_numel(b->ids);
    if (!b->attention_mask) return LC_OK;
    lc_tensor *sum = NULL;
    LC_TRY(lc_run(LC_OP_SUM, &(lc_attr){.dim = -1}, (lc_tensor *[]){b->attention_mask}, 1, &sum));
    *out = (int64_t)lc_get_f64(sum, sum->offset);
    lc_tensor_release(sum);
    return LC_OK;
}

static lc_tensor *retain_or_null(lc_tensor *t) {
    return t ? lc_tensor_retain(t) : NULL;
}

lc_status lc_trainer_give(lc_trainer *t, const lc_batch *b) {
    int64_t tokens;
    LC_TRY(count_tokens(b, &tokens));
    lc_batch *grown = lc_realloc(t->batches, (size_t)(t->n_batches + 1) * sizeof *grown);
    if (!grown) return LC_ENOMEM;
    t->batches = grown;
    t->batches[t->n_batches++] = (lc_batch){.ids = lc_tensor_retain(b->ids),
                                            .labels = retain_or_null(b->labels),
                                            .attention_mask = retain_or_null(b->attention_mask),
                                            .token_type_ids = retain_or_null(b->token_type_ids)};
    t->tokens += tokens;
    return LC_OK;
}

/* A step that cannot go on says which, and where the trouble may come from. */
static lc_status not_finite(lc_trainer *t, const char *what) {
    const char *bad = NULL;
    LC_TRY(lc_optim_first_bad(&t->optim, &bad));
    if (bad)
        return lc_fail(LC_ENUMERIC,
                       "step %lld: %s; the first tensor that is not finite itself is %s: it was so "
                       "before this step, so look at the steps before and at how it was loaded",
                       (long long)t->step, what, bad);
    return lc_fail(LC_ENUMERIC,
                   "step %lld: %s, though every weight is; lower lr (now %g), warm up longer, or look "
                   "at this step's data",
                   (long long)t->step, what, t->lr);
}

/* Gradients of skipped tensors are not asked for while this runs. */
static lc_status backward_pending(lc_trainer *t) {
    lc_tensor *loss = t->pending, *seed = NULL;
    if (!loss) return LC_OK; /* nothing to train: the model is wholly frozen */
    lc_status status;
    for (int64_t i = 0; i < t->optim.n; i++) {
        lc_slot *s = &t->optim.slots[i];
        s->suspended = s->skip && s->leaf->requires_grad;
        if (s->suspended) s->leaf->requires_grad = false;
    }
    LC_GOTO(done, lc_tensor_new(loss->dtype, loss->ndim, loss->shape, loss->storage->device, &seed));
    lc_set_f64(seed, seed->offset, t->seed);
    LC_GOTO(done, lc_backward(loss, seed));
    t->pending = NULL;
    lc_tensor_release(loss);
done:
    for (int64_t i = 0; i < t->optim.n; i++)
        if (t->optim.slots[i].suspended) t->optim.slots[i].leaf->requires_grad = true;
    lc_tensor_release(seed);
    return status;
}

/* Whether any tensor of this loop asks for a gradient. */
static bool is_training(const lc_trainer *t) {
    for (int64_t i = 0; i < t->optim.n; i++)
        if (t->optim.slots[i].leaf->requires_grad) return true;
    return false;
}

lc_status lc_trainer_add(lc_trainer *t, lc_tensor *loss, double weight, bool last) {
    if (t->moment != LC_STEP_BEGUN)
        return lc_fail(LC_ESTATE, "step %lld: a loss is added between begin and backward", (long long)t->step);
    if (lc_numel(loss) != 1 || !lc_dtype_is_float(loss->dtype))
        return lc_fail(LC_ESHAPE, "step %lld: the loss must be one number of a floating-point type, not %s of %s",
                       (long long)t->step, LC_SHAPE(loss), lc_dtype_name(loss->dtype));
    double value = lc_get_f64(loss, lc_position(loss, 0));
    if (!isfinite(value)) {
        char what[64];
        snprintf(what, sizeof what, "the loss is not finite (%s)", isnan(value) ? "nan" : value > 0 ? "inf" : "-inf");
        return not_finite(t, what);
    }
    if (!loss->requires_grad && is_training(t))
        return lc_fail(LC_EINVAL,
                       "step %lld: the loss has no gradient, so nothing would be trained: it was computed from none of "
                       "the trained tensors, or under lc.no_grad, or went through :detach()",
                       (long long)t->step);
    t->pending = loss->requires_grad ? lc_tensor_retain(loss) : NULL;
    t->seed = weight;
    t->loss += weight * value;
    if (last) t->moment = LC_STEP_FORWARD;
    return last ? LC_OK : backward_pending(t);
}

lc_status lc_trainer_labels(lc_trainer *t, int64_t index, int64_t *count) {
    lc_tensor *labels = NULL;
    LC_TRY(lc_model_labels(t->model, &t->batches[index], &labels, count));
    lc_tensor_release(labels);
    return LC_OK;
}

lc_status lc_trainer_forward(lc_trainer *t) {
    if (t->moment != LC_STEP_BEGUN)
        return lc_fail(LC_ESTATE, "step %lld: forward comes after begin", (long long)t->step);
    t->labels = 0;
    for (int64_t i = 0; i < t->n_batches; i++) {
        int64_t count;
        LC_TRY(lc_trainer_labels(t, i, &count));
        t->labels += count;
    }
    if (t->labels == 0) return lc_fail(LC_EINVAL, "step %lld: no token of its batches has a label", (long long)t->step);
    lc_loss_options o = {.train = true, .divisor = (double)t->labels};
    for (int64_t i = 0; i < t->n_batches; i++) {
        lc_tensor *loss = NULL;
        LC_TRY(lc_model_loss(t->model, &t->batches[i], &o, &loss));
        lc_status status = lc_trainer_add(t, loss, 1, i == t->n_batches - 1);
        lc_tensor_release(loss);
        LC_TRY(status);
    }
    return LC_OK;
}

void lc_trainer_rescale(lc_trainer *t, double factor) {
    t->loss *= factor;
    t->rescale = factor;
}

/* -- backward -- */

lc_status lc_trainer_skip(lc_trainer *t, lc_tensor *leaf, lc_skip skip) {
    if (t->moment == LC_STEP_UPDATED)
        return lc_fail(LC_ESTATE, "t:skip comes before t:update(); step %lld is updated", (long long)t->step);
    if (t->moment == LC_STEP_NONE) return lc_fail(LC_ESTATE, "t:skip: no step is running");
    lc_slot *slot = lc_optim_find(&t->optim, leaf);
    if (!slot)
        return lc_fail(LC_EINVAL, "t:skip: %s is not trained in this loop", leaf->name ? leaf->name : "this tensor");
    slot->skip = skip;
    return lc_clear_grad(leaf);
}

lc_status lc_trainer_backward(lc_trainer *t) {
    if (t->moment == LC_STEP_BACKWARD) return LC_OK;
    if (t->moment != LC_STEP_FORWARD)
        return lc_fail(LC_ESTATE,
                       t->moment == LC_STEP_UPDATED ? "t:backward: step %lld is updated already"
                                                    : "step %lld: backward comes after forward",
                       (long long)t->step);
    LC_TRY(backward_pending(t));
    LC_TRY(lc_optim_scale(&t->optim, t->rescale));
    t->moment = LC_STEP_BACKWARD;
    t->macs = lc_macs() - t->first_mac;
    t->dense_macs = lc_dense_macs() - t->first_dense_mac;
    return LC_OK;
}

/* -- update -- */

static lc_status norm_now(lc_trainer *t, double *norm) {
    LC_TRY(lc_trainer_backward(t));
    lc_status status = lc_optim_norm(&t->optim, norm);
    if (status != LC_ENUMERIC) return status;
    char what[512];
    snprintf(what, sizeof what, "%s", lc_message());
    return not_finite(t, what);
}

lc_status lc_trainer_norm(lc_trainer *t, double *norm) {
    if (t->moment == LC_STEP_UPDATED) {
        *norm = t->grad_norm;
        return LC_OK;
    }
    return norm_now(t, norm);
}

lc_status lc_trainer_update(lc_trainer *t) {
    if (t->moment == LC_STEP_UPDATED) return LC_OK;
    double norm;
    LC_TRY(norm_now(t, &norm));
    const lc_trainer_options *o = &t->options;
    double rate = lc_rate_factor(o->decay, o->schedule, o->warmup, t->step, o->steps);
    LC_TRY(lc_optim_update(&t->optim, rate, lc_clip_factor(norm, o->clip)));
    t->grad_norm = norm;
    t->total_tokens += t->tokens;
    t->moment = LC_STEP_UPDATED;
    t->model->stepping = NULL;
    return LC_OK;
}

lc_status lc_trainer_drop(lc_trainer *t) {
    if (t->moment == LC_STEP_NONE || t->moment == LC_STEP_UPDATED) return LC_OK;
    lc_tensor_release(t->pending);
    t->pending = NULL;
    t->model->dropout_pass = t->first_dropout_pass;
    t->step--;
    t->moment = LC_STEP_NONE;
    t->model->stepping = NULL;
    LC_TRY(lc_optim_clear(&t->optim));
    return t->loader ? lc_loader_seek(t->loader, t->first_epoch, t->first_index) : LC_OK;
}

/* -- evaluation -- */

lc_status lc_evaluate_batch(lc_model *m, const lc_batch *batch, double *sum, int64_t *count) {
    lc_tensor *labels = NULL, *loss = NULL;
    int64_t n = 0;
    LC_TRY(lc_model_labels(m, batch, &labels, &n));
    lc_tensor_release(labels);
    if (n == 0) return LC_OK;
    bool recording = lc_set_recording(false);
    lc_status status = lc_model_loss(m, batch, NULL, &loss);
    lc_set_recording(recording);
    if (status) return status;
    *sum += (double)n * lc_get_f64(loss, loss->offset);
    *count += n;
    lc_tensor_release(loss);
    return LC_OK;
}

lc_status lc_evaluate(lc_model *m, lc_dataset *data, int64_t batch_size, double *sum, int64_t *count) {
    lc_loader *loader = NULL;
    LC_TRY(lc_loader_new(data, &(lc_loader_options){.batch = batch_size, .in_order = true}, &loader));
    lc_status status = LC_OK;
    for (int64_t i = 0; i < lc_loader_batches(loader) && !status; i++) {
        lc_batch batch = {0};
        status = lc_loader_next(loader, &batch);
        if (!status) status = lc_evaluate_batch(m, &batch, sum, count);
        lc_batch_release(&batch);
    }
    lc_loader_free(loader);
    return status;
}
