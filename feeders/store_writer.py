"""StoreWriter: sequences -> the files of a store, see feeders.store. A killed process leaves what the next continues.

Shapes: n sequences, F frames of all sequences, L frames of one, M people, V joints, C coordinates.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np

from .files import SEAL, parse_json, sealed, unsealed, write_atomically, writing
from .locks import Lock, OthersLockError, try_lock

log = logging.getLogger(__name__)
FORMAT = 2
MAX_CLASSES = 100_000
SMALL = ("offsets.npy", "labels.npy", "ids.npy", "columns.npz", "checks.npz")  # files whose CRC-32 is in meta.json
ENTRY = {"id", "label", "length", "problem", "columns", "dtype", "shape", "crc32"}  # of a line of the journal


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


def problem_of(sample: Sample) -> str:
    """Why a sequence cannot be used, or ``""``."""
    if sample.problem or len(sample.frames) == 0:
        return sample.problem or "has 0 frames"
    return "" if np.isfinite(sample.frames).all() else "has NaN or infinite coordinates"


class StoreWriter:
    """Appends sequences to an unfinished store; one that a killed process left is continued.

    Each sequence's frames are appended to ``frames.npy``, then a line about it to ``journal.jsonl``, with checksums of
    both. From the first sequence on that is not as it was written, all is cut off. The folder is a store once
    :meth:`close` has written ``meta.json``.

    Attributes:
        entries: the lines of the journal, one dict a sequence: id, label, length L, problem, columns, dtype and shape
            (M, V, C) of the store so far, CRC-32 of its frames.

    Raises:
        DataError: another process is writing this store.
        WriteError: the disk is full or cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries: list[dict[str, Any]] = []
        self.shape: tuple[int, ...] = ()
        self.dtype: np.dtype[Any] = np.dtype(np.float32)
        self.files, frames = contextlib.ExitStack(), folder / "frames.npy"
        self._lock = _lock(frames)
        with writing(frames):
            self.file: BinaryIO = self.files.enter_context(frames.open("r+b" if frames.is_file() else "w+b"))
            self.journal: BinaryIO = self.files.enter_context((folder / "journal.jsonl").open("a+b"))
            self._go_on()

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # what could not be written was reported when it was added
            self.files.close()
        if self._lock is not None:
            self._lock.release()

    def _go_on(self) -> None:
        """Keeps what is whole of an earlier run, and cuts off the rest, which is made again."""
        self.journal.seek(0)
        whole = start = 0
        for line in self.journal:
            entry = _entry(line)
            if entry is None or not self._has_frames(entry):
                if line.endswith(b"\n"):
                    log.warning(
                        "%s: what it holds of sequence %d is damaged, or of an older version; this one and all after "
                        "it are made again", self.folder, len(self.entries) + 1,
                    )  # fmt: skip
                break
            self.entries.append(entry)
            whole += len(line)
            start = self.file.tell()
        if not start:
            self.shape = ()
        self.file.seek(start)
        self.file.truncate()
        self.journal.truncate(whole)

    def _has_frames(self, entry: dict[str, Any]) -> bool:
        """Are the frames of the next entry those that were written? Reads on in the file."""
        if entry["shape"] and not self.shape:
            self._begin(tuple(entry["shape"]), np.dtype(entry["dtype"]))
        return zlib.crc32(self.file.read(entry["length"] * self._frame_bytes)) == entry["crc32"]

    def _begin(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Writes the header: the shape (M, V, C) and type of all frames are known."""
        self.shape, self.dtype = shape, dtype
        with writing(self.folder / "frames.npy"):
            write_header(self.file, dtype, (0, *shape))

    @property
    def _frame_bytes(self) -> int:
        return self.dtype.itemsize * int(np.prod(self.shape))

    def add(self, sample: Sample) -> None:
        """Appends one sequence. All are stored in half precision where the first usable one is.

        Raises:
            DataError: its frames have another shape than those of earlier sequences, its label is no class, or its id
                no text.
            WriteError: the disk is full or cannot be written.
        """
        if not 0 <= sample.label < MAX_CLASSES:
            raise DataError(
                f"{sample.id} has label {sample.label}; labels count the classes from 0, below {MAX_CLASSES}"
            )
        if sample.id.encode(errors="replace").decode() != sample.id:
            raise DataError(f"{sample.id!r} is no text that a file can hold (it is not UTF-8); rename this sequence")
        problem = problem_of(sample)
        half = self.dtype == np.float16 if self.shape else sample.frames.dtype == np.float16
        dtype = np.dtype(np.float16 if half else np.float32)
        with np.errstate(over="ignore"):  # what is too large becomes infinite
            frames = np.ascontiguousarray(sample.frames[: 0 if problem else None], dtype=dtype)
        if not np.isfinite(frames).all():
            problem = f"has coordinates too large for {dtype}, in which this store holds them"
            frames = frames[:0]
        if len(frames) and not self.shape:
            self._begin(frames.shape[1:], dtype)
        if len(frames) and frames.shape[1:] != self.shape:
            raise DataError(f"{sample.id}: frames of shape {frames.shape[1:]}, the others have {self.shape}")
        entry = {"id": sample.id, "label": int(sample.label), "length": len(frames), "problem": problem}
        entry["columns"] = {name: int(value) for name, value in sample.columns.items()}
        content = frames.data if len(frames) else b""
        entry |= {"dtype": self.dtype.str, "shape": list(self.shape), "crc32": zlib.crc32(content)}
        self.entries.append(entry)
        with writing(self.folder / "frames.npy", frames.nbytes):
            self.file.write(content)
            self.file.flush()
            self.journal.write(json.dumps(sealed(entry)).encode() + b"\n")
            self.journal.flush()

    def close(self, name: str, drop_problems: bool = False, **meta: Any) -> None:
        """Makes the folder a store; ``meta`` are more entries of ``meta.json``.

        Args:
            drop_problems: leave out sequences that cannot be used, instead of naming them in the store.

        Raises:
            DataError: no sequence can be used.
            WriteError: the disk is full or cannot be written.
        """
        problems = {entry["id"]: entry["problem"] for entry in self.entries if entry["problem"]}
        if not self.shape:
            some = "; ".join(f"{sample} {problem}" for sample, problem in list(problems.items())[:5])
            raise DataError(f"{name}: no usable sequence among {len(self.entries)}" + (f" ({some})" if some else ""))
        again = [sample for sample, number in Counter(entry["id"] for entry in self.entries).items() if number > 1]
        if again:
            raise DataError(
                f"{name}: {len(again)} names occur more than once: {', '.join(again[:5])}; rename or remove"
            )
        entries = [entry for entry in self.entries if not (drop_problems and entry["problem"])]
        lengths = [entry["length"] for entry in entries]
        with writing(self.folder):
            self.file.seek(0)
            write_header(self.file, self.dtype, (sum(lengths), *self.shape))
            self.file.flush()
            os.fsync(self.file.fileno())
            checksum, checks = self._checksums(entries)
            np.save(self.folder / "offsets.npy", np.cumsum([0, *lengths], dtype=np.int64))
            np.save(self.folder / "labels.npy", np.array([entry["label"] for entry in entries], dtype=np.int64))
            np.save(self.folder / "ids.npy", np.array([entry["id"] for entry in entries]))
            rows = [entry["columns"] for entry in entries]
            columns: dict[str, Any] = {key: np.array([row[key] for row in rows], dtype=np.int64) for key in rows[0]}
            np.savez(self.folder / "columns.npz", **columns)
            np.savez(self.folder / "checks.npz", **checks)  # type: ignore[arg-type]
            crc32 = {name: zlib.crc32((self.folder / name).read_bytes()) for name in SMALL}
            values = {"format": FORMAT, "name": name, "checksum": checksum, "crc32": crc32, **meta}
            values["problems"] = {} if drop_problems else problems
            write_atomically(self.folder / "meta.json", json.dumps(sealed(values), indent=1).encode())
            self.files.close()
            (self.folder / "journal.jsonl").unlink()

    def _checksums(self, entries: list[dict[str, Any]]) -> tuple[str, dict[str, np.ndarray]]:
        """Of the whole store, and for each sequence CRC-32 and largest absolute value; the file stands at the first."""
        digest = hashlib.blake2b(digest_size=16)
        crc32, largest = np.zeros(len(entries), np.uint32), np.zeros(len(entries), np.float32)
        for row, entry in enumerate(entries):  # in the order of the frames
            known = "".join(f"/{key}={value}" for key, value in sorted(entry["columns"].items()))
            digest.update(f"{entry['id']}/{entry['label']}/{entry['length']}{known}\n".encode())
            content = self.file.read(entry["length"] * self._frame_bytes)
            digest.update(content)
            crc32[row] = zlib.crc32(content)
            largest[row] = np.abs(np.frombuffer(content, self.dtype)).max(initial=0)
        return digest.hexdigest(), {"crc32": crc32, "largest": largest}


def _entry(line: bytes) -> dict[str, Any] | None:
    """What a line of the journal says of a sequence; None where it is cut off, changed, or has no checksum."""
    try:
        values = parse_json(line)
        entry = unsealed(values)
    except ValueError:
        return None
    return entry if line.endswith(b"\n") and SEAL in values and entry.keys() == ENTRY else None


def _lock(file: Path) -> Lock | None:
    try:
        lock = try_lock(file)
    except OthersLockError:
        raise
    except OSError:  # no locks here, or no permission to write, which is reported soon
        return None
    if lock is None:
        raise DataError(f"another process is writing {file.parent}; wait for it")
    return lock


def write_header(file: IO[bytes], dtype: np.dtype, shape: tuple[int, ...]) -> None:
    """The header of an array; numpy leaves room in it for the first dimension to grow."""
    np.lib.format.write_array_header_1_0(file, {"descr": dtype.str, "fortran_order": False, "shape": shape})
