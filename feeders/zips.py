"""Zip archives, also .npz and .pt files: none of whose members is missing without a word."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import IO, cast

END, LONGEST = b"PK\5\6", 22 + 0xFFFF  # begin and most bytes of an archive's last record, with its comment
MANY = 0xFFFF  # stands there for a number of members that does not fit
FOLDER = 0x10  # attribute of a folder, of which torch reads nothing: a tensor would be whatever lies in memory


def open_zip(file: str | Path | IO[bytes]) -> zipfile.ZipFile:
    """An archive with a sound list of members. A damaged one may hide some of them, or call a file a folder.

    Raises:
        zipfile.BadZipFile: it is no zip archive, or its list of members is damaged.
        OSError: it cannot be read.
    """
    archive = zipfile.ZipFile(file)
    content = cast("IO[bytes]", archive.fp)
    content.seek(max(0, content.seek(0, os.SEEK_END) - LONGEST))
    tail = content.read()
    place = tail.rfind(END) + 10
    number, members = int.from_bytes(tail[place : place + 2], "little"), archive.infolist()
    folders = [member.filename for member in members if member.external_attr & FOLDER and not member.is_dir()]
    if number in (len(members), MANY) and not folders:
        return archive
    archive.close()
    what = f"{folders[0]} is a folder there" if folders else f"{len(members)} of {number} are there"
    raise zipfile.BadZipFile(f"its list of members is damaged: {what}")
