/* sentencepiece.c: SentencePiece's BPE (Kudo & Richardson 2018) knows no list of merges: of all pairs side by side whose
 * text is a token, the one whose token has the highest score is merged, the leftmost first. As a list: every way to cut
 * a token into two tokens is a merge, by the score of what it makes; of one token's cuts, the longer left part first.
 *
 * Also the tokenizer files of llama2.c: the longest token's length, then a score, a length and a text for each token;
 * blanks are blanks there, and tokens 1 and 2 are <s> and </s> between newlines. */
#include "text/sentencepiece.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "text/bpe.h"
#include "text/tokenizer_parts.h"

#define LONGEST_TOKEN 1024              /* bytes of one that merges make */
#define LONGEST_FILE ((size_t)64 << 20) /* of llama2.c */

/* -- merges ------------------------------------------------------------------------------------ */

typedef struct scored_merge {
    double score;
    int32_t result, left, right;
    uint32_t left_length;
} scored_merge;

typedef struct merge_list {
    scored_merge *items;
    int64_t count, capacity;
} merge_list;

static lc_status add_merge(merge_list *list, scored_merge merge) {
    if (list->count == list->capacity) {
        int64_t capacity = lc_max(4096, list->capacity * 2);
        scored_merge *items = lc_realloc(list->items, sizeof *items * (size_t)capacity);
        if (!items) return LC_ENOMEM;
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = merge;
    return LC_OK;
}

static int by_score(const void *a, const void *b) {
    const scored_merge *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    if (x->result != y->result) return x->result < y->result ? -1 : 1;
    return x->left_length > y->left_length ? -1 : x->left_length < y->left_length;
}

static bool merges_make(const lc_part_token *k) {
    return k->kind == LC_TOKEN_NORMAL || k->kind == LC_TOKEN_USER || k->kind == LC_TOKEN_UNUSED;
}

/* All cuts of token `id` into two. */
static lc_status add_cuts(const lc_parts *parts, const lc_vocabulary *v, int64_t id, merge_list *list) {
    const lc_part_token *k = &parts->tokens[id];
    if (k->length > LONGEST_TOKEN)
        return lc_fail(LC_EFORMAT, "the token with the id %lld has %zu bytes; at most %d", (long long)id, k->length,
                       LONGEST_TOKEN);
    for (size_t i = 1; i < k->length; i++) {
        if (((uint8_t)k->text[i] & 0xC0) == 0x80) continue; /* inside a character */
        int64_t left = lc_vocabulary_find(v, k->text, i, true);
        int64_t right = left < 0 ? -1 : lc_vocabulary_find(v, k->text + i, k->length - i, true);
        if (right < 0) continue;
        LC_TRY(add_merge(list, (scored_merge){k->score, (int32_t)id, (int32_t)left, (int32_t)right, (uint32_t)i}));
    }
    return LC_OK;
}

static lc_status list_merges(const lc_parts *parts, lc_vocabulary *v, merge_list *list) {
    for (int64_t id = 0; id < parts->count; id++) {
        const lc_part_token *k = &parts->tokens[id];
        if (merges_make(k) && lc_vocabulary_find(v, k->text, k->length, true) < 0)
            LC_TRY(lc_vocabulary_add(v, id, k->text, k->length, true));
    }
    for (int64_t id = 0; id < parts->count; id++)
        if (merges_make(&parts->tokens[id])) LC_TRY(add_cuts(parts, v, id, list));
    if (list->count) qsort(list->items, (size_t)list->count, sizeof *list->items, by_score);
    return LC_OK;
}

static lc_status scored_merges(const lc_parts *parts, json_t **out) {
    lc_vocabulary v = {0};
    merge_list list = {0};
    lc_status status = list_merges(parts, &v, &list);
    json_t *merges = status ? NULL : json_array();
    if (!status) status = lc_parts_check(merges);
    for (int64_t i = 0; i < list.count && !status; i++) {
        const lc_part_token *left = &parts->tokens[list.items[i].left], *right = &parts->tokens[list.items[i].right];
        json_t *pair = json_pack("[s%, s%]", left->text, left->length, right->text, right->length);
        if (!pair || json_array_append_new(merges, pair) != 0) status = lc_parts_check(NULL);
    }
    lc_free(list.items);
    lc_vocabulary_free(&v);
    if (status) {
        json_decref(merges);
        return status;
    }
    *out = merges;
    return LC_OK;
}

/* -- the rest of it ---------------------------------------------------------------------------- */

#define SIGN LC_BLANK_SIGN

lc_status lc_parts_sentencepiece(lc_parts *parts, bool blank) {
    LC_TRY(lc_parts_check_tokens(parts));
    LC_TRY(scored_merges(parts, &parts->merges));
    parts->byte_fallback = true;
    json_t *replace = json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "String", " ", "content", SIGN);
    json_t *prepend = json_pack("{s:s, s:s}", "type", "Prepend", "prepend", SIGN);
    json_t *strip = json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip", "content", " ", "start", blank, "stop", 0);
    if (replace && prepend && strip) {
        parts->normalizer = blank ? json_pack("{s:s, s:[O, O]}", "type", "Sequence", "normalizers", prepend, replace)
                                  : json_incref(replace);
        parts->decoder = json_pack("{s:s, s:[{s:s, s:{s:s}, s:s}, {s:s}, {s:s}, O]}", "type", "Sequence", "decoders",
                                   "type", "Replace", "pattern", "String", SIGN, "content", " ", "type", "ByteFallback",
                                   "type", "Fuse", strip);
    }
    json_decref(replace);
    json_decref(prepend);
    json_decref(strip);
    LC_TRY(lc_parts_check(parts->normalizer));
    return lc_parts_check(parts->decoder);
}

/* -- llama2.c ---------------------------------------------------------------------------------- */

/* The tokens of the file, and their texts with blanks as signs. */
typedef struct llama2c {
    lc_part_token *tokens;
    int64_t count, capacity;
    lc_strbuf text; /* of all tokens, each with a NUL behind it */
} llama2c;

static lc_status cut_off(int64_t id) {
    return lc_fail(LC_EFORMAT, "not a tokenizer of llama2.c: token %lld ends past the end of the file", (long long)id);
}

static lc_status add_token(llama2c *f, const char *text, size_t length, float score) {
    if (f->count == f->capacity) {
        int64_t capacity = lc_max(512, f->capacity * 2);
        lc_part_token *tokens = lc_realloc(f->tokens, sizeof *tokens * (size_t)capacity);
        if (!tokens) return LC_ENOMEM;
        f->tokens = tokens;
        f->capacity = capacity;
    }
    size_t begin = f->text.length;
    bool framed = length > 2 && text[0] == '\n' && text[length - 1] == '\n';
    bool special = f->count == 1 || f->count == 2;
    if (special && framed) text++, length -= 2;
    for (size_t i = 0; i < length; i++)
        lc_strbuf_add(&f->text, text[i] == ' ' ? SIGN : text + i, text[i] == ' ' ? 3 : 1);
    lc_token_kind kind = f->count == 0 ? LC_TOKEN_UNKNOWN : special ? LC_TOKEN_CONTROL : LC_TOKEN_NORMAL;
    if (f->count > 2 && f->count < 259) kind = LC_TOKEN_BYTE;
    f->tokens[f->count++] = (lc_part_token){.length = f->text.length - begin, .score = score, .kind = kind};
    lc_strbuf_add(&f->text, "", 1);
    return LC_OK;
}

static lc_status read_tokens(llama2c *f, const char *data, size_t length) {
    if (length < 4) return cut_off(0);
    for (size_t at = 4; at < length;) {
        float score;
        uint32_t n;
        if (length - at < 8) return cut_off(f->count);
        memcpy(&score, data + at, 4);
        memcpy(&n, data + at + 4, 4);
        at += 8;
        if (n > length - at) return cut_off(f->count);
        LC_TRY(add_token(f, data + at, n, score));
        at += n;
    }
    if (f->text.failed) return lc_fail(LC_ENOMEM, "out of memory while reading a tokenizer");
    if (f->count < 259)
        return lc_fail(LC_EFORMAT,
                       "not a tokenizer of llama2.c: %lld tokens, fewer than <unk>, <s>, </s> and the bytes",
                       (long long)f->count);
    size_t offset = 0;
    for (int64_t id = 0; id < f->count; id++) {
        f->tokens[id].text = f->text.data + offset;
        offset += f->tokens[id].length + 1;
    }
    return LC_OK;
}

static lc_status make(const llama2c *f, lc_tokenizer **out) {
    lc_parts parts = {.tokens = f->tokens, .count = f->count, .bos = 1, .eos = 2, .unknown = 0, .add_bos = true};
    lc_status status = lc_parts_sentencepiece(&parts, true);
    if (!status) return lc_parts_tokenizer(&parts, out);
    lc_parts_free(&parts);
    return status;
}

lc_status lc_tokenizer_llama2c(const char *path, lc_tokenizer **out) {
    char *data = NULL;
    size_t length;
    llama2c f = {0};
    LC_TRY(lc_file_read(path, LONGEST_FILE, &data, &length));
    lc_status status = read_tokens(&f, data, length);
    if (!status) status = make(&f, out);
    lc_strbuf_free(&f.text);
    lc_free(f.tokens);
    lc_free(data);
    return status ? lc_fail_within(status, "%s", path) : LC_OK;
}
