/* dataset.h: token windows and documents as training batches. Depends on tokenizer, corpus, tensor.
 *
 * A dataset is a list of examples on shared tokens: windows of T tokens every `stride`, or one document each. Order is
 * a function of (seed, epoch), so a position is two numbers and resuming is exact. Labels equal ids: causal models
 * shift inside. */
#ifndef LC_DATASET_H
#define LC_DATASET_H

#include "tensor/tensor.h"
#include "text/corpus.h"
#include "text/tokenizer.h"

#define LC_IGNORE_LABEL (-100)

/* Tensors i64 (B, T). attention_mask is 1 for tokens, 0 for padding; labels are LC_IGNORE_LABEL at padding. Datasets
 * leave token_type_ids NULL. */
typedef struct lc_batch {
    lc_tensor *ids, *labels, *attention_mask, *token_type_ids;
} lc_batch;
void lc_batch_release(lc_batch *b); /* releases what there is and sets all to NULL */

typedef enum lc_per { LC_PER_WINDOW, LC_PER_DOCUMENT } lc_per;

typedef struct lc_dataset_options {
    lc_tokenizer *tokenizer;          /* required */
    const char *source, *file, *text; /* one of them: a name in LACUNA_DATA, a path, the text itself */
    size_t text_length;
    int64_t length; /* T, tokens */
    int64_t stride; /* between window starts; 0 = length */
    lc_per per;     /* documents longer than T are cut, shorter ones padded at the end to the longest of their batch */
    lc_join join;
    bool no_cache; /* leave $XDG_CACHE_HOME/lacuna/tokens alone */
} lc_dataset_options;

typedef struct lc_dataset lc_dataset; /* counted */

/* LC_EINVAL for empty text, or a text shorter than one window. The cache of tokens is keyed by the hashes of text and
 * tokenizer; a damaged one is made again, and one that cannot be written is done without. */
lc_status lc_dataset_new(const lc_dataset_options *options, lc_dataset **out);
lc_dataset *lc_dataset_retain(lc_dataset *d);
void lc_dataset_release(lc_dataset *d); /* NULL is fine */

int64_t lc_dataset_count(const lc_dataset *d);  /* examples */
int64_t lc_dataset_length(const lc_dataset *d); /* T */
int64_t lc_dataset_stride(const lc_dataset *d);
lc_per lc_dataset_per(const lc_dataset *d);
lc_tokenizer *lc_dataset_tokenizer(const lc_dataset *d); /* borrowed */
/* All tokens of the text in order, a beginning-of-text token first where the tokenizer adds one: what perplexity
 * protocols cut. */
const int32_t *lc_dataset_tokens(const lc_dataset *d, int64_t *count);
/* Hash of tokens, lengths and examples: 32 hex digits and a NUL, for manifests and for refusing to resume on other
 * data. */
void lc_dataset_hash(const lc_dataset *d, char out[33]);

/* Which part of which text the examples come from: that of the dataset that a sample was drawn from. */
typedef struct lc_origin {
    uint64_t source;            /* hash of the file */
    uint64_t text;              /* hash of all tokens that this way of reading makes of it */
    int64_t first, last, total; /* tokens first .. last - 1 of so many */
} lc_origin;
lc_origin lc_dataset_origin(const lc_dataset *d);

/* The examples with these numbers, in this order, as one batch. LC_EINVAL for a number out of range. */
lc_status lc_dataset_batch(lc_dataset *d, const int64_t *indices, int64_t count, lc_batch *out);
/* The first `share` of the tokens (of the documents) and the rest, windows cut anew in each so that they share no
 * token. */
lc_status lc_dataset_split(lc_dataset *d, double share, lc_dataset **first, lc_dataset **rest);
/* n random examples. Windows start anywhere, as in SparseGPT's calibration; documents are drawn without repeats. */
lc_status lc_dataset_sample(lc_dataset *d, int64_t n, uint64_t seed, lc_dataset **out);

/* Goes through a dataset epoch after epoch. */
typedef struct lc_loader lc_loader;
typedef struct lc_loader_options {
    int64_t batch; /* examples in a batch; the last of an epoch may have fewer */
    uint64_t seed;
    bool in_order; /* no shuffling */
} lc_loader_options;
lc_status lc_loader_new(lc_dataset *d, const lc_loader_options *options, lc_loader **out);
void lc_loader_free(lc_loader *l); /* NULL is fine */
lc_status lc_loader_next(lc_loader *l, lc_batch *out);
int64_t lc_loader_batches(const lc_loader *l); /* in one epoch */
/* Where the next batch comes from: epoch from 0, examples of it already given. Setting it is exact: LC_EINVAL when out
 * of range. */
void lc_loader_position(const lc_loader *l, int64_t *epoch, int64_t *index);
lc_status lc_loader_seek(lc_loader *l, int64_t epoch, int64_t index);

#endif
