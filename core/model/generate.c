/* generate.c: continuing prompts, token by token, with a cache of keys and values.
 *
 * Prompts of unequal length are one batch, padded on the left: padding is masked in attention, and positions count from
 * a prompt's own first token, so a prompt's continuation does not depend on what else is in the batch. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/pool.h"
#include "base/random.h"
#include "grad/graph.h"
#include "model/family.h"
#include "model/sample.h"

typedef struct generation {
    lc_model *model;
    const lc_generate_options *options;
    int64_t batch, longest, capacity; /* rows; tokens of the longest prompt; of that and all that is generated */
    int64_t *lengths;                 /* of each prompt */
    lc_tensor *keep;                  /* bool (B, capacity), 0 = padding; NULL when all prompts are equally long */
    lc_cache *cache;
    int64_t *chosen; /* (B, tokens) */
    int64_t *made;   /* tokens of each continuation so far */
    bool *ended;
    lc_stream *streams;
} generation;

/* -- what goes in ------------------------------------------------------------------------------- */

static lc_status check_prompts(generation *g, lc_tensor *const *prompts) {
    for (int64_t b = 0; b < g->batch; b++) {
        const lc_tensor *p = prompts[b];
        if (p->dtype != LC_I64 || p->ndim != 1)
            return lc_fail(LC_ESHAPE, "generate: prompt %lld is a %s tensor of %s; it must be a list of ids",
                           (long long)b + 1, lc_dtype_name(p->dtype), LC_SHAPE(p));
        g->lengths[b] = p->shape[0];
        if (!g->lengths[b]) return lc_fail(LC_EINVAL, "generate: prompt %lld is empty", (long long)b + 1);
        g->longest = lc_max(g->longest, g->lengths[b]);
    }
    g->capacity = g->longest + g->options->tokens;
    if (g->capacity - 1 > g->model->sizes.positions) /* the last token chosen is not read again */
        return lc_fail(LC_EINVAL, "generate: a prompt of %lld tokens and %lld more do not fit into %lld positions",
                       (long long)g->longest, (long long)g->options->tokens, (long long)g->model->sizes.positions);
    return LC_OK;
}

static lc_status set_up(generation *g, lc_tensor *const *prompts) {
    size_t n = (size_t)g->batch;
    g->lengths = lc_calloc(n, sizeof *g->lengths);
    g->made = lc_calloc(n, sizeof *g->made);
    g->ended = lc_calloc(n, sizeof *g->ended);
    g->streams = lc_calloc(n, sizeof *g->streams);
    if (!g->lengths || !g->made || !g->ended || !g->streams) return LC_ENOMEM;
    LC_TRY(check_prompts(g, prompts));
    g->chosen = lc_calloc(n * (size_t)lc_max(1, g->options->tokens), sizeof *g->chosen);
    if (!g->chosen) return LC_ENOMEM;
    LC_TRY(lc_cache_new(g->model, g->batch, g->capacity, &g->cache));
    bool padded = false;
    for (int64_t b = 0; b < g->batch; b++) {
        char name[40];
        snprintf(name, sizeof name, "generate.%lld", (long long)b);
        g->streams[b] = lc_stream_make(g->options->seed, name);
        padded = padded || g->lengths[b] < g->longest;
    }
    if (!padded) return LC_OK;
    LC_TRY(lc_tensor_new(LC_BOOL, 2, (int64_t[]){g->batch, g->capacity}, LC_CPU, &g->keep));
    uint8_t *keep = LC_DATA(uint8_t, g->keep);
    for (int64_t b = 0; b < g->batch; b++)
        for (int64_t t = 0; t < g->capacity; t++) keep[b * g->capacity + t] = t >= g->longest - g->lengths[b];
    return LC_OK;
}

static void tear_down(generation *g) {
    lc_free(g->lengths);
    lc_free(g->made);
    lc_free(g->ended);
    lc_free(g->streams);
    lc_free(g->chosen);
    lc_tensor_release(g->keep);
    lc_cache_free(g->cache);
}

/* -- passes ------------------------------------------------------------------------------------- */

/* Logits (B, V) of the token after `ids` (B, T), which go behind what the cache holds. */
static lc_status next_logits(generation *g, lc_tensor *ids, lc_tensor *positions, lc_tensor **logits) {
    int64_t tokens = ids->shape[1], length = g->cache->length + tokens;
    lc_pass pass = {.ids = lc_tensor_retain(ids), .cache = g->cache};
    lc_tensor *hidden = NULL, *last = NULL;
    lc_status status;
    LC_GOTO(done, lc_pass_place(g->model, positions, length, &pass));
    if (g->keep) LC_GOTO(done, lc_view_slice(g->keep, 1, 0, length, 1, &pass.keep));
    LC_GOTO(done, lc_model_pass(g->model, &pass, &hidden));
    g->cache->length += tokens;
    LC_GOTO(done, lc_view_select(hidden, 1, tokens - 1, &last));
    status = lc_layer_forward(g->model->head, last, LC_ACT_NONE, logits);
done:
    lc_pass_close(&pass);
    lc_tensor_release(hidden);
    lc_tensor_release(last);
    return status;
}

/* The prompts, padded on the left with token 0, and positions from each one's own start. */
static lc_status first_logits(generation *g, lc_tensor *const *prompts, lc_tensor **logits) {
    int64_t shape[] = {g->batch, g->longest};
    lc_tensor *ids = NULL, *positions = NULL;
    lc_status status;
    LC_GOTO(done, lc_tensor_zeros(LC_I64, 2, shape, LC_CPU, &ids));
    LC_GOTO(done, lc_tensor_zeros(LC_I64, 2, shape, LC_CPU, &positions));
    for (int64_t b = 0; b < g->batch; b++) {
        int64_t start = b * g->longest + g->longest - g->lengths[b];
        for (int64_t t = 0; t < g->lengths[b]; t++) {
            LC_DATA(int64_t, ids)[start + t] = lc_get_i64(prompts[b], lc_position(prompts[b], t));
            LC_DATA(int64_t, positions)[start + t] = t;
        }
    }
    status = next_logits(g, ids, positions, logits);
done:
    lc_tensor_release(ids);
    lc_tensor_release(positions);
    return status;
}

/* After the tokens chosen in step `step`, from 0. A row that has ended goes on with it, unheard. */
static lc_status further_logits(generation *g, int64_t step, lc_tensor **logits) {
    int64_t shape[] = {g->batch, 1};
    lc_tensor *ids = NULL, *positions = NULL;
    lc_status status;
    LC_GOTO(done, lc_tensor_new(LC_I64, 2, shape, LC_CPU, &ids));
    LC_GOTO(done, lc_tensor_new(LC_I64, 2, shape, LC_CPU, &positions));
    for (int64_t b = 0; b < g->batch; b++) {
        LC_DATA(int64_t, ids)[b] = g->chosen[b * g->options->tokens + step];
        LC_DATA(int64_t, positions)[b] = g->lengths[b] + step;
    }
    status = next_logits(g, ids, positions, logits);
done:
    lc_tensor_release(ids);
    lc_tensor_release(positions);
    return status;
}

/* -- the loop ----------------------------------------------------------------------------------- */

static lc_status choose_tokens(generation *g, int64_t step, lc_tensor *logits, bool *all_ended) {
    const lc_generate_options *o = g->options;
    *all_ended = true;
    for (int64_t b = 0; b < g->batch; b++) {
        lc_tensor *row = NULL;
        int64_t *id = &g->chosen[b * o->tokens + step];
        LC_TRY(lc_view_select(logits, 0, b, &row));
        lc_status status = lc_sample(row, o->temperature, o->top_k, o->top_p, &g->streams[b], id);
        lc_tensor_release(row);
        LC_TRY(status);
        if (*id == o->end) g->ended[b] = true;
        if (!g->ended[b]) g->made[b] = step + 1;
        *all_ended = *all_ended && g->ended[b];
    }
    return LC_OK;
}

static lc_status run(generation *g, lc_tensor *const *prompts) {
    for (int64_t step = 0; step < g->options->tokens; step++) {
        lc_tensor *logits = NULL;
        bool all_ended;
        LC_TRY(lc_poll());
        LC_TRY(step ? further_logits(g, step - 1, &logits) : first_logits(g, prompts, &logits));
        lc_status status = choose_tokens(g, step, logits, &all_ended);
        lc_tensor_release(logits);
        LC_TRY(status);
        if (all_ended) break;
    }
    return LC_OK;
}

/* The continuations as tensors: all or none. */
static lc_status hand_over(const generation *g, lc_tensor **continuations) {
    for (int64_t b = 0; b < g->batch; b++) {
        lc_status status = lc_tensor_new(LC_I64, 1, &g->made[b], LC_CPU, &continuations[b]);
        if (status) {
            while (b) {
                lc_tensor_release(continuations[--b]);
                continuations[b] = NULL;
            }
            return status;
        }
        const int64_t *row = g->chosen + b * g->options->tokens;
        memcpy(lc_data(continuations[b]), row, (size_t)g->made[b] * sizeof *row);
    }
    return LC_OK;
}

lc_status lc_model_generate(lc_model *m, lc_tensor *const *prompts, int64_t n, const lc_generate_options *options,
                            lc_tensor **continuations) {
    if (!m->family->causal) return lc_fail(LC_EINVAL, "generate: a %s does not continue text", m->family->name);
    if (n < 1 || options->tokens < 0) return lc_fail(LC_EINVAL, "generate: needs a prompt, and tokens >= 0");
    generation g = {.model = m, .options = options, .batch = n};
    bool before = lc_set_recording(false);
    lc_status status = set_up(&g, prompts);
    if (!status) status = run(&g, prompts);
    if (!status) status = hand_over(&g, continuations);
    lc_set_recording(before);
    tear_down(&g);
    return status;
}
