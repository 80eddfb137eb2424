"""Weights to begin with: from this program's checkpoints and those of others, under whatever names."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.foreign import own_names
from model.joints import by_joint_names, shared_joints
from model.layers import Backbone
from shapmix import SkeletonLayout

from .checkpoint import load_checkpoint
from .errors import CheckpointError
from .run_folder import RunFolder
from .zoo import weights_file

log = logging.getLogger(__name__)

CONTAINERS = ("model", "state_dict", "model_state_dict")  # keys under which a checkpoint may hold its weights


def find_weights(name: str | Path) -> Path:
    """The file that ``--weights`` and other options name: a checkpoint, a run's folder (its last one), ``zoo:NAME``."""
    folder = RunFolder(weights_file(str(name)))
    return folder.last if folder.last.is_file() else folder.path


def load_weights(model: nn.Module, path: Path, ignore: Iterable[str] = (), new: str | None = None) -> list[str]:
    """Fills a network from a checkpoint or a bare state dict and logs exactly what was not loaded.

    Names are as in the network, or one of those that model.foreign knows.

    Args:
        ignore: weights whose names contain one of these are left as they are.
        new: name of a classifier that is left as it is, for other classes. Then the weights may be of another skeleton:
            what belongs to joints is found by their names, where the checkpoint has a card and the network is ours;
            what has another shape is left as it is.

    Returns:
        one line for every weight that was not loaded, with the reason.

    Raises:
        CheckpointError: a weight has another shape (another class count, width or layout), is complex or not finite,
            none fits, not all of another program's fit, or with ``new`` less than half of the other layers' weights.
    """
    state, own, words = load_checkpoint(path), model.state_dict(), tuple(ignore)
    try:
        named, foreign = own_names(model, tested_weights(state))
    except ValueError as error:
        raise CheckpointError(f"checkpoint {path} is not of this network: {error}") from error
    asked = {key: value for key, value in named.items() if not _has(key, words)}
    weights = _of_joints(path, model, state, asked, new)
    kept = {key: "the new classifier" for key in (*own, *weights) if key.rpartition(".")[0] == new}
    kept |= {key: "its joints are others" for key in asked if key not in weights}
    wrong = _of_other_shape({key: value for key, value in weights.items() if key not in kept}, own)
    if wrong and new is None:
        raise CheckpointError(_refusal(path, wrong))
    kept |= wrong
    fitting = {key: value for key, value in weights.items() if key in own and key not in kept}
    if not fitting:
        raise CheckpointError(f"checkpoint {path} has no weight of this network; its first names: {list(named)[:3]}")
    check_numbers(path, fitting, own)
    unknown = [key for key in weights if key not in own and key not in kept]
    missing = [key for key in own if key not in asked and key not in kept]
    unasked = [key for key in missing if not _has(key, words)]
    if foreign and (unknown or unasked):
        raise CheckpointError(
            f"checkpoint {path} has names of another program, and not all weights have a place in "
            f"{type(model).__module__}: unknown: {_first(unknown)}; missing: {_first(unasked)}. "
            'docs/running.md, "Start from weights", says which are read; ignore_weights leaves some out'
        )
    skipped = [f"{key}: ignored" for key in named if key not in asked]
    skipped += [f"{key}: {reason}" for key, reason in kept.items()]
    skipped += [f"{key}: in the file, not in the network" for key in unknown]
    skipped += [f"{key}: in the network, not in the file" for key in missing]
    if new is not None:
        _check_share(path, fitting, {key: value for key, value in own.items() if key.rpartition(".")[0] != new}, wrong)
    model.load_state_dict(fitting, strict=False)
    _tell(path, fitting, own, skipped)
    return skipped


def _tell(path: Path, fitting: Collection[str], own: Collection[str], skipped: Sequence[str]) -> None:
    log.info("loaded %d of %d weights from %s", len(fitting), len(own), path)
    if skipped:
        loaded, there = (Counter(key.partition(".")[0] for key in keys) for keys in (fitting, own))
        log.info("by layer: %s", ", ".join(f"{layer} {loaded[layer]} of {count}" for layer, count in there.items()))
    for line in skipped:
        log.warning("not loaded: %s", line)


def _of_joints(
    path: Path, model: nn.Module, state: Mapping[str, Any], weights: dict[str, Tensor], new: str | None
) -> dict[str, Tensor]:
    """The weights for the joints of this network, where the checkpoint's card says that its own are others."""
    card, here = state.get("card") or {}, getattr(model, "layout", None)
    if card.get("layout") is None or not isinstance(here, SkeletonLayout):
        return weights
    there = SkeletonLayout.get(card["layout"])
    if there.joint_names == here.joint_names:
        return weights
    if new is not None and isinstance(model, Backbone):
        log.info(
            "joints that %s (in the file) and %s have in common, by name: %d of %d; what belongs to them is loaded",
            there.name, here.name, len(shared_joints(there, here)[0]), here.num_joints,
        )  # fmt: skip
        return by_joint_names(model, weights, there, int(card["sample_shape"][0]))
    if there.num_joints == here.num_joints:
        log.warning(
            "the joints of %s are others, or in another order (%s, here %s), and so are the weights that belong to "
            "joints; new_classifier: true moves them to their places", path, there.name, here.name,
        )  # fmt: skip
    return weights


def tested_weights(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights of a checkpoint, those that were tested where it has averaged ones, or of a bare state dict.

    Of an epoch that was not evaluated, the mean of ``swa`` has no batch-norm statistics: there, the plain weights.
    """
    average = state.get("average") or {}
    if average.get("n_averaged", 0) > 0 and average.get("measured", True):
        # what was tested; torch's AveragedModel puts "module." before names
        return {key.removeprefix("module."): value for key, value in average.items() if key.startswith("module.")}
    inside = [state[key] for key in CONTAINERS if isinstance(state.get(key), Mapping)]
    return {key: value for key, value in (*inside, state)[0].items() if isinstance(value, Tensor)}


def check_shapes(path: Path, own: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """CheckpointError where weights have other shapes than a network's own, or most of its values are missing."""
    weights = tested_weights(state)
    if wrong := _of_other_shape(weights, own):
        raise CheckpointError(_refusal(path, wrong))
    there, wanted = (sum(own[key].numel() for key in keys) for keys in (own.keys() & weights.keys(), own))
    if 2 * there < wanted:
        raise CheckpointError(
            f"checkpoint {path} has {there:,} of the {wanted:,} values of its network; use another one"
        )


def _of_other_shape(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, str]:
    return {
        key: f"{tuple(value.shape)} in the file, {tuple(own[key].shape)} in the network"
        for key, value in weights.items()
        if key in own and own[key].shape != value.shape
    }


def _refusal(path: Path, wrong: Mapping[str, str]) -> str:
    named = [f"{key}: {reason}" for key, reason in wrong.items()]
    return (
        f"checkpoint {path} is of another network (class count, width, layout?): {_first(named, '; ')}. Change "
        "model_args, leave such weights out with ignore_weights, or set new_classifier: true to train other classes, "
        "or on another skeleton, from what fits"
    )


def _check_share(path: Path, fitting: Collection[str], own: Mapping[str, Tensor], wrong: Mapping[str, str]) -> None:
    """CheckpointError where less than half of the weights fit, those that are one number not counted."""
    counted = [key for key, value in own.items() if value.dim()]
    there = [key for key in counted if key in fitting]
    if 2 * len(there) < len(counted):
        raise CheckpointError(
            f"checkpoint {path}: only {len(there)} of {len(counted)} weights below the classifier fit; not "
            f"{_first([f'{key}: {reason}' for key, reason in wrong.items()], '; ')}. new_classifier is for other "
            "classes or another skeleton; for this file change model or model_args (its width?)"
        )


def check_numbers(path: Path, weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """CheckpointError where weights are no plain numbers, complex where the network's own are not, or not finite."""
    tests: dict[str, Callable[[str, Tensor], bool]] = {
        "sparse, quantised or empty tensors": lambda _, value: (
            value.layout != torch.strided or value.is_quantized or value.is_meta
        ),
        "complex values": lambda key, value: value.is_complex() and not own[key].is_complex(),
        "NaN or infinite values": lambda _, value: not value.isfinite().all(),
    }
    for what, test in tests.items():
        if bad := [key for key, value in weights.items() if test(key, value)]:
            raise CheckpointError(f"checkpoint {path} has {what} in {_first(bad)}; use another one")


def _has(key: str, words: tuple[str, ...]) -> bool:
    return any(word in key for word in words)


def _first(names: list[str], between: str = ", ", most: int = 5) -> str:
    """The first few names, and how many there are."""
    more = f" ... ({len(names)} in all)" if len(names) > most else ""
    return between.join(names[:most]) + more if names else "none"
