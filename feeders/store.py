"""SkeletonStore: variable-length sequences packed end to end in memory-mapped ``.npy`` files.

A store is a folder of ``frames.npy`` (F, M, V, C) float32, ``offsets.npy`` (n + 1,), ``labels.npy`` (n,), ``ids.npy``
(n,) and ``meta.json``. It is written into a folder of its own beside the final one and renamed, and its name ends
in a fingerprint of its source, so that a changed source gives a new store and a crash leaves the old one whole.

Shapes: F frames of all sequences, L frames of one, M people, V joints, C coordinates.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

log = logging.getLogger(__name__)
FORMAT = 1


class DataError(ValueError):
    """Data that a user can mend: the message names the file or sample and says what to do."""


@dataclass(frozen=True)
class Sample:
    """One sequence as a reader delivers it: frames (L, M, V, C), or an empty array and what is wrong with it."""

    id: str
    label: int
    frames: np.ndarray
    problem: str = ""


class SkeletonStore:
    """Sequences of one data set, opened from a folder; frames stay on disk until they are asked for.

    Attributes:
        frames: (F, M, V, C) float32, memory-mapped, read-only.
        offsets: (n + 1,) int64; sequence i is ``frames[offsets[i]:offsets[i + 1]]``.
        labels: (n,) int64.
        ids: n names.
        problems: id -> what is wrong with it, for sequences that cannot be used.
        checksum: of the packed frames, ids and labels.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            meta = json.loads((path / "meta.json").read_text())
            self.frames: np.ndarray = np.load(path / "frames.npy", mmap_mode="r")
            self.offsets: np.ndarray = np.load(path / "offsets.npy")
            self.labels: np.ndarray = np.load(path / "labels.npy")
            self.ids: list[str] = np.load(path / "ids.npy").tolist()
            self.problems: dict[str, str] = meta["problems"]
            self.checksum: str = meta["checksum"]
        except (OSError, EOFError, ValueError, KeyError) as error:
            raise DataError(f"store {path} cannot be read ({error}); delete the folder and it is built anew") from error

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> np.ndarray:
        """(n,) frames of each sequence."""
        return np.diff(self.offsets)

    def sequence(self, number: int) -> np.ndarray:
        """(L, M, V, C) frames of one sequence."""
        return self.frames[self.offsets[number] : self.offsets[number + 1]]

    @classmethod
    def build(
        cls,
        folders: Sequence[Path],
        name: str,
        fingerprint: str,
        read: Callable[[], Iterable[Sample]],
    ) -> SkeletonStore:
        """Opens the store ``name`` of this fingerprint, or packs it in the first folder that can be written.

        Args:
            folders: where it may lie, in order of preference.
            name: of the data set.
            fingerprint: of the source; another one means another store, and older ones are removed.
            read: yields the sequences, in order; only called where there is no store yet.

        Raises:
            DataError: no folder can be written, or there are no sequences.
        """
        final_name = f"{name}.store-{fingerprint}"
        for folder in folders:
            if (folder / final_name / "meta.json").is_file():
                return cls(folder / final_name)
        folder = _writable(folders)
        log.info("packing %s into %s", name, folder / final_name)
        beside = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=folder))
        try:
            _pack(beside, name, read())
            beside.chmod(folder.stat().st_mode & 0o777)  # whoever may use the folder may use the store
            with contextlib.suppress(OSError):  # another process was quicker: its store is as good
                beside.rename(folder / final_name)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        for old in folder.glob(f"{name}.store-*"):
            if old.name != final_name:
                shutil.rmtree(old, ignore_errors=True)
        return cls(folder / final_name)


def fingerprint_files(files: Iterable[Path], *options: object) -> str:
    """Changes when a file's name, size or time of change does, or an option of the reader."""
    digest = hashlib.blake2b(repr((FORMAT, options)).encode(), digest_size=8)
    for file in files:
        status = file.stat()
        digest.update(f"{file.name}/{status.st_size}/{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def cache_folders(source: Path | None, cache_dir: str | None) -> list[Path]:
    """Where a store may lie: the folder that the user named, else beside the source, else under work_dir/cache."""
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


def _pack(folder: Path, name: str, sequences: Iterable[Sample]) -> None:
    """Streams the sequences into the files of a store; one sequence is in memory at a time."""
    ids, labels, lengths, problems = [], [], [], {}
    digest = hashlib.blake2b(digest_size=16)
    shape: tuple[int, ...] = ()
    with open(folder / "frames.npy", "wb") as file:
        for sequence in sequences:
            problem = sequence.problem
            if not problem and len(sequence.frames) == 0:
                problem = "has 0 frames"
            if not problem and not np.isfinite(sequence.frames).all():
                problem = "has NaN or infinite coordinates"
            if problem:
                problems[sequence.id] = problem
            frames = np.ascontiguousarray(sequence.frames[: 0 if problem else None], dtype=np.float32)
            if not problem and not shape:
                shape = frames.shape[1:]
                _write_header(file, (0, *shape))
            ids.append(sequence.id)
            labels.append(sequence.label)
            lengths.append(len(frames))
            digest.update(f"{sequence.id}/{sequence.label}/{len(frames)}\n".encode())
            if len(frames):
                if frames.shape[1:] != shape:
                    raise DataError(f"{sequence.id}: frames of shape {frames.shape[1:]}, the others have {shape}")
                digest.update(frames.data)
                file.write(frames.data)
        if not shape:
            some = "; ".join(f"{sample} {problem}" for sample, problem in list(problems.items())[:5])
            raise DataError(f"{name}: no usable sequence among {len(ids)}" + (f" ({some})" if some else ""))
        end = file.tell()
        file.seek(0)
        _write_header(file, (sum(lengths), *shape))
        file.seek(end)
    np.save(folder / "offsets.npy", np.cumsum([0, *lengths], dtype=np.int64))
    np.save(folder / "labels.npy", np.asarray(labels, dtype=np.int64))
    np.save(folder / "ids.npy", np.asarray(ids))
    meta = {"format": FORMAT, "name": name, "checksum": digest.hexdigest(), "problems": problems}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1))


def _write_header(file, shape: tuple[int, ...]) -> None:
    """The header of a float32 array; numpy leaves room in it for the first dimension to grow."""
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
