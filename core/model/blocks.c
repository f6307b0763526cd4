/* blocks.c: norms, attention and MLPs, recorded where a gradient is wanted. */
#include "model/blocks.h"

#include <stdio.h>

#include "base/memory.h"
#include "grad/graph.h"
#include "model/attention.h"
#include "model/model.h"

lc_status lc_norm_forward(const lc_norm *n, lc_tensor *x, lc_tensor **y) {
    lc_tensor *in[] = {x, n->weight ? n->weight->leaf : NULL, n->bias ? n->bias->leaf : NULL};
    lc_tensor *out[LC_MAX_OUT] = {NULL};
    LC_TRY(lc_apply(n->rms ? LC_OP_RMS_NORM : LC_OP_LAYER_NORM, &(lc_attr){.a = n->eps}, in, n->rms ? 2 : 3, out));
    *y = out[0];
    for (int i = 1; i < LC_MAX_OUT; i++) lc_tensor_release(out[i]); /* the graph kept what it needs */
    return LC_OK;
}

/* -- embedding ---------------------------------------------------------------------------------- */

/* Where ids are `padding`, as bool; NULL where none is. */
static lc_status find_padding(lc_tensor *ids, int64_t padding, lc_tensor **out) {
    lc_tensor *number = NULL, *found = NULL, *any = NULL;
    lc_status status;
    *out = NULL;
    LC_GOTO(done, lc_tensor_scalar(LC_I64, (double)padding, &number));
    LC_GOTO(done, lc_run(LC_OP_EQ, NULL, (lc_tensor *[]){ids, number}, 2, &found));
    LC_GOTO(done, lc_run(LC_OP_ANY, &(lc_attr){.dim = -1}, &found, 1, &any));
    int64_t shape[] = {ids->shape[0], ids->shape[1], 1};
    if (lc_get_i64(any, any->offset)) status = lc_view_reshape(found, 3, shape, out);
done:
    lc_tensor_release(number);
    lc_tensor_release(found);
    lc_tensor_release(any);
    return status;
}

lc_status lc_embed(lc_param *table, lc_tensor *ids, int64_t padding, lc_tensor **x) {
    lc_tensor *rows = NULL, *is_padding = NULL, *constant = NULL;
    LC_TRY(lc_apply(LC_OP_EMBEDDING, NULL, (lc_tensor *[]){table->leaf, ids}, 2, &rows));
    lc_status status = LC_OK;
    if (padding >= 0 && rows->requires_grad) LC_GOTO(done, find_padding(ids, padding, &is_padding));
    if (is_padding) {
        LC_GOTO(done, lc_detach(rows, &constant));
        status = lc_apply(LC_OP_WHERE, NULL, (lc_tensor *[]){is_padding, constant, rows}, 3, x);
    } else {
        *x = lc_tensor_retain(rows);
    }
done:
    lc_tensor_release(rows);
    lc_tensor_release(is_padding);
    lc_tensor_release(constant);
    return status;
}

/* -- dropout ------------------------------------------------------------------------------------ */

/* Each training pass has 2^32 blocks of random numbers in every site's stream: more than the largest tensor takes. */
#define BLOCKS_PER_PASS 32

static void dropout_stream(const lc_pass *pass, const char *site, lc_attr *attr) {
    char name[64];
    snprintf(name, sizeof name, "dropout.%s", site);
    attr->key = lc_stream_make(pass->dropout_seed, name).key;
    attr->counter = pass->dropout_pass << BLOCKS_PER_PASS;
}

lc_status lc_dropout(const lc_pass *pass, const char *site, double rate, lc_tensor *x, lc_tensor **y) {
    if (!pass->train || rate <= 0) {
        *y = lc_tensor_retain(x);
        return LC_OK;
    }
    lc_attr attr = {.a = rate};
    dropout_stream(pass, site, &attr);
    return lc_apply(LC_OP_DROPOUT, &attr, &x, 1, y);
}

/* -- attention ---------------------------------------------------------------------------------- */

/* Turns the heads in *x by the pass's positions. */
static lc_status turn(const lc_pass *pass, lc_tensor **x) {
    lc_attr attr = {.a = pass->rotary_scale};
    lc_tensor *in[] = {*x, pass->positions, pass->inv_freq}, *turned = NULL;
    LC_TRY(lc_apply(LC_OP_ROTARY, &attr, in, 3, &turned));
    lc_tensor_release(*x);
    *x = turned;
    return LC_OK;
}

/* q, k and v as (B, T, heads, D): three layers, each reshaped. */
static lc_status apart(const lc_attention *a, lc_tensor *x, lc_tensor *out[3]) {
    lc_layer *layers[] = {a->q, a->k, a->v};
    for (int i = 0; i < 3; i++) {
        lc_tensor *flat = NULL;
        LC_TRY(lc_layer_forward(layers[i], x, LC_ACT_NONE, &flat));
        int64_t shape[] = {x->shape[0], x->shape[1], i ? a->kv_heads : a->heads, a->head_size};
        lc_status status = lc_reshape(flat, 4, shape, &out[i]);
        lc_tensor_release(flat);
        LC_TRY(status);
    }
    return LC_OK;
}

/* Writes this pass's keys or values behind those in the cache, and gives a view of all so far. */
static lc_status extend(lc_tensor *cached, int64_t length, lc_tensor *fresh, lc_tensor **all) {
    lc_tensor *place = NULL;
    LC_TRY(lc_view_slice(cached, 1, length, fresh->shape[1], 1, &place));
    lc_status status = lc_copy_into(place, fresh);
    lc_tensor_release(place);
    return status ? status : lc_view_slice(cached, 1, 0, length + fresh->shape[1], 1, all);
}

/* Attention over what the cache holds and this pass's tokens; nothing is recorded. */
static lc_status cached_attention(const lc_cache *cache, int index, lc_tensor *const qkv[3], lc_tensor *keep,
                                  const lc_attr *attr, lc_tensor **y) {
    lc_tensor *k = NULL, *v = NULL, *out[LC_MAX_OUT] = {NULL};
    lc_status status;
    LC_GOTO(done, extend(cache->k[index], cache->length, qkv[1], &k));
    LC_GOTO(done, extend(cache->v[index], cache->length, qkv[2], &v));
    LC_GOTO(done, lc_run(LC_OP_ATTENTION, attr, (lc_tensor *[]){qkv[0], k, v, keep}, 4, out));
    *y = out[0];
    lc_tensor_release(out[1]);
done:
    lc_tensor_release(k);
    lc_tensor_release(v);
    return status;
}

/* The heads' outputs side by side, (B, T, H, D). */
static lc_status heads_forward(const lc_attention *a, const lc_pass *pass, int index, const lc_attr *attr, lc_tensor *x,
                               lc_tensor **y) {
    lc_tensor *qkv = NULL, *part[3] = {NULL}, *out[LC_MAX_OUT] = {NULL};
    lc_status status;
    if (a->qkv) {
        LC_GOTO(done, lc_layer_forward(a->qkv, x, LC_ACT_NONE, &qkv));
        if (!pass->cache) {
            status = lc_fused_attention(a, pass, attr, qkv, y);
            goto done;
        }
        LC_GOTO(done, lc_fused_parts(a, qkv, part));
    } else {
        LC_GOTO(done, apart(a, x, part));
    }
    for (int i = 0; i < 2 && pass->inv_freq; i++) LC_GOTO(done, turn(pass, &part[i]));
    if (pass->cache) {
        status = cached_attention(pass->cache, index, part, pass->keep, attr, y);
    } else {
        lc_tensor *in[] = {part[0], part[1], part[2], pass->keep};
        LC_GOTO(done, lc_apply(LC_OP_ATTENTION, attr, in, 4, out));
        *y = out[0];
        lc_tensor_release(out[1]);
    }
done:
    lc_tensor_release(qkv);
    for (int i = 0; i < 3; i++) lc_tensor_release(part[i]);
    return status;
}

lc_status lc_attention_forward(const lc_attention *a, const lc_pass *pass, int index, lc_tensor *x, lc_tensor **y) {
    lc_attr attr = {.a = a->scale, .causal = a->causal, .b = pass->train ? a->dropout : 0};
    if (attr.b > 0) {
        char site[32];
        snprintf(site, sizeof site, "%d.attention", index);
        dropout_stream(pass, site, &attr);
    }
    lc_tensor *heads = NULL, *flat = NULL;
    LC_TRY(heads_forward(a, pass, index, &attr, x, &heads));
    lc_status status = lc_reshape(heads, 3, (int64_t[]){x->shape[0], x->shape[1], a->heads * a->head_size}, &flat);
    lc_tensor_release(heads);
    LC_TRY(status);
    status = lc_layer_forward(a->out, flat, LC_ACT_NONE, y);
    lc_tensor_release(flat);
    return status;
}

/* -- MLP ---------------------------------------------------------------------------------------- */

lc_status lc_mlp_forward(const lc_mlp *m, lc_tensor *x, lc_tensor **y) {
    lc_tensor *inner = NULL, *gate = NULL, *product = NULL;
    lc_status status;
    if (m->gate) {
        LC_GOTO(done, lc_layer_forward(m->up, x, LC_ACT_NONE, &inner));
        LC_GOTO(done, lc_layer_forward(m->gate, x, m->act, &gate));
        LC_GOTO(done, lc_binary(LC_OP_MUL, gate, inner, &product));
    } else {
        LC_GOTO(done, lc_layer_forward(m->up, x, m->act, &product));
    }
    status = lc_layer_forward(m->down, product, LC_ACT_NONE, y);
done:
    lc_tensor_release(inner);
    lc_tensor_release(gate);
    lc_tensor_release(product);
    return status;
}

/* -- blocks ------------------------------------------------------------------------------------- */

/* dropout(attention(x)), with the norm before it where `norm` is not NULL. */
static lc_status attention_branch(const lc_block *b, const lc_pass *pass, const lc_norm *norm, lc_tensor *x,
                                  lc_tensor **y) {
    lc_tensor *normed = norm ? NULL : lc_tensor_retain(x), *branch = NULL;
    char site[48];
    snprintf(site, sizeof site, "%d.attention.out", b->index);
    if (norm) LC_TRY(lc_norm_forward(norm, x, &normed));
    lc_status status = lc_attention_forward(&b->attention, pass, b->index, normed, &branch);
    if (!status) status = lc_dropout(pass, site, b->dropout, branch, y);
    lc_tensor_release(normed);
    lc_tensor_release(branch);
    return status;
}

/* dropout(mlp(x)), likewise. */
static lc_status mlp_branch(const lc_block *b, const lc_pass *pass, const lc_norm *norm, lc_tensor *x, lc_tensor **y) {
    lc_tensor *normed = norm ? NULL : lc_tensor_retain(x), *branch = NULL;
    char site[48];
    snprintf(site, sizeof site, "%d.mlp.down", b->index);
    if (norm) LC_TRY(lc_norm_forward(norm, x, &normed));
    lc_status status = lc_mlp_forward(&b->mlp, normed, &branch);
    if (!status) status = lc_dropout(pass, site, b->dropout, branch, y);
    lc_tensor_release(normed);
    lc_tensor_release(branch);
    return status;
}

/* *y = x + branch, normed where `norm` is not NULL; takes over `branch`. */
static lc_status join(lc_tensor *x, lc_tensor *branch, const lc_norm *norm, lc_tensor **y) {
    lc_tensor *sum = NULL;
    lc_status status = lc_binary(LC_OP_ADD, x, branch, &sum);
    lc_tensor_release(branch);
    if (status) return status;
    if (!norm) {
        *y = sum;
        return LC_OK;
    }
    status = lc_norm_forward(norm, sum, y);
    lc_tensor_release(sum);
    return status;
}

static lc_status in_sequence(const lc_block *b, const lc_pass *pass, lc_tensor *x, lc_tensor **y) {
    bool first = b->order == LC_NORM_FIRST;
    const lc_norm *before[] = {first ? &b->attention_norm : NULL, first ? &b->mlp_norm : NULL};
    const lc_norm *after[] = {first ? NULL : &b->attention_norm, first ? NULL : &b->mlp_norm};
    lc_tensor *branch = NULL, *middle = NULL;
    LC_TRY(attention_branch(b, pass, before[0], x, &branch));
    LC_TRY(join(x, branch, after[0], &middle));
    lc_status status = mlp_branch(b, pass, before[1], middle, &branch);
    if (!status) status = join(middle, branch, after[1], y);
    lc_tensor_release(middle);
    return status;
}

static lc_status in_parallel(const lc_block *b, const lc_pass *pass, lc_tensor *x, lc_tensor **y) {
    lc_tensor *attention = NULL, *mlp = NULL, *both = NULL;
    LC_TRY(attention_branch(b, pass, &b->attention_norm, x, &attention));
    lc_status status = mlp_branch(b, pass, &b->mlp_norm, x, &mlp);
    if (!status) status = join(mlp, lc_tensor_retain(attention), NULL, &both);
    if (!status) status = join(x, lc_tensor_retain(both), NULL, y);
    lc_tensor_release(attention);
    lc_tensor_release(mlp);
    lc_tensor_release(both);
    return status;
}

lc_status lc_block_forward(const lc_block *b, const lc_pass *pass, lc_tensor *x, lc_tensor **y) {
    return b->order == LC_PARALLEL ? in_parallel(b, pass, x, y) : in_sequence(b, pass, x, y);
}

/* -- the cache ---------------------------------------------------------------------------------- */

lc_status lc_cache_new(lc_model *m, int64_t batch, int64_t capacity, lc_cache **out) {
    lc_cache *c = lc_calloc(1, sizeof *c);
    if (!c) return LC_ENOMEM;
    lc_status status = LC_ENOMEM;
    c->batch = batch;
    c->capacity = capacity;
    c->blocks = (int)m->n_blocks;
    c->k = lc_calloc((size_t)c->blocks, sizeof *c->k);
    c->v = lc_calloc((size_t)c->blocks, sizeof *c->v);
    if (!c->k || !c->v) goto failed;
    for (int i = 0; i < c->blocks; i++) {
        const lc_attention *a = &m->blocks[i]->attention;
        int64_t shape[] = {batch, capacity, a->kv_heads, a->head_size};
        LC_GOTO(failed, lc_tensor_new(m->dtype, 4, shape, LC_CPU, &c->k[i]));
        LC_GOTO(failed, lc_tensor_new(m->dtype, 4, shape, LC_CPU, &c->v[i]));
    }
    *out = c;
    return LC_OK;
failed:
    lc_cache_free(c);
    return status;
}

void lc_cache_free(lc_cache *c) {
    if (!c) return;
    for (int i = 0; i < c->blocks; i++) {
        if (c->k) lc_tensor_release(c->k[i]);
        if (c->v) lc_tensor_release(c->v[i]);
    }
    lc_free(c->k);
    lc_free(c->v);
    lc_free(c);
}
