/* param.c: parameters and the masks that hold them. */
#include "model/param.h"

#include <string.h>

#include "base/memory.h"
#include "base/pool.h"
#include "grad/graph.h"

lc_status lc_param_init(lc_param *p, const char *name, lc_tensor *leaf, bool transposed) {
    lc_param fresh = {.role = "", .block = -1, .decays = leaf->ndim >= 2};
    fresh.name = lc_strdup(name);
    if (!fresh.name) return LC_ENOMEM;
    fresh.leaf = lc_tensor_retain(leaf);
    lc_status status;
    LC_GOTO(failed, lc_tensor_set_name(leaf, name));
    LC_GOTO(failed, lc_require_grad(leaf, true));
    if (transposed) {
        LC_GOTO(failed, lc_leaf_alias(leaf, (int[]){1, 0}, &fresh.file));
        LC_GOTO(failed, lc_tensor_set_name(fresh.file, name));
    } else {
        fresh.file = lc_tensor_retain(leaf);
    }
    *p = fresh;
    return LC_OK;
failed:
    lc_param_close(&fresh);
    return status;
}

void lc_param_close(lc_param *p) {
    lc_free(p->name);
    lc_tensor_release(p->file);
    lc_tensor_release(p->leaf);
    lc_param_lift(p);
    memset(p, 0, sizeof *p);
}

lc_status lc_param_freeze(lc_param *p, bool frozen) {
    LC_TRY(lc_require_grad(p->leaf, !frozen));
    p->file->requires_grad = !frozen;
    p->frozen = frozen;
    return frozen ? lc_clear_grad(p->leaf) : LC_OK;
}

/* What the weights pruned by `keep` are now, and for those that the old mask pruned already, were before: 0 where kept.
 */
static lc_status remember_pruned(const lc_param *p, const lc_bits *keep, lc_tensor **out) {
    lc_tensor *before = NULL, *bools = NULL;
    lc_status status;
    LC_GOTO(done, lc_param_before(p, &before));
    LC_GOTO(done, lc_bits_unpack(keep, &bools));
    status = lc_run(LC_OP_MASKED_FILL, NULL, (lc_tensor *[]){before, bools}, 2, out);
done:
    lc_tensor_release(before);
    lc_tensor_release(bools);
    return status;
}

lc_status lc_param_before(const lc_param *p, lc_tensor **out) {
    if (!p->held || !p->held_values) {
        *out = lc_tensor_retain(p->leaf);
        return LC_OK;
    }
    lc_tensor *bools = NULL;
    LC_TRY(lc_bits_unpack(p->held, &bools));
    lc_status status = lc_run(LC_OP_WHERE, NULL, (lc_tensor *[]){bools, p->leaf, p->held_values}, 3, out);
    lc_tensor_release(bools);
    return status;
}

static lc_status zero(lc_param *p, const lc_bits *keep) {
    lc_cancel_hold();
    lc_status status = lc_run(LC_OP_ZERO_PRUNED, NULL, (lc_tensor *[]){p->leaf, keep->bytes}, 2, NULL);
    lc_cancel_release();
    return status;
}

lc_status lc_hold_prepare(lc_param *p, lc_bits *keep, bool keep_values, lc_hold *out) {
    if (!lc_bits_has_shape(keep, p->leaf->ndim, p->leaf->shape))
        return lc_fail(LC_ESHAPE, "%s: the mask is %s, the weight %s", p->name, LC_SHAPE(keep), LC_SHAPE(p->leaf));
    lc_hold h = {.param = p};
    if (keep_values)
        LC_TRY(remember_pruned(p, keep, &h.values));
    else if (p->held_values && lc_bits_equal(p->held, keep))
        h.values = lc_tensor_retain(p->held_values); /* nothing changes */
    h.keep = lc_bits_retain(keep);
    *out = h;
    return LC_OK;
}

lc_status lc_hold_zero(lc_hold *h) {
    return zero(h->param, h->keep);
}

lc_status lc_hold_commit(lc_hold *h) {
    lc_param *p = h->param;
    LC_TRY(zero(p, h->keep));
    lc_param_lift(p);
    p->held = lc_bits_retain(h->keep);
    p->held_values = h->values ? lc_tensor_retain(h->values) : NULL;
    lc_param_enforced(p);
    return LC_OK;
}

void lc_hold_drop(lc_hold *h) {
    lc_bits_release(h->keep);
    lc_tensor_release(h->values);
    *h = (lc_hold){0};
}

lc_status lc_param_hold(lc_param *p, lc_bits *keep, bool keep_values) {
    lc_hold h = {0};
    LC_TRY(lc_hold_prepare(p, keep, keep_values, &h));
    lc_status status = lc_hold_commit(&h);
    lc_hold_drop(&h);
    return status;
}

lc_status lc_param_hold_bools(lc_param *p, lc_tensor *keep, bool keep_values) {
    lc_bits *bits = NULL;
    lc_status status = lc_bits_pack(keep, &bits);
    if (status) return lc_fail_within(status, "%s", p->name);
    status = lc_param_hold(p, bits, keep_values);
    lc_bits_release(bits);
    return status;
}

void lc_param_lift(lc_param *p) {
    lc_bits_release(p->held);
    lc_tensor_release(p->held_values);
    p->held = NULL;
    p->held_values = NULL;
}

lc_status lc_param_enforce(lc_param *p) {
    if (!p->held || p->held_version == p->leaf->storage->version) return LC_OK;
    LC_TRY(zero(p, p->held));
    lc_param_enforced(p);
    return LC_OK;
}

void lc_param_enforced(lc_param *p) {
    p->held_version = p->leaf->storage->version;
}

lc_status lc_param_zeros(const lc_param *p, int64_t *zeros) {
    lc_tensor *zero = NULL, *is_zero = NULL, *sum = NULL;
    lc_status status;
    LC_GOTO(done, lc_tensor_scalar(p->leaf->dtype, 0, &zero));
    LC_GOTO(done, lc_run(LC_OP_EQ, NULL, (lc_tensor *[]){p->leaf, zero}, 2, &is_zero));
    LC_GOTO(done, lc_run(LC_OP_SUM, &(lc_attr){.dim = -1}, &is_zero, 1, &sum));
    *zeros = lc_get_i64(sum, sum->offset);
done:
    lc_tensor_release(zero);
    lc_tensor_release(is_zero);
    lc_tensor_release(sum);
    return status;
}
