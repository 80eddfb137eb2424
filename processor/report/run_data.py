"""What a run's folder says, for its report: settings, metrics by epoch, scores; and what is missing, with what to do.

Shapes: n samples, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from feeders.files import parse_json

from ..config import Config
from ..config_files import read_yaml
from ..errors import ConfigError
from ..run_folder import RunFolder
from ..scores import ScoreFile, read_scores

GAP = 0.02  # of accuracy: the best epoch is that much better than the last
TRUSTED = 0.15  # of expected calibration error


@dataclass(frozen=True, eq=False)
class RunData:
    """A run, as far as it goes.

    Attributes:
        folder: of the run.
        settings: its config.yaml, with defaults for what older ones lack.
        environment: command, commit, versions, machine; empty where they are not known.
        lines: of metrics.jsonl, by epoch.
        scores: of the test split after the last epoch; None where there are none.
        missing: section -> what is missing and which command makes it.
    """

    folder: RunFolder
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]
    lines: list[dict[str, Any]]
    scores: ScoreFile | None
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The folder's name; for a seed of a sweep with the method before it."""
        path = self.folder.path
        return f"{path.parent.name}/{path.name}" if path.name.startswith("seed_") else path.name

    @property
    def place(self) -> str:
        """The folder, without what lies above the current one: a page may be published."""
        path = self.folder.path.resolve()
        return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else path.name

    @property
    def evaluated(self) -> list[dict[str, Any]]:
        """The lines of epochs that were tested."""
        return [line for line in self.lines if "top1" in line]

    @property
    def last(self) -> Mapping[str, Any]:
        """The last tested epoch; empty where there is none."""
        return self.evaluated[-1] if self.evaluated else {}

    @property
    def finished(self) -> bool:
        """Is the last epoch trained and tested?"""
        return bool(self.lines) and self.lines[-1]["epoch"] == self.settings["num_epoch"] - 1

    @cached_property
    def class_names(self) -> list[str]:
        """K names; empty where there are no scores."""
        return self.scores.names if self.scores is not None else []

    @cached_property
    def counts(self) -> list[int]:
        """(K,) training sequences; empty where they are not known."""
        return list(self.scores.class_counts or []) if self.scores is not None else []

    @cached_property
    def metrics(self) -> Mapping[str, Any]:
        """Those of the scores, else of the last tested epoch."""
        return self.scores.metrics() if self.scores is not None and self.scores.labels is not None else self.last

    @cached_property
    def group_of(self) -> dict[int, str]:
        """Class -> many, medium or few."""
        groups = self.scores.groups if self.scores is not None else {}
        return {label: name for name, members in groups.items() for label in members}

    @cached_property
    def confusion(self) -> np.ndarray:
        """(K, K) test samples by class and prediction."""
        assert self.scores is not None
        assert self.scores.labels is not None
        number = self.scores.scores.shape[1]
        cells = self.scores.labels.astype(np.int64) * number + self.scores.scores.argmax(1)
        return np.bincount(cells, minlength=number**2).reshape(number, number)

    def confused(self, number: int = 10) -> list[tuple[int, int, int]]:
        """The pairs (class, prediction, samples) that are confused most, by share of the class; at most ``number``."""
        wrong = self.confusion.copy()
        np.fill_diagonal(wrong, 0)
        share = wrong / np.maximum(self.confusion.sum(1, keepdims=True), 1)
        order = np.lexsort([-wrong.ravel(), -share.ravel()])[:number]
        pairs = [divmod(int(place), len(wrong)) for place in order]
        return [(one, other, int(wrong[one, other])) for one, other in pairs if wrong[one, other]]

    def samples_of(self, label: int, predicted: int, number: int = 2) -> list[int]:
        """Rows of the scores of this class that were predicted so, the surest first."""
        assert self.scores is not None
        assert self.scores.labels is not None
        scores = self.scores.scores
        rows = np.flatnonzero((self.scores.labels == label) & (scores.argmax(1) == predicted))
        sure = scores[rows, predicted] - np.sort(scores[rows], axis=1)[:, -2]
        return rows[np.argsort(-sure, kind="stable")][:number].tolist()

    def warnings(self) -> list[str]:
        """What a reader should know before believing the figures."""
        found = []
        if not self.finished:
            done = self.lines[-1]["epoch"] + 1 if self.lines else 0
            found.append(f"The run is not finished: {done} of {self.settings['num_epoch']} epochs are trained.")
        tested = self.evaluated
        if tested and (best := max(tested, key=lambda line: line["top1"]))["top1"] - self.last["top1"] > GAP:
            found.append(
                f"Epoch {best['epoch']} had the best test accuracy, {best['top1']:.1%}; the last one has "
                f"{self.last['top1']:.1%}. Choosing by test accuracy flatters: report the last epoch, or choose on a "
                "validation split."
            )
        if absent := [name for name, count in zip(self.class_names, self.counts, strict=False) if count == 0]:
            found.append(f"{len(absent)} classes have no training sequence: {_first(absent)}.")
        per_class = self.metrics.get("per_class", [])
        if untested := [name for name, value in zip(self.class_names, per_class, strict=False) if value is None]:
            found.append(f"{len(untested)} classes have no test sequence, and no accuracy: {_first(untested)}.")
        if self.metrics.get("ece", 0) > TRUSTED:
            found.append(
                f"Its probabilities are not to be trusted: on average they are {100 * self.metrics['ece']:.0f} points "
                "from the accuracy (expected calibration error). fit_temperature with a validation split corrects that."
            )
        if damaged := self.folder.damaged_metrics():
            found.append(f"Lines {', '.join(map(str, damaged[:5]))} of {self.folder.metrics.name} are damaged.")
        return found


def read_run(path: Path) -> RunData:
    """A run's folder, whatever state it is in.

    Raises:
        ConfigError: it is no run's folder.
    """
    folder = RunFolder(path)
    if not folder.config.is_file():
        raise ConfigError(f"{path} is no run's folder: it has no config.yaml; name a folder such as work_dir/demo")
    settings = {**Config.model_validate({"feeder": ""}).model_dump(), **read_yaml(folder.config)}
    environment: Any = {}
    missing: dict[str, str] = {}
    try:
        environment = parse_json(folder.environment.read_bytes())
    except (OSError, ValueError):
        missing["header"] = f"{folder.environment.name} is missing or damaged: commit and command are not known"
    scores = None
    again = f"test the weights: python main.py --config {folder.config} --phase test --weights {folder.last}"
    try:
        scores = read_scores(folder.scores())
    except (OSError, ValueError) as error:
        reason = "the run has no scores yet" if not folder.scores().is_file() else str(error)
        missing["scores"] = f"{reason}. The same command finishes an unfinished run; or {again}"
    return RunData(
        folder, settings, environment if isinstance(environment, dict) else {}, folder.read_metrics(), scores, missing
    )


def trained_on(run: RunData) -> str:
    """When the last file of metrics was written, as a date; empty where there is none."""
    if not run.folder.metrics.is_file():
        return ""
    return datetime.fromtimestamp(run.folder.metrics.stat().st_mtime).strftime("%Y-%m-%d %H:%M")


def _first(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
