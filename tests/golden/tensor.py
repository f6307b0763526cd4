"""Writes tests/golden/tensor.lua: what PyTorch says of the expressions in tests/spec/golden_spec.lua.

Run from anywhere with PyTorch installed: python3 tests/golden/tensor.py. Each case is a line of Lua on the named inputs and
the same in PyTorch; numbers are f64.
"""
import math
import pathlib

import torch
import torch.nn.functional as F

torch.manual_seed(7)
torch.set_default_dtype(torch.float64)

a = torch.randn(3, 4)
b = torch.randn(3, 4)
p = torch.rand(3, 4) + 0.5
v = torch.randn(4)
c = torch.randn(2, 3, 4)
s = torch.randn(4, 4) @ torch.randn(4, 4).T
s = s @ s.T + 4 * torch.eye(4)
i = torch.tensor([2, 0, 2])
j = torch.tensor([[3, 0], [1, 1], [2, 3]])
k = torch.tensor([[5, -7, 3], [-2, 9, 4]])
m = a > 0
w = torch.randn(5, 4)
q4 = torch.randn(2, 5, 4, 3)
k4 = torch.randn(2, 5, 2, 3)
v4 = torch.randn(2, 5, 2, 3)
seen = torch.tensor([[True, True, True, False, False], [True, True, True, True, True]])
labels = torch.tensor([1, -100, 3])
ties = torch.tensor([[2.0, 1.0, 2.0, 1.0], [0.0, 0.0, -1.0, 5.0], [1.0, 3.0, 3.0, 3.0]])
inputs = dict(a=a, b=b, p=p, v=v, c=c, s=s, i=i, j=j, k=k, m=m, w=w, q4=q4, k4=k4, v4=v4, seen=seen, labels=labels, ties=ties)


def attention(causal, keep=None, scale=None):
    """(B, T, H, D) as here, with the key heads shared; a causal query sees keys up to its own place."""
    q, kk, vv = (t.transpose(1, 2) for t in (q4, k4.repeat_interleave(2, 2), v4.repeat_interleave(2, 2)))
    scores = q @ kk.transpose(-1, -2) * (scale or 1 / math.sqrt(3))
    if causal:
        scores = scores.masked_fill(~torch.ones(5, 5, dtype=torch.bool).tril(), -math.inf)
    if keep is not None:
        scores = scores.masked_fill(~keep[:, None, None, :], -math.inf)
    return (scores.softmax(-1) @ vv).transpose(1, 2)


def rotary(x, positions, inv_freq, scale=1):
    """Pairs (i, n + i) as complex numbers, times e^(i angle)."""
    n = len(inv_freq)
    angle = torch.tensor(positions, dtype=torch.float64)[:, None] * torch.tensor(inv_freq)
    turned = torch.complex(x[..., :n], x[..., n : 2 * n]) * torch.polar(torch.full_like(angle, scale), angle)[:, None]
    return torch.cat([turned.real, turned.imag, x[..., 2 * n :]], -1)


def cases():
    for name in "neg abs sign square floor ceil round exp expm1 sin cos tanh sigmoid erf relu".split():
        yield f"a:{name}()", getattr(torch, name)(a)
    for name in "log log1p sqrt rsqrt reciprocal".split():
        yield f"p:{name}()", getattr(torch, name)(p)
    yield "a:silu()", F.silu(a)
    yield "a:gelu()", F.gelu(a)
    yield "a:gelu_tanh()", F.gelu(a, approximate="tanh")
    yield "a:clamp(-0.5, 0.5)", a.clamp(-0.5, 0.5)
    yield "a:clamp(nil, 0)", a.clamp(max=0)
    yield "a + b * v - 2 / p", a + b * v - 2 / p
    yield "a % 0.7", a % 0.7
    yield "a % -0.7", a % -0.7
    yield "k % 4", k % 4
    yield "k % -4", k % -4
    yield "k / 2", (k.float() / 2)
    yield "p ^ a", p**a
    yield "2 ^ a", 2**a
    yield "a:minimum(b)", torch.minimum(a, b)
    yield "a:maximum(0.1)", torch.maximum(a, torch.tensor(0.1))
    for name in "eq ne lt le gt ge".split():
        yield f"a:{name}(b)", getattr(torch, name)(a, b)
        yield f"k:{name}(3)", getattr(torch, name)(k, 3)
    yield "m & a:lt(1)", m & (a < 1)
    yield "m | b:gt(0)", m | (b > 0)
    yield "m ~ b:gt(0)", m ^ (b > 0)
    yield "~m", ~m
    yield "m * a", m * a
    yield "1 - m", 1 - m.int()
    yield "lc.where(m, a, 0)", torch.where(m, a, 0.0)
    yield "c:sum()", c.sum()
    yield "c:sum(2)", c.sum(1)
    yield "c:sum(-1, {keepdim = true})", c.sum(-1, keepdim=True)
    yield "c:sum({1, 3})", c.sum((0, 2))
    yield "c:mean({1, 3}, {keepdim = true})", c.mean((0, 2), keepdim=True)
    yield "m:sum()", m.sum()
    yield "k:mean()", k.float().mean()
    yield "c:var(3)", c.var(2)
    yield "c:std({2, 3}, {correction = 0})", c.std((1, 2), correction=0)
    yield "c:min(1)", c.amin(0)
    yield "c:max({1, 2})", c.amax((0, 1))
    yield "c:norm(2)", c.norm(dim=1)
    yield "c:logsumexp(2)", c.logsumexp(1)
    yield "ties:argmax(2)", torch.tensor([0, 3, 1])
    yield "a:argmin()", a.argmin()
    yield "m:any(1)", m.any(0)
    yield "m:all(2)", m.all(1)
    yield "c:cumsum(2)", c.cumsum(1)
    yield "ties:sort()", ties.sort(stable=True).values
    yield "ties:argsort(-1, {descending = true})", torch.sort(ties, dim=-1, descending=True, stable=True).indices
    yield "a:topk(2)", a.topk(2).values
    yield "(select(2, a:topk(2, 1, {largest = false})))", a.topk(2, 0, largest=False).indices
    yield "a:kthvalue(2, 1)", a.kthvalue(2, 0).values
    yield "a:quantile(0.3)", a.quantile(0.3)
    yield "a:quantile(0.75, 2, {keepdim = true})", a.quantile(0.75, 1, keepdim=True)
    yield "ties:keep(2, {dim = 2})", torch.tensor([[1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0]]).bool()
    yield "ties:keep(0.25)", torch.tensor([[0, 0, 0, 0], [0, 0, 0, 1], [0, 1, 1, 0]]).bool()
    yield "a:index(i)", a[i]
    yield "a:index(j, 2)", a[:, j]
    yield "a:index(m)", a[m]
    yield "c:index(lc.tensor {{true, false, true}, {false, false, true}})", c[torch.tensor([[1, 0, 1], [0, 0, 1]]).bool()]
    yield "a:index_add(1, i, b)", a.index_add(0, i, b)
    yield "a:gather(2, j)", a.gather(1, j)
    yield "a:scatter(2, j{{}, {1, 1}}, 9)", a.scatter(1, j[:, :1], 9.0)
    yield "a:scatter_add(2, j, b{{}, {1, 2}})", a.scatter_add(1, j, b[:, :2])
    yield "a:masked_fill(m, -1)", a.masked_fill(m, -1)
    yield "m:nonzero()", m.nonzero()
    yield "c:tril()", c.tril()
    yield "c:triu(1)", c.triu(1)
    yield "lc.cat({a, b}, 2)", torch.cat((a, b), 1)
    yield "lc.stack({a, b}, -1)", torch.stack((a, b), -1)
    yield "c:split(2, 2)[2]", c.split(2, 1)[1]
    yield "a:chunk(3, 2)[1]", a[:, :2]
    yield "c:flip(2)", c.flip(1)
    yield "c {2, {1, 2}, -1}", c[1, :2, -1]
    yield "c {{}, {1, 3, 2}}", c[:, 0:3:2]
    yield "c[2][1]", c[1, 0]
    yield "c:permute {3, 1, 2}", c.permute(2, 0, 1)
    yield "c:transpose(1, -1):reshape {4, -1}", c.transpose(0, -1).reshape(4, -1)
    yield "v:unsqueeze(1):expand {3, -1}", v.unsqueeze(0).expand(3, -1)
    yield "s:diagonal()", s.diagonal()
    yield "a:diagonal(1)", a.diagonal(1)
    yield "a:t():diagonal(-1)", a.T.diagonal(-1)
    yield "v:diag()", torch.diag(v)
    yield "c:matmul(a:t())", c @ a.T
    yield "c:matmul(v)", c @ v
    yield "v:matmul(s)", v @ s
    yield "v:matmul(v)", v @ v
    yield "v:outer(v)", torch.outer(v, v)
    yield "a:clone():addmm_(b, s, {alpha = 0.5, beta = 2})", torch.addmm(a, b, s, alpha=0.5, beta=2)
    yield "s:cholesky()", torch.linalg.cholesky(s)
    yield "s:cholesky {upper = true}", torch.linalg.cholesky(s).T
    yield "s:cholesky():cholesky_inverse()", torch.linalg.inv(s)
    yield "s:cholesky {upper = true}:cholesky_inverse {upper = true}", torch.linalg.inv(s)
    yield "s:inverse()", torch.linalg.inv(s)
    yield "c { {}, {}, { 1, 3 } }:inverse()", torch.linalg.inv(c[:, :, :3])
    values, vectors = torch.linalg.eigh(s)
    yield "(s:eigh())", values
    yield "select(2, s:eigh())", vectors * torch.sign(vectors.gather(0, vectors.abs().argmax(0, keepdim=True)))
    lower = torch.linalg.cholesky(s)
    yield "s:cholesky():solve_triangular(v)", torch.linalg.solve_triangular(lower, v[:, None], upper=False)[:, 0]
    yield "s:cholesky():solve_triangular(a:t(), {transpose = true})", torch.linalg.solve_triangular(lower.T, a.T, upper=True)
    yield "c:softmax()", c.softmax(-1)
    yield "c:softmax(2)", c.softmax(1)
    yield "c:log_softmax(1)", c.log_softmax(0)
    yield "c:layer_norm(v, v * 2)", F.layer_norm(c, (4,), v, v * 2)
    yield "c:layer_norm(nil, nil, {eps = 0.1})", F.layer_norm(c, (4,), eps=0.1)
    yield "c:rms_norm(v)", c * torch.rsqrt(c.square().mean(-1, keepdim=True) + 1e-6) * v
    yield "c:linear(w, lc.ones(5, {dtype = 'f64'}))", F.linear(c, w, torch.ones(5))
    yield "c:linear(w, nil, {act = 'gelu_tanh'})", F.gelu(F.linear(c, w), approximate="tanh")
    yield "w:embedding(j)", F.embedding(j, w)
    yield "a:cross_entropy(labels)", F.cross_entropy(a, labels)
    yield "q4:rotary({2, 0, 7, 1, 30}, lc.tensor({0.3}, {dtype = 'f64'}))", rotary(q4, [2, 0, 7, 1, 30], [0.3])
    yield "q4:rotary({2, 0, 7, 1, 3}, lc.tensor({0.9}, {dtype = 'f64'}), {scale = 1.5})", rotary(q4, [2, 0, 7, 1, 3], [0.9], 1.5)
    yield "lc.attention(q4, k4, v4)", attention(False)
    yield "lc.attention(q4, k4, v4, {causal = true, mask = seen})", attention(True, seen)
    yield "lc.attention(q4, k4, v4, {scale = 0.3})", attention(False, None, 0.3)
    yield "lc.arange(2, 7, 2)", torch.arange(2, 7, 2)
    yield "lc.linspace(-1, 2, 4, {dtype = 'f64'})", torch.linspace(-1, 2, 4)
    yield "lc.eye(2, 3)", torch.eye(2, 3)
    yield "a:to 'i64'", a.long()


def number(x):
    if isinstance(x, bool):
        return "true" if x else "false"
    if isinstance(x, float):
        return {math.inf: "1 / 0", -math.inf: "-1 / 0"}.get(x, repr(x))
    return str(x)


def written(t):
    values = ", ".join(number(x) for x in t.flatten().tolist())
    shape = ", ".join(str(n) for n in t.shape)
    return f"{{ shape = {{ {shape} }}, values = {{ {values} }} }}"


dtypes = {torch.float64: "f64", torch.int64: "i64", torch.bool: "bool"}
out = pathlib.Path(__file__).with_suffix(".lua")
with out.open("w") as f:
    f.write("-- Written by tests/golden/tensor.py with PyTorch " + torch.__version__.split("+")[0] + ".\n\nlocal inputs = {\n")
    for name, t in inputs.items():
        f.write(f'  {name} = {{ "{dtypes[t.dtype]}", {written(t)} }},\n')
    f.write("}\n\nlocal cases = {\n")
    for expression, t in cases():
        f.write(f'  {{ "{expression}", {written(t)} }},\n')
    f.write("}\n\nreturn { inputs = inputs, cases = cases }\n")
