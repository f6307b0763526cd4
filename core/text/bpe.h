/* bpe.h: merging the symbols of one piece, and the tokenizer's parts, shared by its loading, training, encoding and
 * saving. Only core/text includes this. */
#ifndef LC_BPE_H
#define LC_BPE_H

#include "text/added.h"
#include "text/steps.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

/* Tokens `left` and `right`, side by side, become `result`. */
typedef struct lc_merge {
    int32_t left, right, result;
} lc_merge;

/* A slot of the pair table: open addressing, empty when rank < 0. */
typedef struct lc_pair_slot {
    int32_t left, right;
    int32_t rank; /* place in the list of merges: lower merges first */
    int32_t result;
} lc_pair_slot;

#define LC_BLANK_SIGN "\xE2\x96\x81" /* U+2581, which SentencePiece writes for a blank */

#define LC_CACHE_BYTES 15 /* longest piece in the cache */
#define LC_CACHE_IDS 7    /* most ids of one */
/* A word that was encoded before; found by its first slot only, the newer replaces the older. */
typedef struct lc_cached {
    uint64_t key[2]; /* the bytes, zero-padded, the length in the last one; all zero = empty */
    int32_t count;
    int32_t ids[LC_CACHE_IDS];
} lc_cached;

/* The files of a tokenizer that are kept word for word. */
enum { LC_TOKENIZER_JSON, LC_TOKENIZER_CONFIG, LC_SPECIAL_TOKENS, LC_CHAT_TEMPLATE, LC_KEPT_FILES };
extern const char *const lc_kept_files[LC_KEPT_FILES]; /* their names */
typedef struct lc_files {
    char *text[LC_KEPT_FILES]; /* NULL: there was none */
    size_t length[LC_KEPT_FILES];
} lc_files;

struct lc_tokenizer {
    int64_t refs;
    lc_vocabulary vocabulary;
    bool byte_level;       /* tokens are bytes; else characters, and a byte has a token such as <0x0A> */
    int32_t byte_ids[256]; /* -1 = none */
    lc_merge *merges;      /* by rank */
    int64_t merge_count;
    lc_pair_slot *pairs;
    int64_t pair_slots;           /* a power of two */
    lc_cached *cache;             /* NULL before the first piece */
    lc_added_set raw, normalized; /* added tokens, looked for before and after normalization */
    lc_steps normalizer, pre_tokenizer, decoder;
    lc_pieces pieces[3]; /* memory to work in */
    int64_t bos, eos;    /* -1 = none */
    int64_t unknown;     /* of characters and bytes without a token; -1: they are left out */
    bool ignore_merges;  /* a piece that is a token is that token, whatever merges make */
    bool byte_fallback;  /* a character without a token becomes its bytes' tokens */
    bool fuse_unknown;   /* unknown characters side by side are one token */
    bool words_apart;    /* no merge joins a blank's sign to what is before it: each word is merged alone */
    lc_files files;      /* as they were read, to be saved again */
    char hash[33];
};

/* A tokenizer without tokens. */
lc_status lc_tokenizer_new(lc_tokenizer **out);
/* It takes bytes, cut by GPT-2's pattern. */
lc_status lc_tokenizer_set_byte_level(lc_tokenizer *t, bool add_prefix_space);
/* The 256 bytes as listed tokens, ids from `first`, in the order of their printable characters. */
lc_status lc_tokenizer_add_bytes(lc_tokenizer *t, int64_t first);
/* Makes `text` an added, special token: the listed one of that text, or a new one at the end. `id` may be NULL. */
lc_status lc_tokenizer_add_special(lc_tokenizer *t, const char *text, size_t length, int64_t *id);
/* When all tokens and merges are in: checks that a tokenizer of bytes has them all, builds the tables, and takes the hash. */
lc_status lc_tokenizer_finish(lc_tokenizer *t);

/* A post-processor that puts the token `bos` (its text as JSON), number `id`, before each text; NULL when out of memory. */
json_t *lc_begin_processor(json_t *bos, int64_t id);
/* Takes over what a tokenizer.json says, but for lc_tokenizer_finish. */
lc_status lc_tokenizer_read_json(lc_tokenizer *t, const json_t *file);
/* Its parts that other files have too: {"token": id}; "left right"; an added token. `scratch` starts as {0}. */
lc_status lc_tokenizer_read_vocabulary(lc_tokenizer *t, const json_t *vocabulary);
lc_status lc_tokenizer_read_merge(lc_tokenizer *t, lc_strbuf *scratch, const char *line, size_t length);
lc_status lc_tokenizer_read_added(lc_tokenizer *t, const json_t *token, int64_t id);
/* LC_EFORMAT unless `id` is a number that a vocabulary of that many tokens can have. */
lc_status lc_tokenizer_check_id(const json_t *id, size_t tokens, const char *token);

/* Appends the merge that makes left + right; its result must be listed. */
lc_status lc_bpe_add_merge(lc_tokenizer *t, int32_t left, int32_t right);
lc_status lc_bpe_build_pairs(lc_tokenizer *t);
/* Whether no merge joins LC_BLANK_SIGN to anything but itself before it. */
bool lc_bpe_words_apart(const lc_tokenizer *t);
/* Appends the ids of one piece, which is not empty. */
lc_status lc_bpe_piece(lc_tokenizer *t, const uint8_t *piece, size_t length, lc_ids *out);

#endif
