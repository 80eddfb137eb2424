"""The training set of any data set, to cut a long-tailed one from: a store, PYSKL's pickle, or NTU's names.

Shapes: n sequences, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .convert.pyskl import Recipe, is_training, read_poses
from .lists import read_list
from .ntu_protocols import CLASSES, LAYOUT, NAME, NTU60_SETUPS, NUM_CLASS, PROTOCOLS, parse_names
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
    """

    name: str
    names: Sequence[str]
    labels: np.ndarray
    class_names: Sequence[str]
    n_max: int | None = None

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
    where, title, ids, labels, splits, class_names = _open(store, ann_file)
    protocol = (split or "").removesuffix("_train")
    if protocol in SPLITS and all(NAME.fullmatch(name) for name in ids):
        return _by_protocol(where, dataset or _dataset(title, ids), protocol, ids)
    if not splits and split is None:
        return TrainingSet(title, ids, labels, class_names)
    if split is None:
        raise DataError(f"{where} has splits; name the one that is cut as split: {', '.join(splits)}")
    if split not in splits:
        there = f"there are {', '.join(splits)}" if splits else "it is one set: leave out split"
        raise DataError(f"{where} has no split {split!r}; {there}")
    if not is_training(split):
        raise DataError(f"split {split!r} of {where} is no training set: there is no 'train' in its name")
    rows = np.flatnonzero(splits[split])
    return TrainingSet(f"{title}_{split}", [ids[row] for row in rows], labels[rows], class_names)


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


def _open(
    store: Path | None, ann_file: Path | None
) -> tuple[Path, str, list[str], np.ndarray, dict[str, np.ndarray], list[str]]:
    """Path, title, names, labels, splits (n,) and class names of a store or pickle; without what cannot be used."""
    if ann_file is not None:
        found = read_poses(ann_file, Recipe(LAYOUT))  # any layout: joints are not looked at
        ids = [str(pose.annotation["frame_dir"]) for pose in found.poses]
        labels = np.array([int(pose.annotation["label"]) for pose in found.poses])
        members = {split: np.array([pose.splits[split] for pose in found.poses]) for split in found.splits}
        return ann_file, ann_file.stem, ids, labels, members, found.class_names
    opened = SkeletonStore(Path(str(store)))
    rows = np.array([row for row, name in enumerate(opened.ids) if name not in opened.problems], dtype=np.int64)
    members = {split: opened.columns[f"in {split}"][rows] for split in opened.meta.get("splits", [])}
    labels = opened.labels[rows]
    names = opened.meta.get("class_names") or [f"class {label}" for label in range(int(labels.max(initial=0)) + 1)]
    return opened.path, opened.meta["name"], [opened.ids[row] for row in rows], labels, members, names
