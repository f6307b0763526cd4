"""Makes tests/golden/gguf/: the tiny models of tests/golden/llama_plain and others as llama.cpp's convert_hf_to_gguf.py stores them:
its names, q and k of llama with the columns of a rotation side by side, fused q, k, v of gptneox apart, GPT-2's matrices (O, I). What
loads from them must equal what loads from those directories.
Run: python tests/golden/gguf_models.py
"""

import json
import pathlib

import numpy as np
from gguf import GGUFWriter, RopeScalingType
from safetensors.torch import load_file

HERE = pathlib.Path(__file__).parent
BLOCK = {
    "llama": {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
              "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate",
              "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"},
    "gpt2": {"ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "ln_2": "ffn_norm", "mlp.c_fc": "ffn_up",
             "mlp.c_proj": "ffn_down"},
    "gptneox": {"input_layernorm": "attn_norm", "attention.query_key_value": "attn_qkv", "attention.dense": "attn_output",
                "post_attention_layernorm": "ffn_norm", "mlp.dense_h_to_4h": "ffn_up", "mlp.dense_4h_to_h": "ffn_down"},
}
TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "transformer.wte": "token_embd",
       "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm", "gpt_neox.embed_in": "token_embd",
       "gpt_neox.final_layer_norm": "output_norm", "embed_out": "output"}
BLOCK["qwen2"] = BLOCK["llama"]


def rename(architecture, name):
    stem, end = name.rsplit(".", 1)
    if stem in TOP:
        return f"{TOP[stem]}.{end}"
    parts = stem.split(".")
    at = next(i for i, part in enumerate(parts) if part.isdigit())
    return f"blk.{parts[at]}.{BLOCK[architecture]['.'.join(parts[at + 1:])]}.{end}"


def permute(rows, heads):
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def convert(architecture, config, name, tensor):
    if architecture == "llama" and ".q_proj." in name:
        return permute(tensor, config["num_attention_heads"])
    if architecture == "llama" and ".k_proj." in name:
        return permute(tensor, config.get("num_key_value_heads") or config["num_attention_heads"])
    if architecture == "gptneox" and ".query_key_value." in name:
        heads = config["num_attention_heads"]
        return tensor.reshape(heads, 3, -1, *tensor.shape[1:]).swapaxes(0, 1).reshape(tensor.shape)
    if architecture == "gpt2" and tensor.ndim == 2 and ".h." in name:
        return tensor.T
    return tensor


def scaling(writer, rope):
    """Linear as old files have it, by its factor alone; YaRN with what attention is sharpened by beyond YaRN's own."""
    kind = rope.get("rope_type", rope.get("type"))
    if kind not in ("linear", "yarn"):
        return
    factor = rope["factor"]
    writer.add_rope_scaling_factor(factor)
    if kind == "linear":
        return
    writer.add_rope_scaling_type(RopeScalingType.YARN)
    writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    writer.add_rope_scaling_yarn_beta_fast(rope.get("beta_fast", 32.0))
    writer.add_rope_scaling_yarn_beta_slow(rope.get("beta_slow", 1.0))
    if "mscale" in rope:
        own, all_dims, plain = (0.1 * scale * np.log(factor) + 1 for scale in (rope["mscale"], rope["mscale_all_dim"], 1))
        writer.add_rope_scaling_attn_factors(own / all_dims / plain)


def sizes(writer, architecture, c):
    heads = c.get("num_attention_heads", c.get("n_head"))
    width = c.get("hidden_size", c.get("n_embd"))
    rope = c.get("rope_parameters") or c.get("rope_scaling") or {}
    writer.add_context_length(c.get("max_position_embeddings", c.get("n_positions")))
    writer.add_embedding_length(width)
    writer.add_block_count(c.get("num_hidden_layers", c.get("n_layer")))
    writer.add_feed_forward_length(c.get("intermediate_size", c.get("n_inner")) or 4 * width)
    writer.add_head_count(heads)
    if architecture in ("llama", "qwen2"):
        size = c.get("head_dim") or width // heads
        writer.add_head_count_kv(c.get("num_key_value_heads") or heads)
        writer.add_layer_norm_rms_eps(c.get("rms_norm_eps", 1e-6))
        writer.add_rope_freq_base(rope.get("rope_theta", c.get("rope_theta", 10000.0)))
        writer.add_rope_dimension_count(size)
        writer.add_key_length(size)
        writer.add_value_length(size)
    else:
        writer.add_layer_norm_eps(c.get("layer_norm_eps", c.get("layer_norm_epsilon", 1e-5)))
    scaling(writer, rope)
    if architecture == "gptneox":
        writer.add_rope_dimension_count(int(rope.get("partial_rotary_factor", c.get("rotary_pct", 0.25)) * (width // heads)))
        writer.add_parallel_residual(c.get("use_parallel_residual", True))


def write(source, target, architecture, divisors=None):
    """The model of a directory as a file."""
    config = json.loads((source / "config.json").read_text())
    weights = load_file(source / "model.safetensors")
    writer = GGUFWriter(target, architecture)
    sizes(writer, architecture, config)
    if divisors is not None:
        writer.add_tensor("rope_freqs.weight", divisors)
    for name, tensor in weights.items():
        data = np.ascontiguousarray(convert(architecture, config, name, tensor.float().numpy()))
        writer.add_tensor(rename(architecture, name), data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def llama3_divisors(source):
    """What llama.cpp makes of Llama 3's scaling: one divisor for each frequency."""
    c = json.loads((source / "config.json").read_text())
    rope = c.get("rope_parameters") or c["rope_scaling"]
    theta = rope.get("rope_theta", c.get("rope_theta", 10000.0))
    size = c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]
    wavelengths = 2 * np.pi * theta ** (np.arange(0, size, 2) / size)
    first, low, high, factor = (rope[k] for k in ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor", "factor"))
    smooth = (first / wavelengths - low) / (high - low)
    middle = 1 / ((1 - smooth) / factor + smooth)
    return np.where(wavelengths < first / high, 1, np.where(wavelengths > first / low, factor, middle)).astype(np.float32)


if __name__ == "__main__":
    (HERE / "gguf").mkdir(exist_ok=True)
    for name in ["llama_plain", "llama_biases", "llama_linear", "llama_yarn", "llama_yarn_mscale", "llama_llama3", "qwen2_plain",
                 "gpt_neox_plain", "gpt_neox_sequential", "gpt2_plain"]:
        architecture = "gptneox" if name.startswith("gpt_neox") else name.split("_")[0]
        divisors = llama3_divisors(HERE / name) if name == "llama_llama3" else None
        write(HERE / name, HERE / "gguf" / f"{name}.gguf", architecture, divisors)
