"""The splits of a prepared store: lists of ids in its folder ``splits``, else its columns ``in NAME``.

A list ``splits/NAME.txt`` has one id a line, as ``tools.split`` writes it. It wins over the column of the same name.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .lists import read_list
from .store import DataError, SkeletonStore

FOLDER = "splits"


def list_path(store: SkeletonStore, split: str) -> Path:
    """Where the list of a split lies, or would lie."""
    return store.path / FOLDER / f"{split}.txt"


def split_names(store: SkeletonStore) -> list[str]:
    """Names of the splits: those of ``meta.json``, then those that only have a list, in alphabetical order."""
    listed = sorted(path.stem for path in (store.path / FOLDER).glob("*.txt"))
    return list(dict.fromkeys([*store.meta.get("splits", []), *listed]))


def split_rows(store: SkeletonStore, split: str) -> np.ndarray:
    """The rows of a split, rising.

    Raises:
        DataError: there is no such split; its list cannot be read, is empty, or names what is not in the store.
    """
    there = split_names(store)
    if split not in there:
        found = f"there are {', '.join(there)}" if there else "it has no splits yet"
        raise DataError(f"{store.path} has no split {split!r}; {found}. {_advice(store)}")
    path = list_path(store, split)
    if not path.is_file():
        return np.flatnonzero(store.columns[f"in {split}"])
    rows = {name: row for row, name in enumerate(store.ids)}
    names = read_list(path)
    unknown = [name for name in names if name not in rows]
    if unknown:
        raise DataError(
            f"{path} names {len(unknown)} sequences that are not in {store.path}: {', '.join(unknown[:5])}. Take them "
            f"out of the list. {_advice(store)} --overwrite"
        )
    return np.sort(np.array([rows[name] for name in names], dtype=np.int64))


def _advice(store: SkeletonStore) -> str:
    return f"New lists: python -m tools.split {store.path} --by random --test 0.2"
