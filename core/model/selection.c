/* selection.c: choosing parts of a model by role, name or glob. */
#include "model/selection.h"

#include <fnmatch.h>
#include <string.h>

#include "base/memory.h"
#include "base/strbuf.h"
#include "model/family.h"

static const char *const part_name[LC_PARTS] = {"layer", "parameter", "block"};
static const char *const part_verb[LC_PARTS] = {"linears", "parameters", "blocks"};

/* -- what a model has --------------------------------------------------------------------------- */

static int64_t part_count(const lc_model *m, lc_part part) {
    int64_t count[] = {m->n_linears, m->n_params, m->n_blocks};
    return count[part];
}

static void *part_at(const lc_model *m, lc_part part, int64_t i) {
    switch (part) {
    case LC_PART_LINEAR:
        return m->linears[i];
    case LC_PART_PARAMETER:
        return m->params[i];
    default:
        return m->blocks[i];
    }
}

static const char *item_name(lc_part part, const void *item) {
    switch (part) {
    case LC_PART_LINEAR:
        return ((const lc_layer *)item)->name;
    case LC_PART_PARAMETER:
        return ((const lc_param *)item)->name;
    default:
        return ((const lc_block *)item)->name;
    }
}

static const char *item_role(lc_part part, const void *item) {
    switch (part) {
    case LC_PART_LINEAR:
        return ((const lc_layer *)item)->role;
    case LC_PART_PARAMETER:
        return ((const lc_param *)item)->role;
    default:
        return "";
    }
}

/* Layers outside blocks are chosen by their role or name only. */
static bool is_common(lc_part part, const void *item) {
    return part != LC_PART_LINEAR || ((const lc_layer *)item)->block >= 0;
}

/* -- making ------------------------------------------------------------------------------------- */

static lc_status selection_new(lc_model *m, lc_part part, int64_t n, lc_selection **out) {
    lc_selection *s = lc_calloc(1, sizeof *s);
    void **items = s ? lc_calloc((size_t)n, sizeof *items) : NULL;
    if (!items) {
        lc_free(s);
        return LC_ENOMEM;
    }
    *s = (lc_selection){.refs = 1, .model = lc_model_retain(m), .part = part, .items = items};
    *out = s;
    return LC_OK;
}

/* The parts that `chosen` says yes to, in the model's order. Not an error when there is none. */
static lc_status choose(lc_model *m, lc_part part, bool (*chosen)(const void *context, const void *item),
                        const void *context, lc_selection **out) {
    lc_selection *s = NULL;
    LC_TRY(selection_new(m, part, part_count(m, part), &s));
    for (int64_t i = 0; i < part_count(m, part); i++) {
        void *item = part_at(m, part, i);
        if (chosen(context, item)) s->items[s->n++] = item;
    }
    *out = s;
    return LC_OK;
}

typedef struct wish {
    const lc_model *model;
    lc_part part;
    const char *pattern; /* NULL = everything common */
} wish;

/* `name` without its family's prefix, as some files have it. */
static const char *short_name(const lc_model *m, const char *name) {
    size_t n = strlen(m->family->prefix);
    return strncmp(name, m->family->prefix, n) ? name : name + n;
}

static bool is_wished(const void *context, const void *item) {
    const wish *w = context;
    if (!w->pattern) return is_common(w->part, item);
    const char *name = item_name(w->part, item), *role = item_role(w->part, item);
    size_t n = strlen(w->pattern);
    if (!strncmp(role, w->pattern, n) && n && (role[n] == '.' || !role[n])) return true;
    if (!strcmp(name, w->pattern) || !strcmp(short_name(w->model, name), w->pattern)) return true;
    if (!strpbrk(w->pattern, "*?[") || !is_common(w->part, item)) return false;
    return !fnmatch(w->pattern, name, 0) || !fnmatch(w->pattern, short_name(w->model, name), 0);
}

/* What could have been meant: roles with their counts, or the names of blocks. */
static void describe(const lc_model *m, lc_part part, lc_strbuf *b) {
    if (part == LC_PART_BLOCK) {
        lc_strbuf_printf(b, " %s to %s", m->blocks[0]->name, m->blocks[m->n_blocks - 1]->name);
        return;
    }
    int64_t each = -1;
    bool equal = true;
    for (int64_t i = 0; i < part_count(m, part); i++) {
        const char *role = item_role(part, part_at(m, part, i));
        int64_t here = 0, first = -1;
        for (int64_t k = 0; k < part_count(m, part); k++) {
            if (strcmp(item_role(part, part_at(m, part, k)), role)) continue;
            if (first < 0) first = k;
            here++;
        }
        if (first != i || !is_common(part, part_at(m, part, i))) continue;
        lc_strbuf_printf(b, " %s", role);
        equal = equal && (each < 0 || each == here);
        each = here;
    }
    if (equal && each > 0) lc_strbuf_printf(b, " (%lld of each)", (long long)each);
}

static lc_status nothing_matches(const lc_model *m, lc_part part, const char *pattern) {
    lc_strbuf b = {0};
    char *there = NULL;
    describe(m, part, &b);
    LC_TRY(lc_strbuf_take(&b, &there, NULL));
    lc_status status = lc_fail(LC_ENOTFOUND, "%s: no %s matches \"%s\"; this %s has:%s", part_verb[part],
                               part_name[part], pattern, m->family->name, there);
    lc_free(there);
    return status;
}

lc_status lc_select_all(lc_model *m, lc_part part, lc_selection **out) {
    return choose(m, part, is_wished, &(wish){m, part, NULL}, out);
}

lc_status lc_select_matching(lc_model *m, lc_part part, const char *pattern, lc_selection **out) {
    lc_selection *s = NULL;
    LC_TRY(choose(m, part, is_wished, &(wish){m, part, pattern}, &s));
    if (!s->n) {
        lc_selection_release(s);
        return nothing_matches(m, part, pattern);
    }
    *out = s;
    return LC_OK;
}

/* -- sets --------------------------------------------------------------------------------------- */

typedef struct list {
    void *const *items;
    int64_t n;
} list;

static bool is_listed(const void *context, const void *item) {
    const list *l = context;
    for (int64_t i = 0; i < l->n; i++)
        if (l->items[i] == item) return true;
    return false;
}

static lc_status refuse_empty(lc_selection *s, const char *why, lc_selection **out) {
    if (!s->n) {
        lc_status status = lc_fail(LC_ENOTFOUND, "%s: %s", part_verb[s->part], why);
        lc_selection_release(s);
        return status;
    }
    *out = s;
    return LC_OK;
}

lc_status lc_select_items(lc_model *m, lc_part part, void *const *items, int64_t n, lc_selection **out) {
    lc_selection *s = NULL;
    LC_TRY(choose(m, part, is_listed, &(list){items, n}, &s));
    return refuse_empty(s, "the selection is empty", out);
}

static lc_status check_pair(const lc_selection *a, const lc_selection *b) {
    if (a->model != b->model) return lc_fail(LC_EINVAL, "these selections are of two different models");
    if (a->part != b->part)
        return lc_fail(LC_EINVAL, "cannot combine a selection of %ss with one of %ss", part_name[a->part],
                       part_name[b->part]);
    return LC_OK;
}

typedef struct pair {
    const lc_selection *a, *b;
} pair;

static bool in_either(const void *context, const void *item) {
    const pair *p = context;
    return lc_selection_has(p->a, item) || lc_selection_has(p->b, item);
}

static bool in_first_only(const void *context, const void *item) {
    const pair *p = context;
    return lc_selection_has(p->a, item) && !lc_selection_has(p->b, item);
}

lc_status lc_selection_union(const lc_selection *a, const lc_selection *b, lc_selection **out) {
    LC_TRY(check_pair(a, b));
    return choose(a->model, a->part, in_either, &(pair){a, b}, out);
}

lc_status lc_selection_difference(const lc_selection *a, const lc_selection *b, lc_selection **out) {
    lc_selection *s = NULL;
    LC_TRY(check_pair(a, b));
    LC_TRY(choose(a->model, a->part, in_first_only, &(pair){a, b}, &s));
    return refuse_empty(s, "the difference leaves nothing", out);
}

static bool belongs_to(const void *context, const void *item) {
    const lc_selection *s = context;
    const lc_param *p = item;
    for (int64_t i = 0; i < s->n; i++) {
        if (s->items[i] == item) return true;
        if (s->part == LC_PART_LINEAR && (lc_selected_layer(s, i)->weight == p || lc_selected_layer(s, i)->bias == p))
            return true;
        if (s->part == LC_PART_BLOCK && lc_selected_block(s, i)->index == p->block) return true;
    }
    return false;
}

lc_status lc_selection_params(const lc_selection *s, lc_selection **out) {
    return choose(s->model, LC_PART_PARAMETER, belongs_to, s, out);
}

bool lc_selection_has(const lc_selection *s, const void *item) {
    return is_listed(&(list){s->items, s->n}, item);
}

lc_selection *lc_selection_retain(lc_selection *s) {
    s->refs++;
    return s;
}

void lc_selection_release(lc_selection *s) {
    if (!s || --s->refs) return;
    lc_model_release(s->model);
    lc_free(s->items);
    lc_free(s);
}

/* -- asking ------------------------------------------------------------------------------------- */

const char *lc_selection_name(const lc_selection *s, int64_t i) {
    return item_name(s->part, s->items[i]);
}

static lc_status add_zeros(lc_param *p, int64_t *zeros, int64_t *total) {
    int64_t here;
    LC_TRY(lc_param_enforce(p));
    LC_TRY(lc_param_zeros(p, &here));
    *zeros += here;
    *total += lc_numel(p->leaf);
    return LC_OK;
}

lc_status lc_selection_sparsity(const lc_selection *s, double *out) {
    int64_t zeros = 0, total = 0;
    for (int64_t i = 0; i < s->n; i++) {
        if (s->part == LC_PART_LINEAR) LC_TRY(add_zeros(lc_selected_layer(s, i)->weight, &zeros, &total));
        if (s->part == LC_PART_PARAMETER) LC_TRY(add_zeros(lc_selected_param(s, i), &zeros, &total));
        if (s->part != LC_PART_BLOCK) continue;
        for (int64_t k = 0; k < s->model->n_linears; k++)
            if (s->model->linears[k]->block == lc_selected_block(s, i)->index)
                LC_TRY(add_zeros(s->model->linears[k]->weight, &zeros, &total));
    }
    *out = total ? (double)zeros / (double)total : 0;
    return LC_OK;
}

static lc_status item_line(const lc_selection *s, int64_t i, lc_strbuf *b) {
    if (s->part == LC_PART_LINEAR) {
        char *text = NULL;
        LC_TRY(lc_layer_text(lc_selected_layer(s, i), &text));
        lc_strbuf_printf(b, "\n  %s", text);
        lc_free(text);
    } else if (s->part == LC_PART_PARAMETER) {
        const lc_param *p = lc_selected_param(s, i);
        lc_strbuf_printf(b, "\n  %s %s%s%s", p->name, LC_SHAPE(p->file), p->frozen ? ", frozen" : "",
                         p->held ? ", held" : "");
    } else {
        lc_strbuf_printf(b, "\n  %s", lc_selection_name(s, i));
    }
    return LC_OK;
}

lc_status lc_selection_text(const lc_selection *s, char **out) {
    double sparsity;
    LC_TRY(lc_selection_sparsity(s, &sparsity));
    lc_strbuf b = {0};
    lc_strbuf_printf(&b, "%lld %s%s of %s", (long long)s->n, part_name[s->part], s->n == 1 ? "" : "s",
                     s->model->family->name);
    if (sparsity > 0) lc_strbuf_printf(&b, ", %.1f%% zero", 100 * sparsity);
    for (int64_t i = 0; i < s->n; i++) {
        lc_status status = item_line(s, i, &b);
        if (status) {
            lc_strbuf_free(&b);
            return status;
        }
    }
    return lc_strbuf_take(&b, out, NULL);
}
