/* llama.h: the decoder that Llama and its near relatives share: RMS norm first, rotary positions, grouped-query
 * attention with q, k and v apart, a gated MLP. A family reads its configuration into lc_llama_config and builds from
 * it. */
#ifndef LC_LLAMA_H
#define LC_LLAMA_H

#include "model/family.h"

typedef struct lc_llama_config {
    const char *where; /* begins messages: "llama config" */
    int64_t heads, kv_heads, head_size, inner;
    int64_t window; /* the longest text for which attention is whole; 0 = any */
    double eps, attention_dropout;
    lc_activation act;
    bool qkv_bias, out_bias, mlp_bias, tied;
} lc_llama_config;

/* Reads the keys that all of them have into m->sizes, m->padding_id and *c, which hold the family's defaults; a head
 * size or number of key-value heads that is 0 and not configured follows from the others. */
lc_status lc_llama_read(lc_model *m, lc_llama_config *c);
/* Every part of the model. */
lc_status lc_llama_build(lc_model *m, const lc_llama_config *c);

lc_status lc_llama_embed(lc_model *m, const lc_pass *pass, lc_tensor **x);
lc_status lc_llama_finish(lc_model *m, const lc_pass *pass, lc_tensor *x, lc_tensor **hidden);
/* "layers.0.self_attn.rotary_emb.inv_freq": frequencies, stored by old versions. */
bool lc_llama_is_buffer(const char *name);

#endif
