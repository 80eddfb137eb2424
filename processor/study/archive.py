"""Runs in folders and in .zip archives, which are read as they are: nothing is unpacked."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath
from typing import cast

from feeders.zips import GROWTH, open_zip

from ..run_folder import RunFolder
from ..scores import DAMAGE

CONFIG = RunFolder("").config.name


def find_runs(path: Path) -> dict[Path, RunFolder]:
    """All runs in ``path``, sorted by place: in a folder, an archive, or a folder in an archive such as a.zip/method.

    Raises:
        ValueError: there is none, or an archive is damaged or has members with unsafe names.
    """
    full = path.resolve()
    archive = next((place for place in (full, *full.parents) if place.is_file()), None)
    if archive is None:
        found = {config.parent: RunFolder(config.parent) for config in full.rglob(CONFIG)}
    else:
        members, inside, found = _open(archive), PurePosixPath(full.relative_to(archive).as_posix()), {}
        for config in map(PurePosixPath, members.namelist()):
            if config.name == CONFIG and inside in config.parents:
                folder = zipfile.Path(members, str(config).removesuffix(CONFIG))
                found[archive / config.parent] = RunFolder(cast(Path, folder))  # it reads as a Path does
    if not found:
        raise ValueError(
            f"{path} holds no run; name a run's folder (with its {CONFIG}), or a folder or archive of runs"
        )
    return dict(sorted(found.items()))


def _open(path: Path) -> zipfile.ZipFile:
    """An archive in which every member can be read, and none has a name that leads out of it."""
    try:
        archive = open_zip(path, GROWTH)
        damaged = archive.testzip()
    except DAMAGE as error:
        raise ValueError(f"{path} is not a .zip archive, or is damaged ({error}); make or fetch it again") from error
    if damaged is not None:
        raise ValueError(f"{path} is damaged: {damaged} has a wrong checksum; make or fetch it again")
    for name in archive.namelist():
        if "\\" in name or not {"", ".", ".."}.isdisjoint(name.removesuffix("/").split("/")):
            raise ValueError(f"{path} has a member {name!r}, which leads out of the archive; make it again")
    return archive
