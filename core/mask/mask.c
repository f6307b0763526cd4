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
static lc_status mask_add(lc_mask *m, const char *name, lc_tensor *keep) {
    char *copy = lc_strdup(name);
    if (!copy) {
        lc_tensor_release(keep);
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
        lc_tensor_release(m->entries[i].keep);
    }
    lc_free(m->entries);
    lc_model_release(m->model);
    lc_free(m);
}

static lc_status check_layers(const lc_selection *layers) {
    if (layers->part == LC_PART_LINEAR) return LC_OK;
    return lc_fail(LC_EINVAL, "mask: masks are made for linear layers; take model:linears()");
}

static lc_status check_keep(const lc_layer *layer, const lc_tensor *keep) {
    const lc_tensor *weight = layer->weight->leaf;
    if (keep->dtype != LC_BOOL)
        return lc_fail(LC_EDTYPE, "mask: %s: a mask is a bool tensor (a comparison makes one), not %s", layer->name,
                       lc_dtype_name(keep->dtype));
    if (!lc_same_shape(keep, weight))
        return lc_fail(LC_ESHAPE, "mask: %s: the mask is %s, the weight %s", layer->name, LC_SHAPE(keep),
                       LC_SHAPE(weight));
    return LC_OK;
}

lc_status lc_mask_new(const lc_selection *layers, lc_tensor *const *keep, lc_mask **out) {
    lc_mask *m = NULL;
    LC_TRY(check_layers(layers));
    LC_TRY(mask_new(layers->model, layers->n, &m));
    lc_status status = LC_OK;
    for (int64_t i = 0; i < layers->n && !status; i++) {
        lc_tensor *own = NULL;
        status = check_keep(lc_selected_layer(layers, i), keep[i]);
        if (!status) status = lc_contiguous(keep[i], &own);
        if (!status) status = mask_add(m, lc_selected_layer(layers, i)->name, own);
    }
    return mask_done(status, m, out);
}

static lc_status is_not_zero(lc_tensor *x, lc_tensor **out) {
    lc_tensor *zero = NULL;
    LC_TRY(lc_tensor_scalar(x->dtype, 0, &zero));
    lc_status status = lc_run(LC_OP_NE, NULL, (lc_tensor *[]){x, zero}, 2, out);
    lc_tensor_release(zero);
    return status;
}

lc_status lc_mask_of(const lc_selection *layers, lc_mask **out) {
    lc_mask *m = NULL;
    LC_TRY(check_layers(layers));
    LC_TRY(mask_new(layers->model, layers->n, &m));
    lc_status status = LC_OK;
    for (int64_t i = 0; i < layers->n && !status; i++) {
        lc_layer *layer = lc_selected_layer(layers, i);
        lc_tensor *keep = NULL;
        status = lc_param_enforce(layer->weight);
        if (!status) status = is_not_zero(layer->weight->leaf, &keep);
        if (!status) status = mask_add(m, layer->name, keep);
    }
    return mask_done(status, m, out);
}

static lc_status all_kept(const lc_tensor *like, lc_tensor **out) {
    lc_tensor *all = NULL;
    LC_TRY(lc_tensor_new(LC_BOOL, like->ndim, like->shape, LC_CPU, &all));
    lc_status status = lc_fill(all, 1);
    if (status)
        lc_tensor_release(all);
    else
        *out = all;
    return status;
}

lc_status lc_mask_held(const lc_selection *layers, lc_mask **out) {
    lc_mask *m = NULL;
    LC_TRY(check_layers(layers));
    LC_TRY(mask_new(layers->model, layers->n, &m));
    lc_status status = LC_OK;
    for (int64_t i = 0; i < layers->n && !status; i++) {
        const lc_layer *layer = lc_selected_layer(layers, i);
        lc_tensor *keep = NULL;
        if (layer->weight->held)
            keep = lc_tensor_retain(layer->weight->held);
        else
            status = all_kept(layer->weight->leaf, &keep);
        if (!status) status = mask_add(m, layer->name, keep);
    }
    return mask_done(status, m, out);
}

lc_tensor *lc_mask_find(const lc_mask *m, const char *name) {
    for (int64_t i = 0; i < m->n; i++)
        if (strcmp(m->entries[i].name, name) == 0) return m->entries[i].keep;
    return NULL;
}

/* -- algebra ------------------------------------------------------------------------------------------------------ */

/* One layer of a & b or a | b; a layer that is not named is wholly kept. */
static lc_status combine(lc_op op, const char *name, lc_tensor *a, lc_tensor *b, lc_tensor **out) {
    lc_tensor *all = NULL, *made[LC_MAX_OUT] = {0};
    if (a && b && !lc_same_shape(a, b))
        return lc_fail(LC_ESHAPE, "mask: %s is %s in one mask and %s in the other", name, LC_SHAPE(a), LC_SHAPE(b));
    if (!a || !b) LC_TRY(all_kept(a ? a : b, &all));
    lc_status status = lc_run(op, NULL, (lc_tensor *[]){a ? a : all, b ? b : all}, 2, made);
    lc_tensor_release(all);
    if (!status) *out = made[0];
    return status;
}

static lc_status combine_all(lc_op op, const lc_mask *a, const lc_mask *b, lc_mask **out) {
    lc_mask *m = NULL;
    LC_TRY(mask_new(a->model, a->n + b->n, &m));
    lc_status status = LC_OK;
    for (int64_t i = 0; i < a->n + b->n && !status; i++) {
        const char *name = i < a->n ? a->entries[i].name : b->entries[i - a->n].name;
        lc_tensor *keep = NULL;
        if (i >= a->n && lc_mask_find(a, name)) continue;
        status = combine(op, name, lc_mask_find(a, name), lc_mask_find(b, name), &keep);
        if (!status) status = mask_add(m, name, keep);
    }
    return mask_done(status, m, out);
}

lc_status lc_mask_and(const lc_mask *a, const lc_mask *b, lc_mask **out) {
    return combine_all(LC_OP_AND, a, b, out);
}

lc_status lc_mask_or(const lc_mask *a, const lc_mask *b, lc_mask **out) {
    return combine_all(LC_OP_OR, a, b, out);
}

lc_status lc_mask_not(const lc_mask *m, lc_mask **out) {
    lc_mask *other = NULL;
    LC_TRY(mask_new(m->model, m->n, &other));
    lc_status status = LC_OK;
    for (int64_t i = 0; i < m->n && !status; i++) {
        lc_tensor *keep = NULL;
        status = lc_run(LC_OP_NOT, NULL, &m->entries[i].keep, 1, &keep);
        if (!status) status = mask_add(other, m->entries[i].name, keep);
    }
    return mask_done(status, other, out);
}

/* -- counts ------------------------------------------------------------------------------------------------------- */

static lc_status count_true(lc_tensor *x, int64_t *count) {
    lc_tensor *sum = NULL;
    LC_TRY(lc_run(LC_OP_SUM, &(lc_attr){.dim = -1}, &x, 1, &sum));
    *count = lc_get_i64(sum, sum->offset);
    lc_tensor_release(sum);
    return LC_OK;
}

lc_status lc_mask_count(const lc_mask *m, int64_t *weights, int64_t *pruned) {
    int64_t all = 0, kept = 0;
    for (int64_t i = 0; i < m->n; i++) {
        int64_t n = 0;
        LC_TRY(count_true(m->entries[i].keep, &n));
        all += lc_numel(m->entries[i].keep);
        kept += n;
    }
    if (weights) *weights = all;
    if (pruned) *pruned = all - kept;
    return LC_OK;
}

lc_status lc_mask_sparsity(const lc_mask *m, double *out) {
    int64_t weights, pruned;
    LC_TRY(lc_mask_count(m, &weights, &pruned));
    *out = weights ? (double)pruned / (double)weights : 0;
    return LC_OK;
}

/* How many weights are kept by `op` of both. */
static lc_status count_combined(lc_op op, const lc_mask *a, const lc_mask *b, int64_t *kept) {
    lc_mask *m = NULL;
    int64_t weights = 0, pruned = 0;
    LC_TRY(combine_all(op, a, b, &m));
    lc_status status = lc_mask_count(m, &weights, &pruned);
    lc_mask_release(m);
    *kept = weights - pruned;
    return status;
}

lc_status lc_mask_overlap(const lc_mask *a, const lc_mask *b, double *out) {
    for (int64_t i = 0; i < a->n + b->n; i++) {
        const char *name = i < a->n ? a->entries[i].name : b->entries[i - a->n].name;
        if (!lc_mask_find(i < a->n ? b : a, name))
            return lc_fail(LC_EINVAL, "mask: overlap: only one of the masks names %s", name);
    }
    int64_t both, either;
    LC_TRY(count_combined(LC_OP_AND, a, b, &both));
    LC_TRY(count_combined(LC_OP_OR, a, b, &either));
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

/* How often op(a, b) is true. */
static lc_status count_where(lc_op op, lc_tensor *a, lc_tensor *b, int64_t *count) {
    lc_tensor *both = NULL;
    LC_TRY(lc_run(op, NULL, (lc_tensor *[]){a, b}, 2, &both));
    lc_status status = count_true(both, count);
    lc_tensor_release(both);
    return status;
}

/* Lists the n weights that hold this mask; *other names a layer that holds another one. */
static lc_status find_holders(const lc_mask *m, lc_model *model, lc_param **weights, int64_t *n, const char **other) {
    for (int64_t i = 0; i < m->n; i++) {
        lc_param *weight = weight_of(m, model, i);
        int64_t different = 0;
        if (!weight->held) continue;
        LC_TRY(count_where(LC_OP_NE, weight->held, m->entries[i].keep, &different));
        if (different)
            *other = m->entries[i].name;
        else
            weights[(*n)++] = weight;
    }
    return LC_OK;
}

lc_status lc_mask_lift(const lc_mask *m, lc_model *model) {
    if (!model) model = m->model;
    LC_TRY(check_fits(m, model));
    lc_param **weights = lc_alloc((size_t)m->n * sizeof *weights);
    if (!weights) return LC_ENOMEM;
    int64_t n = 0;
    const char *other = NULL;
    lc_status status = find_holders(m, model, weights, &n, &other);
    if (!status && n == 0 && other)
        status = lc_fail(LC_ESTATE,
                         "mask: lift: no layer holds this mask: %s holds another, made since; lift that one, or "
                         "lc.mask.held(model)",
                         other);
    for (int64_t i = 0; i < n && !status; i++) lc_param_lift(weights[i]);
    lc_free(weights);
    return status;
}

lc_status lc_mask_violations(const lc_mask *m, lc_model *model, int64_t *out) {
    if (!model) model = m->model;
    LC_TRY(check_fits(m, model));
    int64_t total = 0;
    for (int64_t i = 0; i < m->n; i++) {
        lc_param *weight = weight_of(m, model, i);
        lc_tensor *alive = NULL;
        int64_t count = 0;
        LC_TRY(lc_param_enforce(weight));
        LC_TRY(is_not_zero(weight->leaf, &alive));
        lc_status status = count_where(LC_OP_GT, alive, m->entries[i].keep, &count);
        lc_tensor_release(alive);
        LC_TRY(status);
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
    int64_t weights, pruned, kept;
    LC_TRY(lc_mask_count(m, &weights, &pruned));
    lc_strbuf_printf(&b, "mask of %lld layer%s: %.1f%% of ", (long long)m->n, m->n == 1 ? "" : "s",
                     weights ? 100.0 * (double)pruned / (double)weights : 0);
    add_grouped(&b, weights);
    lc_strbuf_puts(&b, " weights pruned");
    if (!isnan(m->requested)) lc_strbuf_printf(&b, " (asked for %.1f%%)", 100 * m->requested);
    for (int64_t i = 0; i < m->n; i++) {
        const lc_mask_entry *e = &m->entries[i];
        lc_status status = count_true(e->keep, &kept);
        if (status) {
            lc_strbuf_free(&b);
            return status;
        }
        double n = (double)lc_max(1, lc_numel(e->keep));
        lc_strbuf_printf(&b, "\n  %s  %s  %.1f%%", e->name, LC_SHAPE(e->keep), 100 * (1 - (double)kept / n));
    }
    return lc_strbuf_take(&b, out, NULL);
}
