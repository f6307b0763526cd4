"""Llama, Qwen2, GPT-NeoX and OPT beside transformers: logits, loss and every gradient for many configurations, in f32 and f64, with and
without padding; greedy generation; fresh models; and Lacuna's own checkpoints loaded back.

Usage: python families.py
"""

import copy
import pathlib
import sys
import tempfile

import torch
from safetensors.torch import load_file
from transformers.utils import logging

from gpt2 import check_saved, compare_fresh_model, expect, generate, make_inputs, write
from support import F32, F64, ROOT, ZERO, Report, run_lacuna

sys.path.append(str(ROOT / "tests" / "golden"))
from decoders import CLASSES, FACTORS, doubles, file_name  # noqa: E402

logging.set_verbosity_error()
logging.disable_progress_bar()
BASE = dict(vocab_size=61, hidden_size=18, num_hidden_layers=2, num_attention_heads=3, max_position_embeddings=19, bos_token_id=0,
            eos_token_id=60)
LLAMA = BASE | dict(intermediate_size=29)
NEOX = BASE | dict(intermediate_size=29)
OPT = BASE | dict(ffn_dim=29)


def rope(name, theta=30.0, **more):
    return dict(rope_parameters=dict(rope_type=name, rope_theta=theta, **more))


ROPES = {
    "linear": rope("linear", factor=2.5),
    "linear, old keys": dict(rope_theta=70.0, rope_scaling=dict(type="linear", factor=4.0)),
    "dynamic": dict(max_position_embeddings=12) | rope("dynamic", factor=2.0),
    "dynamic, old keys": dict(max_position_embeddings=10, rope_scaling=dict(type="dynamic", factor=3.0)),
    "yarn": rope("yarn", factor=4.0, original_max_position_embeddings=24, beta_fast=3.0, beta_slow=0.2),
    "yarn, defaults": rope("yarn", 10000.0, factor=16.0),
    "yarn, attention factor, not truncated": rope("yarn", factor=2.0, attention_factor=1.7, truncate=False, beta_fast=2.0, beta_slow=0.3,
                                                  original_max_position_embeddings=10),
    "yarn, mscale": rope("yarn", factor=8.0, mscale=1.0, mscale_all_dim=0.4, original_max_position_embeddings=9),
    "llama3": rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=9),
    "llama3, old keys": dict(rope_theta=100.0, rope_scaling=dict(rope_type="llama3", factor=2.0, low_freq_factor=0.5, high_freq_factor=1.5,
                                                                original_max_position_embeddings=14)),
}
LLAMA_ROPES = {  # as many factors as these heads have pairs
    "longrope": dict(head_dim=8) | rope("longrope", original_max_position_embeddings=7, **FACTORS),
    "longrope, attention factor": dict(head_dim=8) | rope("longrope", original_max_position_embeddings=12, attention_factor=0.8, factor=3.0,
                                                          **FACTORS),
    "proportional": dict(head_dim=10) | rope("proportional", partial_rotary_factor=0.5, factor=2.0),
}

CONFIGS = {
    "llama": {
        "as it comes": {},
        "grouped queries 6 / 2": dict(num_attention_heads=6, num_key_value_heads=2, hidden_size=36),
        "one key head": dict(num_key_value_heads=1),
        "wide heads": dict(head_dim=14, num_key_value_heads=1),
        "narrow heads": dict(head_dim=2),
        "attention biases": dict(attention_bias=True),
        "mlp biases": dict(mlp_bias=True),
        "tied head": dict(tie_word_embeddings=True),
        "tied head, padding in text": dict(tie_word_embeddings=True, pad_token_id=7),
        "padding counted from the end": dict(pad_token_id=-1),
        "relu": dict(hidden_act="relu"),
        "gelu_pytorch_tanh": dict(hidden_act="gelu_pytorch_tanh"),
        "epsilon 0.1": dict(rms_norm_eps=0.1),
        "theta 500000, old key": dict(rope_theta=500000.0),
        "one layer, wide": dict(num_hidden_layers=1, hidden_size=72, num_attention_heads=9, intermediate_size=200,
                                max_position_embeddings=150),
        "everything": dict(num_attention_heads=6, hidden_size=30, num_key_value_heads=3, head_dim=10, attention_bias=True, mlp_bias=True,
                           tie_word_embeddings=True, num_hidden_layers=3, vocab_size=131, pad_token_id=0),
    } | ROPES | LLAMA_ROPES,
    "qwen2": {
        "as it comes": dict(num_key_value_heads=3),
        "one key head": dict(num_key_value_heads=1),
        "heads of 4": dict(num_key_value_heads=1, head_dim=4),
        "tied head": dict(num_key_value_heads=3, tie_word_embeddings=True, rope_theta=1e6),
        "window above all texts": dict(num_key_value_heads=3, use_sliding_window=True, sliding_window=19, max_window_layers=1),
        "window that no layer has": dict(num_key_value_heads=1, use_sliding_window=True, sliding_window=3, max_window_layers=2),
        "window not used": dict(num_key_value_heads=3, sliding_window=3, max_window_layers=0),
        "yarn": dict(num_key_value_heads=1) | rope("yarn", factor=4.0, original_max_position_embeddings=10),
    },
    "gpt_neox": {
        "as it comes": {},
        "in sequence": dict(use_parallel_residual=False),
        "whole heads": dict(rotary_pct=1.0, rotary_emb_base=100),
        "half heads": dict(rotary_pct=0.5),
        "odd share": dict(rotary_pct=0.67, hidden_size=33),
        "no attention biases": dict(attention_bias=False),
        "tied head": dict(tie_word_embeddings=True),
        "relu": dict(hidden_act="relu"),
        "gelu_fast": dict(hidden_act="gelu_fast"),
        "epsilon 0.01": dict(layer_norm_eps=1e-2),
        "eleven heads of two": dict(num_attention_heads=11, hidden_size=22, rotary_pct=1.0),
        "dropout rates set, not training": dict(hidden_dropout=0.2, attention_dropout=0.3),
        "in sequence, whole heads, tied": dict(use_parallel_residual=False, rotary_pct=1.0, tie_word_embeddings=True, num_hidden_layers=3),
    } | {name: config for name, config in ROPES.items() if "old keys" not in name and "yarn" not in name and "dynamic" not in name}
      | {"dynamic": dict(max_position_embeddings=12) | rope("dynamic", factor=2.0, partial_rotary_factor=1.0)},
    "opt": {
        "as it comes": {},
        "norms behind": dict(do_layer_norm_before=False),
        "norms behind, narrow embeddings": dict(do_layer_norm_before=False, word_embed_proj_dim=11),
        "wide embeddings": dict(word_embed_proj_dim=25),
        "no final norm": dict(_remove_final_layer_norm=True),
        "no biases": dict(enable_bias=False),
        "plain norms": dict(layer_norm_elementwise_affine=False),
        "plain norms behind": dict(layer_norm_elementwise_affine=False, do_layer_norm_before=False),
        "gelu": dict(activation_function="gelu"),
        "untied head": dict(tie_word_embeddings=False),
        "untied head, narrow embeddings": dict(tie_word_embeddings=False, word_embed_proj_dim=7),
        "no padding": dict(pad_token_id=None),
        "everything": dict(do_layer_norm_before=False, word_embed_proj_dim=9, enable_bias=False, layer_norm_elementwise_affine=False,
                           activation_function="gelu", tie_word_embeddings=False, num_hidden_layers=3),
    },
}
SIZES = {"llama": LLAMA, "qwen2": LLAMA, "gpt_neox": NEOX, "opt": OPT}
FRESH = dict(vocab_size=2003, hidden_size=96, num_hidden_layers=2, num_attention_heads=6, max_position_embeddings=640)
FRESH_MODELS = {
    "llama": FRESH | dict(intermediate_size=260, num_key_value_heads=2, attention_bias=True, pad_token_id=3),
    "qwen2": FRESH | dict(intermediate_size=260, num_key_value_heads=2, tie_word_embeddings=True, initializer_range=0.05),
    "gpt_neox": FRESH | dict(intermediate_size=260),
    "opt": FRESH | dict(ffn_dim=260, word_embed_proj_dim=64, do_layer_norm_before=False, init_std=0.04),
}


def build(family, config):
    Config, Model = CLASSES[family]
    return Model._from_config(Config(**copy.deepcopy(config)), attn_implementation="eager").eval()


def make(family, seed, config):
    torch.manual_seed(seed)
    model = build(family, config)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.3 * torch.randn_like(p) if p.ndim > 1 else p + 0.1 * torch.randn_like(p))
    return model


def expect_each(model, family, inputs):
    """expect() of a fresh copy for each input: some rotary scalings remember the longest text they saw."""
    result = {}
    for name, values in inputs.items():
        result |= expect(copy.deepcopy(model), {name: values})
    return {file_name(family, name): t for name, t in result.items()}


def judge(case, family, ours, expected, inputs, dtype):
    limit = {torch.float32: F32, torch.float64: F64}[dtype]
    for key, theirs in expected.items():
        mine = ours.get(key)
        if key.endswith(".logits"):
            real = inputs[key.rsplit(".", 1)[0]][2].bool()
            case.close(key, mine[real] if mine is not None else None, theirs[real], limit)
        elif family == "opt" and key.endswith("k_proj.bias") and mine is not None:
            case.zero(key, mine, ZERO[dtype])  # softmax takes no notice of a shift common to all keys
        elif theirs.abs().max() == 0 and mine is not None:
            case.zero(key, mine, ZERO[dtype])
        else:
            case.close(key, mine, theirs, limit)


def in_doubles(family, config, model):
    """The same weights in a model that computes everything in f64."""
    twin = build(family, config)
    twin.load_state_dict(model.state_dict())
    return twin


def compare_models(work, report):
    cases = []
    for family, configs in CONFIGS.items():
        for number, (name, config) in enumerate(configs.items()):
            config = SIZES[family] | config
            model = make(family, number, config)
            inputs = make_inputs(model)
            prompts = [torch.randint(model.config.vocab_size, (length,)) for length in (3, 1, 8)]
            directory = work / f"{family}{number}"
            write(directory, model, inputs, prompts)
            cases.append((f"{family}, {name}", family, config, directory, model, inputs, prompts))
    run_lacuna("models", "compare", *(case[3] for case in cases))

    for name, family, config, directory, model, inputs, prompts in cases:
        original = {n: p.detach().clone() for n, p in model.named_parameters()}
        f32, f64 = load_file(directory / "out_f32.safetensors"), load_file(directory / "out_f64.safetensors")
        with report.case(f"{name}, f32") as case:
            judge(case, family, f32, expect_each(model, family, inputs), inputs, torch.float32)
        with report.case(f"{name}, saved and generated") as case:
            for i, prompt in enumerate(prompts):
                theirs = generate(copy.deepcopy(model), [prompt], 10)["generated.1"]
                case.equal(f"generated.{i + 1}", f32[f"generated.{i + 1}"], theirs)
            check_saved(case, directory / "saved", original, inputs["whole"][0], f32["whole.logits"])
        with report.case(f"{name}, f64") as case, doubles():
            judge(case, family, f64, expect_each(in_doubles(family, config, model), family, inputs), inputs, torch.float64)


def main():
    report = Report()
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        compare_models(work, report)
        for family, config in FRESH_MODELS.items():
            compare_fresh_model(work / f"fresh_{family}", report, f"fresh {family}", {"model_type": family, **config})
    report.finish()


if __name__ == "__main__":
    main()
