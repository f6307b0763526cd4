/* model.c: making and releasing models, and what is asked of their parts. */
#include "model/model.h"

#include <string.h>

#include "base/memory.h"
#include "base/strbuf.h"
#include "grad/graph.h"
#include "model/family.h"

/* -- life --------------------------------------------------------------------------------------- */

lc_status lc_model_build(json_t *config, lc_dtype dtype, lc_model **out) {
    const char *type = NULL;
    const lc_family *family;
    LC_TRY(lc_json_require(config, "model_type", "config.json"));
    LC_TRY(lc_json_get_string(config, "model_type", "config.json", &type));
    LC_TRY(lc_family_find(type, &family));
    bool causal = true;
    LC_TRY(lc_json_get_bool(config, "is_causal", "config.json", &causal));
    if (!causal)
        return lc_fail(LC_EFORMAT, "config.json: is_causal is false: attention to later tokens is not built for %s",
                       type);
    if (dtype != LC_F32 && dtype != LC_F64)
        return lc_fail(LC_EDTYPE, "a model computes in f32 or f64, not %s", lc_dtype_name(dtype));
    lc_model *m = lc_calloc(1, sizeof *m);
    if (!m) return LC_ENOMEM;
    m->refs = 1;
    m->family = family;
    m->dtype = dtype;
    m->padding_id = -1;
    m->config = json_deep_copy(config);
    lc_status status = m->config ? family->build(m) : LC_ENOMEM;
    if (status) {
        lc_model_release(m);
        return status;
    }
    *out = m;
    return LC_OK;
}

lc_model *lc_model_retain(lc_model *m) {
    m->refs++;
    return m;
}

static void free_layer(lc_layer *layer) {
    while (layer->n_transforms) lc_installed_remove(layer->transforms[layer->n_transforms - 1]);
    if (layer->product) lc_installed_remove(layer->product);
    lc_free(layer->transforms);
    lc_free(layer->name);
    lc_free(layer);
}

void lc_model_release(lc_model *m) {
    if (!m || --m->refs) return;
    m->refs = 1; /* what a method's release does may hold the model for a moment */
    for (int64_t i = 0; i < m->n_linears; i++) free_layer(m->linears[i]);
    for (int64_t i = 0; i < m->n_blocks; i++) {
        lc_free(m->blocks[i]->name);
        lc_free(m->blocks[i]);
    }
    for (int64_t i = 0; i < m->n_params; i++) {
        lc_param_close(m->params[i]);
        lc_free(m->params[i]);
    }
    lc_free(m->linears);
    lc_free(m->blocks);
    lc_free(m->params);
    lc_free(m->parts);
    lc_rotary_free(m->rotary);
    json_decref(m->config);
    json_decref(m->generation);
    lc_tokenizer_release(m->tokenizer);
    lc_free(m);
}

static lc_status copy_param(lc_param *to, const lc_param *from) {
    LC_TRY(lc_copy_into(to->leaf, from->leaf));
    LC_TRY(lc_param_freeze(to, from->frozen));
    if (!from->held) return LC_OK;
    LC_TRY(lc_param_hold(to, from->held, false));
    if (!from->held_values) return LC_OK;
    return lc_run(LC_OP_COPY, &(lc_attr){.dtype = from->held_values->dtype}, (lc_tensor *[]){from->held_values}, 1,
                  &to->held_values);
}

static lc_status refuse_installed(void *context, lc_installed *installed) {
    return lc_fail(LC_ESTATE, "%s: %s is installed on %s, and its functions belong to one model; remove it first",
                   (const char *)context, installed->method.name, installed->layer->name);
}

lc_status lc_model_clone(lc_model *m, lc_model **out) {
    LC_TRY(lc_model_each_installed(m, refuse_installed, "clone"));
    LC_TRY(lc_model_enforce(m));
    lc_model *copy = NULL;
    LC_TRY(lc_model_build(m->config, m->dtype, &copy));
    for (int64_t i = 0; i < m->n_params; i++) {
        lc_status status = copy_param(copy->params[i], m->params[i]);
        if (status) {
            lc_model_release(copy);
            return status;
        }
    }
    copy->generation = json_incref(m->generation); /* never changed, so shared */
    copy->tokenizer = m->tokenizer ? lc_tokenizer_retain(m->tokenizer) : NULL;
    copy->dropout_seed = m->dropout_seed;
    copy->dropout_pass = m->dropout_pass;
    copy->recompute = m->recompute;
    *out = copy;
    return LC_OK;
}

/* -- parts -------------------------------------------------------------------------------------- */

lc_param *lc_model_param(lc_model *m, const char *name) {
    for (int64_t i = 0; i < m->n_params; i++)
        if (!strcmp(m->params[i]->name, name)) return m->params[i];
    size_t stem = strlen(m->head->name);
    bool is_head = !strncmp(name, m->head->name, stem) && !strcmp(name + stem, ".weight");
    return is_head ? m->head->weight : NULL;
}

lc_status lc_model_each_installed(lc_model *m, lc_status (*fn)(void *context, lc_installed *installed), void *context) {
    for (int64_t i = 0; i < m->n_linears; i++) {
        lc_layer *layer = m->linears[i];
        for (int t = 0; t < layer->n_transforms; t++) LC_TRY(fn(context, layer->transforms[t]));
        if (layer->product) LC_TRY(fn(context, layer->product));
    }
    return LC_OK;
}

typedef struct param_visit {
    lc_status (*fn)(void *context, lc_param *p);
    void *context;
} param_visit;

static lc_status visit_method_params(void *context, lc_installed *installed) {
    const param_visit *v = context;
    for (int i = 0; i < installed->n_params; i++) LC_TRY(v->fn(v->context, installed->params[i]));
    return LC_OK;
}

lc_status lc_model_each_param(lc_model *m, lc_status (*fn)(void *context, lc_param *p), void *context) {
    for (int64_t i = 0; i < m->n_params; i++) LC_TRY(fn(context, m->params[i]));
    return lc_model_each_installed(m, visit_method_params, &(param_visit){fn, context});
}

lc_status lc_model_enforce(lc_model *m) {
    for (int64_t i = 0; i < m->n_params; i++) LC_TRY(lc_param_enforce(m->params[i]));
    return LC_OK;
}

static lc_status clear_grad(void *context, lc_param *p) {
    (void)context;
    return lc_clear_grad(p->leaf);
}

lc_status lc_model_clear_grads(lc_model *m) {
    return lc_model_each_param(m, clear_grad, NULL);
}

lc_status lc_model_sparsity(lc_model *m, double *out) {
    LC_TRY(lc_model_enforce(m));
    int64_t zeros = 0, total = 0;
    for (int64_t i = 0; i < m->n_linears; i++) {
        const lc_layer *layer = m->linears[i];
        int64_t here;
        if (layer->block < 0) continue;
        LC_TRY(lc_param_zeros(layer->weight, &here));
        zeros += here;
        total += lc_numel(layer->weight->leaf);
    }
    *out = total ? (double)zeros / (double)total : 0;
    return LC_OK;
}

/* -- printing ----------------------------------------------------------------------------------- */

static lc_status installed_line(void *context, lc_installed *installed) {
    lc_strbuf *b = context;
    lc_strbuf_printf(b, "\n  %s: %s '%s'", installed->layer->name,
                     installed->method.transform ? "transform" : "product", installed->method.name);
    return LC_OK;
}

/* One line per role inside blocks: "  mlp.up          12 x (3072, 768), 50.0% zero, 12 held". */
static lc_status role_line(lc_model *m, int64_t first, lc_strbuf *b) {
    const lc_layer *example = m->linears[first];
    int64_t layers = 0, held = 0, zeros = 0;
    for (int64_t i = first; i < m->n_linears; i++) {
        const lc_layer *layer = m->linears[i];
        int64_t here;
        if (strcmp(layer->role, example->role)) continue;
        LC_TRY(lc_param_zeros(layer->weight, &here));
        zeros += here;
        layers++;
        held += layer->weight->held != NULL;
    }
    int64_t size = lc_numel(example->weight->leaf) * layers;
    lc_strbuf_printf(b, "\n  %-14s %lld x (%lld, %lld)", example->role, (long long)layers, (long long)example->outputs,
                     (long long)example->inputs);
    if (zeros) lc_strbuf_printf(b, ", %.1f%% zero", 100.0 * (double)zeros / (double)size);
    if (held) lc_strbuf_printf(b, ", %lld held", (long long)held);
    return LC_OK;
}

lc_status lc_model_text(lc_model *m, char **out) {
    LC_TRY(lc_model_enforce(m));
    int64_t weights = 0, frozen = 0;
    for (int64_t i = 0; i < m->n_params; i++) {
        weights += lc_numel(m->params[i]->leaf);
        frozen += m->params[i]->frozen;
    }
    lc_strbuf b = {0};
    lc_strbuf_printf(&b, "%s: %lld blocks, width %lld, vocabulary %lld, %lld positions, ", m->family->name,
                     (long long)m->sizes.layers, (long long)m->sizes.width, (long long)m->sizes.vocabulary,
                     (long long)m->sizes.positions);
    if (weights < 1000000)
        lc_strbuf_printf(&b, "%lld parameters, ", (long long)weights);
    else
        lc_strbuf_printf(&b, "%.1fM parameters, ", (double)weights / 1e6);
    lc_strbuf_puts(&b, lc_dtype_name(m->dtype));
    if (frozen) lc_strbuf_printf(&b, ", %lld of %lld tensors frozen", (long long)frozen, (long long)m->n_params);
    lc_status status = LC_OK;
    for (int64_t i = 0; i < m->n_linears && !status; i++) {
        bool seen = false;
        for (int64_t k = 0; k < i; k++) seen = seen || !strcmp(m->linears[k]->role, m->linears[i]->role);
        if (!seen) status = role_line(m, i, &b);
    }
    if (!status) status = lc_model_each_installed(m, installed_line, &b);
    if (status) {
        lc_strbuf_free(&b);
        return status;
    }
    return lc_strbuf_take(&b, out, NULL);
}
