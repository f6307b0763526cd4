"""What the peer scripts share: running Lacuna's side, and judging its numbers.

A script makes its cases in a temporary directory with PyTorch and its friends, runs one Lua driver of the same name over them, and
compares what the driver saved. For each case it prints the worst error and where it was.
"""

import contextlib
import os
import pathlib
import subprocess
import sys

import torch

LACUNA = pathlib.Path(os.environ.get("LACUNA", "build/lacuna")).resolve()
ROOT = pathlib.Path(__file__).resolve().parents[3]
SHARED = pathlib.Path(os.environ.get("LACUNA_SHARED", ROOT.parent / "shared" / "data"))

F32, F64 = 1e-4, 1e-8  # largest error allowed, relative to the largest number of the tensor
ZERO = {torch.float32: 1e-6, torch.float64: 1e-12}  # largest gradient allowed where the true one is zero


def without_keys(name, tensor):
    """A fused q, k, v bias without its keys: softmax takes no notice of a shift common to all keys, so their gradient is rounding
    alone, and AdamW makes steps of it."""
    if not name.endswith(".attn.c_attn.bias"):
        return tensor
    q, _, v = tensor.chunk(3)
    return torch.cat([q, v])


def run_lacuna(driver, *arguments):
    """Runs tests/peers/<driver>.lua with the arguments; its failure ends the script."""
    command = [str(LACUNA), str(ROOT / "tests" / "peers" / f"{driver}.lua"), *map(str, arguments)]
    if subprocess.run(command).returncode != 0:
        sys.exit(f"{driver}.lua failed")


class Report:
    """Counts failed cases; finish() ends the script."""

    def __init__(self):
        self.cases = self.failed = 0

    @contextlib.contextmanager
    def case(self, name):
        case = Case()
        yield case
        self.cases += 1
        self.failed += bool(case.problems)
        print(f"{name:44} {case.summary()}", flush=True)
        for problem in case.problems[:10]:
            print(f"    FAIL {problem}")

    def finish(self):
        print(f"{self.cases - self.failed} cases agree, {self.failed} do not")
        sys.exit(self.failed > 0)


class Case:
    def __init__(self):
        self.problems, self.compared, self.worst, self.where = [], 0, 0.0, ""

    def close(self, what, ours, theirs, limit):
        """max |ours - theirs| <= limit max |theirs|."""
        if ours is None:
            self.problems.append(f"{what}: missing")
            return
        ours, theirs = (torch.as_tensor(t, dtype=torch.float64) for t in (ours, theirs))
        if ours.shape != theirs.shape:
            self.problems.append(f"{what}: shape {tuple(ours.shape)}, expected {tuple(theirs.shape)}")
            return
        scale = theirs.abs().max().item()
        error = (ours - theirs).abs().max().item()
        relative = error / scale if scale > 0 else error
        self.compared += 1
        if not relative <= self.worst:
            self.worst, self.where = relative, what
        if not relative <= limit:
            self.problems.append(f"{what}: relative error {relative:.2e}, allowed {limit:.0e}")

    def close_or_tiny(self, what, ours, theirs, limit, tiny):
        """close(), or both all below `tiny`: numbers that are rounding alone."""
        if max(ours.abs().max().item(), theirs.abs().max().item()) >= tiny:
            self.close(what, ours, theirs, limit)

    def zero(self, what, ours, limit):
        """Every |number| < limit."""
        self.compared += 1
        largest = ours.abs().max().item()
        if not largest < limit:
            self.problems.append(f"{what}: {largest:.2e} instead of zero, allowed {limit:.0e}")

    def equal(self, what, ours, theirs):
        self.compared += 1
        same = torch.equal(ours, theirs) if isinstance(theirs, torch.Tensor) else ours == theirs
        if not same:
            self.problems.append(f"{what}: {short(ours)} instead of {short(theirs)}")

    def summary(self):
        if not self.where:
            return f"{self.compared} equal" if not self.problems else "differs"
        return f"worst {self.worst:.1e} of {self.compared}, {self.where}"


def short(value):
    text = repr(value.tolist() if isinstance(value, torch.Tensor) else value)
    return text if len(text) <= 100 else text[:97] + "..."
