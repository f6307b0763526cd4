/* graph.c: recording, and the backward pass.
 *
 * A node keeps, for each input, the edge that its gradient goes to (another node's output, or a leaf) and, where the
 * rule reads it, the input itself with the version it had. Saved outputs are kept as bare views: they do not hold the
 * node that holds them. */
#include "grad/graph.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/pool.h"
#include "grad/rules.h"

typedef struct saved {
    lc_tensor *tensor; /* NULL when not saved */
    uint64_t version;
} saved;

typedef struct edge {
    lc_node *node; /* where the gradient goes: this node's output `output`, */
    int output;
    lc_tensor *leaf; /* or this leaf, or nowhere */
    bool present;
    lc_dtype dtype;
    int ndim;
    int64_t shape[LC_MAX_DIMS];
    saved input;
} edge;

struct lc_node {
    struct lc_node_head head;
    lc_op op;
    lc_attr attr;
    lc_external external; /* for LC_OP_EXTERNAL */
    uint64_t sequence;    /* in the order of making: a node's inputs have smaller ones */
    uint64_t pass;        /* the backward pass that has collected this node */
    bool spent;           /* what was saved is gone */
    lc_node *next_dying;
    lc_tensor *dy[LC_MAX_OUT]; /* gradients arrived in this pass */
    saved output[LC_MAX_OUT];
    int n_in, n_out;
    edge in[]; /* n_in of them */
};

static bool recording = true;
static uint64_t sequence, passes;
static int backward_depth;

bool lc_recording(void) {
    return recording;
}
bool lc_in_backward(void) {
    return backward_depth > 0;
}

bool lc_set_recording(bool on) {
    bool before = recording;
    recording = on;
    return before;
}

/* -- nodes
 * ----------------------------------------------------------------------------------------------------------------------
 */

static size_t node_bytes(int n_in) {
    return sizeof(lc_node) + sizeof(edge) * (size_t)n_in;
}

static void drop_saved(lc_node *node) {
    for (int i = 0; i < node->n_in; i++) {
        if (node->in[i].input.tensor) node->spent = true;
        lc_tensor_release(node->in[i].input.tensor);
        node->in[i].input.tensor = NULL;
    }
    for (int i = 0; i < node->n_out; i++) {
        if (node->output[i].tensor) node->spent = true;
        lc_tensor_release(node->output[i].tensor);
        node->output[i].tensor = NULL;
    }
    if (node->external.release) {
        node->external.release(node->external.context);
        node->external.release = NULL;
        node->spent = true;
    }
}

/* Releasing a node releases its inputs' nodes; a long chain of them goes through a list instead of the stack. */
static void node_release(lc_node *node) {
    static lc_node *dying;
    static bool draining;
    if (--node->head.refs > 0) return;
    node->next_dying = dying;
    dying = node;
    if (draining) return;
    draining = true;
    while (dying) {
        lc_node *n = dying;
        dying = n->next_dying;
        drop_saved(n);
        for (int i = 0; i < LC_MAX_OUT; i++) lc_tensor_release(n->dy[i]);
        for (int i = 0; i < n->n_in; i++) {
            if (n->in[i].node) node_release(n->in[i].node);
            lc_tensor_release(n->in[i].leaf);
        }
        lc_buffer_free(n, node_bytes(n->n_in));
    }
    draining = false;
}

static lc_node *node_new(lc_op op, const lc_attr *attr, int n_in, int n_out) {
    lc_node *node = lc_buffer_new(node_bytes(n_in));
    if (!node) return NULL;
    memset(node, 0, node_bytes(n_in));
    node->head = (struct lc_node_head){1, node_release};
    node->op = op;
    if (attr) node->attr = *attr;
    node->sequence = ++sequence;
    node->n_in = n_in;
    node->n_out = n_out;
    return node;
}

static void set_edge(edge *e, lc_tensor *x) {
    if (!x) return;
    e->present = true;
    e->dtype = x->dtype;
    e->ndim = x->ndim;
    memcpy(e->shape, x->shape, sizeof x->shape[0] * (size_t)x->ndim);
    if (!x->requires_grad) return;
    if (x->node) {
        e->node = x->node;
        ((struct lc_node_head *)x->node)->refs++;
        e->output = x->node_output;
    } else {
        e->leaf = lc_tensor_retain(x);
    }
}

/* A leaf that stopped asking since (t:skip before the backward pass) gets no gradient, and nobody computes one. */
static bool is_wanted(const edge *e) {
    return e->node || (e->leaf && e->leaf->requires_grad);
}

static void set_saved(saved *s, lc_tensor *t) {
    *s = (saved){t, t->storage->version};
}

/* Hangs an output on the node. Only floating outputs carry gradients. */
static void attach(lc_node *node, lc_tensor *out, int output) {
    if (!out || !lc_dtype_is_float(out->dtype)) return;
    out->node = node;
    out->node_output = output;
    out->requires_grad = true;
    node->head.refs++;
}

static bool must_record(lc_tensor *const *in, int n_in) {
    if (!recording) return false;
    for (int i = 0; i < n_in; i++)
        if (in[i] && in[i]->requires_grad) return true;
    return false;
}

/* Records an op that has run. On failure the outputs are left to the caller. */
static lc_status record(lc_op op, const lc_attr *attr, lc_tensor *const *in, int n_in, lc_tensor **out, int n_out) {
    const lc_rule_row *row = lc_rule_of(op);
    if (!row->rule) return LC_OK;
    lc_node *node = node_new(op, attr, n_in, n_out);
    if (!node) return LC_ENOMEM;
    bool wanted[LC_MAX_IN];
    for (int i = 0; i < n_in; i++) {
        set_edge(&node->in[i], in[i]);
        wanted[i] = is_wanted(&node->in[i]);
    }
    unsigned saves = row->saves_for ? row->saves_for(&node->attr, wanted) : row->saves;
    for (int i = 0; i < n_in; i++)
        if (in[i] && saves & LC_SAVE_IN(i)) set_saved(&node->in[i].input, lc_tensor_retain(in[i]));
    lc_status status = LC_OK;
    for (int i = 0; i < n_out; i++) {
        if (!out[i] || !(saves & LC_SAVE_OUT(i))) continue;
        lc_tensor *bare = NULL;
        LC_GOTO(done, lc_view_alias(out[i], &bare));
        set_saved(&node->output[i], bare);
    }
    /* Further outputs (orders, statistics, what went into an activation) are constants to the graph. */
    attach(node, out[0], 0);
done:
    node_release(node);
    return status;
}

/* -- applying
 * -------------------------------------------------------------------------------------------------------------------
 */

lc_status lc_apply(lc_op op, const lc_attr *attr, lc_tensor *const *in, int n_in, lc_tensor **out) {
    lc_tensor *made[LC_MAX_OUT] = {0};
    LC_TRY(lc_run(op, attr, in, n_in, made));
    int n_out = lc_op_outputs(op);
    lc_status status = must_record(in, n_in) ? record(op, attr, in, n_in, made, n_out) : LC_OK;
    if (status) {
        for (int i = 0; i < n_out; i++) lc_tensor_release(made[i]);
        return status;
    }
    for (int i = 0; i < n_out; i++) out[i] = made[i];
    return LC_OK;
}

/* Was `t` computed by more than looking at a leaf differently? */
static bool was_computed(const lc_tensor *t) {
    const lc_node *node = t->node;
    while (node && node->op >= LC_OP_RESHAPE && node->op <= LC_OP_SLICE) {
        if (!node->in[0].node) return false;
        node = node->in[0].node;
    }
    return node != NULL;
}

lc_status lc_apply_into(lc_op op, const lc_attr *attr, lc_tensor *const *in, int n_in, lc_tensor *const *into) {
    for (int k = 0; recording && k < lc_op_outputs(op); k++) {
        if (!into[k]) continue;
        if (was_computed(into[k]))
            return lc_fail(
                LC_ESTATE,
                "%s in place: this tensor was computed with gradients, which the write would make wrong; make a "
                "new tensor (x + y), or use x:detach() or lc.no_grad",
                lc_op_name(op));
        for (int i = 0; i < n_in; i++)
            if (in[i] && in[i]->requires_grad && in[i]->storage != into[k]->storage)
                return lc_fail(
                    LC_ESTATE,
                    "%s in place: operand %d has a gradient that would be lost; use y:detach() or lc.no_grad",
                    lc_op_name(op), i + 1);
    }
    lc_cancel_hold();
    lc_status status = lc_run_into(op, attr, in, n_in, into);
    lc_cancel_release();
    return status;
}

lc_status lc_require_grad(lc_tensor *leaf, bool on) {
    if (on && !lc_dtype_is_float(leaf->dtype))
        return lc_fail(LC_EDTYPE, "a gradient needs a floating-point tensor, not %s; cast with x:to('f32')",
                       lc_dtype_name(leaf->dtype));
    if (leaf->node) return lc_fail(LC_ESTATE, "a computed tensor cannot be made a leaf; x:detach() gives one that can");
    leaf->requires_grad = on;
    return LC_OK;
}

lc_status lc_detach(lc_tensor *x, lc_tensor **out) {
    return lc_view_alias(x, out);
}

/* -- the backward pass
 * ------------------------------------------------------------------------------------------------------------ */

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
static lc_status fit(const edge *e, lc_tensor *dx, lc_tensor **out) {
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
    edge *e = &node->in[i];
    lc_tensor *fitted = NULL;
    LC_TRY(fit(e, dx, &fitted));
    return e->leaf ? add_to_leaf(e->leaf, fitted) : add_into(&e->node->dy[e->output], fitted);
}

static lc_status check_version(const lc_node *node, const saved *s) {
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

static void fill_rule_call(lc_node *node, lc_rule_call *c) {
    memset(c, 0, sizeof *c);
    c->op = node->op;
    c->attr = &node->attr;
    c->n_in = node->n_in;
    c->n_out = node->n_out;
    for (int i = 0; i < node->n_in; i++) {
        const edge *e = &node->in[i];
        c->in[i] = e->input.tensor;
        c->ndim_in[i] = e->ndim;
        memcpy(c->shape_in[i], e->shape, sizeof e->shape);
        c->dtype_in[i] = e->dtype;
        c->present[i] = e->present;
        c->wanted[i] = is_wanted(e);
        lc_tensor *grad = e->leaf ? e->leaf->grad : NULL;
        if (grad && lc_is_contiguous(grad)) c->into[i] = grad;
    }
    for (int i = 0; i < node->n_out; i++) {
        c->out[i] = node->output[i].tensor;
        c->dy[i] = node->dy[i];
    }
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
    fill_rule_call(node, &c);
    lc_status status = node->op == LC_OP_EXTERNAL ? call_external(node, &c) : lc_rule_of(node->op)->rule(&c);
    if (status == LC_OK) drop_saved(node);
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
        return lc_cast(seed, root->dtype, out);
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
    ((struct lc_node_head *)node)->refs++;
    bool before = lc_set_recording(false);
    backward_depth++;
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
    backward_depth--;
    lc_set_recording(before);
    node_release(node);
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

/* -- recording views and externals
 * -------------------------------------------------------------------------------------------------- */

/* Records a view that has been made; releases it on failure. */
static lc_status record_view(lc_op op, const lc_attr *attr, lc_tensor *x, lc_tensor *view, lc_tensor **out) {
    lc_status status = must_record(&x, 1) ? record(op, attr, &x, 1, &view, 1) : LC_OK;
    if (status)
        lc_tensor_release(view);
    else
        *out = view;
    return status;
}

lc_status lc_reshape(lc_tensor *x, int ndim, const int64_t *shape, lc_tensor **out) {
    lc_tensor *view = NULL, *dense = NULL;
    lc_status status = lc_view_reshape(x, ndim, shape, &view);
    if (status == LC_ESHAPE && !lc_is_contiguous(x)) {
        lc_attr copy = {.dtype = x->dtype};
        LC_TRY(lc_apply(LC_OP_COPY, &copy, &x, 1, &dense));
        status = lc_reshape(dense, ndim, shape, out);
        lc_tensor_release(dense);
        return status;
    }
    if (status) return status;
    return record_view(LC_OP_RESHAPE, NULL, x, view, out);
}

lc_status lc_permute(lc_tensor *x, const int *order, lc_tensor **out) {
    lc_attr a = {.ndim = x->ndim};
    memcpy(a.order, order, sizeof *order * (size_t)x->ndim);
    lc_tensor *view = NULL;
    LC_TRY(lc_view_permute(x, order, &view));
    return record_view(LC_OP_PERMUTE, &a, x, view, out);
}

lc_status lc_transpose(lc_tensor *x, int a, int b, lc_tensor **out) {
    int order[LC_MAX_DIMS];
    for (int i = 0; i < x->ndim; i++) order[i] = i;
    if (a < 0 || b < 0 || a >= x->ndim || b >= x->ndim)
        return lc_fail(LC_ESHAPE, "transpose: %s has no dimensions %d and %d", LC_SHAPE(x), a + 1, b + 1);
    order[a] = b;
    order[b] = a;
    return lc_permute(x, order, out);
}

lc_status lc_expand(lc_tensor *x, int ndim, const int64_t *shape, lc_tensor **out) {
    lc_tensor *view = NULL;
    LC_TRY(lc_view_expand(x, ndim, shape, &view));
    return record_view(LC_OP_EXPAND, NULL, x, view, out);
}

lc_status lc_slice(lc_tensor *x, int dim, int64_t start, int64_t length, int64_t step, lc_tensor **out) {
    lc_attr a = {.dim = dim, .start = start, .length = length, .step = step};
    lc_tensor *view = NULL;
    LC_TRY(lc_view_slice(x, dim, start, length, step, &view));
    return record_view(LC_OP_SLICE, &a, x, view, out);
}

lc_status lc_select(lc_tensor *x, int dim, int64_t index, lc_tensor **out) {
    lc_tensor *row = NULL;
    LC_TRY(lc_slice(x, dim, index, 1, 1, &row));
    int64_t shape[LC_MAX_DIMS];
    for (int i = 0; i < x->ndim - 1; i++) shape[i] = x->shape[i < dim ? i : i + 1];
    lc_status status = lc_reshape(row, x->ndim - 1, shape, out);
    lc_tensor_release(row);
    return status;
}

lc_status lc_leaf_alias(lc_tensor *leaf, const int *order, lc_tensor **out) {
    lc_tensor *alias = NULL;
    lc_attr a = {.ndim = leaf->ndim};
    memcpy(a.order, order, sizeof *order * (size_t)leaf->ndim);
    LC_TRY(lc_view_permute(leaf, order, &alias));
    lc_status status = record(LC_OP_PERMUTE, &a, &leaf, 1, &alias, 1);
    if (status) {
        lc_tensor_release(alias);
        return status;
    }
    alias->leaf = lc_tensor_retain(leaf);
    *out = alias;
    return LC_OK;
}

/* Runs the function. What it gives is handed on as bare views: the function may have kept the tensors themselves. */
static lc_status run_external(const lc_external *e, lc_tensor *const *in, int n_in, lc_tensor **out, int *n_out) {
    lc_tensor *given[LC_MAX_OUT] = {0};
    int n = 0;
    bool before = lc_set_recording(false);
    lc_status status = e->forward(e->context, in, n_in, given, &n);
    lc_set_recording(before);
    int made = 0;
    while (!status && made < n && !(status = lc_view_alias(given[made], &out[made]))) made++;
    for (int i = 0; i < n; i++) lc_tensor_release(given[i]);
    for (int i = 0; status && i < made; i++) lc_tensor_release(out[i]);
    *n_out = n;
    return status;
}

lc_status lc_apply_external(const lc_external *external, lc_tensor *const *in, int n_in, lc_tensor **out, int *n_out) {
    lc_tensor *made[LC_MAX_OUT] = {0};
    int n = 0;
    lc_status status = n_in > LC_MAX_IN
                           ? lc_fail(LC_EINVAL, "%s: at most %d tensors can be given", external->name, LC_MAX_IN)
                           : run_external(external, in, n_in, made, &n);
    bool recorded = !status && external->backward && must_record(in, n_in);
    if (recorded) {
        lc_node *node = node_new(LC_OP_EXTERNAL, NULL, n_in, n);
        if (node) {
            node->external = *external;
            for (int i = 0; i < n_in; i++) set_edge(&node->in[i], in[i]);
            for (int i = 0; i < n; i++) attach(node, made[i], i);
            node_release(node);
        } else {
            status = LC_ENOMEM;
            for (int i = 0; i < n; i++) lc_tensor_release(made[i]);
            recorded = false;
        }
    }
    if (!recorded && external->release) external->release(external->context);
    if (status) return status;
    for (int i = 0; i < n; i++) out[i] = made[i];
    *n_out = n;
    return LC_OK;
}

/* -- short forms
 * ------------------------------------------------------------------------------------------------------------------------
 */

lc_status lc_unary(lc_op op, lc_tensor *x, lc_tensor **out) {
    return lc_apply(op, NULL, &x, 1, out);
}

lc_status lc_binary(lc_op op, lc_tensor *a, lc_tensor *b, lc_tensor **out) {
    lc_tensor *in[2] = {a, b};
    return lc_apply(op, NULL, in, 2, out);
}

lc_status lc_reduce(lc_op op, lc_tensor *x, int dim, bool keepdim, lc_tensor **out) {
    lc_attr a = {.dim = dim, .keepdim = keepdim};
    return lc_apply(op, &a, &x, 1, out);
}

lc_status lc_matmul(lc_tensor *a, lc_tensor *b, lc_tensor **out) {
    return lc_binary(LC_OP_MATMUL, a, b, out);
}

lc_status lc_linear(lc_tensor *x, lc_tensor *w, lc_tensor *b, lc_activation act, lc_tensor **out) {
    lc_attr a = {.act = act};
    lc_tensor *in[3] = {x, w, b}, *made[2] = {0};
    LC_TRY(lc_apply(LC_OP_LINEAR, &a, in, 3, made));
    lc_tensor_release(made[1]);
    *out = made[0];
    return LC_OK;
}

lc_status lc_to(lc_tensor *x, lc_dtype dtype, lc_tensor **out) {
    if (x->dtype == dtype) {
        *out = lc_tensor_retain(x);
        return LC_OK;
    }
    lc_attr a = {.dtype = dtype};
    return lc_apply(LC_OP_COPY, &a, &x, 1, out);
}
