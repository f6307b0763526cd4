/* blocks.h: the pieces that families are made of: norms, attention, MLPs, and what flows through them.
 *
 * All functions record where a gradient is wanted. Shapes: x (B, T, C); H heads of size D share G key-value heads. */
#ifndef LC_BLOCKS_H
#define LC_BLOCKS_H

#include "base/random.h"
#include "model/linear.h"

typedef struct lc_norm {
    lc_param *weight, *bias; /* (C); NULL = none */
    double eps;
    bool rms; /* root mean square, no mean taken off */
} lc_norm;

typedef struct lc_attention {
    lc_layer *qkv;       /* one layer for all three; NULL when apart */
    bool interleaved;    /* qkv's rows are q, k, v of head 0, then of head 1 ...; else all of q, all of k, all of v */
    lc_layer *q, *k, *v; /* NULL when fused */
    lc_layer *out;
    int64_t heads, kv_heads, head_size; /* H, G, D */
    double scale;                       /* on q k^T */
    double dropout;                     /* rate on the weights of attention */
    bool causal;
} lc_attention;

typedef struct lc_mlp {
    lc_layer *up, *gate, *down; /* gate NULL = plain: down(act(up x)); else down(act(gate x) * up x) */
    lc_activation act;
} lc_mlp;

/* How a block puts attention A and MLP M together. */
typedef enum lc_block_order {
    LC_NORM_FIRST, /* m = x + A(norm x), y = m + M(norm m) */
    LC_NORM_LAST,  /* m = norm(x + A(x)), y = norm(m + M(m)) */
    LC_PARALLEL,   /* y = x + A(norm x) + M(norm x) */
} lc_block_order;

typedef struct lc_block {
    lc_model *model; /* borrowed */
    char *name;      /* owned: "transformer.h.3" */
    int index;       /* from 0 */
    lc_block_order order;
    double dropout; /* rate on what attention and MLP give */
    lc_norm attention_norm, mlp_norm;
    lc_attention attention;
    lc_mlp mlp;
} lc_block;

/* Keys and values of the tokens so far, for generation: per block (B, capacity, G, D). */
typedef struct lc_cache {
    int64_t batch, capacity, length;
    int blocks;
    lc_tensor **k, **v;
} lc_cache;
lc_status lc_cache_new(lc_model *m, int64_t batch, int64_t capacity, lc_cache **out);
void lc_cache_free(lc_cache *c); /* NULL is fine */

/* One forward pass through a model. Its tensors are retained from lc_pass_open or lc_pass_place (model/family.h) to
 * lc_pass_close. */
typedef struct lc_pass {
    lc_tensor *ids, *positions; /* integers (B, T); positions may be (T) */
    lc_tensor *token_types;     /* (B, T) or NULL */
    lc_tensor *keep;            /* bool (B, S), S = tokens in the cache and T: 0 = padding; NULL = no padding */
    lc_tensor *inv_freq;        /* frequencies of rotary positions; NULL = heads are not turned */
    double rotary_scale;        /* on what is turned */
    lc_cache *cache;            /* borrowed; NULL outside generation */
    bool train;                 /* dropout on */
    uint64_t dropout_seed, dropout_pass;
} lc_pass;

lc_status lc_norm_forward(const lc_norm *n, lc_tensor *x, lc_tensor **y);
/* The rows (B, T, C) of an embedding for ids (B, T). The row `padding` (-1 = none) takes no gradient from them. */
lc_status lc_embed(lc_param *table, lc_tensor *ids, int64_t padding, lc_tensor **x);
/* Heads of block `index` under this pass: positions, mask, cache and dropout. x -> out(...) (B, T, C). */
lc_status lc_attention_forward(const lc_attention *a, const lc_pass *pass, int index, lc_tensor *x, lc_tensor **y);
lc_status lc_mlp_forward(const lc_mlp *m, lc_tensor *x, lc_tensor **y);
/* x (B, T, C) -> y (B, T, C) through attention and MLP, in the block's order. */
lc_status lc_block_forward(const lc_block *b, const lc_pass *pass, lc_tensor *x, lc_tensor **y);
/* Dropout at a named site of the model ("embedding", "3.attention"): each has its own stream. Itself, retained, when
 * off. */
lc_status lc_dropout(const lc_pass *pass, const char *site, double rate, lc_tensor *x, lc_tensor **y);

#endif
