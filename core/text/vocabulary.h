/* vocabulary.h: tokens by id and by text, and the printable alphabet in which GPT-2's files write bytes. Depends on
 * base. */
#ifndef LC_VOCABULARY_H
#define LC_VOCABULARY_H

#include "base/strbuf.h"

typedef struct lc_token {
    uint32_t offset, length; /* its bytes, in lc_vocabulary.text */
    bool used;               /* ids may have gaps */
    bool listed;             /* in the model's vocabulary: merges may make it. Else only an added token. */
    bool added;              /* matched in the text before anything else */
    bool special;            /* left out by decoding when asked */
    bool lstrip, rstrip;     /* an added token takes the white space before, after it */
    bool single_word;        /* it counts only where no letter or digit is beside it */
    bool normalized;         /* it is looked for in normalized text, after those that are not */
} lc_token;

/* Starts as {0}. */
typedef struct lc_vocabulary {
    int64_t size; /* largest id + 1 */
    int64_t capacity;
    lc_token *tokens;
    lc_strbuf text;
    int64_t used;       /* tokens in the table */
    int64_t slot_count; /* a power of two */
    int32_t *slots;     /* open addressing, (text, listed) -> id; -1 = empty */
} lc_vocabulary;

void lc_vocabulary_free(lc_vocabulary *v);
/* A new token; LC_EFORMAT when the id is taken, or the text is. A listed and an added token may have the same text. */
lc_status lc_vocabulary_add(lc_vocabulary *v, int64_t id, const char *text, size_t length, bool listed);
/* Id of the token of that text, listed or only added; -1 when there is none. */
int64_t lc_vocabulary_find(const lc_vocabulary *v, const char *text, size_t length, bool listed);
static inline const char *lc_vocabulary_text(const lc_vocabulary *v, int64_t id) {
    return v->text.data + v->tokens[id].offset;
}

/* GPT-2 writes the byte b as the character lc_alphabet(b): itself where it prints, else U+0100 and up, so that no token
 * holds a blank. */
uint32_t lc_alphabet(uint8_t byte);
/* Appends text in the alphabet, as UTF-8. */
void lc_alphabet_write(lc_strbuf *out, const char *bytes, size_t length);
/* Appends the bytes that `text` stands for; false, and nothing, when it has a character outside the alphabet. */
bool lc_alphabet_read(lc_strbuf *out, const char *text, size_t length);

#endif
