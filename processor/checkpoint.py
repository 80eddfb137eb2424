"""Checkpoints: written beside and renamed, read with ``weights_only=True``. Of a safetensors file: weights and card."""

from __future__ import annotations

import hashlib
import io
import pickle
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from feeders.files import kind_of, write_atomically

from .errors import CheckpointError
from .parts import check_parts
from .safetensors_file import SUFFIX, read_safetensors
from .torch_file import check_torch_file


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Saves a dict of tensors and plain values; see feeders.files."""
    content = io.BytesIO()
    torch.save(dict(state), content)
    write_atomically(path, content)


def file_checksum(path: Path) -> str:
    """A short digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, partial(hashlib.blake2b, digest_size=16)).hexdigest()


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a file of tensors and plain values, or a safetensors file.

    Raises:
        CheckpointError: it is missing, a folder, cut off, damaged, or holds other things than tensors and plain values;
            or it is of a run (it has a card), and a part of it is of another kind.
    """
    if not path.is_file():
        inside = ", ".join(str(file) for file in sorted([*path.glob("[!.]*.pt"), *path.glob(f"[!.]*{SUFFIX}")])[:5])
        hint = f"; give a file of it: {inside}" if inside else " without a checkpoint" if path.is_dir() else ""
        raise CheckpointError(f"checkpoint {path} {kind_of(path)}{hint}")
    try:
        if path.suffix == SUFFIX:
            return read_safetensors(path)
        check_torch_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of a damaged file torch may raise anything
        # not "from error": torch advises to load it all the same, and a log holds the causes of an error too
        raise CheckpointError(f"checkpoint {path} {_reason(error)}") from None
    if not isinstance(state, dict):
        raise CheckpointError(f"checkpoint {path} holds a {type(state).__name__}, wanted a state dict")
    if "card" in state:
        check_parts(path, state)
    return state


def _reason(error: Exception) -> str:
    """Why a checkpoint is not loaded, in our words."""
    text = str(error)
    asked = re.search(r"GLOBAL (\S+)", text)
    if asked:
        return (
            f"holds more than tensors and plain values ({asked[1]}); it is not loaded, and nothing of it was run. Ask "
            "for a file of the weights alone, or save such a one with the program that wrote this file"
        )
    if isinstance(error, pickle.UnpicklingError) or "weights_only" in text:
        return "holds more than tensors and plain values, or is damaged, and is not loaded"
    return f"is damaged or cut off ({text or type(error).__name__}); use another one"
