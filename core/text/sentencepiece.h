/* sentencepiece.h: tokenizers whose merges follow from the scores of their tokens. Depends on tokenizer. */
#ifndef LC_SENTENCEPIECE_H
#define LC_SENTENCEPIECE_H

#include "text/tokenizer.h"

/* The tokenizer.bin of llama2.c, such as tok512.bin. */
lc_status lc_tokenizer_llama2c(const char *path, lc_tokenizer **out);

#endif
