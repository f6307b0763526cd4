/* tokenizer_parts.h: tokenizers from files of other kinds: their vocabulary becomes a tokenizer.json, which is read like
 * any other and is what is saved. Only core/text includes this. Depends on tokenizer, io/json. */
#ifndef LC_TOKENIZER_PARTS_H
#define LC_TOKENIZER_PARTS_H

#include "io/json.h"
#include "text/tokenizer.h"

/* As SentencePiece and GGUF number them. */
typedef enum lc_token_kind {
    LC_TOKEN_NORMAL = 1,
    LC_TOKEN_UNKNOWN,
    LC_TOKEN_CONTROL, /* special */
    LC_TOKEN_USER,    /* found in the text before anything else */
    LC_TOKEN_UNUSED,
    LC_TOKEN_BYTE
} lc_token_kind;

typedef struct lc_part_token {
    const char *text; /* as tokenizer.json writes it */
    size_t length;
    double score; /* SentencePiece: of two merges the one with the higher score comes first */
    lc_token_kind kind;
} lc_part_token;

typedef struct lc_parts {
    const lc_part_token *tokens; /* by id */
    int64_t count;
    int64_t bos, eos, unknown; /* ids; -1 = none */
    bool add_bos, byte_fallback, ignore_merges;
    json_t *merges, *normalizer, *pre_tokenizer, *decoder; /* NULL = none */
} lc_parts;

/* LC_EFORMAT, with the id, for a token that JSON cannot hold. */
lc_status lc_parts_check_tokens(const lc_parts *parts);
/* Takes over the JSON values, whatever happens. */
lc_status lc_parts_tokenizer(lc_parts *parts, lc_tokenizer **out);
/* Merges, normalizer and decoder of SentencePiece's BPE. `blank`: a text begins with one that is not in it. */
lc_status lc_parts_sentencepiece(lc_parts *parts, bool blank);
/* Gives back the JSON values when they will not be used. */
void lc_parts_free(lc_parts *parts);

/* Fails with LC_ENOMEM where a JSON value is NULL. */
lc_status lc_parts_check(const json_t *value);

#endif
