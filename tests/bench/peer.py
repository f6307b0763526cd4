"""PyTorch at its best in true f32 on the work that bench.lua times, one JSON line per result.

Usage: python peer.py [work ...]      work: precision train256 train64 perplexity generate add bpe; default all

The precision is the fastest `set_float32_matmul_precision` whose 1024 x 768 x 3072 product stays within 1e-6 of f64 (rms of the error
over rms of the product). Each training setting runs in a process of its own, so that its peak resident memory is its own.
"""
import json
import os
import resource
import statistics
import subprocess
import sys
import time

THREADS = int(os.environ.get("LACUNA_BENCH_THREADS", "2"))
RMS_LIMIT = 1e-6


def report(**fields):
    print(json.dumps(fields), flush=True)


def median_time(work, repeats):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def torch_with_threads():
    import torch
    torch.set_num_threads(THREADS)
    return torch


def precision():
    torch = torch_with_threads()
    torch.manual_seed(0)
    a, b = torch.randn(1024, 768), torch.randn(768, 3072)
    exact = a.double() @ b.double()
    best = None
    for name in ("highest", "high", "medium"):
        torch.set_float32_matmul_precision(name)
        error = (((a @ b).double() - exact).pow(2).mean().sqrt() / exact.pow(2).mean().sqrt()).item()
        seconds = median_time(lambda: a @ b, 15)
        allowed = error <= RMS_LIMIT
        report(work="precision", setting=name, rms=error, gflops=2 * 1024 * 768 * 3072 / seconds / 1e9, allowed=allowed)
        if allowed and (best is None or seconds < 0.97 * best[0]):
            best = (seconds, name)
    report(work="precision", chosen=best[1])
    return best[1]


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def gpt2(torch):
    from transformers import GPT2Config, GPT2LMHeadModel
    torch.manual_seed(0)
    config = GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False)
    return GPT2LMHeadModel(config)


def train(length, setting):
    """Tokens per second of a training step, B = 4, torch.compile and fused AdamW; peak resident memory."""
    torch = torch_with_threads()
    torch.set_float32_matmul_precision(setting)
    model = gpt2(torch).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    compiled = torch.compile(model)
    ids = torch.randint(0, 50257, (4, length))

    def step():
        loss = compiled(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()
    step()
    seconds = median_time(step, 5 if length > 100 else 9)
    report(work=f"train{length}", tokens_per_second=4 * length / seconds, seconds=seconds, peak_mib=peak_mib())


def perplexity(setting):
    torch = torch_with_threads()
    torch.set_float32_matmul_precision(setting)
    model = gpt2(torch).eval()
    compiled = torch.compile(model)
    ids = torch.randint(0, 50257, (1, 1024))
    with torch.no_grad():
        compiled(input_ids=ids, labels=ids)
        seconds = median_time(lambda: compiled(input_ids=ids, labels=ids).loss.item(), 5)
    report(work="perplexity", tokens_per_second=1024 / seconds)


def generate(setting):
    torch = torch_with_threads()
    torch.set_float32_matmul_precision(setting)
    model = gpt2(torch).eval()
    model.config.use_cache = True
    ids = torch.randint(0, 50257, (1, 16))
    tokens = 64

    def run():
        model.generate(ids, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, pad_token_id=0, use_cache=True,
                       attention_mask=torch.ones_like(ids))

    with torch.no_grad():
        run()
        report(work="generate", tokens_per_second=tokens / median_time(run, 3))


def add():
    """Microseconds for x + y on 64 floats, plain and recorded."""
    torch = torch_with_threads()
    x, y = torch.randn(64), torch.randn(64)
    count = 100000

    def loop():
        for _ in range(count):
            x + y

    with torch.no_grad():
        plain = median_time(loop, 5)
    x.requires_grad_()
    recorded = median_time(loop, 5)
    report(work="add", plain_us=plain / count * 1e6, recorded_us=recorded / count * 1e6)


def bpe():
    """MB/s of the tokenizers package on wiki.test.raw, in one string and by line, one thread."""
    directory = os.environ.get("LACUNA_SHARED", "")
    text_path = os.path.join(directory, "wikitext-2-raw/wiki.test.raw")
    vocab = os.path.join(directory, "tokenizers/gpt2")
    if not os.path.exists(text_path):
        report(work="bpe", skipped=f"{text_path or 'wiki.test.raw'} is not there; set LACUNA_SHARED")
        return
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from tokenizers import ByteLevelBPETokenizer
    tok = ByteLevelBPETokenizer(os.path.join(vocab, "vocab.json"), os.path.join(vocab, "merges.txt"))
    text = open(text_path, encoding="utf-8").read()
    lines = text.splitlines(keepends=True)
    size = len(text.encode()) / 1e6
    whole = median_time(lambda: tok.encode(text), 3)
    by_line = median_time(lambda: [tok.encode(line) for line in lines], 3)
    report(work="bpe", whole_mb_s=size / whole, by_line_mb_s=size / by_line)


def start():
    report(work="start", seconds=median_time(lambda: subprocess.run([sys.executable, "-c", "import torch"], check=True), 3))


def main():
    wanted = sys.argv[1:] or ["precision", "train256", "train64", "perplexity", "generate", "add", "bpe", "start"]
    setting = os.environ.get("LACUNA_PEER_PRECISION")
    if len(wanted) > 1:
        if setting is None:
            setting = precision()
        for work in wanted:
            if work != "precision":
                environment = dict(os.environ, LACUNA_PEER_PRECISION=setting)
                environment.pop("OPENBLAS_CORETYPE", None)
                subprocess.run([sys.executable, __file__, work], env=environment, check=True)
        return
    work = wanted[0]
    if work == "precision":
        precision()
    elif work.startswith("train"):
        train(int(work[5:]), setting or "highest")
    elif work in ("perplexity", "generate"):
        {"perplexity": perplexity, "generate": generate}[work](setting or "highest")
    else:
        {"add": add, "bpe": bpe, "start": start}[work]()


if __name__ == "__main__":
    main()
