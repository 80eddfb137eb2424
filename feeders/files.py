"""Files that are whole at any moment: written beside their place, forced to the disk and renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class WriteError(ValueError):
    """A file that cannot be written: the message names it. The previous file is as it was."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to. When the block ends without an error, that file takes the place of ``path``.

    The folder is created where it is missing. A crash at any moment leaves the previous file.

    Raises:
        WriteError: the disk is full or cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield beside
        with open(beside, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise WriteError(
            f"{path} could not be written ({error.strerror or error}); the previous file is unharmed. Free some space "
            "and run the same command again: it continues from there"
        ) from error
    finally:
        beside.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Writes a whole file, see :func:`replacing`."""
    with replacing(path) as beside:
        beside.write_bytes(content)
