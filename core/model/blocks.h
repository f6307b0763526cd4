/* blocks.h: the pieces that families are made of: norms, attention, MLPs, and what flows through them.
 *
 * All functions record where a gradient is wanted. Shapes: x (B, T, C); H heads of size D share G key-value heads. */
#ifndef LC_BLOCKS_H
#define LC_BLOCKS_H

#include "base/random.h"
#include "model/linear.h"

typedef struct lc_norm {
    lc_param *weight, *bias; /* (C); bias NULL = none */
    double eps;
    bool rms; /* root mean square, no mean taken off */
} lc_norm;

typedef struct lc_attention {
    lc_layer *qkv;       /* one layer for all three, rows q then k then v; NULL when apart */
    lc_layer *q, *k, *v; /* NULL when fused */
    lc_layer *out;
    int64_t heads, kv_heads, head_size; /* H, G, D */
    double scale;                       /* on q k^T */
    bool causal;
} lc_attention;

typedef struct lc_mlp {
    lc_layer *up, *gate, *down; /* gate NULL = plain: down(act(up x)); else down(act(gate x) * up x) */
    lc_activation act;
} lc_mlp;

typedef struct lc_block {
    lc_model *model; /* borrowed */
    char *name;      /* owned: "transformer.h.3" */
    int index;       /* from 0 */
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

/* One forward pass through a model. */
typedef struct lc_pass {
    lc_tensor *ids, *positions; /* integers (B, T); positions may be (T) */
    lc_tensor *token_types;     /* (B, T) or NULL */
    lc_tensor *keep;            /* bool (B, S), S = tokens in the cache and T: 0 = padding; NULL = no padding */
    lc_cache *cache;            /* NULL outside generation */
    bool train;                 /* dropout on */
    uint64_t dropout_seed, dropout_pass;
} lc_pass;

lc_status lc_norm_forward(const lc_norm *n, lc_tensor *x, lc_tensor **y);
/* Heads of block `index` under this pass: mask, cache and dropout (`dropout` is the rate on the weights). x -> out(...)
 * (B, T, C). */
lc_status lc_attention_forward(const lc_attention *a, const lc_pass *pass, int index, double dropout, lc_tensor *x,
                               lc_tensor **y);
lc_status lc_mlp_forward(const lc_mlp *m, lc_tensor *x, lc_tensor **y);
/* Dropout at a named site of the model ("embedding", "3.attention"): each has its own stream. Itself, retained, when
 * off. */
lc_status lc_dropout(const lc_pass *pass, const char *site, double rate, lc_tensor *x, lc_tensor **y);

#endif
