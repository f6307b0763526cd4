"""Makes tests/golden/pruning/: a tiny GPT-2, calibration text, and what pruning makes of its weights, by the published
algorithms written again in PyTorch (f64).

expected.safetensors has, for each case below, the weight (O, I) of each layer after it: "<case>/<layer>", and how many
zeros it must have. Two inputs of block 1's mlp.down are always 0 (relu units that never fire); the last window is padded.
Run: python tests/golden/pruning.py
"""
import json
import pathlib

import torch
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel

HERE = pathlib.Path(__file__).parent / "pruning"
WINDOWS, LENGTH, PADDED = 6, 12, 4
torch.manual_seed(11)
torch.set_default_dtype(torch.float64)


def make_model():
    config = GPT2Config(vocab_size=40, n_positions=LENGTH, n_embd=16, n_layer=2, n_head=2, n_inner=32,
                        activation_function="relu", resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0,
                        eos_token_id=0)
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_((p + torch.randn_like(p) * (0.3 if p.ndim > 1 else 0.1)).float())
        model.transformer.h[1].mlp.c_fc.bias[[3, 20]] = -1000
    return model


def groups(block):
    """Layers in forward order, those with one input together."""
    return [[block.attn.c_attn], [block.attn.c_proj], [block.mlp.c_fc], [block.mlp.c_proj]]


class Statistics:
    def __init__(self, layer):
        self.H = torch.zeros(layer.weight.shape[0], layer.weight.shape[0])

    def add(self, x, keep):
        x = x.reshape(-1, x.shape[-1])[keep.flatten()]
        self.H += x.T @ x


def collect(model, ids, keep, layers):
    """Statistics of these layers' inputs, by running the whole model."""
    stats = {layer: Statistics(layer) for layer in layers}
    hooks = [layer.register_forward_hook(lambda m, x, y: stats[m].add(x[0], keep)) for layer in layers]
    with torch.no_grad():
        model(ids, attention_mask=keep.long())
    for hook in hooks:
        hook.remove()
    return stats


def prune(model, ids, keep, method, sequential="block", held=None):
    """Calls method(W (O, I), H, held (O, I) or None) -> new W, layer by layer."""
    every = [layer for block in model.transformer.h for group in groups(block) for layer in group]
    stats = collect(model, ids, keep, every) if sequential is False else None
    for block in model.transformer.h:
        if sequential == "block":
            stats = collect(model, ids, keep, [layer for group in groups(block) for layer in group])
        for group in groups(block):
            if sequential == "layer":
                stats = collect(model, ids, keep, group)
            for layer in group:
                W = method(layer.weight.detach().T.clone(), stats[layer].H, held and held[layer])
                with torch.no_grad():
                    layer.weight.copy_(W.T)


def lowest(scores, n, held):
    """True for the n lowest, those held first."""
    flat = scores.flatten().clone()
    if held is not None:
        flat[held.flatten()] = -1
        n = max(n, int(held.sum()))
    mask = torch.zeros_like(flat, dtype=torch.bool)
    mask[torch.argsort(flat, stable=True)[:n]] = True
    return mask.reshape(scores.shape)


def sparsegpt(sparsity=None, pattern=None, damp=0.01, epsilon=0.0, block=128, mask_block=None, extra=0):
    def method(W, H, held):
        columns = W.shape[1]
        mask_columns = pattern[1] if pattern else mask_block or block
        H = 2 / WINDOWS * H
        dead = torch.diag(H) == 0
        H[dead, dead] = 1
        W[:, dead] = 0
        H += torch.eye(columns) * (damp * torch.diag(H).mean() + epsilon)
        U = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(H)), upper=True)
        for i1 in range(0, columns, block):
            i2 = min(i1 + block, columns)
            W1, U1 = W[:, i1:i2].clone(), U[i1:i2, i1:i2]
            mask, errors = torch.zeros_like(W1, dtype=torch.bool), torch.zeros_like(W1)
            for i in range(i2 - i1):
                if i % mask_columns == 0:
                    part = slice(i, min(i + mask_columns, i2 - i1))
                    cost = W1[:, part] ** 2 / torch.diag(U1)[part] ** 2
                    before = held[:, i1:i2][:, part] if held is not None else None
                    if pattern:
                        for row in range(len(cost)):
                            mask[row, part] = lowest(cost[row], pattern[1] - pattern[0],
                                                     before[row] if before is not None else None)
                    else:
                        mask[:, part] = lowest(cost, int(cost.numel() * sparsity) + extra, before)
                w, d = W1[:, i], U1[i, i]
                kept = w.clone()
                kept[mask[:, i]] = 0
                error = (w - kept) / d
                W1[:, i:] -= error[:, None] @ U1[i, i:][None]
                W1[:, i] = kept
                errors[:, i] = error
            W1[mask] = 0
            W[:, i1:i2] = W1
            W[:, i2:] -= errors @ U[i1:i2, i2:]
        return W
    return method


def by_score(score, sparsity=None, pattern=None):
    def method(W, H, held):
        S = score(W.abs(), torch.diag(H).sqrt())
        for row in range(len(W)):
            size = pattern[1] if pattern else W.shape[1]
            pruned = pattern[1] - pattern[0] if pattern else int(size * sparsity)
            for i in range(0, W.shape[1], size):
                W[row, i:i + size][lowest(S[row, i:i + size], pruned, None)] = 0
        return W
    return method


def wanda(W, norm):
    return W * norm


def ria(W, norm):
    return (W / W.sum(0, keepdim=True) + W / W.sum(1, keepdim=True)) * norm ** 0.5


CASES = {
    "sparsegpt": (sparsegpt(0.5), "block"),
    "sparsegpt_layer": (sparsegpt(0.5), "layer"),
    "sparsegpt_dense": (sparsegpt(0.5), False),
    "sparsegpt_blocks": (sparsegpt(0.7, damp=0.02, epsilon=1e-8, block=8, mask_block=4), "block"),
    "sparsegpt_published": (sparsegpt(0.6, block=12, extra=1), "block"),
    "sparsegpt_2:4": (sparsegpt(pattern=(2, 4), block=8), "block"),
    "wanda": (by_score(wanda, 0.5), "block"),
    "wanda_3:8": (by_score(wanda, pattern=(3, 8)), "layer"),
    "ria": (by_score(ria, 0.6), "block"),
}


def weights_of(model):
    return {name.removesuffix(".weight"): p.detach().T.clone() for name, p in model.named_parameters()
            if ".h." in name and p.ndim == 2}


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    dense = make_model()
    start = {k: v.clone() for k, v in dense.state_dict().items()}
    ids = torch.randint(1, 40, (WINDOWS, LENGTH))
    keep = torch.ones(WINDOWS, LENGTH, dtype=torch.bool)
    keep[-1, LENGTH - PADDED:] = False
    expected = {"ids": ids, "attention_mask": keep.long()}
    for case, (method, sequential) in CASES.items():
        dense.load_state_dict(start)
        prune(dense, ids, keep, method, sequential)
        expected |= {f"{case}/{name}": w.float().contiguous() for name, w in weights_of(dense).items()}
    dense.load_state_dict(start)
    prune(dense, ids, keep, sparsegpt(0.3, block=8))
    held = {layer: layer.weight.detach().T == 0 for block in dense.transformer.h for g in groups(block) for layer in g}
    prune(dense, ids, keep, sparsegpt(0.6, block=8), held=held)
    expected |= {f"sparsegpt_twice/{name}": w.float().contiguous() for name, w in weights_of(dense).items()}
    save_file(expected, HERE / "expected.safetensors")
    dense.load_state_dict(start)
    save_file({k: v.float().contiguous() for k, v in start.items() if k != "lm_head.weight"},
              HERE / "model.safetensors")
    config = dense.config.to_dict() | {"architectures": ["GPT2LMHeadModel"]}
    wanted = ["architectures", "model_type", "vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner",
              "activation_function", "resid_pdrop", "embd_pdrop", "attn_pdrop", "layer_norm_epsilon"]
    (HERE / "config.json").write_text(json.dumps({k: config[k] for k in wanted}, indent=2) + "\n")
