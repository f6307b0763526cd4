/* family_gpt_neox.c: GPT-NeoX (Black et al. 2022, "GPT-NeoX-20B") and Pythia, as transformers' GPTNeoXForCausalLM.
 *
 * One fused q, k, v layer whose rows go head by head, rotary positions on a share of each head, attention and MLP side
 * by side or in sequence. Its head is "embed_out" in checkpoints, which the newest transformers calls "lm_head". */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "model/config.h"
#include "model/family.h"

typedef struct neox {
    lc_param *tokens; /* (V, C) */
    lc_norm final;
    double embedding_dropout;
} neox;

typedef struct neox_config {
    int64_t heads, inner;
    double eps, attention_dropout, hidden_dropout;
    lc_activation act;
    bool parallel, attention_bias, tied;
} neox_config;

static lc_status read_config(lc_model *m, neox_config *c) {
    const json_t *j = m->config;
    const char *where = "gpt_neox config";
    lc_sizes *s = &m->sizes;
    *c = (neox_config){
        .heads = 64, .inner = 24576, .eps = 1e-5, .act = LC_ACT_GELU, .parallel = true, .attention_bias = true};
    *s = (lc_sizes){.vocabulary = 50432, .positions = 2048, .width = 6144, .layers = 44};
    LC_TRY(lc_config_size(j, where, &s->vocabulary, "vocab_size", NULL));
    LC_TRY(lc_config_size(j, where, &s->positions, "max_position_embeddings", NULL));
    LC_TRY(lc_config_size(j, where, &s->width, "hidden_size", NULL));
    LC_TRY(lc_config_size(j, where, &s->layers, "num_hidden_layers", NULL));
    LC_TRY(lc_config_size(j, where, &c->heads, "num_attention_heads", NULL));
    LC_TRY(lc_config_size(j, where, &c->inner, "intermediate_size", NULL));
    LC_TRY(lc_config_activation(j, where, "hidden_act", &c->act));
    LC_TRY(lc_config_rate(j, where, "attention_dropout", &c->attention_dropout));
    LC_TRY(lc_config_rate(j, where, "hidden_dropout", &c->hidden_dropout));
    LC_TRY(lc_config_amount(j, where, "layer_norm_eps", &c->eps));
    LC_TRY(lc_json_get_bool(j, "use_parallel_residual", where, &c->parallel));
    LC_TRY(lc_json_get_bool(j, "attention_bias", where, &c->attention_bias));
    LC_TRY(lc_json_get_bool(j, "tie_word_embeddings", where, &c->tied));
    if (s->width % c->heads)
        return lc_fail(LC_EFORMAT, "%s: hidden_size %lld is not a multiple of num_attention_heads %lld", where,
                       (long long)s->width, (long long)c->heads);
    static const lc_rotary_keys keys = {
        .theta = "rotary_emb_base", .partial = "rotary_pct", .share = 0.25, .partial_heads = true};
    LC_TRY(lc_rotary_read(j, where, &keys, s->width / c->heads, s->positions, &m->rotary));
    s->positions = lc_rotary_reach(m->rotary);
    return LC_OK;
}

static lc_status build_attention(lc_model *m, lc_block *b, const neox_config *c) {
    lc_attention *a = &b->attention;
    int i = b->index;
    int64_t width = m->sizes.width;
    bool bias = c->attention_bias;
    LC_TRY(lc_build_linear(m, "attention.qkv", i, 3 * width, width, false, bias, &a->qkv,
                           "%s.attention.query_key_value", b->name));
    a->qkv->n_parts = 3;
    a->qkv->interleaved = c->heads;
    for (int p = 0; p < 3; p++) a->qkv->part_rows[p] = width;
    a->interleaved = true;
    a->heads = a->kv_heads = c->heads;
    a->head_size = width / c->heads;
    a->scale = 1 / sqrt((double)a->head_size);
    a->dropout = c->attention_dropout;
    a->causal = true;
    return lc_build_linear(m, "attention.out", i, width, width, false, bias, &a->out, "%s.attention.dense", b->name);
}

static lc_status build_block(lc_model *m, const neox_config *c) {
    lc_block *b;
    int i = (int)m->n_blocks;
    int64_t width = m->sizes.width;
    LC_TRY(lc_build_block(m, &b, "gpt_neox.layers.%d", i));
    b->order = c->parallel ? LC_PARALLEL : LC_NORM_FIRST;
    b->dropout = c->hidden_dropout;
    LC_TRY(lc_build_norm(m, i, width, c->eps, false, &b->attention_norm, "%s.input_layernorm", b->name));
    LC_TRY(lc_build_norm(m, i, width, c->eps, false, &b->mlp_norm, "%s.post_attention_layernorm", b->name));
    LC_TRY(build_attention(m, b, c));
    b->mlp.act = c->act;
    LC_TRY(lc_build_linear(m, "mlp.up", i, c->inner, width, false, true, &b->mlp.up, "%s.mlp.dense_h_to_4h", b->name));
    return lc_build_linear(m, "mlp.down", i, width, c->inner, false, true, &b->mlp.down, "%s.mlp.dense_4h_to_h",
                           b->name);
}

static lc_status neox_build(lc_model *m) {
    neox *parts = m->parts = lc_calloc(1, sizeof *parts);
    if (!parts) return LC_ENOMEM;
    neox_config c;
    LC_TRY(read_config(m, &c));
    const lc_sizes *s = &m->sizes;
    parts->embedding_dropout = c.hidden_dropout;
    LC_TRY(lc_build_param(m, "embedding", -1, 2, (int64_t[]){s->vocabulary, s->width}, false, &parts->tokens,
                          "gpt_neox.embed_in.weight"));
    for (int64_t i = 0; i < s->layers; i++) LC_TRY(build_block(m, &c));
    LC_TRY(lc_build_norm(m, -1, s->width, c.eps, false, &parts->final, "gpt_neox.final_layer_norm"));
    return lc_build_head(m, parts->tokens, c.tied, "embed_out");
}

static lc_status neox_embed(lc_model *m, const lc_pass *pass, lc_tensor **x) {
    const neox *parts = m->parts;
    lc_tensor *rows = NULL;
    LC_TRY(lc_embed(parts->tokens, pass->ids, -1, &rows));
    lc_status status = lc_dropout(pass, "embedding", parts->embedding_dropout, rows, x);
    lc_tensor_release(rows);
    return status;
}

static lc_status neox_finish(lc_model *m, const lc_pass *pass, lc_tensor *x, lc_tensor **hidden) {
    (void)pass;
    return lc_norm_forward(&((neox *)m->parts)->final, x, hidden);
}

/* "layers.3.attention.bias", "...attention.masked_bias" (the causal mask) and "...rotary_emb.inv_freq". */
static bool neox_is_buffer(const char *name) {
    static const char *const ends[] = {".attention.bias", ".attention.masked_bias", ".attention.rotary_emb.inv_freq"};
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        size_t k = strlen(ends[i]);
        if (n >= k && !strcmp(name + n - k, ends[i])) return true;
    }
    return false;
}

static const char *const neox_keys[] = {"vocab_size",
                                        "hidden_size",
                                        "num_hidden_layers",
                                        "num_attention_heads",
                                        "intermediate_size",
                                        "hidden_act",
                                        "rotary_pct",
                                        "rotary_emb_base",
                                        "rope_parameters",
                                        "rope_scaling",
                                        "attention_bias",
                                        "attention_dropout",
                                        "hidden_dropout",
                                        "max_position_embeddings",
                                        "original_max_position_embeddings",
                                        "initializer_range",
                                        "layer_norm_eps",
                                        "use_parallel_residual",
                                        "tie_word_embeddings",
                                        "bos_token_id",
                                        "eos_token_id",
                                        "pad_token_id",
                                        NULL};

const lc_family lc_family_gpt_neox = {
    .name = "gpt_neox",
    .prefix = "gpt_neox.",
    .architecture = "GPTNeoXForCausalLM",
    .other_head = "lm_head.weight",
    .keys = neox_keys,
    .initializer = "initializer_range",
    .causal = true,
    .build = neox_build,
    .embed = neox_embed,
    .finish = neox_finish,
    .is_buffer = neox_is_buffer,
};
