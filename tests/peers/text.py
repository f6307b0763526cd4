"""Tokenizers beside the `tokenizers` package: whole corpora, every character, random and broken text, training, and Lacuna's saved
tokenizers in transformers.

Usage: python text.py      corpora and GPT-2's vocabulary come from the shared data where it is (LACUNA_SHARED)
"""

import json
import pathlib
import random
import tempfile

import numpy
from tokenizers import ByteLevelBPETokenizer, Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer
from transformers.utils import logging

from support import ROOT, SHARED, Report, run_lacuna

logging.set_verbosity_error()
END = "<|endoftext|>"
CHARACTERS = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def texts(rng):
    """Name -> bytes: what needs no corpus."""
    yield "every character", "".join(CHARACTERS).encode()
    yield "every character after a blank or a letter", "".join(c + " a"[i % 2] for i, c in enumerate(CHARACTERS)).encode()
    awkward = [" ", "\n", "\t", "  ", "'s", "'ll", "'", "a", "the", "The ", "0", "42", "é", "中", "日本", "\u00a0", "\u2003", "\u3000", "🙂", "👩‍👩‍👧",
               "\u0301", "ا", "ㄱ", "\0", "-", "...", END, "²", "Ⅷ", "ǅ", "\u200b", "\ufeff", "\u0085"]
    yield "awkward pieces", "".join(rng.choice(awkward) for _ in range(200000)).encode()
    kinds = [(32, 127), (0x80, 0x800), (0x800, 0xD800), (0x10000, 0x20000)]
    yield "random characters", "".join(chr(rng.randrange(*rng.choice(kinds))) for _ in range(200000)).encode()
    yield "broken UTF-8", bytes(rng.choice([rng.randrange(256), rng.randrange(32, 127), rng.randrange(0x80, 0xC0), rng.randrange(0xC0, 0x100)])
                                for _ in range(200000))
    yield "one long word", bytes(rng.choice(b"abcdefgh") for _ in range(200000))
    yield "one letter", b"a" * 100000
    yield "blanks", b" " * 100001 + b"x"


def corpora():
    for name in ["wikitext-2-raw/wiki.test.raw", "tinyshakespeare/input.txt", "tinystories/tinystories-train-first-2MiB.txt"]:
        if (SHARED / name).exists():
            yield name.split("/")[0], (SHARED / name).read_bytes()


def joined_rows(text):
    """WikiText-2 as the published perplexities join it."""
    return "\n\n".join("" if row == " \n" else row for row in text.decode().splitlines(keepends=True)).encode()


def train(text, vocab_size, min_frequency):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator([text.decode("utf-8", "replace")], trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=min_frequency, special_tokens=[END], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return tokenizer


def merges(tokenizer):
    return [tuple(m.split(" ") if isinstance(m, str) else m) for m in json.loads(tokenizer.to_str())["model"]["merges"]]


class Jobs:
    """What Lacuna is asked to do, all in one run."""

    def __init__(self, directory):
        self.directory, self.jobs = directory, []

    def add(self, **fields):
        name = self.directory / str(len(self.jobs))
        self.jobs.append({**fields, "result": str(name)})
        return name

    def encode(self, tokenizer, text):
        name = self.add(what="encode", tokenizer=str(tokenizer), text=str(self.directory / f"{len(self.jobs)}.text"))
        name.with_suffix(".text").write_bytes(text)
        return name

    def train(self, text, vocab_size, min_frequency):
        name = self.add(what="train", text=str(self.directory / f"{len(self.jobs)}.text"), vocab_size=vocab_size, min_frequency=min_frequency)
        name.with_suffix(".text").write_bytes(text)
        return name

    def run(self):
        (self.directory / "jobs.json").write_text(json.dumps(self.jobs))
        run_lacuna("text", self.directory / "jobs.json")


def ids(path):
    return numpy.fromfile(path, dtype="<i4").tolist()


def compare_ids(case, ours, theirs):
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    case.equal(f"{len(theirs)} ids, first difference at {at}", ours == theirs, True)


def main():
    report = Report()
    rng = random.Random(5)
    golden = ROOT / "tests" / "golden" / "text" / "pair"
    gpt2 = SHARED / "tokenizers" / "gpt2"
    vocabulary = gpt2 if (gpt2 / "vocab.json").exists() else golden
    theirs = ByteLevelBPETokenizer(str(vocabulary / "vocab.json"), str(vocabulary / "merges.txt"))
    theirs.add_special_tokens([END])
    texts_by_name = dict(corpora())
    if "wikitext-2-raw" in texts_by_name:
        texts_by_name["wikitext-2-raw, rows joined"] = joined_rows(texts_by_name["wikitext-2-raw"])
    learn = [(name, text, size, least) for name, text in corpora() for size, least in [(512, 2), (8000, 1)]]
    learn.append(("awkward pieces", dict(texts(random.Random(6)))["awkward pieces"], 2000, 0))
    with tempfile.TemporaryDirectory() as directory:
        jobs = Jobs(pathlib.Path(directory))
        encoded = [(name, text, jobs.encode(vocabulary, text)) for name, text in [*texts_by_name.items(), *texts(rng)]]
        trained = [(*job, jobs.train(*job[1:])) for job in learn]
        jobs.run()
        for name, text, result in encoded:
            with report.case(f"{vocabulary.name}: {name}") as case:
                compare_ids(case, ids(result), theirs.encode(text.decode("utf-8", "replace")).ids)
        for name, text, size, least, result in trained:
            with report.case(f"training on {name}, {size} tokens") as case:
                peer = train(text, size, least)
                lines = (result / "merges.txt").read_text().split("\n")[1:-1]
                case.equal("merges", [tuple(line.split(" ")) for line in lines], merges(peer))
                case.equal("vocabulary", json.loads((result / "vocab.json").read_text()), peer.get_vocab())
                loaded = AutoTokenizer.from_pretrained(result)
                sample = text[:20000].decode("utf-8", "ignore")
                case.equal("ids in transformers", loaded(sample)["input_ids"], peer.encode(sample).ids)
                case.equal("end of text", loaded.eos_token, END)
    report.finish()


if __name__ == "__main__":
    main()
