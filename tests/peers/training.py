"""Training beside PyTorch: each loss, gradient norm, and the weights after 20 steps of AdamW or SGD, from the same weights on the same
batches; and the trained checkpoint loaded back in transformers.

Usage: python training.py
"""

import json
import pathlib
import tempfile

import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2LMHeadModel
from transformers.optimization import get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from gpt2 import check_saved, make
from support import F32, F64, Report, run_lacuna, without_keys

STEPS = 20

# Options of lc.train; what is not named has Lacuna's default, written out in `options` below.
CASES = {
    "adamw": {},
    "adamw, strong decay, other betas": dict(weight_decay=0.3, betas=(0.8, 0.95), eps=1e-6),
    "adamw, clipped": dict(clip=0.3),
    "adamw, not clipped": dict(clip=False),
    "adamw, accumulated": dict(accumulate=3),
    "adamw, warm-up, linear": dict(warmup=5, lr_schedule="linear"),
    "adamw, warm-up, cosine, accumulated": dict(warmup=4, lr_schedule="cosine", accumulate=2, clip=0.5),
    "adamw, warm-up, constant": dict(warmup=7),
    "adamw, frozen embeddings": dict(freeze=["transformer.wte.weight", "transformer.wpe.weight"]),
    "sgd": dict(optimizer="sgd", lr=0.05, momentum=0.0),
    "sgd, momentum": dict(optimizer="sgd", lr=0.05, momentum=0.9),
    "sgd, momentum, accumulated, linear": dict(optimizer="sgd", lr=0.05, momentum=0.8, accumulate=2, lr_schedule="linear"),
}
SCHEDULES = {"linear": get_linear_schedule_with_warmup, "cosine": get_cosine_schedule_with_warmup}


def options(**given):
    return dict(optimizer="adamw", lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, clip=1.0, accumulate=1, warmup=0,
                lr_schedule="constant", momentum=0.0, freeze=[]) | given


def make_batches(model, count):
    """Batches (2, 12) with unequal numbers of labelled tokens; every third one is padded."""
    batches = []
    for i in range(count):
        ids = torch.randint(model.config.vocab_size, (2, 12))
        labels, mask = ids.clone(), torch.ones_like(ids)
        labels[0, 1 : 1 + i % 7] = -100
        if i % 3 == 2:
            mask[1, 5:] = 0
            labels[1, 5:] = -100
        batches.append((ids, labels, mask))
    return batches


def train(model, batches, o):
    """The definition: the gradient of the mean over all labelled tokens of a step, clipped by its norm, then the update."""
    for name, p in model.named_parameters():
        p.requires_grad_(name not in o["freeze"])
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [{"params": [p for p in trained if p.ndim >= 2], "weight_decay": o["weight_decay"]},
              {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0}]
    if o["optimizer"] == "adamw":
        optimizer = torch.optim.AdamW(groups, lr=o["lr"], betas=o["betas"], eps=o["eps"])
    else:
        optimizer = torch.optim.SGD(groups, lr=o["lr"], momentum=o["momentum"])
    if o["lr_schedule"] == "constant":
        schedule = get_constant_schedule_with_warmup(optimizer, o["warmup"])
    else:
        schedule = SCHEDULES[o["lr_schedule"]](optimizer, o["warmup"], STEPS)
    losses, norms = [], []
    for step in range(STEPS):
        micro = batches[step * o["accumulate"] : (step + 1) * o["accumulate"]]
        labelled = sum((labels[:, 1:] != -100).sum().item() for _, labels, _ in micro)
        total = 0.0
        for ids, labels, mask in micro:
            logits = model(ids, attention_mask=mask).logits[:, :-1]
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum") / labelled
            loss.backward()
            total += loss.item()
        limit = o["clip"] or float("inf")
        norms.append(torch.nn.utils.clip_grad_norm_(trained, limit).item())
        losses.append(total)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return torch.tensor(losses, dtype=torch.float64), torch.tensor(norms, dtype=torch.float64)


def judge(case, out, losses, norms, model, limit):
    case.close("losses", out["losses"], losses, limit)
    case.close("gradient norms", out["norms"], norms, limit)
    for name, p in model.named_parameters():
        case.close(name, without_keys(name, out[name]), without_keys(name, p.detach()), limit)


def main():
    report = Report()
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        runs = []
        for number, (name, given) in enumerate(CASES.items()):
            o = options(**given)
            model = make(number, n_inner=23, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
            batches = make_batches(model, STEPS * o["accumulate"])
            directory = work / f"run{number}"
            model.save_pretrained(directory)
            stored = {f"{i + 1}.{part}": t for i, batch in enumerate(batches) for part, t in zip(("ids", "labels", "mask"), batch)}
            save_file(stored, directory / "batches.safetensors")
            (directory / "options.json").write_text(json.dumps(o))
            runs.append((name, directory, batches, o))
        run_lacuna("training", *(directory for _, directory, _, _ in runs))
        for name, directory, batches, o in runs:
            for dtype, limit in ((torch.float32, F32), (torch.float64, F64)):
                model = GPT2LMHeadModel.from_pretrained(directory, attn_implementation="eager").eval().to(dtype)
                out = load_file(directory / f"out_{str(dtype).removeprefix('torch.float')}.safetensors")
                with report.case(f"{name}, f{str(dtype)[-2:]}") as case:
                    judge(case, out, *train(model, batches, o), model, limit)
                    if dtype == torch.float32:
                        check_saved(case, directory / "trained", None, batches[0][0], out["logits"])
    report.finish()


if __name__ == "__main__":
    main()
