/* family_gpt2.c: GPT-2 (Radford et al. 2019, "Language models are unsupervised multitask learners"), as transformers'
 * GPT2LMHeadModel.
 *
 * Learned positions, pre-norm blocks, one fused q, k, v layer. Its checkpoints store the weights of linear layers (I,
 * O). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "grad/graph.h"
#include "model/config.h"
#include "model/family.h"

typedef struct gpt2 {
    lc_param *tokens, *positions; /* (V, C), (positions, C) */
    lc_norm final;
    double embedding_dropout;
} gpt2;

typedef struct gpt2_config {
    int64_t heads, inner;
    double eps, attention_dropout, residual_dropout;
    lc_activation act;
    bool scale, scale_by_layer, tied;
} gpt2_config;

static lc_status read_config(lc_model *m, gpt2 *parts, gpt2_config *c) {
    const json_t *j = m->config;
    const char *where = "gpt2 config";
    *c = (gpt2_config){.heads = 12,
                       .eps = 1e-5,
                       .attention_dropout = 0.1,
                       .residual_dropout = 0.1,
                       .act = LC_ACT_GELU_TANH,
                       .scale = true,
                       .tied = true};
    m->sizes = (lc_sizes){.vocabulary = 50257, .positions = 1024, .width = 768, .layers = 12};
    parts->embedding_dropout = 0.1;
    bool cross = false;
    LC_TRY(lc_config_size(j, where, &m->sizes.vocabulary, "vocab_size", NULL));
    LC_TRY(lc_config_size(j, where, &m->sizes.positions, "n_positions", "max_position_embeddings"));
    LC_TRY(lc_config_size(j, where, &m->sizes.width, "n_embd", "hidden_size"));
    LC_TRY(lc_config_size(j, where, &m->sizes.layers, "n_layer", "num_hidden_layers"));
    LC_TRY(lc_config_size(j, where, &c->heads, "n_head", "num_attention_heads"));
    c->inner = 4 * m->sizes.width;
    LC_TRY(lc_config_size(j, where, &c->inner, "n_inner", NULL));
    LC_TRY(lc_config_activation(j, where, "activation_function", &c->act));
    LC_TRY(lc_config_rate(j, where, "embd_pdrop", &parts->embedding_dropout));
    LC_TRY(lc_config_rate(j, where, "attn_pdrop", &c->attention_dropout));
    LC_TRY(lc_config_rate(j, where, "resid_pdrop", &c->residual_dropout));
    LC_TRY(lc_config_amount(j, where, "layer_norm_epsilon", &c->eps));
    LC_TRY(lc_json_get_bool(j, "scale_attn_weights", where, &c->scale));
    LC_TRY(lc_json_get_bool(j, "scale_attn_by_inverse_layer_idx", where, &c->scale_by_layer));
    LC_TRY(lc_json_get_bool(j, "tie_word_embeddings", where, &c->tied));
    LC_TRY(lc_json_get_bool(j, "add_cross_attention", where, &cross));
    if (cross) return lc_fail(LC_EFORMAT, "%s: add_cross_attention is not supported: only the decoder alone is", where);
    if (m->sizes.width % c->heads)
        return lc_fail(LC_EFORMAT, "%s: n_embd %lld is not a multiple of n_head %lld", where, (long long)m->sizes.width,
                       (long long)c->heads);
    return LC_OK;
}

static lc_status build_block(lc_model *m, const gpt2_config *c) {
    lc_block *b;
    int i = (int)m->n_blocks;
    int64_t width = m->sizes.width;
    LC_TRY(lc_build_block(m, &b, "transformer.h.%d", i));
    b->dropout = c->residual_dropout;
    LC_TRY(lc_build_norm(m, i, width, c->eps, false, &b->attention_norm, "%s.ln_1", b->name));
    lc_attention *a = &b->attention;
    LC_TRY(lc_build_linear(m, "attention.qkv", i, 3 * width, width, true, true, &a->qkv, "%s.attn.c_attn", b->name));
    a->qkv->n_parts = 3;
    for (int p = 0; p < 3; p++) a->qkv->part_rows[p] = width;
    LC_TRY(lc_build_linear(m, "attention.out", i, width, width, true, true, &a->out, "%s.attn.c_proj", b->name));
    a->heads = a->kv_heads = c->heads;
    a->head_size = width / c->heads;
    a->causal = true;
    a->dropout = c->attention_dropout;
    a->scale = c->scale ? 1 / sqrt((double)a->head_size) : 1;
    if (c->scale_by_layer) a->scale /= i + 1;
    LC_TRY(lc_build_norm(m, i, width, c->eps, false, &b->mlp_norm, "%s.ln_2", b->name));
    b->mlp.act = c->act;
    LC_TRY(lc_build_linear(m, "mlp.up", i, c->inner, width, true, true, &b->mlp.up, "%s.mlp.c_fc", b->name));
    return lc_build_linear(m, "mlp.down", i, width, c->inner, true, true, &b->mlp.down, "%s.mlp.c_proj", b->name);
}

static lc_status gpt2_build(lc_model *m) {
    gpt2 *parts = m->parts = lc_calloc(1, sizeof *parts);
    if (!parts) return LC_ENOMEM;
    gpt2_config c;
    LC_TRY(read_config(m, parts, &c));
    const lc_sizes *s = &m->sizes;
    LC_TRY(lc_build_param(m, "embedding", -1, 2, (int64_t[]){s->vocabulary, s->width}, false, &parts->tokens,
                          "transformer.wte.weight"));
    LC_TRY(lc_build_param(m, "position", -1, 2, (int64_t[]){s->positions, s->width}, false, &parts->positions,
                          "transformer.wpe.weight"));
    for (int64_t i = 0; i < s->layers; i++) LC_TRY(build_block(m, &c));
    LC_TRY(lc_build_norm(m, -1, s->width, c.eps, false, &parts->final, "transformer.ln_f"));
    return lc_build_head(m, parts->tokens, c.tied, "lm_head");
}

/* *sum += more; takes over `more`. */
static lc_status add_to(lc_tensor **sum, lc_tensor *more) {
    lc_tensor *result = NULL;
    lc_status status = lc_binary(LC_OP_ADD, *sum, more, &result);
    lc_tensor_release(more);
    if (status) return status;
    lc_tensor_release(*sum);
    *sum = result;
    return LC_OK;
}

static lc_status gpt2_embed(lc_model *m, const lc_pass *pass, lc_tensor **x) {
    const gpt2 *parts = m->parts;
    lc_tensor *sum = NULL, *more = NULL;
    LC_TRY(lc_embed(parts->tokens, pass->ids, -1, &sum));
    lc_status status;
    LC_GOTO(done, lc_embed(parts->positions, pass->positions, -1, &more));
    LC_GOTO(done, add_to(&sum, more));
    if (pass->token_types) {
        LC_GOTO(done, lc_embed(parts->tokens, pass->token_types, -1, &more));
        LC_GOTO(done, add_to(&sum, more));
    }
    status = lc_dropout(pass, "embedding", parts->embedding_dropout, sum, x);
done:
    lc_tensor_release(sum);
    return status;
}

static lc_status gpt2_finish(lc_model *m, const lc_pass *pass, lc_tensor *x, lc_tensor **hidden) {
    (void)pass;
    return lc_norm_forward(&((gpt2 *)m->parts)->final, x, hidden);
}

/* "h.3.attn.bias" and "h.3.attn.masked_bias": the causal mask, stored by old versions. */
static bool gpt2_is_buffer(const char *name) {
    const char *dot = strrchr(name, '.');
    if (!dot || strncmp(name, "h.", 2)) return false;
    size_t stem = (size_t)(dot - name);
    return stem > 5 && !strncmp(dot - 5, ".attn", 5) && (!strcmp(dot, ".bias") || !strcmp(dot, ".masked_bias"));
}

static const char *const gpt2_keys[] = {"vocab_size",
                                        "n_positions",
                                        "n_embd",
                                        "n_layer",
                                        "n_head",
                                        "n_inner",
                                        "activation_function",
                                        "resid_pdrop",
                                        "embd_pdrop",
                                        "attn_pdrop",
                                        "layer_norm_epsilon",
                                        "initializer_range",
                                        "scale_attn_weights",
                                        "scale_attn_by_inverse_layer_idx",
                                        "tie_word_embeddings",
                                        "bos_token_id",
                                        "eos_token_id",
                                        "pad_token_id",
                                        NULL};

const lc_family lc_family_gpt2 = {
    .name = "gpt2",
    .prefix = "transformer.",
    .architecture = "GPT2LMHeadModel",
    .keys = gpt2_keys,
    .initializer = "initializer_range",
    .scales_residual = true,
    .causal = true,
    .build = gpt2_build,
    .embed = gpt2_embed,
    .finish = gpt2_finish,
    .is_buffer = gpt2_is_buffer,
};
