"""Makes the goldens anew in a copy of tests/golden and says which of them changed. Numbers may differ by rounding: other versions of
PyTorch, and other processors, add in another order. Files of PyTorch and of llama.cpp are compared by what is in them: other versions arrange them differently.

Usage: python goldens.py
"""

import json
import os
import pathlib
import pickle
import re
import shutil
import subprocess
import sys
import tempfile

import torch
from gguf import GGUFReader
from safetensors.torch import load_file

from support import F32, ROOT, SHARED, Report, without_keys

GOLDEN = ROOT / "tests" / "golden"


def compare_tensors(case, kept, fresh):
    kept, fresh = load_file(kept), load_file(fresh)
    case.equal("names", sorted(fresh), sorted(kept))
    for name in kept.keys() & fresh.keys():
        if kept[name].is_floating_point() and kept[name].numel():
            case.close_or_tiny(name, without_keys(name, fresh[name]), without_keys(name, kept[name]), F32, 1e-6)
        else:
            case.equal(name, fresh[name], kept[name])


def compare_json(case, kept, fresh):
    """Configurations carry the version of what wrote them."""
    kept, fresh = json.loads(kept.read_text()), json.loads(fresh.read_text())
    for content in (kept, fresh):
        if isinstance(content, dict):
            content.pop("transformers_version", None)
    case.equal("content", fresh, kept)


def load_torch(path):
    """What a file of torch.save holds; of one that asks for code, what PyTorch says about that."""
    try:
        return torch.load(path, weights_only=True)
    except pickle.UnpicklingError as error:
        return str(error)


def compare_torch(case, kept, fresh, where="content"):
    if isinstance(kept, dict) and isinstance(fresh, dict):
        case.equal(f"{where}: keys", list(fresh), list(kept))
        for key in kept.keys() & fresh.keys():
            compare_torch(case, kept[key], fresh[key], f"{where}.{key}")
    elif isinstance(kept, torch.Tensor) and isinstance(fresh, torch.Tensor):
        case.equal(f"{where}: layout", (fresh.dtype, fresh.shape, fresh.stride(), fresh.storage_offset()),
                   (kept.dtype, kept.shape, kept.stride(), kept.storage_offset()))
        case.equal(where, fresh, kept)
    else:
        case.equal(where, fresh, kept)


def read_gguf(path):
    reader = GGUFReader(path)
    fields = {name: [bytes(part) for part in field.parts] for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    tensors = {t.name: (t.tensor_type, t.shape.tolist(), t.data.tobytes()) for t in reader.tensors}
    return fields, tensors


def compare_gguf(case, kept, fresh):
    for what, ours, theirs in zip(("metadata", "tensors"), read_gguf(fresh), read_gguf(kept)):
        case.equal(f"names of {what}", sorted(ours), sorted(theirs))
        for name in ours.keys() & theirs.keys():
            case.equal(name, ours[name], theirs[name])


def compare_lua(case, kept, fresh):
    """The text between the numbers is the same, and the numbers are the same but for rounding in f64."""
    number = re.compile(rb"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
    kept, fresh = kept.read_bytes(), fresh.read_bytes()
    case.equal("text", number.sub(b"#", fresh), number.sub(b"#", kept))
    for theirs, ours in zip(number.findall(kept), number.findall(fresh)):
        if abs(float(ours) - float(theirs)) > 1e-12 * max(1, abs(float(theirs))):
            case.equal("number", ours, theirs)


def compare_files(case, kept, fresh):
    if not fresh.exists():
        case.problems.append("is no longer made")
    elif not kept.exists():
        case.problems.append("is not kept in tests/golden")
    elif kept.suffix == ".safetensors":
        compare_tensors(case, kept, fresh)
    elif kept.suffix == ".json":
        compare_json(case, kept, fresh)
    elif kept.suffix in (".pt", ".bin"):
        compare_torch(case, load_torch(kept), load_torch(fresh))
    elif kept.suffix == ".gguf":
        compare_gguf(case, kept, fresh)
    elif kept.name == "tensor.lua":
        compare_lua(case, kept, fresh)
    else:
        case.equal("bytes", fresh.read_bytes(), kept.read_bytes())


def main():
    torch.set_num_threads(1)
    report = Report()
    with tempfile.TemporaryDirectory() as work:
        copy = pathlib.Path(work) / "tests" / "golden"
        shutil.copytree(GOLDEN, copy)
        generators = sorted(copy.glob("*.py"))
        before = {p: p.stat().st_mtime_ns for p in copy.rglob("*") if p.is_file()}
        for script in generators:
            subprocess.run([sys.executable, str(script)], check=True, env=os.environ | {"LACUNA_SHARED": str(SHARED)})
        made = [p for p in copy.rglob("*") if p.is_file() and "__pycache__" not in p.parts and before.get(p) != p.stat().st_mtime_ns]
        for fresh in sorted(made):
            name = fresh.relative_to(copy)
            with report.case(str(name)) as case:
                compare_files(case, GOLDEN / name, fresh)
    report.finish()


if __name__ == "__main__":
    main()
