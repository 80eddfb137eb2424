"""SkeletonStore: variable-length sequences packed end to end in memory-mapped ``.npy`` files.

A store is a folder of ``frames.npy`` (F, M, V, C) float32 or float16, ``offsets.npy`` (n + 1,), ``labels.npy`` (n,),
``ids.npy`` (n,), ``columns.npz`` (what else is known of each sequence, such as its subject), ``checks.npz`` (CRC-32 and
largest value of each sequence) and ``meta.json``, which has the CRC-32 of the other small files and its own. It is
written to another folder beside the final one and renamed, so that a crash leaves the old store whole. ``meta.json``
and the name of a folder in a cache hold a fingerprint of its source, so that a changed source gives a new store.

Shapes: n sequences, F frames of all sequences, L frames of one, M people, V joints, C coordinates.
"""

from __future__ import annotations

import copy
import glob
import hashlib
import io
import logging
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .files import WriteError, parse_json, unsealed, writing
from .locks import alone, is_abandoned, tidy, use
from .store_writer import FORMAT, MAX_CLASSES, SMALL, DataError, Sample, StoreWriter, problem_of

__all__ = ["DataError", "Sample", "SkeletonStore", "StoreWriter", "cache_folders", "fingerprint_files"]
log = logging.getLogger(__name__)
JUST_NOW = 60  # seconds
REPAIR = "delete the folder, and it is built again, or prepare it again"
NOT_ITS_FAULT = "the store itself may be whole: put that right and run the same command again"
OUT_OF_THE_WAY = "rename or move it, and this store is built again"
PARTS_MISSING = FileNotFoundError, IsADirectoryError, NotADirectoryError


class SkeletonStore:
    """Sequences of one data set, opened from a folder; frames stay on disk until they are read.

    Attributes:
        frames: (F, M, V, C) float32 or float16, memory-mapped, read-only.
        offsets: (n + 1,) int64; sequence i is ``frames[offsets[i]:offsets[i + 1]]``.
        labels: (n,) int64.
        ids: n names.
        columns: name -> (n,) int64, such as the subject of each sequence.
        meta: the contents of ``meta.json``.
        problems: id -> what is wrong with it, for sequences that cannot be used.
        checksum: of the frames, ids, labels and columns.
        largest: (n,) float32, the largest absolute value of each sequence; 0 where it is not known.

    The small files are checked when the store is opened. Each sequence is checked when it is read first, which costs a
    third of a second for a gigabyte. Stores of older versions have no checksums of their sequences.

    Raises:
        DataError: the folder is no store, is damaged, or has another format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            if is_one := (path / "meta.json").is_file():
                self._open()
        except Exception as error:  # numpy parses headers as Python text; of damaged ones it may raise anything
            whole = isinstance(error, OSError) and not isinstance(error, PARTS_MISSING)
            raise DataError(f"store {path} cannot be read ({error}); {NOT_ITS_FAULT if whole else REPAIR}") from error
        if not is_one:  # perhaps no store at all: nobody is told to delete it
            raise DataError(f"store {path} cannot be read (it has no meta.json); name a folder that was prepared")

    def _open(self) -> None:
        path = self.path
        meta = parse_json((path / "meta.json").read_bytes())
        if meta["format"] != FORMAT:
            raise ValueError(f"it has format {meta['format']}, this version reads {FORMAT}")
        self.meta: dict[str, Any] = unsealed(meta)
        self.problems: dict[str, str] = dict(self.meta["problems"])
        self.checksum = str(self.meta["checksum"])
        self._file: BinaryIO = open(path / "frames.npy", "rb", buffering=0)  # noqa: SIM115  (open as long as the store)
        use(self._file)
        self.frames: np.ndarray = np.load(path / "frames.npy", mmap_mode="r")
        known = self.meta.get("crc32", {})
        small = {name: (path / name).read_bytes() for name in SMALL if name in known or name != "checks.npz"}
        wrong = [name for name, content in small.items() if zlib.crc32(content) != known.get(name, zlib.crc32(content))]
        if wrong:
            raise ValueError(f"{', '.join(wrong)} has another checksum than meta.json says")
        arrays = {name: np.load(io.BytesIO(content), allow_pickle=False) for name, content in small.items()}
        self.offsets: np.ndarray = arrays["offsets.npy"]
        self.labels: np.ndarray = arrays["labels.npy"]
        self.columns: dict[str, np.ndarray] = dict(arrays["columns.npz"])
        checks: dict[str, np.ndarray] = dict(arrays.get("checks.npz", {}))
        self._check_arrays(arrays["ids.npy"])
        self.ids: list[str] = arrays["ids.npy"].tolist()
        self.largest = checks.get("largest", np.zeros(len(self.ids), np.float32))
        self._crc32 = checks.get("crc32")
        self._checked = np.full(len(self.ids), self._crc32 is None)

    def _check_arrays(self, ids: np.ndarray) -> None:
        """ValueError where the arrays contradict each other."""
        number, frames, offsets, labels = len(ids), self.frames, self.offsets, self.labels
        for wrong, what in (
            (frames.ndim != 4 or frames.dtype not in (np.float16, np.float32) or not frames.size, "frames.npy"),
            (not frames.flags.c_contiguous, "frames.npy"),
            (ids.ndim != 1 or ids.dtype.kind != "U" or len(set(ids.tolist())) != number, "ids.npy"),
            (offsets.shape != (number + 1,) or offsets.dtype != np.int64, "offsets.npy"),
            (labels.shape != (number,) or labels.dtype != np.int64, "labels.npy"),
            *((column.shape != (number,), f"columns.npz ({name})") for name, column in self.columns.items()),
        ):
            if wrong:
                raise ValueError(f"{what} holds something else than a store of {number} sequences has")
        if offsets[0] != 0 or (np.diff(offsets) < 0).any() or offsets[-1] != len(frames):
            raise ValueError(f"offsets.npy does not divide the {len(frames)} frames")
        if ((labels < 0) | (labels >= MAX_CLASSES)).any():
            raise ValueError("labels.npy has numbers that are no classes")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dims(self) -> int:
        """Coordinates among the C channels: 2 where the store knows the sizes of images, else 3."""
        return 2 if "width" in self.columns else 3

    @cached_property
    def lengths(self) -> np.ndarray:
        """(n,) frames of each sequence."""
        return np.diff(self.offsets)

    def sequence(self, number: int) -> np.ndarray:
        """(L, M, V, C) frames of one sequence; DataError where they are damaged."""
        self._check(np.array([number]))
        return self.frames[self.offsets[number] : self.offsets[number + 1]]

    def pieces(self, rows: np.ndarray, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Reads frames (N, T), counted from the first of each of the sequences ``rows`` (N,).

        Each sequence is read from its file in one piece, which costs less than the page faults of a memory map.

        Returns:
            an array (P, M, V, C) that holds these frames, and their places (N, T) in it.

        Raises:
            DataError: the file is cut off or damaged.
        """
        self._check(rows)
        places = self.offsets[rows][:, None] + frames
        if not isinstance(self.frames, np.memmap):
            return self.frames, places
        if not hasattr(os, "preadv"):
            return self.frames[places.ravel()], np.arange(places.size).reshape(places.shape)
        low, high = frames.min(axis=1), frames.max(axis=1) + 1
        starts = np.concatenate([[0], np.cumsum(high - low)])
        pieces = np.empty((starts[-1], *self.frames.shape[1:]), self.frames.dtype)
        content, size = pieces.data.cast("B"), pieces[:1].nbytes
        positions = self.frames.offset + (self.offsets[rows] + low) * size
        for position, begin, end in zip(positions.tolist(), starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            self._read(content[begin * size : end * size], position)
        return pieces, (starts[:-1] - low)[:, None] + frames

    def _read(self, target: memoryview, position: int) -> None:
        if os.preadv(self._file.fileno(), [target], position) < len(target):
            raise DataError(f"{self.path / 'frames.npy'} is cut off; {REPAIR}")

    def _check(self, rows: np.ndarray) -> None:
        """Compares the sequences ``rows`` that were not read before with their checksums."""
        for row in np.unique(rows[~self._checked[rows]]).tolist():
            first, last = self.offsets[row : row + 2].tolist()
            if isinstance(self.frames, np.memmap) and hasattr(os, "preadv"):
                size = self.frames[:1].nbytes
                content = memoryview(bytearray((last - first) * size))
                self._read(content, self.frames.offset + first * size)
            else:
                content = self.frames[first:last].data
            if self._crc32 is not None and zlib.crc32(content) != self._crc32[row]:
                name = self.path / "frames.npy"
                raise DataError(f"sample {self.ids[row]}: its frames in {name} are damaged (wrong checksum); {REPAIR}")
            self._checked[row] = True

    def check(self) -> None:
        """Compares all sequences with their checksums; DataError where one is damaged."""
        self._check(np.arange(len(self)))

    def in_memory(self) -> SkeletonStore:
        """The same store with all its frames read into memory."""
        self.check()
        store = copy.copy(self)
        store.frames = np.array(self.frames)
        return store

    def renamed(self, ids: list[str]) -> SkeletonStore:
        """The same store with n other ids."""
        store = copy.copy(self)
        store.ids = ids
        new = dict(zip(self.ids, ids, strict=True))
        store.problems = {new[old]: problem for old, problem in self.problems.items()}
        return store

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> SkeletonStore:
        """A store in memory: one sequence or more, different ids, frames of one shape (M, V, C), the same columns."""
        store = cls.__new__(cls)
        store.path, store.meta, store.checksum = Path("memory"), {}, ""
        store.problems = {sample.id: problem for sample in samples if (problem := problem_of(sample))}
        frames = [sample.frames[: 0 if sample.id in store.problems else None] for sample in samples]
        store.frames = np.concatenate([one for one in frames if len(one)] or [np.zeros((0, 0, 0, 0), np.float32)])
        store.offsets = np.cumsum([0, *map(len, frames)], dtype=np.int64)
        store.ids, store.labels = [sample.id for sample in samples], np.array([sample.label for sample in samples])
        store.columns = {name: np.array([sample.columns[name] for sample in samples]) for name in samples[0].columns}
        store.largest = np.array([np.abs(one).max(initial=0) for one in frames], np.float32)
        store._crc32, store._checked = None, np.ones(len(samples), bool)
        return store

    @classmethod
    def find(cls, folders: Sequence[Path], name: str, fingerprint: str) -> SkeletonStore | None:
        """The store ``name`` of this fingerprint, if one of the folders has it.

        Raises:
            DataError: in its place lies something else, such as another store.
        """
        for path in (folder / f"{name}.store-{fingerprint}" for folder in folders):
            if not os.path.lexists(path):
                continue
            if not (path / "meta.json").is_file():
                raise DataError(f"{path} is no store (it has no meta.json); {OUT_OF_THE_WAY}")
            store = cls(path)
            named, of = store.meta.get("name"), store.meta.get("source", fingerprint)  # older versions wrote no source
            if (named, of) != (name, fingerprint):
                raise DataError(f"{path} is the store {named}.store-{of} under another name; {OUT_OF_THE_WAY}")
            return store
        return None

    @classmethod
    def build(
        cls,
        folders: Sequence[Path],
        name: str,
        fingerprint: str,
        read: Callable[[], Iterable[Sample]],
        source: Path | None = None,
        **meta: Any,
    ) -> SkeletonStore:
        """Opens the store ``name`` of this fingerprint, or packs it in the first folder that can be written.

        What killed processes left of unfinished stores of this name is removed. While another process packs it, this
        one waits, where the file system has locks.

        Args:
            fingerprint: of the source.
            read: yields the sequences, in order; only called where there is no store yet.
            source: file or folder of the sequences. Stores of this name that were made of it when it was another are
                removed, unless a process uses them.
            meta: more entries of ``meta.json``.

        Raises:
            DataError: no folder can be written, something else lies in the store's place, or there are no sequences.
            WriteError: the disk is full.
        """
        found = cls.find(folders, name, fingerprint)
        if found is not None:
            tidy(_lock_file(found.path.parent, name))
            return found
        folder = _writable(folders)
        with alone(_lock_file(folder, name), f"waiting for another process, which packs {name} into {folder}"):
            return cls.find(folders, name, fingerprint) or cls._pack(folder, name, fingerprint, read, source, **meta)

    @classmethod
    def _pack(
        cls,
        folder: Path,
        name: str,
        fingerprint: str,
        read: Callable[[], Iterable[Sample]],
        source: Path | None,
        **meta: Any,
    ) -> SkeletonStore:
        final = folder / f"{name}.store-{fingerprint}"
        log.info("packing %s into %s", name, final)
        for left in folder.glob(f".{glob.escape(name)}.*"):
            if _is_left(left):
                shutil.rmtree(left, ignore_errors=True)
        with writing(final):
            beside = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=folder))
        place = None if source is None else hashlib.blake2b(str(source.resolve()).encode(), digest_size=8).hexdigest()
        try:
            with StoreWriter(beside) as writer:
                for sample in read():
                    writer.add(sample)
                writer.close(name, place=place, source=fingerprint, **meta)
                beside.chmod(folder.stat().st_mode & 0o777)  # who may use the folder may use the store
                _rename(beside, final)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        for old in folder.glob(f"{glob.escape(name)}.store-*"):
            if old != final and place is not None and _place(old) == place and is_abandoned(old / "frames.npy"):
                shutil.rmtree(old, ignore_errors=True)
        return cls(final)


def _lock_file(folder: Path, name: str) -> Path:
    """Whoever packs the store ``name`` in a folder holds its lock."""
    return folder / f".{name}.packing"


def _rename(beside: Path, final: Path) -> None:
    """Without locks another process may be quicker; its store is the same."""
    try:
        with writing(final):
            beside.rename(final)
    except WriteError:
        if not (final / "meta.json").is_file():
            raise


def _is_left(folder: Path) -> bool:
    """Is it an unfinished store that a killed process left? One without a file may have been made just now."""
    try:
        if any(folder.iterdir()):
            return is_abandoned(folder / "frames.npy")
        return time.time() - folder.stat().st_mtime > JUST_NOW
    except OSError:  # no folder, or another user's
        return False


def _place(store: Path) -> str | None:
    """A word for the place of a store's source."""
    try:
        return parse_json((store / "meta.json").read_bytes())["place"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def fingerprint_files(files: Iterable[Path], *options: object) -> str:
    """A word that changes with the name, size or time of change of a file, or an option of the reader."""
    digest = hashlib.blake2b(repr((FORMAT, options)).encode(), digest_size=8)
    for file in files:
        status = file.stat()
        digest.update(f"{file.name}/{status.st_size}/{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def cache_folders(source: Path | None, cache_dir: str | None) -> list[Path]:
    """Where a store may lie: in the folder that the user named; else beside the source or in work_dir/cache."""
    if cache_dir is not None:
        return [Path(cache_dir)]
    return ([source.parent] if source is not None else []) + [Path("work_dir") / "cache"]


def _writable(folders: Sequence[Path]) -> Path:
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    raise DataError(f"none of {', '.join(map(str, folders))} can be written; name a folder with cache_dir")
