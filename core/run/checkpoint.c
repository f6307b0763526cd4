/* checkpoint.c: collecting what a run goes on from, and putting it back. */
#include "run/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "io/safetensors.h"
#include "io/weights.h"
#include "run/options.h"

struct lc_checkpoint {
    json_t *document;
    lc_weights *file; /* when opened; NULL when being filled */
    char *path;       /* of the file, for messages */
    int64_t n, capacity;
    lc_named *tensors; /* when being filled: names owned, tensors retained */
};

static lc_status out_of_memory(void) {
    return lc_fail(LC_ENOMEM, "out of memory while making a checkpoint");
}

lc_status lc_checkpoint_new(lc_checkpoint **out) {
    lc_checkpoint *c = lc_calloc(1, sizeof *c);
    if (!c) return LC_ENOMEM;
    c->document = json_object();
    if (!c->document) {
        lc_free(c);
        return out_of_memory();
    }
    *out = c;
    return LC_OK;
}

void lc_checkpoint_free(lc_checkpoint *c) {
    if (!c) return;
    for (int64_t i = 0; i < c->n; i++) {
        lc_free((char *)c->tensors[i].name);
        lc_tensor_release(c->tensors[i].tensor);
        lc_bits_release(c->tensors[i].bits);
    }
    lc_free(c->tensors);
    lc_weights_release(c->file);
    lc_free(c->path);
    json_decref(c->document);
    lc_free(c);
}

json_t *lc_checkpoint_document(lc_checkpoint *c) {
    return c->document;
}

/* -- the file -- */

static lc_status check_format(const lc_checkpoint *c) {
    const char *format = lc_weights_metadata(c->file, "lacuna_format");
    if (!format || !lc_weights_metadata(c->file, "document"))
        return lc_fail(LC_EFORMAT, "%s: not a checkpoint of a run", c->path);
    if (atoi(format) != LC_CHECKPOINT_FORMAT)
        return lc_fail(LC_EFORMAT, "%s: a checkpoint of format %s; this build reads format %d", c->path, format,
                       LC_CHECKPOINT_FORMAT);
    return LC_OK;
}

lc_status lc_checkpoint_open(const char *path, lc_checkpoint **out) {
    lc_checkpoint *c = lc_calloc(1, sizeof *c);
    if (!c) return LC_ENOMEM;
    lc_status status = LC_ENOMEM;
    c->path = lc_strdup(path);
    if (!c->path) goto failed;
    LC_GOTO(failed, lc_weights_open(path, &c->file));
    LC_GOTO(failed, check_format(c));
    const char *text = lc_weights_metadata(c->file, "document");
    LC_GOTO(failed, lc_json_parse(text, strlen(text), path, &c->document));
    *out = c;
    return LC_OK;
failed:
    lc_checkpoint_free(c);
    return status;
}

lc_status lc_checkpoint_write(const lc_checkpoint *c, const char *path) {
    char *text, format[16];
    LC_TRY(lc_json_text(c->document, false, &text, NULL));
    snprintf(format, sizeof format, "%d", LC_CHECKPOINT_FORMAT);
    lc_pair metadata[] = {{"lacuna_format", format}, {"document", text}};
    lc_status status = lc_safetensors_write(path, c->tensors, c->n, metadata, 2);
    lc_free(text);
    return status;
}

/* Room for one more, under the formatted name. */
static lc_status add_named(lc_checkpoint *c, const char *name, va_list arguments, lc_named **out) {
    if (c->n == c->capacity) {
        int64_t capacity = c->capacity ? 2 * c->capacity : 64;
        lc_named *grown = lc_realloc(c->tensors, (size_t)capacity * sizeof *grown);
        if (!grown) return LC_ENOMEM;
        c->tensors = grown;
        c->capacity = capacity;
    }
    char full[1024];
    int length = vsnprintf(full, sizeof full, name, arguments);
    if (length < 0 || (size_t)length >= sizeof full)
        return lc_fail(LC_EINVAL, "checkpoint: the name '%.60s...' is too long", full);
    char *text = lc_strdup(full);
    if (!text) return LC_ENOMEM;
    *out = &c->tensors[c->n++];
    **out = (lc_named){.name = text, .dtype = LC_DTYPES};
    return LC_OK;
}

lc_status lc_checkpoint_add(lc_checkpoint *c, lc_tensor *t, const char *name, ...) {
    lc_named *added;
    va_list arguments;
    va_start(arguments, name);
    lc_status status = add_named(c, name, arguments, &added);
    va_end(arguments);
    if (!status) added->tensor = lc_tensor_retain(t);
    return status;
}

lc_status lc_checkpoint_add_bits(lc_checkpoint *c, lc_bits *bits, const char *name, ...) {
    lc_named *added;
    va_list arguments;
    va_start(arguments, name);
    lc_status status = add_named(c, name, arguments, &added);
    va_end(arguments);
    if (!status) added->bits = lc_bits_retain(bits);
    return status;
}

bool lc_checkpoint_has(const lc_checkpoint *c, const char *name) {
    return lc_weights_find(c->file, name) != NULL;
}

lc_status lc_checkpoint_get(const lc_checkpoint *c, const char *name, lc_tensor **out) {
    return lc_weights_read(c->file, name, LC_DTYPES, out);
}

/* Into a tensor that exists. */
static lc_status get_into(const lc_checkpoint *c, lc_tensor *into, const char *prefix, const char *kind,
                          const char *name) {
    char full[1024];
    snprintf(full, sizeof full, "%s.%s.%s", prefix, kind, name);
    return lc_weights_read_into(c->file, full, into);
}

/* A fresh tensor, or NULL when there is none of that name. */
static lc_status get_optional(const lc_checkpoint *c, const char *prefix, const char *kind, const char *name,
                              lc_tensor **out) {
    char full[1024];
    snprintf(full, sizeof full, "%s.%s.%s", prefix, kind, name);
    *out = NULL;
    return lc_checkpoint_has(c, full) ? lc_checkpoint_get(c, full, out) : LC_OK;
}

/* -- models -- */

/* What the walk over a model's parts needs: where to put them, or to get them from. */
typedef struct walk {
    lc_checkpoint *c;
    const char *prefix;
    json_t *frozen;  /* names */
    json_t *methods; /* "layer.method", in the order of installation */
    size_t n;        /* methods seen */
} walk;

static lc_status append_name(json_t *list, const char *name) {
    return json_array_append_new(list, json_string(name)) ? out_of_memory() : LC_OK;
}

static lc_status add_param(void *context, lc_param *p) {
    walk *w = context;
    LC_TRY(lc_param_enforce(p));
    LC_TRY(lc_checkpoint_add(w->c, p->leaf, "%s.weight.%s", w->prefix, p->name));
    if (p->held) LC_TRY(lc_checkpoint_add_bits(w->c, p->held, "%s.held.%s", w->prefix, p->name));
    if (p->held_values) LC_TRY(lc_checkpoint_add(w->c, p->held_values, "%s.held_values.%s", w->prefix, p->name));
    return p->frozen ? append_name(w->frozen, p->name) : LC_OK;
}

static lc_status add_installed(void *context, lc_installed *me) {
    walk *w = context;
    char name[512];
    snprintf(name, sizeof name, "%s.%s", me->layer->name, me->method.name);
    for (int i = 0; i < me->n_state; i++)
        if (me->state[i].tensor)
            LC_TRY(lc_checkpoint_add(w->c, me->state[i].tensor, "%s.state.%s.%s", w->prefix, name, me->state[i].name));
    return append_name(w->methods, name);
}

lc_status lc_checkpoint_add_model(lc_checkpoint *c, const char *prefix, lc_model *m) {
    /* Counters and seeds are 64 bits without a sign; JSON's integers have one: the bits are what is stored. */
    json_t *part = json_pack("{s:I, s:f, s:I, s:I, s:[], s:[]}", "step", (json_int_t)m->clock.step, "progress",
                             m->clock.progress, "dropout_seed", (json_int_t)m->dropout_seed, "dropout_pass",
                             (json_int_t)m->dropout_pass, "frozen", "methods");
    if (!part || json_object_set_new(c->document, prefix, part)) return out_of_memory();
    walk w = {c, prefix, json_object_get(part, "frozen"), json_object_get(part, "methods"), 0};
    LC_TRY(lc_model_each_param(m, add_param, &w));
    return lc_model_each_installed(m, add_installed, &w);
}

static bool contains(const json_t *list, const char *name) {
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item) if (strcmp(json_string_value(item), name) == 0) return true;
    return false;
}

static lc_status get_param(void *context, lc_param *p) {
    walk *w = context;
    lc_tensor *held = NULL, *values = NULL;
    LC_TRY(get_into(w->c, p->leaf, w->prefix, "weight", p->name));
    lc_status status;
    LC_GOTO(done, get_optional(w->c, w->prefix, "held", p->name, &held));
    LC_GOTO(done, get_optional(w->c, w->prefix, "held_values", p->name, &values));
    if (held)
        LC_GOTO(done, lc_param_hold_bools(p, held, false));
    else
        lc_param_lift(p);
    if (values) p->held_values = lc_tensor_retain(values);
    bool frozen = contains(w->frozen, p->name);
    if (frozen != p->frozen) LC_GOTO(done, lc_param_freeze(p, frozen));
done:
    lc_tensor_release(held);
    lc_tensor_release(values);
    return status;
}

static lc_status get_installed(void *context, lc_installed *me) {
    walk *w = context;
    char name[512];
    snprintf(name, sizeof name, "%s.%s", me->layer->name, me->method.name);
    for (int i = 0; i < me->n_state; i++) {
        lc_tensor *stored;
        char full[768];
        snprintf(full, sizeof full, "%s.%s", name, me->state[i].name);
        LC_TRY(get_optional(w->c, w->prefix, "state", full, &stored));
        lc_state_set(&me->state[i], stored);
        lc_tensor_release(stored);
    }
    return LC_OK;
}

static lc_status check_installed(void *context, lc_installed *me) {
    walk *w = context;
    char name[512];
    snprintf(name, sizeof name, "%s.%s", me->layer->name, me->method.name);
    const char *stored = json_string_value(json_array_get(w->methods, w->n++));
    if (stored && strcmp(stored, name) == 0) return LC_OK;
    return lc_fail(LC_EINVAL,
                   "%s: '%s' is installed on %s now, and was not when this was stored; install methods "
                   "before the stage or the loop that uses them",
                   w->c->path, me->method.name, me->layer->name);
}

/* The model's part of the document, its lists checked. */
static lc_status model_part(lc_checkpoint *c, const char *prefix, json_t **part, walk *w) {
    *part = json_object_get(c->document, prefix);
    *w = (walk){c, prefix, NULL, NULL, 0};
    if (!*part) return lc_fail(LC_ENOTFOUND, "%s: holds no model called '%s'", c->path, prefix);
    LC_TRY(lc_json_get_array(*part, "frozen", c->path, &w->frozen));
    LC_TRY(lc_json_get_array(*part, "methods", c->path, &w->methods));
    json_t *lists[] = {w->frozen, w->methods};
    for (int k = 0; k < 2; k++)
        for (size_t i = 0; i < json_array_size(lists[k]); i++)
            if (!json_is_string(json_array_get(lists[k], i)))
                return lc_fail(LC_EFORMAT, "%s: a list of names holds something else", c->path);
    return LC_OK;
}

lc_status lc_checkpoint_get_model(lc_checkpoint *c, const char *prefix, lc_model *m) {
    json_t *part;
    walk w;
    int64_t step = 0, seed = 0, pass = 0;
    double progress = 0;
    LC_TRY(model_part(c, prefix, &part, &w));
    LC_TRY(lc_json_get_int(part, "step", c->path, &step));
    LC_TRY(lc_json_get_double(part, "progress", c->path, &progress));
    LC_TRY(lc_json_get_int(part, "dropout_seed", c->path, &seed));
    LC_TRY(lc_json_get_int(part, "dropout_pass", c->path, &pass));
    LC_TRY(lc_model_each_installed(m, check_installed, &w));
    if (w.n < json_array_size(w.methods))
        return lc_fail(LC_EINVAL,
                       "%s: %s was installed when this was stored, and is not now; install methods before "
                       "the stage or the loop that uses them",
                       c->path, json_string_value(json_array_get(w.methods, w.n)));
    LC_TRY(lc_model_each_param(m, get_param, &w));
    LC_TRY(lc_model_each_installed(m, get_installed, &w));
    m->clock.step = step;
    m->clock.progress = progress;
    m->dropout_seed = (uint64_t)seed;
    m->dropout_pass = (uint64_t)pass;
    return LC_OK;
}

/* -- trainers -- */

lc_status lc_checkpoint_add_trainer(lc_checkpoint *c, lc_trainer *t) {
    int64_t epoch = 0, index = 0;
    if (t->loader) lc_loader_position(t->loader, &epoch, &index);
    json_t *options = NULL;
    LC_TRY(lc_trainer_describe(t, &options));
    json_t *part = json_pack("{s:o, s:I, s:I, s:I, s:I, s:s, s:{}}", "options", options, "step", (json_int_t)t->step,
                             "tokens", (json_int_t)t->total_tokens, "epoch", (json_int_t)epoch, "index",
                             (json_int_t)index, "data", t->data_hash, "updates");
    if (!part || json_object_set_new(c->document, "trainer", part)) return out_of_memory();
    json_t *updates = json_object_get(part, "updates");
    for (int64_t i = 0; i < t->optim.n; i++) {
        const lc_slot *s = &t->optim.slots[i];
        if (json_object_set_new(updates, s->name, json_integer(s->updates))) return out_of_memory();
        if (!s->from_model) LC_TRY(lc_checkpoint_add(c, s->leaf, "optim.leaf.%s", s->name));
        if (s->m) LC_TRY(lc_checkpoint_add(c, s->m, "optim.m.%s", s->name));
        if (s->v) LC_TRY(lc_checkpoint_add(c, s->v, "optim.v.%s", s->name));
    }
    return LC_OK;
}

static lc_status get_slot(lc_checkpoint *c, const json_t *updates, lc_slot *s) {
    lc_tensor *m = NULL, *v = NULL;
    int64_t count = -1;
    LC_TRY(lc_json_get_int(updates, s->name, c->path, &count));
    if (count < 0) return lc_fail(LC_EINVAL, "%s: %s was not trained when this was stored", c->path, s->name);
    if (!s->from_model) LC_TRY(get_into(c, s->leaf, "optim", "leaf", s->name));
    LC_TRY(get_optional(c, "optim", "m", s->name, &m));
    lc_status status = get_optional(c, "optim", "v", s->name, &v);
    if (status) {
        lc_tensor_release(m);
        return status;
    }
    lc_tensor_release(s->m);
    lc_tensor_release(s->v);
    s->m = m;
    s->v = v;
    s->updates = count;
    return LC_OK;
}

static lc_status check_options(const lc_checkpoint *c, const lc_trainer *t, const json_t *stored) {
    json_t *present = NULL;
    LC_TRY(lc_trainer_describe(t, &present));
    lc_status status = lc_compare_options(stored, present, c->path);
    json_decref(present);
    return status;
}

lc_status lc_checkpoint_get_trainer(lc_checkpoint *c, lc_trainer *t) {
    json_t *part = json_object_get(c->document, "trainer"), *updates = NULL, *options = NULL;
    int64_t step = 0, tokens = 0, epoch = 0, index = 0;
    const char *data = "";
    if (!part) return lc_fail(LC_ENOTFOUND, "%s: holds no training loop", c->path);
    LC_TRY(lc_json_get_int(part, "step", c->path, &step));
    LC_TRY(lc_json_get_int(part, "tokens", c->path, &tokens));
    LC_TRY(lc_json_get_int(part, "epoch", c->path, &epoch));
    LC_TRY(lc_json_get_int(part, "index", c->path, &index));
    LC_TRY(lc_json_get_string(part, "data", c->path, &data));
    LC_TRY(lc_json_get_object(part, "updates", c->path, &updates));
    LC_TRY(lc_json_get_object(part, "options", c->path, &options));
    LC_TRY(check_options(c, t, options));
    if (strcmp(data, t->data_hash) != 0)
        return lc_fail(LC_EINVAL, "%s: stored by a loop over other data: the text or the tokenizer has changed",
                       c->path);
    LC_TRY(lc_trainer_sync(t));
    for (int64_t i = 0; i < t->optim.n; i++) LC_TRY(get_slot(c, updates, &t->optim.slots[i]));
    if ((int64_t)json_object_size(updates) != t->optim.n)
        return lc_fail(LC_EINVAL, "%s: %zu tensors were trained when this was stored, and %lld are now", c->path,
                       json_object_size(updates), (long long)t->optim.n);
    if (t->loader) LC_TRY(lc_loader_seek(t->loader, epoch, index));
    t->step = step;
    t->total_tokens = tokens;
    return LC_OK;
}
