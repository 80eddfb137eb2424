"""Zip archives, also .npz and .pt files: none of whose members is missing without a word."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import IO, cast

END, LONGEST = b"PK\5\6", 22 + 0xFFFF  # begin and most bytes of an archive's last record, with its comment
MANY = 0xFFFF  # stands there for a number of members that does not fit


def open_zip(file: str | Path | IO[bytes]) -> zipfile.ZipFile:
    """An archive that has as many members as its last record says: a damaged list may hide some of them.

    Raises:
        zipfile.BadZipFile: it is no zip archive, or its list of members is damaged.
        OSError: it cannot be read.
    """
    archive = zipfile.ZipFile(file)
    content = cast("IO[bytes]", archive.fp)
    content.seek(max(0, content.seek(0, os.SEEK_END) - LONGEST))
    tail = content.read()
    place = tail.rfind(END) + 10
    number, found = int.from_bytes(tail[place : place + 2], "little"), len(archive.infolist())
    if number not in (found, MANY):
        archive.close()
        raise zipfile.BadZipFile(f"its list of members is damaged: {found} of {number} are there")
    return archive
