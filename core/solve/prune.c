/* prune.c: options, exact counts, and what is written into the model at the end. */
#include "solve/prune.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/pool.h"
#include "ops/op.h"
#include "solve/select.h"

/* One pruning: what was asked for, and for each layer its scores and the answer. */
typedef struct job {
    const char *name;
    const lc_selection *layers;
    const lc_prune_options *options;
    int64_t n, m;       /* of the pattern; m = 0 is none */
    double sparsity;    /* asked for, by number or pattern */
    lc_tensor **scores; /* contiguous; NULL once used up */
    lc_tensor **keep;   /* bool */
    lc_ranked *ranked;
} job;

/* -- options ------------------------------------------------------------------------------------------------------ */

/* "2:4" -> 2 and 4. */
static bool parse_pattern(const char *text, int64_t *n, int64_t *m) {
    char *end;
    if (!isdigit((unsigned char)text[0])) return false;
    *n = strtoll(text, &end, 10);
    if (*end != ':' || !isdigit((unsigned char)end[1])) return false;
    *m = strtoll(end + 1, &end, 10);
    return *end == 0 && *m >= 1 && *m <= 1024 && *n >= 0 && *n <= *m;
}

static lc_status read_pattern(job *j, const char *pattern) {
    if (!isnan(j->options->sparsity))
        return lc_fail(LC_EINVAL, "%s: sparsity and pattern are both given; a pattern says how sparse by itself",
                       j->name);
    if (!parse_pattern(pattern, &j->n, &j->m))
        return lc_fail(LC_EINVAL, "%s: pattern '%s' is not n:m, such as '2:4' (2 of every 4 stay)", j->name, pattern);
    for (int64_t i = 0; i < j->layers->n; i++) {
        const lc_layer *layer = lc_selected_layer(j->layers, i);
        if (layer->inputs % j->m != 0)
            return lc_fail(LC_ESHAPE, "%s: %s has %lld inputs, which groups of %lld do not divide", j->name,
                           layer->name, (long long)layer->inputs, (long long)j->m);
    }
    j->sparsity = 1 - (double)j->n / (double)j->m;
    return LC_OK;
}

static lc_status read_sparsity(job *j, double sparsity) {
    if (isnan(sparsity)) return lc_fail(LC_EINVAL, "%s: how much? give sparsity = 0.5 or pattern = '2:4'", j->name);
    if (sparsity > 1 && sparsity <= 100)
        return lc_fail(LC_EINVAL, "%s: sparsity %g is not a share from 0 to 1; for %g%% write %g", j->name, sparsity,
                       sparsity, sparsity / 100);
    if (sparsity < 0 || sparsity > 1)
        return lc_fail(LC_EINVAL, "%s: sparsity %g is not a share from 0 to 1", j->name, sparsity);
    j->sparsity = sparsity;
    return LC_OK;
}

static lc_status read_options(job *j) {
    if (j->layers->part != LC_PART_LINEAR)
        return lc_fail(LC_EINVAL, "%s: prunes linear layers; take model:linears()", j->name);
    const lc_prune_options *o = j->options;
    if (o->regrow && o->apply && !o->hold)
        return lc_fail(LC_EINVAL, "%s: regrow needs hold: what the layers hold now would zero again what comes back",
                       j->name);
    return o->pattern ? read_pattern(j, o->pattern) : read_sparsity(j, o->sparsity);
}

/* -- choosing ----------------------------------------------------------------------------------------------------- */

static lc_status check_scores(const job *j, const lc_layer *layer, const lc_ranked *r) {
    int64_t bad = lc_ranked_nan(r);
    if (bad < 0) return LC_OK;
    return lc_fail(LC_EINVAL, "%s: %s: NaN at row %lld, column %lld; a NaN cannot be ranked", j->name, layer->name,
                   (long long)(bad / layer->inputs + 1), (long long)(bad % layer->inputs + 1));
}

/* Brings a layer's scores into the form that select.h reads. */
static lc_status take_scores(job *j, int64_t i, const lc_scores *scores) {
    const lc_layer *layer = lc_selected_layer(j->layers, i);
    const lc_param *weight = layer->weight;
    lc_tensor *values = scores->values, *cast = NULL;
    if (!lc_same_shape(values, weight->leaf))
        return lc_fail(LC_ESHAPE, "%s: %s: scores are %s, the weight %s", j->name, layer->name, LC_SHAPE(values),
                       LC_SHAPE(weight->leaf));
    LC_TRY(lc_cast(values, values->dtype == LC_F32 ? LC_F32 : LC_F64, &cast));
    lc_status status = lc_contiguous(cast, &j->scores[i]);
    lc_tensor_release(cast);
    LC_TRY(status);
    LC_TRY(lc_tensor_new(LC_BOOL, 2, weight->leaf->shape, LC_CPU, &j->keep[i]));
    const uint8_t *held = weight->held && !j->options->regrow ? LC_DATA(uint8_t, weight->held) : NULL;
    j->ranked[i] = (lc_ranked){j->scores[i]->dtype,          lc_data(j->scores[i]), scores->absolute, held,
                               LC_DATA(uint8_t, j->keep[i]), lc_numel(j->keep[i])};
    return check_scores(j, layer, &j->ranked[i]);
}

static int64_t pruned_of(const job *j, int64_t n) {
    return (int64_t)floor(j->sparsity * (double)n);
}

/* Fills the masks of layers whose units lie within them. */
static lc_status choose_in_layer(job *j, int64_t i) {
    const lc_layer *layer = lc_selected_layer(j->layers, i);
    const lc_ranked *r = &j->ranked[i];
    if (j->m) return lc_prune_groups(r, j->n, j->m);
    if (j->options->scope == LC_SCOPE_LAYER) return lc_prune_lowest(r, 1, pruned_of(j, r->n));
    for (int64_t row = 0; row < layer->outputs; row++) {
        lc_ranked part = lc_ranked_part(r, row * layer->inputs, layer->inputs);
        LC_TRY(lc_prune_lowest(&part, 1, pruned_of(j, part.n)));
    }
    return LC_OK;
}

static lc_status choose(job *j, lc_score score, void *context) {
    bool together = !j->m && j->options->scope == LC_SCOPE_MODEL;
    int64_t weights = 0;
    for (int64_t i = 0; i < j->layers->n; i++) {
        lc_layer *layer = lc_selected_layer(j->layers, i);
        lc_scores scores = {0};
        LC_TRY(lc_param_enforce(layer->weight));
        LC_TRY(score(context, layer, &scores));
        lc_status status = take_scores(j, i, &scores);
        lc_tensor_release(scores.values);
        LC_TRY(status);
        weights += j->ranked[i].n;
        if (together) continue;
        LC_TRY(choose_in_layer(j, i));
        lc_tensor_release(j->scores[i]);
        j->scores[i] = NULL;
    }
    return together ? lc_prune_lowest(j->ranked, j->layers->n, pruned_of(j, weights)) : LC_OK;
}

/* -- writing ------------------------------------------------------------------------------------------------------ */

/* What comes back starts from the value it had, where that was remembered. */
static lc_status restore_regrown(const job *j) {
    for (int64_t i = 0; i < j->layers->n; i++) {
        lc_param *p = lc_selected_layer(j->layers, i)->weight;
        if (!p->held || !p->held_values) continue;
        lc_tensor *in[3] = {p->held, p->leaf, p->held_values};
        LC_TRY(lc_run_into(LC_OP_WHERE, NULL, in, 3, &p->leaf));
    }
    return LC_OK;
}

static lc_status write_mask(const job *j, const lc_mask *mask) {
    const lc_prune_options *o = j->options;
    if (!o->apply) return LC_OK;
    if (o->regrow) LC_TRY(restore_regrown(j));
    return o->hold ? lc_mask_hold(mask, NULL, o->keep_values) : lc_mask_apply(mask, NULL);
}

/* The mask exists before anything is written, so that out of memory or an interruption leaves the weights alone. */
static lc_status make_mask(const job *j, lc_mask **out) {
    lc_mask *mask = NULL;
    LC_TRY(lc_mask_new(j->layers, j->keep, &mask));
    mask->requested = j->sparsity;
    lc_cancel_hold();
    lc_status status = write_mask(j, mask);
    lc_cancel_release();
    if (status)
        lc_mask_release(mask);
    else
        *out = mask;
    return status;
}

/* A step between its forward pass and its update would change the weights by a gradient of others. */
static lc_status check_no_step(const job *j) {
    for (int64_t i = 0; j->options->apply && i < j->layers->n; i++) {
        const lc_layer *layer = lc_selected_layer(j->layers, i);
        if (layer->model->stepping)
            return lc_fail(LC_ESTATE, "%s: a training step of this model is not updated; prune after t:update()",
                           j->name);
    }
    return LC_OK;
}

lc_status lc_prune(const char *name, const lc_selection *layers, lc_score score, void *context,
                   const lc_prune_options *options, lc_mask **out) {
    job j = {.name = name, .layers = layers, .options = options};
    size_t n = (size_t)layers->n;
    LC_TRY(read_options(&j));
    LC_TRY(check_no_step(&j));
    lc_status status = LC_ENOMEM;
    j.scores = lc_calloc(n, sizeof *j.scores);
    j.keep = lc_calloc(n, sizeof *j.keep);
    j.ranked = lc_calloc(n, sizeof *j.ranked);
    if (j.scores && j.keep && j.ranked) {
        status = choose(&j, score, context);
        if (!status) status = make_mask(&j, out);
    }
    for (size_t i = 0; i < n; i++) {
        if (j.scores) lc_tensor_release(j.scores[i]);
        if (j.keep) lc_tensor_release(j.keep[i]);
    }
    lc_free(j.scores);
    lc_free(j.keep);
    lc_free(j.ranked);
    return status;
}
