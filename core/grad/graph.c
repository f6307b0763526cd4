/* graph.c: recording: nodes, and applying ops. The backward pass is in backward.c, views and functions in forms.c. */
#include <string.h>

#include "base/memory.h"
#include "base/pool.h"
#include "grad/node.h"

static bool recording = true;
static uint64_t sequence;

bool lc_recording(void) {
    return recording;
}
bool lc_set_recording(bool on) {
    bool before = recording;
    recording = on;
    return before;
}

/* -- nodes ------------------------------------------------------------------------------------- */

static size_t node_bytes(int n_in) {
    return sizeof(lc_node) + sizeof(lc_edge) * (size_t)n_in;
}

void lc_node_spend(lc_node *node) {
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
void lc_node_release(lc_node *node) {
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
        lc_node_spend(n);
        for (int i = 0; i < LC_MAX_OUT; i++) lc_tensor_release(n->dy[i]);
        for (int i = 0; i < n->n_in; i++) {
            if (n->in[i].node) lc_node_release(n->in[i].node);
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
    node->head = (struct lc_node_head){1, lc_node_release};
    node->op = op;
    if (attr) node->attr = *attr;
    node->sequence = ++sequence;
    node->n_in = n_in;
    node->n_out = n_out;
    return node;
}

static void set_edge(lc_edge *e, lc_tensor *x) {
    if (!x) return;
    e->present = true;
    e->dtype = x->dtype;
    e->ndim = x->ndim;
    memcpy(e->shape, x->shape, sizeof x->shape[0] * (size_t)x->ndim);
    if (!x->requires_grad) return;
    if (x->node) {
        e->node = lc_node_retain(x->node);
        e->output = x->node_output;
    } else {
        e->leaf = lc_tensor_retain(x);
    }
}

static void set_saved(lc_saved *s, lc_tensor *t) {
    *s = (lc_saved){t, t->storage->version, LC_ACT_NONE};
}

/* What a product keeps of its input. An input that a linear layer's activation made (an MLP's inner width, the widest there is) is
 * made again from what went into the activation, which that layer keeps anyway: one cheap pass instead of a buffer. Not where
 * it was changed in place since. */
static void save_input(lc_op op, lc_saved *s, lc_tensor *x) {
    lc_node *maker = x->node;
    bool as_made = maker && x->storage->version == maker->output[0].version;
    if (op == LC_OP_LINEAR && as_made && maker->op == LC_OP_LINEAR && maker->output[1].tensor) {
        set_saved(s, lc_tensor_retain(maker->output[1].tensor));
        s->act = maker->attr.act;
    } else {
        set_saved(s, lc_tensor_retain(x));
    }
}

lc_node *lc_node_retain(lc_node *node) {
    node->head.refs++;
    return node;
}

/* Hangs an output on the node. Only floating outputs carry gradients. */
static void attach(lc_node *node, lc_tensor *out, int output) {
    if (!out || !lc_dtype_is_float(out->dtype)) return;
    out->node = node;
    out->node_output = output;
    out->requires_grad = true;
    node->head.refs++;
}

bool lc_must_record(lc_tensor *const *in, int n_in) {
    if (!recording) return false;
    for (int i = 0; i < n_in; i++)
        if (in[i] && in[i]->requires_grad) return true;
    return false;
}

/* Records an op that has run. On failure the outputs are left to the caller. */
lc_status lc_record(lc_op op, const lc_attr *attr, lc_tensor *const *in, int n_in, lc_tensor **out, int n_out) {
    const lc_rule_row *row = lc_rule_of(op);
    if (!row->rule) return LC_OK;
    lc_node *node = node_new(op, attr, n_in, n_out);
    if (!node) return LC_ENOMEM;
    bool wanted[LC_MAX_IN];
    for (int i = 0; i < n_in; i++) {
        set_edge(&node->in[i], in[i]);
        wanted[i] = lc_edge_wanted(&node->in[i]);
    }
    unsigned saves = row->saves_for ? row->saves_for(&node->attr, wanted) : row->saves;
    for (int i = 0; i < n_in; i++)
        if (in[i] && saves & LC_SAVE_IN(i)) save_input(op, &node->in[i].input, in[i]);
    lc_status status = LC_OK;
    for (int i = 0; i < n_out; i++) {
        if (!out[i]) continue;
        node->output[i].version = out[i]->storage->version;
        if (!(saves & LC_SAVE_OUT(i))) continue;
        lc_tensor *bare = NULL;
        LC_GOTO(done, lc_view_alias(out[i], &bare));
        set_saved(&node->output[i], bare);
    }
    for (int i = 0; i < lc_max(1, row->outputs); i++) attach(node, out[i], i);
done:
    lc_node_release(node);
    return status;
}

lc_status lc_record_external(const lc_external *external, lc_tensor *const *in, int n_in, lc_tensor **out, int n_out) {
    lc_node *node = node_new(LC_OP_EXTERNAL, NULL, n_in, n_out);
    if (!node) return LC_ENOMEM;
    node->external = *external;
    for (int i = 0; i < n_in; i++) set_edge(&node->in[i], in[i]);
    for (int i = 0; i < n_out; i++) attach(node, out[i], i);
    lc_node_release(node);
    return LC_OK;
}

/* -- applying ---------------------------------------------------------------------------------- */

void lc_skip_backward(lc_op op, uint64_t forward) {
    if (!recording) return;
    if (op == LC_OP_LINEAR) lc_macs_skip(2 * forward);
    if (op == LC_OP_ATTENTION) lc_macs_skip(5 * forward / 2);
}

lc_status lc_apply(lc_op op, const lc_attr *attr, lc_tensor *const *in, int n_in, lc_tensor **out) {
    lc_tensor *made[LC_MAX_OUT] = {0};
    uint64_t before = lc_macs();
    LC_TRY(lc_run(op, attr, in, n_in, made));
    int n_out = lc_op_outputs(op);
    lc_status status = LC_OK;
    if (lc_must_record(in, n_in))
        status = lc_record(op, attr, in, n_in, made, n_out);
    else
        lc_skip_backward(op, lc_macs() - before);
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
