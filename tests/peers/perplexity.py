"""Both perplexity protocols beside a plain PyTorch implementation of each: windows as in SparseGPT, strided as in the Hugging Face guide.

Usage: python perplexity.py
"""

import json
import pathlib
import tempfile

import torch
from safetensors.torch import load_file, save_file

from gpt2 import make
from support import F32, F64, Report, run_lacuna

WINDOW = 19  # positions of the model

# (protocol, tokens, window, stride); None = Lacuna's default
CASES = [
    ("windows", 190, None, None),
    ("windows", 208, None, None),  # a tail to drop
    ("windows", 100, 7, None),
    ("windows", 19, None, None),  # one window
    ("strided", 190, None, None),
    ("strided", 191, None, 1),
    ("strided", 100, None, 19),  # no overlap
    ("strided", 100, 12, 5),
    ("strided", 11, None, 4),  # shorter than one window
    ("strided", 20, None, 18),  # one token more than a window
]


def mean_loss(model, ids, labels):
    logits = model(ids[None]).logits[0, :-1]
    return torch.nn.functional.cross_entropy(logits, labels[1:])


def windows(model, ids, window, _):
    count = len(ids) // window
    losses = [mean_loss(model, part, part) for part in ids[: count * window].split(window)]
    return torch.stack(losses).mean().exp(), count * (window - 1), count


def strided(model, ids, window, stride):
    total, scored, count, previous_end = 0.0, 0, 0, 0
    for begin in range(0, len(ids), stride):
        end = min(begin + window, len(ids))
        part = ids[begin:end]
        labels = part.clone()
        labels[: len(part) - (end - previous_end)] = -100
        number = (labels[1:] != -100).sum().item()
        if number:
            total += mean_loss(model, part, labels) * number
            scored += number
        count += 1
        previous_end = end
        if end == len(ids):
            break
    return (total / scored).exp(), scored, count


def main():
    report = Report()
    with tempfile.TemporaryDirectory() as work, torch.no_grad():
        work = pathlib.Path(work)
        model = make(5)
        model.save_pretrained(work)
        torch.manual_seed(6)
        ids = torch.randint(model.config.vocab_size, (256,))
        save_file({"ids": ids}, work / "ids.safetensors")
        cases = [dict(protocol=p, tokens=n, **{k: v for k, v in (("window", w), ("stride", s)) if v}) for p, n, w, s in CASES]
        (work / "cases.json").write_text(json.dumps(cases))
        run_lacuna("perplexity", work)
        for dtype, limit in ((torch.float32, F32), (torch.float64, F64)):
            out = load_file(work / f"out_{str(dtype)[-2:]}.safetensors")["results"]
            model = model.to(dtype)
            for (protocol, n, window, stride), (ours, tokens, count) in zip(CASES, out.tolist()):
                window = window or WINDOW
                compute = windows if protocol == "windows" else strided
                theirs, scored, number = compute(model, ids[:n], window, stride or window // 2)
                with report.case(f"{protocol}, {n} tokens, window {window}, f{str(dtype)[-2:]}") as case:
                    case.close("perplexity", ours, theirs, limit)
                    case.equal("tokens scored", int(tokens), scored)
                    case.equal("windows", int(count), number)
    report.finish()


if __name__ == "__main__":
    main()
