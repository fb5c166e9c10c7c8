"""Checkpoints for tests: shards that the safetensors package writes, and their rows."""

import json
from pathlib import Path

import numpy as np
import pytest

import tieralloc as ta

ENGINES = [name for name, refusal in ta._bindings.fetch_engines().items() if not refusal]


def read_header(path):
    """Return the header of a safetensors file, as an object, and its data."""
    content = Path(path).read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def write_safetensors(path, header, data, padding=0):
    """Write a file by hand; `padding` is the number of spaces behind the header."""
    text = (header if isinstance(header, bytes) else json.dumps(header).encode()) + b" " * padding
    Path(path).write_bytes(len(text).to_bytes(8, "little") + text + data)


def shift_data(path, remainder):
    """Pad the header, so that the data begin at an offset with this remainder modulo 8."""
    header, data = read_header(path)
    length = len(json.dumps(header)) + 8
    write_safetensors(path, header, data, (remainder - length) % 8)


def make_shards(folder):
    """Write three shards, with data at odd offsets; return the expected rows by tensor."""
    torch = pytest.importorskip("torch")
    save_file = pytest.importorskip("safetensors.torch").save_file
    generator = torch.Generator().manual_seed(0)

    def rows(count, dim, dtype):
        return torch.randn(count, dim, generator=generator).to(dtype)

    shards = [
        {
            "f32": rows(700, 33, torch.float32),
            "bf16": rows(900, 160, torch.bfloat16),
            "ngram.0": rows(1000, 131, torch.float8_e4m3fn),
            "bias": torch.randn(7, generator=generator),
        },
        {
            "ngram.1": rows(37, 131, torch.float8_e4m3fn),
            "f16": rows(500, 7, torch.float16),
            "wide": rows(9, 5000, torch.float32),
            "cube": torch.zeros(2, 3, 4),
        },
        {
            "i8": torch.randint(-128, 128, (400, 5), generator=generator).to(torch.int8),
            "f64": rows(300, 9, torch.float64),
            "ngram.2": rows(400, 131, torch.float8_e4m3fn),
            "empty": torch.zeros(0, 4),
        },
    ]
    expected = {}
    for number, shard in enumerate(shards):
        path = folder / f"model-{number + 1:05}-of-00003.safetensors"
        save_file(shard, path, metadata={"format": "pt"})
        shift_data(path, 2 * number + 1)
        for name, tensor in shard.items():
            if tensor.dim() == 2 and len(tensor):
                expected[name] = as_stored(tensor)
    return expected


def as_stored(tensor):
    """Return the rows of a tensor as a lookup does."""
    import torch

    if tensor.dtype in (torch.float32, torch.float16, torch.float64):
        return tensor.numpy()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.uint16).numpy()
    return tensor.view(torch.uint8).numpy().reshape(len(tensor), -1)


def store_of(*arguments, fast_rows=64, policy="s3fifo", **options):
    """Open a store of a checkpoint."""
    return ta.TieredStore(
        slow=ta.Checkpoint(*arguments, **options), fast_rows=fast_rows, policy=policy
    )


def shuffled(rows, seed=0):
    return np.random.default_rng(seed).permutation(rows)
