/* refine.c: see refine.h. */
#include "solve/refine.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "ops/op.h"
#include "solve/layerwise.h"
#include "solve/reconstruct.h"
#include "solve/swap.h"

lc_refine_options lc_refine_defaults(void) {
    return (lc_refine_options){.swaps = 100, .iterations = 100};
}

/* -- one layer ----------------------------------------------------------------------------------------------------- */

/* A copy in f64, to be changed. */
static lc_status widen(const char *name, const char *layer, lc_tensor *x, lc_tensor **out) {
    LC_TRY(lc_check_finite(name, layer, x));
    return lc_run(LC_OP_COPY, &(lc_attr){.dtype = LC_F64}, &x, 1, out);
}

/* H as it is, retained, or a damped copy. */
static lc_status damped(lc_tensor *H, const lc_refine_options *o, lc_tensor **out) {
    if (o->damp == 0 && o->epsilon == 0) {
        *out = lc_tensor_retain(H);
        return LC_OK;
    }
    LC_TRY(lc_run(LC_OP_COPY, &(lc_attr){.dtype = LC_F64}, &H, 1, out));
    int64_t I = H->shape[0];
    double *h = LC_DATA(double, *out), sum = 0;
    for (int64_t i = 0; i < I; i++) sum += h[i * (I + 1)];
    for (int64_t i = 0; i < I; i++) h[i * (I + 1)] += o->damp * sum / (double)I + o->epsilon;
    return LC_OK;
}

lc_status lc_refine(const char *name, const lc_layer_stats *stats, const lc_refine_options *o, int64_t group,
                    const uint8_t *held, lc_tensor *T, lc_tensor *W, lc_tensor *keep) {
    lc_tensor *H = NULL, *target = NULL, *weights = NULL;
    const char *layer = stats->layer->name;
    lc_status status;
    LC_GOTO(done, widen(name, layer, T, &target));
    LC_GOTO(done, widen(name, layer, W, &weights));
    LC_GOTO(done, damped(stats->H, o, &H));
    lc_quadratic q = {W->shape[0], W->shape[1], LC_DATA(double, H), LC_DATA(double, target)};
    double *w = LC_DATA(double, weights);
    uint8_t *kept = LC_DATA(uint8_t, keep);
    for (int64_t k = 0; k < q.O * q.I; k++)
        if (!kept[k]) w[k] = 0;
    if (o->swap) LC_GOTO(done, lc_swap(&q, group, held, o->swaps, w, kept, NULL));
    if (o->reconstruct) LC_GOTO(done, lc_reconstruct(&q, kept, o->iterations, w));
    LC_GOTO(done, lc_copy_into(W, weights));
    status = lc_check_found(name, layer, W);
done:
    lc_tensor_release(H);
    lc_tensor_release(target);
    lc_tensor_release(weights);
    return status;
}

/* -- the calibration's layers -------------------------------------------------------------------------------------- */

typedef struct job {
    lc_calibration *c;
    const char *name;
    lc_selection *layers;
    const lc_snapshot *target;
    const lc_mask *held;     /* what it prunes stays pruned; NULL: nothing */
    const lc_target *groups; /* one for each layer; NULL: rows */
    const lc_refine_options *options;
    bool hold;
    lc_bits **keep; /* one for each layer */
} job;

static lc_status find_target(const job *j, const lc_param *p, lc_tensor **T) {
    lc_tensor *found = lc_snapshot_find(j->target, p->name);
    if (!found || !lc_same_shape(found, p->leaf))
        return lc_fail(LC_EINVAL,
                       "%s: the target snapshot has no %s of shape %s; take it from this model before pruning", j->name,
                       p->name, LC_SHAPE(p->leaf));
    *T = found;
    return LC_OK;
}

/* What the layer holds, or else what is not 0, as a tensor of its own. */
static lc_status support_of(const lc_param *p, lc_tensor **keep) {
    if (p->held) return lc_bits_unpack(p->held, keep);
    lc_tensor *fresh = NULL;
    LC_TRY(lc_tensor_new(LC_BOOL, 2, p->leaf->shape, LC_CPU, &fresh));
    for (int64_t k = 0; k < lc_numel(fresh); k++) LC_DATA(uint8_t, fresh)[k] = lc_get_f64(p->leaf, k) != 0;
    *keep = fresh;
    return LC_OK;
}

/* A mask that names none of the layers is another model's. */
static lc_status check_held(const job *j) {
    bool any = !j->held;
    for (int64_t i = 0; i < j->layers->n && !any; i++)
        any = lc_mask_find(j->held, lc_selected_layer(j->layers, i)->name) != NULL;
    return any ? LC_OK : lc_fail(LC_ENOTFOUND, "%s: the held mask names none of these layers", j->name);
}

/* What the mask of an earlier round keeps of the layer; NULL where it does not name it: all. */
static lc_status held_of(const job *j, const lc_param *p, const char *layer, lc_tensor **held) {
    const lc_bits *bits = j->held ? lc_mask_find(j->held, layer) : NULL;
    if (!bits) return LC_OK;
    if (!lc_bits_has_shape(bits, p->leaf->ndim, p->leaf->shape))
        return lc_fail(LC_ESHAPE, "%s: the held mask has %s for %s, whose weight is %s", j->name,
                       lc_shape_text(bits->ndim, bits->shape), layer, LC_SHAPE(p->leaf));
    return lc_bits_unpack(bits, held);
}

static bool wholly_kept(const lc_tensor *keep) {
    return !memchr(lc_data(keep), 0, (size_t)lc_numel(keep));
}

static lc_status refine_layer(const job *j, const lc_layer_stats *stats) {
    lc_param *p = stats->layer->weight;
    lc_tensor *T = NULL, *W = NULL, *keep = NULL, *held = NULL;
    lc_bits **kept = &j->keep[stats->index];
    int64_t group = j->groups ? j->groups[stats->index].m : 0;
    lc_status status;
    LC_TRY(lc_param_enforce(p));
    LC_TRY(find_target(j, p, &T));
    LC_TRY(support_of(p, &keep));
    if (wholly_kept(keep)) {
        status = lc_bits_pack(keep, kept);
    } else {
        LC_GOTO(done, lc_run(LC_OP_COPY, &(lc_attr){.dtype = p->leaf->dtype}, &p->leaf, 1, &W));
        LC_GOTO(done, held_of(j, p, stats->layer->name, &held));
        const uint8_t *stays = held ? LC_DATA(uint8_t, held) : NULL;
        LC_GOTO(done, lc_refine(j->name, stats, j->options, group, stays, T, W, keep));
        LC_GOTO(done, lc_bits_pack(keep, kept));
        status = lc_layer_write(p, W, j->hold || p->held ? *kept : NULL, p->held_values != NULL);
    }
done:
    lc_tensor_release(keep);
    lc_tensor_release(held);
    lc_tensor_release(W);
    return status;
}

static lc_status refine_all(const job *j) {
    for (;;) {
        lc_layer_stats stats;
        LC_TRY(lc_calibration_next(j->c, &stats));
        if (!stats.layer) return LC_OK;
        LC_TRY(refine_layer(j, &stats));
    }
}

/* The groups that a pattern names; NULL for none. */
static lc_status read_groups(const job *j, const char *pattern, lc_target **groups) {
    lc_prune_options o = {.sparsity = NAN, .pattern = pattern, .apply = true, .hold = true};
    if (!pattern) o.sparsity = 0; /* no pattern; the other checks are wanted all the same */
    return lc_prune_targets(j->name, j->layers, &o, groups);
}

lc_status lc_prune_refine(lc_calibration *c, const lc_snapshot *target, const char *pattern, const lc_mask *held,
                          bool hold, const lc_refine_options *options, lc_mask **out) {
    job j = {.c = c, .name = lc_calibration_name(c), .layers = lc_calibration_layers(c), .target = target};
    j.options = options;
    j.hold = hold;
    j.held = held;
    lc_target *groups = NULL;
    LC_TRY(read_groups(&j, pattern, &groups));
    j.groups = groups;
    lc_status status = check_held(&j);
    if (!status && !(j.keep = lc_calloc((size_t)j.layers->n, sizeof *j.keep))) status = LC_ENOMEM;
    if (!status) status = refine_all(&j);
    if (!status) status = lc_mask_new(j.layers, j.keep, out);
    for (int64_t i = 0; j.keep && i < j.layers->n; i++) lc_bits_release(j.keep[i]);
    lc_free(j.keep);
    lc_free(groups);
    return status;
}
