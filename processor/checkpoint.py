"""Checkpoints: written beside and renamed, read with ``weights_only=True``."""

from __future__ import annotations

import hashlib
import io
import pickle
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from feeders.files import write_atomically

from .errors import CheckpointError


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Saves a dict of tensors and plain values; see feeders.files."""
    content = io.BytesIO()
    torch.save(dict(state), content)
    write_atomically(path, content.getbuffer())


def file_checksum(path: Path) -> str:
    """A short digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, partial(hashlib.blake2b, digest_size=16)).hexdigest()


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a file of tensors and plain values.

    Raises:
        CheckpointError: it is missing, cut off, or holds other things than tensors and plain values.
    """
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} does not exist")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"checkpoint {path} holds more than tensors and plain values, or is damaged, and is not loaded: {error}"
        ) from error
    except (RuntimeError, EOFError, OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise CheckpointError(f"checkpoint {path} is damaged or cut off ({error}); use another one") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"checkpoint {path} holds a {type(state).__name__}, wanted a state dict")
    return state
