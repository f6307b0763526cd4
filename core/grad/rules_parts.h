/* rules_parts.h: the rules that the table in rules.c names, for that table only; formulas stand at their definitions.
 */
#ifndef LC_RULES_PARTS_H
#define LC_RULES_PARTS_H

#include "grad/rules.h"

/* rules_select.c: order, selection, assembly, views */
lc_status lc_rule_order(lc_rule_call *call);
lc_status lc_rule_kth(lc_rule_call *call);
lc_status lc_rule_quantile(lc_rule_call *call);
lc_status lc_rule_minmax(lc_rule_call *call);
lc_status lc_rule_gather(lc_rule_call *call);
lc_status lc_rule_scatter(lc_rule_call *call);
lc_status lc_rule_index(lc_rule_call *call);
lc_status lc_rule_index_add(lc_rule_call *call);
lc_status lc_rule_cat(lc_rule_call *call);
lc_status lc_rule_masked_fill(lc_rule_call *call);
lc_status lc_rule_reshape(lc_rule_call *call);
lc_status lc_rule_permute(lc_rule_call *call);
lc_status lc_rule_expand(lc_rule_call *call);
lc_status lc_rule_slice(lc_rule_call *call);

/* rules_nn.c: products, rows, transformer pieces */
lc_status lc_rule_matmul(lc_rule_call *call);
lc_status lc_rule_linear(lc_rule_call *call);
lc_status lc_rule_cholesky(lc_rule_call *call);
lc_status lc_rule_solve_triangular(lc_rule_call *call);
lc_status lc_rule_inverse(lc_rule_call *call);
lc_status lc_rule_eigh(lc_rule_call *call);
lc_status lc_rule_softmax(lc_rule_call *call);
lc_status lc_rule_layer_norm(lc_rule_call *call);
lc_status lc_rule_rms_norm(lc_rule_call *call);
lc_status lc_rule_same_op(lc_rule_call *call);
lc_status lc_rule_embedding(lc_rule_call *call);
lc_status lc_rule_rotary(lc_rule_call *call);
lc_status lc_rule_attention(lc_rule_call *call);
lc_status lc_rule_cross_entropy(lc_rule_call *call);
lc_status lc_rule_linear_cross_entropy(lc_rule_call *call);
unsigned lc_saves_linear(const lc_attr *attr, const bool *wanted);

#endif
