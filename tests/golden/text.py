"""Makes tests/golden/text.lua and tests/golden/text/: what the `tokenizers` package makes of texts.

A small byte-level BPE is trained on a made-up text, and saved in several shapes; text.lua has the text, the merges that were learned,
and for each shape texts with their ids, and lists of ids with their text.
Run: python tests/golden/text.py
"""

import pathlib
import random

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent
END = "<|endoftext|>"
WORDS = ("the a of to and in that it was his her with as had for she he but is at on all be they said there not you one so were we "
         "little river stones morning light kept walking never quite thought about every other mountain silence don't we'll they've "
         "it's I'd weather 1984 3.14 2,000 café naïve Straße 東京 Ελλάδα мир 🙂").split()


def sentences(rng, count):
    for _ in range(count):
        words = [rng.choice(WORDS[:rng.choice([20, 40, len(WORDS)])]) for _ in range(rng.randrange(3, 14))]
        yield words[0].capitalize() + " " + " ".join(words[1:]) + rng.choice([".", "!", "?", "...", ";\n", ".\n\n"])


def train(text, vocab_size, min_frequency):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator([text], trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=min_frequency, special_tokens=[END], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return tokenizer


def merges(tokenizer):
    return [line.rstrip("\n") for line in open(tokenizer.model.save(str(HERE / "text"), "plain")[1])][1:]


def texts(rng):
    yield from ["", " ", "  ", "\n", "a", "'", "''s", "I'll we'd 'tis 'S don't'", "a  b   c \n d\n\n e\t\tf", "  lead", "trail   ",
                "12345 3.14a 1a2b x²½Ⅷ", "...!? --- «x»", "e\u0301 é e\u0308\u0323", "a\u00a0b\u2003c\u3000d\u0085e",
                "日本語のテキスト、です。", "👩‍👩‍👧 🇩🇪 🙂🙂", "\u200b\ufeffx\u00ad", "\x00\x01\x7f", f"one{END}two {END} {END}{END}",
                "<|endoftext", "ǅungla ʰ ª", "क्षेत्र ١٢٣ ៣", "\U00013460\U00016d70 \U0002ebf0", "a" * 100, "ab" * 60, "the " * 30]
    kinds = [(32, 127), (32, 127), (9, 33), (0x80, 0x250), (0x250, 0x800), (0x800, 0xD800), (0xE000, 0x10000), (0x10000, 0x20000)]
    for _ in range(40):
        yield "".join(chr(rng.randrange(*rng.choice(kinds))) for _ in range(rng.randrange(1, 40)))
    for _ in range(20):
        yield from sentences(rng, 1)


def broken(rng):
    yield from [b"\xff", b"a\xc0\x80b", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\xe2\x82x", b"\xf0\x9f\x99"]
    for _ in range(30):
        yield bytes(rng.choice([rng.randrange(256), rng.randrange(0x80, 0xC0), rng.randrange(0xC0, 0x100)]) for _ in range(24))


def quoted(text):
    data = text if isinstance(text, bytes) else text.encode()
    plain = lambda b: 32 <= b < 127 and b not in b'"\\'
    return '"' + "".join(chr(b) if plain(b) else f"\\{b:03d}" for b in data) + '"'


def table(values):
    return "{ " + ", ".join(str(v) for v in values) + " }" if values else "{}"


def cases(tokenizer, rng, special):
    rows = [f"      {{ {quoted(text)}, {table(tokenizer.encode(text, add_special_tokens=special).ids)} }},\n"
            for text in texts(rng)]
    rows += [f"      {{ {quoted(data)}, {table(tokenizer.encode(data.decode('utf-8', 'replace'), add_special_tokens=special).ids)} }},\n"
             for data in broken(rng)]
    return "".join(rows)


def decoded(tokenizer, rng):
    rows = []
    for _ in range(20):
        ids = [rng.randrange(400) for _ in range(rng.randrange(1, 12))]
        whole = tokenizer.decode(ids, skip_special_tokens=False)
        rows.append(f"    {{ {table(ids)}, {quoted(whole)}, {quoted(tokenizer.decode(ids, skip_special_tokens=True))} }},\n")
    return "".join(rows)


def shapes(plain):
    """Name -> the same BPE as other models' tokenizer.json files have it."""
    def copy():
        return Tokenizer.from_str(plain.to_str())

    opt = copy()
    opt.post_processor = processors.TemplateProcessing(single=f"{END} $A", special_tokens=[(END, 0)])
    spaced = copy()
    spaced.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    added = copy()
    added.normalizer = normalizers.NFC()
    added.add_tokens([AddedToken("  ", normalized=False), AddedToken("   ", normalized=False),
                      AddedToken("<mask>", lstrip=True, normalized=False), AddedToken("<end>", rstrip=True, normalized=False),
                      AddedToken("that", normalized=False)])
    return {"plain": plain, "opt": opt, "spaced": spaced, "added": added}


def main():
    rng = random.Random(7)
    (HERE / "text").mkdir(exist_ok=True)
    text = " ".join(sentences(rng, 150))
    plain = train(text, 400, 2)
    every = train("ab ab abc abcd aab aaab baba abab", 300, 1)
    out = ["-- Made by tests/golden/text.py: see there.\nreturn {\n"]
    out += [f"  text = {quoted(text)},\n  merges = {{\n", *(f"    {quoted(m)},\n" for m in merges(plain)), "  },\n"]
    out += ["  every_merge = {\n", *(f"    {quoted(m)},\n" for m in merges(every)), "  },\n  shapes = {\n"]
    plain_merges = merges(plain)  # writes plain-vocab.json and plain-merges.txt again
    assert len(plain_merges) == 143
    for name, tokenizer in shapes(plain).items():
        directory = HERE / "text" / name
        directory.mkdir(exist_ok=True)
        tokenizer.save(str(directory / "tokenizer.json"), pretty=False)
        out += [f"    {name} = {{\n", cases(tokenizer, random.Random(name), name == "opt"), "    },\n"]
    out += ["  },\n  decoded = {\n", decoded(plain, rng), "  },\n}\n"]
    (HERE / "text.lua").write_text("".join(out))
    pair = HERE / "text" / "pair"
    pair.mkdir(exist_ok=True)
    (HERE / "text" / "plain-vocab.json").rename(pair / "vocab.json")
    (HERE / "text" / "plain-merges.txt").rename(pair / "merges.txt")


if __name__ == "__main__":
    main()
