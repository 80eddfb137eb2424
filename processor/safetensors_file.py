"""Weights of a network, its card and its config in one safetensors file, which any reader of that format opens.

The tensors are those of the state dict. The metadata has card and config as JSON, in which a tensor is a safetensors
file in base64, and two checksums, which the format lacks: of the values, and of all the rest.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from feeders.files import write_atomically

SUFFIX = ".safetensors"
MARK = "safetensors"  # key of a tensor within the JSON of the metadata
FACTS = ("card", "config")  # what a file may have besides the weights
VALUES, REST = CHECKSUMS = ("checksum", "checksum_of_the_rest")  # of the metadata; other programs' files have neither


def save_safetensors(path: Path, state: Mapping[str, Any]) -> None:
    """Writes of a checkpoint ``model``, the weights, and those of FACTS that it has: plain values, tensors, nested."""
    weights = {name: values.detach().cpu().contiguous().clone() for name, values in state["model"].items()}
    metadata = {"format": "pt", VALUES: _checksum(weights)}
    metadata |= {fact: json.dumps(state[fact], default=_as_json) for fact in FACTS if fact in state}
    write_atomically(path, save(weights, {**metadata, REST: _checksum_of_rest(weights, metadata)}))


def read_safetensors(path: Path) -> dict[str, Any]:
    """What :func:`save_safetensors` wrote, as a checkpoint has it.

    Raises:
        ValueError: the file is cut off, damaged, or not of this format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no mapping)
        facts = {fact: json.loads(metadata[fact], object_hook=_from_json) for fact in FACTS if fact in metadata}
    except SafetensorError as error:
        raise ValueError(f"it is no whole safetensors file: {error}") from error
    if any(name in metadata for name in CHECKSUMS):
        rest = {name: text for name, text in metadata.items() if name != REST}
        if metadata.get(REST) != _checksum_of_rest(weights, rest):
            raise ValueError("its header is not the one that was written")
        if metadata.get(VALUES) != _checksum(weights):
            raise ValueError("its values are not those that were written")
    return {"model": weights, **facts}


def _checksum(weights: Mapping[str, Tensor]) -> str:
    digest = blake2b(digest_size=16)
    for name in sorted(weights):
        digest.update(weights[name].flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _checksum_of_rest(weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    described = [(name, str(weights[name].dtype), tuple(weights[name].shape)) for name in sorted(weights)]
    return blake2b(repr((described, sorted(metadata.items()))).encode(), digest_size=16).hexdigest()


def _as_json(value: Any) -> Any:
    """A tensor within a card, as JSON; a mapping or a sequence that is not a dict or a list."""
    if isinstance(value, Tensor):
        return {MARK: b64encode(save({MARK: value.detach().cpu().contiguous()})).decode()}
    return dict(value) if isinstance(value, Mapping) else list(value)


def _from_json(entry: dict[str, Any]) -> Any:
    return load(b64decode(entry[MARK]))[MARK] if MARK in entry else entry
