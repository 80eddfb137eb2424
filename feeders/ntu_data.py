"""NTU's data on disk: a prepared store or CTR-GCN's ``.npz`` file, its lists of names, its splits.

Shapes: n sequences of the store, K classes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .convert.ctrgcn_npz import open_arrays
from .files import kind_of
from .lists import listed_rows, read_list
from .longtail import held_out_subjects
from .ntu_protocols import CLASSES, PROTOCOLS, parse_names, protocol_of
from .store import DataError, SkeletonStore

log = logging.getLogger(__name__)


class NTUData:
    """A store and its training and test sets.

    Attributes:
        store: its ids are the sequences' names, where these are known.
        train, test: rows of the store, in the published order.
        subjects: (len(train),) of the training sequences; None where names are not known.
        class_names: K names.
        copied_actor: (n,) bool, whose second actor is shown as a copy of the first; None where the store holds it.

    Raises:
        DataError: data or names that are missing or damaged, or that contradict each other.
    """

    def __init__(
        self,
        path: Path,
        protocol: str | None,
        train_id_path: str | None = None,
        sample_name_path: str | None = None,
        cache_dir: str | None = None,
    ) -> None:
        self.path = path
        self.copied_actor: np.ndarray | None = None
        self.subjects: np.ndarray | None = None
        if (path / "meta.json").is_file():
            self._open_store(protocol)
        elif path.suffix == ".npz":
            self._open_arrays(protocol, train_id_path, sample_name_path, cache_dir)
        else:
            raise DataError(
                f"data_path {path} is not a prepared store or an .npz file, it {kind_of(path)}; write one with "
                "python -m tools.prepare_ntu --raw FOLDER_OR_ZIP --out data/ntu60, or set data_path to CTR-GCN's "
                "NTU60_CS.npz"
            )

    def _open_store(self, protocol: str | None) -> None:
        if protocol is None:
            raise DataError(f"{self.path} holds all splits; set protocol to one of {', '.join(PROTOCOLS)}")
        self.store = SkeletonStore(self.path)
        rule = PROTOCOLS[protocol]
        if not {"setup", "camera", "subject", "actors"} <= self.store.columns.keys():
            raise DataError(f"{self.path} was not written by tools.prepare_ntu")
        if rule.dataset == "ntu120" and self.store.meta["name"] != "ntu120":
            raise DataError(f"{self.path} holds {self.store.meta['name']}; {protocol} needs a store of ntu120")
        self.train, self.test = (rule.rows(self.store.columns, train) for train in (True, False))
        self.subjects = self.store.columns["subject"][self.train]
        self.class_names = list(CLASSES[: rule.num_class])
        if rule.dataset == "ntu120":
            self.copied_actor = self.store.columns["actors"] == 1

    def _open_arrays(
        self, protocol: str | None, train_id_path: str | None, sample_name_path: str | None, cache_dir: str | None
    ) -> None:
        self.store = open_arrays(self.path, cache_dir)
        protocol = protocol or protocol_of(self.path.stem)
        in_test = self.store.columns["test"] == 1
        self.train, self.test = np.flatnonzero(~in_test), np.flatnonzero(in_test)
        number = self.store.meta["num_class"]
        self.class_names = list(CLASSES[:number]) if number in (60, 120) else [f"class {k}" for k in range(number)]
        ids = np.array(self.store.ids, dtype=object)
        every = sample_name_path if protocol or train_id_path is None else None  # else the test set has no known order
        known = _names_of(protocol, True, train_id_path, sample_name_path), _names_of(protocol, False, None, every)
        for rows, train, names in ((self.train, True, known[0]), (self.test, False, known[1])):
            if names is not None:
                _check_names(self.path, names, self.store.labels[rows], train)
                ids[rows] = names
                if train:
                    self.subjects = parse_names(names)["subject"]
        self.store = self.store.renamed(ids.tolist())

    def training_part(self, held: bool, val_subjects: Sequence[int], val_fraction: float) -> np.ndarray:
        """Rows of the training set: of the held-out subjects, or of the others."""
        if not (held or len(val_subjects) or val_fraction):
            return self.train
        if not (len(val_subjects) or val_fraction):
            raise DataError("split: val needs val_subjects or val_fraction in feeder_args, for every split")
        subjects = self._need_subjects("a validation split by subject")
        return self.train[held_out_subjects(subjects, val_subjects, val_fraction) == held]

    def listed(self, path: Path, skip_unknown: bool = False) -> np.ndarray:
        """Rows of the training sequences that a list names.

        Raises:
            DataError: no such file, names that occur twice or are not in the training set: how many, the first five.
        """
        self._need_subjects("split_path")
        place = f"the training set of {self.path}"
        return listed_rows(path, self.store.ids, self.train, place, skip_unknown, others="its test set")

    def _need_subjects(self, purpose: str) -> np.ndarray:
        if self.subjects is None:
            raise DataError(
                f"{self.path} does not name its sequences, and {purpose} needs the names: set train_id_path to the "
                "names of its training sequences in its order, or sample_name_path to the names of all sequences "
                "(CTR-GCN's skes_available_name.txt)"
            )
        return self.subjects


def _names_of(
    protocol: str | None, train: bool, train_id_path: str | None, sample_name_path: str | None
) -> list[str] | None:
    """Names of a set of an ``.npz`` file, in its order: from their file, or rebuilt from all names; None: unknown."""
    if train_id_path is not None and Path(train_id_path).is_file():
        return _training_names(train_id_path, sample_name_path)
    if sample_name_path is None:
        if train_id_path is not None:
            raise DataError(f"train_id_path {train_id_path} does not exist; set sample_name_path to rebuild it")
        return None
    if protocol is None:
        raise DataError(f"sample_name_path needs protocol, one of {', '.join(PROTOCOLS)}, to rebuild the order")
    names = read_list(Path(sample_name_path))
    if train and train_id_path is not None:
        log.info("train_id_path %s does not exist; the order is rebuilt from %s", train_id_path, sample_name_path)
    return [names[row] for row in PROTOCOLS[protocol].rows(parse_names(names, sample_name_path), train)]


def _training_names(train_id_path: str, sample_name_path: str | None) -> list[str]:
    """The names in ``train_id_path``, or those at its places in the list of all names, as Shap-Mix's files have it."""
    words = read_list(Path(train_id_path))
    if not all(word.isdecimal() for word in words):
        parse_names(words, train_id_path)
        return words
    if sample_name_path is None:
        raise DataError(f"{train_id_path} holds places in a list of names; set sample_name_path to that list")
    names, places = read_list(Path(sample_name_path)), [int(word) for word in words]
    if max(places) >= len(names):
        raise DataError(f"{train_id_path} names place {max(places)}, but {sample_name_path} has {len(names)} names")
    return [names[place] for place in places]


def _check_names(path: Path, names: list[str], labels: np.ndarray, train: bool) -> None:
    """Raises a DataError where the names and the labels of the arrays contradict each other."""
    split = "training" if train else "test"
    if len(names) != len(labels):
        raise DataError(
            f"{path} has {len(labels)} {split} sequences, the list {len(names)}; is it the list of another split, or "
            "does it hold sequences with missing skeletons?"
        )
    actions = parse_names(names)["action"] - 1
    wrong = np.flatnonzero(actions != labels)
    if len(wrong):
        some = ", ".join(f"{names[row]} at {row} has label {labels[row]}" for row in wrong[:5])
        raise DataError(f"{path}: {len(wrong)} {split} labels contradict the names: {some}; the orders differ")
