"""Zip archives, also .npz and .pt files: none of whose members is missing without a word."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import IO, cast

END, LONGEST = b"PK\5\6", 22 + 0xFFFF  # begin and most bytes of an archive's last record, with its comment
MANY = 0xFFFF  # stands there for a number of members that does not fit
FOLDER = 0x10  # attribute of a folder, of which torch reads nothing: a tensor would be whatever lies in memory
FREE = 256 * 2**20  # bytes to which any archive may unpack
GROWTH = 20  # how many times its own size a larger one may; tables of numbers grow two to ten times


def open_zip(file: str | Path | IO[bytes], growth: int | None = None) -> zipfile.ZipFile:
    """An archive with a sound list of members. A damaged one may hide some of them, or call a file a folder.

    Args:
        growth: the members unpack to at most so many times the archive's size, or FREE where that is more; 1: they are
            stored as they are, as in files of torch. None: the caller limits what it reads.

    Raises:
        zipfile.BadZipFile: it is no zip archive, its list of members is damaged, or a member unpacks to too much.
        OSError: it cannot be read.
    """
    archive = zipfile.ZipFile(file)
    content = cast("IO[bytes]", archive.fp)
    size = content.seek(0, os.SEEK_END)
    content.seek(max(0, size - LONGEST))
    tail = content.read()
    place = tail.rfind(END) + 10
    number, members = int.from_bytes(tail[place : place + 2], "little"), archive.infolist()
    folders = [member.filename for member in members if member.external_attr & FOLDER and not member.is_dir()]
    if number in (len(members), MANY) and not folders:
        if growth is not None:
            _check_growth(archive, size if growth == 1 else max(FREE, growth * size))
        return archive
    archive.close()
    what = f"{folders[0]} is a folder there" if folders else f"{len(members)} of {number} are there"
    raise zipfile.BadZipFile(f"its list of members is damaged: {what}")


def _check_growth(archive: zipfile.ZipFile, most: int) -> None:
    unpacked = 0
    for member in archive.infolist():
        unpacked += member.file_size
        if unpacked > most:
            archive.close()
            raise zipfile.BadZipFile(f"with {member.filename} it unpacks to {unpacked:,} bytes, more than {most:,}")
