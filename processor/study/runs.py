"""Finished runs, read for comparison: their settings, metrics, and which samples they have right.

Shapes: n samples.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..config import NOT_IDENTITY, Config
from ..config_files import read_yaml
from ..metrics import best_test_epoch as best_epoch_name
from ..run_folder import RunFolder
from ..scores import ScoreFile, read_scores
from .archive import find_runs
from .ensemble import join

SAME = 1e-6  # difference of two accuracies that are one


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Attributes:
        folder: of the run; in an archive, ``runs.zip/method/seed_1``.
        seed: of the run.
        settings: its config without the seed, and without what does not change what is computed.
        metrics: as :func:`processor.metrics.classification_metrics` has them; without ``ece`` in older metrics.jsonl.
        correct: (n,) bool, which samples of the split are right after the last epoch.
        files: where its files are read.
    """

    folder: Path
    seed: int
    settings: dict[str, Any]
    metrics: dict[str, Any]
    correct: np.ndarray
    files: RunFolder


@dataclass(frozen=True, eq=False)
class Experiment:
    """Finished runs that can be compared.

    Attributes:
        methods: name -> runs by seed. A method is what lies in one folder, with a folder ``seed_<N>`` for each seed.
        samples: the split's samples, labels, classes and groups, with the scores of one run.
        split: ``test`` or ``val``.
        epoch: which epoch the metrics are of, in words.
        left_out: runs without scores of the split.
    """

    methods: dict[str, list[Run]]
    samples: ScoreFile
    split: str
    epoch: str
    left_out: list[Path]

    def only(self, methods: Sequence[str] | None) -> Experiment:
        """These methods alone, in this order; None: all. ValueError for a method that it does not have."""
        if methods is None:
            return self
        if unknown := [name for name in methods if name not in self.methods]:
            raise ValueError(f"--methods {' '.join(unknown)}: no such method; there are {', '.join(self.methods)}")
        return replace(self, methods={name: self.methods[name] for name in methods})

    def files(self) -> dict[str, RunFolder]:
        """method/seed_<N> -> the files of the run."""
        return {f"{name}/seed_{run.seed}": run.files for name, runs in self.methods.items() for run in runs}

    def left_out_text(self) -> str:
        """A line about the runs that are left out, and why; empty where there are none."""
        lacking = f"without {RunFolder('').scores(self.split)} (unfinished, or save_score is false)"
        return f"left out, {lacking}: {', '.join(map(str, self.left_out))}\n" if self.left_out else ""


def read_sets(paths: Sequence[Path], split: str = "test") -> dict[str, Experiment]:
    """Reads each of the ``paths`` as a data set of its own; the name of a set is that of its folder or archive.

    Raises:
        ValueError: two have the same name, and as :func:`read_experiment`.
    """
    places = {Path(os.path.abspath(path)).name.removesuffix(".zip"): path for path in paths}
    if len(places) < len(paths):
        raise ValueError("the name of a data set is that of its folder; give no two RUNs the same name")
    return {name: read_experiment([path], split) for name, path in places.items()}


def read_experiment(paths: Iterable[Path], split: str = "test", best_test_epoch: bool = False) -> Experiment:
    """Reads the runs in ``paths``, each once.

    Args:
        paths: folders or .zip archives in which runs lie at any depth; also a folder in an archive.
        split: ``test`` or ``val``.
        best_test_epoch: metrics of the epoch with the best top-1 on the test set, instead of the last epoch.

    Raises:
        ValueError: a path holds no run, none has scores of the split, a file cannot be read, the runs are of different
            experiments, or runs of one method have the same seed or differ in another setting.
    """
    found = {place: folder for path in paths for place, folder in find_runs(path).items()}
    scored = {place: folder for place, folder in found.items() if folder.scores(split).is_file()}
    if not scored:
        where = "; scores of a validation split need val_subjects or val_fraction" if split == "val" else ""
        raise ValueError(f"none of the runs has {RunFolder('').scores(split)}; a run writes it at its end{where}")
    runs, samples = [], read_scores(next(iter(scored.values())).scores(split))
    for place, folder in scored.items():
        run, samples = _read_run(place, folder, samples, split, best_test_epoch)
        runs.append(run)
    epoch = "last epoch"
    if best_test_epoch:
        epoch = best_epoch_name(all("top1" in line for folder in scored.values() for line in folder.read_metrics()))
    return Experiment(_by_method(runs), samples, split, epoch, [place for place in found if place not in scored])


def _read_run(
    place: Path, folder: RunFolder, samples: ScoreFile, split: str, best_test_epoch: bool
) -> tuple[Run, ScoreFile]:
    """A run with its samples in the order of ``samples``, and ``samples`` with what the run knows of them."""
    scores = read_scores(folder.scores(split))
    for what, ours, theirs in (
        ("training counts", samples.class_counts, scores.class_counts),
        ("groups (many, few)", (samples.many, samples.few), (scores.many, scores.few)),
    ):
        if ours != theirs:
            raise ValueError(
                f"{scores.source} has other {what} than {samples.source}: {theirs} and {ours}; these are different "
                "experiments, make a table for each"
            )
    samples, scores = join([samples, scores])
    assert scores.labels is not None
    seed, settings = _read_settings(folder)
    if best_test_epoch:
        metrics = _best_test_epoch(folder, settings["num_epoch"])
    else:
        metrics = _of_last_epoch(folder, scores, split)
    return Run(place, seed, settings, metrics, scores.scores.argmax(1) == scores.labels, folder), samples


def _read_settings(folder: RunFolder) -> tuple[int, dict[str, Any]]:
    """The seed of a run, and all other settings that change what it computes.

    A key that an older config.yaml lacks has its default. ``weights`` names a checkpoint, which is another for each
    seed.
    """
    values = read_yaml(folder.config)
    if not isinstance(values.get("seed"), int):
        raise ValueError(f"{folder.config} names no seed; it is not the config.yaml of a run")
    settings = {**Config.model_validate({"feeder": ""}).model_dump(), **values}
    left_out = NOT_IDENTITY | {"seed", "weights"}
    return values["seed"], {key: value for key, value in settings.items() if key not in left_out}


def _of_last_epoch(folder: RunFolder, scores: ScoreFile, split: str) -> dict[str, Any]:
    """Metrics of the scores; ValueError where the run's metrics.jsonl says otherwise: they are then of another run."""
    lines, found = folder.read_metrics(), scores.metrics()
    said = lines[-1].get("top1" if split == "test" else f"{split}_top1") if lines else None
    ours = found["top1"]
    if said is not None and abs(said - ours) > SAME:
        raise ValueError(
            f"{scores.source} has a top-1 of {100 * ours:.2f} %, but {folder.metrics} says {100 * said:.2f} %: "
            "these are scores of another run or epoch; copy or train this run again, or leave it out"
        )
    return found


def _best_test_epoch(folder: RunFolder, num_epoch: int) -> dict[str, Any]:
    """The line of metrics.jsonl with the highest top-1 on the test set, the first of equals."""
    every = folder.read_metrics()
    lines = [line for line in every if "top1" in line]
    if not lines:
        raise ValueError(f"{folder} has no evaluated epoch in metrics.jsonl; leave out --best-test-epoch")
    damaged = folder.damaged_metrics()
    if every[-1]["epoch"] != num_epoch - 1 or damaged:
        raise ValueError(
            f"{folder.metrics} ends with epoch {every[-1]['epoch']} of {num_epoch} and has {len(damaged)} damaged "
            "lines: the best epoch is not known; leave out --best-test-epoch or this run"
        )
    return max(lines, key=lambda line: line["top1"])


def _by_method(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Method -> its runs by seed; the name is its folder, below the one that all methods share."""
    places: dict[Path, list[Run]] = {}
    for run in runs:
        is_seed = re.fullmatch(r"seed_\d+", run.folder.name)
        places.setdefault(run.folder.parent if is_seed else run.folder, []).append(run)
    common = Path(os.path.commonpath([place.parent for place in places]))
    methods = {}
    for place, members in places.items():
        first, by_seed = members[0], dict[int, Run]()
        for run in members:
            keys = first.settings.keys() | run.settings.keys()
            if other := sorted(key for key in keys if first.settings.get(key) != run.settings.get(key)):
                raise ValueError(
                    f"{first.folder} and {run.folder} are not one method: they differ in {', '.join(other)}; put them "
                    "in folders of their own"
                )
            if (same := by_seed.setdefault(run.seed, run)) is not run:
                raise ValueError(
                    f"{same.folder} and {run.folder} are of one method and have the same seed, {run.seed}; take one out"
                )
        methods[place.relative_to(common).as_posix()] = [by_seed[seed] for seed in sorted(by_seed)]
    return methods
