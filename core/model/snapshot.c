/* snapshot.c: a model's weights as they were, to go back to (lottery tickets, best epoch, trial pruning). */
#include <string.h>

#include "base/memory.h"
#include "base/pool.h"
#include "model/model.h"
#include "ops/op.h"

typedef struct entry {
    char *name;
    lc_tensor *tensor;
} entry;

struct lc_snapshot {
    int64_t n;
    entry *entries;
};

static lc_status add_entry(void *context, lc_param *p) {
    lc_snapshot *s = context;
    entry *grown = lc_realloc(s->entries, (size_t)(s->n + 1) * sizeof *grown);
    if (!grown) return LC_ENOMEM;
    s->entries = grown;
    entry *e = &grown[s->n];
    *e = (entry){.name = lc_strdup(p->name)};
    if (!e->name) return LC_ENOMEM;
    s->n++;
    return lc_run(LC_OP_COPY, &(lc_attr){.dtype = p->leaf->dtype}, &p->leaf, 1, &e->tensor);
}

int64_t lc_snapshot_tensors(const lc_snapshot *s) {
    return s->n;
}

int64_t lc_snapshot_numbers(const lc_snapshot *s) {
    int64_t sum = 0;
    for (int64_t i = 0; i < s->n; i++) sum += lc_numel(s->entries[i].tensor);
    return sum;
}

lc_status lc_model_snapshot(lc_model *m, lc_snapshot **out) {
    LC_TRY(lc_model_enforce(m));
    lc_snapshot *s = lc_calloc(1, sizeof *s);
    if (!s) return LC_ENOMEM;
    lc_status status = lc_model_each_param(m, add_entry, s);
    if (status) {
        lc_snapshot_release(s);
        return status;
    }
    *out = s;
    return LC_OK;
}

typedef struct search {
    const char *name;
    lc_param *found;
} search;

static lc_status compare_name(void *context, lc_param *p) {
    search *s = context;
    if (!strcmp(p->name, s->name)) s->found = p;
    return LC_OK;
}

static lc_param *find_param(lc_model *m, const char *name) {
    search s = {.name = name};
    lc_model_each_param(m, compare_name, &s);
    return s.found;
}

lc_status lc_model_restore(lc_model *m, const lc_snapshot *s) {
    for (int64_t i = 0; i < s->n; i++) {
        const lc_param *p = find_param(m, s->entries[i].name);
        if (!p || !lc_same_shape(p->leaf, s->entries[i].tensor))
            return lc_fail(LC_EINVAL, "restore: the snapshot has %s %s, which this model has not", s->entries[i].name,
                           LC_SHAPE(s->entries[i].tensor));
    }
    lc_status status = LC_OK;
    lc_cancel_hold(); /* all of it or nothing */
    for (int64_t i = 0; i < s->n && !status; i++)
        status = lc_copy_into(find_param(m, s->entries[i].name)->leaf, s->entries[i].tensor);
    if (!status) status = lc_model_enforce(m);
    lc_cancel_release();
    return status;
}

lc_tensor *lc_snapshot_find(const lc_snapshot *s, const char *name) {
    for (int64_t i = 0; i < s->n; i++)
        if (!strcmp(s->entries[i].name, name)) return s->entries[i].tensor;
    return NULL;
}

void lc_snapshot_release(lc_snapshot *s) {
    if (!s) return;
    for (int64_t i = 0; i < s->n; i++) {
        lc_free(s->entries[i].name);
        lc_tensor_release(s->entries[i].tensor);
    }
    lc_free(s->entries);
    lc_free(s);
}
