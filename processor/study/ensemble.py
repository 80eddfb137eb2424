"""Ensembles: the scores of several streams, joined by sample id and summed.

Shapes: n samples, K classes, S files.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import log_softmax

from feeders import feeder_ucla
from feeders.ntu_protocols import NAME, parse_names

from ..run_folder import RunFolder
from ..scores import ScoreFile, first_five, read_scores

log = logging.getLogger(__name__)

STREAM_WEIGHTS = [0.6, 0.6, 0.6, 0.3]
"""Of joint, bone, joint motion and bone motion (docs/method.md, "Training recipes")."""


def join(files: Sequence[ScoreFile], labels: ScoreFile | None = None) -> list[ScoreFile]:
    """The files with their rows in the first one's order, and with what any of them knows of samples and classes.

    Args:
        labels: a further file that gives labels alone. Where no file has any, names of NTU or NW-UCLA give them.

    Raises:
        ValueError: the files differ in samples, class count, class names or a label, or no label is known.
    """
    first = files[0]
    everything = [_in_order(file, first) for file in (*files, *([] if labels is None else [labels]))]
    counted = [file for file in everything if file.class_counts is not None] or [first]
    if len({(tuple(file.class_counts or ()), file.many, file.few) for file in counted}) > 1:
        log.warning("the runs' training counts or group thresholds differ; groups are those of %s", counted[0].source)
    names = _agreed(everything, "class_names", "classes have another name", range(first.scores.shape[1]))
    common: dict[str, Any] = {key: getattr(counted[0], key) for key in ("class_counts", "many", "few")}
    common |= {"labels": _labels(everything), "class_names": names}
    return [replace(file, **common) for file in everything[: len(files)]]


def fuse(files: Sequence[ScoreFile], weights: Sequence[float], labels: ScoreFile | None = None) -> ScoreFile:
    """The weighted sum of the scores, in float64, as CTR-GCN's ensemble has it; see :func:`join`.

    Each sample is summed on its own, file after file, so the order of rows does not matter.

    Raises:
        ValueError: see :func:`join`; or weights that are not one for each file, finite, from 0 and not all 0.
    """
    if len(weights) != len(files):
        raise ValueError(f"{len(weights)} weights for {len(files)} score files; give one for each")
    if not np.isfinite(weights).all() or min(weights) < 0 or max(weights) == 0:
        raise ValueError(f"weights {' '.join(map(str, weights))}: wanted finite numbers from 0, not all of them 0")
    joined = join(files, labels)
    return replace(joined[0], source="the ensemble", scores=_weighted_sum([file.scores for file in joined], weights))


def default_weights(count: int) -> list[float]:
    """Those of the four streams for four files, else equal ones."""
    return list(STREAM_WEIGHTS) if count == len(STREAM_WEIGHTS) else [1.0] * count


def read_validation(runs: Sequence[Path], tests: Sequence[ScoreFile]) -> list[ScoreFile]:
    """The runs' scores_val.npz, to choose weights on.

    Raises:
        ValueError: a run has none, is not a folder, or shares a sample with the test scores.
    """
    files = []
    for run in runs:
        if not run.is_dir():
            raise ValueError(f"{run} is not a run's folder; weights are searched on the scores_val.npz of runs")
        scores = RunFolder(run).scores("val")
        if not scores.is_file():
            raise ValueError(
                f"{run} has no {scores.name} to search weights on; set val_subjects or val_fraction in feeder_args "
                "and train it again, or give --weights"
            )
        files.append(read_scores(run, "val"))
    tested = {name for file in tests for name in file.ids}
    shared = sorted({name for file in files for name in file.ids} & tested)
    if shared:
        raise ValueError(
            f"{len(shared)} samples are in the validation and in the test scores: {first_five(shared)}; weights are "
            "never searched on samples that they are reported for (a Dataset of your own: give it sample_name)"
        )
    return files


def search_weights(files: Sequence[ScoreFile]) -> list[float]:
    """Weights out of 0, 0.1, ..., 1 that maximise top-1, then minimise the cross-entropy of the fused scores.

    Coordinate ascent from 0.5 each: one file's weight after another is set to its best value, until a round changes
    nothing. A local optimum; it does not depend on the order of rows. Cost: 11 S fusions of (n, K) a round, few rounds.

    Raises:
        ValueError: see :func:`join`.
    """
    joined = join(files)
    order = np.argsort(joined[0].ids)
    scores = [file.scores[order].astype(np.float64) for file in joined]
    assert joined[0].labels is not None
    labels = joined[0].labels[order]

    def quality(tenths: Sequence[int]) -> tuple[int, float]:
        fused = _weighted_sum(scores, [step / 10 for step in tenths])
        likelihood = log_softmax(fused, axis=1)[np.arange(len(labels)), labels]
        return int((fused.argmax(1) == labels).sum()), float(likelihood.mean())

    best = [5] * len(files)
    reached, before = quality(best), None
    while best != before:
        before = best
        for place in range(len(files)):
            for step in range(11):
                tenths = [*best[:place], step, *best[place + 1 :]]
                if any(tenths) and (found := quality(tenths)) > reached:
                    best, reached = tenths, found
    return [step / 10 for step in best]


def _weighted_sum(scores: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    weighted = (weight * array.astype(np.float64) for array, weight in zip(scores, weights, strict=True))
    return sum(weighted, start=np.zeros(scores[0].shape))


def _in_order(file: ScoreFile, first: ScoreFile) -> ScoreFile:
    """``file`` with its rows in the order of ``first``."""
    if file.scores.shape[1] != first.scores.shape[1]:
        raise ValueError(
            f"{file.source} has {file.scores.shape[1]} classes, {first.source} has {first.scores.shape[1]}; only "
            "scores in the same classes can be joined"
        )
    for one, other in ((file, first), (first, file)):
        present = set(one.ids)
        if lacking := [name for name in other.ids if name not in present]:
            raise ValueError(
                f"{one.source} lacks {len(lacking)} samples that {other.source} has: {first_five(lacking)}; only "
                "scores of the same samples can be joined"
            )
    place = {name: row for row, name in enumerate(file.ids)}
    rows = [place[name] for name in first.ids]
    labels = None if file.labels is None else file.labels[rows]
    return replace(file, ids=first.ids, scores=file.scores[rows], labels=labels)


def _labels(files: Sequence[ScoreFile]) -> np.ndarray:
    """(n,) labels of files in one order."""
    ids = files[0].ids
    labels = _agreed(files, "labels", "samples have another label", ids)
    if labels is not None:
        return labels
    if all(feeder_ucla.NAME.fullmatch(name) for name in ids):
        return np.array([list(feeder_ucla.CLASSES).index(int(name[1:3])) for name in ids])  # a05_s01_e00_v03
    if unknown := [name for name in ids if not NAME.fullmatch(name)]:
        raise ValueError(
            f"none of the score files has labels, and {first_five(unknown)} are no names of NTU or NW-UCLA; "
            "give --labels FILE: a run's score file, CTR-GCN's data file with y_test, or PYSKL's annotations"
        )
    return parse_names(ids)["action"] - 1  # S001C001P001R001A001 ends in the number of the action


def _agreed(files: Sequence[ScoreFile], key: str, difference: str, places: Sequence[object]) -> Any:
    """What the files know under ``key``, checked against each other; None where none knows it."""
    known = [(file.source, getattr(file, key)) for file in files if getattr(file, key) is not None]
    for source, theirs in known[1:]:
        first, ours = known[0]
        if len(differ := np.flatnonzero(np.asarray(theirs) != np.asarray(ours))):
            row = differ[0]
            raise ValueError(
                f"{len(differ)} {difference} in {source} than in {first}, such as {places[row]}: {theirs[row]} and "
                f"{ours[row]}; these are scores of different data"
            )
    return known[0][1] if known else None
