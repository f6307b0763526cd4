/* build.c: the parts that a family's build adds to its model, and the table of families. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/strbuf.h"
#include "model/family.h"

static const lc_family *const families[] = {&lc_family_gpt2, &lc_family_llama, &lc_family_qwen2, &lc_family_gpt_neox,
                                            &lc_family_opt};

lc_status lc_family_find(const char *name, const lc_family **out) {
    lc_strbuf known = {0};
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        if (!strcmp(name, families[i]->name)) {
            lc_strbuf_free(&known);
            *out = families[i];
            return LC_OK;
        }
        lc_strbuf_printf(&known, "%s%s", i ? ", " : "", families[i]->name);
    }
    char *list = NULL;
    LC_TRY(lc_strbuf_take(&known, &list, NULL));
    lc_status status = lc_fail(LC_ENOTFOUND, "unknown model family '%s'; there is: %s", name, list);
    lc_free(list);
    return status;
}

/* Appends a pointer to an array of `n`; the array grows by one. */
static lc_status append(void *array, int64_t *n, void *item) {
    void ***items = array;
    void **grown = lc_realloc(*items, (size_t)(*n + 1) * sizeof *grown);
    if (!grown) return LC_ENOMEM;
    *items = grown;
    grown[(*n)++] = item;
    return LC_OK;
}

static char *format_name(const char *format, va_list args) {
    char text[256];
    vsnprintf(text, sizeof text, format, args);
    return lc_strdup(text);
}

static lc_status add_param(lc_model *m, const char *role, int block, int ndim, const int64_t *shape, bool transposed,
                           const char *name, lc_param **out) {
    lc_tensor *leaf = NULL;
    lc_param *p = lc_calloc(1, sizeof *p);
    if (!p) return LC_ENOMEM;
    lc_status status;
    LC_GOTO(failed, lc_tensor_new(m->dtype, ndim, shape, LC_CPU, &leaf));
    LC_GOTO(failed, lc_param_init(p, name, leaf, transposed));
    lc_tensor_release(leaf);
    p->role = role;
    p->block = block;
    status = append(&m->params, &m->n_params, p);
    if (status) {
        lc_param_close(p);
        lc_free(p);
        return status;
    }
    *out = p;
    return LC_OK;
failed:
    lc_tensor_release(leaf);
    lc_free(p);
    return status;
}

lc_status lc_build_param(lc_model *m, const char *role, int block, int ndim, const int64_t *shape, bool transposed,
                         lc_param **out, const char *name, ...) {
    va_list args;
    va_start(args, name);
    char *text = format_name(name, args);
    va_end(args);
    if (!text) return LC_ENOMEM;
    lc_status status = add_param(m, role, block, ndim, shape, transposed, text, out);
    lc_free(text);
    return status;
}

/* Adds an empty layer that owns `name` (freed on failure). */
static lc_status add_layer(lc_model *m, char *name, const char *role, int block, lc_layer **out) {
    lc_layer *layer = lc_calloc(1, sizeof *layer);
    lc_status status = layer ? append(&m->linears, &m->n_linears, layer) : LC_ENOMEM;
    if (status) {
        lc_free(layer);
        lc_free(name);
        return status;
    }
    layer->model = m;
    layer->name = name;
    layer->role = role;
    layer->block = block;
    *out = layer;
    return LC_OK;
}

lc_status lc_build_linear(lc_model *m, const char *role, int block, int64_t outputs, int64_t inputs, bool transposed,
                          bool bias, lc_layer **out, const char *name, ...) {
    va_list args;
    va_start(args, name);
    char *text = format_name(name, args);
    va_end(args);
    if (!text) return LC_ENOMEM;
    lc_layer *layer;
    LC_TRY(add_layer(m, text, role, block, &layer));
    layer->outputs = outputs;
    layer->inputs = inputs;
    LC_TRY(
        lc_build_param(m, role, block, 2, (int64_t[]){outputs, inputs}, transposed, &layer->weight, "%s.weight", text));
    if (bias) LC_TRY(lc_build_param(m, role, block, 1, &outputs, false, &layer->bias, "%s.bias", text));
    *out = layer;
    return LC_OK;
}

lc_status lc_build_norm(lc_model *m, int block, int64_t width, double eps, bool rms, lc_norm *out, const char *name,
                        ...) {
    va_list args;
    va_start(args, name);
    char *text = format_name(name, args);
    va_end(args);
    if (!text) return LC_ENOMEM;
    *out = (lc_norm){.eps = eps, .rms = rms};
    lc_status status = lc_build_param(m, "norm", block, 1, &width, false, &out->weight, "%s.weight", text);
    if (!status && !rms) status = lc_build_param(m, "norm", block, 1, &width, false, &out->bias, "%s.bias", text);
    lc_free(text);
    return status;
}

/* No model comes near: a damaged configuration must not build parts until memory ends. */
#define MOST_BLOCKS 4096

lc_status lc_build_block(lc_model *m, lc_block **out, const char *name, ...) {
    if (m->sizes.layers > MOST_BLOCKS)
        return lc_fail(LC_EFORMAT, "the configuration has %lld layers; at most %d are possible",
                       (long long)m->sizes.layers, MOST_BLOCKS);
    va_list args;
    va_start(args, name);
    char *text = format_name(name, args);
    va_end(args);
    lc_block *block = text ? lc_calloc(1, sizeof *block) : NULL;
    lc_status status = block ? append(&m->blocks, &m->n_blocks, block) : LC_ENOMEM;
    if (status) {
        lc_free(block);
        lc_free(text);
        return status;
    }
    block->model = m;
    block->name = text;
    block->index = (int)m->n_blocks - 1;
    *out = block;
    return LC_OK;
}

lc_status lc_build_head(lc_model *m, lc_param *embedding, bool tied, const char *name) {
    int64_t outputs = embedding->leaf->shape[0], inputs = embedding->leaf->shape[1];
    if (!tied) return lc_build_linear(m, "head", -1, outputs, inputs, false, false, &m->head, "%s", name);
    char *text = lc_strdup(name);
    if (!text) return LC_ENOMEM;
    LC_TRY(add_layer(m, text, "head", -1, &m->head));
    m->head->outputs = outputs;
    m->head->inputs = inputs;
    m->head->weight = embedding;
    return LC_OK;
}
