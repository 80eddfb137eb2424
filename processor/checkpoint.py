"""Checkpoints: written beside and renamed, read with ``weights_only=True``."""

from __future__ import annotations

import hashlib
import io
import logging
import pickle
import zipfile
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from feeders.files import write_atomically

from .errors import CheckpointError

log = logging.getLogger(__name__)


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


def load_weights(model: nn.Module, path: Path, ignore: Iterable[str] = ()) -> list[str]:
    """Fills a network from a checkpoint or a bare state dict and logs exactly what was not loaded.

    Args:
        ignore: weights whose names contain one of these are left as they are.

    Returns:
        one line for every weight that was not loaded, with the reason.

    Raises:
        CheckpointError: a weight has another shape (another class count, width or layout), or none fits.
    """
    state, own, ignore = load_checkpoint(path), model.state_dict(), list(ignore)
    state = state["model"] if isinstance(state.get("model"), Mapping) else state  # a checkpoint, or a bare state dict
    weights = {key.removeprefix("module."): value for key, value in state.items() if isinstance(value, Tensor)}
    skipped = [f"{key}: ignored" for key in weights if any(word in key for word in ignore)]
    weights = {key: value for key, value in weights.items() if not any(word in key for word in ignore)}
    wrong = [
        f"{key}: {tuple(value.shape)} in the file, {tuple(own[key].shape)} in the network"
        for key, value in weights.items()
        if key in own and own[key].shape != value.shape
    ]
    if wrong:
        raise CheckpointError(
            f"checkpoint {path} is of another network (class count, width, layout?): {'; '.join(wrong[:5])}"
            f"{' ...' if len(wrong) > 5 else ''}. Change model_args, or leave such weights out with ignore_weights"
        )
    fitting = {key: value for key, value in weights.items() if key in own}
    if not fitting:
        raise CheckpointError(f"checkpoint {path} has no weight of this network; its first names: {list(weights)[:3]}")
    skipped += [f"{key}: in the file, not in the network" for key in weights if key not in own]
    skipped += [f"{key}: in the network, not in the file" for key in own if key not in fitting]
    model.load_state_dict(fitting, strict=False)
    log.info("loaded %d of %d weights from %s", len(fitting), len(own), path)
    for line in skipped:
        log.warning("not loaded: %s", line)
    return skipped
