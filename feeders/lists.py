"""Lists of names of sequences, one a line: what they say, and which sequences of a set they name."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .files import write_atomically
from .store import DataError

log = logging.getLogger(__name__)


def read_list(path: Path) -> list[str]:
    """Names of sequences, one a line, with or without ``.skeleton``.

    Raises:
        DataError: no such file, no names, names that occur twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"list {path} cannot be read ({error}); write one with python -m tools.make_longtail"
        ) from error
    names = [line.strip().removesuffix(".skeleton") for line in lines if line.strip()]
    again = [name for name, number in Counter(names).items() if number > 1]
    if again:
        raise DataError(f"{path} names {len(again)} sequences twice: {', '.join(again[:5])}")
    if not names:
        raise DataError(f"{path} is empty")
    return names


def write_list(path: Path, names: Sequence[str], overwrite: bool = False) -> None:
    """Writes a list; DataError where another one is there, unless ``overwrite``."""
    check_list(path, names, overwrite)
    write_atomically(path, "".join(f"{name}\n" for name in names).encode())


def check_list(path: Path, names: Sequence[str], overwrite: bool = False) -> None:
    """DataError where a list of other names is there, unless ``overwrite``."""
    if path.exists() and not overwrite and read_list(path) != list(names):
        raise DataError(f"{path} exists and names other sequences; --overwrite it, or write elsewhere")


def listed_rows(
    path: Path,
    ids: Sequence[str],
    rows: np.ndarray,
    place: str,
    skip_unknown: bool = False,
    others: str = "its other splits",
) -> np.ndarray:
    """Those of the ``rows`` of a store that a list names, in its order.

    Args:
        ids: names of all sequences of the store.
        rows: of the training set.
        place, others: what the rows and the other sequences are, for messages.

    Raises:
        DataError: no such file, names that occur twice or are not among the rows: how many, the first five.
    """
    names = read_list(path)
    known = {ids[row]: row for row in rows}
    unknown = [name for name in names if name not in known]
    if unknown and not skip_unknown:
        elsewhere = len(set(unknown) & set(ids))
        raise DataError(
            f"{path} names {len(unknown)} sequences that are not in {place}: {', '.join(unknown[:5])}"
            f"{f' ({elsewhere} of them are in {others})' if elsewhere else ''}. Is it the list of another "
            "split? on_bad_sample: skip ignores them"
        )
    if unknown:
        log.warning("%s: left out %d unknown sequences: %s", path, len(unknown), ", ".join(unknown[:5]))
    return np.array([known[name] for name in names if name in known], dtype=np.int64)
