/* attention.c: see attention.h. */
#include "model/attention.h"

#include "base/memory.h"
#include "grad/graph.h"

lc_status lc_fused_parts(const lc_attention *a, lc_tensor *qkv, lc_tensor *parts[3]) {
    int64_t count[] = {a->heads, a->kv_heads, a->kv_heads}, offset = qkv->offset, row = a->head_size * qkv->strides[2];
    int64_t strides[] = {qkv->strides[0], qkv->strides[1], a->interleaved ? 3 * row : row, qkv->strides[2]};
    for (int i = 0; i < 3; i++) {
        int64_t shape[] = {qkv->shape[0], qkv->shape[1], count[i], a->head_size};
        lc_status status = lc_view_strided(qkv, 4, shape, strides, offset, &parts[i]);
        if (status) {
            while (i) {
                lc_tensor_release(parts[--i]);
                parts[i] = NULL;
            }
            return status;
        }
        offset += a->interleaved ? row : count[i] * row;
    }
    return LC_OK;
}

/* What the backward pass needs. */
typedef struct fused {
    lc_attention heads; /* a copy: its layers are not used */
    lc_attr attr, turn; /* of attention, of rotary */
    lc_tensor *keep, *positions, *inv_freq, *parts[3], *y, *lse;
    uint64_t version; /* of the q, k, v buffer */
} fused;

static void forget(fused *f) {
    for (int i = 0; i < 3; i++) {
        lc_tensor_release(f->parts[i]);
        f->parts[i] = NULL;
    }
    lc_tensor_release(f->y);
    lc_tensor_release(f->lse);
    f->y = f->lse = NULL;
}

static void fused_release(void *context) {
    fused *f = context;
    forget(f);
    lc_tensor_release(f->keep);
    lc_tensor_release(f->positions);
    lc_tensor_release(f->inv_freq);
    lc_free(f);
}

/* q or k, turned: out of place, since the buffer may be what an installed product keeps for its backward pass. */
static lc_status turn_part(const fused *f, lc_tensor **part) {
    lc_tensor *in[] = {*part, f->positions, f->inv_freq}, *turned = NULL;
    LC_TRY(lc_run(LC_OP_ROTARY, &f->turn, in, 3, &turned));
    lc_tensor_release(*part);
    *part = turned;
    return LC_OK;
}

/* The gradient of q or k, turned back where it lies. */
static lc_status turn_back(const fused *f, lc_tensor *gradient) {
    lc_attr back = f->turn;
    back.transpose = true;
    return lc_run_into(LC_OP_ROTARY, &back, (lc_tensor *[]){gradient, f->positions, f->inv_freq}, 3, &gradient);
}

static lc_status fused_forward(void *context, lc_tensor *const *in, int n_in, lc_tensor **out, int *n_out) {
    fused *f = context;
    (void)n_in;
    lc_tensor *result[LC_MAX_OUT] = {NULL};
    LC_TRY(lc_fused_parts(&f->heads, in[0], f->parts));
    for (int i = 0; i < 2 && f->inv_freq; i++) LC_TRY(turn_part(f, &f->parts[i]));
    lc_tensor *inputs[] = {f->parts[0], f->parts[1], f->parts[2], f->keep};
    LC_TRY(lc_run(LC_OP_ATTENTION, &f->attr, inputs, 4, result));
    f->y = result[0]; /* the graph hands on a view of it, so no cycle comes of keeping it */
    f->lse = result[1];
    f->version = in[0]->storage->version;
    out[0] = lc_tensor_retain(f->y);
    *n_out = 1;
    return LC_OK;
}

static lc_status fused_backward(void *context, lc_tensor *const *dy, int n_out, const bool *wanted, lc_tensor **dx,
                                int n_in) {
    fused *f = context;
    (void)n_out, (void)wanted, (void)n_in;
    lc_tensor *q = f->parts[0], *v = f->parts[2], *dqkv = NULL, *grads[3] = {NULL};
    if (f->version != v->storage->version)
        return lc_fail(LC_ESTATE,
                       "attention: its queries, keys and values were changed in place since the forward pass");
    int64_t width = (f->heads.heads + 2 * f->heads.kv_heads) * f->heads.head_size;
    int64_t shape[] = {q->shape[0], q->shape[1], width};
    lc_status status;
    LC_GOTO(done, lc_tensor_new(q->dtype, 3, shape, q->storage->device, &dqkv));
    LC_GOTO(done, lc_fused_parts(&f->heads, dqkv, grads));
    lc_tensor *in[] = {q, f->parts[1], v, f->keep, f->y, f->lse, dy[0]};
    LC_GOTO(done, lc_run_into(LC_OP_ATTENTION_BACKWARD, &f->attr, in, 7, grads));
    for (int i = 0; i < 2 && f->inv_freq; i++) LC_GOTO(done, turn_back(f, grads[i]));
    dx[0] = lc_tensor_retain(dqkv);
    forget(f);
done:
    for (int i = 0; i < 3; i++) lc_tensor_release(grads[i]);
    lc_tensor_release(dqkv);
    return status;
}

static lc_tensor *retain(lc_tensor *t) {
    return t ? lc_tensor_retain(t) : NULL;
}

lc_status lc_fused_attention(const lc_attention *a, const lc_pass *pass, const lc_attr *attr, lc_tensor *qkv,
                             lc_tensor **y) {
    fused *f = lc_calloc(1, sizeof *f);
    if (!f) return LC_ENOMEM;
    f->heads = *a;
    f->attr = *attr;
    f->turn = (lc_attr){.a = pass->rotary_scale};
    f->keep = retain(pass->keep);
    f->positions = retain(pass->positions);
    f->inv_freq = retain(pass->inv_freq);
    lc_external external = {f, fused_forward, fused_backward, fused_release, "attention"};
    int n_out = 0;
    lc_tensor *out[LC_MAX_OUT] = {NULL};
    uint64_t before = lc_macs();
    LC_TRY(lc_apply_external(&external, &qkv, 1, out, &n_out));
    if (!qkv->requires_grad) lc_skip_backward(LC_OP_ATTENTION, lc_macs() - before);
    *y = out[0];
    return LC_OK;
}
