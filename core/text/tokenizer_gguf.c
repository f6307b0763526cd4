/* tokenizer_gguf.c: see tokenizer_gguf.h. The names of patterns are llama.cpp's, the steps those of the models'
 * tokenizer.json. */
#include "text/tokenizer_gguf.h"

#include <string.h>

#include "base/memory.h"
#include "text/bpe.h"
#include "text/tokenizer_parts.h"

#define KEY(name) "tokenizer.ggml." name

/* -- patterns ---------------------------------------------------------------------------------- */

#define LLAMA3(digits)                                                         \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" digits \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* How a named model cuts text: by a pattern, NULL for GPT-2's, behind what else. */
typedef struct style {
    const char *names; /* separated by blanks, one at each end */
    const char *pattern;
    bool single_digits; /* each number's digit is a piece */
    bool compose;       /* NFC first */
    bool ignore_merges; /* a piece that is a token is that token */
    bool add_bos;       /* when the file does not say */
} style;

static const style styles[] = {
    {" gpt-2 gpt2 mpt olmo jais phi-2 ", NULL},
    {" smollm starcoder refact codeshell command-r ", NULL, .single_digits = true},
    {" llama-bpe llama-v3 llama3 falcon3 ", LLAMA3("{1,3}"), .ignore_merges = true, .add_bos = true},
    {" dbrx smaug-bpe ", LLAMA3("{1,3}")},
    {" qwen2 deepseek-r1-qwen ", LLAMA3(""), .compose = true},
};

static lc_status find_style(const lc_gguf *g, const style **out) {
    const char *pre = NULL, *architecture = "";
    LC_TRY(lc_gguf_get_string(g, KEY("pre"), &pre));
    LC_TRY(lc_gguf_get_string(g, "general.architecture", &architecture));
    if (!pre && strcmp(architecture, "gpt2") == 0) pre = "gpt-2";
    if (!pre)
        return lc_fail(LC_ENOTFOUND,
                       "metadata " KEY("pre") " is missing: the file does not say how text is cut; convert "
                                              "the model anew");
    char name[64];
    int length = snprintf(name, sizeof name, " %.60s ", pre);
    for (size_t i = 0; i < sizeof styles / sizeof *styles && length > 2; i++)
        if (strstr(styles[i].names, name)) {
            *out = &styles[i];
            return LC_OK;
        }
    lc_strbuf known = {0};
    for (size_t i = 0; i < sizeof styles / sizeof *styles; i++) lc_strbuf_puts(&known, styles[i].names + (i > 0));
    lc_status status =
        lc_fail(LC_ENOTFOUND, KEY("pre") " = \"%.60s\" is not known; known are:%s", pre, known.data ? known.data : "");
    lc_strbuf_free(&known);
    return status;
}

/* -- reading ----------------------------------------------------------------------------------- */

static lc_status read_tokens(const lc_gguf *g, lc_part_token **out, int64_t *count) {
    const lc_gguf_value *tokens = NULL, *scores = NULL, *kinds = NULL;
    LC_TRY(lc_gguf_require(g, KEY("tokens")));
    LC_TRY(lc_gguf_get_array(g, KEY("tokens"), LC_GGUF_STRING, &tokens));
    LC_TRY(lc_gguf_get_array(g, KEY("scores"), LC_GGUF_F32, &scores));
    LC_TRY(lc_gguf_get_array(g, KEY("token_type"), LC_GGUF_I32, &kinds));
    *count = tokens->count;
    if ((scores && scores->count != *count) || (kinds && kinds->count != *count))
        return lc_fail(LC_EFORMAT, "there are %lld tokens, and another number of scores or kinds", (long long)*count);
    lc_part_token *list = lc_alloc(sizeof *list * (size_t)*count);
    if (!list) return LC_ENOMEM;
    for (int64_t id = 0; id < *count; id++) {
        const lc_gguf_string *text = &((const lc_gguf_string *)tokens->data)[id];
        list[id] = (lc_part_token){.text = text->text, .length = text->length, .kind = LC_TOKEN_NORMAL};
        if (scores) list[id].score = ((const float *)scores->data)[id];
        if (kinds) list[id].kind = (lc_token_kind)((const int32_t *)kinds->data)[id];
    }
    *out = list;
    return LC_OK;
}

static lc_status read_merges(const lc_gguf *g, json_t **out) {
    const lc_gguf_value *merges = NULL;
    LC_TRY(lc_gguf_require(g, KEY("merges")));
    LC_TRY(lc_gguf_get_array(g, KEY("merges"), LC_GGUF_STRING, &merges));
    const lc_gguf_string *text = merges->data;
    LC_TRY(lc_parts_check(*out = json_array()));
    for (int64_t i = 0; i < merges->count; i++) {
        json_t *merge = json_stringn(text[i].text, text[i].length);
        if (!merge) return lc_fail(LC_EFORMAT, "merge %lld is not UTF-8", (long long)i);
        if (json_array_append_new(*out, merge) != 0) return lc_parts_check(NULL);
    }
    return LC_OK;
}

/* Ids of special tokens, and whether texts begin with one; parts->add_bos is what to do when the file does not say. */
static lc_status read_special(const lc_gguf *g, lc_parts *parts) {
    bool add_eos = false;
    LC_TRY(lc_gguf_get_int(g, KEY("bos_token_id"), &parts->bos));
    LC_TRY(lc_gguf_get_int(g, KEY("eos_token_id"), &parts->eos));
    LC_TRY(lc_gguf_get_bool(g, KEY("add_bos_token"), &parts->add_bos));
    LC_TRY(lc_gguf_get_bool(g, KEY("add_eos_token"), &add_eos));
    return add_eos ? lc_fail(LC_EFORMAT, KEY("add_eos_token") ": a token behind each text is not supported") : LC_OK;
}

/* -- byte-level BPE ---------------------------------------------------------------------------- */

static json_t *pre_tokenizer(const style *s) {
    json_t *bytes = json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1,
                              "use_regex", s->pattern == NULL);
    json_t *first = NULL;
    if (s->pattern)
        first = json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex", s->pattern, "behavior",
                          "Isolated", "invert", 0);
    else if (s->single_digits)
        first = json_pack("{s:s, s:b}", "type", "Digits", "individual_digits", 1);
    if (!first) return s->pattern || s->single_digits ? (json_decref(bytes), NULL) : bytes;
    if (!bytes) return json_decref(first), NULL;
    return json_pack("{s:s, s:[o, o]}", "type", "Sequence", "pretokenizers", first, bytes);
}

static lc_status byte_level(const lc_gguf *g, const style *s, lc_parts *parts) {
    parts->add_bos = s->add_bos;
    parts->ignore_merges = s->ignore_merges;
    LC_TRY(read_special(g, parts));
    LC_TRY(read_merges(g, &parts->merges));
    LC_TRY(lc_parts_check(parts->pre_tokenizer = pre_tokenizer(s)));
    if (s->compose) LC_TRY(lc_parts_check(parts->normalizer = json_pack("{s:s}", "type", "NFC")));
    return lc_parts_check(parts->decoder = json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 1,
                                                     "trim_offsets", 1, "use_regex", 1));
}

/* -- SentencePiece ----------------------------------------------------------------------------- */

static lc_status sentencepiece(const lc_gguf *g, lc_parts *parts) {
    bool blank = true;
    parts->bos = 1;
    parts->eos = 2;
    parts->unknown = 0;
    parts->add_bos = true;
    LC_TRY(lc_gguf_require(g, KEY("scores")));
    LC_TRY(lc_gguf_get_bool(g, KEY("add_space_prefix"), &blank));
    LC_TRY(lc_gguf_get_int(g, KEY("unknown_token_id"), &parts->unknown));
    LC_TRY(read_special(g, parts));
    return lc_parts_sentencepiece(parts, blank);
}

/* -- entry ------------------------------------------------------------------------------------- */

/* The template of conversations is kept beside the tokenizer. */
static lc_status keep_template(const lc_gguf *g, lc_tokenizer *t) {
    const char *text = NULL;
    LC_TRY(lc_gguf_get_string(g, "tokenizer.chat_template", &text));
    if (!text) return LC_OK;
    lc_files *kept = &t->files;
    kept->length[LC_CHAT_TEMPLATE] = strlen(text);
    kept->text[LC_CHAT_TEMPLATE] = lc_strdup(text);
    return kept->text[LC_CHAT_TEMPLATE] ? LC_OK : LC_ENOMEM;
}

/* How text is cut: NULL for SentencePiece, which does not. */
static lc_status find_kind(const lc_gguf *g, const char *model, const style **out) {
    if (strcmp(model, "gpt2") == 0) return find_style(g, out);
    if (strcmp(model, "llama") == 0) return LC_OK;
    return lc_fail(LC_ENOTFOUND, KEY("model") " = \"%.60s\" is not known; known are gpt2 and llama", model);
}

static lc_status make(const lc_gguf *g, const style *s, const lc_part_token *tokens, int64_t count,
                      lc_tokenizer **out) {
    lc_parts parts = {.tokens = tokens, .count = count, .bos = -1, .eos = -1, .unknown = -1};
    lc_tokenizer *t = NULL;
    lc_status status = s ? byte_level(g, s, &parts) : sentencepiece(g, &parts);
    if (!status) status = lc_parts_tokenizer(&parts, &t);
    lc_parts_free(&parts);
    if (!status) status = keep_template(g, t);
    if (status) {
        lc_tokenizer_release(t);
        return status;
    }
    *out = t;
    return LC_OK;
}

lc_status lc_tokenizer_from_gguf(const lc_gguf *g, lc_tokenizer **out) {
    const char *model = NULL;
    lc_part_token *tokens = NULL;
    int64_t count = 0;
    LC_TRY(lc_gguf_get_string(g, KEY("model"), &model));
    if (!model) return lc_fail(LC_ENOTFOUND, "%s: the file has no tokenizer (" KEY("model") ")", lc_gguf_path(g));
    const style *s = NULL;
    lc_status status = find_kind(g, model, &s);
    if (!status) status = read_tokens(g, &tokens, &count);
    if (!status) status = make(g, s, tokens, count, out);
    lc_free(tokens);
    return status ? lc_fail_within(status, "%s", lc_gguf_path(g)) : LC_OK;
}
