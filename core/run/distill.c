/* distill.c: the loss of distillation, head included, in chunks of tokens. */
#include "run/distill.h"

#include "base/memory.h"
#include "grad/graph.h"
#include "grad/scratch.h"

#define CHUNK_NUMBERS (4 << 20) /* logits of one chunk */

/* One loss: what it is made of, and the student's gradients, made with it. */
typedef struct distillation {
    double temperature, alpha;
    lc_tensor *teacher, *teacher_head; /* (N, C'), (V, C') */
    lc_tensor *labels;                 /* (N) */
    lc_tensor *dx, *dw;                /* (N, C), (V, C): for a loss gradient of 1 */
} distillation;

static void release(void *context) {
    distillation *d = context;
    lc_tensor *held[] = {d->teacher, d->teacher_head, d->labels, d->dx, d->dw};
    for (int i = 0; i < 5; i++) lc_tensor_release(held[i]);
    lc_free(d);
}

/* -- a chunk -- */

/* log softmax of x w^T / T. */
static lc_tensor *log_probabilities(lc_scratch *s, lc_tensor *logits, double temperature) {
    return lc_step1(s, LC_OP_LOG_SOFTMAX, lc_step_times(s, logits, 1 / temperature));
}

/* Rows [start, start + n): adds to the loss and to dw, writes their dx. Per token, with p = softmax(z / T):
 * d/dz of T^2 KL is T (p_student - p_teacher). */
static lc_status add_chunk(distillation *d, lc_tensor *x, lc_tensor *w, int64_t start, int64_t n, double *loss) {
    lc_scratch s = {0};
    double N = (double)x->shape[0], T = d->temperature;
    lc_tensor *rows = lc_step_slice(&s, x, 0, start, n), *labels = lc_step_slice(&s, d->labels, 0, start, n);
    lc_tensor *z = lc_step_matmul(&s, rows, lc_step_swap(&s, w), NULL);
    lc_tensor *teacher =
        lc_step_matmul(&s, lc_step_slice(&s, d->teacher, 0, start, n), lc_step_swap(&s, d->teacher_head), NULL);
    lc_tensor *ls = log_probabilities(&s, z, T), *lt = log_probabilities(&s, teacher, T);
    lc_tensor *p = lc_step1(&s, LC_OP_EXP, lt);
    lc_tensor *kl = lc_step_dim(&s, LC_OP_SUM, lc_step2(&s, LC_OP_MUL, p, lc_step2(&s, LC_OP_SUB, lt, ls)), -1);
    lc_tensor *dz = lc_step_times(&s, lc_step2(&s, LC_OP_SUB, lc_step1(&s, LC_OP_EXP, ls), p), d->alpha * T / N);

    lc_attr divisor = {.a = N};
    lc_tensor *ce_out[LC_MAX_OUT] = {0}, *one = lc_step_filled(&s, x, x->dtype, 0, NULL, 1 - d->alpha);
    lc_tensor *ce = lc_step(&s, LC_OP_CROSS_ENTROPY, &divisor, (lc_tensor *[]){z, labels}, 2, ce_out);
    lc_tensor *dce =
        lc_step(&s, LC_OP_CROSS_ENTROPY_BACKWARD, &divisor, (lc_tensor *[]){z, labels, ce_out[1], one}, 4, NULL);
    dz = lc_step2(&s, LC_OP_ADD, dz, dce);

    if (!s.status) {
        *loss += d->alpha * T * T * lc_get_f64(kl, kl->offset) / N + (1 - d->alpha) * lc_get_f64(ce, ce->offset);
        lc_tensor *dx = lc_step_matmul(&s, dz, w, NULL);
        lc_step_matmul(&s, lc_step_swap(&s, dz), rows, d->dw);
        lc_tensor *into = lc_step_slice(&s, d->dx, 0, start, n);
        if (!s.status) s.status = lc_copy_into(into, dx);
    }
    lc_rule_call none = {0};
    return lc_scratch_finish(&s, &none);
}

static lc_status forward(void *context, lc_tensor *const *in, int n_in, lc_tensor **out, int *n_out) {
    (void)n_in;
    distillation *d = context;
    lc_tensor *x = in[0], *w = in[1];
    LC_TRY(lc_tensor_new(x->dtype, 2, x->shape, LC_CPU, &d->dx));
    LC_TRY(lc_tensor_zeros(w->dtype, 2, w->shape, LC_CPU, &d->dw));
    int64_t most = lc_max(16, CHUNK_NUMBERS / w->shape[0]);
    double loss = 0;
    for (int64_t start = 0; start < x->shape[0]; start += most)
        LC_TRY(add_chunk(d, x, w, start, lc_min(most, x->shape[0] - start), &loss));
    LC_TRY(lc_tensor_scalar(x->dtype, loss, out));
    *n_out = 1;
    return LC_OK;
}

static lc_status backward(void *context, lc_tensor *const *dy, int n_out, const bool *wanted, lc_tensor **dx,
                          int n_in) {
    (void)n_out, (void)n_in;
    distillation *d = context;
    lc_tensor *made[] = {d->dx, d->dw};
    for (int i = 0; i < 2; i++)
        if (wanted[i]) LC_TRY(lc_run(LC_OP_MUL, NULL, (lc_tensor *[]){made[i], dy[0]}, 2, &dx[i]));
    return LC_OK;
}

/* -- two models -- */

static lc_status check(lc_model *student, lc_model *teacher, const lc_distill_options *o) {
    if (!(o->temperature > 0))
        return lc_fail(LC_EINVAL, "distill: temperature must be above 0, got %g", o->temperature);
    if (!(o->alpha >= 0 && o->alpha <= 1)) return lc_fail(LC_EINVAL, "distill: alpha is from 0 to 1, got %g", o->alpha);
    lc_layer *heads[] = {student->head, teacher->head};
    for (int i = 0; i < 2; i++)
        if (heads[i]->bias || heads[i]->product)
            return lc_fail(LC_ESTATE, "distill: the %s's head has a %s; use lc.loss.kl on logits",
                           i ? "teacher" : "student", heads[i]->bias ? "bias" : "replaced product");
    if (student->head->outputs != teacher->head->outputs)
        return lc_fail(LC_ESHAPE,
                       "distill: the student knows %lld tokens and the teacher %lld; they must share a tokenizer",
                       (long long)student->head->outputs, (long long)teacher->head->outputs);
    return LC_OK;
}

/* The hidden states (n, C) of the tokens numbered by `chosen`. */
static lc_status hidden_rows(lc_model *m, const lc_batch *batch, bool train, lc_tensor *chosen, lc_tensor **out) {
    lc_tensor *hidden = NULL, *flat = NULL;
    LC_TRY(lc_model_hidden(m, batch, train, &hidden));
    int64_t shape[] = {hidden->shape[0] * hidden->shape[1], hidden->shape[2]};
    lc_status status = lc_reshape(hidden, 2, shape, &flat);
    if (!status) status = lc_apply(LC_OP_INDEX, &(lc_attr){.dim = 0}, (lc_tensor *[]){flat, chosen}, 2, out);
    lc_tensor_release(flat);
    lc_tensor_release(hidden);
    return status;
}

/* What the teacher gives, without a graph. */
static lc_status read_teacher(lc_model *teacher, const lc_batch *batch, lc_tensor *chosen, lc_dtype dtype,
                              distillation *d) {
    bool recording = lc_set_recording(false);
    lc_tensor *rows = NULL, *w = NULL;
    lc_status status = hidden_rows(teacher, batch, false, chosen, &rows);
    if (!status) status = lc_layer_weight(teacher->head, &w);
    if (!status) status = lc_cast(rows, dtype, &d->teacher);
    if (!status) status = lc_cast(w, dtype, &d->teacher_head);
    lc_tensor_release(rows);
    lc_tensor_release(w);
    lc_set_recording(recording);
    return status;
}

/* Numbers of the labelled tokens, and their labels. */
static lc_status choose_labelled(lc_model *m, const lc_batch *batch, lc_tensor **chosen, lc_tensor **labels) {
    lc_tensor *all = NULL;
    int64_t count, at = 0;
    LC_TRY(lc_model_labels(m, batch, &all, &count));
    lc_status status = LC_OK;
    if (!count) status = lc_fail(LC_EINVAL, "distill: no token of this batch has a label");
    if (!status) status = lc_tensor_new(LC_I64, 1, &count, LC_CPU, chosen);
    if (!status) status = lc_tensor_new(LC_I64, 1, &count, LC_CPU, labels);
    for (int64_t i = 0; !status && i < lc_numel(all); i++) {
        int64_t label = LC_DATA(int64_t, all)[i];
        if (label == LC_IGNORE_LABEL) continue;
        LC_DATA(int64_t, *chosen)[at] = i;
        LC_DATA(int64_t, *labels)[at++] = label;
    }
    lc_tensor_release(all);
    return status;
}

lc_status lc_distill(lc_model *student, const lc_batch *batch, lc_model *teacher, const lc_batch *teacher_batch,
                     const lc_distill_options *o, lc_tensor **loss, int64_t *count) {
    LC_TRY(check(student, teacher, o));
    distillation *d = lc_calloc(1, sizeof *d);
    if (!d) return LC_ENOMEM;
    d->temperature = o->temperature;
    d->alpha = o->alpha;
    lc_tensor *chosen = NULL, *in[2] = {0};
    int made = 0;
    lc_status status;
    LC_GOTO(done, choose_labelled(student, batch, &chosen, &d->labels));
    LC_GOTO(done, hidden_rows(student, batch, o->train, chosen, &in[0]));
    LC_GOTO(done, lc_layer_weight(student->head, &in[1]));
    LC_GOTO(done, read_teacher(teacher, teacher_batch ? teacher_batch : batch, chosen, in[0]->dtype, d));
    lc_external external = {d, forward, backward, release, "distill"};
    int64_t n = chosen->shape[0];
    d = NULL; /* the external owns it */
    LC_GOTO(done, lc_apply_external(&external, in, 2, loss, &made));
    if (count) *count = n;
done:
    if (d) release(d);
    lc_tensor_release(chosen);
    lc_tensor_release(in[0]);
    lc_tensor_release(in[1]);
    return status;
}
