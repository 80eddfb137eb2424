"""Is a run what its files say? Its records are compared with each other, then with what is here, then tested again.

Shapes: n samples, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from feeders.feeder import StoreFeeder
from feeders.files import parse_json

from .build import build_network
from .card import temperature_of
from .checkpoint import load_checkpoint
from .config import Config
from .config_files import load_config
from .data import Data, Split, load_data
from .distributed import set_up
from .engine import Scores
from .errors import ConfigError
from .host import StopSignals
from .metrics_lines import differences, recorded_by
from .origin import CODE, KEY, MACHINE, VERSIONS, origin
from .parts import check_parts
from .run_folder import RunFolder
from .scores import first_five, read_scores
from .training import score_split, split_metrics
from .trial import without_timing
from .zoo import PREFIX, read_index, weights_file

TOLERANCE = 1e-5  # of a score, and of a score of 100 a hundred times as much


@dataclass(frozen=True)
class Finding:
    """One thing that was compared.

    Attributes:
        what: ``config``, ``records``, ``epochs``, ``data``, ``scores``, ``figures``, ``code``, ``versions`` or
            ``machine``.
        verdict: ``same``, ``other``, or ``unknown`` where there is nothing to compare with.
        detail: in words.
        matters: is a run whose verdict is not ``same`` not verified?
    """

    what: str
    verdict: Literal["same", "other", "unknown"]
    detail: str
    matters: bool = False

    @property
    def bad(self) -> bool:
        """Is the run not what its files say, as far as this goes?"""
        return self.matters and self.verdict != "same"


@dataclass(frozen=True)
class Recorded:
    """What is written of a run.

    Attributes:
        folder: its files.
        path: of the checkpoint.
        state: what is in it.
        config: of config.yaml, as it is for a test.
        environment: of environment.json, empty where there is none (zoo).
        made: what it was made with, as far as that is known; see processor.origin.
        metrics: of the epoch after which the checkpoint was saved, empty where it was not evaluated.
        scores: the score file of that epoch, where there is one.
    """

    folder: RunFolder
    path: Path
    state: Mapping[str, Any]
    config: Config
    environment: Mapping[str, Any]
    made: Mapping[str, Any]
    metrics: Mapping[str, Any]
    scores: Path | None


def verify(
    run: str, overrides: Mapping[str, Any] | None = None, plugins: Sequence[str] = (), tolerance: float = TOLERANCE
) -> Iterator[Finding]:
    """What is found of a run, one thing after the other. Cost: a pass over the test and validation splits.

    Other code, other versions and another machine do not matter as long as the figures are the same.

    Args:
        run: its folder (the checkpoint is last.pt), a checkpoint in it, or ``zoo:NAME``.
        overrides: keys of its config, such as where its data lies here.
        plugins: packages besides our own that its config may name.
        tolerance: of scores and figures, absolute and relative.

    Raises:
        ValueError: a file or the data is missing or damaged.
    """
    known = _recorded(run, overrides or {}, plugins)
    yield from _agreement(known)
    device = set_up(known.config.device)
    config = without_timing(known.config, device, known.state)
    here = origin(device)
    for what, keys in (("code", CODE), ("versions", VERSIONS), ("machine", MACHINE)):
        yield _compared(what, {key: known.made[key] for key in keys if key in known.made}, here)
    data = load_data(config, device, ("train", "val", "test"))
    yield _data(known, data)
    network = build_network(config, data, device, str(known.path))
    temperature = temperature_of(known.state, known.path)
    found: dict[str, Any] = {}
    splits: tuple[Split, ...] = ("test", "val")
    for split in splits:
        if split in data.loaders:
            scores = score_split(config, data, network, split, StopSignals())
            scores = scores.divided(temperature, data.loaders[split].labels)
            values = split_metrics(config, data, split, scores)
            found |= values if split == "test" else {f"val_{name}": value for name, value in values.items()}
            if split == "test":
                found["test_loss"] = scores.loss
                yield _scores(known, data, scores, tolerance)
    yield _figures(known, found, tolerance)


def _recorded(run: str, overrides: Mapping[str, Any], plugins: Sequence[str]) -> Recorded:
    """The files of a run; ValueError where one is missing or damaged."""
    path, entry = weights_file(run), None
    if run.startswith(PREFIX):
        folder, entry = RunFolder(path.parent), read_index()[run.removeprefix(PREFIX)]
    elif path.is_dir():
        folder, path = RunFolder(path), RunFolder(path).last
    else:
        folder = RunFolder(path.parent)
    if not folder.config.is_file():
        raise ConfigError(f"{folder} has no {folder.config.name}; name the folder of a run, or a checkpoint in it")
    state = load_checkpoint(path)
    check_parts(path, state, "config")
    config = load_config(str(folder.config), {"phase": "test", "ignore_weights": [], **overrides}, plugins)
    if entry is not None:  # its figures are those of the stored weights, not of the run
        metrics = {"top1": entry.top1, "mean_class_accuracy": entry.mean_class, "epoch": entry.epochs - 1}
        made = {"git_commit": entry.commit.removesuffix("-dirty"), "git_dirty": entry.commit.endswith("-dirty")}
        return Recorded(folder, path, state, config, {}, made, metrics, folder.scores())
    check_parts(path, state, "epoch", "meter")
    epoch = state["epoch"] - 1
    lines = [line for line in folder.read_metrics() if line["epoch"] == epoch and "top1" in line]
    metrics = lines[-1] if lines and state["meter"].get("steps", 0) == 0 else {}
    scores = folder.scores() if metrics and epoch == config.num_epoch - 1 and folder.scores().is_file() else None
    environment = _environment(folder)
    return Recorded(folder, path, state, config, environment, state.get(KEY) or environment, metrics, scores)


def _environment(folder: RunFolder) -> dict[str, Any]:
    path = folder.environment
    try:
        found = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is missing or damaged ({error}); what the run was made with is not known") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path} holds a {type(found).__name__}, wanted a dict")
    return found


def _agreement(known: Recorded) -> Iterator[Finding]:
    """Do config.yaml, environment.json and metrics.jsonl say what the checkpoint says?"""
    written = load_config(str(known.folder.config), plugins=known.config.plugins)
    name, other = known.path.name, written.other_keys(known.state["config"])
    detail = f"{name} has other {', '.join(other)} than {known.folder.config}" if other else f"config.yaml, {name}"
    yield Finding("config", "other" if other else "same", detail, matters=True)
    if not known.environment:
        return
    made = known.state.get(KEY, {})
    pairs = {"data_checksum": known.state.get("data"), "weights_checksum": known.state.get("weights")}
    if known.path == known.folder.last:  # another one may be of an earlier part of the run, by other code
        pairs |= {key: made[key] for key in (*CODE, *VERSIONS) if key in made}
    wrong = [key for key, value in pairs.items() if known.environment.get(key) != value]
    detail = "; ".join(f"{key}: environment.json {known.environment.get(key)}, {name} {pairs[key]}" for key in wrong)
    yield Finding("records", "other" if wrong else "same", detail or f"environment.json, {name}", matters=True)
    end = known.state["epoch"]  # later lines may be of what was trained after it, but not after the last epoch
    lines = [line for line in known.folder.read_metrics() if not end <= line["epoch"] < known.config.num_epoch]
    wrong_lines = differences([line for line in lines if line["epoch"] >= 0], recorded_by(known.state))
    detail = f"{known.folder.metrics}: {wrong_lines}" if wrong_lines else f"{len(lines)} lines of metrics.jsonl, {name}"
    yield Finding("epochs", "other" if wrong_lines else "same", detail, matters=True)


def _compared(what: str, made: Mapping[str, Any], here: Mapping[str, Any]) -> Finding:
    """Code, versions or machine: then and here."""
    if not made:
        return Finding(what, "unknown", "not written down")
    wrong = [key for key, value in made.items() if here[key] != value]
    detail = "; ".join(f"{key}: then {made[key]}, here {here[key]}" for key in wrong)
    return Finding(what, "other" if wrong else "same", detail or ", ".join(f"{key} {made[key]}" for key in made))


def _data(known: Recorded, data: Data) -> Finding:
    """The data's checksum; of stores also every sequence's. DataError where one is damaged."""
    for feeder in data.feeders.values():
        if isinstance(feeder, StoreFeeder):
            feeder.store.check()
    samples = ", ".join(f"{split} {len(loader.ids)}" for split, loader in data.loaders.items())
    if "data" not in known.state:
        return Finding("data", "unknown", f"no checksum is written down; samples: {samples}")
    if known.state["data"] != data.checksum:
        return Finding("data", "other", f"checksum then {known.state['data']}, here {data.checksum}", matters=True)
    return Finding("data", "same", f"samples: {samples}", matters=True)


def _scores(known: Recorded, data: Data, scores: Scores, tolerance: float) -> Finding:
    """The test scores, by sample."""
    if known.scores is None:
        return Finding("scores", "unknown", f"there is no score file of {known.path.name}")
    file, loader = read_scores(known.scores), data.loaders["test"]
    if file.ids != loader.ids or file.class_names != loader.class_names:
        wrong = sorted(set(file.ids) ^ set(loader.ids))
        return Finding("scores", "other", f"{known.scores} is of other samples: {first_five(wrong)}", matters=True)
    then, here = file.scores.astype(np.float64), scores.logits.double().numpy()
    gap = np.abs(then - here)
    far = np.flatnonzero((gap > tolerance * np.maximum(1, np.abs(then))).any(1))
    detail = f"{len(then)} samples, largest difference {gap.max():.2g}"
    if len(far):
        some = first_five(file.ids[row] for row in far)
        return Finding("scores", "other", f"{detail}; {len(far)} samples differ: {some}", matters=True)
    return Finding("scores", "same", detail, matters=True)


def _figures(known: Recorded, found: Mapping[str, Any], tolerance: float) -> Finding:
    """The figures of metrics.jsonl."""
    if not known.metrics:
        epoch, steps = known.state["epoch"], known.state["meter"].get("steps", 0)
        if damaged := known.folder.damaged_metrics():
            numbers = ", ".join(map(str, damaged[:5]))
            detail = f"line {numbers} of {known.folder.metrics} is damaged, and no other is of {known.path.name}"
        else:
            detail = (
                f"{known.path.name} (epoch {epoch}, step {steps}) was not evaluated; finish the run, or name a "
                "checkpoint that was, such as best.pt"
            )
        return Finding("figures", "unknown", detail, matters=True)
    pairs = {name: (known.metrics[name], found[name]) for name in sorted(known.metrics.keys() & found.keys())}
    wrong = [name for name, (then, here) in pairs.items() if not _near(then, here, tolerance)]
    detail = "; ".join(f"{name}: then {pairs[name][0]}, here {pairs[name][1]}" for name in wrong)
    if not wrong:
        detail = f"{len(pairs)} figures of epoch {known.metrics['epoch']}, top-1 {100 * found['top1']:.1f} %"
    return Finding("figures", "other" if wrong else "same", detail, matters=True)


def _near(then: Any, here: Any, tolerance: float) -> bool:
    """Numbers, lists of them, and None, within the tolerance."""
    if isinstance(then, list) and isinstance(here, list):
        return len(then) == len(here) and all(_near(a, b, tolerance) for a, b in zip(then, here, strict=True))
    if then is None or here is None:
        return then is here
    return isinstance(then, (int, float)) and abs(then - here) <= tolerance * max(1, abs(then))
