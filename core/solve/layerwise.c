/* layerwise.c: see layerwise.h. */
#include "solve/layerwise.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/pool.h"
#include "ops/op.h"
#include "solve/refine.h"

/* A layer as it was, to be put back: only where the mask is not to be applied, but layers behind are to see it. */
typedef struct was {
    lc_tensor *W; /* NULL: it is as it was */
    lc_bits *held;
    lc_tensor *held_values;
} was;

typedef struct job {
    lc_calibration *c;
    const char *name;
    lc_selection *layers;
    const lc_prune_options *options;
    lc_target *targets;
    lc_bits **keep; /* one for each layer that had its turn */
    was *before;    /* one for each layer */
} job;

/* -- one layer ----------------------------------------------------------------------------------------------------- */

static lc_status copy_of(lc_tensor *x, lc_tensor **out) {
    return lc_run(LC_OP_COPY, &(lc_attr){.dtype = x->dtype}, &x, 1, out);
}

/* A tensor of the layer's own to solve in. */
static lc_status starting_weight(const job *j, const lc_param *p, lc_tensor **W) {
    lc_tensor *weight = NULL;
    LC_TRY(lc_prune_weight(p, j->options->regrow, &weight));
    if (weight != p->leaf) {
        *W = weight;
        return LC_OK;
    }
    lc_status status = copy_of(weight, W);
    lc_tensor_release(weight);
    return status;
}

/* Then survivors keep their values too: only what is pruned is made up for. */
static bool prunes_nothing_more(const lc_turn *turn) {
    size_t n = (size_t)lc_numel(turn->keep);
    if (turn->held) return memcmp(lc_data(turn->keep), turn->held, n) == 0;
    return !turn->stats->layer->weight->held && !memchr(lc_data(turn->keep), 0, n);
}

static lc_status all_finite(lc_tensor *W, bool *yes) {
    lc_tensor *finite = NULL, *all = NULL;
    LC_TRY(lc_run(LC_OP_IS_FINITE, NULL, &W, 1, &finite));
    lc_status status = lc_run(LC_OP_ALL, &(lc_attr){.dim = -1}, &finite, 1, &all);
    lc_tensor_release(finite);
    LC_TRY(status);
    *yes = lc_get_i64(all, all->offset) != 0;
    lc_tensor_release(all);
    return LC_OK;
}

lc_status lc_check_finite(const char *name, const char *layer, lc_tensor *W) {
    bool finite = false;
    LC_TRY(all_finite(W, &finite));
    int64_t I = W->shape[1], k = 0;
    if (finite) return LC_OK;
    while (isfinite(lc_get_f64(W, lc_position(W, k)))) k++;
    return lc_fail(LC_EINVAL, "%s: %s: the weight at row %lld, column %lld is not finite", name, layer,
                   (long long)(k / I + 1), (long long)(k % I + 1));
}

lc_status lc_check_found(const char *name, const char *layer, lc_tensor *W) {
    bool finite = false;
    LC_TRY(all_finite(W, &finite));
    if (finite) return LC_OK;
    return lc_fail(LC_ENUMERIC, "%s: %s: the weights that were found are not finite; the layer is unchanged", name,
                   layer);
}

/* Cannot fail: a leaf is contiguous, and W is like it. */
static void write_weight(lc_param *p, const lc_tensor *W) {
    memcpy(lc_data(p->leaf), lc_data(W), (size_t)lc_numel(W) * lc_dtype_size(W->dtype));
    lc_touch(p->leaf);
}

lc_status lc_layer_write(lc_param *p, const lc_tensor *W, lc_bits *keep, bool keep_values) {
    lc_hold hold = {0};
    lc_status status = LC_OK;
    if (keep) LC_TRY(lc_hold_prepare(p, keep, keep_values, &hold));
    lc_cancel_hold();
    write_weight(p, W);
    if (keep) status = lc_hold_commit(&hold);
    lc_cancel_release();
    lc_hold_drop(&hold);
    return status;
}

static lc_status write_layer(const job *j, int64_t i, lc_tensor *W) {
    lc_param *p = lc_selected_layer(j->layers, i)->weight;
    const lc_prune_options *o = j->options;
    LC_TRY(lc_run(LC_OP_ZERO_PRUNED, NULL, (lc_tensor *[]){W, j->keep[i]->bytes}, 2, NULL));
    if (o->apply) return lc_layer_write(p, W, o->hold ? j->keep[i] : NULL, o->keep_values);
    was *before = &j->before[i];
    LC_TRY(copy_of(p->leaf, &before->W));
    before->held = p->held; /* it must not zero what comes back */
    before->held_values = p->held_values;
    p->held = NULL;
    p->held_values = NULL;
    return lc_layer_write(p, W, NULL, false);
}

/* The solver, and what comes after it, for which the weights as they were are kept. */
static lc_status solve_turn(const job *j, lc_solver solve, void *context, lc_turn *turn) {
    const lc_refine_options *refine = j->options->refine;
    if (!refine) return solve(context, turn);
    lc_tensor *dense = NULL;
    lc_status status;
    LC_GOTO(done, copy_of(turn->W, &dense));
    LC_GOTO(done, solve(context, turn));
    status = lc_refine(j->name, turn->stats, refine, turn->target.m, turn->held, dense, turn->W, turn->keep);
done:
    lc_tensor_release(dense);
    return status;
}

static lc_status solve_layer(const job *j, lc_solver solve, void *context, const lc_layer_stats *stats) {
    int64_t i = stats->index;
    lc_param *p = stats->layer->weight;
    LC_TRY(lc_param_enforce(p));
    LC_TRY(lc_prune_held_enough(p, &j->targets[i], j->options->regrow, &j->keep[i]));
    if (j->keep[i]) return LC_OK;
    lc_turn turn = {.name = j->name, .stats = stats, .options = j->options, .target = j->targets[i]};
    lc_tensor *held = NULL;
    lc_status status;
    if (p->held && !j->options->regrow) {
        LC_GOTO(done, lc_bits_unpack(p->held, &held));
        turn.held = LC_DATA(uint8_t, held);
    }
    LC_GOTO(done, starting_weight(j, p, &turn.W));
    LC_GOTO(done, lc_tensor_new(LC_BOOL, 2, p->leaf->shape, LC_CPU, &turn.keep));
    LC_GOTO(done, solve_turn(j, solve, context, &turn));
    LC_GOTO(done, lc_bits_pack(turn.keep, &j->keep[i]));
    if (!prunes_nothing_more(&turn)) status = write_layer(j, i, turn.W);
done:
    lc_tensor_release(held);
    lc_tensor_release(turn.W);
    lc_tensor_release(turn.keep);
    return status;
}

/* -- all of them --------------------------------------------------------------------------------------------------- */

static lc_status solve_all(const job *j, lc_solver solve, void *context) {
    for (;;) {
        lc_layer_stats stats;
        LC_TRY(lc_calibration_next(j->c, &stats));
        if (!stats.layer) return LC_OK;
        if (j->options->refine) stats.spare = false; /* after-steps read H too */
        LC_TRY(solve_layer(j, solve, context, &stats));
    }
}

/* Puts back what apply = false changed for the sake of the layers behind. */
static void put_back(const job *j) {
    for (int64_t i = 0; i < j->layers->n; i++) {
        was *before = &j->before[i];
        lc_param *p = lc_selected_layer(j->layers, i)->weight;
        if (!before->W) continue;
        write_weight(p, before->W);
        lc_param_lift(p); /* of what a function in Lua may have made it hold */
        p->held = before->held;
        p->held_values = before->held_values;
        lc_tensor_release(before->W);
    }
}

static lc_status make_mask(const job *j, lc_mask **out) {
    LC_TRY(lc_mask_new(j->layers, j->keep, out));
    (*out)->requested = lc_prune_requested(j->layers, j->targets);
    return LC_OK;
}

lc_status lc_prune_layerwise(lc_calibration *c, lc_solver solve, void *context, const lc_prune_options *options,
                             lc_mask **out) {
    job j = {.c = c, .name = lc_calibration_name(c), .layers = lc_calibration_layers(c), .options = options};
    LC_TRY(lc_prune_targets(j.name, j.layers, options, &j.targets));
    size_t n = (size_t)j.layers->n;
    lc_status status = LC_ENOMEM;
    j.keep = lc_calloc(n, sizeof *j.keep);
    j.before = lc_calloc(n, sizeof *j.before);
    if (j.keep && j.before) {
        status = solve_all(&j, solve, context);
        put_back(&j);
        if (!status) status = make_mask(&j, out);
    }
    for (size_t i = 0; i < n && j.keep; i++) lc_bits_release(j.keep[i]);
    lc_free(j.keep);
    lc_free(j.before);
    lc_free(j.targets);
    return status;
}

/* -- scores -------------------------------------------------------------------------------------------------------- */

typedef struct score_job {
    lc_calibration *c;
    lc_stats_score score;
    void *context;
    bool regrow;
} score_job;

/* A layer's turn: scores, then exact counts. */
static lc_status solve_by_score(void *context, lc_turn *turn) {
    const score_job *s = context;
    lc_layer *layer = turn->stats->layer;
    lc_scores scores = {0};
    lc_tensor *values = NULL;
    lc_ranked ranked = {.keep = LC_DATA(uint8_t, turn->keep), .held = turn->held};
    LC_TRY(s->score(s->context, turn->stats, turn->W, &scores));
    lc_status status = lc_prune_read_scores(turn->name, layer, &scores, &values, &ranked);
    lc_tensor_release(scores.values);
    LC_TRY(status);
    status = lc_prune_layer(&ranked, layer->inputs, &turn->target, turn->options->scope);
    lc_tensor_release(values);
    return status;
}

/* All scores before any weight is changed: layers come in the selection's order from both sides. */
static lc_status score_of_next(void *context, lc_layer *layer, lc_scores *out) {
    const score_job *s = context;
    lc_layer_stats stats;
    lc_tensor *W = NULL;
    LC_TRY(lc_calibration_next(s->c, &stats));
    LC_TRY(lc_prune_weight(layer->weight, s->regrow, &W));
    lc_status status = s->score(s->context, &stats, W, out);
    lc_tensor_release(W);
    return status;
}

lc_status lc_prune_scored(lc_calibration *c, lc_stats_score score, void *context, const lc_prune_options *options,
                          lc_mask **out) {
    score_job s = {c, score, context, options->regrow};
    const char *name = lc_calibration_name(c);
    if (lc_calibration_sequential(c) == LC_SEQUENTIAL_OFF && !options->refine)
        return lc_prune(name, lc_calibration_layers(c), score_of_next, &s, options, out);
    if (options->scope == LC_SCOPE_MODEL && !options->pattern)
        return lc_fail(LC_EINVAL,
                       "%s: scope 'model' ranks all layers before any is pruned; it needs sequential = false, and no "
                       "swap or reconstruct",
                       name);
    return lc_prune_layerwise(c, solve_by_score, &s, options, out);
}
