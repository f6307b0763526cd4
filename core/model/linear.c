/* linear.c: the linear layer and what is installed on it. */
#include "model/linear.h"

#include <string.h>

#include "base/memory.h"
#include "base/strbuf.h"
#include "grad/graph.h"
#include "model/model.h"

/* -- the product -------------------------------------------------------------------------------- */

/* What a method gave comes from a user's function: another type than `like`'s would spread through the model. */
static lc_status check_dtype(const lc_layer *layer, const char *kind, const char *name, const lc_tensor *given,
                             const lc_tensor *like) {
    if (given->dtype == like->dtype) return LC_OK;
    return lc_fail(LC_EDTYPE, "%s: %s '%s' gave %s, expected %s; cast with x:to '%s'", layer->name, kind, name,
                   lc_dtype_name(given->dtype), lc_dtype_name(like->dtype), lc_dtype_name(like->dtype));
}

/* Puts what the transform makes of *w in its place. */
static lc_status apply_transform(lc_installed *me, lc_layer *layer, lc_tensor **w) {
    lc_tensor *next = NULL;
    LC_TRY(me->method.transform(me, layer, *w, &next));
    lc_status status = check_dtype(layer, "transform", me->method.name, next, *w);
    if (!lc_same_shape(next, layer->weight->leaf))
        status = lc_fail(LC_ESHAPE, "%s: transform '%s' gave a weight of %s, expected %s", layer->name, me->method.name,
                         LC_SHAPE(next), LC_SHAPE(layer->weight->leaf));
    if (status) {
        lc_tensor_release(next);
        return status;
    }
    lc_tensor_release(*w);
    *w = next;
    return LC_OK;
}

/* A transform may install and remove others, or itself, so the chain is copied first. */
static lc_status apply_chain(lc_layer *layer, lc_tensor **w) {
    int n = layer->n_transforms;
    if (n == 0) return LC_OK;
    lc_installed **chain = lc_alloc((size_t)n * sizeof *chain);
    if (!chain) return LC_ENOMEM;
    for (int i = 0; i < n; i++) chain[i] = lc_installed_retain(layer->transforms[i]);
    lc_status status = LC_OK;
    for (int i = 0; i < n && !status; i++)
        if (chain[i]->layer) status = apply_transform(chain[i], layer, w);
    for (int i = 0; i < n; i++) lc_installed_release(chain[i]);
    lc_free(chain);
    return status;
}

lc_status lc_layer_weight(lc_layer *layer, lc_tensor **w) {
    LC_TRY(lc_param_enforce(layer->weight));
    lc_tensor *current = lc_tensor_retain(layer->weight->leaf);
    lc_status status = apply_chain(layer, &current);
    if (status)
        lc_tensor_release(current);
    else
        *w = current;
    return status;
}

/* The installed product, with its result's shape and type checked. */
static lc_status replaced_product(lc_layer *layer, lc_tensor *x, lc_tensor *w, lc_tensor *b, lc_tensor **y) {
    lc_installed *me = lc_installed_retain(layer->product);
    lc_tensor *result = NULL;
    lc_status status = me->method.product(me, layer, x, w, b, &result);
    if (!status) {
        bool fits = result->ndim == x->ndim && result->shape[x->ndim - 1] == layer->outputs;
        for (int d = 0; fits && d + 1 < x->ndim; d++) fits = result->shape[d] == x->shape[d];
        status = check_dtype(layer, "product", me->method.name, result, w);
        if (!fits)
            status = lc_fail(LC_ESHAPE, "%s: product '%s' gave %s for an input of %s; the last size must be %lld",
                             layer->name, me->method.name, LC_SHAPE(result), LC_SHAPE(x), (long long)layer->outputs);
        if (status) lc_tensor_release(result);
    }
    lc_installed_release(me);
    if (!status) *y = result;
    return status;
}

static const lc_op activation_op[] = {
    [LC_ACT_RELU] = LC_OP_RELU, [LC_ACT_GELU] = LC_OP_GELU, [LC_ACT_GELU_TANH] = LC_OP_GELU_TANH,
    [LC_ACT_SILU] = LC_OP_SILU, [LC_ACT_TANH] = LC_OP_TANH,
};

lc_status lc_layer_forward(lc_layer *layer, lc_tensor *x, lc_activation act, lc_tensor **y) {
    lc_tensor *w = NULL, *product = NULL;
    lc_tensor *b = layer->bias ? layer->bias->leaf : NULL;
    if (layer->observer) LC_TRY(layer->observer->see(layer->observer->context, layer, x));
    LC_TRY(lc_layer_weight(layer, &w));
    lc_status status;
    if (!layer->product) {
        status = lc_linear(x, w, b, act, y);
    } else {
        status = replaced_product(layer, x, w, b, &product);
        if (!status && act != LC_ACT_NONE) {
            status = lc_unary(activation_op[act], product, y);
            lc_tensor_release(product);
        } else if (!status) {
            *y = product;
        }
    }
    lc_tensor_release(w);
    return status;
}

/* -- installing --------------------------------------------------------------------------------- */

/* The method of that name on the layer, or NULL. */
static lc_installed *find_installed(const lc_layer *layer, const char *name) {
    if (layer->product && !strcmp(layer->product->method.name, name)) return layer->product;
    for (int i = 0; i < layer->n_transforms; i++)
        if (!strcmp(layer->transforms[i]->method.name, name)) return layer->transforms[i];
    return NULL;
}

lc_status lc_layer_install(lc_layer *layer, const lc_method *method, lc_installed **out) {
    bool is_product = method->product != NULL;
    lc_status status = LC_ENOMEM;
    lc_installed *me = lc_calloc(1, sizeof *me);
    char *name = me ? lc_strdup(method->name) : NULL;
    if (!name) goto failed;
    if (is_product && layer->product) {
        status = lc_fail(LC_ESTATE,
                         "%s: cannot install the product '%s': '%s' is installed there; a layer has one product, "
                         "remove that one first",
                         layer->name, method->name, layer->product->method.name);
        goto failed;
    }
    if (find_installed(layer, method->name)) {
        status = lc_fail(LC_EINVAL, "%s: a method called '%s' is installed there; give this one another name",
                         layer->name, method->name);
        goto failed;
    }
    if (!is_product) {
        size_t bytes = (size_t)(layer->n_transforms + 1) * sizeof *layer->transforms;
        lc_installed **grown = lc_realloc(layer->transforms, bytes);
        if (!grown) goto failed;
        layer->transforms = grown;
        layer->transforms[layer->n_transforms++] = me;
    } else {
        layer->product = me;
    }
    me->refs = 2; /* the layer's and the caller's */
    me->method = *method;
    me->method.name = name;
    me->layer = layer;
    *out = me;
    return LC_OK;
failed:
    lc_free(name);
    lc_free(me);
    if (method->release) method->release(method->context);
    return status;
}

static bool name_taken(lc_installed *me, const char *name) {
    return lc_installed_param(me, name) || lc_installed_state(me, name);
}

lc_status lc_installed_add_param(lc_installed *me, const char *name, lc_tensor *leaf) {
    if (name_taken(me, name)) return lc_fail(LC_EINVAL, "%s: '%s' is given twice", me->method.name, name);
    lc_param **grown = lc_realloc(me->params, (size_t)(me->n_params + 1) * sizeof *grown);
    if (!grown) return LC_ENOMEM;
    me->params = grown;
    lc_param *p = lc_calloc(1, sizeof *p);
    lc_strbuf full = {0};
    char *text = NULL;
    lc_strbuf_printf(&full, "%s.%s.%s", me->layer->name, me->method.name, name);
    lc_status status = p ? lc_strbuf_take(&full, &text, NULL) : LC_ENOMEM;
    if (!status) status = lc_param_init(p, text, leaf, false);
    lc_strbuf_free(&full);
    lc_free(text);
    if (status) {
        lc_free(p);
        return status;
    }
    p->block = me->layer->block;
    me->params[me->n_params++] = p;
    return LC_OK;
}

lc_status lc_installed_add_state(lc_installed *me, const char *name, lc_tensor *tensor) {
    if (name_taken(me, name)) return lc_fail(LC_EINVAL, "%s: '%s' is given twice", me->method.name, name);
    lc_state *grown = lc_realloc(me->state, (size_t)(me->n_state + 1) * sizeof *grown);
    if (!grown) return LC_ENOMEM;
    me->state = grown;
    char *copy = lc_strdup(name);
    if (!copy) return LC_ENOMEM;
    me->state[me->n_state++] = (lc_state){copy, tensor ? lc_tensor_retain(tensor) : NULL};
    return LC_OK;
}

lc_param *lc_installed_param(lc_installed *me, const char *name) {
    for (int i = 0; i < me->n_params; i++) {
        const char *full = me->params[i]->name; /* "<layer>.<method>.<name>" */
        size_t skip = strlen(full) - strlen(name);
        if (strlen(full) > strlen(name) && full[skip - 1] == '.' && !strcmp(full + skip, name)) return me->params[i];
    }
    return NULL;
}

lc_state *lc_installed_state(lc_installed *me, const char *name) {
    for (int i = 0; i < me->n_state; i++)
        if (!strcmp(me->state[i].name, name)) return &me->state[i];
    return NULL;
}

void lc_state_set(lc_state *slot, lc_tensor *tensor) {
    lc_tensor *old = slot->tensor;
    slot->tensor = tensor ? lc_tensor_retain(tensor) : NULL;
    lc_tensor_release(old);
}

void lc_installed_remove(lc_installed *me) {
    lc_layer *layer = me->layer;
    if (!layer) return;
    me->layer = NULL;
    if (layer->product == me) {
        layer->product = NULL;
    } else {
        int at = 0;
        while (layer->transforms[at] != me) at++;
        layer->n_transforms--;
        memmove(layer->transforms + at, layer->transforms + at + 1,
                (size_t)(layer->n_transforms - at) * sizeof *layer->transforms);
    }
    lc_installed_release(me);
}

lc_installed *lc_installed_retain(lc_installed *me) {
    me->refs++;
    return me;
}

void lc_installed_release(lc_installed *me) {
    if (!me || --me->refs) return;
    if (me->method.release) me->method.release(me->method.context);
    for (int i = 0; i < me->n_params; i++) {
        lc_param_close(me->params[i]);
        lc_free(me->params[i]);
    }
    for (int i = 0; i < me->n_state; i++) {
        lc_free(me->state[i].name);
        lc_tensor_release(me->state[i].tensor);
    }
    lc_free(me->params);
    lc_free(me->state);
    lc_free((char *)me->method.name);
    lc_free(me);
}

lc_clock lc_installed_clock(const lc_installed *me) {
    return me->layer ? me->layer->model->clock : (lc_clock){0};
}

/* -- fused layers ------------------------------------------------------------------------------- */

lc_status lc_layer_part(lc_layer *layer, char part, lc_tensor **out) {
    static const char parts[] = "qkv";
    const char *at = part ? strchr(parts, part) : NULL;
    if (!at || layer->n_parts != 3)
        return lc_fail(LC_ENOTFOUND, "%s (%s) is one layer: only a fused attention.qkv has .q, .k and .v", layer->name,
                       layer->role);
    int64_t start = 0, index = at - parts;
    if (!layer->interleaved) {
        for (int i = 0; i < index; i++) start += layer->part_rows[i];
        return lc_slice(layer->weight->leaf, 0, start, layer->part_rows[index], 1, out);
    }
    int64_t size = layer->part_rows[index] / layer->interleaved,
            shape[] = {layer->interleaved, 3 * size, layer->inputs};
    lc_tensor *heads = NULL;
    LC_TRY(lc_reshape(layer->weight->leaf, 3, shape, &heads));
    lc_status status = lc_slice(heads, 1, index * size, size, 1, out);
    lc_tensor_release(heads);
    return status;
}

/* -- printing ----------------------------------------------------------------------------------- */

lc_status lc_layer_text(lc_layer *layer, char **out) {
    int64_t zeros = 0;
    LC_TRY(lc_param_enforce(layer->weight));
    LC_TRY(lc_param_zeros(layer->weight, &zeros));
    lc_strbuf b = {0};
    lc_strbuf_printf(&b, "%s (%s) %lld x %lld", layer->name, layer->role, (long long)layer->outputs,
                     (long long)layer->inputs);
    if (zeros) lc_strbuf_printf(&b, ", %.1f%% zero", 100.0 * (double)zeros / (double)lc_numel(layer->weight->leaf));
    if (layer->weight->held) lc_strbuf_puts(&b, ", held");
    if (layer->weight->frozen) lc_strbuf_puts(&b, ", frozen");
    for (int i = 0; i < layer->n_transforms; i++)
        lc_strbuf_printf(&b, "%s%s", i ? ", " : ", transforms: ", layer->transforms[i]->method.name);
    if (layer->product) lc_strbuf_printf(&b, ", product: %s", layer->product->method.name);
    return lc_strbuf_take(&b, out, NULL);
}
