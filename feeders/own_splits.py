"""The splits of a prepared store: lists of ids in its folder ``splits``, else its columns ``in NAME``.

A list ``splits/NAME.txt`` has one id a line, as ``tools.split`` writes it. It wins over the column of the same name.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .lists import read_list
from .longtail import held_out_subjects
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
    return rows_of_list(store, path)


def rows_of_list(store: SkeletonStore, path: Path) -> np.ndarray:
    """The rows that a list names, rising.

    Raises:
        DataError: the list cannot be read, is empty, or names what is not in the store.
    """
    rows = {name: row for row, name in enumerate(store.ids)}
    names = read_list(path)
    unknown = [name for name in names if name not in rows]
    if unknown:
        raise DataError(
            f"{path} names {len(unknown)} sequences that are not in {store.path}: {', '.join(unknown[:5])}. Take them "
            f"out of the list, or write new ones: python -m tools.split {store.path} --by random --test 0.2 --overwrite"
        )
    return np.sort(np.array([rows[name] for name in names], dtype=np.int64))


def known_groups(store: SkeletonStore, rows: np.ndarray, kind: str = "subject") -> tuple[np.ndarray, list[str]]:
    """The subject or view of each of the ``rows`` (n,), as places in the list of their names.

    Raises:
        DataError: not known of all of them.
    """
    column = store.columns.get(kind, np.full(len(store), -1))[rows]
    unknown = [store.ids[row] for row in rows[column < 0]]
    if unknown:
        raise DataError(
            f"{store.path}: the {kind} of {len(unknown)} sequences is not known, such as {', '.join(unknown[:3])}. "
            f"Convert them again with a column {kind} in labels.csv, or with a pattern of the names that says it"
        )
    names = store.meta.get(f"{kind}s") or list(map(str, range(int(column.max(initial=-1)) + 1)))
    return column, [str(name) for name in names]


def numbers_of(chosen: Sequence[object], column: np.ndarray, names: Sequence[str], what: str) -> list[int]:
    """Places of ``chosen`` names, 7 for 07; DataError, which calls them ``what``, for those not in the column."""
    there = {names[number]: int(number) for number in np.unique(column)}
    alike = {str(int(name)): number for name, number in there.items() if name.isdecimal()} | there
    unknown = [str(name) for name in chosen if str(name) not in alike]
    if unknown:
        raise DataError(f"{what}: no {', '.join(unknown)} among {', '.join(there)}")
    return [alike[str(name)] for name in chosen]


def held_out(store: SkeletonStore, rows: np.ndarray, subjects: Sequence[object], fraction: float) -> np.ndarray:
    """(n,) bool: which of the ``rows`` are of held-out subjects: those of these names, or a fraction (0 .. 1) of them.

    Raises:
        DataError: as :func:`known_groups` and :func:`feeders.longtail.held_out_subjects`.
    """
    column, names = known_groups(store, rows)
    chosen = numbers_of(subjects, column, names, f"val_subjects of {store.path}")
    return held_out_subjects(column, chosen, fraction)


def _advice(store: SkeletonStore) -> str:
    return f"New lists: python -m tools.split {store.path} --by random --test 0.2"
