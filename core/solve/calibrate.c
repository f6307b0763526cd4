/* calibrate.c: see calibrate.h. The text is kept as slices of about a thousand tokens, each with its pass and its hidden
 * states. */
#include "solve/calibrate.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/pool.h"
#include "grad/graph.h"
#include "model/family.h"
#include "ops/gemm.h"

enum {
    SLICE_TOKENS = 1024, /* that run through a block at once */
    COLUMNS = 64         /* of an input whose squares one task sums */
};

/* The inputs that a block's linear layers have; each is seen at one layer, and stands for all that share it. */
typedef enum place { ATTENTION_IN, ATTENTION_OUT, MLP_IN, MLP_OUT, HEAD_IN, PLACES } place;

typedef struct input {
    bool ready;       /* the sums are complete */
    lc_layer *seen;   /* where it is watched */
    int64_t tokens;   /* summed so far */
    lc_tensor *norm;  /* (I) f64; until ready, squares */
    lc_tensor *H;     /* (I, I) f64; until ready, the lower triangle */
    lc_tensor *input; /* (n, I) */
} input;

typedef struct slice {
    lc_pass pass;
    lc_tensor *x; /* (B, T, C): what goes into the block at hand */
} slice;

struct lc_calibration {
    char *name;
    lc_model *model; /* borrowed: the selection holds it */
    lc_selection *layers;
    lc_calibrate_options options;
    int64_t n_slices;
    slice *slices;
    int64_t rows;   /* of the text */
    int64_t tokens; /* without padding */
    int64_t next;   /* the layer to give, in the selection */
    int64_t block;  /* whose inputs the slices hold; the number of blocks: the head's */
    input inputs[PLACES];
    int to_see;           /* places that the running pass has not shown yet */
    const slice *running; /* the slice in the pass */
    bool whole;           /* the running pass goes on to the block's end */
    bool final;           /* and no other will follow it */
    lc_observer observer;
};

/* -- making -------------------------------------------------------------------------------------------------------- */

lc_status lc_calibration_new(const char *name, const lc_selection *layers, const lc_calibrate_options *options,
                             lc_calibration **out) {
    if (layers->part != LC_PART_LINEAR)
        return lc_fail(LC_EINVAL, "%s: calibrates linear layers; take model:linears()", name);
    for (int64_t i = 0; i < layers->n; i++) {
        const lc_layer *layer = lc_selected_layer(layers, i);
        if (layer->block < 0 && layer != layer->model->head)
            return lc_fail(LC_EINVAL,
                           "%s: %s (%s) lies outside the blocks, where no inputs are collected; take model:linears()",
                           name, layer->name, layer->role);
    }
    lc_calibration *c = lc_calloc(1, sizeof *c);
    if (!c) return LC_ENOMEM;
    if (!(c->name = lc_strdup(name))) {
        lc_free(c);
        return LC_ENOMEM;
    }
    c->layers = lc_selection_retain((lc_selection *)layers);
    c->model = layers->model;
    c->options = *options;
    *out = c;
    return LC_OK;
}

static void drop_input(input *in) {
    lc_tensor_release(in->norm);
    lc_tensor_release(in->H);
    lc_tensor_release(in->input);
    *in = (input){0};
}

static void drop_inputs(lc_calibration *c) {
    for (int i = 0; i < PLACES; i++) drop_input(&c->inputs[i]);
}

static void drop_slice(slice *s) {
    lc_pass_close(&s->pass);
    lc_tensor_release(s->x);
    *s = (slice){0};
}

void lc_calibration_free(lc_calibration *c) {
    if (!c) return;
    drop_inputs(c);
    for (int64_t i = 0; i < c->n_slices; i++) drop_slice(&c->slices[i]);
    lc_free(c->slices);
    lc_selection_release(c->layers);
    lc_free(c->name);
    lc_free(c);
}

const char *lc_calibration_name(const lc_calibration *c) {
    return c->name;
}

lc_selection *lc_calibration_layers(const lc_calibration *c) {
    return c->layers;
}

lc_sequential lc_calibration_sequential(const lc_calibration *c) {
    return c->options.sequential;
}

/* -- text ---------------------------------------------------------------------------------------------------------- */

/* Adds the slice's rows and tokens; what is padding is none, nor is a row of nothing else. */
static void count_kept(lc_calibration *c, const slice *s) {
    const lc_tensor *keep = s->pass.keep;
    int64_t B = s->x->shape[0], T = s->x->shape[1];
    for (int64_t b = 0; b < B; b++) {
        int64_t kept = keep ? 0 : T;
        for (int64_t i = b * T; keep && i < (b + 1) * T; i++) kept += lc_get_i64(keep, lc_position(keep, i)) != 0;
        c->tokens += kept;
        c->rows += kept > 0;
    }
}

/* Embeds a batch of few rows as a new slice. */
static lc_status add_slice(lc_calibration *c, const lc_batch *batch) {
    slice *grown = lc_realloc(c->slices, (size_t)(c->n_slices + 1) * sizeof *grown);
    if (!grown) return LC_ENOMEM;
    c->slices = grown;
    slice s = {0};
    LC_TRY(lc_pass_open(c->model, batch, false, &s.pass));
    c->model->clock.training = false;
    lc_clock_show(&c->model->clock);
    bool recording = lc_set_recording(false);
    lc_status status = c->model->family->embed(c->model, &s.pass, &s.x);
    lc_set_recording(recording);
    if (status) {
        lc_pass_close(&s.pass);
        return status;
    }
    count_kept(c, &s);
    c->slices[c->n_slices++] = s;
    return LC_OK;
}

static lc_status slice_rows(lc_tensor *t, int64_t first, int64_t rows, lc_tensor **out) {
    return t ? lc_view_slice(t, 0, first, rows, 1, out) : LC_OK;
}

static lc_status feed_rows(lc_calibration *c, const lc_batch *batch, int64_t first, int64_t rows) {
    lc_batch part = {0};
    lc_status status;
    LC_GOTO(done, lc_poll());
    LC_GOTO(done, slice_rows(batch->ids, first, rows, &part.ids));
    LC_GOTO(done, slice_rows(batch->attention_mask, first, rows, &part.attention_mask));
    LC_GOTO(done, slice_rows(batch->token_type_ids, first, rows, &part.token_type_ids));
    status = add_slice(c, &part);
done:
    lc_batch_release(&part);
    return status;
}

lc_status lc_calibration_feed(lc_calibration *c, const lc_batch *batch) {
    LC_TRY(lc_batch_check(c->model, batch));
    int64_t B = batch->ids->shape[0], most = lc_max(1, SLICE_TOKENS / batch->ids->shape[1]);
    for (int64_t first = 0; first < B; first += most) LC_TRY(feed_rows(c, batch, first, lc_min(most, B - first)));
    return LC_OK;
}

lc_status lc_calibration_feed_dataset(lc_calibration *c, lc_dataset *data) {
    int64_t most = lc_max(1, SLICE_TOKENS / lc_dataset_length(data)), examples = lc_dataset_count(data);
    int64_t *numbers = lc_alloc((size_t)most * sizeof *numbers);
    if (!numbers) return LC_ENOMEM;
    lc_status status = LC_OK;
    for (int64_t first = 0; first < examples && !status; first += most) {
        lc_batch batch = {0};
        int64_t n = lc_min(most, examples - first);
        for (int64_t i = 0; i < n; i++) numbers[i] = first + i;
        status = lc_dataset_batch(data, numbers, n, &batch);
        if (!status) status = lc_calibration_feed(c, &batch);
        lc_batch_release(&batch);
    }
    lc_free(numbers);
    return status;
}

/* -- summing ------------------------------------------------------------------------------------------------------- */

static place place_of(const lc_layer *layer) {
    if (layer->block < 0) return HEAD_IN;
    const lc_block *b = layer->model->blocks[layer->block];
    if (layer == b->attention.out) return ATTENTION_OUT;
    if (layer == b->mlp.down) return MLP_OUT;
    return layer == b->mlp.up || layer == b->mlp.gate ? MLP_IN : ATTENTION_IN;
}

static lc_status open_input(const lc_calibration *c, input *in, lc_layer *layer) {
    int64_t I = layer->inputs, square[] = {I, I}, all[] = {c->tokens, I};
    in->seen = layer;
    LC_TRY(lc_tensor_zeros(LC_F64, 1, &I, LC_CPU, &in->norm));
    if (c->options.gram) LC_TRY(lc_tensor_zeros(LC_F64, 2, square, LC_CPU, &in->H));
    if (c->options.input) LC_TRY(lc_tensor_new(c->model->dtype, 2, all, LC_CPU, &in->input));
    return LC_OK;
}

typedef struct square_job {
    lc_dtype dtype;
    const void *X;
    int64_t rows, I;
    double *sums;
} square_job;

#define ADD_SQUARES(T)                                                                   \
    for (int64_t r = 0; r < j->rows; r++) {                                              \
        const T *x = (const T *)j->X + r * j->I;                                         \
        for (int64_t i = begin; i < end; i++) j->sums[i] += (double)x[i] * (double)x[i]; \
    }

static void add_squares(void *context, int64_t begin, int64_t end) {
    const square_job *j = context;
    if (j->dtype == LC_F32)
        ADD_SQUARES(float)
    else
        ADD_SQUARES(double)
}

/* Adds rows X (n, I), contiguous. */
static lc_status add_rows(input *in, lc_tensor *X) {
    int64_t n = X->shape[0], I = X->shape[1];
    if (in->input) {
        lc_tensor *to = NULL;
        LC_TRY(lc_view_slice(in->input, 0, in->tokens, n, 1, &to));
        lc_status status = lc_copy_into(to, X);
        lc_tensor_release(to);
        LC_TRY(status);
    }
    if (in->H) {
        LC_TRY(lc_gram_add(X->dtype, I, n, lc_data(X), I, LC_DATA(double, in->H)));
    } else {
        square_job j = {X->dtype, lc_data(X), n, I, LC_DATA(double, in->norm)};
        LC_TRY(lc_parallel_range(I, COLUMNS, add_squares, &j));
    }
    in->tokens += n;
    return LC_OK;
}

/* The rows of x (B, T, I) that are not padding, contiguous (n, I). */
static lc_status kept_rows(lc_tensor *x, lc_tensor *keep, lc_tensor **out) {
    int64_t shape[] = {x->shape[0] * x->shape[1], x->shape[2]}, flat = shape[0];
    lc_tensor *rows = NULL, *all = NULL, *kept = NULL, *numbers = NULL, *index = NULL;
    lc_status status;
    LC_GOTO(done, lc_contiguous(x, &rows));
    LC_GOTO(done, lc_view_reshape(rows, 2, shape, &all));
    if (!keep) {
        *out = lc_tensor_retain(all);
        goto done;
    }
    LC_GOTO(done, lc_reshape(keep, 1, &flat, &kept));
    LC_GOTO(done, lc_run(LC_OP_NONZERO, NULL, &kept, 1, &numbers));
    LC_GOTO(done, lc_view_reshape(numbers, 1, &numbers->shape[0], &index));
    status = lc_run(LC_OP_INDEX, &(lc_attr){.dim = 0}, (lc_tensor *[]){all, index}, 2, out);
done:
    lc_tensor_release(rows);
    lc_tensor_release(all);
    lc_tensor_release(kept);
    lc_tensor_release(numbers);
    lc_tensor_release(index);
    return status;
}

/* A layer's input as it comes. */
static lc_status see(void *context, lc_layer *layer, lc_tensor *x) {
    lc_calibration *c = context;
    lc_tensor *rows = NULL;
    LC_TRY(kept_rows(x, c->running->pass.keep, &rows));
    lc_status status = add_rows(&c->inputs[place_of(layer)], rows);
    lc_tensor_release(rows);
    LC_TRY(status);
    return --c->to_see == 0 && !c->whole ? LC_ESTOP : LC_OK;
}

/* Norms from sums; the whole of H from its lower triangle. */
static lc_status close_input(const lc_calibration *c, input *in) {
    int64_t I = in->norm->shape[0];
    double *norm = LC_DATA(double, in->norm);
    for (int64_t i = 0; i < I; i++) {
        norm[i] = sqrt(in->H ? LC_DATA(double, in->H)[i * (I + 1)] : norm[i]);
        if (!isfinite(norm[i]))
            return lc_fail(LC_ENUMERIC, "%s: %s: input %lld is not finite; check the layers before it for NaN and inf",
                           c->name, in->seen->name, (long long)i + 1);
    }
    if (in->H) LC_TRY(lc_gram_mirror(I, LC_DATA(double, in->H)));
    in->ready = true;
    return LC_OK;
}

/* -- passes -------------------------------------------------------------------------------------------------------- */

/* The slice through the block, or, after the last, through the norm before the head. */
static lc_status run_slice(lc_calibration *c, slice *s, lc_tensor **y) {
    lc_model *m = c->model;
    LC_TRY(lc_poll());
    c->running = s;
    if (c->block < m->n_blocks) return lc_block_forward(m->blocks[c->block], &s->pass, s->x, y);
    LC_TRY(m->family->finish(m, &s->pass, s->x, y));
    return see(c, m->head, *y);
}

/* Takes the slices through the block. `keep` stores what comes out as the next block's inputs. */
static lc_status run_block(lc_calibration *c, bool keep) {
    for (int64_t i = 0; i < c->n_slices; i++) {
        slice *s = &c->slices[i];
        lc_tensor *y = NULL;
        int to_see = c->to_see;
        lc_status status = run_slice(c, s, &y);
        c->to_see = to_see;
        if (status == LC_ESTOP) status = LC_OK;
        if (!status && keep) {
            lc_tensor_release(s->x);
            s->x = lc_tensor_retain(y);
        }
        lc_tensor_release(y);
        LC_TRY(status);
        if (c->final) drop_slice(s);
    }
    if (keep) c->block++;
    return LC_OK;
}

/* With the model's clock and recording as a pass outside training has them. */
static lc_status pass_through(lc_calibration *c, bool keep) {
    c->model->clock.training = false;
    lc_clock_show(&c->model->clock);
    bool recording = lc_set_recording(false);
    lc_status status = run_block(c, keep);
    lc_set_recording(recording);
    return status;
}

static bool shows(const lc_layer *layer, int64_t block) {
    return layer->block == block || (layer->block < 0 && block == layer->model->n_blocks);
}

/* Watches the selected layers of the block at hand whose input is not known, one for each input; with `only` >= 0 that
 * one alone. *later: there are selected layers behind those. */
static lc_status open_inputs(lc_calibration *c, int only, bool *later) {
    c->to_see = 0;
    *later = false;
    for (int64_t i = c->next; i < c->layers->n; i++) {
        lc_layer *layer = lc_selected_layer(c->layers, i);
        input *in = &c->inputs[place_of(layer)];
        *later = !shows(layer, c->block) || (only >= 0 && in != &c->inputs[only]);
        if (*later) break;
        if (in->seen) continue;
        LC_TRY(open_input(c, in, layer));
        layer->observer = &c->observer;
        c->to_see++;
    }
    return LC_OK;
}

static void stop_watching(lc_calibration *c) {
    for (int i = 0; i < PLACES; i++)
        if (c->inputs[i].seen) c->inputs[i].seen->observer = NULL;
}

/* Brings the hidden states to the block of `layer`, and sums its input there, in one pass with those of the layers
 * behind it that may be seen now. */
static lc_status collect(lc_calibration *c, const lc_layer *layer) {
    int64_t block = layer->block < 0 ? c->model->n_blocks : layer->block;
    bool at_layer = c->options.sequential == LC_SEQUENTIAL_LAYER, later = false;
    drop_inputs(c);
    lc_memory_trim(); /* what solvers and passes are done with must not stand beside what the other needs */
    c->to_see = 0;
    while (c->block < block) LC_TRY(pass_through(c, true));
    c->observer = (lc_observer){see, c};
    lc_status status = open_inputs(c, at_layer ? (int)place_of(layer) : -1, &later);
    c->whole = c->options.sequential == LC_SEQUENTIAL_OFF && later;
    c->final = !later;
    if (!status) status = pass_through(c, c->whole);
    stop_watching(c);
    lc_memory_trim();
    for (int i = 0; i < PLACES && !status; i++)
        if (c->inputs[i].seen) status = close_input(c, &c->inputs[i]);
    return status;
}

/* -- giving -------------------------------------------------------------------------------------------------------- */

static bool same_input(const lc_calibration *c, int64_t i, int64_t k) {
    if (i < 0 || k >= c->layers->n) return false;
    const lc_layer *a = lc_selected_layer(c->layers, i), *b = lc_selected_layer(c->layers, k);
    return a->block == b->block && place_of(a) == place_of(b);
}

lc_status lc_calibration_next(lc_calibration *c, lc_layer_stats *out) {
    *out = (lc_layer_stats){0};
    if (!c->tokens) return lc_fail(LC_EINVAL, "%s: the calibration text has no tokens", c->name);
    if (c->next == c->layers->n) return LC_OK;
    lc_layer *layer = lc_selected_layer(c->layers, c->next);
    bool first = !same_input(c, c->next - 1, c->next), last = !same_input(c, c->next, c->next + 1);
    const input *in = &c->inputs[place_of(layer)];
    if (first && c->next > 0) drop_input(&c->inputs[place_of(lc_selected_layer(c->layers, c->next - 1))]);
    if (!in->ready) LC_TRY(collect(c, layer));
    *out = (lc_layer_stats){layer, c->next++, c->rows, in->tokens, in->norm, in->H, in->input, first, last, last};
    return LC_OK;
}
