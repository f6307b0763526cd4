/* held_file.c: see held_file.h. */
#include "model/held_file.h"

#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/strbuf.h"
#include "io/safetensors.h"
#include "io/weights.h"

#define FILE_NAME "lacuna.safetensors"
#define FORMAT_KEY "lacuna_format"
#define FORMAT "1"
#define MASK_END ".held"
#define VALUES_END ".held_values"

/* The parameter whose name is `name` without `end`; NULL when it does not end so, or there is none. */
static lc_param *param_before(lc_model *m, const char *name, const char *end) {
    size_t n = strlen(name), k = strlen(end);
    if (n <= k || strcmp(name + n - k, end)) return NULL;
    for (int64_t i = 0; i < m->n_params; i++) {
        const char *param = m->params[i]->name;
        if (strlen(param) == n - k && !strncmp(param, name, n - k)) return m->params[i];
    }
    return NULL;
}

static lc_status read_mask(lc_model *m, lc_weights *file, const char *name) {
    lc_param *p = param_before(m, name, MASK_END);
    if (!p)
        return param_before(m, name, VALUES_END) ? LC_OK : lc_fail(LC_EFORMAT, "%s is nothing of this model's", name);
    lc_tensor *keep = NULL;
    LC_TRY(lc_weights_read(file, name, LC_BOOL, &keep));
    lc_status status = lc_param_hold_bools(p, keep, false);
    lc_tensor_release(keep);
    return status;
}

static lc_status read_values(lc_model *m, lc_weights *file, const char *name) {
    lc_param *p = param_before(m, name, VALUES_END);
    if (!p) return LC_OK;
    lc_tensor *values = NULL;
    LC_TRY(lc_weights_read(file, name, p->leaf->dtype, &values));
    if (!p->held || !lc_same_shape(values, p->leaf)) {
        lc_tensor_release(values);
        return lc_fail(LC_EFORMAT, "%s goes with no mask", name);
    }
    p->held_values = values;
    return LC_OK;
}

static lc_status read_all(lc_model *m, lc_weights *file) {
    const char *format = lc_weights_metadata(file, FORMAT_KEY);
    if (!format || strcmp(format, FORMAT))
        return lc_fail(LC_EFORMAT, FORMAT_KEY " is %s; this version reads " FORMAT, format ? format : "missing");
    for (int64_t i = 0; i < lc_weights_count(file); i++) LC_TRY(read_mask(m, file, lc_weights_at(file, i)->name));
    for (int64_t i = 0; i < lc_weights_count(file); i++) LC_TRY(read_values(m, file, lc_weights_at(file, i)->name));
    return LC_OK;
}

lc_status lc_held_read(lc_model *m, const char *directory) {
    char *path = lc_path_join(directory, FILE_NAME);
    lc_weights *file = NULL;
    if (!path) return LC_ENOMEM;
    lc_status status = LC_OK;
    if (lc_file_exists(path)) {
        status = lc_weights_open(path, &file);
        if (!status) {
            status = read_all(m, file);
            if (status) lc_fail_within(status, "%s", path);
        }
    }
    lc_weights_release(file);
    lc_free(path);
    return status;
}

/* -- writing ------------------------------------------------------------------------------------ */

/* Borrows the tensor or the bits, whichever is there. */
static lc_status add(lc_named *list, int64_t *n, const char *param, const char *end, lc_tensor *tensor, lc_bits *bits) {
    if (!tensor && !bits) return LC_OK;
    lc_strbuf name = {0};
    char *text = NULL;
    lc_strbuf_printf(&name, "%s%s", param, end);
    LC_TRY(lc_strbuf_take(&name, &text, NULL));
    list[(*n)++] = (lc_named){text, tensor, LC_DTYPES, bits};
    return LC_OK;
}

lc_status lc_held_write(lc_model *m, const char *directory) {
    int64_t n = 0;
    char *path = lc_path_join(directory, FILE_NAME);
    lc_named *list = lc_calloc((size_t)(2 * m->n_params), sizeof *list);
    lc_status status = path && list ? LC_OK : LC_ENOMEM;
    for (int64_t i = 0; i < m->n_params && !status; i++) {
        const lc_param *p = m->params[i];
        status = add(list, &n, p->name, MASK_END, NULL, p->held);
        if (!status) status = add(list, &n, p->name, VALUES_END, p->held_values, NULL);
    }
    if (!status)
        status = n ? lc_safetensors_write(path, list, n, &(lc_pair){FORMAT_KEY, FORMAT}, 1) : lc_remove_tree(path);
    for (int64_t i = 0; i < n; i++) lc_free((char *)list[i].name);
    lc_free(list);
    lc_free(path);
    return status;
}
