/* load.c: models from what import.h opens. What the file has and what the model needs are compared name by name before
 * anything is read, and every difference is told at once. */
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/strbuf.h"
#include "io/weights.h"
#include "model/family.h"
#include "model/held_file.h"
#include "model/import.h"

/* -- names -------------------------------------------------------------------------------------- */

static const char *without_prefix(const lc_family *family, const char *name) {
    size_t n = strlen(family->prefix);
    return strncmp(name, family->prefix, n) ? name : name + n;
}

/* The tensor of the file that is the head, tied or not. */
static const lc_stored *find_head(const lc_model *m, const lc_weights *file) {
    char name[64];
    snprintf(name, sizeof name, "%s.weight", m->head->name);
    const lc_stored *stored = lc_weights_find(file, name);
    return stored || !m->family->other_head ? stored : lc_weights_find(file, m->family->other_head);
}

/* The tensor of the file that is this parameter: under its name, without the prefix, or as the head, to which an
 * embedding may be tied. */
static const lc_stored *find_stored(lc_model *m, const lc_weights *file, const char *name) {
    const lc_stored *stored = lc_weights_find(file, name);
    if (!stored) stored = lc_weights_find(file, without_prefix(m->family, name));
    return stored || lc_model_param(m, name) != m->head->weight ? stored : find_head(m, file);
}

/* Whether a tensor of the file is a parameter, or is rightly passed over: a buffer, or a tied head's copy of the
 * embedding. */
static bool is_expected(lc_model *m, const char *name) {
    if (m->family->is_buffer(without_prefix(m->family, name))) return true;
    if (m->family->other_head && !strcmp(name, m->family->other_head)) return true;
    for (int64_t i = 0; i < m->n_params; i++) {
        const char *param = m->params[i]->name;
        if (!strcmp(name, param) || !strcmp(name, without_prefix(m->family, param))) return true;
    }
    return lc_model_param(m, name) != NULL;
}

/* -- comparing ---------------------------------------------------------------------------------- */

#define NAMES_SHOWN 6

typedef struct complaint {
    lc_strbuf names;
    int64_t count;
} complaint;

static void complain(complaint *c, const char *format, ...) {
    va_list args;
    char text[512];
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (c->count < NAMES_SHOWN) lc_strbuf_printf(&c->names, "%s%s", c->count ? ", " : "", text);
    c->count++;
}

static void tell(lc_strbuf *all, complaint *c, const char *what) {
    if (!c->count) return;
    lc_strbuf_printf(all, "%s%lld %s: %s", all->length ? "; " : "", (long long)c->count, what,
                     c->names.data ? c->names.data : "");
    if (c->count > NAMES_SHOWN) lc_strbuf_printf(all, " and %lld more", (long long)(c->count - NAMES_SHOWN));
}

/* What the source's tensor is: the leaf, or the leaf as the family's own files have it. */
static lc_tensor *target_of(const lc_source *source, const lc_param *p) {
    return source->by_outputs ? p->leaf : p->file;
}

static bool fits(const lc_tensor *t, const lc_stored *stored) {
    return stored->ndim == t->ndim && !memcmp(stored->shape, t->shape, sizeof(int64_t) * (size_t)stored->ndim);
}

static lc_status compare(lc_model *m, const lc_source *source, const char *path) {
    const lc_weights *file = source->weights;
    complaint missing = {0}, wrong = {0}, unexpected = {0};
    for (int64_t i = 0; i < m->n_params; i++) {
        const lc_param *p = m->params[i];
        const lc_stored *stored = find_stored(m, file, p->name);
        if (!stored)
            complain(&missing, "%s", p->name);
        else if (!fits(target_of(source, p), stored))
            complain(&wrong, "%s is %s, not %s", stored->name, lc_shape_text(stored->ndim, stored->shape),
                     LC_SHAPE(target_of(source, p)));
        else if (stored->dtype == LC_DTYPES)
            complain(&wrong, "%s is %s, which lacuna does not read", stored->name, stored->type);
        else if (!lc_dtype_is_float(stored->dtype))
            complain(&wrong, "%s is %s, not a float", stored->name, stored->type);
    }
    for (int64_t i = 0; i < lc_weights_count(file); i++) {
        const char *name = lc_weights_at(file, i)->name;
        if (!is_expected(m, name)) complain(&unexpected, "%s", name);
    }
    lc_strbuf all = {0};
    tell(&all, &missing, "missing");
    tell(&all, &wrong, "of the wrong shape or type");
    tell(&all, &unexpected, "unexpected");
    if (all.length && json_is_object(json_object_get(source->config, "quantization_config")))
        lc_strbuf_puts(&all,
                       "; config.json has a quantization_config, and lacuna reads quantised weights from GGUF alone");
    lc_strbuf_free(&missing.names);
    lc_strbuf_free(&wrong.names);
    lc_strbuf_free(&unexpected.names);
    if (!all.length && !all.failed) return LC_OK;
    char *text = NULL;
    LC_TRY(lc_strbuf_take(&all, &text, NULL));
    lc_status status = lc_fail(LC_EFORMAT, "%s: the tensors do not fit this %s's %s: %s", path, m->family->name,
                               source->directory ? "config.json" : "configuration", text);
    lc_free(text);
    return status;
}

/* -- reading ------------------------------------------------------------------------------------ */

/* Rows seen as (a, b, c), and put into `into` in the given order of dimensions. */
static lc_status read_reordered(lc_weights *file, const char *name, const lc_row_order *o, lc_tensor *into) {
    lc_tensor *stored = NULL, *seen = NULL, *turned = NULL, *target = NULL;
    int64_t shape[4] = {o->shape[0], o->shape[1], o->shape[2], into->ndim == 2 ? into->shape[1] : 1};
    LC_TRY(lc_weights_read(file, name, LC_DTYPES, &stored));
    lc_status status = lc_view_reshape(stored, 4, shape, &seen);
    if (!status) status = lc_view_permute(seen, (int[]){o->order[0], o->order[1], o->order[2], 3}, &turned);
    if (!status) status = lc_view_reshape(into, 4, turned->shape, &target);
    if (!status) status = lc_copy_into(target, turned);
    lc_tensor_release(target);
    lc_tensor_release(turned);
    lc_tensor_release(seen);
    lc_tensor_release(stored);
    return status;
}

static lc_status read_weights(lc_model *m, const lc_source *source) {
    for (int64_t i = 0; i < m->n_params; i++) {
        const lc_param *p = m->params[i];
        const char *name = find_stored(m, source->weights, p->name)->name;
        lc_row_order order;
        if (source->reordered && source->reordered(source, p->name, &order))
            LC_TRY(read_reordered(source->weights, name, &order, target_of(source, p)));
        else
            LC_TRY(lc_weights_read_into(source->weights, name, target_of(source, p)));
    }
    return LC_OK;
}

/* Whether both are one storage, as torch.save keeps tied tensors. */
static bool is_same_place(const lc_stored *a, const lc_stored *b) {
    return a->file == b->file && a->part == b->part && a->begin == b->begin && a->end == b->end &&
           a->strided == b->strided && a->dtype == b->dtype;
}

/* Whether the head is tied to the embedding by the configuration, but stands in the file with other numbers. */
static lc_status head_differs(lc_model *m, lc_weights *file, bool *out) {
    const lc_param *embedding = m->head->weight;
    const lc_stored *head = find_head(m, file), *tied = find_stored(m, file, embedding->name);
    bool same = true;
    if (head && !is_same_place(head, tied)) LC_TRY(lc_weights_matches(file, head->name, embedding->leaf, &same));
    *out = !same;
    return LC_OK;
}

static lc_status read_generation(lc_model *m, const char *directory) {
    char *path = lc_path_join(directory, "generation_config.json");
    if (!path) return LC_ENOMEM;
    lc_status status = lc_file_exists(path) ? lc_json_read(path, &m->generation) : LC_OK;
    lc_free(path);
    return status;
}

static lc_status read_tokenizer(lc_model *m, const char *directory) {
    bool whole, parts;
    LC_TRY(lc_dir_has(directory, "tokenizer.json", &whole));
    LC_TRY(lc_dir_has(directory, "vocab.json", &parts));
    return whole || parts ? lc_tokenizer_load(directory, &m->tokenizer) : LC_OK;
}

/* The files beside the weights, in the layout of Hugging Face. */
static lc_status read_directory(lc_model *m, const lc_source *source) {
    LC_TRY(read_generation(m, source->directory));
    LC_TRY(read_tokenizer(m, source->directory));
    return source->whole ? lc_held_read(m, source->directory) : LC_OK;
}

static lc_status build_and_read(const lc_source *source, const char *path, lc_dtype dtype, lc_model **out) {
    lc_model *m = NULL;
    lc_status status = lc_model_build(source->config, dtype, &m);
    if (status)
        lc_fail_within(status, "%s", path);
    else
        status = compare(m, source, path);
    if (!status) status = read_weights(m, source);
    if (status) {
        lc_model_release(m);
        return status;
    }
    *out = m;
    return LC_OK;
}

/* As transformers does it: what is in the file counts, not what the configuration says of it. */
static lc_status untie_differing_head(const lc_source *source, const char *path, lc_dtype dtype, lc_model **m) {
    bool differs;
    LC_TRY(head_differs(*m, source->weights, &differs));
    if (!differs) return LC_OK;
    if (json_object_set_new(source->config, "tie_word_embeddings", json_false())) return LC_ENOMEM;
    lc_model_release(*m);
    *m = NULL;
    LC_TRY(build_and_read(source, path, dtype, m));
    (*m)->note = "config.json ties the head to the embedding, but the file has a head with other numbers: it is used, "
                 "and tie_word_embeddings is false now";
    return LC_OK;
}

lc_status lc_model_load(const char *path, lc_dtype dtype, lc_model **out) {
    lc_source source;
    lc_model *m = NULL;
    LC_TRY(lc_source_open(path, &source));
    lc_status status = build_and_read(&source, path, dtype, &m);
    if (!status) status = untie_differing_head(&source, path, dtype, &m);
    if (!status && source.tokenizer) m->tokenizer = lc_tokenizer_retain(source.tokenizer);
    if (!status && source.note && !m->note) m->note = source.note;
    if (!status && source.directory) status = read_directory(m, &source);
    lc_source_close(&source);
    if (status) {
        lc_model_release(m);
        return status;
    }
    *out = m;
    return LC_OK;
}
