/* save.c: models as directories that transformers loads: config.json, model.safetensors, generation_config.json, the
 * tokenizer's files, and lacuna.safetensors where masks are held. */
#include "base/file.h"
#include "base/memory.h"
#include "io/safetensors.h"
#include "model/family.h"
#include "model/held_file.h"

/* Sets object[key]; takes over `value`, which may be NULL when it could not be made. */
static lc_status set(json_t *object, const char *key, json_t *value) {
    if (json_object_set_new(object, key, value)) return lc_fail(LC_ENOMEM, "out of memory while writing %s", key);
    return LC_OK;
}

/* The configuration as it was, with what describes the weights as they are written. */
static lc_status final_config(const lc_model *m, json_t **out) {
    json_t *config = json_deep_copy(m->config);
    if (!config) return lc_fail(LC_ENOMEM, "out of memory while writing config.json");
    json_object_del(config, "torch_dtype"); /* the older name of "dtype" */
    lc_status status = set(config, "architectures", json_pack("[s]", m->family->architecture));
    if (!status) status = set(config, "dtype", json_string("float32"));
    if (status)
        json_decref(config);
    else
        *out = config;
    return status;
}

/* What was read, or the token ids of the configuration. */
static lc_status final_generation(const lc_model *m, json_t **out) {
    if (m->generation) {
        *out = json_incref(m->generation);
        return LC_OK;
    }
    json_t *made = json_object();
    if (!made) return lc_fail(LC_ENOMEM, "out of memory while writing generation_config.json");
    static const char *const keys[] = {"bos_token_id", "eos_token_id", "pad_token_id"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        json_t *id = json_object_get(m->config, keys[i]);
        if (!id) continue;
        lc_status status = set(made, keys[i], json_incref(id));
        if (status) {
            json_decref(made);
            return status;
        }
    }
    *out = made;
    return LC_OK;
}

static lc_status write_json(const char *directory, const char *name, lc_status (*make)(const lc_model *m, json_t **out),
                            const lc_model *m) {
    json_t *value = NULL;
    char *path = lc_path_join(directory, name);
    lc_status status = path ? make(m, &value) : LC_ENOMEM;
    if (!status) status = lc_json_write(path, value);
    json_decref(value);
    lc_free(path);
    return status;
}

static lc_status write_weights(lc_model *m, const char *directory) {
    char *path = lc_path_join(directory, "model.safetensors");
    lc_named *list = lc_calloc((size_t)m->n_params, sizeof *list);
    lc_status status = path && list ? LC_OK : LC_ENOMEM;
    for (int64_t i = 0; i < m->n_params && !status; i++)
        list[i] = (lc_named){m->params[i]->name, m->params[i]->file, LC_F32};
    if (!status) status = lc_safetensors_write(path, list, m->n_params, &(lc_pair){"format", "pt"}, 1);
    lc_free(list);
    lc_free(path);
    return status;
}

static lc_status write_all(lc_model *m, const char *directory) {
    LC_TRY(write_json(directory, "config.json", final_config, m));
    LC_TRY(write_json(directory, "generation_config.json", final_generation, m));
    if (m->tokenizer) LC_TRY(lc_tokenizer_save(m->tokenizer, directory));
    LC_TRY(write_weights(m, directory));
    return lc_held_write(m, directory);
}

/* What an earlier save left there about masks, where this one has none. */
static lc_status drop_old_masks(const char *fresh, const char *directory) {
    char *now = lc_path_join(fresh, "lacuna.safetensors"), *before = lc_path_join(directory, "lacuna.safetensors");
    lc_status status = now && before ? LC_OK : LC_ENOMEM;
    if (!status && !lc_file_exists(now)) status = lc_remove_tree(before);
    lc_free(now);
    lc_free(before);
    return status;
}

lc_status lc_model_save(lc_model *m, const char *directory) {
    LC_TRY(lc_model_enforce(m));
    char *fresh = NULL;
    LC_TRY(lc_directory_begin(directory, &fresh));
    lc_status status = write_all(m, fresh);
    if (!status) status = drop_old_masks(fresh, directory);
    return lc_directory_end(status, fresh, directory);
}
