/* token_cache.h: tokens of a corpus, kept in $XDG_CACHE_HOME/lacuna/tokens (else ~/.cache/lacuna/tokens). Depends on
 * corpus, tokenizer. Only core/text includes this. */
#ifndef LC_TOKEN_CACHE_H
#define LC_TOKEN_CACHE_H

#include "text/corpus.h"
#include "text/tokenizer.h"

/* Documents as token ids, one after the other. */
typedef struct lc_tokens {
    lc_ids ids;
    int64_t *ends; /* of each document, in ids */
    int64_t documents;
} lc_tokens;
void lc_tokens_free(lc_tokens *t);

/* Hash of everything that decides the tokens: text, its documents, the tokenizer, and `rule`, how special tokens are
 * put between. */
void lc_token_cache_key(const lc_corpus *c, const lc_tokenizer *tokenizer, const char *rule, char out[33]);
/* True when the cache had them whole; a damaged file counts as absent. */
bool lc_token_cache_read(const char *key, int64_t vocabulary, lc_tokens *out);
/* Does nothing where the cache cannot be written. */
void lc_token_cache_write(const char *key, const lc_tokens *tokens);

#endif
