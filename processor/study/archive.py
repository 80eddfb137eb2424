"""Runs in folders and in .zip archives, which are read as they are: nothing is unpacked."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ..scores import DAMAGE

Folder = Path | zipfile.Path


def run_folders(path: Path) -> Sequence[Folder]:
    """The folders with a config.yaml in ``path``, sorted: in a folder, an archive, or a folder in an archive.

    Raises:
        ValueError: a file is not an archive, is damaged, or has members with unsafe names.
    """
    path = path.resolve()
    archive = next((place for place in (path, *path.parents) if place.is_file()), None)
    if archive is None:
        return sorted(config.parent for config in path.rglob("config.yaml"))
    members, inside = _open(archive), PurePosixPath(path.relative_to(archive).as_posix())
    names = sorted(PurePosixPath(name) for name in members.namelist())
    configs = [str(name) for name in names if name.name == "config.yaml" and inside in name.parents]
    return [zipfile.Path(members, config.removesuffix("config.yaml")) for config in configs]


def _open(path: Path) -> zipfile.ZipFile:
    """An archive in which every member can be read, and none has a name that leads out of it."""
    try:
        archive = zipfile.ZipFile(path)
        damaged = archive.testzip()
    except DAMAGE as error:
        raise ValueError(f"{path} is not a .zip archive, or is damaged ({error}); make or fetch it again") from error
    if damaged is not None:
        raise ValueError(f"{path} is damaged: {damaged} has a wrong checksum; make or fetch it again")
    for name in archive.namelist():
        if "\\" in name or not {"", ".", ".."}.isdisjoint(name.removesuffix("/").split("/")):
            raise ValueError(f"{path} has a member {name!r}, which leads out of the archive; make it again")
    return archive
