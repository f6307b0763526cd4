"""SparseGPT, Wanda and RIA on every decoder family beside their definitions: statistics by hooks on transformers' models, and
optimal brain surgery with the explicit inverse of what is left of each Hessian, where Lacuna has one Cholesky factor. Fused and
separate projections, padding on either side, inputs that are always 0, blocks and mask blocks, n:m, targets by layer, a second
round on a held mask.

Usage: python pruning.py
"""

import json
import pathlib
import tempfile

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging

from support import Report, run_lacuna

logging.set_verbosity_error()
logging.disable_progress_bar()
torch.manual_seed(3)
torch.set_default_dtype(torch.float64)

SIZES = dict(vocab_size=40, hidden_size=20, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=16, bos_token_id=0,
             eos_token_id=1, pad_token_id=1)
MODELS = {
    "gpt2": dict(model_type="gpt2", vocab_size=40, n_embd=20, n_layer=2, n_head=2, n_positions=16, bos_token_id=0, eos_token_id=1),
    "llama": SIZES | dict(model_type="llama", intermediate_size=30, num_key_value_heads=1),
    "qwen2": SIZES | dict(model_type="qwen2", intermediate_size=30, num_key_value_heads=1),
    "opt": SIZES | dict(model_type="opt", ffn_dim=60, word_embed_proj_dim=10, do_layer_norm_before=False, dropout=0.0),
    "gpt_neox": SIZES | dict(model_type="gpt_neox", intermediate_size=40),
    "gpt_neox, sequential": SIZES | dict(model_type="gpt_neox", intermediate_size=40, use_parallel_residual=False),
}
SEPARATE = [["q_proj", "k_proj", "v_proj"], ["o_proj"], ["gate_proj", "up_proj"], ["down_proj"]]
INPUTS = {  # of a block, in the order of its pass; layers of one input together
    "gpt2": [["attn.c_attn"], ["attn.c_proj"], ["mlp.c_fc"], ["mlp.c_proj"]],
    "llama": SEPARATE,
    "qwen2": SEPARATE,
    "opt": [["q_proj", "k_proj", "v_proj"], ["out_proj"], ["fc1"], ["fc2"]],
    "gpt_neox": [["query_key_value"], ["attention.dense"], ["dense_h_to_4h"], ["dense_4h_to_h"]],
}
CASES = {
    "sparsegpt": [("sparsegpt", dict(sparsity=0.5))],
    "sparsegpt, small blocks": [("sparsegpt", dict(sparsity=0.3, epsilon=1e-8, block=4, mask_block=2))],
    "sparsegpt, by layer": [("sparsegpt", dict(sparsity=0.6, sequential="layer", block=8, mask_block=4, damp=0.05, epsilon=0.3))],
    "sparsegpt, 3:5": [("sparsegpt", dict(pattern="3:5", sequential="layer"))],
    "sparsegpt, 1:5 on the dense model": [("sparsegpt", dict(pattern="1:5", sequential=False, block=7))],
    "sparsegpt, targets in two rounds": [("sparsegpt", dict(sparsity="alternating", block=8, mask_block=4)),
                                         ("sparsegpt", dict(sparsity=0.45, block=8, mask_block=4))],
    "wanda": [("wanda", dict(sparsity=0.35))],
    "wanda, 3:5": [("wanda", dict(pattern="3:5", sequential="layer"))],
    "ria": [("ria", dict(sparsity=0.5, sequential=False))],
}


def weight(layer):
    w = layer.weight.detach().numpy().copy()
    return w.T if isinstance(layer, Conv1D) else w


def set_weight(layer, w):
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(w.T if isinstance(layer, Conv1D) else w))


def blocks_of(model):
    """Each block: a list of its inputs, each a list of (name, layer)."""
    stack = max((m for m in model.modules() if isinstance(m, torch.nn.ModuleList)), key=len)
    names = {module: name for name, module in model.named_modules()}
    every = [(names[m], m) for m in model.modules()]
    return [[[next((n, m) for n, m in every if n.startswith(names[block] + ".") and n.endswith(end)) for end in ends]
             for ends in INPUTS[model.config.model_type]] for block in stack]


def grams(model, text, layers):
    """Sums of x x^T over the tokens that are no padding."""
    found, keep = {}, text["mask"].flatten().bool()

    def watch(name):
        def hook(module, inputs):
            x = inputs[0].reshape(-1, inputs[0].shape[-1])[keep].numpy()
            found[name] = x.T @ x
        return hook

    hooks = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers]
    with torch.no_grad():
        model(input_ids=text["ids"], attention_mask=text["mask"])
    for hook in hooks:
        hook.remove()
    return found


def lowest(cost, count, held):
    """True for the `count` lowest costs, those held first."""
    cost = np.where(held, -1, cost)
    mask = np.zeros(cost.size, bool)
    mask[np.argsort(cost, axis=None, kind="stable")[:max(count, held.sum())]] = True
    return mask.reshape(cost.shape)


def sparsegpt(w, h, windows, held, sparsity=None, pattern=None, block=128, mask_block=None, damp=0.01, epsilon=0.0, **_):
    """Column by column: the cheapest weights go, and the rest of their row moves as the inverse Hessian of the columns from there on
    says. An input that is always 0 counts as 1, and needs no weight."""
    inputs, mask = w.shape[1], held.copy()
    h = 2 / windows * h
    dead = np.diag(h) == 0
    h[dead, dead], w[:, dead] = 1, 0
    h = h + np.eye(inputs) * (damp * np.diag(h).mean() + epsilon)
    inverse = [np.linalg.inv(h[c:, c:]) for c in range(inputs)]
    keep, group = map(int, pattern.split(":")) if pattern else (0, mask_block or block)
    block = -(-block // group) * group
    for c in range(inputs):
        if c % block % group == 0:
            end = min(c + group, c - c % block + block, inputs)
            cost = w[:, c:end] ** 2 / [inverse[k][0, 0] for k in range(c, end)]
            before = held[:, c:end]
            if pattern:
                mask[:, c:end] = [lowest(row, group - keep, old) for row, old in zip(cost, before)]
            else:
                mask[:, c:end] = lowest(cost, int(sparsity * cost.size), before)
        error = np.where(mask[:, c], w[:, c], 0) / inverse[c][0, 0]
        w[:, c:] -= error[:, None] * inverse[c][0]
        w[mask[:, c], c] = 0
    return mask


def by_score(score, w, h, sparsity=None, pattern=None, **_):
    s = score(np.abs(w), np.sqrt(np.diag(h)))
    keep, group = map(int, pattern.split(":")) if pattern else (w.shape[1] - int(sparsity * w.shape[1]), w.shape[1])
    parts = s.reshape(-1, group)
    mask = np.argsort(np.argsort(parts, axis=1), axis=1).reshape(w.shape[0], -1, group) < group - keep
    w[mask.reshape(w.shape)] = 0
    return mask.reshape(w.shape)


SCORES = {
    "wanda": lambda w, norm: w * norm,
    "ria": lambda w, norm: (w / w.sum(0) + w / w.sum(1, keepdims=True)) * np.sqrt(norm),
}


def prune(model, text, method, options, held):
    """Prunes the model; `held` (name -> mask of what is pruned) grows."""
    sequential, blocks = options.get("sequential", "block"), blocks_of(model)
    h = {} if sequential else grams(model, text, [layer for block in blocks for group in block for layer in group])
    for block in blocks:
        if sequential == "block":
            h = grams(model, text, [layer for group in block for layer in group])
        for group in block:
            if sequential == "layer":
                h = grams(model, text, group)
            for name, layer in group:
                w, given = weight(layer), dict(options)
                before = held.get(name, np.zeros(w.shape, bool))
                if isinstance(given.get("sparsity"), dict):
                    given["sparsity"] = given["sparsity"][name]
                if not given.get("pattern") and before.sum() >= int(given["sparsity"] * w.size):
                    continue  # holds as much already
                if method == "sparsegpt":
                    held[name] = sparsegpt(w, h[name], len(text["ids"]), before, **given)
                else:
                    held[name] = by_score(SCORES[method], w, h[name], **given)
                set_weight(layer, w)


def load(directory):
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float64, attn_implementation="sdpa").eval()


def make_case(directory, config, rounds, padded):
    """A model of f32 numbers and its text; gives the rounds, with targets by layer written out."""
    config = dict(config)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(config.pop("model_type"), **config), dtype=torch.float32)
    with torch.no_grad():
        for p in model.parameters():
            p.add_((torch.randn(p.shape) * (0.25 if p.ndim > 1 else 0.1)).float())
    model.save_pretrained(directory)
    text = dict(ids=torch.randint(3, 40, (5, 12)), mask=torch.ones(5, 12, dtype=torch.long))
    text["mask"][1, padded] = text["mask"][4, padded] = 0
    save_file(text, directory / "text.safetensors")
    names = [name for block in blocks_of(model) for group in block for name, _ in group]
    targets = {name: 0.2 * (i % 4) for i, name in enumerate(names)}
    rounds = [(method, o | dict(sparsity=targets) if o.get("sparsity") == "alternating" else o) for method, o in rounds]
    (directory / "rounds.json").write_text(json.dumps(rounds))
    return text, rounds


def main():
    report = Report()
    with tempfile.TemporaryDirectory() as root:
        made = []
        for family, config in MODELS.items():
            padded = slice(0, 4) if family in ("llama", "opt") else slice(9, 12)
            for case, rounds in CASES.items():
                directory = pathlib.Path(root) / str(len(made))
                made.append((f"{family}: {case}", directory, *make_case(directory, config, rounds, padded)))
        run_lacuna("pruning", *(directory for _, directory, _, _ in made))
        for name, directory, text, rounds in made:
            model, held = load(directory), {}
            for method, options in rounds:
                prune(model, text, method, options, held)
            pruned = load(directory / "pruned")
            ours = dict(pruned.named_parameters())
            with report.case(name) as case:
                for parameter, theirs in model.named_parameters():
                    case.close(parameter, ours[parameter].detach(), theirs.detach(), 1e-6)
                for layer in held:
                    zeros, expected = (weight(m.get_submodule(layer)) == 0 for m in (pruned, model))
                    case.zero(layer + ": zeros", torch.tensor(zeros != expected).double(), 0.5)
    report.finish()


if __name__ == "__main__":
    main()
