"""Writes tests/golden/solvers.json: what PyTorch makes of small pruning problems that tests/c/test_alps.c solves too.

Run from anywhere with PyTorch installed: python3 tests/golden/solvers.py. ALPS is written here from the paper and the schedule of
its published code (Meng et al. 2024), all in f64; SparseSwaps (Zimmer et al. 2025) by trying every exchange; least squares by
solving each row's normal equations.
"""
import json
import pathlib

import torch

torch.manual_seed(11)


def problem(rows, inputs, tokens, strength):
    """Inputs with outliers that depend on each other, and weights; rounded, so that few digits hold them exactly."""
    sources = torch.randn(tokens, inputs, dtype=torch.float64)
    mix = torch.eye(inputs, dtype=torch.float64) + strength * torch.randn(inputs, inputs, dtype=torch.float64)
    x = (sources @ mix * (0.5 + torch.rand(inputs, dtype=torch.float64) * 2)).mul(100).round() / 100
    w = torch.randn(rows, inputs, dtype=torch.float64).mul(1000).round() / 1000
    return x, w


def largest(values, sparsity, pattern):
    """The support of the largest entries of values (rows, inputs): of all, or of each group."""
    if pattern:
        n, m = pattern
        groups = values.abs().reshape(-1, m)
        keep = torch.zeros_like(groups, dtype=torch.bool)
        keep.scatter_(1, groups.topk(n, 1).indices, True)
        return keep.reshape(values.shape)
    count = values.numel() - int(sparsity * values.numel())
    keep = torch.zeros(values.numel(), dtype=torch.bool)
    keep[values.abs().flatten().topk(count).indices] = True
    return keep.reshape(values.shape)


def conjugate_gradients(h, right, w, keep, steps):
    """Each row of w towards w h = right on its support; h has ones on its diagonal, which is the preconditioner."""
    residual = (right - w @ h) * keep
    direction = residual.clone()
    for _ in range(steps):
        product = direction @ h
        squares = (residual**2).sum(1, keepdim=True)
        alpha = squares / (direction * product).sum(1, keepdim=True).clamp_min(1e-30)
        w = w + alpha * direction
        residual = (residual - alpha * product) * keep
        direction = residual + (residual**2).sum(1, keepdim=True) / squares.clamp_min(1e-30) * direction
    return w


def alps(x, w, sparsity=None, pattern=None, damp=0.01, rho=0.1):
    h = x.T @ x
    h = h + damp * h.diagonal().mean() * torch.eye(len(h), dtype=h.dtype)
    norm = h.diagonal().sqrt()
    h = h / norm / norm[:, None]
    values, vectors = torch.linalg.eigh(h)
    dense = w * norm
    right = dense @ h

    def inverse():
        return vectors / (values + rho) @ vectors.T

    first = largest(dense, sparsity, pattern)
    b, d, v, last, grown, trace = dense, dense * first, torch.zeros_like(dense), first, False, []
    hi = inverse()
    for i in range(300):
        b = (right - v + rho * d) @ hi
        c = b + v / rho
        keep = largest(c, sparsity, pattern)
        d = c * keep
        v = v + rho * (b - d)
        if (i + 1) % 3:
            continue
        changes = int((keep != last).sum())
        share, last = changes / int(first.sum()), keep
        trace.append([changes, rho])
        if share > 0.005:
            grown, rho = True, rho * (1.3 if share > 0.1 else 1.2)
        elif grown and changes == 0:
            break
        elif grown:
            rho *= 1.1
        else:
            rho /= 5
            if changes:
                b, d, v = dense, dense * first, torch.zeros_like(dense)
        rho = min(rho, 1e6)
        hi = inverse()
        if i >= 30 and share < 0.0003:
            break
    keep = largest(b, sparsity, pattern)
    found = conjugate_gradients(h, right, b * keep, keep, 10)
    return keep, found / norm, trace


def error(x, w, dense):
    return float(((w - dense) @ x.T).square().sum())


def swap(x, w, keep, group):
    """The best exchange of each row, by the error of each, until none helps."""
    keep = keep.clone()
    for row in range(len(w)):
        def loss(mask):
            return float((x @ (w[row] * ~mask)).square().sum())

        while True:
            best, chosen = loss(keep[row]) * (1 - 1e-11), None
            for u in range(w.shape[1]):
                for p in range(w.shape[1]):
                    if keep[row, u] and not keep[row, p] and (not group or u // group == p // group):
                        mask = keep[row].clone()
                        mask[u], mask[p] = False, True
                        if loss(mask) < best:
                            best, chosen = loss(mask), mask
            if chosen is None:
                break
            keep[row] = chosen
    return keep


def least_squares(x, w, keep):
    h, found = x.T @ x, torch.zeros_like(w)
    for row in range(len(w)):
        s = keep[row]
        found[row, s] = torch.linalg.solve(h[s][:, s], (w[row] @ h)[s])
    return found


def numbers(t, digits=9):
    return [float(f"{value:.{digits}g}") for value in t.flatten().tolist()]


def bits(keep):
    return "".join("1" if k else "0" for k in keep.flatten().tolist())


cases = []
for rows, inputs, tokens, strength, sparsity, pattern in [
    (8, 16, 40, 0.3, 0.5, None),
    (12, 20, 60, 0.6, 0.7, None),
    (10, 16, 12, 0.3, 0.5, (2, 4)),
    (6, 24, 50, 1.0, 0.625, (3, 8)),
]:
    x, w = problem(rows, inputs, tokens, strength)
    keep, found, trace = alps(x, w, sparsity, pattern)
    start = largest(w * x.norm(dim=0), 0.5, (4, 8) if pattern == (3, 8) else pattern or (1, 2))
    group = {None: 2, (2, 4): 4, (3, 8): 8}[pattern]
    swapped = {str(g): bits(swap(x, w, start, g)) for g in (0, group)}
    case = dict(rows=rows, inputs=inputs, tokens=tokens, sparsity=sparsity, pattern=pattern and "%d:%d" % pattern)
    case |= dict(x=numbers(x), w=numbers(w), keep=bits(keep), found=numbers(found), error=float(f"{error(x, found, w):.9g}"))
    case |= dict(start=bits(start), swapped=swapped, group=group)
    if tokens > inputs:
        case |= dict(least=numbers(least_squares(x, w, start)))
    cases.append(case)
    print(rows, inputs, "error", case["error"], "looks", trace[:4], len(trace))

path = pathlib.Path(__file__).with_name("solvers.json")
path.write_text("[\n" + ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases) + "\n]\n")
