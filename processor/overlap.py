"""Are test or validation samples training samples? (docs/data.md, "Your own data")

Shapes: n samples of a split.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from feeders.feeder import StoreFeeder
from feeders.loader import Loader

from .config import Config
from .config_files import import_class, parameters
from .errors import ConfigError
from .own_dataset import DatasetLoader

log = logging.getLogger(__name__)
Splits = tuple[Any, Loader]  # a feeder and its loader
COMPARED = 256  # samples of each split whose contents are compared
CHANCE = 0.01  # share of equal contents up to which they are taken for repetitions in the recordings


def check_overlap(config: Config, split: str, train: Splits, held_out: Splits) -> None:
    """Refuses a validation or test split with samples of the training set, or warns of it (``overlap``).

    Two samples are one if they are the same sequence of a store, if a Dataset gives both the same name and label, or if
    their contents are equal. Up to a share of ``CHANCE`` equal contents are only warned of.

    Raises:
        ConfigError: there are some.
    """
    rows, of, how, certain = _shared(config, split, train, held_out)
    if not rows:
        return
    kind, ids = {"val": "validation", "test": "test"}[split], held_out[1].ids
    found = f"{kind} samples are in the training set too: {len(rows)} of {of} ({how}), such as "
    found += ", ".join(ids[row] for row in rows[:3])
    if config.overlap == "warn" or (not certain and len(rows) <= CHANCE * of):
        log.warning("%s", found)
        return
    advice = f"name other data in {split}_feeder_args"
    if split == "val" and isinstance(held_out[0], StoreFeeder):
        advice = "set val_subjects in feeder_args, for every split"
    raise ConfigError(f"{config.config}: {found}; {advice}, or set overlap: warn")


def _shared(config: Config, split: Any, train: Splits, held_out: Splits) -> tuple[Sequence[int], int, str, bool]:
    """Rows of the split that are in training, of how many looked at, how that is known, and whether it is certain."""
    ours, theirs = train[0], held_out[0]
    rows: Sequence[int] = range(len(held_out[1].ids))
    if isinstance(ours, StoreFeeder) and isinstance(theirs, StoreFeeder):
        if ours.store.path == theirs.store.path:
            same = np.flatnonzero(np.isin(theirs.members, ours.members)).tolist()
            return same, len(rows), "the same sequences of the store", True
        return *_equal_sequences(ours, theirs), "equal frames", False
    takes_split = "split" in parameters(import_class(config.feeder, config.plugins))
    if not takes_split and config.split_args("train") == config.split_args(split):
        return rows, len(rows), f"{config.feeder} has no argument split, and gets the same arguments for both", True
    known = set(zip(train[1].ids, train[1].labels.tolist(), strict=True))
    labels = held_out[1].labels.tolist()
    named = [row for row in rows if (held_out[1].ids[row], labels[row]) in known]
    if named and getattr(held_out[1], "named", False) and getattr(train[1], "named", False):
        return named, len(rows), "the same names and labels", True
    return *_equal_samples(train[1], held_out[1]), "equal data", False


def _equal_sequences(train: StoreFeeder[Any], held_out: StoreFeeder[Any]) -> tuple[list[int], int]:
    """Rows of the second split, of those compared, whose stored frames are also a training sequence's of that class.

    Read is the middle frame of sequences of equal label and length, and all frames where that one is equal too.
    """
    rows = range(len(held_out))

    def key(feeder: StoreFeeder[Any], row: int) -> tuple[int, int]:
        return int(feeder.labels[row]), int(feeder.store.lengths[feeder.members[row]])

    def middle(feeder: StoreFeeder[Any], row: int) -> bytes | None:
        store, member = feeder.store, feeder.members[row]
        return _digest(store.frames[store.offsets[member] + store.lengths[member] // 2])  # not checked: that reads all

    wanted = {key(held_out, row) for row in rows}
    known = {(*key(train, row), middle(train, row)): row for row in range(len(train)) if key(train, row) in wanted}
    same = []
    for row in rows:
        digest = middle(held_out, row)
        other = None if digest is None else known.get((*key(held_out, row), digest))
        if other is not None and np.array_equal(
            held_out.store.sequence(held_out.members[row]), train.store.sequence(train.members[other])
        ):
            same.append(row)
    return same, len(rows)


def _equal_samples(train: Loader, held_out: Loader) -> tuple[list[int], int]:
    """Rows of a Dataset, of those compared, that are delivered like a training sample."""
    if not isinstance(train, DatasetLoader) or not isinstance(held_out, DatasetLoader):
        return [], 0
    shorter = min(len(train.ids), len(held_out.ids))

    def digests(loader: DatasetLoader) -> dict[int, bytes | None]:
        read = {row: loader.samples.read(*loader.key(row))[0] for row in _spread(len(loader.ids), shorter)}
        return {row: _digest(x.numpy()) for row, x in read.items()}

    known, found = set(digests(train).values()) - {None}, digests(held_out)
    return [row for row, digest in found.items() if digest in known], len(found)


def _spread(number: int, shorter: int) -> list[int]:
    """All of so many rows; of many ``COMPARED``, where possible in the first ``shorter``, which both splits have."""
    if number <= COMPARED:
        return list(range(number))
    common = min(shorter, COMPARED)
    places = np.linspace(0, shorter - 1, common), np.linspace(shorter, number - 1, COMPARED - common)
    return sorted(set(np.concatenate(places).astype(int).tolist()))


def _digest(values: np.ndarray) -> bytes | None:
    """Of the contents; None where all values are equal, which says nothing (an empty recording)."""
    if values.size == 0 or values.min() == values.max():
        return None
    return hashlib.blake2b(np.ascontiguousarray(values, dtype=np.float32).data, digest_size=16).digest()
