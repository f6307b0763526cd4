"""Makes tests/golden/stories260K.lua: the token ids of five stories, as llama2.c's run.c encodes them: bytes or characters of the text
after a space, then always the merge of the highest score, the first of equals; 1 (beginning of text) before each.
Run: python tests/golden/stories260K.py      with the shared data in ../shared/data, or where LACUNA_SHARED says
"""

import os
import pathlib
import struct
import sys

HERE = pathlib.Path(__file__).parent


def read_vocabulary(path):
    data, at, pieces, scores = path.read_bytes(), 4, [], []
    while at < len(data):
        score, length = struct.unpack_from("<fi", data, at)
        pieces.append(data[at + 8:at + 8 + length])
        scores.append(score)
        at += 8 + length
    return pieces, scores


def encode(text, pieces, scores):
    ids = {}
    for i, piece in enumerate(pieces):
        ids.setdefault(piece, i)
    tokens = [ids[b" "]]
    for character in text:
        data = character.encode()
        tokens += [ids[data]] if data in ids else [byte + 3 for byte in data]
    while True:
        merges = [(scores[new], -i, new) for i in range(len(tokens) - 1) if (new := ids.get(pieces[tokens[i]] + pieces[tokens[i + 1]]))]
        if not merges:
            return [1, *tokens]
        _, at, new = max(merges)
        tokens[-at:2 - at] = [new]


if __name__ == "__main__":
    data = pathlib.Path(os.environ.get("LACUNA_SHARED", HERE.parents[2] / "shared" / "data"))
    if not (data / "models" / "stories260K").is_dir():
        sys.exit(print(f"stories260K.lua stays as it is: {data} has no models/stories260K"))
    vocabulary = read_vocabulary(data / "models" / "stories260K" / "tok512.bin")
    text = (data / "tinystories" / "tinystories-v2-sample-cs336.txt").read_text()
    stories = [encode(story.strip(), *vocabulary) for story in text.split("<|endoftext|>") if story.strip()]
    lines = ["-- Made by tests/golden/stories260K.py: the ids of five stories of TinyStories.", "return {"]
    for story in stories:
        lines.append("  {")
        lines += ["    " + ", ".join(map(str, story[i:i + 20])) + "," for i in range(0, len(story), 20)]
        lines.append("  },")
    (HERE / "stories260K.lua").write_text("\n".join([*lines, "}"]) + "\n")
