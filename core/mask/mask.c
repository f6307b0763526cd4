/* mask.c: masks as values, and what they do to models. */
#include "mask/mask.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/pool.h"
#include "base/strbuf.h"
#include "ops/op.h"

/* -- making ------------------------------------------------------------------------------------------------------- */

/* Room for n entries, all empty. */
static lc_status mask_new(lc_model *model, int64_t n, lc_mask **out) {
    lc_mask *m = lc_calloc(1, sizeof *m);
    if (!m) return LC_ENOMEM;
    m->refs = 1;
    m->requested = NAN;
    m->entries = lc_calloc((size_t)n, sizeof *m->entries);
    if (!m->entries) {
        lc_free(m);
        return LC_ENOMEM;
    }
    m->model = lc_model_retain(model);
    *out = m;
    return LC_OK;
}

/* Adds an entry; takes over `keep`, on failure too. */
static lc_status mask_add(lc_mask *m, const char *name, lc_bits *keep) {
    char *copy = lc_strdup(name);
    if (!copy) {
        lc_bits_release(keep);
        return LC_ENOMEM;
    }
    m->entries[m->n++] = (lc_mask_entry){copy, keep};
    return LC_OK;
}

/* Hands m over, or drops it when building it failed. */
static lc_status mask_done(lc_status status, lc_mask *m, lc_mask **out) {
    if (status)
        lc_mask_release(m);
    else
        *out = m;
    return status;
}

lc_mask *lc_mask_retain(lc_mask *m) {
    m->refs++;
    return m;
}

void lc_mask_release(lc_mask *m) {
    if (!m || --m->refs > 0) return;
    for (int64_t i = 0; i < m->n; i++) {
        lc_free(m->entries[i].name);
        lc_bits_release(m->entries[i].keep);
    }
    lc_free(m->entries);
    lc_model_release(m->model);
    lc_free(m);
}

static lc_status check_layers(const lc_selection *layers) {
    if (layers->part == LC_PART_LINEAR) return LC_OK;
    return lc_fail(LC_EINVAL, "mask: masks are made for linear layers; take model:linears()");
}

static lc_status check_keep(const lc_layer *layer, const lc_bits *keep) {
    const lc_tensor *weight = layer->weight->leaf;
    if (lc_bits_has_shape(keep, weight->ndim, weight->shape)) return LC_OK;
    return lc_fail(LC_ESHAPE, "mask: %s: the mask is %s, the weight %s", layer->name, LC_SHAPE(keep), LC_SHAPE(weight));
}

/* A mask of layer after layer: what `read` gives for each, a fresh reference. */
static lc_status read_layers(const lc_selection *layers,
                             lc_status (*read)(const void *context, int64_t i, const lc_layer *layer, lc_bits **keep),
                             const void *context, lc_mask **out) {
    lc_mask *m = NULL;
    LC_TRY(check_layers(layers));
    LC_TRY(mask_new(layers->model, layers->n, &m));
    lc_status status = LC_OK;
    for (int64_t i = 0; i < layers->n && !status; i++) {
        const lc_layer *layer = lc_selected_layer(layers, i);
        lc_bits *keep = NULL;
        status = read(context, i, layer, &keep);
        if (!status) status = mask_add(m, layer->name, keep);
    }
    return mask_done(status, m, out);
}

static lc_status read_given(const void *context, int64_t i, const lc_layer *layer, lc_bits **keep) {
    lc_bits *const *given = context;
    LC_TRY(check_keep(layer, given[i]));
    *keep = lc_bits_retain(given[i]);
    return LC_OK;
}

lc_status lc_mask_new(const lc_selection *layers, lc_bits *const *keep, lc_mask **out) {
    return read_layers(layers, read_given, keep, out);
}

static lc_status read_bools(const void *context, int64_t i, const lc_layer *layer, lc_bits **keep) {
    lc_tensor *const *given = context;
    lc_bits *packed = NULL;
    lc_status status = lc_bits_pack(given[i], &packed);
    if (status) return lc_fail_within(status, "mask: %s", layer->name);
    status = check_keep(layer, packed);
    if (status)
        lc_bits_release(packed);
    else
        *keep = packed;
    return status;
}

lc_status lc_mask_from(const lc_selection *layers, lc_tensor *const *keep, lc_mask **out) {
    return read_layers(layers, read_bools, keep, out);
}

/* What of x is not zero. */
static lc_status is_not_zero(lc_tensor *x, lc_bits **out) {
    lc_tensor *zero = NULL, *differs = NULL;
    lc_status status;
    LC_GOTO(done, lc_tensor_scalar(x->dtype, 0, &zero));
    LC_GOTO(done, lc_run(LC_OP_NE, NULL, (lc_tensor *[]){x, zero}, 2, &differs));
    status = lc_bits_pack(differs, out);
done:
    lc_tensor_release(zero);
    lc_tensor_release(differs);
    return status;
}

static lc_status read_weight(const void *context, int64_t i, const lc_layer *layer, lc_bits **keep) {
    (void)context, (void)i;
    LC_TRY(lc_param_enforce(layer->weight));
    return is_not_zero(layer->weight->leaf, keep);
}

lc_status lc_mask_of(const lc_selection *layers, lc_mask **out) {
    return read_layers(layers, read_weight, NULL, out);
}

static lc_status read_held(const void *context, int64_t i, const lc_layer *layer, lc_bits **keep) {
    (void)context, (void)i;
    const lc_param *p = layer->weight;
    if (!p->held) return lc_bits_ones(p->leaf->ndim, p->leaf->shape, keep);
    *keep = lc_bits_retain(p->held);
    return LC_OK;
}

lc_status lc_mask_held(const lc_selection *layers, lc_mask **out) {
    return read_layers(layers, read_held, NULL, out);
}

lc_bits *lc_mask_find(const lc_mask *m, const char *name) {
    for (int64_t i = 0; i < m->n; i++)
        if (strcmp(m->entries[i].name, name) == 0) return m->entries[i].keep;
    return NULL;
}

/* -- algebra ------------------------------------------------------------------------------------------------------ */

typedef lc_status combine(const lc_bits *a, const lc_bits *b, lc_bits **out);

/* One layer of a & b or a | b; a layer that is not named is wholly kept. */
static lc_status combine_layer(combine *op, const char *name, const lc_bits *a, const lc_bits *b, lc_bits **out) {
    lc_bits *all = NULL;
    const lc_bits *one = a ? a : b;
    if (a && b && !lc_bits_has_shape(a, b->ndim, b->shape))
        return lc_fail(LC_ESHAPE, "mask: %s is %s in one mask and %s in the other", name, LC_SHAPE(a), LC_SHAPE(b));
    if (!a || !b) LC_TRY(lc_bits_ones(one->ndim, one->shape, &all));
    lc_status status = op(a ? a : all, b ? b : all, out);
    lc_bits_release(all);
    return status;
}

static lc_status combine_all(combine *op, const lc_mask *a, const lc_mask *b, lc_mask **out) {
    lc_mask *m = NULL;
    LC_TRY(mask_new(a->model, a->n + b->n, &m));
    lc_status status = LC_OK;
    for (int64_t i = 0; i < a->n + b->n && !status; i++) {
        const char *name = i < a->n ? a->entries[i].name : b->entries[i - a->n].name;
        lc_bits *keep = NULL;
        if (i >= a->n && lc_mask_find(a, name)) continue;
        status = combine_layer(op, name, lc_mask_find(a, name), lc_mask_find(b, name), &keep);
        if (!status) status = mask_add(m, name, keep);
    }
    return mask_done(status, m, out);
}

lc_status lc_mask_and(const lc_mask *a, const lc_mask *b, lc_mask **out) {
    return combine_all(lc_bits_and, a, b, out);
}

lc_status lc_mask_or(const lc_mask *a, const lc_mask *b, lc_mask **out) {
    return combine_all(lc_bits_or, a, b, out);
}

lc_status lc_mask_not(const lc_mask *m, lc_mask **out) {
    lc_mask *other = NULL;
    LC_TRY(mask_new(m->model, m->n, &other));
    lc_status status = LC_OK;
    for (int64_t i = 0; i < m->n && !status; i++) {
        lc_bits *keep = NULL;
        status = lc_bits_not(m->entries[i].keep, &keep);
        if (!status) status = mask_add(other, m->entries[i].name, keep);
    }
    return mask_done(status, other, out);
}

/* -- counts ------------------------------------------------------------------------------------------------------- */

void lc_mask_count(const lc_mask *m, int64_t *weights, int64_t *pruned) {
    int64_t all = 0, kept = 0;
    for (int64_t i = 0; i < m->n; i++) {
        all += lc_bits_numel(m->entries[i].keep);
        kept += lc_bits_count(m->entries[i].keep);
    }
    if (weights) *weights = all;
    if (pruned) *pruned = all - kept;
}

double lc_mask_sparsity(const lc_mask *m) {
    int64_t weights, pruned;
    lc_mask_count(m, &weights, &pruned);
    return weights ? (double)pruned / (double)weights : 0;
}

/* How many weights are kept by `op` of both. */
static lc_status count_combined(combine *op, const lc_mask *a, const lc_mask *b, int64_t *kept) {
    lc_mask *m = NULL;
    int64_t weights, pruned;
    LC_TRY(combine_all(op, a, b, &m));
    lc_mask_count(m, &weights, &pruned);
    lc_mask_release(m);
    *kept = weights - pruned;
    return LC_OK;
}

lc_status lc_mask_overlap(const lc_mask *a, const lc_mask *b, double *out) {
    for (int64_t i = 0; i < a->n + b->n; i++) {
        const char *name = i < a->n ? a->entries[i].name : b->entries[i - a->n].name;
        if (!lc_mask_find(i < a->n ? b : a, name))
            return lc_fail(LC_EINVAL, "mask: overlap: only one of the masks names %s", name);
    }
    int64_t both, either;
    LC_TRY(count_combined(lc_bits_and, a, b, &both));
    LC_TRY(count_combined(lc_bits_or, a, b, &either));
    *out = either ? (double)both / (double)either : 1;
    return LC_OK;
}

/* -- on a model --------------------------------------------------------------------------------------------------- */

/* The layer of that name; NULL when the model has none. */
static lc_layer *layer_named(lc_model *model, const char *name) {
    for (int64_t i = 0; i < model->n_linears; i++)
        if (strcmp(model->linears[i]->name, name) == 0) return model->linears[i];
    return NULL;
}

static lc_status check_fits(const lc_mask *m, lc_model *model) {
    for (int64_t i = 0; i < m->n; i++) {
        lc_layer *layer = layer_named(model, m->entries[i].name);
        if (!layer) return lc_fail(LC_ENOTFOUND, "mask: the model has no layer %s", m->entries[i].name);
        LC_TRY(check_keep(layer, m->entries[i].keep));
    }
    return LC_OK;
}

static lc_param *weight_of(const lc_mask *m, lc_model *model, int64_t i) {
    return layer_named(model, m->entries[i].name)->weight;
}

static lc_status prepare_all(const lc_mask *m, lc_model *model, bool keep_values, lc_hold *hold) {
    for (int64_t i = 0; i < m->n; i++)
        LC_TRY(lc_hold_prepare(weight_of(m, model, i), m->entries[i].keep, keep_values, &hold[i]));
    return LC_OK;
}

/* Holds the mask, or only zeroes what it prunes: in all layers, or, when memory runs out, in none. */
static lc_status write_all(const lc_mask *m, lc_model *model, bool keep_values, lc_status (*write)(lc_hold *)) {
    if (!model) model = m->model;
    LC_TRY(check_fits(m, model));
    lc_hold *hold = lc_calloc((size_t)m->n, sizeof *hold);
    if (!hold) return LC_ENOMEM;
    lc_status status = prepare_all(m, model, keep_values, hold);
    lc_cancel_hold();
    for (int64_t i = 0; i < m->n && !status; i++) status = write(&hold[i]);
    lc_cancel_release();
    for (int64_t i = 0; i < m->n; i++) lc_hold_drop(&hold[i]);
    lc_free(hold);
    return status;
}

lc_status lc_mask_apply(const lc_mask *m, lc_model *model) {
    return write_all(m, model, false, lc_hold_zero);
}

lc_status lc_mask_hold(const lc_mask *m, lc_model *model, bool keep_values) {
    return write_all(m, model, keep_values, lc_hold_commit);
}

/* Lists the n weights that hold this mask; *other names a layer that holds another one. */
static void find_holders(const lc_mask *m, lc_model *model, lc_param **weights, int64_t *n, const char **other) {
    for (int64_t i = 0; i < m->n; i++) {
        lc_param *weight = weight_of(m, model, i);
        if (!weight->held) continue;
        if (lc_bits_equal(weight->held, m->entries[i].keep))
            weights[(*n)++] = weight;
        else
            *other = m->entries[i].name;
    }
}

lc_status lc_mask_lift(const lc_mask *m, lc_model *model) {
    if (!model) model = m->model;
    LC_TRY(check_fits(m, model));
    lc_param **weights = lc_alloc((size_t)m->n * sizeof *weights);
    if (!weights) return LC_ENOMEM;
    int64_t n = 0;
    const char *other = NULL;
    lc_status status = LC_OK;
    find_holders(m, model, weights, &n, &other);
    if (n == 0 && other)
        status = lc_fail(LC_ESTATE,
                         "mask: lift: no layer holds this mask: %s holds another, made since; lift that one, or "
                         "lc.mask.held(model)",
                         other);
    for (int64_t i = 0; i < n && !status; i++) lc_param_lift(weights[i]);
    lc_free(weights);
    return status;
}

/* Weights of the layer that are not zero, though `keep` prunes them. */
static lc_status count_violations(lc_param *weight, const lc_bits *keep, int64_t *count) {
    lc_bits *alive = NULL, *wrong = NULL;
    lc_status status;
    LC_GOTO(done, lc_param_enforce(weight));
    LC_GOTO(done, is_not_zero(weight->leaf, &alive));
    LC_GOTO(done, lc_bits_without(alive, keep, &wrong));
    *count = lc_bits_count(wrong);
done:
    lc_bits_release(alive);
    lc_bits_release(wrong);
    return status;
}

lc_status lc_mask_violations(const lc_mask *m, lc_model *model, int64_t *out) {
    if (!model) model = m->model;
    LC_TRY(check_fits(m, model));
    int64_t total = 0;
    for (int64_t i = 0; i < m->n; i++) {
        int64_t count = 0;
        LC_TRY(count_violations(weight_of(m, model, i), m->entries[i].keep, &count));
        total += count;
    }
    *out = total;
    return LC_OK;
}

/* -- text --------------------------------------------------------------------------------------------------------- */

/* 84934656 as "84,934,656". */
static void add_grouped(lc_strbuf *b, int64_t n) {
    char digits[32];
    int length = snprintf(digits, sizeof digits, "%lld", (long long)n);
    for (int i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0) lc_strbuf_puts(b, ",");
        lc_strbuf_add(b, digits + i, 1);
    }
}

lc_status lc_mask_text(const lc_mask *m, char **out) {
    lc_strbuf b = {0};
    int64_t weights, pruned;
    lc_mask_count(m, &weights, &pruned);
    lc_strbuf_printf(&b, "mask of %lld layer%s: %.1f%% of ", (long long)m->n, m->n == 1 ? "" : "s",
                     weights ? 100.0 * (double)pruned / (double)weights : 0);
    add_grouped(&b, weights);
    lc_strbuf_puts(&b, " weights pruned");
    if (!isnan(m->requested)) lc_strbuf_printf(&b, " (asked for %.1f%%)", 100 * m->requested);
    for (int64_t i = 0; i < m->n; i++) {
        const lc_mask_entry *e = &m->entries[i];
        double n = (double)lc_max(1, lc_bits_numel(e->keep)), kept = (double)lc_bits_count(e->keep);
        lc_strbuf_printf(&b, "\n  %s  %s  %.1f%%", e->name, LC_SHAPE(e->keep), 100 * (1 - kept / n));
    }
    return lc_strbuf_take(&b, out, NULL);
}
