"""Tensor files beside the `safetensors` package: what it wrote is read, what Lacuna wrote is read by it, bit for bit.

Usage: python files.py
"""

import pathlib
import tempfile

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from support import Report, run_lacuna

DTYPES = {"f64": torch.float64, "f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16, "i64": torch.int64, "i32": torch.int32,
          "u8": torch.uint8, "bool": torch.bool}


def tensors():
    torch.manual_seed(3)
    for name, dtype in DTYPES.items():
        for shape in [(), (1,), (7,), (3, 5), (2, 3, 4), (0, 3)]:
            values = torch.randn(shape) * 50
            yield f"{name} {shape}", (values > 0 if dtype == torch.bool else values.abs().to(dtype))
    yield "special", torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0, 1e-45])
    yield "large", torch.randn(1200, 1500)


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.contiguous().view(-1).view(torch.uint8).tolist() == \
        b.contiguous().view(-1).view(torch.uint8).tolist()


def main():
    report = Report()
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        made = dict(tensors())
        save_file(made, directory / "theirs.safetensors", metadata={"format": "pt", "note": "a \"b\"\n"})
        run_lacuna("files", directory)
        ours = load_file(directory / "ours.safetensors")
        with report.case("written by safetensors, read and written by Lacuna") as case:
            case.equal("names", sorted(ours), sorted(made))
            for key, value in made.items():
                case.equal(key, same(ours[key], value), True)
        with report.case("metadata") as case, safe_open(directory / "ours.safetensors", "pt") as file:
            case.equal("metadata", file.metadata(), {"format": "pt", "note": "a \"b\"\n"})
        with report.case("a transposed view") as case:
            case.equal("view", same(load_file(directory / "view.safetensors")["view"], made["large"].T.contiguous()), True)
        for target in ["f32", "f16", "bf16"]:
            with report.case(f"cast to {target}") as case:
                for key, value in load_file(directory / f"{target}.safetensors").items():
                    case.equal(key, same(value, made[key].to(DTYPES[target])), True)
    report.finish()


if __name__ == "__main__":
    main()
