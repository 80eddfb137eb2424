"""SkeletonStore: variable-length sequences packed end to end in memory-mapped ``.npy`` files.

A store is a folder of ``frames.npy`` (F, M, V, C) float32 or float16, ``offsets.npy`` (n + 1,), ``labels.npy`` (n,),
``ids.npy`` (n,), ``columns.npz`` (what else is known of each sequence, such as its subject) and ``meta.json``. It is
written to another folder beside the final one and renamed, so that a crash leaves the old store whole. Its name or
``meta.json`` holds a fingerprint of its source, so that a changed source gives a new store.

Shapes: n sequences, F frames of all sequences, L frames of one, M people, V joints, C coordinates.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import itertools
import json
import logging
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np

from .files import write_atomically

log = logging.getLogger(__name__)
FORMAT = 2


class DataError(ValueError):
    """An error in the data that the user can fix: the message names the file or sample and says what to do."""


@dataclass(frozen=True)
class Sample:
    """One sequence as a reader delivers it: frames (L, M, V, C), or none and the ``problem`` with it.

    ``columns`` are other whole numbers that are known of it; all sequences of a store have the same columns.
    """

    id: str
    label: int
    frames: np.ndarray = field(default_factory=lambda: np.zeros(0))
    problem: str = ""
    columns: Mapping[str, int] = field(default_factory=dict)


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

    Raises:
        DataError: the folder is no store, is damaged, or has another format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.meta: dict[str, Any] = json.loads((path / "meta.json").read_text())
            if self.meta["format"] != FORMAT:
                raise ValueError(f"it has format {self.meta['format']}, this version reads {FORMAT}")
            self.frames: np.ndarray = np.load(path / "frames.npy", mmap_mode="r")
            self.offsets: np.ndarray = np.load(path / "offsets.npy")
            self.labels: np.ndarray = np.load(path / "labels.npy")
            self.ids: list[str] = np.load(path / "ids.npy").tolist()
            with np.load(path / "columns.npz") as columns:
                self.columns: dict[str, np.ndarray] = dict(columns)
            self.problems: dict[str, str] = self.meta["problems"]
            self.checksum: str = self.meta["checksum"]
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DataError(
                f"store {path} cannot be read ({error}); delete the folder, and it is built again"
            ) from error

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def lengths(self) -> np.ndarray:
        """(n,) frames of each sequence."""
        return np.diff(self.offsets)

    def sequence(self, number: int) -> np.ndarray:
        """(L, M, V, C) frames of one sequence."""
        return self.frames[self.offsets[number] : self.offsets[number + 1]]

    def pieces(self, rows: np.ndarray, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Reads frames (N, T), counted from the first of each of the sequences ``rows`` (N,).

        Each sequence is read from its file in one piece, which costs less than the page faults of a memory map.

        Returns:
            an array (P, M, V, C) that holds these frames, and their places (N, T) in it.

        Raises:
            DataError: the file is cut off.
        """
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
            if os.preadv(self._file.fileno(), [content[begin * size : end * size]], position) < (end - begin) * size:
                raise DataError(f"{self.path / 'frames.npy'} is cut off; delete the folder {self.path}")
        return pieces, (starts[:-1] - low)[:, None] + frames

    @cached_property
    def _file(self) -> BinaryIO:
        return open(self.path / "frames.npy", "rb", buffering=0)

    def in_memory(self) -> SkeletonStore:
        """The same store with all its frames read into memory."""
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
    def find(cls, folders: Sequence[Path], name: str, fingerprint: str) -> SkeletonStore | None:
        """The store ``name`` of this fingerprint, if one of the folders has it."""
        paths = (folder / f"{name}.store-{fingerprint}" for folder in folders)
        return next((cls(path) for path in paths if (path / "meta.json").is_file()), None)

    @classmethod
    def build(
        cls, folders: Sequence[Path], name: str, fingerprint: str, read: Callable[[], Iterable[Sample]], **meta: Any
    ) -> SkeletonStore:
        """Opens the store ``name`` of this fingerprint, or packs it in the first folder that can be written.

        Args:
            fingerprint: of the source; stores of this name with another one are removed.
            read: yields the sequences, in order; only called where there is no store yet.
            meta: more entries of ``meta.json``.

        Raises:
            DataError: no folder can be written, or there are no sequences.
        """
        found = cls.find(folders, name, fingerprint)
        if found is not None:
            return found
        folder = _writable(folders)
        final = folder / f"{name}.store-{fingerprint}"
        log.info("packing %s into %s", name, final)
        beside = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=folder))
        try:
            with StoreWriter(beside) as writer:
                for sample in read():
                    writer.add(sample)
                writer.close(name=name, **meta)
            beside.chmod(folder.stat().st_mode & 0o777)  # who may use the folder may use the store
            with contextlib.suppress(OSError):  # another process was quicker; its store is the same
                beside.rename(final)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        for old in folder.glob(f"{name}.store-*"):
            if old != final:
                shutil.rmtree(old, ignore_errors=True)
        return cls(final)


class StoreWriter:
    """Appends sequences to an unfinished store; one that a killed process left is continued.

    Each sequence's frames are appended to ``frames.npy``, then a line about it to ``journal.jsonl``. What lies after
    the last whole line is cut off. The folder is a store once :meth:`close` has written ``meta.json``.

    Attributes:
        entries: the lines of the journal, one dict a sequence: id, label, length, problem, columns.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries: list[dict[str, Any]] = []
        self.shape: tuple[int, ...] = ()
        self.dtype: np.dtype[Any] = np.dtype(np.float32)
        self.files, frames = contextlib.ExitStack(), folder / "frames.npy"
        self.file: BinaryIO = self.files.enter_context(frames.open("r+b" if frames.is_file() else "w+b"))
        self.journal: BinaryIO = self.files.enter_context((folder / "journal.jsonl").open("a+b"))
        self._go_on()

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.files.close()

    def _go_on(self) -> None:
        """Reads what is whole of an earlier run, and cuts off the rest."""
        self.journal.seek(0)
        whole = 0
        with contextlib.suppress(ValueError):
            for line in itertools.takewhile(lambda line: line.endswith(b"\n"), self.journal):
                self.entries.append(json.loads(line))
                whole += len(line)
        start, known = 0, sum(entry["length"] for entry in self.entries)
        if known:
            with contextlib.suppress(ValueError):
                np.lib.format.read_magic(self.file)
                shape, _, self.dtype = np.lib.format.read_array_header_1_0(self.file)
                self.shape = shape[1:]
                start = self.file.tell() + known * self._frame_bytes
            if not self.shape or start > self.file.seek(0, os.SEEK_END):  # frames of the journal, lost in a power cut
                log.warning("%s is damaged; starting again", self.folder)
                self.entries, self.shape, start, whole = [], (), 0, 0
        self.file.seek(start)
        self.file.truncate()
        self.journal.truncate(whole)

    @property
    def _frame_bytes(self) -> int:
        return self.dtype.itemsize * int(np.prod(self.shape))

    def add(self, sample: Sample) -> None:
        """Appends one sequence. All are stored in half precision where the first usable one is.

        Raises:
            DataError: its frames have another shape than those of earlier sequences.
        """
        problem = sample.problem or ("has 0 frames" if len(sample.frames) == 0 else "")
        if not problem and not np.isfinite(sample.frames).all():
            problem = "has NaN or infinite coordinates"
        if not problem and not self.shape:
            self.shape = sample.frames.shape[1:]
            self.dtype = np.dtype(np.float16 if sample.frames.dtype == np.float16 else np.float32)
            write_header(self.file, self.dtype, (0, *self.shape))
        frames = np.ascontiguousarray(sample.frames[: 0 if problem else None], dtype=self.dtype)
        if len(frames):
            if frames.shape[1:] != self.shape:
                raise DataError(f"{sample.id}: frames of shape {frames.shape[1:]}, the others have {self.shape}")
            self.file.write(frames.data)
            self.file.flush()
        entry = {"id": sample.id, "label": int(sample.label), "length": len(frames), "problem": problem}
        entry["columns"] = {name: int(value) for name, value in sample.columns.items()}
        self.entries.append(entry)
        self.journal.write(json.dumps(entry).encode() + b"\n")
        self.journal.flush()

    def close(self, name: str, drop_problems: bool = False, **meta: Any) -> None:
        """Makes the folder a store; ``meta`` are more entries of ``meta.json``.

        Args:
            drop_problems: leave out sequences that cannot be used, instead of naming them in the store.

        Raises:
            DataError: no sequence can be used.
        """
        problems = {entry["id"]: entry["problem"] for entry in self.entries if entry["problem"]}
        if not self.shape:
            some = "; ".join(f"{sample} {problem}" for sample, problem in list(problems.items())[:5])
            raise DataError(f"{name}: no usable sequence among {len(self.entries)}" + (f" ({some})" if some else ""))
        entries = [entry for entry in self.entries if not (drop_problems and entry["problem"])]
        lengths = [entry["length"] for entry in entries]
        self.file.seek(0)
        write_header(self.file, self.dtype, (sum(lengths), *self.shape))
        self.file.flush()
        os.fsync(self.file.fileno())
        digest = hashlib.blake2b(digest_size=16)
        for entry in entries:  # in the order of the frames; the file stands at the first one
            known = "".join(f"/{key}={value}" for key, value in sorted(entry["columns"].items()))
            digest.update(f"{entry['id']}/{entry['label']}/{entry['length']}{known}\n".encode())
            digest.update(self.file.read(entry["length"] * self._frame_bytes))
        np.save(self.folder / "offsets.npy", np.cumsum([0, *lengths], dtype=np.int64))
        np.save(self.folder / "labels.npy", np.array([entry["label"] for entry in entries], dtype=np.int64))
        np.save(self.folder / "ids.npy", np.array([entry["id"] for entry in entries]))
        rows = [entry["columns"] for entry in entries]
        columns: dict[str, Any] = {key: np.array([row[key] for row in rows], dtype=np.int64) for key in rows[0]}
        np.savez(self.folder / "columns.npz", **columns)
        values = {"format": FORMAT, "name": name, "checksum": digest.hexdigest(), **meta}
        values["problems"] = {} if drop_problems else problems
        write_atomically(self.folder / "meta.json", json.dumps(values, indent=1).encode())
        (self.folder / "journal.jsonl").unlink()


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


def write_header(file: IO[bytes], dtype: np.dtype, shape: tuple[int, ...]) -> None:
    """The header of an array; numpy leaves room in it for the first dimension to grow."""
    np.lib.format.write_array_header_1_0(file, {"descr": dtype.str, "fortran_order": False, "shape": shape})
