"""Weights to begin with: from this program's checkpoints and those of others, under whatever names."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from model.foreign import own_names

from .checkpoint import load_checkpoint
from .errors import CheckpointError
from .run_folder import RunFolder

log = logging.getLogger(__name__)

CONTAINERS = ("model", "state_dict", "model_state_dict")  # keys under which a checkpoint may hold its weights


def find_weights(name: str | Path) -> Path:
    """The file that ``--weights`` and other options name: a checkpoint, or the last one of a run's folder."""
    folder = RunFolder(Path(name))
    return folder.last if folder.last.is_file() else folder.path


def load_weights(model: nn.Module, path: Path, ignore: Iterable[str] = ()) -> list[str]:
    """Fills a network from a checkpoint or a bare state dict and logs exactly what was not loaded.

    Names are as in the network, or one of those that model.foreign knows.

    Args:
        ignore: weights whose names contain one of these are left as they are.

    Returns:
        one line for every weight that was not loaded, with the reason.

    Raises:
        CheckpointError: a weight has another shape (another class count, width or layout) or is not finite, none fits,
            or not all of another program's fit.
    """
    state, own, words = load_checkpoint(path), model.state_dict(), tuple(ignore)
    try:
        named, foreign = own_names(model, _tensors(state))
    except ValueError as error:
        raise CheckpointError(f"checkpoint {path} is not of this network: {error}") from error
    weights = {key: value for key, value in named.items() if not _has(key, words)}
    _check_shapes(path, weights, own)
    fitting = {key: value for key, value in weights.items() if key in own}
    if not fitting:
        raise CheckpointError(f"checkpoint {path} has no weight of this network; its first names: {list(named)[:3]}")
    _check_finite(path, fitting)
    unknown = [key for key in weights if key not in own]
    missing = [key for key in own if key not in fitting]
    unasked = [key for key in missing if not _has(key, words)]
    if foreign and (unknown or unasked):
        raise CheckpointError(
            f"checkpoint {path} has names of another program, and not all weights have a place in "
            f"{type(model).__module__}: unknown: {_first(unknown)}; missing: {_first(unasked)}. "
            'docs/running.md, "Start from weights", says which are read; ignore_weights leaves some out'
        )
    model.load_state_dict(fitting, strict=False)
    log.info("loaded %d of %d weights from %s", len(fitting), len(own), path)
    skipped = [f"{key}: ignored" for key in named if key not in weights]
    skipped += [f"{key}: in the file, not in the network" for key in unknown]
    skipped += [f"{key}: in the network, not in the file" for key in missing]
    for line in skipped:
        log.warning("not loaded: %s", line)
    return skipped


def _tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights of a checkpoint, or of a bare state dict."""
    average = state.get("average") or {}
    if average.get("n_averaged", 0) > 0:  # what was tested; torch's AveragedModel puts "module." before names
        return {key.removeprefix("module."): value for key, value in average.items() if key.startswith("module.")}
    inside = [state[key] for key in CONTAINERS if isinstance(state.get(key), Mapping)]
    return {key: value for key, value in (*inside, state)[0].items() if isinstance(value, Tensor)}


def _check_shapes(path: Path, weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    wrong = [
        f"{key}: {tuple(value.shape)} in the file, {tuple(own[key].shape)} in the network"
        for key, value in weights.items()
        if key in own and own[key].shape != value.shape
    ]
    if wrong:
        raise CheckpointError(
            f"checkpoint {path} is of another network (class count, width, layout?): {_first(wrong, '; ')}. "
            "Change model_args, or leave such weights out with ignore_weights"
        )


def _check_finite(path: Path, weights: Mapping[str, Tensor]) -> None:
    bad = [key for key, value in weights.items() if not value.isfinite().all()]
    if bad:
        raise CheckpointError(f"checkpoint {path} has NaN or infinite values in {_first(bad)}; use another one")


def _has(key: str, words: tuple[str, ...]) -> bool:
    return any(word in key for word in words)


def _first(names: list[str], between: str = ", ", most: int = 5) -> str:
    """The first few names, and how many there are."""
    more = f" ... ({len(names)} in all)" if len(names) > most else ""
    return between.join(names[:most]) + more if names else "none"
