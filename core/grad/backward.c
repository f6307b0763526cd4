/* backward.c: the pass from a result back to its leaves. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/pool.h"
#include "grad/node.h"

static uint64_t passes;
static int depth; /* a recomputed function runs a pass inside a pass */

bool lc_in_backward(void) {
    return depth > 0;
}

typedef struct node_list {
    lc_node **item;
    size_t length, capacity;
} node_list;

static lc_status list_add(node_list *list, lc_node *node) {
    if (list->length == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 64;
        lc_node **grown = lc_realloc(list->item, capacity * sizeof *grown);
        if (!grown) return LC_ENOMEM;
        list->item = grown;
        list->capacity = capacity;
    }
    list->item[list->length++] = node;
    return LC_OK;
}

static int by_sequence_descending(const void *a, const void *b) {
    uint64_t x = (*(lc_node *const *)a)->sequence, y = (*(lc_node *const *)b)->sequence;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* All nodes that `root` was made by, last made first. The list doubles as the queue of the search. */
static lc_status collect(lc_node *root, node_list *list) {
    uint64_t pass = ++passes;
    root->pass = pass;
    LC_TRY(list_add(list, root));
    for (size_t i = 0; i < list->length; i++) {
        lc_node *node = list->item[i];
        for (int k = 0; k < node->n_in; k++) {
            lc_node *parent = node->in[k].node;
            if (!parent || parent->pass == pass) continue;
            parent->pass = pass;
            LC_TRY(list_add(list, parent));
        }
    }
    qsort(list->item, list->length, sizeof(lc_node *), by_sequence_descending);
    return LC_OK;
}

/* True when nobody else can see a change of this gradient. */
static bool is_private(const lc_tensor *t) {
    return t->refs == 1 && t->storage->refs == 1 && lc_is_contiguous(t) &&
           t->storage->bytes == (size_t)lc_numel(t) * lc_dtype_size(t->dtype);
}

/* Brings a gradient to the shape and type of the input it belongs to. Takes over dx. */
static lc_status fit(const lc_edge *e, lc_tensor *dx, lc_tensor **out) {
    bool fits = dx->ndim == e->ndim && memcmp(dx->shape, e->shape, sizeof *e->shape * (size_t)e->ndim) == 0;
    lc_status status = LC_OK;
    lc_tensor *summed = NULL, *cast = NULL;
    if (!fits) {
        lc_attr a = {.ndim = e->ndim};
        memcpy(a.shape, e->shape, sizeof a.shape);
        status = lc_run(LC_OP_SUM_TO, &a, &dx, 1, &summed);
        lc_tensor_release(dx);
        if (status) return status;
        dx = summed;
    }
    status = lc_cast(dx, e->dtype, &cast);
    lc_tensor_release(dx);
    if (!status) *out = cast;
    return status;
}

/* *slot += dx, taking over dx; *slot may be NULL. */
static lc_status add_into(lc_tensor **slot, lc_tensor *dx) {
    lc_status status = LC_OK;
    lc_tensor *sum = NULL, *pair[2] = {*slot, dx};
    if (!*slot) {
        *slot = dx;
        return LC_OK;
    }
    if (is_private(*slot))
        status = lc_run_into(LC_OP_ADD, NULL, pair, 2, slot);
    else if (!(status = lc_run(LC_OP_ADD, NULL, pair, 2, &sum))) {
        lc_tensor_release(*slot);
        *slot = sum;
    }
    lc_tensor_release(dx);
    return status;
}

/* A leaf's gradient is a buffer of its own, since optimizers write and Lua may keep it. */
static lc_status add_to_leaf(lc_tensor *leaf, lc_tensor *dx) {
    lc_tensor *pair[2] = {leaf->grad, dx};
    lc_status status = LC_OK;
    if (leaf->grad) {
        status = lc_run_into(LC_OP_ADD, NULL, pair, 2, &leaf->grad);
    } else if (is_private(dx)) {
        leaf->grad = dx;
        return LC_OK;
    } else {
        lc_attr a = {.dtype = dx->dtype};
        status = lc_run(LC_OP_COPY, &a, &dx, 1, &leaf->grad);
    }
    lc_tensor_release(dx);
    return status;
}

static lc_status deliver(lc_node *node, int i, lc_tensor *dx) {
    lc_edge *e = &node->in[i];
    lc_tensor *fitted = NULL;
    LC_TRY(fit(e, dx, &fitted));
    return e->leaf ? add_to_leaf(e->leaf, fitted) : add_into(&e->node->dy[e->output], fitted);
}

static lc_status check_version(const lc_node *node, const lc_saved *s) {
    if (!s->tensor || s->tensor->storage->version == s->version) return LC_OK;
    return lc_fail(
        LC_ESTATE,
        "backward: %s needs a tensor%s%s that was changed in place after it was used; change it after the backward "
        "pass, or work on a copy",
        lc_op_name(node->op), s->tensor->name ? " " : "", s->tensor->name ? s->tensor->name : "");
}

static lc_status check_node(const lc_node *node) {
    if (node->spent)
        return lc_fail(LC_ESTATE,
                       "backward: %s was passed through before and what it had saved is gone; compute the loss again",
                       lc_op_name(node->op));
    for (int i = 0; i < node->n_in; i++) LC_TRY(check_version(node, &node->in[i].input));
    for (int i = 0; i < node->n_out; i++) LC_TRY(check_version(node, &node->output[i]));
    return LC_OK;
}

/* The input as the rule reads it: what was kept, or its activation, made again. A fresh reference, or NULL. */
static lc_status saved_input(const lc_saved *s, lc_tensor **out) {
    static const lc_op again[] = {
        [LC_ACT_RELU] = LC_OP_RELU, [LC_ACT_GELU] = LC_OP_GELU, [LC_ACT_GELU_TANH] = LC_OP_GELU_TANH,
        [LC_ACT_SILU] = LC_OP_SILU, [LC_ACT_TANH] = LC_OP_TANH,
    };
    if (s->tensor && s->act) return lc_run(again[s->act], NULL, (lc_tensor *const[]){s->tensor}, 1, out);
    *out = s->tensor ? lc_tensor_retain(s->tensor) : NULL;
    return LC_OK;
}

static lc_status fill_rule_call(lc_node *node, lc_rule_call *c) {
    memset(c, 0, sizeof *c);
    c->op = node->op;
    c->attr = &node->attr;
    c->n_in = node->n_in;
    c->n_out = node->n_out;
    for (int i = 0; i < node->n_in; i++) {
        const lc_edge *e = &node->in[i];
        LC_TRY(saved_input(&e->input, &c->in[i]));
        c->ndim_in[i] = e->ndim;
        memcpy(c->shape_in[i], e->shape, sizeof e->shape);
        c->dtype_in[i] = e->dtype;
        c->present[i] = e->present;
        c->wanted[i] = lc_edge_wanted(e);
        lc_tensor *grad = e->leaf ? e->leaf->grad : NULL;
        if (grad && lc_is_contiguous(grad)) c->into[i] = grad;
    }
    for (int i = 0; i < node->n_out; i++) {
        c->out[i] = node->output[i].tensor;
        c->dy[i] = node->dy[i];
    }
    return LC_OK;
}

static lc_status call_external(lc_node *node, lc_rule_call *c) {
    LC_TRY(node->external.backward(node->external.context, c->dy, c->n_out, c->wanted, c->dx, c->n_in));
    for (int i = 0; i < c->n_in; i++) {
        lc_tensor *dx = c->dx[i];
        if (!dx || !c->wanted[i]) continue;
        if (dx->ndim != c->ndim_in[i] || memcmp(dx->shape, c->shape_in[i], sizeof(int64_t) * (size_t)dx->ndim) != 0)
            return lc_fail(LC_ESHAPE, "%s: backward gave gradient %d the shape %s; its input has %s",
                           node->external.name, i + 1, LC_SHAPE(dx), lc_shape_text(c->ndim_in[i], c->shape_in[i]));
    }
    return LC_OK;
}

static lc_status run_node(lc_node *node) {
    bool any = false;
    for (int i = 0; i < node->n_out; i++) any = any || node->dy[i];
    if (!any) return LC_OK;
    LC_TRY(check_node(node));
    lc_rule_call c;
    lc_status status = fill_rule_call(node, &c);
    if (!status) status = node->op == LC_OP_EXTERNAL ? call_external(node, &c) : lc_rule_of(node->op)->rule(&c);
    for (int i = 0; i < c.n_in; i++) lc_tensor_release(c.in[i]);
    if (status == LC_OK) lc_node_spend(node);
    for (int i = 0; i < node->n_out; i++) {
        lc_tensor_release(node->dy[i]);
        node->dy[i] = NULL;
    }
    for (int i = 0; i < node->n_in; i++) {
        if (!c.dx[i]) continue;
        if (status == LC_OK && c.wanted[i])
            status = deliver(node, i, c.dx[i]);
        else
            lc_tensor_release(c.dx[i]);
    }
    return status;
}

/* After a failed pass nothing half done stays. */
static void clean_up(const node_list *list) {
    for (size_t k = 0; k < list->length; k++) {
        lc_node *node = list->item[k];
        for (int i = 0; i < node->n_out; i++) {
            lc_tensor_release(node->dy[i]);
            node->dy[i] = NULL;
        }
        for (int i = 0; i < node->n_in; i++)
            if (node->in[i].leaf) lc_clear_grad(node->in[i].leaf);
    }
}

static lc_status make_seed(lc_tensor *root, lc_tensor *seed, lc_tensor **out) {
    if (seed) {
        if (!lc_same_shape(root, seed))
            return lc_fail(LC_ESHAPE, "backward: the gradient given has shape %s, the tensor %s", LC_SHAPE(seed),
                           LC_SHAPE(root));
        if (seed->refs == 1 && seed->storage->refs == 1) return lc_cast(seed, root->dtype, out);
        /* It may be the gradient of a leaf, which the pass adds into. */
        lc_attr a = {.dtype = root->dtype};
        return lc_run(LC_OP_COPY, &a, &seed, 1, out);
    }
    if (lc_numel(root) != 1)
        return lc_fail(LC_ESHAPE,
                       "backward: a tensor of shape %s needs a gradient of that shape; or reduce it first (x:sum())",
                       LC_SHAPE(root));
    lc_tensor *one = NULL;
    LC_TRY(lc_tensor_new(root->dtype, root->ndim, root->shape, LC_CPU, &one));
    lc_set_f64(one, 0, 1);
    *out = one;
    return LC_OK;
}

lc_status lc_backward(lc_tensor *root, lc_tensor *seed) {
    if (!root->requires_grad)
        return lc_fail(
            LC_ESTATE,
            "backward: this tensor has no gradient: nothing it was computed from asks for one, or it was computed "
            "under lc.no_grad");
    lc_tensor *dy = NULL;
    LC_TRY(make_seed(root, seed, &dy));
    if (!root->node) {
        lc_tensor *own = NULL;
        lc_attr a = {.dtype = dy->dtype};
        lc_status status = lc_run(LC_OP_COPY, &a, &dy, 1, &own);
        lc_tensor_release(dy);
        return status ? status : add_to_leaf(root, own);
    }
    lc_node *node = root->node;
    lc_node_retain(node);
    bool before = lc_set_recording(false);
    depth++;
    node_list list = {0};
    lc_status status;
    LC_GOTO(done, collect(node, &list));
    LC_GOTO(done, add_into(&node->dy[root->node_output], dy));
    dy = NULL;
    for (size_t i = 0; i < list.length; i++) {
        LC_GOTO(done, lc_poll());
        LC_GOTO(done, run_node(list.item[i]));
    }
done:
    lc_tensor_release(dy);
    if (status) clean_up(&list);
    lc_free(list.item);
    depth--;
    lc_set_recording(before);
    lc_node_release(node);
    return status;
}

lc_status lc_clear_grad(lc_tensor *t) {
    lc_tensor *leaf = t->leaf ? t->leaf : t;
    lc_tensor_release(leaf->grad);
    leaf->grad = NULL;
    return LC_OK;
}

lc_status lc_get_grad(lc_tensor *t, lc_tensor **out) {
    lc_tensor *leaf = t->leaf ? t->leaf : t;
    if (!leaf->grad)
        *out = NULL;
    else if (!t->leaf)
        *out = lc_tensor_retain(leaf->grad);
    else
        return lc_view_permute(leaf->grad, t->node->attr.order, out);
    return LC_OK;
}
