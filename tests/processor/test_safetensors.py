"""Weights and cards in safetensors files: written and read by us, and by the format's own library."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from processor.checkpoint import load_checkpoint
from processor.errors import CheckpointError
from processor.safetensors_file import save_safetensors
from processor.weights import load_weights
from tests.small import Model

WEIGHTS = {
    "b": torch.linspace(-1, 1, 6).view(2, 3),
    "a": torch.tensor(7),
    "half": torch.tensor([1.5], dtype=torch.bfloat16),
    "none": torch.zeros(0, 4),
    "strided": torch.arange(12.0).view(3, 4).t(),
}
CARD = {"class_names": ["ä", "b"], "view": {"share": 0.95, "mean": torch.randn(1, 3, 1)}, "count": 3, "none": None}


def same(first, second) -> bool:
    """... values, types and order of everything nested."""
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    return type(first) is type(second) and first == second


@pytest.fixture
def file(tmp_path):
    save_safetensors(tmp_path / "w.safetensors", {"model": WEIGHTS, "card": CARD, "optimizer": {}})
    return tmp_path / "w.safetensors"


def test_everything_comes_back(file):
    assert same(load_checkpoint(file), {"model": {**dict.fromkeys(sorted(WEIGHTS)), **WEIGHTS}, "card": CARD})


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool])
def test_every_dtype(tmp_path, dtype):
    values = torch.tensor([0, 1, 1, 0]).to(dtype)
    save_safetensors(tmp_path / "w.safetensors", {"model": {"w": values}, "config": {"seed": 1}})
    assert same(load_checkpoint(tmp_path / "w.safetensors"), {"model": {"w": values}, "config": {"seed": 1}})


def test_the_formats_own_library(file):
    """... reads our files alone, and we read what others write with it."""
    assert same(dict(sorted(load_file(file).items())), dict(sorted(WEIGHTS.items())))
    other = file.with_name("other.safetensors")
    plain = {key: value.contiguous() for key, value in WEIGHTS.items()}
    save_file(plain, other, {"by": "somebody"})
    assert same(load_checkpoint(other)["model"], WEIGHTS)


def test_weights_for_a_network(tmp_path):
    """``--weights`` takes such a file as it takes a checkpoint; what is stored in half precision becomes float32."""
    source, network = Model(3), Model(3)
    save_safetensors(tmp_path / "w.safetensors", {"model": {k: v.half() for k, v in source.state_dict().items()}})
    assert load_weights(network, tmp_path / "w.safetensors") == []
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, source.state_dict()[name], rtol=1e-3, atol=1e-3)


def test_a_damaged_value_is_seen(file):
    for place in range(1, 60, 7):
        whole = bytearray(file.read_bytes())
        whole[-place] ^= 1
        file.with_name("x.safetensors").write_bytes(whole)
        with pytest.raises(CheckpointError, match="its values are not those that were written"):
            load_checkpoint(file.with_name("x.safetensors"))


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"\2" + bytes(7) + b"[]", b"\2" + bytes(7) + b"{}x"])
def test_what_is_no_such_file(tmp_path, content):
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"w.safetensors is damaged or cut off"):
        load_checkpoint(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1]},
        {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]},
        3,
    ],
)
def test_wrong_headers(tmp_path, entry):
    header = json.dumps({"w": entry}).encode()
    (tmp_path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(CheckpointError, match=r"w.safetensors is damaged or cut off"):
        load_checkpoint(tmp_path / "w.safetensors")
