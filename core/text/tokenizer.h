/* tokenizer.h: text to token ids and back: byte-level BPE (Radford et al. 2019) with GPT-2's pattern or another,
 * SentencePiece's BPE of characters (Kudo & Richardson 2018), training, and plain bytes. Depends on base, io.
 *
 * Encoding finds added tokens, normalizes what is between them, cuts it into pieces, and merges the bytes or characters
 * of each piece, lowest rank first. Ids equal those of the `tokenizers` package. Text that is not UTF-8 is first
 * repaired: each maximal broken part becomes U+FFFD, as Python's bytes.decode("utf-8", "replace") has it; decoding
 * repairs the same way. The byte tokenizer takes and gives any bytes unchanged. A tokenizer keeps a cache of words and
 * memory to work in: use it from one thread at a time. */
#ifndef LC_TOKENIZER_H
#define LC_TOKENIZER_H

#include "base/status.h"

typedef struct lc_tokenizer lc_tokenizer; /* counted */

/* Token ids, growing at the end. Starts as {0}. */
typedef struct lc_ids {
    int32_t *data;
    int64_t count, capacity;
} lc_ids;
lc_status lc_ids_reserve(lc_ids *ids, int64_t more); /* room for `more` ids after count */
void lc_ids_free(lc_ids *ids);

/* From a directory with tokenizer.json, or with vocab.json and merges.txt (and, when there, tokenizer_config.json,
 * special_tokens_map.json, added_tokens.json); or from the path of a tokenizer.json, a .gguf, or
 * a tokenizer .bin of llama2.c. "add_bos_token" of
 * tokenizer_config.json decides over a tokenizer.json's own template, as in transformers. LC_ENOTFOUND lists what was
 * looked for; LC_EFORMAT names a part that is not known. */
lc_status lc_tokenizer_load(const char *path, lc_tokenizer **out);
/* Ids 0..255 are the bytes, 256 is <|endoftext|>. */
lc_status lc_tokenizer_bytes(lc_tokenizer **out);
lc_tokenizer *lc_tokenizer_retain(lc_tokenizer *t);
void lc_tokenizer_release(lc_tokenizer *t); /* NULL is fine */

typedef struct lc_bpe_options {
    int64_t vocab_size;          /* special tokens and the 256 bytes included; at least 256 + specials */
    int64_t min_frequency;       /* a pair seen less often is not merged; 2 */
    const char *const *specials; /* these get the first ids */
    int64_t special_count;
} lc_bpe_options;
/* Learns merges from the text: the most frequent pair first, ties to the smaller ids, as the ByteLevel BPE trainer of
 * `tokenizers`. */
lc_status lc_tokenizer_train(const char *text, size_t length, const lc_bpe_options *options, lc_tokenizer **out);
/* Writes files that transformers loads: those that a tokenizer.json came with, word for word, and tokenizer_config.json
 * where there was none; else vocab.json, merges.txt, tokenizer.json and tokenizer_config.json. */
lc_status lc_tokenizer_save(const lc_tokenizer *t, const char *directory);

/* Appends the ids of `text`. Special tokens written out in the text become their ids. `bos` puts the tokenizer's
 * beginning-of-text token first, if its model wants one. LC_EINVAL when its pattern takes too long on this text. */
lc_status lc_tokenizer_encode(lc_tokenizer *t, const char *text, size_t length, bool bos, lc_ids *out);
/* LC_EINVAL for an id out of range. `skip_special` leaves special tokens out. The text ends with a NUL not counted in
 * *length. */
lc_status lc_tokenizer_decode(const lc_tokenizer *t, const int64_t *ids, int64_t count, bool skip_special, char **out,
                              size_t *length);

/* Number of ids: the largest + 1. */
int64_t lc_tokenizer_size(const lc_tokenizer *t);
/* The id of one token, written as its text ("<|endoftext|>", " the"); -1 when there is none. */
int64_t lc_tokenizer_id(const lc_tokenizer *t, const char *token, size_t length);
/* Text of one id (not NUL-terminated; may be part of a character; SentencePiece's has U+2581 for a blank); NULL when the id is unused or out of range. */
const char *lc_tokenizer_token(const lc_tokenizer *t, int64_t id, size_t *length);
/* Put before every text by this tokenizer (OPT); -1 = none (GPT-2). */
int64_t lc_tokenizer_bos(const lc_tokenizer *t);
/* End of text: between documents, and the padding of batches; -1 = none. */
int64_t lc_tokenizer_eos(const lc_tokenizer *t);
/* Hash of everything that decides the ids of a text: 32 hex digits. */
const char *lc_tokenizer_hash(const lc_tokenizer *t);

#endif
