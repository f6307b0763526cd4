"""Lacuna beside PyTorch, in one run: each piece of work is done by both in turn, then again, and the medians are compared.

Usage: python compare.py [rounds]      default 1; LACUNA names the interpreter, LACUNA_SHARED the folder with wiki.test.raw
"""
import json
import os
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
LACUNA = os.environ.get("LACUNA", "build/lacuna")
# work, field, unit, higher is better, what is asked: the ratio of Lacuna's figure to the peer's
ROWS = [
    ("train256", "tokens_per_second", "tokens/s", ">= 1.1"), ("train256", "peak_mib", "MiB", "<= 0.7"),
    ("train64", "tokens_per_second", "tokens/s", ">= 1.2"), ("train64", "peak_mib", "MiB", "<= 0.7"),
    ("perplexity", "tokens_per_second", "tokens/s", ">= 1.2"), ("generate", "tokens_per_second", "tokens/s", ">= 2"),
    ("add", "plain_us", "us", "<= 0.5"), ("add", "recorded_us", "us", "<= 0.5"),
    ("bpe", "whole_mb_s", "MB/s", ">= 1"), ("bpe", "by_line_mb_s", "MB/s", ">= 1"), ("start", "seconds", "s", ""),
]


def run(command, setting):
    environment = dict(os.environ, LACUNA=LACUNA, LACUNA_PEER_PRECISION=setting)
    environment.pop("OPENBLAS_CORETYPE", None)
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def peer(work, setting=""):
    return run([sys.executable, os.path.join(HERE, "peer.py"), work], setting)


def lacuna(work):
    return run([LACUNA, os.path.join(HERE, "work.lua"), work], "")


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    setting = ""
    for line in peer("precision"):
        if "chosen" in line:
            setting = line["chosen"]
        else:
            print("PyTorch '%s': rms error %.1e, %.0f GFLOP/s%s" % (line["setting"], line["rms"], line["gflops"],
                                                                   "" if line["allowed"] else ", not f32"))
    print("PyTorch runs with '%s'\n\n%-12s %-10s %10s %10s %7s  %s" % (setting, "work", "", "PyTorch", "Lacuna", "ratio", "asked"))
    done = {}
    for work, field, unit, asked in ROWS:
        if work not in done:
            pairs = [(peer(work, setting)[-1], lacuna(work)[-1]) for _ in range(rounds)]
            done[work] = pairs
        pairs = [(a[field], b[field]) for a, b in done[work] if field in a and field in b]
        if not pairs:
            print("%-12s skipped: %s" % (work, done[work][0][0].get("skipped", "no figure")))
            continue
        theirs, ours = (statistics.median(column) for column in zip(*pairs))
        print("%-12s %-10s %10.4g %10.4g %7.3g  %s" % (work, unit, theirs, ours, ours / theirs, asked), flush=True)


if __name__ == "__main__":
    main()
