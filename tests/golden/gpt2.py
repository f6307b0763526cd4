"""Makes tests/golden/gpt2_*/: tiny GPT-2 models of odd sizes with what transformers computes for them.

Each directory holds a checkpoint as lc.load reads it, and expected.safetensors: ids, labels, attention masks, and for each the logits,
the loss and (where stored) the gradient of every parameter, named "grad.<name of the state_dict>"; greedy continuations too.
Run: python tests/golden/gpt2.py
"""

import json
import pathlib

import torch
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel

HERE = pathlib.Path(__file__).parent
BASE = dict(vocab_size=53, n_positions=17, n_embd=15, n_layer=2, n_head=3, initializer_range=0.3, bos_token_id=0,
            eos_token_id=52, attn_implementation="eager")


def make(seed, **config):
    torch.manual_seed(seed)
    model = GPT2LMHeadModel(GPT2Config(**{**BASE, **config})).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 1:
                p.add_(0.1 * torch.randn_like(p))
    return model


def batch(seed, rows=2, length=11, vocabulary=53):
    torch.manual_seed(seed)
    return torch.randint(vocabulary, (rows, length))


def run(model, prefix, ids, labels=None, mask=None, gradients=False):
    model.zero_grad()
    logits = model(ids, attention_mask=mask).logits
    targets = labels if labels is not None else ids
    # transformers' own loss goes through f32 even for an f64 model.
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), targets[:, 1:].flatten())
    if logits.dtype == torch.float32:
        torch.testing.assert_close(loss, model(ids, labels=targets, attention_mask=mask).loss)
    result = {f"{prefix}logits": logits, f"{prefix}loss": loss}
    if gradients:
        loss.backward()
        result |= {f"{prefix}grad.{name}": p.grad for name, p in model.named_parameters()}
    return {k: v.detach().clone().contiguous() for k, v in result.items()}


def write(name, model, expected, weights=None, shards=1, **config):
    directory = HERE / name
    directory.mkdir(exist_ok=True)
    stored = {k: v for k, v in model.config.to_dict().items() if not k.startswith("_")}
    (directory / "config.json").write_text(json.dumps({**stored, **config}, indent=1) + "\n")
    if weights is None:
        weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    names = sorted(weights)
    if shards == 1:
        save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    else:
        index = {}
        for i in range(shards):
            file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
            part = {n: weights[n] for n in names[i::shards]}
            save_file(part, directory / file, metadata={"format": "pt"})
            index |= {n: file for n in part}
        (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}, indent=0) + "\n")
    save_file({k: v.contiguous() for k, v in expected.items()}, directory / "expected.safetensors")


def plain():
    """Everything at its default but the sizes; labels with holes, padding on either side, token types, generation."""
    model, ids = make(1), batch(2)
    labels = ids.clone()
    labels[0, 3:6] = -100
    labels[1, :4] = -100
    right, left = torch.ones_like(ids), torch.ones_like(ids)
    right[1, 7:] = 0
    left[0, :5] = 0
    expected = {"ids": ids, "labels": labels, "right": right, "left": left}
    expected |= run(model, "", ids, labels, gradients=True)
    right_labels = ids.masked_fill(right == 0, -100)
    left_labels = ids.masked_fill(left == 0, -100)
    left_labels[0, 5] = -100  # nothing comes before it
    expected |= run(model, "right.", ids, right_labels, right)
    expected |= run(model, "left.", ids, left_labels, left)
    types = batch(3)
    with torch.no_grad():
        expected |= {"types": types, "types.logits": model(ids, token_type_ids=types).logits}
        for i, length in enumerate((3, 7)):
            out = model.generate(ids[i : i + 1, :length], max_new_tokens=9, do_sample=False, eos_token_id=None,
                                 pad_token_id=0)
            expected[f"generated.{i + 1}"] = out[0, length:].clone()
    write("gpt2_plain", model, expected)


def variants():
    """n_inner, exact GELU, untied head, scaling by layer, another epsilon; in f64 as well."""
    model = make(4, n_inner=37, activation_function="gelu", tie_word_embeddings=False,
                 scale_attn_by_inverse_layer_idx=True, layer_norm_epsilon=1e-3)
    ids = batch(5)
    expected = {"ids": ids} | run(model, "", ids, gradients=True)
    expected |= run(model.double(), "f64.", ids, gradients=True)
    write("gpt2_variants", model.float(), expected)


def old():
    """As old checkpoints are: no prefix, the causal mask stored, bf16; attention not scaled, relu."""
    model = make(6, scale_attn_weights=False, activation_function="relu", n_head=5)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(p.bfloat16())
    ids = batch(7)
    expected = {"ids": ids} | run(model, "", ids)
    weights = {k.removeprefix("transformer."): v.detach().bfloat16() for k, v in model.named_parameters()}
    for i in range(2):
        weights[f"h.{i}.attn.bias"] = torch.ones(1, 1, 17, 17, dtype=torch.uint8).tril()
        weights[f"h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
    write("gpt2_old", model, expected, weights)


def sharded():
    """Three shards in f16; one head, one layer, silu."""
    model = make(8, n_layer=1, n_head=1, n_embd=7, activation_function="silu")
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(p.half())
    ids = batch(9)
    weights = {k: v.detach().half() for k, v in model.named_parameters()}
    write("gpt2_sharded", model, {"ids": ids} | run(model, "", ids), weights, shards=3)


if __name__ == "__main__":
    plain()
    variants()
    old()
    sharded()
