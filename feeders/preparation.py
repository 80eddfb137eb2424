"""Preparing a data set once: many source files -> one store, streamed, on all cores, going on where it was cut off.

A source file is a file of a folder or a member of a zip archive, which is read without unpacking. The work in progress
lies in ``OUT.partial`` beside the store ``OUT`` and becomes it in one rename.
"""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
import shutil
import signal
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .store import DataError, Sample, SkeletonStore, StoreWriter

log = logging.getLogger(__name__)
REPORT = "report.json"
FILES_PER_TASK = 16
TASKS_PER_PROCESS = 4  # under way or waiting to be written

LeftOut = dict[str, dict[str, str]]  # kind of problem -> file or sequence -> reason


@dataclass(frozen=True)
class Source:
    """One source file: ``path``, or ``member`` of the archive ``path``; ``stamp`` changes with its contents."""

    path: str
    member: str
    stamp: str

    @property
    def name(self) -> str:
        """Its name without folders and suffix."""
        return Path(self.member or self.path).stem

    def __str__(self) -> str:
        return f"{self.path}:{self.member}" if self.member else self.path

    def read(self) -> bytes:
        """Its contents. DataError where they cannot be read."""
        try:
            return _archive(self.path).read(self.member) if self.member else Path(self.path).read_bytes()
        except (OSError, EOFError, zipfile.BadZipFile, zipfile.zlib.error, NotImplementedError, RuntimeError) as error:  # type: ignore[attr-defined]
            raise DataError(f"damaged: {self} cannot be read: {error}") from error


def find_sources(places: Sequence[Path], suffix: str) -> tuple[list[Source], LeftOut]:
    """All files with ``suffix`` in folders (searched through) and zip archives, by name; the first of a name wins.

    Returns:
        the files, and what was found besides.

    Raises:
        DataError: a place that does not exist, an archive that cannot be opened, no file at all.
    """
    found: dict[str, Source] = {}
    left_out: LeftOut = {}
    for source in (source for place in places for source in _look(place)):
        if not (source.member or source.path).endswith(suffix):
            left_out.setdefault(f"no {suffix} file", {})[str(source)] = "another suffix"
        elif source.name in found:
            left_out.setdefault("duplicate name", {})[str(source)] = f"{found[source.name]} was taken"
        else:
            found[source.name] = source
    if not found:
        raise DataError(f"no {suffix} file in {', '.join(map(str, places))}")
    return [found[name] for name in sorted(found)], left_out


def _look(place: Path) -> Iterator[Source]:
    if place.is_dir():
        for path in sorted(path for path in place.rglob("*") if path.is_file()):
            yield from _look(path)
    elif not place.is_file():
        raise DataError(f"{place} does not exist; name folders or .zip archives")
    elif place.suffix == ".zip":
        try:
            members = _archive(str(place)).infolist()
        except (OSError, zipfile.BadZipFile) as error:
            raise DataError(f"archive {place} cannot be opened ({error}); download it again") from error
        yield from (
            Source(str(place), member.filename, f"{member.file_size}-{member.CRC}")
            for member in members
            if not member.is_dir()
        )
    else:
        status = place.stat()
        yield Source(str(place), "", f"{status.st_size}-{status.st_mtime_ns}")


@lru_cache(maxsize=8)
def _archive(path: str) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def prepare(
    out: Path,
    name: str,
    sources: Sequence[Source],
    read: Callable[[Source], Sample],
    left_out: LeftOut,
    jobs: int,
    strict: bool = False,
    overwrite: bool = False,
) -> tuple[SkeletonStore, dict[str, Any]]:
    """Reads every source into the store ``out``; sequences with a problem are left out and reported.

    Args:
        out: folder of the store.
        name: of the data set.
        sources: in the order in which the store holds them.
        read: source -> sequence; a function of a module. What cannot be used comes as ``problem``, "kind: reason".
        left_out: what is known to be left out already.
        jobs: processes.
        strict: refuse where anything is left out.
        overwrite: replace what ``out`` holds.

    Returns:
        the store, and the report that lies in it as ``report.json``: counts and, kind by kind, what was left out.

    Raises:
        DataError: ``out`` holds something else, nothing can be used, or ``strict`` and something was left out.
    """
    fingerprint = hashlib.blake2b(repr([name, *map(repr, sources)]).encode(), digest_size=8).hexdigest()
    if (out / "meta.json").is_file():
        store = SkeletonStore(out)
        if store.meta.get("source") == fingerprint and (out / REPORT).is_file():
            log.info("%s is prepared already, from these files", out)
            report = json.loads((out / REPORT).read_text())
            return store, _checked(report, out / REPORT, strict)
        if not overwrite:
            raise DataError(f"{out} holds a store of other files; choose another --out, or --overwrite it")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} holds something else; choose another --out")
    partial = out.with_name(f"{out.name}.partial")
    mark = partial / "source"
    if partial.is_dir() and any(partial.iterdir()):
        if not mark.is_file():
            raise DataError(f"{partial}, where the work in progress would lie, holds something else; remove it")
        if mark.read_text() != fingerprint:
            shutil.rmtree(partial)
    partial.mkdir(parents=True, exist_ok=True)
    mark.write_text(fingerprint)
    if not (partial / "meta.json").is_file():
        with StoreWriter(partial) as writer:
            done = len(writer.entries)
            if done:
                log.info("going on after %d of %d files", done, len(sources))
            samples = ordered_map(read, sources[done:], jobs)
            for sample in tqdm(samples, name, len(sources), initial=done, unit="file", disable=None):
                writer.add(sample)
            report = _report(name, writer.entries, left_out)
            (partial / REPORT).write_text(json.dumps(report, indent=1))
            _checked(report, partial / REPORT, strict)
            writer.close(name, drop_problems=True, source=fingerprint)
    old = out.with_name(f"{out.name}.old")
    if out.exists():
        out.rename(old)
    partial.rename(out)
    shutil.rmtree(old, ignore_errors=True)
    (out / "source").unlink()
    return SkeletonStore(out), json.loads((out / REPORT).read_text())


def _report(name: str, entries: Sequence[dict[str, Any]], known: LeftOut) -> dict[str, Any]:
    left_out = {kind: dict(files) for kind, files in known.items()}
    for entry in entries:
        if entry["problem"]:
            kind, _, reason = entry["problem"].partition(": ")
            left_out.setdefault(kind, {})[entry["id"]] = reason
    used = sum(not entry["problem"] for entry in entries)
    return {"name": name, "used": used, "left_out": dict(sorted(left_out.items()))}


def _checked(report: dict[str, Any], file: Path, strict: bool) -> dict[str, Any]:
    number = sum(map(len, report["left_out"].values()))
    if strict and number:
        raise DataError(f"{number} files were left out, and --strict forbids that; {file} names them")
    return report


def report_table(report: dict[str, Any]) -> str:
    """What was used and what was left out, as text; the first three of each kind by name."""
    lines = [f"{'used':<28}{report['used']:>8}"]
    for kind, files in report["left_out"].items():
        some = "; ".join(f"{Path(file).name} ({reason})" for file, reason in list(files.items())[:3])
        lines.append(f"{kind:<28}{len(files):>8}  {some}{'; ...' if len(files) > 3 else ''}")
    return "\n".join(lines)


def ordered_map(read: Callable[[Source], Sample], sources: Iterable[Source], jobs: int) -> Iterator[Sample]:
    """``map`` over ``jobs`` processes, in order, with a bounded number of results in memory."""
    if jobs == 1:
        yield from map(read, sources)
        return
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if context.get_start_method() == "forkserver":
        context.set_forkserver_preload([read.__module__])  # imported once, shared by all
    remaining, pending = iter(sources), deque[Future[list[Sample]]]()
    with ProcessPoolExecutor(jobs, context, initializer=_leave_interrupts) as pool:
        try:
            while True:
                while len(pending) < TASKS_PER_PROCESS * jobs and (task := list(islice(remaining, FILES_PER_TASK))):
                    pending.append(pool.submit(_read_all, read, task))
                if not pending:
                    return
                yield from pending.popleft().result()
        except BrokenProcessPool as error:
            raise DataError(
                "a process was killed, perhaps for want of memory; the same command goes on (try fewer --jobs)"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _read_all(read: Callable[[Source], Sample], sources: Sequence[Source]) -> list[Sample]:
    return [read(source) for source in sources]


def _leave_interrupts() -> None:
    """Ctrl-C is the main process's to act on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
