/* tokenizer_gguf.h: the tokenizer inside a GGUF file. Depends on tokenizer, io/gguf. */
#ifndef LC_TOKENIZER_GGUF_H
#define LC_TOKENIZER_GGUF_H

#include "io/gguf.h"
#include "text/tokenizer.h"

/* From the metadata tokenizer.ggml.*: the models "gpt2" (byte-level BPE; "pre" names the pattern) and "llama"
 * (SentencePiece's BPE). LC_ENOTFOUND names a model or a pattern that is not known, or says that there is no tokenizer;
 * LC_EFORMAT names what is wrong with one that is. */
lc_status lc_tokenizer_from_gguf(const lc_gguf *g, lc_tokenizer **out);

#endif
