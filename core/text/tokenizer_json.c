/* tokenizer_json.c: what a tokenizer.json says: a BPE model of bytes (GPT-2, GPT-NeoX, Llama 3, Qwen 2) or of characters
 * (SentencePiece, Llama 2), the steps around it, added tokens, and the token put before each text. What is not known is
 * refused by name. */
#include <string.h>

#include "text/bpe.h"

/* -- vocabulary and merges --------------------------------------------------------------------- */

/* A token of the model. Bytes are written in the alphabet; one with other characters is taken as it is, and no merge
 * makes it. */
static lc_status add_listed(lc_tokenizer *t, const char *written, int64_t id) {
    if (!t->byte_level) return lc_vocabulary_add(&t->vocabulary, id, written, strlen(written), true);
    lc_strbuf b = {0};
    bool alphabet = lc_alphabet_read(&b, written, strlen(written));
    if (b.failed) return lc_fail(LC_ENOMEM, "out of memory while reading a vocabulary");
    lc_status status = alphabet ? lc_vocabulary_add(&t->vocabulary, id, b.length ? b.data : "", b.length, true)
                                : lc_vocabulary_add(&t->vocabulary, id, written, strlen(written), false);
    lc_strbuf_free(&b);
    return status;
}

/* Room is made for the largest id, so it must not be far beyond the number of tokens. */
lc_status lc_tokenizer_check_id(const json_t *value, size_t tokens, const char *token) {
    int64_t most = (int64_t)tokens * 8 + 65536;
    if (json_is_integer(value) && json_integer_value(value) >= 0 && json_integer_value(value) <= most) return LC_OK;
    return lc_fail(LC_EFORMAT, "token \"%.60s\": its id is not a number from 0 to %lld", token, (long long)most);
}

lc_status lc_tokenizer_read_vocabulary(lc_tokenizer *t, const json_t *vocabulary) {
    if (!json_is_object(vocabulary))
        return lc_fail(LC_EFORMAT, "the vocabulary is %s, expected an object", lc_json_kind(vocabulary));
    const char *token;
    json_t *id;
    json_object_foreach((json_t *)vocabulary, token, id) {
        LC_TRY(lc_tokenizer_check_id(id, json_object_size(vocabulary), token));
        LC_TRY(add_listed(t, token, json_integer_value(id)));
    }
    return LC_OK;
}

/* The listed token that `written` names. `scratch` is reused from call to call. */
static lc_status find_part(const lc_tokenizer *t, lc_strbuf *scratch, const char *written, size_t length, int32_t *id) {
    scratch->length = 0;
    bool readable = !t->byte_level || lc_alphabet_read(scratch, written, length);
    if (!t->byte_level) lc_strbuf_add(scratch, written, length);
    if (scratch->failed) return lc_fail(LC_ENOMEM, "out of memory while reading merges");
    *id = readable && scratch->length
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
lc_status lc_tokenizer_read_merge(lc_tokenizer *t, lc_strbuf *scratch, const char *line, size_t length) {
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
            status = lc_tokenizer_read_merge(t, &scratch, json_string_value(merge), json_string_length(merge));
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

/* -- added and special tokens ------------------------------------------------------------------ */

/* An added token as tokenizer.json and added_tokens_decoder describe it. */
lc_status lc_tokenizer_read_added(lc_tokenizer *t, const json_t *token, int64_t id) {
    const char *content = NULL, *where = "added token";
    bool special = false, lstrip = false, rstrip = false, single_word = false, normalized = false;
    LC_TRY(lc_json_require(token, "content", where));
    LC_TRY(lc_json_get_string(token, "content", where, &content));
    LC_TRY(lc_json_get_bool(token, "special", where, &special));
    LC_TRY(lc_json_get_bool(token, "lstrip", where, &lstrip));
    LC_TRY(lc_json_get_bool(token, "rstrip", where, &rstrip));
    LC_TRY(lc_json_get_bool(token, "single_word", where, &single_word));
    LC_TRY(lc_json_get_bool(token, "normalized", where, &normalized));
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
    k->single_word = single_word;
    k->normalized = normalized;
    return LC_OK;
}

static lc_status read_added_array(lc_tokenizer *t, const json_t *added) {
    size_t i;
    json_t *token;
    json_array_foreach(added, i, token) {
        json_t *id = json_object_get(token, "id");
        LC_TRY(lc_tokenizer_check_id(id, (size_t)t->vocabulary.size + json_array_size(added), "added"));
        LC_TRY(lc_tokenizer_read_added(t, token, json_integer_value(id)));
    }
    return LC_OK;
}

/* -- the parts ---------------------------------------------------------------------------------- */

static lc_status refuse(const char *part, const json_t *object) {
    const char *type = json_string_value(json_object_get(object, "type"));
    return lc_fail(LC_EFORMAT, "%s %.60s is not supported", part, type ? type : lc_json_kind(object));
}

static bool has_type(const json_t *object, const char *type) {
    const char *value = json_string_value(json_object_get(object, "type"));
    return value && strcmp(value, type) == 0;
}

/* The steps of a sequence, or the one step. */
static const json_t *last_step(const json_t *part, size_t *count) {
    const json_t *steps = has_type(part, "Sequence") ? json_object_get(part, "pretokenizers") : NULL;
    *count = steps ? json_array_size(steps) : 1;
    return steps ? json_array_get(steps, *count - 1) : part;
}

/* Whether tokens are bytes: the pre-tokenizer ends with ByteLevel, behind which nothing is text any more. */
static lc_status read_pre_tokenizer(lc_tokenizer *t, const json_t *part) {
    size_t count, i;
    json_t *step;
    t->byte_level = has_type(last_step(part, &count), "ByteLevel");
    json_array_foreach(json_object_get(part, "pretokenizers"), i, step) {
        if (has_type(step, "ByteLevel") && i + 1 < count)
            return lc_fail(LC_EFORMAT, "pre_tokenizer: a step behind ByteLevel is not supported");
    }
    return lc_steps_read(&t->pre_tokenizer, "pre_tokenizer", part);
}

/* Bytes need no decoder: their text is the tokens' side by side. */
static lc_status read_decoder(lc_tokenizer *t, const json_t *part) {
    bool none = !part || json_is_null(part), bytes = has_type(part, "ByteLevel");
    if (t->byte_level) return none || bytes ? LC_OK : refuse("decoder of a byte-level tokenizer:", part);
    if (none) return lc_fail(LC_EFORMAT, "decoder is missing");
    return lc_steps_read(&t->decoder, "decoder", part);
}

static bool is_unset(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return !value || json_is_null(value) || json_is_false(value) ||
           (json_is_string(value) && json_string_length(value) == 0) ||
           (json_is_number(value) && json_number_value(value) == 0);
}

static lc_status read_unknown(lc_tokenizer *t, const json_t *model) {
    const char *unknown = NULL;
    LC_TRY(lc_json_get_string(model, "unk_token", "model", &unknown));
    if (!unknown) return LC_OK;
    t->unknown = lc_tokenizer_id(t, unknown, strlen(unknown));
    return t->unknown >= 0 ? LC_OK : lc_fail(LC_EFORMAT, "model: unk_token %.60s is not in the vocabulary", unknown);
}

static lc_status read_model(lc_tokenizer *t, const json_t *model) {
    if (!has_type(model, "BPE") && !(json_is_object(model) && !json_object_get(model, "type")))
        return refuse("model", model);
    static const char *const unsupported[] = {"continuing_subword_prefix", "end_of_word_suffix", "dropout"};
    for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; i++)
        if (!is_unset(model, unsupported[i]))
            return lc_fail(LC_EFORMAT, "model option \"%s\" is not supported", unsupported[i]);
    LC_TRY(lc_json_get_bool(model, "ignore_merges", "model", &t->ignore_merges));
    LC_TRY(lc_json_get_bool(model, "byte_fallback", "model", &t->byte_fallback));
    LC_TRY(lc_json_get_bool(model, "fuse_unk", "model", &t->fuse_unknown));
    LC_TRY(lc_tokenizer_read_vocabulary(t, json_object_get(model, "vocab")));
    LC_TRY(read_unknown(t, model));
    return read_merges(t, json_object_get(model, "merges"));
}

/* "</s> $A": the one template that is understood is a special token before the text, or none. */
static lc_status read_template(lc_tokenizer *t, const json_t *processor) {
    const json_t *single = json_object_get(processor, "single");
    const json_t *special = json_object_get(json_array_get(single, 0), "SpecialToken");
    size_t before = special ? 1 : 0;
    if (json_array_size(single) != before + 1 || !json_object_get(json_array_get(single, before), "Sequence"))
        return lc_fail(LC_EFORMAT, "post_processor TemplateProcessing: more than one token before the text, or any "
                                   "behind it, is not supported");
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

lc_status lc_tokenizer_read_json(lc_tokenizer *t, const json_t *file) {
    LC_TRY(lc_steps_read(&t->normalizer, "normalizer", json_object_get(file, "normalizer")));
    LC_TRY(read_pre_tokenizer(t, json_object_get(file, "pre_tokenizer")));
    LC_TRY(read_model(t, json_object_get(file, "model")));
    LC_TRY(read_decoder(t, json_object_get(file, "decoder")));
    LC_TRY(read_added_array(t, json_object_get(file, "added_tokens")));
    return read_post_processor(t, json_object_get(file, "post_processor"));
}
