"""Finished runs, read for comparison: their settings, figures, and which test samples they have right.

Shapes: n samples.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..config import NOT_IDENTITY, Config
from ..run_folder import read_metrics
from ..scores import ScoreFile, read_scores
from .ensemble import join


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Attributes:
        folder: of the run.
        seed: of the run.
        settings: its config without the seed, and without what does not change what is computed.
        figures: as :func:`processor.metrics.classification_metrics` has them; without ``ece`` in older metrics.jsonl.
        correct: (n,) bool, which samples of the split are right after the last epoch.
    """

    folder: Path
    seed: int
    settings: dict[str, Any]
    figures: dict[str, Any]
    correct: np.ndarray


def find_runs(paths: Iterable[Path], split: str = "test") -> tuple[list[Path], list[Path]]:
    """The folders of the runs in ``paths``, each once: of those with scores of the split, and of those without.

    Raises:
        ValueError: a path holds no run, or none has such scores.
    """
    folders: list[Path] = []
    for path in paths:
        found = sorted(config.parent for config in path.resolve().rglob("config.yaml"))
        if not found:
            raise ValueError(f"{path} holds no run; name a run's folder (with its config.yaml), or one that holds runs")
        folders += [folder for folder in found if folder not in folders]
    file = f"scores_{split}.npz"
    scored = [folder for folder in folders if (folder / file).is_file()]
    if not scored:
        where = "; scores of a validation split need val_subjects or val_fraction" if split == "val" else ""
        raise ValueError(f"none of the runs has {file}; a run writes it at its end{where}")
    return scored, [folder for folder in folders if folder not in scored]


def read_runs(
    folders: Sequence[Path], best_test_epoch: bool = False, split: str = "test"
) -> tuple[list[Run], ScoreFile]:
    """The runs, with the samples of a split in one order, and what is known of that split.

    Raises:
        ValueError: a file cannot be read, or the runs are of different experiments.
    """
    runs = []
    test = read_scores(folders[0], split)
    for folder in folders:
        file = read_scores(folder, split)
        for what, ours, theirs in (
            ("training counts", test.class_counts, file.class_counts),
            ("groups (many, few)", (test.many, test.few), (file.many, file.few)),
        ):
            if ours != theirs:
                raise ValueError(
                    f"{file.source} has other {what} than {test.source}: {theirs} and {ours}; these are different "
                    "experiments, make a table for each"
                )
        test, file = join([test, file])
        assert file.labels is not None
        seed, settings = read_settings(folder)
        figures = figures_of_best_test_epoch(folder, settings["num_epoch"]) if best_test_epoch else file.metrics()
        runs.append(Run(folder, seed, settings, figures, file.scores.argmax(1) == file.labels))
    return runs, test


def read_settings(folder: Path) -> tuple[int, dict[str, Any]]:
    """The seed of a run, and all other settings that bear on what it computes.

    A key that an older config.yaml lacks has its default. ``weights`` names a checkpoint, which is another for each
    seed.

    Raises:
        ValueError: config.yaml is none.
    """
    path = folder / "config.yaml"
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict) or not isinstance(values.get("seed"), int):
        raise ValueError(f"{path} names no seed; it is no config.yaml of a run")
    settings = {**Config.model_validate({"feeder": ""}).model_dump(), **values}
    left_out = NOT_IDENTITY | {"seed", "weights"}
    return values["seed"], {key: value for key, value in settings.items() if key not in left_out}


def figures_of_best_test_epoch(folder: Path, num_epoch: int) -> dict[str, Any]:
    """The line of metrics.jsonl with the highest top-1 on the test set, the first of equals.

    Raises:
        ValueError: there is none, or the file does not go on to the run's last epoch.
    """
    every = read_metrics(folder)
    lines = [line for line in every if "top1" in line]
    if not lines:
        raise ValueError(f"{folder} has no evaluated epoch in metrics.jsonl; leave out --best-test-epoch")
    if every[-1]["epoch"] != num_epoch - 1:
        raise ValueError(
            f"{folder / 'metrics.jsonl'} cannot be read beyond epoch {every[-1]['epoch']}, the last one is "
            f"{num_epoch - 1}: the best is not known; leave out --best-test-epoch or this run"
        )
    return max(lines, key=lambda line: line["top1"])


def by_method(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Method -> its runs by seed; the name is the folder, from where the methods' folders part.

    Raises:
        ValueError: runs of one method have the same seed, or differ in another setting.
    """
    places: dict[Path, list[Run]] = {}
    for run in runs:
        is_seed = re.fullmatch(r"seed_\d+", run.folder.name)
        places.setdefault(run.folder.parent if is_seed else run.folder, []).append(run)
    common = Path(os.path.commonpath([place.parent for place in places]))
    methods = {}
    for place, members in places.items():
        name, first = place.relative_to(common).as_posix(), members[0]
        for run in members[1:]:
            keys = sorted(first.settings.keys() | run.settings.keys())
            other = [key for key in keys if first.settings.get(key) != run.settings.get(key)]
            if other:
                raise ValueError(
                    f"{first.folder} and {run.folder} are not one method: they differ in {', '.join(other)}; put them "
                    "in folders of their own"
                )
        by_seed: dict[int, Run] = {}
        for run in members:
            if run.seed in by_seed:
                raise ValueError(
                    f"{by_seed[run.seed].folder} and {run.folder} are of one method and have the same seed, "
                    f"{run.seed}; take one out"
                )
            by_seed[run.seed] = run
        methods[name] = [by_seed[seed] for seed in sorted(by_seed)]
    return methods
