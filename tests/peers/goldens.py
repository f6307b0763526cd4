"""Makes the goldens anew in a copy of tests/golden and says which of them changed. Numbers may differ by rounding: other versions of
PyTorch add in another order.

Usage: python goldens.py
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file

from support import F32, ROOT, Report, without_keys

GOLDEN = ROOT / "tests" / "golden"


def compare_tensors(case, kept, fresh):
    kept, fresh = load_file(kept), load_file(fresh)
    case.equal("names", sorted(fresh), sorted(kept))
    for name in kept.keys() & fresh.keys():
        if kept[name].is_floating_point():
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


def compare_files(case, kept, fresh):
    if not fresh.exists():
        case.problems.append("is no longer made")
    elif not kept.exists():
        case.problems.append("is not kept in tests/golden")
    elif kept.suffix == ".safetensors":
        compare_tensors(case, kept, fresh)
    elif kept.suffix == ".json":
        compare_json(case, kept, fresh)
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
            subprocess.run([sys.executable, str(script)], check=True)
        made = [p for p in copy.rglob("*") if p.is_file() and "__pycache__" not in p.parts and before.get(p) != p.stat().st_mtime_ns]
        for fresh in sorted(made):
            name = fresh.relative_to(copy)
            with report.case(str(name)) as case:
                compare_files(case, GOLDEN / name, fresh)
    report.finish()


if __name__ == "__main__":
    main()
