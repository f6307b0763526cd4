"""GPT-2 beside transformers: logits, loss and every gradient for many configurations, in f32 and f64, with and without padding; files in
each form that checkpoints come in; greedy generation; and Lacuna's own checkpoints loaded back.

Usage: python gpt2.py [checkpoint directory ...]      directories: checkpoints of Lacuna's to load in transformers; by default those of
the last `make quickstart`, or, where there is none, of a quickstart at toy scale made here
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel
from transformers.utils import logging

from support import F32, F64, LACUNA, ROOT, ZERO, Report, run_lacuna, without_keys

logging.set_verbosity_error()
logging.disable_progress_bar()
BASE = dict(vocab_size=61, n_positions=19, n_embd=15, n_layer=2, n_head=3, initializer_range=0.3, bos_token_id=0, eos_token_id=60,
            attn_implementation="eager")

CONFIGS = {
    "as it comes": {},
    "n_inner 37": dict(n_inner=37),
    "n_inner 7": dict(n_inner=7),
    "gelu": dict(activation_function="gelu"),
    "gelu_pytorch_tanh": dict(activation_function="gelu_pytorch_tanh"),
    "gelu_fast": dict(activation_function="gelu_fast"),
    "relu": dict(activation_function="relu"),
    "silu": dict(activation_function="silu"),
    "swish": dict(activation_function="swish"),
    "untied head": dict(tie_word_embeddings=False),
    "scaled by inverse layer": dict(scale_attn_by_inverse_layer_idx=True, n_layer=3),
    "attention unscaled": dict(scale_attn_weights=False),
    "unscaled, by inverse layer": dict(scale_attn_weights=False, scale_attn_by_inverse_layer_idx=True),
    "reordered, upcast attention": dict(reorder_and_upcast_attn=True),
    "epsilon 0.01": dict(layer_norm_epsilon=1e-2),
    "epsilon 1e-12": dict(layer_norm_epsilon=1e-12),
    "one head": dict(n_head=1, n_embd=7),
    "five heads": dict(n_head=5, n_embd=35, n_layer=3),
    "eleven heads of one": dict(n_head=11, n_embd=11),
    "one layer, odd vocabulary": dict(n_layer=1, vocab_size=131, n_embd=33),
    "dropout rates set, not training": dict(resid_pdrop=0.3, attn_pdrop=0.2, embd_pdrop=0.1),
    "wide vocabulary": dict(vocab_size=5003, n_embd=48, n_layer=1),
    "wider": dict(n_embd=72, n_head=9, n_inner=200, n_positions=150),
    "all at once": dict(n_embd=21, n_head=7, n_inner=50, activation_function="relu", tie_word_embeddings=False, layer_norm_epsilon=1e-4,
                        scale_attn_by_inverse_layer_idx=True, n_layer=4),
}


def make(seed, **config):
    """A model whose one-dimensional parameters are not at their initial zeros and ones."""
    torch.manual_seed(seed)
    model = GPT2LMHeadModel(GPT2Config(**{**BASE, **config})).eval()
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 1:
                p.add_(0.1 * torch.randn_like(p))
    return model


def make_inputs(model):
    """Named (ids, labels, mask): labels with holes; padding at the end, at the beginning, at both; short and long rows."""
    vocabulary, positions = model.config.vocab_size, model.config.max_position_embeddings
    ids = torch.randint(vocabulary, (3, min(13, positions)))
    ones = torch.ones_like(ids)
    holes = ids.clone()
    holes[0, 3:6] = holes[1, :4] = holes[2, 1:] = -100
    right, left, both = ones.clone(), ones.clone(), ones.clone()
    right[1, 7:] = right[2, 1:] = 0
    left[0, :5] = left[2, :12] = 0
    both[0, :2] = both[0, 9:] = both[1, 11:] = 0
    inputs = {"whole": (ids, ids, ones), "holes": (ids, holes, ones)}
    for name, mask in (("right", right), ("left", left), ("both", both)):
        labels = ids.masked_fill(mask == 0, -100)
        first = mask.argmax(dim=1)
        labels[torch.arange(3), first] = -100  # no token stands before it
        inputs[name] = (ids, labels, mask)
    full = torch.randint(vocabulary, (1, positions))
    inputs["full"] = (full, full, torch.ones_like(full))
    two = torch.randint(vocabulary, (5, 2))
    inputs["two tokens"] = (two, two, torch.ones_like(two))
    return inputs


def expect(model, inputs):
    result = {}
    for name, (ids, labels, mask) in inputs.items():
        model.zero_grad()
        logits = model(ids, attention_mask=mask).logits
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        loss.backward()
        result |= {f"{name}.logits": logits.detach(), f"{name}.loss": loss.detach()}
        result |= {f"{name}.grad.{n}": p.grad.clone() for n, p in model.named_parameters()}
    return result


def generate(model, prompts, tokens):
    """Each prompt by itself: no padding, no early end."""
    out = {}
    for i, prompt in enumerate(prompts):
        ids = model.generate(prompt[None], max_new_tokens=tokens, do_sample=False, eos_token_id=None, pad_token_id=0,
                             attention_mask=torch.ones_like(prompt[None]))
        out[f"generated.{i + 1}"] = ids[0, len(prompt):]
    return out


def judge(case, ours, expected, inputs, dtype):
    limit = {torch.float32: F32, torch.float64: F64}[dtype]
    for key, theirs in expected.items():
        mine = ours.get(key)
        if key.endswith(".logits"):
            real = inputs[key.rsplit(".", 1)[0]][2].bool()
            case.close(key, mine[real] if mine is not None else None, theirs[real], limit)
        elif key.endswith(".attn.c_attn.bias") and mine is not None:
            case.zero(f"{key} of keys", mine.chunk(3)[1], ZERO[dtype])
            case.close(key, without_keys(key, mine), without_keys(key, theirs), limit)
        else:
            case.close(key, mine, theirs, limit)


def write(directory, model, inputs, prompts, weights=None, **config):
    directory.mkdir()
    if weights is None:
        model.save_pretrained(directory, **config)
    else:
        model.config.save_pretrained(directory)
        save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    stored = {}
    for name, parts in inputs.items():
        stored |= {f"{name}.{part}": t.clone() for part, t in zip(("ids", "labels", "mask"), parts)}
    stored |= {f"prompt.{i + 1}": p.clone() for i, p in enumerate(prompts)}
    save_file(stored, directory / "inputs.safetensors")


def file_forms(model):
    """Name -> (weights as stored, options of save_pretrained): the forms that files come in."""
    weights = {n: p.detach().clone() for n, p in model.named_parameters()}
    bare = {n.removeprefix("transformer."): t for n, t in weights.items()}
    size = model.config.n_positions
    buffers = {}
    for i in range(model.config.n_layer):
        buffers[f"h.{i}.attn.bias"] = torch.ones(1, 1, size, size, dtype=torch.uint8).tril()
        buffers[f"h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
    return {
        "file without prefix": (bare, {}),
        "file without prefix, with buffers": (bare | buffers, {}),
        "file with prefix and buffers": (weights | {f"transformer.{n}": t for n, t in buffers.items()}, {}),
        "file with the tied head stored": (weights | {"lm_head.weight": weights["transformer.wte.weight"].clone()}, {}),
        "file in f16": ({n: t.half() for n, t in weights.items()}, {}),
        "file in bf16": ({n: t.bfloat16() for n, t in weights.items()}, {}),
        "file in f64": ({n: t.double() for n, t in weights.items()}, {}),
        "file in shards": (None, dict(max_shard_size="4KB")),
    }


def load(directory):
    model, info = AutoModelForCausalLM.from_pretrained(directory, attn_implementation="eager", output_loading_info=True)
    return model.eval(), info


def check_saved(case, directory, original, ids, logits):
    """What Lacuna saved: loads without a missing or unexpected name, holds the same numbers, and gives the same logits."""
    model, info = load(directory)
    for part in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        case.equal(f"saved: {part}", sorted(info[part]), [])
    if original is not None:
        for name, p in model.named_parameters():
            case.equal(f"saved: {name}", p.detach(), original[name])
    with torch.no_grad():
        case.close("saved: logits", logits, model(ids).logits, F32)


def compare_models(work, report):
    made = {}
    for seed, (name, config) in enumerate(CONFIGS.items()):
        made[name] = (make(seed, **config), None, {})
    for name, (weights, options) in file_forms(make(90)).items():
        model = make(90)
        if weights:
            with torch.no_grad():
                for n, p in model.named_parameters():
                    p.copy_(weights.get(n, weights.get(n.removeprefix("transformer."))))
        made[name] = (model, weights, options)

    directories, cases = [], []
    for number, (name, (model, weights, options)) in enumerate(made.items()):
        torch.manual_seed(number)
        inputs = make_inputs(model)
        prompts = [torch.randint(model.config.vocab_size, (length,)) for length in (3, 1, 8)]
        directory = work / f"model{number}"
        write(directory, model, inputs, prompts, weights, **options)
        directories.append(directory)
        cases.append((name, directory, model, inputs, prompts))
    run_lacuna("models", "compare", *directories)

    for name, directory, model, inputs, prompts in cases:
        original = {n: p.detach().clone() for n, p in model.named_parameters()}
        f32, f64 = load_file(directory / "out_f32.safetensors"), load_file(directory / "out_f64.safetensors")
        with report.case(f"{name}, f32") as case:
            judge(case, f32, expect(model, inputs), inputs, torch.float32)
        with report.case(f"{name}, saved and generated") as case:
            for key, theirs in generate(model, prompts, 10).items():
                case.equal(key, f32[key], theirs)
            ids = inputs["whole"][0]
            check_saved(case, directory / "saved", original, ids, f32["whole.logits"])
        with report.case(f"{name}, f64") as case:
            for block in model.transformer.h:
                block.attn.reorder_and_upcast_attn = False  # the same formula, which transformers has in f32 only
            judge(case, f64, expect(model.double(), inputs), inputs, torch.float64)


def compare_fresh(work, report):
    config = dict(model_type="gpt2", vocab_size=3001, n_positions=640, n_embd=96, n_layer=3, n_head=6)
    compare_fresh_model(work / "fresh", report, "fresh model", config)


def compare_fresh_model(directory, report, name, config):
    """A fresh model's checkpoint loads in transformers, and each tensor is drawn with the same mean and deviation."""
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(config))
    run_lacuna("models", "fresh", directory)
    out = load_file(directory / "out.safetensors")
    torch.manual_seed(0)
    theirs = dict(AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(directory)).named_parameters())
    with report.case(name) as case:
        check_saved(case, directory, None, out["ids"], out["logits"])
        for name, p in load(directory)[0].named_parameters():
            if theirs[name].std() == 0:
                case.equal(f"{name} as drawn", p.detach(), theirs[name].detach())
            else:
                slack = 6 / p.numel() ** 0.5  # deviations of a mean; the standard deviation wanders less
                case.close(f"{name} deviation", p.std().detach(), theirs[name].std().detach(), slack)
                case.zero(f"{name} mean over deviation", p.mean().detach() / p.std().detach(), slack)


def compare_checkpoints(work, report, directories):
    """Checkpoints that are there already: their logits here and in transformers."""
    for number, directory in enumerate(directories):
        out = work / f"checkpoint{number}.safetensors"
        run_lacuna("models", "logits", directory, out)
        found = load_file(out)
        with report.case(f"checkpoint {directory}") as case:
            check_saved(case, directory, None, found["ids"], found["logits"])


def quickstart_checkpoints(work):
    found = sorted(p.parent for p in (ROOT / "runs" / "quickstart").glob("**/model.safetensors"))
    if found:
        return found
    recipe = ROOT / "recipes" / "quickstart.lua"
    subprocess.run([LACUNA, "--toy", "--out", work, recipe], check=True, stdout=subprocess.DEVNULL)
    return sorted(p.parent for p in work.glob("quickstart/sparsity-*/model.safetensors"))


def main():
    report = Report()
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        directories = [pathlib.Path(p) for p in sys.argv[1:]] or quickstart_checkpoints(work)
        compare_models(work, report)
        compare_fresh(work, report)
        compare_checkpoints(work, report, directories)
    report.finish()


if __name__ == "__main__":
    main()
