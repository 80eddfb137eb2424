"""A look at a file of torch before torch opens it: what would fill the memory or take for ever is refused.

The pickles in it are read once with stand-ins for tensors, so that only numbers, text and containers are made.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

from feeders.convert.pickles import FEW, KNOWN, PlainUnpickler, count_items
from feeders.zips import open_zip

PICKLES = 5  # of a file of torch before 1.6: magic number, protocol, machine, content, names of storages
CONTAINERS = {name: made for name, made in KNOWN.items() if not name[0].startswith("numpy")}
CONTAINERS["collections", "Counter"] = CONTAINERS["builtins", "set"]  # it hashes what it is given, too


class _Other:
    """Stands for a tensor, and for all that is neither a number nor text nor a container."""

    def __new__(cls, *args: object, **named: object) -> _Other:
        return super().__new__(cls)

    def append(self, item: object) -> None:
        """Of no interest."""

    def extend(self, items: object) -> None:
        """Of no interest."""

    def __setitem__(self, key: object, value: object) -> None:
        """Of no interest."""


class _Unpickler(PlainUnpickler):
    dispatch = dict(PlainUnpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        """A container, or a stand-in: torch refuses what it does not know."""
        return CONTAINERS.get((module, name), _Other)

    def persistent_load(self, pid: Any) -> _Other:
        """A tensor's numbers, which are elsewhere in the file."""
        if any(isinstance(part, tuple) for part in pid):
            raise pickle.UnpicklingError("tensors whose names are tuples")
        return _Other()

    def load_build(self) -> None:
        """Attributes are of no interest."""
        self.stack.pop()  # type: ignore[attr-defined]

    dispatch[pickle.BUILD[0]] = load_build  # type: ignore[assignment]


def check_torch_file(path: Path) -> None:
    """Compares the parts of a file with their CRC-32, which torch does not, and looks at what is in its pickles.

    Files of torch before 1.6 have no CRC-32.

    Raises:
        zipfile.BadZipFile: a damaged archive, or one with packed members, which may grow without bound.
        ValueError: keys that take for ever to hash, containers that are nested too deeply, or that name each other
            again and again. A damaged pickle may raise anything.
    """
    with open(path, "rb") as file:
        if file.read(4) != b"PK\3\4":  # as torch asks
            file.seek(0)
            _check_pickles(file, path, PICKLES)
            return
    with open_zip(path, growth=1) as archive:
        wrong = archive.testzip()
        if wrong is not None:
            raise zipfile.BadZipFile(f"{wrong} has another checksum")
        for member in archive.infolist():
            if member.filename.endswith("data.pkl"):
                _check_pickles(io.BytesIO(archive.read(member)), path, 1)


def _check_pickles(file: BinaryIO, path: Path, number: int) -> None:
    """Of several pickles in a row, those that are there."""
    try:
        for _ in range(number):
            reader = _Unpickler(file, path, False)
            count_items(reader.load(), max(FEW, reader.size), {})
    except pickle.UnpicklingError as error:
        raise ValueError(f"its pickle has {error}") from error
    except EOFError:  # torch says what is missing
        return
