"""CTR-GCN's ``.npz`` files of NTU: x_train, x_test (N, T, M * V * C) padded with zeros, y_train, y_test one-hot (N, K).

They are read and written in blocks of rows; a file may be larger than the memory.

Shapes: N sequences, T frames, M actors, V joints, C coordinates, K classes.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
from tqdm import tqdm

from ..files import kind_of, replacing
from ..npy import read_header
from ..ntu_protocols import LAYOUT, PROTOCOLS
from ..store import DataError, Sample, SkeletonStore, cache_folders, fingerprint_files
from ..store_writer import MAX_CLASSES, write_header
from ..zips import open_zip

SPLITS = ("train", "test")
KEYS = ("x_train", "y_train", "x_test", "y_test")
BLOCK = 64  # rows
ACTOR = LAYOUT.num_joints * 3  # columns


def open_arrays(path: Path, cache_dir: str | None = None) -> SkeletonStore:
    """The store of both sets of an ``.npz`` file, packed beside it the first time; ids are train_0 .. and test_0 ..

    The column ``test`` marks the test set; ``meta`` holds the number of classes, ``num_class``. Zero frames at the end
    of a sequence are removed. (The official code counts non-zero frames and reads so many from the beginning; this
    differs only where a zero frame lies inside a sequence.)

    Raises:
        DataError: the file is missing, damaged, or holds other arrays.
    """
    if not path.is_file():
        raise DataError(f"data file {path} {kind_of(path)}; set data_path to CTR-GCN's .npz file or a prepared store")
    where = cache_folders(path, cache_dir), path.stem, fingerprint_files([path])
    packed = SkeletonStore.find(*where)
    if packed is not None:
        return packed
    labels = {split: read_labels(path, f"y_{split}") for split in SPLITS}
    for split, (known, _) in labels.items():
        number = _sequences(path, split)
        if number != len(known):
            raise DataError(f"{path}: x_{split} has {number} sequences, y_{split} {len(known)}")
    wanted = np.concatenate([known for known, _ in labels.values()])

    def read() -> Iterator[Sample]:
        bar = tqdm(read_arrays(path), f"packing {path.name}", len(wanted), unit="sequence", disable=None)
        for label, sample in zip(wanted.tolist(), bar, strict=True):
            yield replace(sample, label=label)

    num_class = max(number for _, number in labels.values())
    return SkeletonStore.build(*where, read, source=path, num_class=num_class)


def read_arrays(path: Path) -> Iterator[Sample]:
    """The sequences of both sets, as :func:`open_arrays` stores them, without their labels.

    Raises:
        DataError: the file is missing, damaged, or holds other arrays.
    """
    for split in SPLITS:
        _sequences(path, split)
        rows = (row for block in blocks(path, f"x_{split}") for row in block)
        for number, row in enumerate(rows):
            there = np.flatnonzero(row.any(axis=1))
            frames = row[: there[-1] + 1 if len(there) else 0].reshape(-1, row.shape[1] // ACTOR, ACTOR // 3, 3)
            columns = {"test": int(split == "test")}
            yield Sample(f"{split}_{number}", 0, frames.astype(np.float32, copy=False), columns=columns)


def _sequences(path: Path, split: str) -> int:
    """N of a set; DataError where its array is not NTU's."""
    shape = array_header(path, f"x_{split}")[0]
    if len(shape) != 3 or shape[2] % ACTOR or not shape[2]:
        raise DataError(f"{path}: x_{split} has shape {shape}, wanted (N, T, {2 * ACTOR}) for 2 actors")
    return shape[0]


def write_arrays(path: Path, store: SkeletonStore, protocol: str) -> None:
    """Writes a protocol's four arrays from a prepared store, in CTR-GCN's order, padded to the longest sequence.

    For NTU 120 the second actor of a sequence with one is a copy of the first, as published; for NTU 60 it is 0.
    """
    rule, lengths = PROTOCOLS[protocol], store.lengths
    frames = int(lengths[np.concatenate([rule.rows(store.columns, train) for train in (True, False)])].max())
    with replacing(path) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED) as archive:
        for split in ("train", "test"):
            rows = rule.rows(store.columns, split == "train")
            shape = (len(rows), frames, 2 * ACTOR)
            bar = tqdm(rows, f"writing {path.name} {split}", unit="sequence", disable=None)
            padded = (_padded(store, row, frames, rule.dataset == "ntu120") for row in bar)
            _write(archive, f"x_{split}", shape, np.dtype(np.float32), padded)
            one_hot = (np.eye(rule.num_class)[label] for label in store.labels[rows])
            _write(archive, f"y_{split}", (len(rows), rule.num_class), np.dtype(np.float64), one_hot)


def _padded(store: SkeletonStore, row: int, frames: int, copy_single: bool) -> np.ndarray:
    sequence = store.sequence(row)
    padded = np.zeros((frames, *sequence.shape[1:]), np.float32)
    padded[: len(sequence)] = sequence
    if copy_single and store.columns["actors"][row] == 1:
        padded[:, 1] = padded[:, 0]
    return padded


def _write(
    archive: zipfile.ZipFile, key: str, shape: tuple[int, ...], dtype: np.dtype, rows: Iterable[np.ndarray]
) -> None:
    with archive.open(f"{key}.npy", "w", force_zip64=True) as file:
        write_header(file, dtype, shape)
        for row in rows:
            file.write(np.ascontiguousarray(row, dtype=dtype).tobytes())


def read_labels(path: Path, key: str) -> tuple[np.ndarray, int]:
    """Classes (N,) and K of a one-hot array (N, K), or of whole numbers (N,)."""
    values = np.concatenate([np.zeros((0, *array_header(path, key)[0][1:])), *blocks(path, key)])
    if values.ndim == 1 and ((values == np.floor(values)) & (values >= 0)).all():
        if (values >= MAX_CLASSES).any():
            row = int(np.argmax(values))
            raise DataError(f"{path}: {key} has label {values[row]:g} in row {row}; classes are numbered from 0")
        return values.astype(np.int64), int(values.max(initial=-1)) + 1
    hot = values.ndim == 2 and (values.max(axis=1, initial=0) == 1) & (np.count_nonzero(values, axis=1) == 1)
    if values.ndim != 2 or not np.all(hot):
        first = f"; the first is row {int(np.flatnonzero(~hot)[0])}" if values.ndim == 2 else ""
        raise DataError(f"{path}: {key} of shape {values.shape} is not one-hot (N, K){first}")
    return values.argmax(axis=1), values.shape[1]


def blocks(path: Path, key: str) -> Iterator[np.ndarray]:
    """Rows of an array, ``BLOCK`` at a time."""
    with _opened(path, key) as (file, shape, dtype):
        row_bytes = dtype.itemsize * int(np.prod(shape[1:]))
        for start in range(0, shape[0], BLOCK):
            number = min(BLOCK, shape[0] - start)
            content = file.read(number * row_bytes)
            if len(content) < number * row_bytes:
                raise EOFError(f"{key} ends in row {start + len(content) // max(row_bytes, 1)} of {shape[0]}")
            yield np.frombuffer(content, dtype=dtype).reshape(number, *shape[1:])


def array_header(path: Path, key: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array."""
    with _opened(path, key) as (_, shape, dtype):
        return shape, dtype


@contextmanager
def _opened(path: Path, key: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype]]:
    """The array ``key`` of an ``.npz`` file, after its header; whatever goes wrong is a DataError."""
    try:
        with open_zip(path) as archive:
            names = archive.namelist()
            if f"{key}.npy" not in names:
                there = ", ".join(name.removesuffix(".npy") for name in names)
                raise DataError(f"{path} has the arrays {there}, but no {key}; CTR-GCN's files have {', '.join(KEYS)}")
            with archive.open(f"{key}.npy") as file:
                shape, by_column, dtype = read_header(file)
                if by_column or dtype.kind not in "fiub":
                    raise DataError(f"{path}: {key} must hold numbers, row by row; it has type {dtype}")
                yield file, shape, dtype
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise DataError(f"{path} is damaged or cut off ({error}); copy or make it again") from error
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: {key} is not an array file: {error}") from error
