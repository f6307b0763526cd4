"""Makes tests/golden/tokenizer_json/: tokenizer.json files in the styles of today's models - their patterns, normalizers, added tokens and
decoders around small vocabularies - and, in cases.lua beside each, what the `tokenizers` package makes of hard texts with it.

Run: python tests/golden/tokenizer_json.py
"""

import itertools
import json
import pathlib
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from text import broken, quoted, sentences, table, texts

HERE = pathlib.Path(__file__).parent
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"
SIZE = 460


def byte_level(text, *steps, use_regex=False, prefix=False, normalizer=None, ignore_merges=False):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    last = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=use_regex)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*steps, last])
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.train_from_iterator([text], trainers.BpeTrainer(
        vocab_size=SIZE, special_tokens=["<|begin|>", "<|end|>"], show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return tokenizer


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(pattern, behavior, invert)


def begins(tokenizer, token):
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
        single=f"{token} $A", special_tokens=[(token, tokenizer.token_to_id(token))])])
    return tokenizer


def sentencepiece(text, metaspace=None):
    """Llama 2's: normalizer, or its newer form with a Metaspace."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.train_from_iterator([text], trainers.BpeTrainer(vocab_size=SIZE, limit_alphabet=70, show_progress=False, special_tokens=[
        "<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]))
    parts = json.loads(tokenizer.to_str())
    parts["pre_tokenizer"] = metaspace
    if metaspace:
        parts["normalizer"] = None
    parts["added_tokens"] = parts["added_tokens"][:3]
    parts["decoder"] = {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    if metaspace and metaspace["split"]:
        parts["decoder"] = metaspace
    tokenizer = Tokenizer.from_str(json.dumps(parts))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def with_added(tokenizer):
    tokenizer.add_tokens([
        AddedToken("<mask>", lstrip=True, normalized=False), AddedToken("<sep>", rstrip=True, normalized=False),
        AddedToken("of", single_word=True, normalized=False), AddedToken("  ", normalized=False), AddedToken("   ", normalized=True),
        AddedToken("a\u0301中", normalized=True), AddedToken("that", normalized=True, single_word=True)])
    return tokenizer


def shapes(text):
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    digits = pre_tokenizers.Digits
    yield "llama3", begins(byte_level(text, split(Regex(LLAMA3)), ignore_merges=True), "<|begin|>")
    yield "qwen2", byte_level(text, split(Regex(QWEN2)), normalizer=normalizers.NFC())
    yield "smollm", byte_level(text, digits(individual_digits=True), use_regex=True)
    yield "o200k", byte_level(text, split(Regex(O200K), "removed", invert=True))
    yield "cuts", byte_level(text, split(Regex(r"[\s\d&--]|[^(\p{L}|[.,!?…])]"), "merged_with_next"), split("e", "merged_with_previous"),
                             split(Regex(r"(?<=a)(?=t)"), "isolated"), split(Regex("[aou]"), "contiguous"), digits(individual_digits=False),
                             prefix=True, normalizer=normalizers.NFKC())
    yield "bloom", byte_level(text, split(Regex(BLOOM)))
    yield "bloom_merged", byte_level(text, split(Regex(BLOOM), "merged_with_next"), split(Regex(r"[.,!?…]"), "merged_with_previous", True))
    yield "added", with_added(byte_level(text, split(Regex(QWEN2)), normalizer=normalizers.NFC()))
    yield "llama2", sentencepiece(text)
    yield "llama2_added", with_added(sentencepiece(text))
    yield "metaspace_first", sentencepiece(text, metaspace)
    yield "metaspace_split", sentencepiece(text, {**metaspace, "prepend_scheme": "always", "split": True})
    yield "metaspace_words", with_added(sentencepiece(text, {**metaspace, "split": True}))


def hard_texts(rng):
    yield from itertools.islice(texts(rng), 38)  # what is written out there, and some random ones
    yield from itertools.islice(broken(rng), 12)
    yield from ["I'LL We'D don'T 'ſ 'S's", "line\r\nnext\r\n\r\n  end\r", "  \n \n  x", "1234567 12,345.678 ½²٣٤٥Ⅻ", "x_y-z&w", "\u180ex\u00a0\u2028y",
                "e\u0301\u0323\u0334 \u1100\u1161\u11a8 ﬁ ㌀", "\u0898\u0334a \U00010eac\u0334", "▁a ▁▁b <0x0A> <0x0a>", "<s> a</s>b <unk>", "a\nb\tc",
                "x <mask> y<mask>  <sep>   z of xof of", "that that's xthat a\u0301中 á中", "   a    b     c", "<|begin|>x<|end|> y", "日本語 한국어 ไทย", "🙂🏽‍🚀"]
    pieces = ["<mask>", "<sep>", " ", "  ", "of", "that", "the", "\n", "'s", "'S", "12", "é", "e\u0301", "▁", "<s>", "日", "\u00a0", "\r\n", "_", "A"]
    for _ in range(20):
        yield "".join(rng.choice(pieces) for _ in range(rng.randrange(1, 14)))


def cases(tokenizer):
    for text in hard_texts(random.Random(13)):
        valid = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        ids = tokenizer.encode(valid).ids
        back = tokenizer.decode(ids, skip_special_tokens=False)
        yield f"  {{ {quoted(text)}, {table(ids)}{'' if back == text else ', ' + quoted(back)} }},\n"


def main():
    text = " ".join(sentences(random.Random(7), 150))
    head = "-- Made by tests/golden/tokenizer_json.py: see there. Each case: text, ids, the ids' text where it is another.\nreturn {\n"
    for name, tokenizer in shapes(text):
        directory = HERE / "tokenizer_json" / name
        directory.mkdir(parents=True, exist_ok=True)
        parts = json.loads(tokenizer.to_str())
        if name == "smollm":  # the older layout of merges
            parts["model"]["merges"] = [" ".join(pair) for pair in parts["model"]["merges"]]
        (directory / "tokenizer.json").write_text(json.dumps(parts, ensure_ascii=False))
        (directory / "cases.lua").write_text(head + "".join(cases(tokenizer)) + "}\n")


if __name__ == "__main__":
    main()
