/* bpe.h: merging the bytes of one piece, and the tokenizer's parts, shared by its loading, training, encoding and
 * saving. Only core/text includes this. */
#ifndef LC_BPE_H
#define LC_BPE_H

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

#define LC_CACHE_BYTES 15 /* longest piece in the cache */
#define LC_CACHE_IDS 7    /* most ids of one */
/* A word that was encoded before; found by its first slot only, the newer replaces the older. */
typedef struct lc_cached {
    uint64_t key[2]; /* the bytes, zero-padded, the length in the last one; all zero = empty */
    int32_t count;
    int32_t ids[LC_CACHE_IDS];
} lc_cached;

/* A token that is matched in the text before anything else. */
typedef struct lc_added {
    int32_t id;
    uint32_t length;
} lc_added;

struct lc_tokenizer {
    int64_t refs;
    lc_vocabulary vocabulary;
    int32_t byte_ids[256];
    lc_merge *merges; /* by rank */
    int64_t merge_count;
    lc_pair_slot *pairs;
    int64_t pair_slots; /* a power of two */
    lc_cached *cache;   /* NULL before the first piece */
    lc_added *added;    /* longest text first */
    int64_t added_count;
    bool added_first[256]; /* bytes that begin one */
    int64_t bos, eos;      /* -1 = none */
    bool add_prefix_space; /* a text that does not begin with a blank gets one */
    bool compose;          /* normalize to NFC first */
    char hash[33];
};

/* A tokenizer without tokens. */
lc_status lc_tokenizer_new(lc_tokenizer **out);
/* The 256 bytes as listed tokens, ids from `first`, in the order of their printable characters. */
lc_status lc_tokenizer_add_bytes(lc_tokenizer *t, int64_t first);
/* Makes `text` an added, special token: the listed one of that text, or a new one at the end. `id` may be NULL. */
lc_status lc_tokenizer_add_special(lc_tokenizer *t, const char *text, size_t length, int64_t *id);
/* When all tokens and merges are in: checks that each byte has a token, builds the tables, and takes the hash. */
lc_status lc_tokenizer_finish(lc_tokenizer *t);

/* Appends the merge that makes left + right; its result must be listed. */
lc_status lc_bpe_add_merge(lc_tokenizer *t, int32_t left, int32_t right);
lc_status lc_bpe_build_pairs(lc_tokenizer *t);
/* Appends the ids of one piece. */
lc_status lc_bpe_piece(lc_tokenizer *t, const uint8_t *piece, size_t length, lc_ids *out);

#endif
