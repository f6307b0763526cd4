/* family_opt.c: OPT (Zhang et al. 2022, "OPT: Open pre-trained transformer language models"), as transformers'
 * OPTForCausalLM.
 *
 * Learned positions, of which the first two rows are padding's: positions count the tokens that are not padding. Norms
 * stand before attention and MLP, in the model of 350M behind them; that one also has embeddings narrower than the
 * blocks, with a projection on the way in and out. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "grad/graph.h"
#include "model/config.h"
#include "model/family.h"

#define POSITION_OFFSET 2

typedef struct opt {
    lc_param *tokens, *positions; /* (V, E), (positions + 2, C) */
    lc_layer *in, *out;           /* E -> C and C -> E; NULL where E = C */
    lc_norm final;                /* where has_final */
    bool has_final;
} opt;

typedef struct opt_config {
    int64_t heads, inner, embedding; /* E */
    double dropout, attention_dropout;
    lc_activation act;
    bool norm_first, bias, affine, no_final, tied;
} opt_config;

static const char where[] = "opt config";

static lc_status read_sizes(lc_model *m, opt_config *c) {
    const json_t *j = m->config;
    lc_sizes *s = &m->sizes;
    *s = (lc_sizes){.vocabulary = 50272, .positions = 2048, .width = 768, .layers = 12};
    LC_TRY(lc_config_size(j, where, &s->vocabulary, "vocab_size", NULL));
    LC_TRY(lc_config_size(j, where, &s->positions, "max_position_embeddings", NULL));
    LC_TRY(lc_config_size(j, where, &s->width, "hidden_size", NULL));
    LC_TRY(lc_config_size(j, where, &s->layers, "num_hidden_layers", NULL));
    LC_TRY(lc_config_size(j, where, &c->heads, "num_attention_heads", NULL));
    LC_TRY(lc_config_size(j, where, &c->inner, "ffn_dim", NULL));
    c->embedding = s->width;
    LC_TRY(lc_config_size(j, where, &c->embedding, "word_embed_proj_dim", NULL));
    if (s->width % c->heads)
        return lc_fail(LC_EFORMAT, "%s: hidden_size %lld is not a multiple of num_attention_heads %lld", where,
                       (long long)s->width, (long long)c->heads);
    m->padding_id = s->vocabulary > 1 ? 1 : -1;
    return lc_config_padding(j, where, s->vocabulary, &m->padding_id);
}

static lc_status read_config(lc_model *m, opt_config *c) {
    const json_t *j = m->config;
    double layerdrop = 0;
    *c = (opt_config){.heads = 12,
                      .inner = 3072,
                      .dropout = 0.1,
                      .act = LC_ACT_RELU,
                      .norm_first = true,
                      .bias = true,
                      .affine = true,
                      .tied = true};
    LC_TRY(read_sizes(m, c));
    LC_TRY(lc_config_activation(j, where, "activation_function", &c->act));
    LC_TRY(lc_config_rate(j, where, "dropout", &c->dropout));
    LC_TRY(lc_config_rate(j, where, "attention_dropout", &c->attention_dropout));
    LC_TRY(lc_config_rate(j, where, "layerdrop", &layerdrop));
    LC_TRY(lc_json_get_bool(j, "do_layer_norm_before", where, &c->norm_first));
    LC_TRY(lc_json_get_bool(j, "enable_bias", where, &c->bias));
    LC_TRY(lc_json_get_bool(j, "layer_norm_elementwise_affine", where, &c->affine));
    LC_TRY(lc_json_get_bool(j, "_remove_final_layer_norm", where, &c->no_final));
    LC_TRY(lc_json_get_bool(j, "tie_word_embeddings", where, &c->tied));
    if (layerdrop > 0)
        return lc_fail(LC_EFORMAT, "%s: layerdrop %g is not supported: every block runs; set it to 0", where,
                       layerdrop);
    return LC_OK;
}

static lc_status build_norm(lc_model *m, int block, bool affine, lc_norm *out, const char *parent, const char *name) {
    *out = (lc_norm){.eps = 1e-5};
    return affine ? lc_build_norm(m, block, m->sizes.width, out->eps, false, out, "%s.%s", parent, name) : LC_OK;
}

static lc_status build_attention(lc_model *m, lc_block *b, const opt_config *c) {
    lc_attention *a = &b->attention;
    const struct {
        const char *role, *name;
        lc_layer **layer;
    } layers[] = {{"attention.k", "k_proj", &a->k},
                  {"attention.v", "v_proj", &a->v},
                  {"attention.q", "q_proj", &a->q},
                  {"attention.out", "out_proj", &a->out}};
    int64_t width = m->sizes.width;
    for (int i = 0; i < 4; i++)
        LC_TRY(lc_build_linear(m, layers[i].role, b->index, width, width, false, c->bias, layers[i].layer,
                               "%s.self_attn.%s", b->name, layers[i].name));
    a->heads = a->kv_heads = c->heads;
    a->head_size = width / c->heads;
    a->scale = 1 / sqrt((double)a->head_size);
    a->dropout = c->attention_dropout;
    a->causal = true;
    return LC_OK;
}

static lc_status build_block(lc_model *m, const opt_config *c) {
    lc_block *b;
    int i = (int)m->n_blocks;
    int64_t width = m->sizes.width;
    LC_TRY(lc_build_block(m, &b, "model.decoder.layers.%d", i));
    b->order = c->norm_first ? LC_NORM_FIRST : LC_NORM_LAST;
    b->dropout = c->dropout;
    LC_TRY(build_attention(m, b, c));
    LC_TRY(build_norm(m, i, c->affine, &b->attention_norm, b->name, "self_attn_layer_norm"));
    b->mlp.act = c->act;
    LC_TRY(lc_build_linear(m, "mlp.up", i, c->inner, width, false, c->bias, &b->mlp.up, "%s.fc1", b->name));
    LC_TRY(lc_build_linear(m, "mlp.down", i, width, c->inner, false, c->bias, &b->mlp.down, "%s.fc2", b->name));
    return build_norm(m, i, c->affine, &b->mlp_norm, b->name, "final_layer_norm");
}

static lc_status build_embedding(lc_model *m, opt *parts, const opt_config *c) {
    const lc_sizes *s = &m->sizes;
    LC_TRY(lc_build_param(m, "embedding", -1, 2, (int64_t[]){s->vocabulary, c->embedding}, false, &parts->tokens,
                          "model.decoder.embed_tokens.weight"));
    LC_TRY(lc_build_param(m, "position", -1, 2, (int64_t[]){s->positions + POSITION_OFFSET, s->width}, false,
                          &parts->positions, "model.decoder.embed_positions.weight"));
    if (c->embedding == s->width) return LC_OK;
    LC_TRY(lc_build_linear(m, "project.in", -1, s->width, c->embedding, false, false, &parts->in,
                           "model.decoder.project_in"));
    return lc_build_linear(m, "project.out", -1, c->embedding, s->width, false, false, &parts->out,
                           "model.decoder.project_out");
}

static lc_status opt_build(lc_model *m) {
    opt *parts = m->parts = lc_calloc(1, sizeof *parts);
    if (!parts) return LC_ENOMEM;
    opt_config c;
    LC_TRY(read_config(m, &c));
    LC_TRY(build_embedding(m, parts, &c));
    for (int64_t i = 0; i < m->sizes.layers; i++) LC_TRY(build_block(m, &c));
    parts->has_final = c.norm_first && !c.no_final;
    if (parts->has_final) LC_TRY(build_norm(m, -1, c.affine, &parts->final, "model.decoder", "final_layer_norm"));
    return lc_build_head(m, parts->tokens, c.tied, "lm_head");
}

/* The rows of the position table for this pass. */
static lc_status position_rows(const opt *parts, const lc_pass *pass, lc_tensor **rows) {
    lc_tensor *offset = NULL, *places = NULL;
    LC_TRY(lc_tensor_scalar(LC_I64, POSITION_OFFSET, &offset));
    lc_status status = lc_run(LC_OP_ADD, NULL, (lc_tensor *[]){pass->positions, offset}, 2, &places);
    lc_tensor_release(offset);
    LC_TRY(status);
    status = lc_embed(parts->positions, places, -1, rows);
    lc_tensor_release(places);
    return status;
}

static lc_status opt_embed(lc_model *m, const lc_pass *pass, lc_tensor **x) {
    const opt *parts = m->parts;
    lc_tensor *tokens = NULL, *wide = NULL, *places = NULL;
    lc_status status;
    LC_GOTO(done, lc_embed(parts->tokens, pass->ids, m->padding_id, &tokens));
    if (parts->in)
        LC_GOTO(done, lc_layer_forward(parts->in, tokens, LC_ACT_NONE, &wide));
    else
        wide = lc_tensor_retain(tokens);
    LC_GOTO(done, position_rows(parts, pass, &places));
    status = lc_binary(LC_OP_ADD, wide, places, x);
done:
    lc_tensor_release(tokens);
    lc_tensor_release(wide);
    lc_tensor_release(places);
    return status;
}

static lc_status opt_finish(lc_model *m, const lc_pass *pass, lc_tensor *x, lc_tensor **hidden) {
    const opt *parts = m->parts;
    (void)pass;
    lc_tensor *normed = NULL;
    if (parts->has_final)
        LC_TRY(lc_norm_forward(&parts->final, x, &normed));
    else
        normed = lc_tensor_retain(x);
    if (!parts->out) {
        *hidden = normed;
        return LC_OK;
    }
    lc_status status = lc_layer_forward(parts->out, normed, LC_ACT_NONE, hidden);
    lc_tensor_release(normed);
    return status;
}

/* Files of the first release carry it. */
static bool opt_is_buffer(const char *name) {
    return !strcmp(name, "decoder.version");
}

static const char *const opt_keys[] = {"vocab_size",
                                       "hidden_size",
                                       "num_hidden_layers",
                                       "ffn_dim",
                                       "max_position_embeddings",
                                       "do_layer_norm_before",
                                       "_remove_final_layer_norm",
                                       "word_embed_proj_dim",
                                       "dropout",
                                       "attention_dropout",
                                       "num_attention_heads",
                                       "activation_function",
                                       "layerdrop",
                                       "init_std",
                                       "enable_bias",
                                       "layer_norm_elementwise_affine",
                                       "tie_word_embeddings",
                                       "bos_token_id",
                                       "eos_token_id",
                                       "pad_token_id",
                                       NULL};

const lc_family lc_family_opt = {
    .name = "opt",
    .prefix = "model.",
    .architecture = "OPTForCausalLM",
    .keys = opt_keys,
    .initializer = "init_std",
    .causal = true,
    .positions_by_mask = true,
    .build = opt_build,
    .embed = opt_embed,
    .finish = opt_finish,
    .is_buffer = opt_is_buffer,
};
