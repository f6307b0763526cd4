/* recompute.c: gradient checkpointing (Chen et al. 2016, "Training deep nets with sublinear memory cost"). A block
 * keeps its input only; the backward pass runs it again, recorded, and goes through that.
 *
 * Dropout draws the same numbers, since its streams are a function of the pass. Methods see the state that they saw the
 * first time, and what their second forward pass writes is dropped; what they write in the backward pass stays. */
#include "base/memory.h"
#include "grad/graph.h"
#include "model/family.h"

/* A method's kept tensors as they were when the block first ran. */
typedef struct remembered {
    lc_installed *method; /* retained */
    int n;
    lc_tensor **state;
} remembered;

typedef struct again {
    lc_model *model; /* retained, as are the pass's tensors */
    const lc_block *block;
    lc_pass pass;
    lc_tensor *x;
    int n_methods;
    remembered *methods;
} again;

static void again_release(void *context) {
    again *a = context;
    for (int i = 0; i < a->n_methods; i++) {
        for (int k = 0; k < a->methods[i].n; k++) lc_tensor_release(a->methods[i].state[k]);
        lc_free(a->methods[i].state);
        lc_installed_release(a->methods[i].method);
    }
    lc_free(a->methods);
    lc_tensor_release(a->x);
    lc_pass_close(&a->pass);
    lc_model_release(a->model);
    lc_free(a);
}

static lc_status copy_state(remembered *r) {
    r->state = lc_calloc((size_t)r->method->n_state, sizeof *r->state);
    if (!r->state) return LC_ENOMEM;
    r->n = r->method->n_state;
    for (int k = 0; k < r->n; k++) {
        lc_tensor *now = r->method->state[k].tensor;
        if (now) LC_TRY(lc_run(LC_OP_COPY, &(lc_attr){.dtype = now->dtype}, &now, 1, &r->state[k]));
    }
    return LC_OK;
}

static lc_status remember_method(void *context, lc_installed *method) {
    again *a = context;
    if (method->layer->block != a->block->index || !method->n_state) return LC_OK;
    remembered *grown = lc_realloc(a->methods, (size_t)(a->n_methods + 1) * sizeof *grown);
    if (!grown) return LC_ENOMEM;
    a->methods = grown;
    grown[a->n_methods] = (remembered){.method = lc_installed_retain(method)};
    return copy_state(&grown[a->n_methods++]);
}

/* Exchanges the methods' present state with the one remembered. */
static void swap_state(again *a) {
    for (int i = 0; i < a->n_methods; i++) {
        remembered *r = &a->methods[i];
        for (int k = 0; k < r->n; k++) {
            lc_tensor *now = r->method->state[k].tensor;
            r->method->state[k].tensor = r->state[k];
            r->state[k] = now;
        }
    }
}

static lc_status again_forward(void *context, lc_tensor *const *in, int n_in, lc_tensor **out, int *n_out) {
    again *a = context;
    (void)n_in;
    LC_TRY(lc_model_each_installed(a->model, remember_method, a));
    LC_TRY(lc_block_forward(a->block, &a->pass, in[0], &out[0]));
    *n_out = 1;
    return LC_OK;
}

static lc_status again_backward(void *context, lc_tensor *const *dy, int n_out, const bool *wanted, lc_tensor **dx,
                                int n_in) {
    again *a = context;
    (void)n_out, (void)n_in;
    lc_tensor *x = NULL, *y = NULL;
    lc_status status;
    LC_GOTO(done, lc_detach(a->x, &x));
    LC_GOTO(done, lc_require_grad(x, wanted[0]));
    bool before = lc_set_recording(true);
    swap_state(a);
    status = lc_block_forward(a->block, &a->pass, x, &y);
    swap_state(a);
    lc_set_recording(before);
    if (status) goto done;
    LC_GOTO(done, lc_backward(y, dy[0]));
    if (wanted[0]) LC_GOTO(done, lc_get_grad(x, &dx[0]));
done:
    lc_tensor_release(x);
    lc_tensor_release(y);
    return status;
}

/* A trained tensor of the block: recording needs an input that wants a gradient even where x does not. */
static lc_tensor *trained_leaf(const lc_model *m, int block) {
    for (int64_t i = 0; i < m->n_params; i++)
        if (m->params[i]->block == block && m->params[i]->leaf->requires_grad) return m->params[i]->leaf;
    return NULL;
}

lc_status lc_block_recomputed(lc_model *m, const lc_block *block, const lc_pass *pass, lc_tensor *x, lc_tensor **y) {
    lc_tensor *in[] = {x, trained_leaf(m, block->index)}, *out[LC_MAX_OUT] = {NULL};
    if (!x->requires_grad && !in[1]) return lc_block_forward(block, pass, x, y);
    again *a = lc_calloc(1, sizeof *a);
    if (!a) return LC_ENOMEM;
    a->model = lc_model_retain(m);
    a->block = block;
    a->pass = *pass;
    lc_tensor *const kept[] = {pass->ids, pass->positions, pass->token_types, pass->keep, pass->inv_freq};
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (kept[i]) lc_tensor_retain(kept[i]);
    lc_status status = lc_view_alias(x, &a->x);
    if (status) {
        again_release(a);
        return status;
    }
    lc_external external = {a, again_forward, again_backward, again_release, "block"};
    int n_out = 0;
    LC_TRY(lc_apply_external(&external, in, 2, out, &n_out));
    *y = out[0];
    return LC_OK;
}
