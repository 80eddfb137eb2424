"""Weights of a network, its card and its config in one safetensors file, which any reader of that format opens.

A file has 8 bytes with the length of a JSON header, the header (of every tensor: dtype, shape and place; and
``__metadata__``, text by name), then the values, as https://github.com/huggingface/safetensors says. The tensors are
those of the state dict. The metadata has card and config as JSON, in which a tensor is a dict of dtype, shape and
base64, and the checksum of the values.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from feeders.files import parse_json, write_atomically

SUFFIX = ".safetensors"
DTYPES = {
    "F64": torch.float64, "I64": torch.int64, "F32": torch.float32, "I32": torch.int32, "F16": torch.float16,
    "BF16": torch.bfloat16, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DTYPES.items()}
MARK = "safetensors"  # key of a tensor within the JSON of the metadata
FACTS = ("card", "config")  # what a file may have besides the weights
LARGEST_HEADER = 100_000_000  # bytes; the format's own limit


def save_safetensors(path: Path, state: Mapping[str, Any]) -> None:
    """Writes of a checkpoint ``model``, the weights, and those of FACTS that it has: plain values and tensors, nested.

    Raises:
        ValueError: a dtype that the format does not have.
    """
    header: dict[str, Any] = {}
    pieces: list[bytes] = []
    place = 0
    weights: Mapping[str, Tensor] = state["model"]
    for name in sorted(weights, key=lambda key: (-weights[key].element_size(), key)):  # so every tensor is aligned
        described, content = _packed(weights[name])
        header[name] = {**described, "data_offsets": [place, place + len(content)]}
        pieces.append(content)
        place += len(content)
    values = b"".join(pieces)
    metadata = {"format": "pt", "checksum": _checksum(values)}
    metadata |= {fact: json.dumps(state[fact], default=_as_json) for fact in FACTS if fact in state}
    start = json.dumps({"__metadata__": metadata, **header}, separators=(",", ":")).encode()
    start += b" " * (-len(start) % 8)
    write_atomically(path, len(start).to_bytes(8, "little") + start + values)


def read_safetensors(path: Path) -> dict[str, Any]:
    """What :func:`save_safetensors` wrote, as a checkpoint has it.

    Raises:
        ValueError: the file is cut off, damaged, or not of this format.
    """
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or not 0 < length <= min(LARGEST_HEADER, len(content) - 8):
        raise ValueError("it is no safetensors file")
    header, values = parse_json(content[8 : 8 + length]), memoryview(content)[8 + length :]
    try:
        metadata = header.pop("__metadata__", {})
        weights = {name: _unpacked(entry, values[slice(*entry["data_offsets"])]) for name, entry in header.items()}
        held = sum(tensor.nbytes for tensor in weights.values())
        facts = {fact: json.loads(metadata[fact], object_hook=_from_json) for fact in FACTS if fact in metadata}
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"its header is damaged: {type(error).__name__} {error}") from error
    if held != len(values) or metadata.get("checksum", _checksum(values)) != _checksum(values):
        raise ValueError("its values are not those that were written")
    return {"model": weights, **facts}


def _checksum(values: bytes | memoryview) -> str:
    return blake2b(values, digest_size=16).hexdigest()


def _packed(tensor: Tensor) -> tuple[dict[str, Any], bytes]:
    """Dtype and shape, and the values, little-endian."""
    if tensor.dtype not in NAMES:
        raise ValueError(f"a tensor of {tensor.dtype} has no place in a safetensors file")
    content = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape)}, content


def _unpacked(entry: Mapping[str, Any], content: bytes | memoryview) -> Tensor:
    """The tensor; ValueError or RuntimeError where the values are not as many as the shape says."""
    size = len(content)
    values = torch.frombuffer(bytearray(content), dtype=torch.uint8) if size else torch.empty(0, dtype=torch.uint8)
    return values.view(DTYPES[entry["dtype"]]).reshape(entry["shape"])


def _as_json(value: Any) -> Any:
    """A tensor within a card, as JSON; a mapping or a sequence that is not a dict or a list."""
    if isinstance(value, Tensor):
        described, content = _packed(value)
        return {MARK: b64encode(content).decode(), **described}
    return dict(value) if isinstance(value, Mapping) else list(value)


def _from_json(entry: dict[str, Any]) -> Any:
    return _unpacked(entry, b64decode(entry[MARK])) if MARK in entry else entry
