"""Files: whole at any moment when they are written, and named in the message when something is wrong with them.

A file is written beside its place, forced to the disk and renamed.
"""

from __future__ import annotations

import errno
import glob
import io
import json
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from difflib import get_close_matches
from pathlib import Path, PurePath
from typing import Any

from .locks import held, is_abandoned

FULL = {errno.ENOSPC, errno.EDQUOT}
SEAL = "crc32_of_the_rest"  # the last key of a JSON file or line that carries a checksum
UNFINISHED = ".unfinished"  # ending of a file that takes the place of another one when it is whole
REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}


class WriteError(ValueError):
    """A file that cannot be written: the message names it. What was there before is as it was."""


@contextmanager
def writing(path: Path, size: int = 0) -> Iterator[None]:
    """Turns what goes wrong in the block into a message that names the file.

    Args:
        size: bytes that are to be written, where that is known.

    Raises:
        WriteError: the disk is full or cannot be written.
    """
    try:
        yield
    except OSError as error:
        reason, advice = error.strerror or error, "Put that right and run the same command again"
        if error.errno in FULL:
            reason = f"{reason}: {f'{size:,} bytes are needed and ' if size else ''}{_free(path):,} are free"
            advice = "Free some space and run the same command again: it continues from there"
        elif error.errno in REFUSED:
            advice = "Allow this user to write there, or choose another folder"
        raise WriteError(f"{path} could not be written ({reason}); what was there is unharmed. {advice}") from error


def _free(path: Path) -> int:
    """Bytes that are free on a file's disk."""
    try:
        return shutil.disk_usage(next(place for place in (path, *path.parents) if place.exists())).free
    except OSError:
        return 0


@contextmanager
def replacing(path: Path, size: int = 0) -> Iterator[Path]:
    """A path to write to. When the block ends without an error, that file takes the place of ``path``.

    The folder is created where it is missing. A crash at any moment leaves the previous file; what it leaves beside it
    is removed the next time. A link stays one: the file that it leads to is replaced.

    Raises:
        WriteError: the disk is full or cannot be written, or something that is no file is there, such as /dev/null.
    """
    path = path.resolve() if path.is_symlink() else path
    if path.exists() and not path.is_file() and not path.is_dir():
        raise WriteError(f"{path} is no plain file but a device, a pipe or a socket, which stays as it is; name a file")
    beside = path.with_name(f".{path.name}.{os.getpid()}{UNFINISHED}")
    with writing(path, size):
        path.parent.mkdir(parents=True, exist_ok=True)
        for other in path.parent.glob(f".{glob.escape(path.name)}.*{UNFINISHED}"):
            if is_abandoned(other):
                other.unlink(missing_ok=True)
        with held(beside):
            try:
                yield beside
                with open(beside, "r+b") as file:
                    os.fsync(file.fileno())
                os.replace(beside, path)
            finally:
                beside.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes | memoryview | io.BytesIO) -> None:
    """Writes a whole file, see :func:`replacing`."""
    # a buffer is released if writing fails, too: Python 3.12.1 may crash of one that is not
    buffer = content.getbuffer() if isinstance(content, io.BytesIO) else nullcontext(content)
    with buffer as view, replacing(path, len(view)) as beside:
        beside.write_bytes(view)


def append(path: Path, text: str) -> None:
    """Adds text at the end of a file; WriteError where that fails."""
    with writing(path, len(text)), open(path, "a", encoding="utf-8") as file:
        file.write(text)


def parse_json(text: str | bytes) -> Any:
    """What a JSON text says; ValueError where it is none, also for one that is nested thousands of levels deep."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values and a checksum of them, as they are written into a JSON file."""
    return {**values, SEAL: zlib.crc32(json.dumps(values).encode())}


def unsealed(values: Any) -> dict[str, Any]:
    """What was sealed; ValueError where it has changed since, or is no dict. Older versions wrote no seal."""
    if not isinstance(values, dict):
        raise ValueError(f"it holds a {type(values).__name__}, wanted keys and values")
    last = next(reversed(values), "")
    rest = {key: value for key, value in values.items() if key != SEAL}
    renamed = last != SEAL and get_close_matches(last, [SEAL])  # a damaged key, not a file without a seal
    if renamed or (SEAL in values and sealed(rest) != values):
        raise ValueError("it has changed since it was written: its checksum is another")
    return rest


def is_from_macos(path: str | PurePath) -> bool:
    """Is this one of the files that macOS adds to folders and zip archives (``._NAME``, ``__MACOSX/``, .DS_Store)?"""
    parts = PurePath(path).parts
    return "__MACOSX" in parts or any(part.startswith("._") or part == ".DS_Store" for part in parts)


def kind_of(path: Path) -> str:
    """What lies at a path, as the end of a sentence: "does not exist", "is a zip archive", ..."""
    if path.is_dir():
        return "is a folder"
    if path.is_symlink() and not path.exists():
        return f"is a link to {os.readlink(path)}, which does not exist or is not mounted"
    if not path.is_file():
        kinds = {"a pipe": path.is_fifo, "a socket": path.is_socket, "a device": path.exists}
        return next((f"is {kind}, not a file" for kind, holds in kinds.items() if holds()), "does not exist")
    with open(path, "rb") as file:
        start = file.read(4)
    if start == b"PK\3\4" and path.suffix not in (".npz", ".pt", ".pth"):
        return "is a zip archive"
    return f"is a {path.suffix} file" if path.suffix else "is a file"
