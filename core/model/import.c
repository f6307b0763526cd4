/* import.c: telling sources apart; see import.h. */
#include "model/import.h"

#include <dirent.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/strbuf.h"

void lc_source_close(lc_source *s) {
    json_decref(s->config);
    lc_weights_release(s->weights);
    lc_tokenizer_release(s->tokenizer);
    lc_free(s->directory);
    *s = (lc_source){0};
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

/* `weights` NULL: the directory's, under the names that transformers gives them. */
static lc_status open_transformers(const char *directory, const char *weights, lc_source *s) {
    char *config = lc_path_join(directory, "config.json");
    s->directory = lc_strdup(directory);
    s->whole = !weights;
    lc_status status = config && s->directory ? lc_json_read(config, &s->config) : LC_ENOMEM;
    lc_free(config);
    return status ? status : lc_weights_open(weights ? weights : directory, &s->weights);
}

#define WITHOUT_CONFIG "%s: a state dict says nothing of its model: put its config.json beside it"

typedef enum file_kind { FILE_GGUF, FILE_LLAMA2C, FILE_STATE_DICT, FILE_OTHER } file_kind;

/* By its first bytes; llama2.c's have no mark of their own, but must be called *.bin, which torch.save's often are too. */
static lc_status find_kind(const char *path, file_kind *out) {
    lc_reader *reader;
    uint8_t head[4] = {0};
    LC_TRY(lc_reader_open(path, &reader));
    size_t size = lc_reader_size(reader) < sizeof head ? (size_t)lc_reader_size(reader) : sizeof head;
    lc_status status = lc_reader_read(reader, 0, head, size);
    lc_reader_close(reader);
    bool torch = !memcmp(head, "PK\3\4", 4) || (head[0] == 0x80 && head[1] >= 2 && head[1] <= 5);
    *out = !memcmp(head, "GGUF", 4) || lc_ends_with(path, ".gguf")   ? FILE_GGUF
           : lc_ends_with(path, ".bin") && !torch                    ? FILE_LLAMA2C
           : lc_ends_with(path, ".pt") || lc_ends_with(path, ".pth") ? FILE_STATE_DICT
                                                                     : FILE_OTHER;
    return status;
}

/* Whether a file of a directory may be a model: GGUF, a state dict, or llama2.c's, whose tokenizers are called tok...bin;
 * and not what transformers and torch keep beside one. */
static bool is_model(const char *name, const char *end) {
    static const char *const others[] = {"pytorch_model", "adapter_model", "training_args",
                                         "optimizer",     "scheduler",     "rng_state"};
    if (!strncmp(name, "tok", 3) && !strcmp(end, ".bin")) return false;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (!strncmp(name, others[i], strlen(others[i])) && strcmp(end, ".gguf")) return false;
    return lc_ends_with(name, end);
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
            status = lc_fail(LC_EFORMAT, "%s: has several files *%s: load one of them by its path", directory, end);
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

static lc_status fail_without_model(const char *directory) {
    bool adapter = false;
    LC_TRY(lc_dir_has(directory, "adapter_config.json", &adapter));
    if (adapter)
        return lc_fail(LC_ENOTFOUND,
                       "%s: an adapter without its model (adapter_config.json, no config.json): merge it into "
                       "that model first, as peft's merge_and_unload does",
                       directory);
    char *dict = NULL;
    LC_TRY(find_only(directory, ".pt", &dict));
    if (!dict) LC_TRY(find_only(directory, ".pth", &dict));
    bool found = dict != NULL;
    lc_free(dict);
    if (found) return lc_fail(LC_ENOTFOUND, WITHOUT_CONFIG, directory);
    return lc_fail(LC_ENOTFOUND, "%s: no config.json in this directory, and no .gguf or .bin of llama2.c: not a model",
                   directory);
}

/* The one file of another program. */
static lc_status open_other(const char *directory, lc_source *s) {
    char *gguf = NULL, *llama2c = NULL;
    LC_TRY(find_only(directory, ".gguf", &gguf));
    lc_status status = gguf ? lc_import_gguf(gguf, s) : find_only(directory, ".bin", &llama2c);
    if (!status && !gguf) status = llama2c ? lc_import_llama2c(llama2c, s) : fail_without_model(directory);
    lc_free(gguf);
    lc_free(llama2c);
    return status;
}

/* A config.json may stand beside GGUF files, or a state dict of any name, too. */
static lc_status open_directory(const char *directory, lc_source *s) {
    bool configured = false, weights = false;
    char *gguf = NULL, *dict = NULL;
    LC_TRY(lc_dir_has(directory, "config.json", &configured));
    LC_TRY(lc_weights_present(directory, &weights));
    lc_status status = LC_OK;
    if (configured && !weights) status = find_only(directory, ".gguf", &gguf);
    if (configured && !weights && !gguf && !status) status = find_only(directory, ".pt", &dict);
    if (configured && !weights && !gguf && !dict && !status) status = find_only(directory, ".pth", &dict);
    if (!status) status = configured && !gguf ? open_transformers(directory, dict, s) : open_other(directory, s);
    lc_free(gguf);
    lc_free(dict);
    return status;
}

/* With the config.json beside it. */
static lc_status open_state_dict(const char *path, lc_source *s) {
    const char *slash = strrchr(path, '/');
    char *directory = slash ? lc_strndup(path, slash > path ? (size_t)(slash - path) : 1) : lc_strdup(".");
    bool configured = false;
    lc_status status = directory ? lc_dir_has(directory, "config.json", &configured) : LC_ENOMEM;
    if (!status && !configured) status = lc_fail(LC_ENOTFOUND, WITHOUT_CONFIG, path);
    if (!status) status = open_transformers(directory, path, s);
    lc_free(directory);
    return status;
}

static lc_status open_file(const char *path, lc_source *s) {
    file_kind kind;
    LC_TRY(find_kind(path, &kind));
    if (kind == FILE_GGUF) return lc_import_gguf(path, s);
    if (kind == FILE_LLAMA2C) return lc_import_llama2c(path, s);
    if (kind == FILE_STATE_DICT) return open_state_dict(path, s);
    return lc_fail(
        LC_EFORMAT,
        "%s: neither a GGUF file, nor a .bin of llama2.c, nor a .pt: load the directory that holds config.json "
        "and the weights",
        path);
}

lc_status lc_source_open(const char *path, lc_source *out) {
    lc_source s = {0};
    lc_status status = lc_is_dir(path) ? open_directory(path, &s) : open_file(path, &s);
    if (status) {
        lc_source_close(&s);
        return status;
    }
    *out = s;
    return LC_OK;
}
