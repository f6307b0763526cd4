/* import.c: telling sources apart; see import.h. */
#include "model/import.h"

#include <dirent.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"

void lc_source_close(lc_source *s) {
    json_decref(s->config);
    lc_weights_release(s->weights);
    lc_tokenizer_release(s->tokenizer);
    lc_free(s->directory);
    *s = (lc_source){0};
}

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

bool lc_rotary_rows(const lc_source *s, const char *name, lc_row_order *out) {
    static const char where[] = "config";
    bool q = strstr(name, ".self_attn.q_proj.") != NULL, k = strstr(name, ".self_attn.k_proj.") != NULL;
    int64_t heads = 0, size = 0;
    if (!q && !k) return false;
    if (lc_json_get_int(s->config, q ? "num_attention_heads" : "num_key_value_heads", where, &heads) ||
        lc_json_get_int(s->config, "head_dim", where, &size))
        return false;
    *out = (lc_row_order){{heads, size / 2, 2}, {0, 2, 1}};
    return true;
}

static lc_status open_transformers(const char *directory, lc_source *s) {
    char *config = lc_path_join(directory, "config.json");
    s->directory = lc_strdup(directory);
    lc_status status = config && s->directory ? lc_json_read(config, &s->config) : LC_ENOMEM;
    lc_free(config);
    return status ? status : lc_weights_open(directory, &s->weights);
}

/* Whether a file of a directory is one to import: GGUF, or llama2.c's, whose tokenizers are called tok...bin. */
static bool is_model(const char *name, const char *end) {
    return ends_with(name, end) && strncmp(name, "tok", 3) != 0;
}

/* The directory's only file with that ending, NULL when there is none. */
static lc_status find_only(const char *directory, const char *end, char **out) {
    DIR *d = opendir(directory);
    if (!d) return lc_fail(LC_ENOTFOUND, "%s: cannot be listed as a directory", directory);
    lc_status status = LC_OK;
    char *found = NULL;
    for (struct dirent *entry; !status && (entry = readdir(d));) {
        if (!is_model(entry->d_name, end)) continue;
        if (found)
            status = lc_fail(LC_EFORMAT, "%s: has several files *%s and no config.json: load one of them by its path",
                             directory, end);
        else if (!(found = lc_path_join(directory, entry->d_name)))
            status = LC_ENOMEM;
    }
    closedir(d);
    if (status) {
        lc_free(found);
        return status;
    }
    *out = found;
    return LC_OK;
}

static lc_status open_directory(const char *directory, lc_source *s) {
    char *config = lc_path_join(directory, "config.json"), *file = NULL;
    if (!config) return LC_ENOMEM;
    bool there = lc_file_exists(config);
    lc_free(config);
    if (there) return open_transformers(directory, s);
    LC_TRY(find_only(directory, ".gguf", &file));
    lc_status status = file ? lc_import_gguf(file, s) : find_only(directory, ".bin", &file);
    if (!status && !s->config) status = file ? lc_import_llama2c(file, s) : open_transformers(directory, s);
    lc_free(file);
    return status;
}

lc_status lc_source_open(const char *path, lc_source *out) {
    lc_source s = {0};
    lc_status status;
    if (ends_with(path, ".gguf"))
        status = lc_import_gguf(path, &s);
    else if (ends_with(path, ".bin"))
        status = lc_import_llama2c(path, &s);
    else
        status = open_directory(path, &s);
    if (status) {
        lc_source_close(&s);
        return status;
    }
    *out = s;
    return LC_OK;
}
