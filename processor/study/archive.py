"""Runs in folders and in .zip archives, which are read as they are: nothing is unpacked; and such archives written."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import cast

import numpy as np

from feeders.files import write_atomically
from feeders.zips import GROWTH, open_zip

from ..run_folder import RunFolder
from ..scores import DAMAGE, ScoreFile, read_scores

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


def write_archive(path: Path, runs: Mapping[str, RunFolder], split: str) -> None:
    """Writes what a table is made from: config.yaml, environment.json, metrics.jsonl and the scores of the split.

    Scores are rounded to half precision where no prediction changes by that, so that hundreds of runs fit in a
    repository. The same runs give the same bytes.

    Args:
        path: of the .zip archive.
        runs: name in the archive, such as ``st_mix/seed_1`` -> the run.
    """
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, folder in runs.items():
            files = {
                file.name: file.read_bytes()
                for file in (folder.config, folder.environment, folder.metrics)
                if file.is_file()
            }
            scores = folder.scores(split)
            files[scores.name] = _rounded(read_scores(scores)).content()
            for file_name, written in files.items():
                member = zipfile.ZipInfo(f"{name}/{file_name}")  # without the time of day
                archive.writestr(member, written, zipfile.ZIP_DEFLATED, 9)
    write_atomically(path, content)


def _rounded(scores: ScoreFile) -> ScoreFile:
    half = scores.scores.astype(np.float16)
    same = np.isfinite(half).all() and np.array_equal(half.argmax(1), scores.scores.argmax(1))
    return replace(scores, scores=half) if same else scores


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
