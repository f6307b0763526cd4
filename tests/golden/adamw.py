"""Makes tests/golden/train/: twenty optimizer steps of a tiny GPT-2 of odd sizes, by PyTorch and transformers.

model.safetensors, config.json   the start, as lc.load reads it
expected.safetensors             ids (40, 3, 11) and labels, two micro-batches a step; for each optimizer `losses` (20), `norms` (20) and
                                 the final weights, named "<optimizer>.final.<name>"
Each step: the gradient of the mean over all labelled tokens of its two micro-batches, clipped to 1; a linear schedule with 3 steps of
warm-up; weight decay for matrices and embeddings only.
Run: python tests/golden/adamw.py
"""

import json
import pathlib

import torch
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel, get_linear_schedule_with_warmup

HERE = pathlib.Path(__file__).parent / "train"
STEPS, MICRO, ROWS, LENGTH, VOCABULARY = 20, 2, 3, 11, 53
CONFIG = dict(vocab_size=VOCABULARY, n_positions=17, n_embd=15, n_layer=2, n_head=3, initializer_range=0.3, bos_token_id=0,
              eos_token_id=52, attn_implementation="eager", resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)


def make():
    torch.manual_seed(11)
    model = GPT2LMHeadModel(GPT2Config(**CONFIG))
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 1:
                p.add_(0.1 * torch.randn_like(p))
    return model.train()


def data():
    torch.manual_seed(12)
    ids = torch.randint(VOCABULARY, (STEPS * MICRO, ROWS, LENGTH))
    labels = ids.clone()
    for i in range(STEPS * MICRO):  # unequal numbers of labels, so that the weighting of micro-batches shows
        labels[i, 0, : 2 + 4 * (i % 2)] = -100
    return ids, labels


def groups(model, decay):
    params = list(model.parameters())
    return [{"params": [p for p in params if p.ndim >= 2], "weight_decay": decay},
            {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0}]


def train(optimizer, ids, labels):
    model = make()
    if optimizer == "adamw":
        opt = torch.optim.AdamW(groups(model, 0.1), lr=1e-2, betas=(0.9, 0.95), eps=1e-6)
    else:
        opt = torch.optim.SGD(groups(model, 0.01), lr=1e-1, momentum=0.9)
    schedule = get_linear_schedule_with_warmup(opt, 3, STEPS)
    losses, norms = [], []
    for step in range(STEPS):
        micro = range(step * MICRO, (step + 1) * MICRO)
        total = sum((labels[i][:, 1:] != -100).sum() for i in micro)
        loss = 0.0
        opt.zero_grad()
        for i in micro:
            logits = model(ids[i]).logits
            part = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[i][:, 1:].flatten(),
                                                     reduction="sum") / total
            part.backward()
            loss += part.item()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item())
        opt.step()
        schedule.step()
        losses.append(loss)
    result = {f"{optimizer}.losses": torch.tensor(losses), f"{optimizer}.norms": torch.tensor(norms)}
    return result | {f"{optimizer}.final.{name}": p.detach().clone() for name, p in model.named_parameters()}


def main():
    HERE.mkdir(exist_ok=True)
    start = make()
    stored = {k: v for k, v in start.config.to_dict().items() if not k.startswith("_")}
    (HERE / "config.json").write_text(json.dumps(stored, indent=1) + "\n")
    save_file({n: p.detach().clone() for n, p in start.named_parameters()}, HERE / "model.safetensors", metadata={"format": "pt"})
    ids, labels = data()
    expected = {"ids": ids, "labels": labels} | train("adamw", ids, labels) | train("sgd", ids, labels)
    save_file(expected, HERE / "expected.safetensors")


if __name__ == "__main__":
    main()
