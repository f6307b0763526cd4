/* tokenizer_save.c: the files that the Hugging Face libraries load. A tokenizer that came from a tokenizer.json is saved
 * as it was; one that was made here, or came from vocab.json and merges.txt, gets tokenizer.json, vocab.json, merges.txt
 * and tokenizer_config.json. */
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/json.h"
#include "text/bpe.h"

static lc_status no_memory(void) {
    return lc_fail(LC_ENOMEM, "out of memory while saving a tokenizer");
}

/* Appends the text of a token: in the alphabet when it is listed and of bytes, else as it is. */
static void write_token(const lc_tokenizer *t, int64_t id, lc_strbuf *out) {
    const lc_token *k = &t->vocabulary.tokens[id];
    if (k->listed && t->byte_level)
        lc_alphabet_write(out, lc_vocabulary_text(&t->vocabulary, id), k->length);
    else
        lc_strbuf_add(out, lc_vocabulary_text(&t->vocabulary, id), k->length);
}

/* The token's text as JSON; NULL when out of memory. */
static json_t *token_string(const lc_tokenizer *t, int64_t id) {
    lc_strbuf b = {0};
    write_token(t, id, &b);
    json_t *value = b.failed ? NULL : json_stringn(b.data ? b.data : "", b.length);
    lc_strbuf_free(&b);
    return value;
}

/* {"token": id, ...} of the model's own tokens, by id. */
static json_t *vocabulary_object(const lc_tokenizer *t) {
    json_t *object = json_object();
    bool ok = object;
    for (int64_t id = 0; ok && id < t->vocabulary.size; id++) {
        const lc_token *k = &t->vocabulary.tokens[id];
        if (!k->used || (!k->listed && k->added)) continue;
        json_t *text = token_string(t, id);
        ok = text && json_object_set_new(object, json_string_value(text), json_integer(id)) == 0;
        json_decref(text);
    }
    if (ok) return object;
    json_decref(object);
    return NULL;
}

/* "left right" per merge, each followed by `separator`. */
static lc_status merge_lines(const lc_tokenizer *t, lc_strbuf *b) {
    lc_strbuf_puts(b, "#version: 0.2\n");
    for (int64_t i = 0; i < t->merge_count; i++) {
        write_token(t, t->merges[i].left, b);
        lc_strbuf_puts(b, " ");
        write_token(t, t->merges[i].right, b);
        lc_strbuf_puts(b, "\n");
    }
    return b->failed ? no_memory() : LC_OK;
}

static json_t *merges_array(const lc_tokenizer *t) {
    json_t *array = json_array();
    bool ok = array;
    lc_strbuf b = {0};
    for (int64_t i = 0; ok && i < t->merge_count; i++) {
        b.length = 0;
        write_token(t, t->merges[i].left, &b);
        lc_strbuf_puts(&b, " ");
        write_token(t, t->merges[i].right, &b);
        ok = !b.failed && json_array_append_new(array, json_stringn(b.data, b.length)) == 0;
    }
    lc_strbuf_free(&b);
    if (ok) return array;
    json_decref(array);
    return NULL;
}

static json_t *added_array(const lc_tokenizer *t) {
    json_t *array = json_array();
    bool ok = array;
    for (int64_t id = 0; ok && id < t->vocabulary.size; id++) {
        const lc_token *k = &t->vocabulary.tokens[id];
        if (!k->used || !k->added) continue;
        json_t *token = json_pack("{s:I, s:s%, s:b, s:b, s:b, s:b, s:b}", "id", (json_int_t)id, "content",
                                  lc_vocabulary_text(&t->vocabulary, id), (size_t)k->length, "single_word", 0, "lstrip",
                                  k->lstrip, "rstrip", k->rstrip, "normalized", 0, "special", k->special);
        ok = token && json_array_append_new(array, token) == 0;
    }
    if (ok) return array;
    json_decref(array);
    return NULL;
}

json_t *lc_begin_processor(json_t *bos, int64_t id) {
    return json_pack("{s:s, s:[{s:{s:O, s:i}}, {s:{s:s, s:i}}], s:[{s:{s:O, s:i}}, {s:{s:s, s:i}}, {s:{s:s, s:i}}], "
                     "s:{s:{s:O, s:[I], s:[O]}}}",
                     "type", "TemplateProcessing", "single", "SpecialToken", "id", bos, "type_id", 0, "Sequence", "id",
                     "A", "type_id", 0, "pair", "SpecialToken", "id", bos, "type_id", 0, "Sequence", "id", "A",
                     "type_id", 0, "Sequence", "id", "B", "type_id", 1, "special_tokens", json_string_value(bos), "id",
                     bos, "ids", (json_int_t)id, "tokens", bos);
}

/* ByteLevel alone changes no ids. */
static json_t *post_processor(const lc_tokenizer *t) {
    if (t->bos < 0)
        return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 1, "trim_offsets", 0,
                         "use_regex", 1);
    json_t *bos = token_string(t, t->bos);
    json_t *processor = bos ? lc_begin_processor(bos, t->bos) : NULL;
    json_decref(bos);
    return processor;
}

static json_t *tokenizer_object(const lc_tokenizer *t) {
    json_t *added = added_array(t), *vocabulary = vocabulary_object(t), *merges = merges_array(t);
    json_t *processor = post_processor(t), *object = NULL;
    if (added && vocabulary && merges && processor)
        object = json_pack(
            "{s:s, s:n, s:n, s:O, s:n, s:{s:s, s:b, s:b, s:b}, s:O, s:{s:s, s:b, s:b, s:b}, s:{s:s, s:n, s:n, s:n, "
            "s:n, s:b, s:b, s:b, s:O, s:O}}",
            "version", "1.0", "truncation", "padding", "added_tokens", added, "normalizer", "pre_tokenizer", "type",
            "ByteLevel", "add_prefix_space", lc_steps_adds_prefix(&t->pre_tokenizer), "trim_offsets", 1, "use_regex", 1,
            "post_processor", processor, "decoder", "type", "ByteLevel", "add_prefix_space", 1, "trim_offsets", 1,
            "use_regex", 1, "model", "type", "BPE", "dropout", "unk_token", "continuing_subword_prefix",
            "end_of_word_suffix", "fuse_unk", 0, "byte_fallback", 0, "ignore_merges", 0, "vocab", vocabulary, "merges",
            merges);
    json_decref(added);
    json_decref(vocabulary);
    json_decref(merges);
    json_decref(processor);
    return object;
}

/* The class for a kept tokenizer.json is the one that reads all of it. */
static json_t *config_object(const lc_tokenizer *t) {
    bool kept = t->files.text[LC_TOKENIZER_JSON];
    json_t *object = json_pack("{s:s, s:b, s:b}", "tokenizer_class", kept ? "PreTrainedTokenizerFast" : "GPT2Tokenizer",
                               "add_bos_token", t->bos >= 0, "clean_up_tokenization_spaces", 0);
    if (object && !kept && lc_steps_adds_prefix(&t->pre_tokenizer) &&
        json_object_set_new(object, "add_prefix_space", json_true()) != 0) {
        json_decref(object);
        return NULL;
    }
    json_t *eos = object && t->eos >= 0 ? token_string(t, t->eos) : NULL;
    json_t *bos = object && t->bos >= 0 ? token_string(t, t->bos) : json_incref(eos);
    bool ok = object && (t->eos < 0 || eos) && (t->bos < 0 || bos);
    if (ok && eos) ok = json_object_set(object, "eos_token", eos) == 0;
    if (ok && eos) ok = json_object_set(object, "unk_token", eos) == 0;
    if (ok && bos) ok = json_object_set(object, "bos_token", bos) == 0;
    json_decref(eos);
    json_decref(bos);
    if (ok) return object;
    json_decref(object);
    return NULL;
}

/* Writes and frees `value`; NULL means that there was no memory for it. */
static lc_status write_json(const char *directory, const char *name, json_t *value) {
    if (!value) return no_memory();
    char *path = lc_path_join(directory, name);
    lc_status status = path ? lc_json_write(path, value) : LC_ENOMEM;
    lc_free(path);
    json_decref(value);
    return status;
}

static lc_status write_merges(const lc_tokenizer *t, const char *directory) {
    lc_strbuf b = {0};
    lc_status status = merge_lines(t, &b);
    char *path = status ? NULL : lc_path_join(directory, "merges.txt");
    if (!status) status = path ? lc_file_write(path, b.data, b.length) : LC_ENOMEM;
    lc_free(path);
    lc_strbuf_free(&b);
    return status;
}

static lc_status write_kept(const lc_tokenizer *t, const char *directory, int file) {
    char *path = lc_path_join(directory, lc_kept_files[file]);
    lc_status status = path ? lc_file_write(path, t->files.text[file], t->files.length[file]) : LC_ENOMEM;
    lc_free(path);
    return status;
}

static lc_status write_all(const lc_tokenizer *t, const char *directory) {
    const lc_files *kept = &t->files;
    for (int i = 0; i < LC_KEPT_FILES; i++)
        if (kept->text[i]) LC_TRY(write_kept(t, directory, i));
    if (!kept->text[LC_TOKENIZER_CONFIG]) LC_TRY(write_json(directory, "tokenizer_config.json", config_object(t)));
    if (kept->text[LC_TOKENIZER_JSON]) return LC_OK;
    LC_TRY(write_json(directory, "vocab.json", vocabulary_object(t)));
    LC_TRY(write_merges(t, directory));
    return write_json(directory, "tokenizer.json", tokenizer_object(t));
}

lc_status lc_tokenizer_save(const lc_tokenizer *t, const char *directory) {
    char *fresh = NULL;
    LC_TRY(lc_directory_begin(directory, &fresh));
    return lc_directory_end(write_all(t, fresh), fresh, directory);
}
