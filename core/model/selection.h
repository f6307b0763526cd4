/* selection.h: what model:linears(), :parameters() and :blocks() give: an ordered set of a model's parts. */
#ifndef LC_SELECTION_H
#define LC_SELECTION_H

#include "model/model.h"

typedef enum lc_part { LC_PART_LINEAR, LC_PART_PARAMETER, LC_PART_BLOCK, LC_PARTS } lc_part;

typedef struct lc_selection {
    int64_t refs;
    lc_model *model; /* retained */
    lc_part part;    /* what the items are */
    int64_t n;
    void **items; /* lc_layer *, lc_param * or lc_block *; borrowed from the model */
} lc_selection;

static inline lc_layer *lc_selected_layer(const lc_selection *s, int64_t i) {
    return (lc_layer *)s->items[i];
}
static inline lc_param *lc_selected_param(const lc_selection *s, int64_t i) {
    return (lc_param *)s->items[i];
}
static inline lc_block *lc_selected_block(const lc_selection *s, int64_t i) {
    return (lc_block *)s->items[i];
}

/* Everything of that kind: LINEAR gives those inside blocks, PARAMETER all of the model's own in file order. */
lc_status lc_select_all(lc_model *m, lc_part part, lc_selection **out);
/* Those that match `pattern`: a role or the beginning of one up to a dot ("attention", "mlp.up", "head"; for parameters
 * the role of the layer they belong to), a name, or a glob on names (* and ?). LC_ENOTFOUND when nothing matches: the
 * message lists what exists. */
lc_status lc_select_matching(lc_model *m, lc_part part, const char *pattern, lc_selection **out);
/* n borrowed items, in the model's order and without doubles; n = 0 is LC_ENOTFOUND. */
lc_status lc_select_items(lc_model *m, lc_part part, void *const *items, int64_t n, lc_selection **out);
/* In the model's order. LC_EINVAL when they are of two models or two kinds; an empty difference is LC_ENOTFOUND. */
lc_status lc_selection_union(const lc_selection *a, const lc_selection *b, lc_selection **out);
lc_status lc_selection_difference(const lc_selection *a, const lc_selection *b, lc_selection **out);
/* The parameters of what is selected: of a layer its weight and bias, of a block all inside it; parameters are
 * themselves. */
lc_status lc_selection_params(const lc_selection *s, lc_selection **out);
bool lc_selection_has(const lc_selection *s, const void *item);
lc_selection *lc_selection_retain(lc_selection *s);
void lc_selection_release(lc_selection *s);

/* The item's name: of the layer, the parameter, or the block ("transformer.h.3"). */
const char *lc_selection_name(const lc_selection *s, int64_t i);
/* Share of zeros in the selected weights (blocks and layers: weights of their linear layers, biases left out). */
lc_status lc_selection_sparsity(const lc_selection *s, double *out);
/* One line per item, into fresh memory (lc_free). */
lc_status lc_selection_text(const lc_selection *s, char **out);

#endif
