/* tokenizer_load.c: tokenizers from the files of the Hugging Face libraries: tokenizer.json, or vocab.json with
 * merges.txt, and what tokenizer_config.json, special_tokens_map.json and added_tokens.json add to them. GGUF files and
 * those of llama2.c have readers of their own. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/strbuf.h"
#include "io/json.h"
#include "text/bpe.h"
#include "text/sentencepiece.h"
#include "text/tokenizer_gguf.h"

#define END_OF_TEXT "<|endoftext|>"

/* -- merges.txt ---------------------------------------------------------------------------------- */

/* Lines "left right"; the first may be a comment with the version. */
static lc_status read_merge_lines(lc_tokenizer *t, const char *text, size_t length) {
    lc_strbuf scratch = {0};
    lc_status status = LC_OK;
    const char *end = text + length;
    for (int64_t number = 1; text < end && !status; number++) {
        const char *stop = memchr(text, '\n', (size_t)(end - text)), *next = stop ? stop + 1 : end;
        if (!stop) stop = end;
        if (stop > text && stop[-1] == '\r') stop--;
        bool version = number == 1 && stop - text >= 8 && memcmp(text, "#version", 8) == 0;
        if (stop > text && !version) {
            status = lc_tokenizer_read_merge(t, &scratch, text, (size_t)(stop - text));
            if (status) status = lc_fail_within(status, "line %lld", (long long)number);
        }
        text = next;
    }
    lc_strbuf_free(&scratch);
    return status;
}

/* -- special tokens ------------------------------------------------------------------------------ */

/* Text of a token that is written as a string or as an object with "content"; NULL for anything else. */
static const char *token_text(const json_t *value) {
    return json_string_value(json_is_object(value) ? json_object_get(value, "content") : value);
}

/* Makes the token that `map` has under `key` special; its id goes to *id, which stays as it was when there is none. */
static lc_status read_special(lc_tokenizer *t, const json_t *map, const char *key, int64_t *id) {
    const char *text = token_text(json_object_get(map, key));
    return text ? lc_tokenizer_add_special(t, text, strlen(text), id) : LC_OK;
}

static lc_status read_special_map(lc_tokenizer *t, const json_t *map, int64_t *bos) {
    LC_TRY(read_special(t, map, "bos_token", bos));
    LC_TRY(read_special(t, map, "eos_token", &t->eos));
    static const char *const others[] = {"unk_token", "pad_token", "mask_token", "cls_token", "sep_token"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) LC_TRY(read_special(t, map, others[i], NULL));
    return LC_OK;
}

static lc_status read_added_decoder(lc_tokenizer *t, const json_t *decoder) {
    const char *key;
    json_t *token;
    json_object_foreach((json_t *)decoder, key, token) {
        char *end;
        long long id = strtoll(key, &end, 10);
        if (*end || end == key || id < 0 || id > t->vocabulary.size + 65536)
            return lc_fail(LC_EFORMAT, "added_tokens_decoder: \"%.60s\" is not an id", key);
        LC_TRY(lc_tokenizer_read_added(t, token, id));
    }
    return LC_OK;
}

static lc_status read_added_map(lc_tokenizer *t, const json_t *map) {
    const char *text;
    json_t *id;
    json_object_foreach((json_t *)map, text, id) {
        LC_TRY(lc_tokenizer_check_id(id, (size_t)t->vocabulary.size, text));
        int64_t at = json_integer_value(id), known = lc_tokenizer_id(t, text, strlen(text));
        if (known >= 0 && known != at)
            return lc_fail(LC_EFORMAT, "the token %s has two ids, %lld and %lld", text, (long long)known,
                           (long long)at);
        if (known < 0) LC_TRY(lc_vocabulary_add(&t->vocabulary, at, text, strlen(text), false));
        t->vocabulary.tokens[at].added = true;
    }
    return LC_OK;
}

/* -- the files --------------------------------------------------------------------------------- */

/* The JSON file `name` of the directory; NULL when there is none. */
static lc_status read_optional(const char *directory, const char *name, json_t **out) {
    *out = NULL;
    char *path = lc_path_join(directory, name);
    if (!path) return LC_ENOMEM;
    lc_status status = lc_file_exists(path) ? lc_json_read(path, out) : LC_OK;
    lc_free(path);
    return status;
}

/* One optional file of the directory, given to `read` when it is there. */
typedef lc_status (*part_reader)(lc_tokenizer *t, const json_t *file);
static lc_status read_part(lc_tokenizer *t, const char *directory, const char *name, part_reader read) {
    json_t *file;
    LC_TRY(read_optional(directory, name, &file));
    lc_status status = file ? read(t, file) : LC_OK;
    if (status) status = lc_fail_within(status, "%s/%s", directory, name);
    json_decref(file);
    return status;
}

static lc_status read_special_tokens_map(lc_tokenizer *t, const json_t *file) {
    return read_special_map(t, file, NULL);
}

static lc_status read_config(lc_tokenizer *t, const json_t *file) {
    const char *where = "tokenizer_config";
    bool add_bos = false, prefix_space = false;
    int64_t bos = -1;
    json_t *decoder = NULL;
    LC_TRY(lc_json_get_bool(file, "add_bos_token", where, &add_bos));
    LC_TRY(lc_json_get_bool(file, "add_prefix_space", where, &prefix_space));
    LC_TRY(lc_json_get_object(file, "added_tokens_decoder", where, &decoder));
    LC_TRY(read_added_decoder(t, decoder));
    LC_TRY(read_special_map(t, file, &bos));
    if (add_bos) t->bos = bos;
    return lc_tokenizer_set_byte_level(t, prefix_space);
}

/* With tokenizer.json the other files only say which token ends a text, and whether one begins it. */
static lc_status read_end(lc_tokenizer *t, const json_t *file) {
    return read_special(t, file, "eos_token", &t->eos);
}

static lc_status read_config_ends(lc_tokenizer *t, const json_t *file) {
    const char *where = "tokenizer_config";
    bool add_bos = t->bos >= 0, add_eos = false;
    LC_TRY(lc_json_get_bool(file, "add_bos_token", where, &add_bos));
    LC_TRY(lc_json_get_bool(file, "add_eos_token", where, &add_eos));
    if (add_eos) return lc_fail(LC_EFORMAT, "\"add_eos_token\": a token behind each text is not supported");
    if (!add_bos) t->bos = -1;
    if (add_bos && t->bos < 0) LC_TRY(read_special(t, file, "bos_token", &t->bos));
    return read_end(t, file);
}

/* Where no file names it, the end of text is the token that GPT-2, or OPT, has for it. */
static lc_status default_end(lc_tokenizer *t) {
    static const char *const usual[] = {END_OF_TEXT, "</s>"};
    for (int i = 0; i < 2 && t->eos < 0; i++)
        if (lc_tokenizer_id(t, usual[i], strlen(usual[i])) >= 0)
            LC_TRY(lc_tokenizer_add_special(t, usual[i], strlen(usual[i]), &t->eos));
    return LC_OK;
}

static lc_status load_vocabulary_file(lc_tokenizer *t, const char *path) {
    json_t *vocabulary;
    LC_TRY(lc_json_read(path, &vocabulary));
    lc_status status = lc_tokenizer_read_vocabulary(t, vocabulary);
    json_decref(vocabulary);
    return status ? lc_fail_within(status, "%s", path) : LC_OK;
}

static lc_status load_merges_file(lc_tokenizer *t, const char *path) {
    char *text;
    size_t length;
    LC_TRY(lc_file_read(path, LC_JSON_MAX_BYTES, &text, &length));
    lc_status status = read_merge_lines(t, text, length);
    lc_free(text);
    return status ? lc_fail_within(status, "%s", path) : LC_OK;
}

static lc_status load_vocabulary_and_merges(lc_tokenizer *t, const char *directory) {
    char *vocabulary = lc_path_join(directory, "vocab.json"), *merges = lc_path_join(directory, "merges.txt");
    lc_status status = vocabulary && merges ? lc_tokenizer_set_byte_level(t, false) : LC_ENOMEM;
    if (!status) status = load_vocabulary_file(t, vocabulary);
    if (!status) status = load_merges_file(t, merges);
    lc_free(vocabulary);
    lc_free(merges);
    LC_TRY(status);
    LC_TRY(read_part(t, directory, "added_tokens.json", read_added_map));
    LC_TRY(read_part(t, directory, "special_tokens_map.json", read_special_tokens_map));
    return read_part(t, directory, "tokenizer_config.json", read_config);
}

/* -- entry ------------------------------------------------------------------------------------- */

const char *const lc_kept_files[LC_KEPT_FILES] = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                                                  "chat_template.jinja"};

/* A tokenizer.json, which is kept as it is. */
static lc_status load_tokenizer_json(lc_tokenizer *t, const char *path) {
    char **text = &t->files.text[LC_TOKENIZER_JSON];
    size_t *length = &t->files.length[LC_TOKENIZER_JSON];
    json_t *file;
    LC_TRY(lc_file_read(path, LC_JSON_MAX_BYTES, text, length));
    LC_TRY(lc_json_parse(*text, *length, path, &file));
    lc_status status = lc_tokenizer_read_json(t, file);
    json_decref(file);
    return status ? lc_fail_within(status, "%s", path) : LC_OK;
}

/* The files beside a tokenizer.json. */
static lc_status keep_files(lc_tokenizer *t, const char *directory) {
    lc_status status = LC_OK;
    for (int i = LC_TOKENIZER_CONFIG; i < LC_KEPT_FILES && !status; i++) {
        char *path = lc_path_join(directory, lc_kept_files[i]);
        if (!path) return LC_ENOMEM;
        if (lc_file_exists(path))
            status = lc_file_read(path, LC_JSON_MAX_BYTES, &t->files.text[i], &t->files.length[i]);
        lc_free(path);
    }
    return status;
}

static lc_status fail_without_tokenizer(const char *directory) {
    bool there = false;
    LC_TRY(lc_dir_has(directory, "tokenizer.model", &there));
    if (!there) return lc_fail(LC_ENOTFOUND, "%s: no tokenizer.json, and no vocab.json with merges.txt", directory);
    return lc_fail(LC_ENOTFOUND,
                   "%s: no tokenizer.json, and tokenizer.model is a file that lacuna does not read: transformers makes "
                   "one from the other, AutoTokenizer.from_pretrained(DIRECTORY).save_pretrained(DIRECTORY)",
                   directory);
}

static lc_status load_directory(lc_tokenizer *t, const char *directory) {
    char *json = lc_path_join(directory, "tokenizer.json"), *vocabulary = lc_path_join(directory, "vocab.json");
    lc_status status = json && vocabulary ? LC_OK : LC_ENOMEM;
    if (!status && lc_file_exists(json)) {
        status = load_tokenizer_json(t, json);
        if (!status) status = read_part(t, directory, "special_tokens_map.json", read_end);
        if (!status) status = read_part(t, directory, "tokenizer_config.json", read_config_ends);
        if (!status) status = keep_files(t, directory);
    } else if (!status && lc_file_exists(vocabulary)) {
        status = load_vocabulary_and_merges(t, directory);
    } else if (!status) {
        status = fail_without_tokenizer(directory);
    }
    lc_free(json);
    lc_free(vocabulary);
    return status;
}

static lc_status load_hugging_face(const char *path, lc_tokenizer **out) {
    lc_tokenizer *t;
    LC_TRY(lc_tokenizer_new(&t));
    lc_status status = lc_is_dir(path) ? load_directory(t, path) : load_tokenizer_json(t, path);
    if (!status) status = default_end(t);
    if (!status && (status = lc_tokenizer_finish(t))) status = lc_fail_within(status, "%s", path);
    if (status) {
        lc_tokenizer_release(t);
        return status;
    }
    *out = t;
    return LC_OK;
}

static lc_status load_gguf(const char *path, lc_tokenizer **out) {
    lc_gguf *g = NULL;
    LC_TRY(lc_gguf_open(path, &g));
    lc_status status = lc_tokenizer_from_gguf(g, out);
    lc_gguf_close(g);
    return status;
}

lc_status lc_tokenizer_load(const char *path, lc_tokenizer **out) {
    if (!lc_is_dir(path) && lc_ends_with(path, ".gguf")) return load_gguf(path, out);
    if (!lc_is_dir(path) && lc_ends_with(path, ".bin")) return lc_tokenizer_llama2c(path, out);
    return load_hugging_face(path, out);
}
