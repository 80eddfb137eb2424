"""Score files: the logits of a split by sample id, written by a run or by the official code.

Shapes: n samples, K classes.
"""

from __future__ import annotations

import io
import logging
import tokenize
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from feeders.convert.pickles import PICKLES, load_restricted
from feeders.convert.pyskl import LISTS
from feeders.files import write_atomically
from feeders.longtail import shot_groups
from feeders.zips import GROWTH, open_zip

from .metrics import classification_metrics
from .run_folder import RunFolder

log = logging.getLogger(__name__)

OFFICIAL_FILES = ("best_score.pkl", "epoch*_test_score.pkl", "best_pred.pkl", "last_pred.pkl", "result.pkl")
KINDS = {"ids": "U", "scores": "fiu", "labels": "iu", "class_names": "U", "class_counts": "iu", "groups": "iu"}
DAMAGE = (
    OSError, EOFError, ValueError, KeyError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error,
    MemoryError, SyntaxError, tokenize.TokenError,  # of numpy's headers, which are Python text
)  # fmt: skip


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
            self._refuse(f"{len(repeated)} ids occur more than once: {first_five(repeated)}; a sample has one row")
        bad = np.flatnonzero(~np.isfinite(self.scores).all(1))
        if len(bad):
            self._refuse(f"NaN or infinite scores of {len(bad)} samples: {first_five(self.ids[row] for row in bad)}")
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
        raise ValueError(f"{self.source}: {reason}; write these scores again")

    @property
    def names(self) -> list[str]:
        """K class names, made up where they are unknown."""
        return self.class_names or [f"class {label}" for label in range(self.scores.shape[1])]

    @property
    def groups(self) -> dict[str, list[int]]:
        """The classes of each shot group; no groups where the training counts are unknown."""
        return {} if self.class_counts is None else shot_groups(self.class_counts, self.many, self.few)

    def metrics(self) -> dict[str, Any]:
        """Accuracies, as :func:`processor.metrics.classification_metrics` has them; the labels must be known."""
        assert self.labels is not None
        return classification_metrics(self.scores, self.labels, self.groups)

    def write(self, path: Path, compressed: bool = False) -> None:
        """Writes :meth:`content`."""
        write_atomically(path, self.content(compressed))

    def content(self, compressed: bool = False) -> bytes:
        """An .npz of ids, scores, groups (many, few) and, where they are known, the other attributes."""
        facts = {"ids": self.ids, "scores": self.scores, "groups": [self.many, self.few]}
        facts |= {key: getattr(self, key) for key in ("labels", "class_names", "class_counts")}
        content = io.BytesIO()
        save: Callable[..., None] = np.savez_compressed if compressed else np.savez
        save(content, **{key: value for key, value in facts.items() if value is not None})
        return content.getvalue()


# --- reading ---------------------------------------------------------------------------------------------------------


def read_scores(path: Path, split: str = "test") -> ScoreFile:
    """Scores of a run's folder (its scores_<split>.npz), of an .npz file, or of an official pickle or its folder.

    Official pickles have no labels. CTR-GCN's best_score.pkl and epoch1_test_score.pkl are a dict of sample name ->
    (K,) array; PYSKL's result.pkl and best_pred.pkl are a list of such arrays, whose ids here are annotation_0, ...

    Raises:
        ValueError: the file is missing or damaged, or its content is not as above.
    """
    if path.is_dir():
        path = _score_file(path, split)
    if not path.is_file():
        raise ValueError(f"{path} does not exist; name a run's folder, a score .npz or an official best_score.pkl")
    return _read_official(path) if path.suffix in PICKLES else _read_npz(path)


def read_labels(path: Path, split: str | None = None) -> ScoreFile:
    """Labels alone, in a ScoreFile whose scores are made up.

    They come from one of our score files; from ``y_test`` (n, K) one-hot of CTR-GCN's data, ids test_0, test_1, ...; or
    from PYSKL's annotation pickle, those of ``split``, ids annotation_0, ...

    Raises:
        ValueError: the file is missing or damaged, or has no labels.
    """
    if path.suffix in PICKLES and path.is_file():
        return _annotated(path, split)
    found = npz_arrays(path, ["y_test"]) if path.suffix == ".npz" and path.is_file() else {}
    if found:
        onehot = found["y_test"]
        if onehot.ndim != 2 or onehot.dtype.kind not in "fiub" or not ((onehot != 0).sum(1) == 1).all():
            raise ValueError(f"{path}: y_test of shape {onehot.shape} is not one-hot; prepare this data again")
        return ScoreFile(f"{path}", [f"test_{row}" for row in range(len(onehot))], onehot, onehot.argmax(1))
    file = read_scores(path)
    if file.labels is None:
        raise ValueError(f"{path} has no labels; name a run's score file, or CTR-GCN's data file with y_test")
    return file


def _score_file(folder: Path, split: str) -> Path:
    """The score file in a run's folder: ours, or an official one."""
    ours = RunFolder(folder).scores(split)
    official = [sorted(folder.glob(pattern)) for pattern in OFFICIAL_FILES] if split == "test" else []
    found = [ours] if ours.is_file() else next(filter(None, official), [])
    if not found:
        raise ValueError(
            f"{folder} has no {ours.name}, which a run writes at its end, unless save_score is false; nor one of the "
            f"official files {', '.join(OFFICIAL_FILES)}"
        )
    if len(found) > 1:
        raise ValueError(f"{folder} has {len(found)} score files: {first_five(map(str, found))}; name one of them")
    return found[0]


def _read_npz(path: Path) -> ScoreFile:
    arrays = npz_arrays(path, KINDS)
    missing = [key for key in ("ids", "scores") if key not in arrays]
    if missing:
        raise ValueError(f"{path} has no {' and no '.join(missing)}; it is not a score file of a run")
    for key, array in arrays.items():
        if array.dtype.kind not in KINDS[key] or array.ndim != (2 if key == "scores" else 1):
            raise ValueError(f"{path}: {key} is {array.dtype} of shape {array.shape}; write these scores again")
    groups = arrays.get("groups", np.array([ScoreFile.many, ScoreFile.few])).tolist()
    if len(groups) != 2:
        raise ValueError(f"{path}: groups has {len(groups)} thresholds, wanted many and few; write these scores again")
    lists = {key: arrays[key].tolist() for key in ("class_names", "class_counts") if key in arrays}
    many, few = groups
    return ScoreFile(
        f"{path}", arrays["ids"].tolist(), arrays["scores"], arrays.get("labels"), many=many, few=few, **lists
    )


def npz_arrays(path: Path, keys: Iterable[str]) -> dict[str, np.ndarray]:
    """Those of the keys that an .npz has; of the others the names are read."""
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError(f"{path} is not an .npz file, or is cut off; write or fetch it again")
        try:
            open_zip(file, GROWTH).close()
            file.seek(0)
            with np.load(file) as archive:
                for member in archive.zip.infolist():  # a damaged name would be a key that is not there
                    archive.zip.open(member).close()
                return {key: np.asarray(archive[key]) for key in keys if key in archive}
        except DAMAGE as error:
            raise ValueError(f"{path} is damaged ({type(error).__name__}: {error}); write or fetch it again") from error


def _read_official(path: Path) -> ScoreFile:
    content = load_restricted(path)
    if isinstance(content, list):
        content = {f"annotation_{row}": scores for row, scores in enumerate(content)}
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} holds no scores; an official score file is a dict of sample name -> scores")
    shape = np.shape(next(iter(content.values())))
    for name, scores in content.items():
        if not isinstance(name, (str, int, np.integer)):
            raise ValueError(f"{path}: {name!r} is not a sample name; an official file is a dict of name -> scores")
        if not isinstance(scores, np.ndarray) or scores.dtype.kind not in "fiu" or scores.ndim != 1:
            raise ValueError(f"{path}: sample {name} has no array of scores, one for each class")
        if scores.shape != shape:
            raise ValueError(f"{path}: sample {name} has {len(scores)} scores, others have {shape}")
    return ScoreFile(f"{path}", [str(name) for name in content], np.stack(list(content.values())))


def _annotated(path: Path, split: str | None) -> ScoreFile:
    """Labels of a split of PYSKL's annotations, in their order, which is that of its scores."""
    content = load_restricted(path, deferred=True)  # millions of coordinates, of which none is needed
    try:
        splits, annotations = content["split"], content["annotations"]
        names = [str(annotation["frame_dir"]) for annotation in annotations]
        labels = np.array([int(annotation["label"]) for annotation in annotations])
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a pickle of annotations with split, frame_dir and label: {error!r}") from error
    if split not in splits:
        raise ValueError(f"{path} has the splits {', '.join(map(str, splits))}; name the one of the scores (split)")
    listed = splits[split] if isinstance(splits[split], LISTS) else np.asarray(splits[split]).tolist()
    inside = np.isin(names, list(map(str, listed)))
    scores = np.eye(labels.max(initial=0) + 1)[labels[inside]]
    return ScoreFile(f"{path}", [f"annotation_{row}" for row in range(len(scores))], scores, labels[inside])


def first_five(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
