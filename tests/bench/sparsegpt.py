"""SparseGPT at OPT-125M's shape, random weights and text, 50%, 128 windows of 512 tokens: the published algorithm (Frantar &
Alistarh 2023) in PyTorch, written anew, beside Lacuna's (sparsegpt.lua).

Usage: python sparsegpt.py [--windows N] [--only pytorch | lacuna]      LACUNA names the interpreter

Prints seconds and peak resident memory of both, their ratios, and what share of the machine's sgemm rate Lacuna's counted products
reach over the whole time. Each side runs in a process of its own; PyTorch with the precision that peer.py chooses among the true f32
ones. PyTorch's weights are OPT's initial ones, as Lacuna's are: time does not depend on their values.
"""
import argparse
import json
import os
import subprocess
import sys
import time

import peer
from compare import HERE, LACUNA, run

SPARSITY, LENGTH, ROWS = 0.5, 512, 4  # ROWS: windows in one forward pass


# -- the published algorithm ---------------------------------------------------------------------------------------------


def inverse_factor(torch, W, H, damp=0.01):
    """Upper Cholesky factor of the damped inverse of H; columns of W whose input was always 0 are zeroed."""
    diagonal = H.diagonal()
    dead = diagonal == 0
    diagonal[dead] = 1
    W[:, dead] = 0
    diagonal += damp * diagonal.mean()
    return torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(H)), upper=True)


def prune(torch, W, H, sparsity, block=128):
    """Prunes W (O, I) in place: algorithm 1 of the paper, the mask chosen within each block of columns."""
    U = inverse_factor(torch, W, H)
    for first in range(0, W.shape[1], block):
        last = min(first + block, W.shape[1])
        W1, U1 = W[:, first:last].t().contiguous(), U[first:last, first:last]  # transposed: a column of W is a row of W1
        scores = (W1 / U1.diagonal()[:, None]).square_()
        pruned = scores <= scores.flatten().kthvalue(int(scores.numel() * sparsity)).values
        errors = torch.empty_like(W1)
        torch.set_num_threads(1)  # a column is too little work for two
        for j in range(last - first):
            errors[j] = torch.where(pruned[j], W1[j], 0) / U1[j, j]
            W1[j:].addmm_(U1[j, j:, None], errors[None, j], alpha=-1)
        torch.set_num_threads(peer.THREADS)
        W1[pruned] = 0
        W[:, first:last] = W1.t()
        W[:, last:].addmm_(errors.t(), U[first:last, last:], alpha=-1)


class Collector:
    """Sums 2/n x x^T over the inputs that a layer gets."""

    def __init__(self, torch, layer, tokens):
        self.H, self.scale = torch.zeros(layer.in_features, layer.in_features), 2 / tokens
        self.handle = layer.register_forward_hook(self.add)

    def add(self, _, inputs, __):
        x = inputs[0].flatten(0, -2)
        self.H.addmm_(x.t(), x, alpha=self.scale)


def first_inputs(model, batches):
    """What the first block gets for each batch, and the other arguments of the call."""
    caught = []

    class Stop(Exception):
        pass

    def catch(_, positional, named):
        caught.append((positional[0], named))
        raise Stop

    handle = model.model.decoder.layers[0].register_forward_pre_hook(catch, with_kwargs=True)
    for ids in batches:
        try:
            model(ids, use_cache=False)
        except Stop:
            pass
    handle.remove()
    return [hidden for hidden, _ in caught], [named for _, named in caught]


def prune_model(torch, model, batches, sparsity):
    """Block by block: collect on the inputs that the pruned blocks before give, prune, and pass on what comes out."""
    tokens = sum(ids.numel() for ids in batches)
    hidden, named = first_inputs(model, batches)
    for block in model.model.decoder.layers:
        linears = [layer for layer in block.modules() if isinstance(layer, torch.nn.Linear)]
        collectors = [Collector(torch, layer, tokens) for layer in linears]
        for x, arguments in zip(hidden, named):
            block(x, **arguments)
        for layer, collector in zip(linears, collectors):
            collector.handle.remove()
            prune(torch, layer.weight.data, collector.H, sparsity)
        del collectors
        hidden = [block(x, **arguments) for x, arguments in zip(hidden, named)]


def pytorch(windows):
    torch = peer.torch_with_threads()
    torch.set_float32_matmul_precision(os.environ.get("LACUNA_PEER_PRECISION") or "highest")
    torch.manual_seed(0)
    from transformers import OPTConfig, OPTForCausalLM
    model = OPTForCausalLM(OPTConfig()).eval()  # the defaults are OPT-125M's
    ids = torch.randint(4, model.config.vocab_size, (windows, LENGTH))
    start = time.perf_counter()
    with torch.no_grad():
        prune_model(torch, model, ids.split(ROWS), SPARSITY)
    seconds = time.perf_counter() - start
    weights = [layer.weight for layer in model.model.decoder.layers.modules() if isinstance(layer, torch.nn.Linear)]
    zeros = sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)
    peer.report(seconds=seconds, peak_mib=peer.peak_mib(), sparsity=zeros)


# -- both sides ----------------------------------------------------------------------------------------------------------


def show(name, figures):
    print("%-8s %7.1f s  %6.0f MiB at its peak, sparsity %.4f" % (name, figures["seconds"], figures["peak_mib"], figures["sparsity"]),
          flush=True)


def main():
    parser = argparse.ArgumentParser(description="SparseGPT at OPT-125M's shape: PyTorch beside Lacuna")
    parser.add_argument("--windows", type=int, default=128, help="of 512 tokens; fewer for a quick look")
    parser.add_argument("--only", choices=["pytorch", "lacuna"], help="one side")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)  # this process is PyTorch's
    options = parser.parse_args()
    if options.inside:
        return pytorch(options.windows)
    windows = str(options.windows)
    print("SparseGPT, OPT-125M's shape, %g%%, %s windows of %d tokens" % (100 * SPARSITY, windows, LENGTH))
    if options.only != "lacuna":
        setting = run([sys.executable, os.path.join(HERE, "peer.py"), "precision"], "")[-1]["chosen"]
        theirs = run([sys.executable, __file__, "--inside", "--windows", windows], setting)[-1]
        show("PyTorch", theirs)
    if options.only != "pytorch":
        ours = run([LACUNA, os.path.join(HERE, "sparsegpt.lua"), "--windows", windows, "--json"], "")[-1]
        show("Lacuna", ours)
        roof = ours["flops"] / ours["sgemm"]
        print("%.3g FLOPs counted, at least %.1f s at the %.0f GFLOP/s of sgemm: %.0f%% of the roof (75%% is asked)"
              % (ours["flops"], roof, ours["sgemm"] / 1e9, 100 * roof / ours["seconds"]))
    if not options.only:
        print("Lacuna is %.2f times as fast (1.7 is asked, or 75%% of the roof), with %.2f times the memory"
              % (theirs["seconds"] / ours["seconds"], ours["peak_mib"] / theirs["peak_mib"]))


if __name__ == "__main__":
    main()
