/* family_llama.c: Llama (Touvron et al. 2023, "LLaMA: Open and efficient foundation language models"), as transformers'
 * LlamaForCausalLM, and the parts that other families share with it (llama.h). */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "model/config.h"
#include "model/llama.h"

typedef struct llama {
    lc_param *tokens; /* (V, C) */
    lc_norm final;
} llama;

/* -- shared with its relatives ------------------------------------------------------------------ */

static lc_status read_heads(const json_t *j, int64_t width, lc_llama_config *c) {
    LC_TRY(lc_config_size(j, c->where, &c->heads, "num_attention_heads", NULL));
    if (!c->kv_heads) c->kv_heads = c->heads;
    LC_TRY(lc_config_size(j, c->where, &c->kv_heads, "num_key_value_heads", NULL));
    if (c->heads % c->kv_heads)
        return lc_fail(LC_EFORMAT, "%s: num_attention_heads %lld is not a multiple of num_key_value_heads %lld",
                       c->where, (long long)c->heads, (long long)c->kv_heads);
    if (!c->head_size) c->head_size = lc_max(1, width / c->heads);
    return lc_config_size(j, c->where, &c->head_size, "head_dim", NULL);
}

lc_status lc_llama_read(lc_model *m, lc_llama_config *c) {
    const json_t *j = m->config;
    lc_sizes *s = &m->sizes;
    LC_TRY(lc_config_size(j, c->where, &s->vocabulary, "vocab_size", NULL));
    LC_TRY(lc_config_size(j, c->where, &s->positions, "max_position_embeddings", NULL));
    LC_TRY(lc_config_size(j, c->where, &s->width, "hidden_size", NULL));
    LC_TRY(lc_config_size(j, c->where, &s->layers, "num_hidden_layers", NULL));
    LC_TRY(lc_config_size(j, c->where, &c->inner, "intermediate_size", NULL));
    LC_TRY(read_heads(j, s->width, c));
    LC_TRY(lc_config_activation(j, c->where, "hidden_act", &c->act));
    LC_TRY(lc_config_rate(j, c->where, "attention_dropout", &c->attention_dropout));
    LC_TRY(lc_config_amount(j, c->where, "rms_norm_eps", &c->eps));
    LC_TRY(lc_json_get_bool(j, "tie_word_embeddings", c->where, &c->tied));
    LC_TRY(lc_config_padding(j, c->where, s->vocabulary, &m->padding_id));
    static const lc_rotary_keys keys = {.theta = "rope_theta", .partial = "partial_rotary_factor", .share = 1};
    LC_TRY(lc_rotary_read(j, c->where, &keys, c->head_size, s->positions, &m->rotary));
    s->positions = lc_rotary_reach(m->rotary);
    if (c->window) s->positions = lc_min(s->positions, c->window);
    return LC_OK;
}

static lc_status build_attention(lc_model *m, lc_block *b, const lc_llama_config *c) {
    lc_attention *a = &b->attention;
    int i = b->index;
    int64_t width = m->sizes.width, q = c->heads * c->head_size, kv = c->kv_heads * c->head_size;
    bool bias = c->qkv_bias;
    LC_TRY(lc_build_linear(m, "attention.q", i, q, width, false, bias, &a->q, "%s.self_attn.q_proj", b->name));
    LC_TRY(lc_build_linear(m, "attention.k", i, kv, width, false, bias, &a->k, "%s.self_attn.k_proj", b->name));
    LC_TRY(lc_build_linear(m, "attention.v", i, kv, width, false, bias, &a->v, "%s.self_attn.v_proj", b->name));
    a->heads = c->heads;
    a->kv_heads = c->kv_heads;
    a->head_size = c->head_size;
    a->scale = 1 / sqrt((double)c->head_size);
    a->dropout = c->attention_dropout;
    a->causal = true;
    return lc_build_linear(m, "attention.out", i, width, q, false, c->out_bias, &a->out, "%s.self_attn.o_proj",
                           b->name);
}

static lc_status build_block(lc_model *m, const lc_llama_config *c) {
    lc_block *b;
    int i = (int)m->n_blocks;
    int64_t width = m->sizes.width;
    LC_TRY(lc_build_block(m, &b, "model.layers.%d", i));
    LC_TRY(lc_build_norm(m, i, width, c->eps, true, &b->attention_norm, "%s.input_layernorm", b->name));
    LC_TRY(build_attention(m, b, c));
    LC_TRY(lc_build_norm(m, i, width, c->eps, true, &b->mlp_norm, "%s.post_attention_layernorm", b->name));
    lc_mlp *mlp = &b->mlp;
    bool bias = c->mlp_bias;
    mlp->act = c->act;
    LC_TRY(lc_build_linear(m, "mlp.gate", i, c->inner, width, false, bias, &mlp->gate, "%s.mlp.gate_proj", b->name));
    LC_TRY(lc_build_linear(m, "mlp.up", i, c->inner, width, false, bias, &mlp->up, "%s.mlp.up_proj", b->name));
    return lc_build_linear(m, "mlp.down", i, width, c->inner, false, bias, &mlp->down, "%s.mlp.down_proj", b->name);
}

lc_status lc_llama_build(lc_model *m, const lc_llama_config *c) {
    const lc_sizes *s = &m->sizes;
    llama *parts = m->parts = lc_calloc(1, sizeof *parts);
    if (!parts) return LC_ENOMEM;
    LC_TRY(lc_build_param(m, "embedding", -1, 2, (int64_t[]){s->vocabulary, s->width}, false, &parts->tokens,
                          "model.embed_tokens.weight"));
    for (int64_t i = 0; i < s->layers; i++) LC_TRY(build_block(m, c));
    LC_TRY(lc_build_norm(m, -1, s->width, c->eps, true, &parts->final, "model.norm"));
    return lc_build_head(m, parts->tokens, c->tied, "lm_head");
}

lc_status lc_llama_embed(lc_model *m, const lc_pass *pass, lc_tensor **x) {
    return lc_embed(((llama *)m->parts)->tokens, pass->ids, m->padding_id, x);
}

lc_status lc_llama_finish(lc_model *m, const lc_pass *pass, lc_tensor *x, lc_tensor **hidden) {
    (void)pass;
    return lc_norm_forward(&((llama *)m->parts)->final, x, hidden);
}

bool lc_llama_is_buffer(const char *name) {
    static const char end[] = "rotary_emb.inv_freq";
    size_t n = strlen(name);
    return n >= sizeof end - 1 && !strcmp(name + n - (sizeof end - 1), end);
}

/* -- Llama itself ------------------------------------------------------------------------------- */

static lc_status llama_build(lc_model *m) {
    lc_llama_config c = {
        .where = "llama config", .heads = 32, .inner = 11008, .eps = 1e-6, .act = LC_ACT_SILU, .tied = false};
    m->sizes = (lc_sizes){.vocabulary = 32000, .positions = 2048, .width = 4096, .layers = 32};
    LC_TRY(lc_llama_read(m, &c));
    if (m->sizes.width % c.heads)
        return lc_fail(LC_EFORMAT, "%s: hidden_size %lld is not a multiple of num_attention_heads %lld", c.where,
                       (long long)m->sizes.width, (long long)c.heads);
    LC_TRY(lc_json_get_bool(m->config, "attention_bias", c.where, &c.qkv_bias));
    c.out_bias = c.qkv_bias;
    LC_TRY(lc_json_get_bool(m->config, "mlp_bias", c.where, &c.mlp_bias));
    return lc_llama_build(m, &c);
}

static const char *const llama_keys[] = {"vocab_size",
                                         "hidden_size",
                                         "intermediate_size",
                                         "num_hidden_layers",
                                         "num_attention_heads",
                                         "num_key_value_heads",
                                         "head_dim",
                                         "hidden_act",
                                         "max_position_embeddings",
                                         "original_max_position_embeddings",
                                         "initializer_range",
                                         "rms_norm_eps",
                                         "rope_parameters",
                                         "rope_theta",
                                         "rope_scaling",
                                         "attention_bias",
                                         "attention_dropout",
                                         "mlp_bias",
                                         "tie_word_embeddings",
                                         "bos_token_id",
                                         "eos_token_id",
                                         "pad_token_id",
                                         NULL};

const lc_family lc_family_llama = {
    .name = "llama",
    .prefix = "model.",
    .architecture = "LlamaForCausalLM",
    .keys = llama_keys,
    .initializer = "initializer_range",
    .causal = true,
    .build = llama_build,
    .embed = lc_llama_embed,
    .finish = lc_llama_finish,
    .is_buffer = lc_llama_is_buffer,
};
