"""Score files, joined by sample id, and ensembles of them: scores of several streams summed.

Shapes: n samples, K classes, S files.
"""

from __future__ import annotations

import io
import logging
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from feeders.convert.pickles import load_restricted
from feeders.files import write_atomically
from feeders.longtail import shot_groups
from feeders.ntu_protocols import NAME, parse_names

from .metrics import classification_metrics

log = logging.getLogger(__name__)

STREAM_WEIGHTS = [0.6, 0.6, 0.6, 0.3]
"""Of joint, bone, joint motion and bone motion (METHOD 6)."""
KINDS = {"ids": "U", "scores": "fiu", "labels": "iu", "class_names": "U", "class_counts": "iu", "groups": "iu"}
DAMAGE = (OSError, EOFError, ValueError, KeyError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, eq=False)
class ScoreFile:
    """Scores of n samples, and what is known of samples and classes.

    Attributes:
        source: where they come from, for messages.
        ids: n different names.
        scores: (n, K) logits.
        labels: (n,) classes 0 .. K-1, or None.
        class_names: K names, or None.
        class_counts: (K,) training samples of each class, or None.
        many, few: thresholds of the shot groups.

    Raises:
        ValueError: these do not fit together, a score is not finite or an id occurs twice.
    """

    source: str
    ids: list[str]
    scores: np.ndarray
    labels: np.ndarray | None = None
    class_names: list[str] | None = None
    class_counts: list[int] | None = None
    many: int = 100
    few: int = 20

    def __post_init__(self) -> None:
        if self.scores.ndim != 2 or 0 in self.scores.shape or len(self.scores) != len(self.ids):
            self._refuse(f"{len(self.ids)} ids with scores of shape {self.scores.shape}, wanted (samples, classes)")
        n, num_class = self.scores.shape
        repeated = [name for name, count in Counter(self.ids).items() if count > 1]
        if repeated:
            self._refuse(f"{len(repeated)} ids occur more than once: {_first_five(repeated)}; a sample has one row")
        bad = np.flatnonzero(~np.isfinite(self.scores).all(1))
        if len(bad):
            self._refuse(f"NaN or infinite scores of {len(bad)} samples: {_first_five(self.ids[row] for row in bad)}")
        for name, length in (("class_names", self.class_names), ("class_counts", self.class_counts)):
            if length is not None and len(length) != num_class:
                self._refuse(f"{len(length)} {name} with scores in {num_class} classes")
        if self.labels is None:
            return
        if self.labels.shape != (n,):
            self._refuse(f"labels of shape {self.labels.shape} with {n} samples")
        wrong = np.flatnonzero((self.labels < 0) | (self.labels >= num_class))
        if len(wrong):
            row = wrong[0]
            self._refuse(f"sample {self.ids[row]} has label {self.labels[row]}, outside the classes 0..{num_class - 1}")

    def _refuse(self, reason: str) -> None:
        raise ValueError(f"{self.source}: {reason}; write these scores anew")

    @property
    def names(self) -> list[str]:
        """K class names, made up where they are unknown."""
        return self.class_names or [f"class {label}" for label in range(self.scores.shape[1])]

    @property
    def groups(self) -> dict[str, list[int]]:
        """The classes of each shot group; no groups where the training counts are unknown."""
        return {} if self.class_counts is None else shot_groups(self.class_counts, self.many, self.few)

    def figures(self) -> dict[str, Any]:
        """Accuracies, as :func:`processor.metrics.classification_metrics` has them; the labels must be known."""
        assert self.labels is not None
        return classification_metrics(self.scores, self.labels, self.groups)

    def write(self, path: Path) -> None:
        """Writes an .npz of ids, scores, groups (many, few) and, where they are known, the other attributes."""
        arrays = {"ids": np.array(self.ids), "scores": self.scores, "groups": np.array([self.many, self.few])}
        for key in ("labels", "class_names", "class_counts"):
            if getattr(self, key) is not None:
                arrays[key] = np.asarray(getattr(self, key))
        content = io.BytesIO()
        np.savez(content, **arrays)  # type: ignore[arg-type]
        write_atomically(path, content.getbuffer())


# --- reading ---------------------------------------------------------------------------------------------------------


def read_scores(path: Path, split: str = "test") -> ScoreFile:
    """Scores of a run's folder (its scores_<split>.npz), of an .npz file, or of an official best_score.pkl.

    The official file is a pickled dict of sample name -> (K,) array, without labels.

    Raises:
        ValueError: the file is missing or damaged, or its content is not as above.
    """
    if path.is_dir():
        file = path / f"scores_{split}.npz"
        if not file.is_file():
            raise ValueError(f"{path} has no {file.name}; a run writes it at its end, unless save_score is false")
        return _read_npz(file)
    if not path.is_file():
        raise ValueError(f"{path} does not exist; name a run's folder, a score .npz or an official best_score.pkl")
    return _read_official(path) if path.suffix in (".pkl", ".pickle") else _read_npz(path)


def read_labels(path: Path) -> ScoreFile:
    """Labels alone: of one of our score files, or ``y_test`` (n, K) one-hot of CTR-GCN's data, ids test_0, test_1, ...

    Raises:
        ValueError: the file is missing or damaged, or has no labels.
    """
    if path.suffix == ".npz" and path.is_file():
        onehot = _arrays(path, ["y_test"]).get("y_test")
        if onehot is not None:
            if onehot.ndim != 2 or onehot.dtype.kind not in "fiub" or not ((onehot != 0).sum(1) == 1).all():
                raise ValueError(f"{path}: y_test of shape {onehot.shape} is not one-hot; prepare this data anew")
            ids = [f"test_{row}" for row in range(len(onehot))]
            return ScoreFile(f"{path}", ids, onehot, onehot.argmax(1))
    file = read_scores(path)
    if file.labels is None:
        raise ValueError(f"{path} has no labels; name a run's score file, or CTR-GCN's data file with y_test")
    return file


def _read_npz(path: Path) -> ScoreFile:
    arrays = _arrays(path, KINDS)
    missing = [key for key in ("ids", "scores") if key not in arrays]
    if missing:
        raise ValueError(f"{path} has no {' and no '.join(missing)}; it is no score file of a run")
    for key, array in arrays.items():
        if array.dtype.kind not in KINDS[key] or array.ndim != (2 if key == "scores" else 1):
            raise ValueError(f"{path}: {key} is {array.dtype} of shape {array.shape}; write these scores anew")
    groups = arrays.get("groups", np.array([ScoreFile.many, ScoreFile.few])).tolist()
    if len(groups) != 2:
        raise ValueError(f"{path}: groups has {len(groups)} thresholds, wanted many and few; write these scores anew")
    lists = {key: arrays[key].tolist() for key in ("class_names", "class_counts") if key in arrays}
    many, few = groups
    return ScoreFile(
        f"{path}", arrays["ids"].tolist(), arrays["scores"], arrays.get("labels"), many=many, few=few, **lists
    )


def _arrays(path: Path, keys: Iterable[str]) -> dict[str, np.ndarray]:
    """Those of the keys that an .npz has; no other is read."""
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is no .npz file, or is cut off; write or fetch it again")
    try:
        with np.load(path) as archive:
            return {key: np.asarray(archive[key]) for key in keys if key in archive}
    except DAMAGE as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}: {error}); write or fetch it again") from error


def _read_official(path: Path) -> ScoreFile:
    content = load_restricted(path)
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} holds no scores; an official score file is a dict of sample name -> scores")
    shape = np.shape(next(iter(content.values())))
    for name, scores in content.items():
        if not isinstance(name, (str, int, np.integer)):
            raise ValueError(f"{path}: {name!r} is no sample name; an official score file is a dict of name -> scores")
        if not isinstance(scores, np.ndarray) or scores.dtype.kind not in "fiu" or scores.ndim != 1:
            raise ValueError(f"{path}: sample {name} has no array of scores, one for each class")
        if scores.shape != shape:
            raise ValueError(f"{path}: sample {name} has {len(scores)} scores, others have {shape}")
    return ScoreFile(f"{path}", [str(name) for name in content], np.stack(list(content.values())))


# --- ensembles -------------------------------------------------------------------------------------------------------


def join(files: Sequence[ScoreFile], labels: ScoreFile | None = None) -> list[ScoreFile]:
    """The files with their rows in the first one's order, and with what any of them knows of samples and classes.

    Args:
        labels: a further file that gives labels alone. Where no file has any, NTU names tell them.

    Raises:
        ValueError: the files differ in samples, class count, class names or a label, or no label is known.
    """
    first = files[0]
    everything = [_in_order(file, first) for file in (*files, *([] if labels is None else [labels]))]
    known = _class_counts(everything)
    common: dict[str, Any] = {"labels": _labels(everything), "class_names": _class_names(everything)}
    common |= {"class_counts": known.class_counts, "many": known.many, "few": known.few}
    return [replace(file, **common) for file in everything[: len(files)]]


def fuse(files: Sequence[ScoreFile], weights: Sequence[float], labels: ScoreFile | None = None) -> ScoreFile:
    """The weighted sum of the scores, in float64, as CTR-GCN's ensemble has it; see :func:`join`.

    Every sample's sum is taken on its own, file after file, so that the order of rows plays no part.

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
        ValueError: a run has none, is no folder, or shares a sample with the test scores.
    """
    files = []
    for run in runs:
        if not run.is_dir():
            raise ValueError(f"{run} is no run's folder; weights are searched on the scores_val.npz of runs")
        if not (run / "scores_val.npz").is_file():
            raise ValueError(
                f"{run} has no scores_val.npz to search weights on; set val_subjects or val_fraction in feeder_args "
                "and train it again, or give --weights"
            )
        files.append(read_scores(run, "val"))
    tested = {name for file in tests for name in file.ids}
    shared = sorted({name for file in files for name in file.ids} & tested)
    if shared:
        raise ValueError(
            f"{len(shared)} samples are in the validation and in the test scores: {_first_five(shared)}; weights are "
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
        return int((fused.argmax(1) == labels).sum()), -_cross_entropy(fused, labels)

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
    total = np.zeros(scores[0].shape)
    for array, weight in zip(scores, weights, strict=True):
        total += weight * array.astype(np.float64, copy=False)
    return total


def _cross_entropy(scores: np.ndarray, labels: np.ndarray) -> float:
    shifted = scores - scores.max(1, keepdims=True)
    return float((np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(labels)), labels]).mean())


def _in_order(file: ScoreFile, first: ScoreFile) -> ScoreFile:
    """``file`` with its rows in the order of ``first``."""
    if file.scores.shape[1] != first.scores.shape[1]:
        raise ValueError(
            f"{file.source} has {file.scores.shape[1]} classes, {first.source} has {first.scores.shape[1]}; only "
            "scores in the same classes can be joined"
        )
    for one, other in ((file, first), (first, file)):
        present = set(one.ids)
        lacking = [name for name in other.ids if name not in present]
        if lacking:
            raise ValueError(
                f"{one.source} lacks {len(lacking)} samples that {other.source} has: {_first_five(lacking)}; only "
                "scores of the same samples can be joined"
            )
    place = {name: row for row, name in enumerate(file.ids)}
    rows = [place[name] for name in first.ids]
    labels = None if file.labels is None else file.labels[rows]
    return replace(file, ids=first.ids, scores=file.scores[rows], labels=labels)


def _labels(files: Sequence[ScoreFile]) -> np.ndarray:
    """(n,) labels of files in one order, checked against each other."""
    known = [(file.source, file.labels) for file in files if file.labels is not None]
    if not known:
        return _labels_from_names(files[0])
    source, labels = known[0]
    for other, theirs in known[1:]:
        differ = np.flatnonzero(labels != theirs)
        if len(differ):
            row = differ[0]
            raise ValueError(
                f"{len(differ)} samples have another label in {other} than in {source}, such as {files[0].ids[row]}: "
                f"{theirs[row]} and {labels[row]}; these are scores of different data"
            )
    return labels


def _labels_from_names(file: ScoreFile) -> np.ndarray:
    """(n,) labels of NTU names such as S001C001P001R001A001, which end in the action's number."""
    unknown = [name for name in file.ids if not NAME.fullmatch(name)]
    if unknown:
        raise ValueError(
            f"none of the score files has labels, and {_first_five(unknown)} are no NTU names that tell them; give "
            "--labels FILE: a run's score file, or CTR-GCN's data file with y_test"
        )
    return parse_names(file.ids)["action"] - 1


def _class_names(files: Sequence[ScoreFile]) -> list[str] | None:
    known = [(file.source, file.class_names) for file in files if file.class_names is not None]
    for source, names in known[1:]:
        for label, (ours, theirs) in enumerate(zip(known[0][1], names, strict=True)):
            if ours != theirs:
                raise ValueError(
                    f"class {label} is {theirs!r} in {source} and {ours!r} in {known[0][0]}; only scores "
                    "in the same classes can be joined"
                )
    return known[0][1] if known else None


def _class_counts(files: Sequence[ScoreFile]) -> ScoreFile:
    """The first file that knows the training counts, else the first."""
    known = [file for file in files if file.class_counts is not None]
    if len({(tuple(file.class_counts or ()), file.many, file.few) for file in known}) > 1:
        log.warning("the runs' training counts or group thresholds differ; groups are those of %s", known[0].source)
    return known[0] if known else files[0]


def _first_five(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
