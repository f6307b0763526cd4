/* import_gguf.c: models of llama.cpp: its names for metadata and tensors become those of transformers.
 *
 * An architecture is one row of the table: what its keys and tensors are called. Weights of linear layers are (O, I) in
 * all of them. llama's q and k, and gptneox's fused q, k, v, are stored in another order of rows. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "io/gguf.h"
#include "model/import.h"
#include "text/tokenizer_gguf.h"

typedef struct name_pair {
    const char *theirs, *ours;
} name_pair;

typedef struct key_row {
    const char *theirs, *ours; /* "<architecture>.<theirs>" */
    bool is_float, required;
} key_row;

typedef struct architecture {
    const char *name, *model_type, *class, *prefix; /* prefix: of the names of blocks */
    const key_row *keys;
    const name_pair *tensors, *in_blocks; /* without ".weight" and ".bias" */
    lc_status (*complete)(const lc_gguf *g, const struct architecture *a, lc_weights *w, json_t *config);
    bool (*reordered)(const lc_source *s, const char *name, lc_row_order *out);
} architecture;

/* -- values of the configuration ---------------------------------------------------------------- */

static lc_status set(json_t *config, const char *key, json_t *value) {
    return value && !json_object_set_new(config, key, value) ? LC_OK : lc_fail(LC_ENOMEM, "out of memory");
}

/* f32 numbers as a person would write them: 1e-05, not 9.99999974e-06. */
static double tidy(double value) {
    char text[32];
    double back = value;
    snprintf(text, sizeof text, "%.7g", value);
    if (sscanf(text, "%lf", &back) != 1 || (float)back != (float)value) return value;
    return back;
}

static lc_status set_number(const lc_gguf *g, const char *key, double value, json_t *object, const char *ours) {
    if (!isfinite(value)) return lc_fail(LC_EFORMAT, "%s: %s is %g", lc_gguf_path(g), key, value);
    return set(object, ours, json_real(tidy(value)));
}

static lc_status copy_key(const lc_gguf *g, const char *key, const char *ours, bool is_float, json_t *config) {
    int64_t integer = 0;
    double number = 0;
    if (!lc_gguf_find(g, key)) return LC_OK;
    if (is_float) {
        LC_TRY(lc_gguf_get_double(g, key, &number));
        return set_number(g, key, number, config, ours);
    }
    LC_TRY(lc_gguf_get_int(g, key, &integer));
    return set(config, ours, json_integer(integer));
}

/* "<architecture>.<end>" */
typedef struct key_text {
    char text[96];
} key_text;
static key_text key_of(const architecture *a, const char *end) {
    key_text key;
    snprintf(key.text, sizeof key.text, "%s.%s", a->name, end);
    return key;
}

static int64_t int_of(const json_t *config, const char *key) {
    return json_integer_value(json_object_get(config, key));
}

static bool has(const lc_weights *w, const char *name) {
    return lc_weights_find(w, name) != NULL;
}

/* -- llama and qwen2 ---------------------------------------------------------------------------- */

static const key_row llama_keys[] = {
    {"embedding_length", "hidden_size", false, true},
    {"feed_forward_length", "intermediate_size", false, true},
    {"block_count", "num_hidden_layers", false, true},
    {"attention.head_count", "num_attention_heads", false, true},
    {"attention.head_count_kv", "num_key_value_heads", false, false},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", true, true},
    {"context_length", "max_position_embeddings", false, true},
    {"rope.freq_base", "rope_theta", true, false},
    {0},
};

static const name_pair llama_tensors[] = {
    {"token_embd", "model.embed_tokens"}, {"output_norm", "model.norm"}, {"output", "lm_head"}, {0}};

static const name_pair llama_in_blocks[] = {
    {"attn_norm", "input_layernorm"},    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},      {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"}, {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},       {0},
};

/* Keys "<architecture>.rope.*": what is read, and what is passed over at the value that changes nothing. */
static const struct {
    const char *name;
    double neutral; /* NAN: read */
} rope_keys[] = {
    {"freq_base", NAN},
    {"dimension_count", NAN},
    {"scale_linear", NAN},
    {"scaling.type", NAN},
    {"scaling.factor", NAN},
    {"scaling.original_context_length", NAN},
    {"scaling.attn_factor", NAN},
    {"scaling.yarn_beta_fast", NAN},
    {"scaling.yarn_beta_slow", NAN},
    {"scaling.finetuned", NAN}, /* says how the model came to its length */
    {"scaling.yarn_ext_factor", 1},
    {"scaling.yarn_attn_factor", 1},
    {"scaling.yarn_log_multiplier", 0},
};

/* Rotations that are not the file's would give a model that almost works: what is not known is refused. */
static lc_status check_rope_key(const lc_gguf *g, const char *key, const char *name) {
    for (size_t i = 0; i < sizeof rope_keys / sizeof *rope_keys; i++) {
        double value = rope_keys[i].neutral;
        if (strcmp(name, rope_keys[i].name)) continue;
        if (isnan(value)) return LC_OK;
        LC_TRY(lc_gguf_get_double(g, key, &value));
        if (value == rope_keys[i].neutral) return LC_OK;
        return lc_fail(LC_EFORMAT, "%s: metadata %s is %g; lacuna reads only files where it is %g", lc_gguf_path(g),
                       key, value, rope_keys[i].neutral);
    }
    return lc_fail(LC_EFORMAT, "%s: metadata %.80s says of rotations what lacuna does not know", lc_gguf_path(g), key);
}

static lc_status check_rope_keys(const lc_gguf *g, const architecture *a) {
    key_text rope = key_of(a, "rope.");
    size_t n = strlen(rope.text);
    for (int64_t i = 0; i < lc_gguf_value_count(g); i++) {
        const char *key = lc_gguf_value_at(g, i)->key;
        if (!strncmp(key, rope.text, n)) LC_TRY(check_rope_key(g, key, key + n));
    }
    return LC_OK;
}

/* What cosines and sines are multiplied by: YaRN's own factor, times the file's. */
static lc_status set_attention_factor(const lc_gguf *g, const architecture *a, const char *type, double factor,
                                      json_t *scaling) {
    key_text key = key_of(a, "rope.scaling.attn_factor");
    double sharper = 1;
    LC_TRY(lc_gguf_get_double(g, key.text, &sharper));
    if (sharper == 1) return LC_OK;
    if (strcmp(type, "yarn"))
        return lc_fail(LC_EFORMAT, "%s: metadata %s is %g, which lacuna reads only with rope.scaling.type yarn",
                       lc_gguf_path(g), key.text, sharper);
    return set_number(g, key.text, sharper * (factor > 1 ? 0.1 * log(factor) + 1 : 1), scaling, "attention_factor");
}

/* <architecture>.rope.* as rope_scaling, read as llama.cpp does: without a type a factor is linear, and so is the older
 * rope.scale_linear. */
static lc_status set_scaling(const lc_gguf *g, const architecture *a, json_t *config) {
    const char *type = "linear";
    double factor = 0;
    LC_TRY(check_rope_keys(g, a));
    LC_TRY(lc_gguf_get_string(g, key_of(a, "rope.scaling.type").text, &type));
    LC_TRY(lc_gguf_get_double(g, key_of(a, "rope.scale_linear").text, &factor));
    LC_TRY(lc_gguf_get_double(g, key_of(a, "rope.scaling.factor").text, &factor));
    if (strcmp(type, "none") && strcmp(type, "linear") && strcmp(type, "yarn"))
        return lc_fail(LC_EFORMAT, "%s: rope.scaling.type '%.60s' is unknown; there is none, linear and yarn",
                       lc_gguf_path(g), type);
    if (factor == 0 || !strcmp(type, "none")) factor = 1;
    json_t *scaling = json_pack("{s:s}", "rope_type", strcmp(type, "yarn") ? "linear" : "yarn");
    if (!scaling) return lc_fail(LC_ENOMEM, "out of memory");
    lc_status status = set_attention_factor(g, a, type, factor, scaling);
    if (!status) status = set_number(g, key_of(a, "rope.scaling.factor").text, factor, scaling, "factor");
    if (!status)
        status = copy_key(g, key_of(a, "rope.scaling.original_context_length").text, "original_max_position_embeddings",
                          false, scaling);
    if (!status) status = copy_key(g, key_of(a, "rope.scaling.yarn_beta_fast").text, "beta_fast", true, scaling);
    if (!status) status = copy_key(g, key_of(a, "rope.scaling.yarn_beta_slow").text, "beta_slow", true, scaling);
    if (!status && (factor != 1 || json_object_get(scaling, "attention_factor")))
        status = set(config, "rope_scaling", json_incref(scaling));
    json_decref(scaling);
    return status;
}

/* Rotations turn whole heads, as in llama.cpp. */
static lc_status check_turned(const lc_gguf *g, const architecture *a, int64_t head_size) {
    int64_t turned = head_size;
    LC_TRY(lc_gguf_get_int(g, key_of(a, "rope.dimension_count").text, &turned));
    if (turned == head_size) return LC_OK;
    return lc_fail(LC_EFORMAT,
                   "%s: %s.rope.dimension_count is %" PRId64 ", and heads have %" PRId64
                   " columns; rotations of %s turn whole heads",
                   lc_gguf_path(g), a->name, turned, head_size, a->name);
}

/* Llama 3's scaling is stored as what it comes to: a divisor for each frequency, "rope_freqs". transformers' longrope
 * says the same, with its own factor on turned columns switched off. */
static lc_status set_divisors(const lc_gguf *g, lc_weights *w, json_t *config) {
    lc_tensor *t = NULL;
    if (!has(w, "rope_freqs.weight")) return LC_OK;
    if (json_object_get(config, "rope_scaling"))
        return lc_fail(LC_EFORMAT, "%s: has rope_freqs and rope.scaling; lacuna reads one of them", lc_gguf_path(g));
    LC_TRY(lc_weights_read(w, "rope_freqs.weight", LC_F64, &t));
    json_t *scaling = json_pack("{s:s, s:[], s:[], s:f}", "rope_type", "longrope", "short_factor", "long_factor",
                                "attention_factor", 1.0);
    lc_status status = set(config, "rope_scaling", scaling);
    for (int64_t i = 0; i < lc_numel(t) && !status; i++) {
        double divisor = tidy(lc_get_f64(t, lc_position(t, i)));
        if (!(divisor > 0 && divisor < INFINITY))
            status = lc_fail(LC_EFORMAT, "%s: rope_freqs holds %g", lc_gguf_path(g), divisor);
        else if (json_array_append_new(json_object_get(scaling, "short_factor"), json_real(divisor)) ||
                 json_array_append_new(json_object_get(scaling, "long_factor"), json_real(divisor)))
            status = lc_fail(LC_ENOMEM, "out of memory");
    }
    lc_tensor_release(t);
    return status ? status
                  : set(config, "original_max_position_embeddings",
                        json_integer(int_of(config, "max_position_embeddings")));
}

static lc_status complete_llama(const lc_gguf *g, const architecture *a, lc_weights *w, json_t *config) {
    int64_t experts = 0, heads = int_of(config, "num_attention_heads");
    LC_TRY(lc_gguf_get_int(g, key_of(a, "expert_count").text, &experts));
    if (experts)
        return lc_fail(LC_EFORMAT, "%s: a mixture of %" PRId64 " experts, which lacuna does not have", lc_gguf_path(g),
                       experts);
    if (heads < 1)
        return lc_fail(LC_EFORMAT, "%s: %s.attention.head_count is %" PRId64, lc_gguf_path(g), a->name, heads);
    if (!json_object_get(config, "num_key_value_heads"))
        LC_TRY(set(config, "num_key_value_heads", json_integer(heads)));
    int64_t size = int_of(config, "hidden_size") / heads;
    LC_TRY(lc_gguf_get_int(g, key_of(a, "attention.key_length").text, &size));
    LC_TRY(set(config, "head_dim", json_integer(size)));
    LC_TRY(set(config, "hidden_act", json_string("silu")));
    if (!strcmp(a->name, "llama")) {
        LC_TRY(set(config, "attention_bias", json_boolean(has(w, "blk.0.attn_q.bias"))));
        LC_TRY(set(config, "mlp_bias", json_boolean(has(w, "blk.0.ffn_up.bias"))));
    }
    LC_TRY(check_turned(g, a, size));
    LC_TRY(set_scaling(g, a, config));
    return set_divisors(g, w, config);
}

/* -- gpt2 --------------------------------------------------------------------------------------- */

static const key_row gpt2_keys[] = {
    {"embedding_length", "n_embd", false, true},
    {"feed_forward_length", "n_inner", false, false},
    {"block_count", "n_layer", false, true},
    {"attention.head_count", "n_head", false, true},
    {"attention.layer_norm_epsilon", "layer_norm_epsilon", true, true},
    {"context_length", "n_positions", false, true},
    {0},
};

static const name_pair gpt2_tensors[] = {{"token_embd", "transformer.wte"},
                                         {"position_embd", "transformer.wpe"},
                                         {"output_norm", "transformer.ln_f"},
                                         {"output", "lm_head"},
                                         {0}};

static const name_pair gpt2_in_blocks[] = {{"attn_norm", "ln_1"},
                                           {"attn_qkv", "attn.c_attn"},
                                           {"attn_output", "attn.c_proj"},
                                           {"ffn_norm", "ln_2"},
                                           {"ffn_up", "mlp.c_fc"},
                                           {"ffn_down", "mlp.c_proj"},
                                           {0}};

/* -- gptneox ------------------------------------------------------------------------------------ */

static const key_row neox_keys[] = {
    {"embedding_length", "hidden_size", false, true},
    {"feed_forward_length", "intermediate_size", false, true},
    {"block_count", "num_hidden_layers", false, true},
    {"attention.head_count", "num_attention_heads", false, true},
    {"attention.layer_norm_epsilon", "layer_norm_eps", true, true},
    {"context_length", "max_position_embeddings", false, true},
    {"rope.freq_base", "rotary_emb_base", true, false},
    {0},
};

static const name_pair neox_tensors[] = {
    {"token_embd", "gpt_neox.embed_in"}, {"output_norm", "gpt_neox.final_layer_norm"}, {"output", "embed_out"}, {0}};

static const name_pair neox_in_blocks[] = {{"attn_norm", "input_layernorm"},
                                           {"attn_qkv", "attention.query_key_value"},
                                           {"attn_output", "attention.dense"},
                                           {"ffn_norm", "post_attention_layernorm"},
                                           {"ffn_up", "mlp.dense_h_to_4h"},
                                           {"ffn_down", "mlp.dense_4h_to_h"},
                                           {0}};

static lc_status complete_neox(const lc_gguf *g, const architecture *a, lc_weights *w, json_t *config) {
    bool parallel = true;
    int64_t heads = int_of(config, "num_attention_heads"), width = int_of(config, "hidden_size");
    int64_t turned = heads < 1 ? 0 : width / heads;
    LC_TRY(lc_gguf_get_bool(g, key_of(a, "use_parallel_residual").text, &parallel));
    LC_TRY(set(config, "use_parallel_residual", json_boolean(parallel)));
    LC_TRY(set(config, "attention_bias", json_boolean(has(w, "blk.0.attn_qkv.bias"))));
    LC_TRY(lc_gguf_get_int(g, key_of(a, "rope.dimension_count").text, &turned));
    if (turned < 1 || heads < 1 || width / heads < turned)
        return lc_fail(LC_EFORMAT,
                       "%s: gptneox.rope.dimension_count %" PRId64 " does not fit %" PRId64 " heads of width "
                       "%" PRId64,
                       lc_gguf_path(g), turned, heads, width);
    LC_TRY(set_scaling(g, a, config));
    return set(config, "rotary_pct", json_real((double)turned / (double)(width / heads)));
}

/* Stored (3, heads, D); transformers has (heads, 3, D). */
static bool neox_rows(const lc_source *s, const char *name, lc_row_order *out) {
    if (!strstr(name, ".query_key_value.")) return false;
    int64_t heads = int_of(s->config, "num_attention_heads");
    *out = (lc_row_order){{3, heads, int_of(s->config, "hidden_size") / heads}, {1, 0, 2}};
    return true;
}

/* -- the table ---------------------------------------------------------------------------------- */

static const architecture architectures[] = {
    {"llama", "llama", "LlamaForCausalLM", "model.layers.", llama_keys, llama_tensors, llama_in_blocks, complete_llama,
     lc_rotary_rows},
    {"qwen2", "qwen2", "Qwen2ForCausalLM", "model.layers.", llama_keys, llama_tensors, llama_in_blocks, complete_llama,
     NULL},
    {"gpt2", "gpt2", "GPT2LMHeadModel", "transformer.h.", gpt2_keys, gpt2_tensors, gpt2_in_blocks, NULL, NULL},
    {"gptneox", "gpt_neox", "GPTNeoXForCausalLM", "gpt_neox.layers.", neox_keys, neox_tensors, neox_in_blocks,
     complete_neox, neox_rows},
};

static lc_status find_architecture(const lc_gguf *g, const architecture **out) {
    const char *name = NULL;
    LC_TRY(lc_gguf_require(g, "general.architecture"));
    LC_TRY(lc_gguf_get_string(g, "general.architecture", &name));
    for (size_t i = 0; i < sizeof architectures / sizeof *architectures; i++)
        if (!strcmp(architectures[i].name, name)) {
            *out = &architectures[i];
            return LC_OK;
        }
    return lc_fail(LC_EFORMAT,
                   "%s: unknown architecture '%.60s'; lacuna reads llama, qwen2, gpt2 and gptneox from GGUF",
                   lc_gguf_path(g), name);
}

/* -- names -------------------------------------------------------------------------------------- */

static const char *look_up(const name_pair *pairs, const char *name, size_t length) {
    for (; pairs->theirs; pairs++)
        if (strlen(pairs->theirs) == length && !strncmp(pairs->theirs, name, length)) return pairs->ours;
    return NULL;
}

/* "blk.3.attn_q.weight" -> "model.layers.3.self_attn.q_proj.weight". Names that no table has stay, and are complained
 * about as unexpected when the model is read. */
static lc_status rename_tensor(void *context, char *name, size_t room) {
    const architecture *a = context;
    char old[512];
    int block = -1, begin = 0;
    snprintf(old, sizeof old, "%s", name);
    if (!strcmp(old, "rope_freqs.weight")) {
        snprintf(name, room, "%srotary_emb.inv_freq", a->prefix);
        return LC_OK;
    }
    if (sscanf(old, "blk.%9d.%n", &block, &begin) != 1 || !begin) begin = 0;
    const char *stem = old + begin, *dot = strrchr(stem, '.');
    const char *ours = dot ? look_up(begin ? a->in_blocks : a->tensors, stem, (size_t)(dot - stem)) : NULL;
    if (ours && begin)
        snprintf(name, room, "%s%d.%s%s", a->prefix, block, ours, dot);
    else if (ours)
        snprintf(name, room, "%s%s", ours, dot);
    return LC_OK;
}

/* -- a file ------------------------------------------------------------------------------------- */

static lc_status check_causal(const lc_gguf *g, const architecture *a) {
    bool causal = true;
    LC_TRY(lc_gguf_get_bool(g, key_of(a, "attention.causal").text, &causal));
    if (causal) return LC_OK;
    return lc_fail(LC_EFORMAT,
                   "%s: %s.attention.causal is false: a model of embeddings, whose tokens see those behind them",
                   lc_gguf_path(g), a->name);
}

static lc_status make_config(const lc_gguf *g, const architecture *a, lc_weights *w, json_t *config) {
    const lc_stored *tokens = lc_weights_find(w, "token_embd.weight");
    if (!tokens || tokens->ndim != 2) return lc_fail(LC_EFORMAT, "%s: no matrix token_embd.weight", lc_gguf_path(g));
    LC_TRY(check_causal(g, a));
    LC_TRY(set(config, "model_type", json_string(a->model_type)));
    LC_TRY(set(config, "architectures", json_pack("[s]", a->class)));
    LC_TRY(set(config, "vocab_size", json_integer(tokens->shape[0])));
    for (const key_row *k = a->keys; k->theirs; k++) {
        key_text key = key_of(a, k->theirs);
        if (k->required) LC_TRY(lc_gguf_require(g, key.text));
        LC_TRY(copy_key(g, key.text, k->ours, k->is_float, config));
    }
    LC_TRY(set(config, "tie_word_embeddings", json_boolean(!has(w, "output.weight"))));
    LC_TRY(copy_key(g, "tokenizer.ggml.bos_token_id", "bos_token_id", false, config));
    LC_TRY(copy_key(g, "tokenizer.ggml.eos_token_id", "eos_token_id", false, config));
    return a->complete ? a->complete(g, a, w, config) : LC_OK;
}

static lc_status check_whole(const lc_gguf *g) {
    int64_t parts = 1;
    LC_TRY(lc_gguf_get_int(g, "split.count", &parts));
    if (parts <= 1) return LC_OK;
    return lc_fail(LC_EFORMAT, "%s: one of %" PRId64 " parts of a split model: join them with llama-gguf-split --merge",
                   lc_gguf_path(g), parts);
}

/* The file's tokenizer; a kind that is not known leaves the model usable by ids, and is said. */
static lc_status read_tokenizer(const lc_gguf *g, lc_source *out) {
    if (!lc_gguf_find(g, "tokenizer.ggml.model")) return LC_OK;
    lc_status status = lc_tokenizer_from_gguf(g, &out->tokenizer);
    if (status != LC_ENOTFOUND) return status;
    out->note =
        "its tokenizer is of a kind that lacuna does not know (lc.tokenizer of the file names it): the model has "
        "none; set model.tokenizer";
    return LC_OK;
}

static lc_status import(const lc_gguf *g, const char *path, lc_source *out) {
    const architecture *a = NULL;
    LC_TRY(check_whole(g));
    LC_TRY(find_architecture(g, &a));
    LC_TRY(lc_weights_open(path, &out->weights));
    out->config = json_object();
    if (!out->config) return lc_fail(LC_ENOMEM, "out of memory");
    LC_TRY(make_config(g, a, out->weights, out->config));
    out->by_outputs = true;
    out->reordered = a->reordered;
    LC_TRY(read_tokenizer(g, out));
    return lc_weights_rename(out->weights, rename_tensor, (void *)a);
}

lc_status lc_import_gguf(const char *path, lc_source *out) {
    lc_gguf *g = NULL;
    LC_TRY(lc_gguf_open(path, &g));
    lc_status status = import(g, path, out);
    lc_gguf_close(g);
    return status;
}
