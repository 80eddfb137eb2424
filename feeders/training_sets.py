"""The training set of any data set, to cut a long-tailed one from: a store, PYSKL's pickle, or NTU's names.

Shapes: n sequences, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .convert.pyskl import is_training, read_poses
from .convert.recipe import Recipe
from .lists import read_list
from .ntu_protocols import CLASSES, LAYOUT, NAME, NTU60_SETUPS, NUM_CLASS, PROTOCOLS, parse_names
from .own_splits import FOLDER, split_names, split_rows
from .store import DataError, SkeletonStore

SPLITS = ("xsub", "xview", "xset")  # of NTU


@dataclass(frozen=True)
class TrainingSet:
    """A training set, in the order that the cut goes by.

    Attributes:
        name: data set and split, for the name of a list.
        names: n names.
        labels: (n,) classes.
        class_names: K names.
        n_max: of the published lists; None where there are none.
        split: its name in a store of other names than NTU's.
        folder: where such a store has its lists.
    """

    name: str
    names: Sequence[str]
    labels: np.ndarray
    class_names: Sequence[str]
    n_max: int | None = None
    split: str = "train"
    folder: Path | None = None

    @property
    def num_class(self) -> int:
        """K."""
        return len(self.class_names)


def training_set(
    store: Path | None, ann_file: Path | None, names: Path | None, dataset: str | None, split: str | None
) -> TrainingSet:
    """The training set of one of the three sources.

    Sequences that bear NTU's names are split and ordered as NTU's protocols have it, whatever holds them.

    Args:
        store: a folder; one without splits is taken whole.
        ann_file: PYSKL's annotation pickle.
        names: a list of NTU's names.
        dataset: ntu60 or ntu120, of NTU's names; by default as the names say, ntu120 for a list.
        split: xsub, xview or xset of NTU (also xsub_train, ...), or a split of the source.

    Raises:
        DataError: no such source, split or protocol; a split that is not trained on.
    """
    if names is not None:
        listed = read_list(names)
        return _by_protocol(names, dataset or "ntu120", split, listed)
    source = _open_store(Path(str(store))) if ann_file is None else _open_pickle(ann_file)
    protocol = (split or "").removesuffix("_train")
    if protocol in SPLITS and all(NAME.fullmatch(name) for name in source.ids):
        return _by_protocol(source.path, dataset or _dataset(source.title, source.ids), protocol, source.ids)
    if not source.splits and split is None:
        return TrainingSet(source.title, source.ids, source.labels, source.class_names, folder=source.folder)
    if split is None:
        raise DataError(f"{source.path} has splits; name the one that is cut as split: {', '.join(source.splits)}")
    if split not in source.splits:
        there = f"there are {', '.join(source.splits)}" if source.splits else "it is one set: leave out split"
        raise DataError(f"{source.path} has no split {split!r}; {there}")
    if not is_training(split):
        raise DataError(f"split {split!r} of {source.path} is no training set: there is no 'train' in its name")
    rows, title = np.flatnonzero(source.inside(split)), f"{source.title}_{split}"
    ids, labels = [source.ids[row] for row in rows], source.labels[rows]
    return TrainingSet(title, ids, labels, source.class_names, split=split, folder=source.folder)


def _by_protocol(where: object, dataset: str, split: str | None, names: Sequence[str]) -> TrainingSet:
    """NTU's training set among these names, in the published order."""
    rule = PROTOCOLS.get(f"{dataset}_{split}")
    if rule is None:
        raise DataError(f"no protocol {dataset}_{split}; there are {', '.join(PROTOCOLS)}")
    columns = parse_names(names, where)
    rows = rule.rows(columns, train=True)
    classes = CLASSES[: rule.num_class]
    chosen, labels = [names[row] for row in rows], columns["action"][rows] - 1
    return TrainingSet(f"{dataset.upper()}_{split}", chosen, labels, classes, rule.n_max)


def _dataset(title: str, names: Sequence[str]) -> str:
    """ntu60 or ntu120: what the store says, or else the smallest that has all these names."""
    if title in NUM_CLASS:
        return title
    columns = parse_names(names)
    whole = (columns["action"] > NUM_CLASS["ntu60"]) | (columns["setup"] > NTU60_SETUPS)
    return "ntu120" if whole.any() else "ntu60"


@dataclass(frozen=True)
class _Source:
    """The sequences of a store or a pickle, without those that cannot be used; ``inside(split)`` is (n,) bool."""

    path: Path
    title: str
    ids: list[str]
    labels: np.ndarray
    class_names: list[str]
    splits: list[str]
    inside: Callable[[str], np.ndarray]
    folder: Path | None = None


def _open_pickle(path: Path) -> _Source:
    found = read_poses(path, Recipe(LAYOUT))  # any layout: joints are not looked at
    ids = [str(pose.annotation["frame_dir"]) for pose in found.poses]
    labels = np.array([int(pose.annotation["label"]) for pose in found.poses])

    def inside(split: str) -> np.ndarray:
        return np.array([bool(pose.splits[split]) for pose in found.poses])

    return _Source(path, path.stem, ids, labels, found.class_names, found.splits, inside)


def _open_store(path: Path) -> _Source:
    store = SkeletonStore(path)
    rows = np.array([row for row, name in enumerate(store.ids) if name not in store.problems], dtype=np.int64)
    ids, labels = [store.ids[row] for row in rows], store.labels[rows]
    names = store.meta.get("class_names") or [f"class {label}" for label in range(int(labels.max(initial=0)) + 1)]

    def inside(split: str) -> np.ndarray:
        return np.isin(rows, split_rows(store, split))

    return _Source(path, store.meta["name"], ids, labels, names, split_names(store), inside, path / FOLDER)
