/* attention.h: attention straight from a fused q, k, v buffer.
 *
 * The three are strided views of one (B, T, (H + 2 G) D) tensor, and the backward pass writes their gradients into
 * views of one buffer: one node in the graph, instead of three slices whose backward fills and adds three buffers of
 * the whole. Where a pass has rotary positions, q and k are turned on their way; their gradients are turned back in
 * place. */
#ifndef LC_ATTENTION_H
#define LC_ATTENTION_H

#include "model/blocks.h"

/* Views (B, T, H, D), (B, T, G, D), (B, T, G, D) of qkv, in the order of a's rows; not recorded. */
lc_status lc_fused_parts(const lc_attention *a, lc_tensor *qkv, lc_tensor *parts[3]);

/* The op "attention" on them; `attr` is its, positions and padding are the pass's. y (B, T, H, D). Recorded. */
lc_status lc_fused_attention(const lc_attention *a, const lc_pass *pass, const lc_attr *attr, lc_tensor *qkv,
                             lc_tensor **y);

#endif
