/* steps.h: the normalizers, pre-tokenizers and decoders of tokenizer.json: each is a list of steps, and each step makes
 * pieces of text out of pieces of text. Depends on pieces, pretokenize, io/json, libutf8proc.
 *
 * A normalizer rewrites one piece; a pre-tokenizer cuts it into words; a decoder starts from the texts of tokens, whose
 * pieces together are the text. All steps there are: see the table in steps.c. */
#ifndef LC_STEPS_H
#define LC_STEPS_H

#include "io/json.h"
#include "text/pieces.h"

typedef struct lc_step lc_step;

/* Starts as {0}, which changes nothing. */
typedef struct lc_steps {
    lc_step *items;
    int64_t count;
} lc_steps;

/* `section` is "normalizer", "pre_tokenizer" or "decoder"; `part` its JSON, NULL or null for none. LC_EFORMAT names a
 * part that is not known. */
lc_status lc_steps_read(lc_steps *steps, const char *section, const json_t *part);
/* One more step, the pre-tokenizer of GPT-2. */
lc_status lc_steps_add_byte_level(lc_steps *steps, bool add_prefix_space);
void lc_steps_free(lc_steps *steps);

/* Runs the steps one after the other on `text`; `spare` is memory to work in. `first`: the text begins the document. */
lc_status lc_steps_run(const lc_steps *steps, lc_pieces *text, lc_pieces *spare, bool first);
/* GPT-2's pre-tokenizer and nothing else, which has a faster way. */
bool lc_steps_is_gpt2(const lc_steps *steps);
/* Puts a blank before a text that begins with none. */
bool lc_steps_adds_prefix(const lc_steps *steps);
/* What the steps do, as text: equal for equal steps. */
void lc_steps_describe(const lc_steps *steps, lc_strbuf *out);

#endif
