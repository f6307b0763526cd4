/* attention.h: attention straight from a fused q, k, v buffer.
 *
 * The three are strided views of one (B, T, (H + 2 G) D) tensor, and the backward pass writes their gradients into
 * views of one buffer: one node in the graph, instead of three slices whose backward fills and adds three buffers of
 * the whole. */
#ifndef LC_ATTENTION_H
#define LC_ATTENTION_H

#include "ops/op.h"

/* Views (B, T, H, D), (B, T, G, D), (B, T, G, D) of qkv, not recorded. */
lc_status lc_fused_parts(lc_tensor *qkv, int64_t heads, int64_t kv_heads, int64_t head_size, lc_tensor *parts[3]);

/* The op "attention" on them; `attr` and `keep` (B, T) are its. y (B, T, H, D). Recorded. */
lc_status lc_fused_attention(lc_tensor *qkv, int64_t heads, int64_t kv_heads, int64_t head_size, lc_tensor *keep,
                             const lc_attr *attr, lc_tensor **y);

#endif
