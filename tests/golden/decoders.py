"""Makes tests/golden/{llama,qwen2,gpt_neox,opt}_*/: tiny decoders of odd sizes with what transformers computes for them, in f64.

Each directory holds a checkpoint as lc.load reads it, its weights in bf16, and expected.safetensors: ids, labels; logits, loss, and the
gradient of every parameter, named "grad.<its name in the file>". The first of each family has more: logits under padding masks on either
side, greedy continuations, and twenty steps of AdamW: losses and final weights.
Run: python tests/golden/decoders.py
"""

import contextlib
import json
import pathlib
import sys

import torch
from safetensors.torch import save_file
from transformers import (GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM, Qwen2Config,
                          Qwen2ForCausalLM)
from transformers.utils import logging

logging.set_verbosity_error()
HERE = pathlib.Path(__file__).parent
STEPS = 20
CLASSES = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM),
           "gpt_neox": (GPTNeoXConfig, GPTNeoXForCausalLM), "opt": (OPTConfig, OPTForCausalLM)}

SIZES = dict(vocab_size=53, hidden_size=18, num_hidden_layers=1, num_attention_heads=3, max_position_embeddings=19, bos_token_id=0,
             eos_token_id=52)
LLAMA = SIZES | dict(intermediate_size=23, num_key_value_heads=1, head_dim=8)
NEOX = SIZES | dict(intermediate_size=23)
OPT = SIZES | dict(ffn_dim=23, dropout=0.0)
FACTORS = dict(short_factor=[1.0, 1.1, 1.3, 1.5], long_factor=[1.2, 2.0, 3.1, 4.5])

# family -> variant -> keys of the configuration. "full": config.json has every key, as transformers writes them now.
VARIANTS = {
    "llama": {
        "plain": LLAMA | dict(num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2, head_dim=6, full=True),
        "biases": LLAMA | dict(head_dim=None, num_key_value_heads=None, attention_bias=True, mlp_bias=True, tie_word_embeddings=True,
                               hidden_act="gelu", rms_norm_eps=1e-2, rope_theta=500.0, pad_token_id=5),
        "linear": LLAMA | dict(rope_scaling=dict(type="linear", factor=3.0)),
        "dynamic": LLAMA | dict(max_position_embeddings=8, rope_parameters=dict(rope_type="dynamic", factor=2.0, rope_theta=100.0),
                                full=True),
        "yarn": LLAMA | dict(rope_theta=300.0, rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=40,
                                                                 beta_fast=6.0, beta_slow=0.5)),
        "yarn_mscale": LLAMA | dict(rope_parameters=dict(rope_type="yarn", factor=8.0, original_max_position_embeddings=30, truncate=False,
                                                         mscale=0.7, mscale_all_dim=1.3, beta_fast=4.0), full=True),
        "longrope_short": LLAMA | dict(rope_scaling=dict(type="longrope", factor=2.0, original_max_position_embeddings=16, **FACTORS)),
        "longrope_long": LLAMA | dict(rope_parameters=dict(rope_type="longrope", original_max_position_embeddings=6, **FACTORS)),
        "llama3": LLAMA | dict(rope_theta=50.0, rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                                                  original_max_position_embeddings=12)),
        "proportional": LLAMA | dict(rope_parameters=dict(rope_type="proportional", partial_rotary_factor=0.75, rope_theta=20.0)),
    },
    "qwen2": {
        "plain": SIZES | dict(intermediate_size=23, num_key_value_heads=1, num_hidden_layers=2, full=True),
        "window": SIZES | dict(intermediate_size=23, num_key_value_heads=3, tie_word_embeddings=True, use_sliding_window=True,
                               sliding_window=13, max_window_layers=0, rope_theta=1e6, pad_token_id=3),
    },
    "gpt_neox": {
        "plain": NEOX | dict(num_hidden_layers=2, full=True),
        "sequential": NEOX | dict(use_parallel_residual=False, rotary_pct=1.0, rotary_emb_base=500, tie_word_embeddings=True,
                                  attention_bias=False, hidden_act="relu", layer_norm_eps=1e-2),
        "linear": NEOX | dict(rope_parameters=dict(rope_type="linear", factor=2.0, partial_rotary_factor=0.7, rope_theta=90.0),
                              hidden_act="gelu_new"),
        "old": NEOX | dict(rotary_pct=0.5, rotary_emb_base=10000),
    },
    "opt": {
        "plain": OPT | dict(num_hidden_layers=2, full=True),
        "after": OPT | dict(do_layer_norm_before=False, word_embed_proj_dim=10, num_hidden_layers=2),
        "bare": OPT | dict(enable_bias=False, layer_norm_elementwise_affine=False, activation_function="gelu", tie_word_embeddings=False,
                           pad_token_id=None),
        "old": OPT | dict(_remove_final_layer_norm=True),
    },
}


@contextlib.contextmanager
def doubles():
    """Inside, what transformers computes in f32 whatever the model's type (norms, angles, softmax) is computed in f64 too."""
    kept = {"float": torch.float, "float32": torch.float32}
    method, default = torch.Tensor.float, torch.get_default_dtype()
    for name in kept:
        setattr(torch, name, torch.float64)
    torch.Tensor.float = torch.Tensor.double
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        for name, dtype in kept.items():
            setattr(torch, name, dtype)
        torch.Tensor.float = method
        torch.set_default_dtype(default)


def make(family, seed, config):
    """A model in f64 whose weights fit bf16, large enough that every part of it shows in the logits."""
    Config, Model = CLASSES[family]
    model = Model._from_config(Config(**config), attn_implementation="eager").eval()
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            drawn = torch.randn(p.shape, dtype=torch.float64)
            p.copy_((0.3 * drawn if p.ndim > 1 else p + 0.1 * drawn).bfloat16())
    return model


def file_name(family, name):
    return name.replace("lm_head", "embed_out") if family == "gpt_neox" else name


def parameters(model, family):
    return {file_name(family, n): p for n, p in model.named_parameters()}


def loss_of(logits, labels):
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def run(model, family, ids, labels):
    logits = model(ids).logits
    loss = loss_of(logits, labels)
    loss.backward()
    gradients = {f"grad.{n}": p.grad.clone() for n, p in parameters(model, family).items()}
    model.zero_grad()
    return {"ids": ids, "labels": labels, "logits": logits, "loss": loss} | gradients


def under_masks(model, ids):
    right, left = torch.ones_like(ids), torch.ones_like(ids)
    right[1, 7:] = 0
    left[0, :5] = 0
    return {"right": right, "right.logits": model(ids, attention_mask=right).logits,
            "left": left, "left.logits": model(ids, attention_mask=left).logits}


def continuations(model, ids):
    result = {}
    for i, length in enumerate((3, 7)):
        prompt = ids[i : i + 1, :length]
        out = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=9, do_sample=False, eos_token_id=None,
                             pad_token_id=0)
        result[f"generated.{i + 1}"] = out[0, length:].clone()
    return result


def train(model, family, ids):
    """One batch, seen STEPS times: AdamW with decay on matrices and embeddings only, gradients clipped to 1."""
    params = list(model.parameters())
    groups = [{"params": [p for p in params if p.ndim >= 2], "weight_decay": 0.1},
              {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=2e-3, betas=(0.9, 0.95), eps=1e-6)
    losses = []
    for _ in range(STEPS):
        loss = loss_of(model(ids).logits, ids)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    final = {f"final.{n}": p.detach().clone() for n, p in parameters(model, family).items()}
    return {"losses": torch.tensor(losses, dtype=torch.float64)} | final


def stored_config(family, config, model, full):
    if not full:
        return {"model_type": family, **config}
    everything = model.config.to_dict()
    return {k: v for k, v in everything.items() if not k.startswith("_") or k == "_remove_final_layer_norm"}


def stored_weights(family, variant, model):
    weights = {n: p.detach().bfloat16() for n, p in parameters(model, family).items()}
    if (family, variant) == ("gpt_neox", "old"):
        for i in range(model.config.num_hidden_layers):
            name = f"gpt_neox.layers.{i}.attention."
            weights[name + "bias"] = torch.ones(1, 1, 19, 19, dtype=torch.bool).tril()
            weights[name + "masked_bias"] = torch.tensor(-1e9, dtype=torch.bfloat16)
            weights[name + "rotary_emb.inv_freq"] = torch.ones(2)
    if (family, variant) == ("gpt_neox", "linear"):
        weights["lm_head.weight"] = weights.pop("embed_out.weight")
    if (family, variant) == ("opt", "old"):
        weights = {n.removeprefix("model."): w for n, w in weights.items()}
    return weights


def write(family, variant, seed, config):
    config = dict(config)
    full = config.pop("full", False)
    torch.manual_seed(seed + 1)
    ids = torch.randint(53, (2, 11))
    if variant in ("biases", "plain", "window"):
        ids[0, 2] = ids[1, 4] = {"biases": 5, "window": 3}.get(variant, 1)  # the padding's id, in the middle of text
    labels = ids.clone()
    if variant == "plain":
        labels[0, 3:6] = labels[1, :4] = -100
    with doubles():
        model = make(family, seed, config)
        weights, stored = stored_weights(family, variant, model), stored_config(family, config, model, full)
        expected = run(model, family, ids, labels)
        if variant == "plain":
            with torch.no_grad():
                expected |= under_masks(model, ids) | continuations(model, ids)
            expected |= train(model, family, ids)
    directory = HERE / f"{family}_{variant}"
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(stored, indent=1) + "\n")
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    expected = {k: v.detach().float() if k.startswith("final.") else v.detach() for k, v in expected.items()}
    save_file({k: v.clone().contiguous() for k, v in expected.items()}, directory / "expected.safetensors")


def main(families):
    for family in families or VARIANTS:
        for number, (variant, config) in enumerate(VARIANTS[family].items()):
            write(family, variant, 10 * number + 100, config)


if __name__ == "__main__":
    main(sys.argv[1:])
