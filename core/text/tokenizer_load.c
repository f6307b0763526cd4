/* tokenizer_load.c: tokenizers from the files of the Hugging Face libraries: tokenizer.json, or vocab.json with
 * merges.txt, and what tokenizer_config.json, special_tokens_map.json and added_tokens.json add to them. What is not
 * byte-level BPE is refused by name. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/json.h"
#include "text/bpe.h"

#define END_OF_TEXT "<|endoftext|>"

/* -- vocabulary and merges --------------------------------------------------------------------- */

/* A token of the model, written in the alphabet; one with other characters is taken as it is, and no merge makes it. */
static lc_status add_listed(lc_tokenizer *t, const char *written, int64_t id) {
    lc_strbuf b = {0};
    bool alphabet = lc_alphabet_read(&b, written, strlen(written));
    if (b.failed) return lc_fail(LC_ENOMEM, "out of memory while reading a vocabulary");
    lc_status status = alphabet ? lc_vocabulary_add(&t->vocabulary, id, b.length ? b.data : "", b.length, true)
                                : lc_vocabulary_add(&t->vocabulary, id, written, strlen(written), false);
    lc_strbuf_free(&b);
    return status;
}

/* Room is made for the largest id, so it must not be far beyond the number of tokens. */
static lc_status check_id(const json_t *value, size_t tokens, const char *token) {
    int64_t most = (int64_t)tokens * 8 + 65536;
    if (json_is_integer(value) && json_integer_value(value) >= 0 && json_integer_value(value) <= most) return LC_OK;
    return lc_fail(LC_EFORMAT, "token \"%.60s\": its id is not a number from 0 to %lld", token, (long long)most);
}

static lc_status read_vocabulary(lc_tokenizer *t, const json_t *vocabulary) {
    if (!json_is_object(vocabulary))
        return lc_fail(LC_EFORMAT, "the vocabulary is %s, expected an object", lc_json_kind(vocabulary));
    const char *token;
    json_t *id;
    json_object_foreach((json_t *)vocabulary, token, id) {
        LC_TRY(check_id(id, json_object_size(vocabulary), token));
        LC_TRY(add_listed(t, token, json_integer_value(id)));
    }
    return LC_OK;
}

/* The listed token that `written` (in the alphabet) names. `scratch` is reused from call to call. */
static lc_status find_part(const lc_tokenizer *t, lc_strbuf *scratch, const char *written, size_t length, int32_t *id) {
    scratch->length = 0;
    bool alphabet = lc_alphabet_read(scratch, written, length);
    if (scratch->failed) return lc_fail(LC_ENOMEM, "out of memory while reading merges");
    *id = alphabet && scratch->length
              ? (int32_t)lc_vocabulary_find(&t->vocabulary, scratch->data, scratch->length, true)
              : -1;
    if (*id < 0)
        return lc_fail(LC_EFORMAT, "the merge part \"%.*s\" is not in the vocabulary", (int)lc_min((int64_t)length, 60),
                       written);
    return LC_OK;
}

static lc_status add_merge(lc_tokenizer *t, lc_strbuf *scratch, const char *left, size_t left_length, const char *right,
                           size_t right_length) {
    int32_t a = -1, b = -1;
    LC_TRY(find_part(t, scratch, left, left_length, &a));
    LC_TRY(find_part(t, scratch, right, right_length, &b));
    return lc_bpe_add_merge(t, a, b);
}

/* "left right" */
static lc_status add_merge_line(lc_tokenizer *t, lc_strbuf *scratch, const char *line, size_t length) {
    const char *space = memchr(line, ' ', length);
    if (!space) return lc_fail(LC_EFORMAT, "\"%.*s\" is not a pair of tokens", (int)lc_min((int64_t)length, 60), line);
    size_t left = (size_t)(space - line);
    return add_merge(t, scratch, line, left, space + 1, length - left - 1);
}

/* Each merge is "left right" or ["left", "right"]. */
static lc_status read_merges(lc_tokenizer *t, const json_t *merges) {
    if (!json_is_array(merges)) return lc_fail(LC_EFORMAT, "\"merges\" is %s, expected an array", lc_json_kind(merges));
    lc_strbuf scratch = {0};
    lc_status status = LC_OK;
    size_t i;
    json_t *merge;
    json_array_foreach(merges, i, merge) {
        const char *left = json_string_value(json_array_get(merge, 0));
        const char *right = json_string_value(json_array_get(merge, 1));
        if (json_is_string(merge))
            status = add_merge_line(t, &scratch, json_string_value(merge), json_string_length(merge));
        else if (left && right && json_array_size(merge) == 2)
            status = add_merge(t, &scratch, left, strlen(left), right, strlen(right));
        else
            status = lc_fail(LC_EFORMAT, "it is not a pair of tokens");
        if (status) {
            status = lc_fail_within(status, "merge %zu", i);
            break;
        }
    }
    lc_strbuf_free(&scratch);
    return status;
}

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
            status = add_merge_line(t, &scratch, text, (size_t)(stop - text));
            if (status) status = lc_fail_within(status, "line %lld", (long long)number);
        }
        text = next;
    }
    lc_strbuf_free(&scratch);
    return status;
}

/* -- added and special tokens ------------------------------------------------------------------ */

/* An added token as tokenizer.json and added_tokens_decoder describe it. */
static lc_status add_described(lc_tokenizer *t, const json_t *token, int64_t id) {
    const char *content = NULL, *where = "added token";
    bool special = false, lstrip = false, rstrip = false, single_word = false;
    LC_TRY(lc_json_require(token, "content", where));
    LC_TRY(lc_json_get_string(token, "content", where, &content));
    LC_TRY(lc_json_get_bool(token, "special", where, &special));
    LC_TRY(lc_json_get_bool(token, "lstrip", where, &lstrip));
    LC_TRY(lc_json_get_bool(token, "rstrip", where, &rstrip));
    LC_TRY(lc_json_get_bool(token, "single_word", where, &single_word));
    if (single_word) return lc_fail(LC_EFORMAT, "added token \"%.60s\": \"single_word\" is not supported", content);
    bool known = id < t->vocabulary.size && t->vocabulary.tokens[id].used;
    if (!known) LC_TRY(lc_vocabulary_add(&t->vocabulary, id, content, strlen(content), false));
    lc_token *k = &t->vocabulary.tokens[id];
    if (k->length != strlen(content) || memcmp(lc_vocabulary_text(&t->vocabulary, id), content, k->length) != 0)
        return lc_fail(LC_EFORMAT, "added token \"%.60s\": the id %lld belongs to another token", content,
                       (long long)id);
    k->added = true;
    k->special |= special;
    k->lstrip = lstrip;
    k->rstrip = rstrip;
    return LC_OK;
}

static lc_status read_added_array(lc_tokenizer *t, const json_t *added) {
    size_t i;
    json_t *token;
    json_array_foreach(added, i, token) {
        json_t *id = json_object_get(token, "id");
        LC_TRY(check_id(id, (size_t)t->vocabulary.size + json_array_size(added), "added"));
        LC_TRY(add_described(t, token, json_integer_value(id)));
    }
    return LC_OK;
}

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
        LC_TRY(add_described(t, token, id));
    }
    return LC_OK;
}

static lc_status read_added_map(lc_tokenizer *t, const json_t *map) {
    const char *text;
    json_t *id;
    json_object_foreach((json_t *)map, text, id) {
        LC_TRY(check_id(id, (size_t)t->vocabulary.size, text));
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
    t->add_prefix_space |= prefix_space;
    return LC_OK;
}

/* With tokenizer.json the other files only say which token ends a text. */
static lc_status read_config_end(lc_tokenizer *t, const json_t *file) {
    return read_special(t, file, "eos_token", &t->eos);
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
    lc_status status = read_vocabulary(t, vocabulary);
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
    lc_status status = vocabulary && merges ? load_vocabulary_file(t, vocabulary) : LC_ENOMEM;
    if (!status) status = load_merges_file(t, merges);
    lc_free(vocabulary);
    lc_free(merges);
    LC_TRY(status);
    LC_TRY(read_part(t, directory, "added_tokens.json", read_added_map));
    LC_TRY(read_part(t, directory, "special_tokens_map.json", read_special_tokens_map));
    return read_part(t, directory, "tokenizer_config.json", read_config);
}

/* -- tokenizer.json ---------------------------------------------------------------------------- */

static lc_status refuse(const char *part, const json_t *object) {
    const char *type = json_string_value(json_object_get(object, "type"));
    return lc_fail(LC_EFORMAT, "%s %s is not supported; byte-level BPE is", part, type ? type : lc_json_kind(object));
}

static bool has_type(const json_t *object, const char *type) {
    const char *value = json_string_value(json_object_get(object, "type"));
    return value && strcmp(value, type) == 0;
}

static bool is_unset(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return !value || json_is_null(value) || json_is_false(value) ||
           (json_is_string(value) && json_string_length(value) == 0);
}

static lc_status read_model(lc_tokenizer *t, const json_t *model) {
    if (!has_type(model, "BPE") && !(json_is_object(model) && !json_object_get(model, "type")))
        return refuse("model", model);
    static const char *const unsupported[] = {"continuing_subword_prefix", "end_of_word_suffix", "byte_fallback",
                                              "ignore_merges"};
    for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; i++)
        if (!is_unset(model, unsupported[i]))
            return lc_fail(LC_EFORMAT, "model option \"%s\" is not supported", unsupported[i]);
    LC_TRY(read_vocabulary(t, json_object_get(model, "vocab")));
    return read_merges(t, json_object_get(model, "merges"));
}

static lc_status read_pre_tokenizer(lc_tokenizer *t, const json_t *step) {
    const json_t *steps = json_object_get(step, "pretokenizers");
    if (has_type(step, "Sequence") && json_array_size(steps) == 1)
        return read_pre_tokenizer(t, json_array_get(steps, 0));
    bool use_regex = true;
    if (!has_type(step, "ByteLevel")) return refuse("pre_tokenizer", step);
    LC_TRY(lc_json_get_bool(step, "use_regex", "pre_tokenizer", &use_regex));
    if (!use_regex) return lc_fail(LC_EFORMAT, "pre_tokenizer ByteLevel without its pattern is not supported");
    return lc_json_get_bool(step, "add_prefix_space", "pre_tokenizer", &t->add_prefix_space);
}

/* "</s> $A": the one template that is understood is a special token before the text, or none. */
static lc_status read_template(lc_tokenizer *t, const json_t *processor) {
    const json_t *single = json_object_get(processor, "single");
    const json_t *special = json_object_get(json_array_get(single, 0), "SpecialToken");
    size_t before = special ? 1 : 0;
    if (json_array_size(single) != before + 1 || !json_object_get(json_array_get(single, before), "Sequence"))
        return lc_fail(LC_EFORMAT, "post_processor TemplateProcessing adds tokens behind the text: not supported");
    const char *text = json_string_value(json_object_get(special, "id"));
    return text ? lc_tokenizer_add_special(t, text, strlen(text), &t->bos) : LC_OK;
}

static lc_status read_post_processor(lc_tokenizer *t, const json_t *processor) {
    if (!processor || json_is_null(processor) || has_type(processor, "ByteLevel")) return LC_OK;
    if (has_type(processor, "TemplateProcessing")) return read_template(t, processor);
    if (!has_type(processor, "Sequence")) return refuse("post_processor", processor);
    size_t i;
    json_t *step;
    json_array_foreach(json_object_get(processor, "processors"), i, step) LC_TRY(read_post_processor(t, step));
    return LC_OK;
}

static lc_status read_tokenizer_json(lc_tokenizer *t, const json_t *file) {
    const json_t *normalizer = json_object_get(file, "normalizer");
    if (normalizer && !json_is_null(normalizer)) {
        if (!has_type(normalizer, "NFC")) return refuse("normalizer", normalizer);
        t->compose = true;
    }
    LC_TRY(read_model(t, json_object_get(file, "model")));
    LC_TRY(read_pre_tokenizer(t, json_object_get(file, "pre_tokenizer")));
    LC_TRY(read_added_array(t, json_object_get(file, "added_tokens")));
    return read_post_processor(t, json_object_get(file, "post_processor"));
}

/* -- entry ------------------------------------------------------------------------------------- */

static lc_status load_tokenizer_json(lc_tokenizer *t, const char *path) {
    json_t *file;
    LC_TRY(lc_json_read(path, &file));
    lc_status status = read_tokenizer_json(t, file);
    json_decref(file);
    return status ? lc_fail_within(status, "%s", path) : LC_OK;
}

static lc_status load_directory(lc_tokenizer *t, const char *directory) {
    char *json = lc_path_join(directory, "tokenizer.json"), *vocabulary = lc_path_join(directory, "vocab.json");
    lc_status status = json && vocabulary ? LC_OK : LC_ENOMEM;
    if (!status && lc_file_exists(json)) {
        status = load_tokenizer_json(t, json);
        if (!status) status = read_part(t, directory, "special_tokens_map.json", read_config_end);
        if (!status) status = read_part(t, directory, "tokenizer_config.json", read_config_end);
    } else if (!status && lc_file_exists(vocabulary)) {
        status = load_vocabulary_and_merges(t, directory);
    } else if (!status) {
        status = lc_fail(LC_ENOTFOUND, "%s: no tokenizer.json, and no vocab.json with merges.txt", directory);
    }
    lc_free(json);
    lc_free(vocabulary);
    return status;
}

lc_status lc_tokenizer_load(const char *path, lc_tokenizer **out) {
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
