/* tokenizer_parts.c: see tokenizer_parts.h. */
#include "text/tokenizer_parts.h"

#include <string.h>

#include "base/memory.h"
#include "text/bpe.h"
#include "text/utf8.h"

lc_status lc_parts_check(const json_t *value) {
    return value ? LC_OK : lc_fail(LC_ENOMEM, "out of memory while making a tokenizer.json");
}

void lc_parts_free(lc_parts *parts) {
    json_t **values[] = {&parts->merges, &parts->normalizer, &parts->pre_tokenizer, &parts->decoder};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        json_decref(*values[i]);
        *values[i] = NULL;
    }
}

lc_status lc_parts_check_tokens(const lc_parts *parts) {
    for (int64_t id = 0; id < parts->count; id++) {
        const lc_part_token *k = &parts->tokens[id];
        char *broken = NULL;
        size_t length;
        if (memchr(k->text, '\0', k->length))
            return lc_fail(LC_EFORMAT, "the token with the id %lld has a zero byte", (long long)id);
        LC_TRY(lc_utf8_repair(k->text, k->length, &broken, &length));
        lc_free(broken);
        if (broken) return lc_fail(LC_EFORMAT, "the token with the id %lld is not UTF-8", (long long)id);
    }
    return LC_OK;
}

/* {"token": id, ...} */
static lc_status vocabulary(const lc_parts *parts, json_t **out) {
    LC_TRY(lc_parts_check(*out = json_object()));
    for (int64_t id = 0; id < parts->count; id++) {
        const lc_part_token *k = &parts->tokens[id];
        const json_t *same = json_object_get(*out, k->text);
        if (same)
            return lc_fail(LC_EFORMAT, "the token \"%.60s\" has two ids, %lld and %lld", k->text,
                           (long long)json_integer_value(same), (long long)id);
        if (json_object_set_new(*out, k->text, json_integer(id)) != 0) return lc_parts_check(NULL);
    }
    return LC_OK;
}

static lc_status added_tokens(const lc_parts *parts, json_t **out) {
    LC_TRY(lc_parts_check(*out = json_array()));
    for (int64_t id = 0; id < parts->count; id++) {
        lc_token_kind kind = parts->tokens[id].kind;
        if (kind != LC_TOKEN_CONTROL && kind != LC_TOKEN_USER && kind != LC_TOKEN_UNKNOWN) continue;
        json_t *token =
            json_pack("{s:I, s:s, s:b, s:b, s:b, s:b, s:b}", "id", (json_int_t)id, "content", parts->tokens[id].text,
                      "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized", 0, "special", kind != LC_TOKEN_USER);
        if (!token || json_array_append_new(*out, token) != 0) return lc_parts_check(NULL);
    }
    return LC_OK;
}

static json_t *text_of(const lc_parts *parts, int64_t id) {
    return id < 0 ? json_null() : json_string(parts->tokens[id].text);
}

static lc_status document(lc_parts *parts, json_t *vocab, json_t *added, json_t **out) {
    json_t *unknown = text_of(parts, parts->unknown), *bos = text_of(parts, parts->bos), *processor = json_null();
    if (parts->add_bos && parts->bos >= 0) processor = lc_begin_processor(bos, parts->bos);
    if (unknown && bos && processor)
        *out =
            json_pack("{s:s, s:n, s:n, s:O, s:O?, s:O?, s:O, s:O?, s:{s:s, s:n, s:O, s:n, s:n, s:b, s:b, s:b, s:O, "
                      "s:O}}",
                      "version", "1.0", "truncation", "padding", "added_tokens", added, "normalizer", parts->normalizer,
                      "pre_tokenizer", parts->pre_tokenizer, "post_processor", processor, "decoder", parts->decoder,
                      "model", "type", "BPE", "dropout", "unk_token", unknown, "continuing_subword_prefix",
                      "end_of_word_suffix", "fuse_unk", 1, "byte_fallback", parts->byte_fallback, "ignore_merges",
                      parts->ignore_merges, "vocab", vocab, "merges", parts->merges);
    json_decref(unknown);
    json_decref(bos);
    json_decref(processor);
    return lc_parts_check(*out);
}

static lc_status check_special(const lc_parts *parts, int64_t id, const char *what) {
    if (id >= -1 && id < parts->count) return LC_OK;
    return lc_fail(LC_EFORMAT, "the %s token's id, %lld, is not below the number of tokens, %lld", what, (long long)id,
                   (long long)parts->count);
}

static lc_status read_document(lc_tokenizer *t, const json_t *file, int64_t eos) {
    lc_files *kept = &t->files;
    LC_TRY(lc_json_text(file, false, &kept->text[LC_TOKENIZER_JSON], &kept->length[LC_TOKENIZER_JSON]));
    LC_TRY(lc_tokenizer_read_json(t, file));
    t->eos = eos;
    return lc_tokenizer_finish(t);
}

lc_status lc_parts_tokenizer(lc_parts *parts, lc_tokenizer **out) {
    json_t *vocab = NULL, *added = NULL, *file = NULL;
    lc_tokenizer *t = NULL;
    lc_status status = check_special(parts, parts->bos, "beginning-of-text");
    if (!status) status = check_special(parts, parts->eos, "end-of-text");
    if (!status) status = check_special(parts, parts->unknown, "unknown");
    if (!status) status = lc_parts_check_tokens(parts);
    if (!status) status = vocabulary(parts, &vocab);
    if (!status) status = added_tokens(parts, &added);
    if (!status) status = document(parts, vocab, added, &file);
    if (!status) status = lc_tokenizer_new(&t);
    if (!status) status = read_document(t, file, parts->eos);
    json_decref(file);
    json_decref(added);
    json_decref(vocab);
    lc_parts_free(parts);
    if (status) {
        lc_tokenizer_release(t);
        return status;
    }
    *out = t;
    return LC_OK;
}
