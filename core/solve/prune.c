/* prune.c: options, exact counts, and what is written into the model at the end. */
#include "solve/prune.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/pool.h"
#include "ops/op.h"

enum { LARGEST_GROUP = 1024 }; /* of n:m */

/* A layer while it is ranked. */
typedef struct unit {
    lc_tensor *scores;      /* contiguous */
    lc_tensor *keep, *held; /* bool; held NULL where nothing is */
    lc_ranked ranked;       /* what select.h reads and writes of them */
} unit;

/* One pruning: what was asked for, and for each layer the answer. */
typedef struct job {
    const char *name;
    const lc_selection *layers;
    const lc_prune_options *options;
    lc_target *targets;
    lc_bits **keep;
    unit *units;
} job;

static void drop_unit(unit *u) {
    lc_tensor_release(u->scores);
    lc_tensor_release(u->keep);
    lc_tensor_release(u->held);
    *u = (unit){0};
}

/* -- options ------------------------------------------------------------------------------------------------------ */

/* "2:4" -> 2 and 4. */
static bool parse_pattern(const char *text, int64_t *n, int64_t *m) {
    char *end;
    if (!isdigit((unsigned char)text[0])) return false;
    *n = strtoll(text, &end, 10);
    if (*end != ':' || !isdigit((unsigned char)end[1])) return false;
    *m = strtoll(end + 1, &end, 10);
    return *end == 0 && *m >= 1 && *n >= 0 && *n <= *m;
}

static lc_status read_pattern(const char *name, const lc_selection *layers, const char *pattern, lc_target *out) {
    int64_t n, m;
    if (!parse_pattern(pattern, &n, &m))
        return lc_fail(LC_EINVAL, "%s: pattern '%s' is not n:m, such as '2:4' (2 of every 4 stay)", name, pattern);
    if (m > LARGEST_GROUP)
        return lc_fail(LC_EINVAL, "%s: pattern '%s' has groups of more than %d", name, pattern, LARGEST_GROUP);
    for (int64_t i = 0; i < layers->n; i++) {
        const lc_layer *layer = lc_selected_layer(layers, i);
        if (layer->inputs % m != 0)
            return lc_fail(LC_ESHAPE, "%s: %s has %lld inputs, which groups of %lld do not divide", name, layer->name,
                           (long long)layer->inputs, (long long)m);
        out[i] = (lc_target){1 - (double)n / (double)m, n, m};
    }
    return LC_OK;
}

lc_status lc_prune_check_sparsity(const char *name, const char *where, double sparsity) {
    if (sparsity >= 0 && sparsity <= 1) return LC_OK;
    const char *of = where ? " of " : "";
    if (!where) where = "";
    if (sparsity > 1 && sparsity <= 100)
        return lc_fail(LC_EINVAL, "%s: sparsity %g%s%s is not a share from 0 to 1; for %g%% write %g", name, sparsity,
                       of, where, sparsity, sparsity / 100);
    return lc_fail(LC_EINVAL, "%s: sparsity %g%s%s is not a share from 0 to 1", name, sparsity, of, where);
}

static lc_status read_targets(const char *name, const lc_selection *layers, const lc_prune_options *o, lc_target *out) {
    if (!isnan(o->sparsity) + !!o->targets + !!o->pattern > 1)
        return lc_fail(LC_EINVAL, "%s: sparsity and pattern are both given; a pattern says how sparse by itself", name);
    if (o->pattern) return read_pattern(name, layers, o->pattern, out);
    if (isnan(o->sparsity) && !o->targets)
        return lc_fail(LC_EINVAL, "%s: how much? give sparsity = 0.5 or pattern = '2:4'", name);
    for (int64_t i = 0; i < layers->n; i++) {
        out[i] = (lc_target){.sparsity = o->targets ? o->targets[i] : o->sparsity};
        LC_TRY(lc_prune_check_sparsity(name, o->targets ? lc_selected_layer(layers, i)->name : NULL, out[i].sparsity));
    }
    return LC_OK;
}

static lc_status check_options(const char *name, const lc_selection *layers, const lc_prune_options *o) {
    if (layers->part != LC_PART_LINEAR)
        return lc_fail(LC_EINVAL, "%s: prunes linear layers; take model:linears()", name);
    if (o->regrow && o->apply && !o->hold)
        return lc_fail(LC_EINVAL, "%s: regrow needs hold: what the layers hold now would zero again what comes back",
                       name);
    if (o->targets && o->scope == LC_SCOPE_MODEL)
        return lc_fail(LC_EINVAL,
                       "%s: scope 'model' ranks all layers together; sparsities of single layers need 'layer' "
                       "or 'row'",
                       name);
    /* A step between its forward pass and its update would change the weights by a gradient of others. */
    if (o->apply && layers->model->stepping)
        return lc_fail(LC_ESTATE, "%s: a training step of this model is not updated; prune after t:update()", name);
    return LC_OK;
}

lc_status lc_prune_targets(const char *name, const lc_selection *layers, const lc_prune_options *options,
                           lc_target **out) {
    LC_TRY(check_options(name, layers, options));
    lc_target *targets = lc_alloc((size_t)layers->n * sizeof *targets);
    if (!targets) return LC_ENOMEM;
    lc_status status = read_targets(name, layers, options, targets);
    if (status)
        lc_free(targets);
    else
        *out = targets;
    return status;
}

double lc_prune_requested(const lc_selection *layers, const lc_target *targets) {
    double weights = 0, sum = 0;
    for (int64_t i = 0; i < layers->n; i++) {
        double n = (double)lc_numel(lc_selected_layer(layers, i)->weight->leaf), s = targets[i].sparsity;
        if (s != targets[0].sparsity) sum += n * (s - targets[0].sparsity); /* so that equal ones give just that */
        weights += n;
    }
    return targets[0].sparsity + sum / weights;
}

/* -- scores -------------------------------------------------------------------------------------------------------- */

lc_status lc_prune_weight(const lc_param *p, bool regrow, lc_tensor **W) {
    if (regrow) return lc_param_before(p, W);
    *W = lc_tensor_retain(p->leaf);
    return LC_OK;
}

lc_status lc_prune_read_scores(const char *name, const lc_layer *layer, const lc_scores *scores, lc_tensor **values,
                               lc_ranked *r) {
    const lc_tensor *weight = layer->weight->leaf;
    if (!lc_same_shape(scores->values, weight))
        return lc_fail(LC_ESHAPE, "%s: %s: scores are %s, the weight %s", name, layer->name, LC_SHAPE(scores->values),
                       LC_SHAPE(weight));
    lc_tensor *cast = NULL, *read = NULL;
    LC_TRY(lc_cast(scores->values, scores->values->dtype == LC_F32 ? LC_F32 : LC_F64, &cast));
    lc_status status = lc_contiguous(cast, &read);
    lc_tensor_release(cast);
    LC_TRY(status);
    r->dtype = read->dtype;
    r->scores = lc_data(read);
    r->absolute = scores->absolute;
    r->n = lc_numel(read);
    int64_t bad = lc_ranked_nan(r);
    if (bad < 0) {
        *values = read;
        return LC_OK;
    }
    lc_tensor_release(read);
    return lc_fail(LC_EINVAL, "%s: %s: NaN at row %lld, column %lld; a NaN cannot be ranked", name, layer->name,
                   (long long)(bad / layer->inputs + 1), (long long)(bad % layer->inputs + 1));
}

/* -- choosing ----------------------------------------------------------------------------------------------------- */

static lc_status take_scores(const job *j, const lc_layer *layer, const lc_scores *scores, unit *u) {
    const lc_param *weight = layer->weight;
    LC_TRY(lc_prune_read_scores(j->name, layer, scores, &u->scores, &u->ranked));
    LC_TRY(lc_tensor_new(LC_BOOL, 2, weight->leaf->shape, LC_CPU, &u->keep));
    u->ranked.keep = LC_DATA(uint8_t, u->keep);
    if (!weight->held || j->options->regrow) return LC_OK;
    LC_TRY(lc_bits_unpack(weight->held, &u->held));
    u->ranked.held = LC_DATA(uint8_t, u->held);
    return LC_OK;
}

/* The layer's answer is known. */
static lc_status finish(const job *j, int64_t i) {
    LC_TRY(lc_bits_pack(j->units[i].keep, &j->keep[i]));
    drop_unit(&j->units[i]);
    return LC_OK;
}

static lc_status choose_together(const job *j, int64_t weights) {
    int64_t n = j->layers->n;
    lc_ranked *ranked = lc_alloc((size_t)n * sizeof *ranked);
    if (!ranked) return LC_ENOMEM;
    for (int64_t i = 0; i < n; i++) ranked[i] = j->units[i].ranked;
    lc_status status = lc_prune_lowest(ranked, n, lc_prune_count(j->targets[0].sparsity, weights));
    lc_free(ranked);
    for (int64_t i = 0; i < n && !status; i++) status = finish(j, i);
    return status;
}

int64_t lc_prune_count(double sparsity, int64_t n) {
    return (int64_t)floor(sparsity * (double)n);
}

lc_status lc_prune_held_enough(const lc_param *p, const lc_target *target, bool regrow, lc_bits **keep) {
    *keep = NULL;
    if (p->held && regrow) return LC_OK;
    int64_t n = lc_numel(p->leaf), pruned = p->held ? n - lc_bits_count(p->held) : 0;
    if (target->m ? target->n != target->m : pruned < lc_prune_count(target->sparsity, n)) return LC_OK;
    if (!p->held) return lc_bits_ones(p->leaf->ndim, p->leaf->shape, keep);
    *keep = lc_bits_retain(p->held);
    return LC_OK;
}

lc_status lc_prune_layer(const lc_ranked *r, int64_t inputs, const lc_target *target, lc_scope scope) {
    if (target->m) return lc_prune_groups(r, target->n, target->m);
    if (scope == LC_SCOPE_LAYER) return lc_prune_lowest(r, 1, lc_prune_count(target->sparsity, r->n));
    for (int64_t start = 0; start < r->n; start += inputs) {
        lc_ranked row = lc_ranked_part(r, start, inputs);
        LC_TRY(lc_prune_lowest(&row, 1, lc_prune_count(target->sparsity, inputs)));
    }
    return LC_OK;
}

static lc_status choose(const job *j, lc_score score, void *context) {
    bool together = j->options->scope == LC_SCOPE_MODEL && !j->targets[0].m;
    int64_t weights = 0;
    for (int64_t i = 0; i < j->layers->n; i++) {
        lc_layer *layer = lc_selected_layer(j->layers, i);
        unit *u = &j->units[i];
        lc_scores scores = {0};
        LC_TRY(lc_param_enforce(layer->weight));
        LC_TRY(score(context, layer, &scores));
        lc_status status = take_scores(j, layer, &scores, u);
        lc_tensor_release(scores.values);
        LC_TRY(status);
        weights += u->ranked.n;
        if (together) continue;
        LC_TRY(lc_prune_held_enough(layer->weight, &j->targets[i], j->options->regrow, &j->keep[i]));
        if (j->keep[i]) {
            drop_unit(u);
            continue;
        }
        LC_TRY(lc_prune_layer(&u->ranked, layer->inputs, &j->targets[i], j->options->scope));
        LC_TRY(finish(j, i));
    }
    return together ? choose_together(j, weights) : LC_OK;
}

/* -- writing ------------------------------------------------------------------------------------------------------ */

/* What comes back starts from the value it had, where that was remembered. */
static lc_status restore_regrown(const job *j) {
    for (int64_t i = 0; i < j->layers->n; i++) {
        lc_param *p = lc_selected_layer(j->layers, i)->weight;
        lc_tensor *before = NULL;
        if (!p->held || !p->held_values) continue;
        LC_TRY(lc_param_before(p, &before));
        lc_status status = lc_copy_into(p->leaf, before);
        lc_tensor_release(before);
        LC_TRY(status);
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
    mask->requested = lc_prune_requested(j->layers, j->targets);
    lc_cancel_hold();
    lc_status status = write_mask(j, mask);
    lc_cancel_release();
    if (status)
        lc_mask_release(mask);
    else
        *out = mask;
    return status;
}

lc_status lc_prune(const char *name, const lc_selection *layers, lc_score score, void *context,
                   const lc_prune_options *options, lc_mask **out) {
    job j = {.name = name, .layers = layers, .options = options};
    size_t n = (size_t)layers->n;
    LC_TRY(lc_prune_targets(name, layers, options, &j.targets));
    lc_status status = LC_ENOMEM;
    j.keep = lc_calloc(n, sizeof *j.keep);
    j.units = lc_calloc(n, sizeof *j.units);
    if (j.keep && j.units) {
        status = choose(&j, score, context);
        if (!status) status = make_mask(&j, out);
    }
    for (size_t i = 0; i < n; i++) {
        if (j.keep) lc_bits_release(j.keep[i]);
        if (j.units) drop_unit(&j.units[i]);
    }
    lc_free(j.targets);
    lc_free(j.keep);
    lc_free(j.units);
    return status;
}
