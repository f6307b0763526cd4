/* optim.c: slots, the norm of their gradients, and the update. */
#include "optim/optim.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/pool.h"
#include "grad/graph.h"
#include "ops/op.h"

/* -- slots -- */

lc_slot *lc_optim_find(const lc_optim *o, const lc_tensor *leaf) {
    for (int64_t i = 0; i < o->n; i++)
        if (o->slots[i].leaf == leaf) return &o->slots[i];
    return NULL;
}

lc_status lc_optim_add(lc_optim *o, const char *name, lc_tensor *leaf, lc_param *param, const lc_recipe *recipe,
                       lc_slot **out) {
    lc_slot *found = lc_optim_find(o, leaf);
    if (found) {
        found->param = param;
        if (out) *out = found;
        return LC_OK;
    }
    for (int64_t i = 0; i < o->n; i++)
        if (strcmp(o->slots[i].name, name) == 0)
            return lc_fail(LC_EINVAL, "optimizer: two tensors are called '%s'; give each its own name", name);
    if (o->n == o->capacity) {
        int64_t capacity = o->capacity ? 2 * o->capacity : 32;
        lc_slot *grown = lc_realloc(o->slots, (size_t)capacity * sizeof *grown);
        if (!grown) return LC_ENOMEM;
        o->slots = grown;
        o->capacity = capacity;
    }
    char *copy = lc_strdup(name);
    if (!copy) return LC_ENOMEM;
    bool decays = recipe->decay_all || (param ? param->decays : leaf->ndim >= 2);
    o->slots[o->n] =
        (lc_slot){.name = copy, .leaf = lc_tensor_retain(leaf), .param = param, .recipe = *recipe, .decays = decays};
    if (out) *out = &o->slots[o->n];
    o->n++;
    return LC_OK;
}

static void slot_close(lc_slot *s) {
    lc_free(s->name);
    lc_tensor_release(s->leaf);
    lc_tensor_release(s->m);
    lc_tensor_release(s->v);
}

void lc_optim_remove(lc_optim *o, int64_t index) {
    slot_close(&o->slots[index]);
    o->n--;
    memmove(o->slots + index, o->slots + index + 1, (size_t)(o->n - index) * sizeof *o->slots);
}

void lc_optim_close(lc_optim *o) {
    for (int64_t i = 0; i < o->n; i++) slot_close(&o->slots[i]);
    lc_free(o->slots);
    *o = (lc_optim){0};
}

/* As packed bits; NULL for none. */
static lc_tensor *held_of(const lc_slot *s) {
    return s->param && s->param->held ? s->param->held->bytes : NULL;
}

/* -- norms -- */

static lc_status square_sum(lc_tensor *g, lc_tensor *keep, double *out) {
    lc_tensor *sum = NULL;
    LC_TRY(lc_run(LC_OP_SQUARE_SUM, NULL, (lc_tensor *[]){g, keep}, 2, &sum));
    *out = lc_get_f64(sum, sum->offset);
    lc_tensor_release(sum);
    return LC_OK;
}

lc_status lc_optim_norm(const lc_optim *o, double *norm) {
    double total = 0;
    for (int64_t i = 0; i < o->n; i++) {
        const lc_slot *s = &o->slots[i];
        if (!s->leaf->grad || s->skip) continue;
        double sum;
        LC_TRY(square_sum(s->leaf->grad, held_of(s), &sum));
        if (!isfinite(sum)) return lc_fail(LC_ENUMERIC, "the gradient of %s is not finite", s->name);
        total += sum;
    }
    *norm = sqrt(total);
    return LC_OK;
}

double lc_clip_factor(double norm, double limit) {
    return limit > 0 ? fmin(1.0, limit / (norm + 1e-6)) : 1.0;
}

lc_status lc_optim_first_bad(const lc_optim *o, const char **name) {
    *name = NULL;
    for (int64_t i = 0; i < o->n && !*name; i++) {
        double sum;
        LC_TRY(square_sum(o->slots[i].leaf, NULL, &sum));
        if (!isfinite(sum)) *name = o->slots[i].name;
    }
    return LC_OK;
}

/* -- the update -- */

static bool is_updated(const lc_slot *s) {
    if (s->skip == LC_SKIP_FREEZE || !s->leaf->requires_grad) return false;
    return s->leaf->grad || s->skip == LC_SKIP_GRAD;
}

static lc_status zeros_like(lc_tensor *t, lc_tensor **out) {
    return *out ? LC_OK : lc_tensor_zeros(t->dtype, t->ndim, t->shape, t->storage->device, out);
}

static lc_status make_moments(lc_slot *s) {
    bool adamw = s->recipe.optimizer == LC_ADAMW;
    if (adamw || s->recipe.momentum != 0) LC_TRY(zeros_like(s->leaf, &s->m));
    return adamw ? zeros_like(s->leaf, &s->v) : LC_OK;
}

static lc_status update_slot(lc_slot *s, double rate, double scale) {
    const lc_recipe *r = &s->recipe;
    bool adamw = r->optimizer == LC_ADAMW;
    lc_attr a = {.a = r->lr * rate,
                 .b = adamw ? r->beta1 : r->momentum,
                 .c = r->beta2,
                 .d = r->eps,
                 .e = s->decays ? r->weight_decay : 0,
                 .f = s->skip == LC_SKIP_GRAD ? 0 : scale,
                 .n = s->updates + 1};
    /* The factor 0 makes any finite tensor a gradient of zero. */
    lc_tensor *g = s->skip == LC_SKIP_GRAD ? s->leaf : s->leaf->grad;
    if (adamw)
        LC_TRY(lc_run(LC_OP_ADAMW_STEP, &a, (lc_tensor *[]){s->leaf, g, s->m, s->v, held_of(s)}, 5, NULL));
    else
        LC_TRY(lc_run(LC_OP_SGD_STEP, &a, (lc_tensor *[]){s->leaf, g, s->m, held_of(s)}, 4, NULL));
    s->updates++;
    if (held_of(s)) lc_param_enforced(s->param);
    return LC_OK;
}

lc_status lc_optim_update(lc_optim *o, double rate, double scale) {
    for (int64_t i = 0; i < o->n; i++)
        if (is_updated(&o->slots[i])) LC_TRY(make_moments(&o->slots[i]));
    LC_TRY(lc_poll());
    lc_cancel_hold();
    lc_status status = LC_OK;
    for (int64_t i = 0; i < o->n && !status; i++)
        if (is_updated(&o->slots[i])) status = update_slot(&o->slots[i], rate, scale);
    if (!status) status = lc_optim_clear(o);
    lc_cancel_release();
    return status;
}

/* `factor` as a tensor of g's shape. */
static lc_status factor_like(lc_tensor *g, double factor, lc_tensor **out) {
    lc_tensor *one = NULL;
    LC_TRY(lc_tensor_scalar(g->dtype, factor, &one));
    lc_status status = lc_view_expand(one, g->ndim, g->shape, out);
    lc_tensor_release(one);
    return status;
}

/* The factors are made first: once the first gradient is scaled nothing may stop the others from being. */
lc_status lc_optim_scale(lc_optim *o, double factor) {
    if (factor == 1) return LC_OK;
    lc_tensor **by = lc_calloc((size_t)o->n, sizeof *by);
    if (!by) return LC_ENOMEM;
    lc_status status = LC_OK;
    for (int64_t i = 0; i < o->n && !status; i++)
        if (o->slots[i].leaf->grad) status = factor_like(o->slots[i].leaf->grad, factor, &by[i]);
    if (!status) status = lc_poll();
    lc_cancel_hold();
    for (int64_t i = 0; i < o->n && !status; i++) {
        lc_tensor *g = o->slots[i].leaf->grad;
        if (g) status = lc_run_into(LC_OP_MUL, NULL, (lc_tensor *[]){g, by[i]}, 2, &g);
    }
    lc_cancel_release();
    for (int64_t i = 0; i < o->n; i++) lc_tensor_release(by[i]);
    lc_free(by);
    return status;
}

lc_status lc_optim_clear(lc_optim *o) {
    for (int64_t i = 0; i < o->n; i++) {
        LC_TRY(lc_clear_grad(o->slots[i].leaf));
        o->slots[i].skip = LC_SKIP_NO;
    }
    return LC_OK;
}
