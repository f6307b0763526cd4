/* load.c: models from directories in the layout of Hugging Face. What the file has and what the model needs are
 * compared name by name before anything is read, and every difference is told at once. */
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/strbuf.h"
#include "io/weights.h"
#include "model/family.h"
#include "model/held_file.h"

/* -- names -------------------------------------------------------------------------------------- */

static const char *without_prefix(const lc_family *family, const char *name) {
    size_t n = strlen(family->prefix);
    return strncmp(name, family->prefix, n) ? name : name + n;
}

/* The tensor of the file that is this parameter: under its name, without the prefix, or under the head's other name. */
static const lc_stored *find_stored(lc_model *m, const lc_weights *file, const char *name) {
    const lc_stored *stored = lc_weights_find(file, name);
    if (!stored) stored = lc_weights_find(file, without_prefix(m->family, name));
    bool other = !stored && m->family->other_head && lc_model_param(m, name) == m->head->weight;
    return other ? lc_weights_find(file, m->family->other_head) : stored;
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

static bool fits(const lc_param *p, const lc_stored *stored) {
    return stored->ndim == p->file->ndim &&
           !memcmp(stored->shape, p->file->shape, sizeof(int64_t) * (size_t)stored->ndim);
}

static lc_status compare(lc_model *m, const lc_weights *file, const char *directory) {
    complaint missing = {0}, wrong = {0}, unexpected = {0};
    for (int64_t i = 0; i < m->n_params; i++) {
        const lc_param *p = m->params[i];
        const lc_stored *stored = find_stored(m, file, p->name);
        if (!stored)
            complain(&missing, "%s", p->name);
        else if (!fits(p, stored))
            complain(&wrong, "%s is %s, not %s", stored->name, lc_shape_text(stored->ndim, stored->shape),
                     LC_SHAPE(p->file));
        else if (stored->dtype == LC_DTYPES || !lc_dtype_is_float(stored->dtype))
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
    lc_strbuf_free(&missing.names);
    lc_strbuf_free(&wrong.names);
    lc_strbuf_free(&unexpected.names);
    if (!all.length && !all.failed) return LC_OK;
    char *text = NULL;
    LC_TRY(lc_strbuf_take(&all, &text, NULL));
    lc_status status =
        lc_fail(LC_EFORMAT, "%s: the tensors do not fit this %s's config.json: %s", directory, m->family->name, text);
    lc_free(text);
    return status;
}

/* -- reading ------------------------------------------------------------------------------------ */

static lc_status read_weights(lc_model *m, const char *directory) {
    lc_weights *file = NULL;
    LC_TRY(lc_weights_open(directory, &file));
    lc_status status = compare(m, file, directory);
    for (int64_t i = 0; i < m->n_params && !status; i++) {
        lc_param *p = m->params[i];
        status = lc_weights_read_into(file, find_stored(m, file, p->name)->name, p->file);
    }
    lc_weights_release(file);
    return status;
}

/* Whether `directory` has that file. */
static lc_status has_file(const char *directory, const char *name, bool *out) {
    char *path = lc_path_join(directory, name);
    if (!path) return LC_ENOMEM;
    *out = lc_file_exists(path);
    lc_free(path);
    return LC_OK;
}

static lc_status read_json(const char *directory, const char *name, bool required, json_t **out) {
    char *path = lc_path_join(directory, name);
    if (!path) return LC_ENOMEM;
    lc_status status = required || lc_file_exists(path) ? lc_json_read(path, out) : LC_OK;
    lc_free(path);
    return status;
}

static lc_status read_tokenizer(lc_model *m, const char *directory) {
    bool whole, parts;
    LC_TRY(has_file(directory, "tokenizer.json", &whole));
    LC_TRY(has_file(directory, "vocab.json", &parts));
    return whole || parts ? lc_tokenizer_load(directory, &m->tokenizer) : LC_OK;
}

lc_status lc_model_load(const char *directory, lc_dtype dtype, lc_model **out) {
    json_t *config = NULL;
    lc_model *m = NULL;
    LC_TRY(read_json(directory, "config.json", true, &config));
    lc_status status = lc_model_build(config, dtype, &m);
    json_decref(config);
    if (status) return lc_fail_within(status, "%s", directory);
    LC_GOTO(failed, read_weights(m, directory));
    LC_GOTO(failed, read_json(directory, "generation_config.json", false, &m->generation));
    LC_GOTO(failed, read_tokenizer(m, directory));
    LC_GOTO(failed, lc_held_read(m, directory));
    *out = m;
    return LC_OK;
failed:
    lc_model_release(m);
    return status;
}
