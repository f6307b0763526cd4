/* family_qwen2.c: Qwen2 (Yang et al. 2024, "Qwen2 technical report"), as transformers' Qwen2ForCausalLM: Llama with
 * biases on q, k and v.
 *
 * Some of its configurations let upper layers see a window of the last tokens only. Up to the window's length that is
 * attention to everything; longer texts are refused. */
#include <string.h>

#include "model/config.h"
#include "model/llama.h"

/* Whether any layer attends to a window: by "layer_types", or from layer "max_window_layers" on. */
static lc_status has_window(const lc_model *m, const char *where, bool *out) {
    json_t *types = NULL;
    int64_t first = 28;
    *out = false;
    LC_TRY(lc_json_get_array(m->config, "layer_types", where, &types));
    LC_TRY(lc_json_get_int(m->config, "max_window_layers", where, &first));
    if (!types) *out = first < m->sizes.layers;
    for (size_t i = 0; i < json_array_size(types); i++) {
        const char *type = json_string_value(json_array_get(types, i));
        *out = *out || (type && !strcmp(type, "sliding_attention"));
    }
    return LC_OK;
}

/* c->window, when the configuration uses one. */
static lc_status read_window(const lc_model *m, lc_llama_config *c) {
    bool used = false, any = false;
    int64_t window = 4096;
    LC_TRY(lc_json_get_bool(m->config, "use_sliding_window", c->where, &used));
    if (!used || json_is_null(json_object_get(m->config, "sliding_window"))) return LC_OK;
    LC_TRY(lc_config_size(m->config, c->where, &window, "sliding_window", NULL));
    LC_TRY(has_window(m, c->where, &any));
    if (any) c->window = window;
    return LC_OK;
}

static lc_status qwen2_build(lc_model *m) {
    lc_llama_config c = {.where = "qwen2 config",
                         .heads = 32,
                         .kv_heads = 32,
                         .inner = 22016,
                         .eps = 1e-6,
                         .act = LC_ACT_SILU,
                         .qkv_bias = true};
    m->sizes = (lc_sizes){.vocabulary = 151936, .positions = 32768, .width = 4096, .layers = 32};
    if (json_is_null(json_object_get(m->config, "num_key_value_heads"))) c.kv_heads = 0;
    LC_TRY(lc_config_size(m->config, c.where, &m->sizes.layers, "num_hidden_layers", NULL));
    LC_TRY(read_window(m, &c));
    LC_TRY(lc_llama_read(m, &c));
    return lc_llama_build(m, &c);
}

static const char *const qwen2_keys[] = {"vocab_size",
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
                                         "use_sliding_window",
                                         "sliding_window",
                                         "max_window_layers",
                                         "layer_types",
                                         "attention_dropout",
                                         "tie_word_embeddings",
                                         "bos_token_id",
                                         "eos_token_id",
                                         "pad_token_id",
                                         NULL};

const lc_family lc_family_qwen2 = {
    .name = "qwen2",
    .prefix = "model.",
    .architecture = "Qwen2ForCausalLM",
    .keys = qwen2_keys,
    .initializer = "initializer_range",
    .causal = true,
    .build = qwen2_build,
    .embed = lc_llama_embed,
    .finish = lc_llama_finish,
    .is_buffer = lc_llama_is_buffer,
};
