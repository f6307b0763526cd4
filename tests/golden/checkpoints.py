"""Makes tests/golden/checkpoints/: small checkpoint files in each format beside safetensors, and expected_*.safetensors with the same
tensors as PyTorch and the `gguf` package read them.

blocks.gguf: every block type that Lacuna reads, random bytes as blocks; blocks_iq.gguf has one that it does not.
state.pt (zip), legacy.pt: the same state dict: all dtypes, shared storages, offsets, strides, parameters, an empty tensor, a scalar.
repacked.pt: state.pt packed again, as zip does it: deflated, with an entry for the directory.
nested.pt, prefixed.pt: state dicts under "state_dict", and with "module." before every name.
sharded/: two files and their index.
model/: a Llama as config.json and a state dict of a name of its own; logits.json has what it says of some tokens.
hostile_*.pt: pickles that run code when Python reads them.
Run: python tests/golden/checkpoints.py
"""

import builtins
import collections
import json
import os
import pathlib
import zipfile

import gguf
import numpy as np
import torch
import transformers
from gguf import GGMLQuantizationType, GGUFWriter, quants
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent / "checkpoints"
BLOCKS = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]


def random_blocks(rng, kind, rows, blocks):
    """Blocks of random bits, whose f16 factors (there is no NaN among those that quantisation makes) are finite."""
    size = gguf.GGML_QUANT_SIZES[kind][1]
    data = rng.integers(0, 256, (rows * blocks, size), dtype=np.uint8)
    high_bytes = {"Q2_K": (81, 83), "Q3_K": (109,), "Q6_K": (209,), "Q4_0": (1,), "Q5_0": (1,), "Q8_0": (1,)}.get(kind.name, (1, 3))
    for at in high_bytes:
        data[:, at] &= 0xBF
    return data.reshape(rows, blocks * size)


def write_gguf(path, tensors, version=3):
    writer = GGUFWriter(path, "llama")
    writer.add_string("general.name", "blocks")
    for name, (data, kind) in tensors.items():
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    if version != 3:
        data = bytearray(path.read_bytes())
        data[4] = version
        path.write_bytes(data)


def blocks():
    rng = np.random.default_rng(7)
    tensors, expected = {}, {}
    for name in BLOCKS:
        kind = GGMLQuantizationType[name]
        count = 3 if gguf.GGML_QUANT_SIZES[kind][0] == 32 else 2
        data = random_blocks(rng, kind, 3, count)
        tensors[name] = (data, kind)
        expected[name] = torch.from_numpy(quants.dequantize(data, kind))
    values = rng.standard_normal((3, 5)).astype(np.float32)
    tensors["F32"] = (values, None)
    tensors["F16"] = (values.astype(np.float16), None)
    tensors["F64"] = (values.astype(np.float64), None)
    tensors["BF16"] = (quants.quantize(values, GGMLQuantizationType.BF16), GGMLQuantizationType.BF16)
    tensors["I32"] = (np.arange(-3, 3, dtype=np.int32), None)
    tensors["I64"] = (np.arange(-3, 3, dtype=np.int64), None)
    for name in ("F32", "F16", "F64", "I32", "I64"):
        expected[name] = torch.from_numpy(tensors[name][0].copy())
    expected["BF16"] = torch.from_numpy(quants.dequantize(*tensors["BF16"])).bfloat16()
    write_gguf(HERE / "blocks.gguf", tensors, version=2)
    save_file(expected, HERE / "expected_blocks.safetensors")
    kind = GGMLQuantizationType.IQ4_XS
    write_gguf(HERE / "blocks_iq.gguf", {"strange": (random_blocks(rng, kind, 1, 1), kind)})


def state_dict():
    torch.manual_seed(5)
    base = torch.randn(4, 6)
    flat = torch.arange(24, dtype=torch.int64)
    state = collections.OrderedDict()
    state["f32"] = base
    state["shared"] = base[1:3]
    state["transposed"] = base.T
    state["columns"] = base[:, 1::2]
    state["reversed dims"] = flat.view(2, 3, 4).permute(2, 0, 1)
    state["offset"] = flat[5:11]
    state["expanded"] = base[0, :3].expand(2, 3)
    state["parameter"] = torch.nn.Parameter(torch.randn(3))
    state["scalar"] = torch.tensor(2.5)
    state["empty"] = torch.zeros(0, 4)
    for name, dtype in dict(f16=torch.float16, bf16=torch.bfloat16, f64=torch.float64, i32=torch.int32, u8=torch.uint8,
                            bool=torch.bool).items():
        state[name] = (torch.randn(2, 5) * 3).abs().to(dtype)
    state["i8"] = torch.tensor([-1, 2], dtype=torch.int8)
    return state


def torch_files():
    state = state_dict()
    linear = torch.nn.Linear(3, 2)
    torch.save(state, HERE / "state.pt")
    torch.save(state, HERE / "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save({"epoch": 3, "loss": 0.25, "name": "run", "done": None, "betas": (0.9, 0.999), "state_dict": linear.state_dict()},
               HERE / "nested.pt")
    torch.save({f"module.{k}": v for k, v in linear.state_dict().items()}, HERE / "prefixed.pt")
    shards = {"weight": "pytorch_model-00001-of-00002.bin", "bias": "pytorch_model-00002-of-00002.bin"}
    (HERE / "sharded").mkdir(exist_ok=True)
    for name, shard in shards.items():
        torch.save({name: linear.state_dict()[name]}, HERE / "sharded" / shard)
    (HERE / "sharded" / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}) + "\n")
    expected = {k: v.detach().clone().contiguous() for k, v in state.items() if k != "i8"}
    save_file(expected, HERE / "expected_state.safetensors")
    save_file(dict(linear.state_dict()), HERE / "expected_linear.safetensors")


def repack(source, target):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        new.writestr(zipfile.ZipInfo("state/"), b"")
        for entry in old.infolist():
            new.writestr(zipfile.ZipInfo(entry.filename), old.read(entry), zipfile.ZIP_DEFLATED)


def whole_model():
    directory = HERE / "model"
    directory.mkdir(exist_ok=True)
    torch.manual_seed(5)
    config = transformers.LlamaConfig(vocab_size=11, hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2,
                                      max_position_embeddings=16)
    model = transformers.LlamaForCausalLM(config).eval()
    torch.save(model.state_dict(), directory / "epoch-3.pt")
    (directory / "config.json").write_text(json.dumps(config.to_diff_dict(), indent=1) + "\n")
    with torch.no_grad():
        logits = model(torch.tensor([[1, 4, 1, 5, 9, 2]])).logits[0]
    (directory / "logits.json").write_text(json.dumps(logits.tolist()) + "\n")


class Call:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def hostile_files():
    marker = "touch /tmp/lacuna-pickle-ran-code"
    weight = torch.zeros(2)
    torch.save({"weight": weight, "x": Call(os.system, marker)}, HERE / "hostile_system.pt")
    torch.save({"weight": weight, "x": Call(builtins.eval, f"__import__('os').system('{marker}')")}, HERE / "hostile_eval.pt",
               _use_new_zipfile_serialization=False)
    torch.save({"weight": weight, "x": Call(getattr, [], "append")}, HERE / "hostile_getattr.pt", pickle_protocol=4)
    torch.save(torch.nn.Linear(2, 1), HERE / "hostile_module.pt")


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    blocks()
    torch_files()
    repack(HERE / "state.pt", HERE / "repacked.pt")
    hostile_files()
    whole_model()
