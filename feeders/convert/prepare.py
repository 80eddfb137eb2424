"""Prepares a data set once: many source files -> one store, on all cores. A stopped run continues where it was.

A source file is a file in a folder or a member of a zip archive, which is read without unpacking. The unfinished store
lies in ``OUT.partial`` beside the store ``OUT``; a rename makes it the store.
"""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
import shutil
import signal
import threading
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from ..files import is_from_macos, parse_json, write_atomically, writing
from ..own_splits import FOLDER
from ..store import DataError, Sample, SkeletonStore, StoreWriter
from ..zips import open_zip

log = logging.getLogger(__name__)
REPORT = "report.json"
FOREIGN = "not of "  # begins the kind of files that were left out because they belong to another data set
MARK = "source"  # in the unfinished store: the fingerprint of its sources
REPLACED = ".replaced"  # in it, for a moment: the store that it replaces
LARGEST = 2**30  # bytes of a file; a take of days is smaller
FILES_PER_TASK = 16
HEAD = 4096  # bytes
TASKS_PER_PROCESS = 4  # running or waiting to be written

T = TypeVar("T")
R = TypeVar("R")
LeftOut = dict[str, dict[str, str]]  # kind of problem -> file or sequence -> reason


class Unusable(DataError):
    """A sequence that cannot be used; the message is "kind: reason"."""


@dataclass(frozen=True)
class Source:
    """One source file: ``path``, or ``member`` of the zip archive ``path``; ``stamp`` changes with its contents."""

    path: str
    stamp: str
    member: str = ""

    @property
    def name(self) -> str:
        """Its name without folders and suffix."""
        return Path(self.member or self.path).stem

    def __str__(self) -> str:
        return f"{self.path}:{self.member}" if self.member else self.path

    def head(self) -> bytes:
        """Its first bytes, by which its form is known; none where they cannot be read."""
        try:
            if not self.member:
                with open(self.path, "rb") as file:
                    return file.read(HEAD)
            with _opened(self.path, Path(self.path).stat().st_mtime_ns).open(self.member) as member:
                return member.read(HEAD)
        except Exception:  # a damaged archive may raise anything; read says so
            return b""

    def read(self) -> bytes:
        """Its contents; DataError where they cannot be read or are larger than LARGEST."""
        try:
            status = Path(self.path).stat()
            archive = _opened(self.path, status.st_mtime_ns) if self.member else None
            size = archive.getinfo(self.member).file_size if archive else status.st_size
            if size > LARGEST:
                raise Unusable(f"too large: {self} has {size >> 20} MB, at most {LARGEST >> 20} are read")
            if archive is None:
                return Path(self.path).read_bytes()
            with archive.open(self.member) as file:
                return file.read(size)  # no more, whatever it unpacks to
        except Unusable:
            raise
        except Exception as error:  # a damaged archive may raise anything
            raise DataError(f"damaged: {self} cannot be read: {error}") from error


@lru_cache(maxsize=8)
def _opened(archive: str, changed: int) -> zipfile.ZipFile:
    """A zip archive, whose directory each process reads once; again where its time of change differs."""
    return open_zip(archive)


def find_sources(places: Sequence[Path], suffix: str) -> tuple[list[Source], LeftOut]:
    """All files with ``suffix`` in folders (with their subfolders) and zip archives, by name; and what was left out.

    The first file of a name wins.

    Raises:
        DataError: a place that does not exist, an archive that cannot be opened, no file at all.
    """
    found: dict[str, Source] = {}
    left_out: LeftOut = {}
    for source in (source for place in places for source in look(place)):
        if not (source.member or source.path).endswith(suffix):
            left_out.setdefault(f"no {suffix} file", {})[str(source)] = "another suffix"
        elif source.name in found:
            left_out.setdefault("duplicate name", {})[str(source)] = f"{found[source.name]} was taken"
        else:
            found[source.name] = source
    if not found:
        raise DataError(f"no {suffix} file in {', '.join(map(str, places))}")
    return [found[name] for name in sorted(found)], left_out


def look(place: Path) -> Iterator[Source]:
    """The files of a folder and its subfolders, the members of a zip archive, also of one in the folder, or one file.

    Raises:
        DataError: no such place, or an archive that cannot be opened.
    """
    if place.is_dir():
        for path in sorted(path for path in place.rglob("*") if path.is_file()):
            if is_from_macos(path.relative_to(place)):
                continue
            yield from look(path)
    elif not place.is_file():
        raise DataError(f"{place} does not exist; name folders or .zip archives")
    elif place.suffix == ".zip":
        try:
            with open_zip(place) as archive:
                members = [member for member in archive.infolist() if not member.is_dir()]
                members = [member for member in members if not is_from_macos(member.filename)]
        except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
            raise DataError(f"archive {place} cannot be opened ({error}); download it again") from error
        for member in members:
            yield Source(str(place), f"{member.file_size}-{member.CRC}", member.filename)
    else:
        status = place.stat()
        yield Source(str(place), f"{status.st_size}-{status.st_mtime_ns}")


def prepare(
    out: Path,
    name: str,
    sources: Sequence[T],
    read: Callable[[T], Sample],
    left_out: LeftOut,
    jobs: int,
    strict: bool = False,
    overwrite: bool = False,
    fingerprint: str | None = None,
    about: Mapping[str, Any] | None = None,
    **meta: Any,
) -> tuple[SkeletonStore, dict[str, Any]]:
    """Reads every source into the store ``out``. Sequences with a problem are left out and reported.

    Args:
        sources: files, or whatever ``read`` takes, in the order in which the store holds them.
        read: source -> sequence; a module's function. What cannot be used has a ``problem``, "kind: reason".
        left_out: what was left out before.
        jobs: processes.
        strict: refuse where anything is left out, except files of another data set.
        overwrite: replace the store in ``out``.
        fingerprint: of the sources; by default of their names and stamps, wherever they lie.
        about, meta: more entries of ``report.json`` and ``meta.json``.

    Returns:
        the store, and its ``report.json``: counts and, kind by kind, what was left out.

    Raises:
        DataError: ``out`` holds something else, nothing can be used, or ``strict`` and something was left out.
    """
    if jobs < 1:
        raise DataError(f"--jobs must be at least 1, got {jobs}")
    fingerprint, former = (fingerprint, "") if fingerprint else _fingerprints(name, sources)
    out = out.resolve() if out.is_symlink() else out
    _put_back(out)
    if _is_prepared(out, (fingerprint, former), overwrite):
        _clear_away(out)
        store = SkeletonStore(out)
        store.check()
        log.info("%s is prepared already, from these files, and its checksums are right", out)
        return store, _checked(out / REPORT, strict)
    partial = _unfinished(out, fingerprint)
    if not (partial / "meta.json").is_file():
        with StoreWriter(partial) as writer:
            done = len(writer.entries)
            if done:
                log.info("going on after %d of %d files", done, len(sources))
            samples = ordered_map(read, sources[done:], jobs)
            for sample in tqdm(samples, name, len(sources), initial=done, unit="file", disable=None):
                writer.add(sample)
            report = {**_report(name, writer.entries, left_out), **(about or {})}
            write_atomically(partial / REPORT, json.dumps(report, indent=1).encode())
            writer.close(name, drop_problems=True, source=fingerprint, **meta)
    report = _checked(partial / REPORT, strict)
    _put_in_place(partial, out)
    return SkeletonStore(out), report


def _fingerprints(name: str, sources: Sequence[Any]) -> tuple[str, str]:
    """Of the sources, wherever they lie; and as older versions have it, with their paths."""
    known = [(source.name, source.stamp) for source in sources]
    former = [f"Source(path={one.path!r}, stamp={one.stamp!r}, member={one.member!r}, packed=None)" for one in sources]
    texts = repr([name, *known]), f"[{', '.join([repr(name), *former])}]"
    new, old = (hashlib.blake2b(text.encode(), digest_size=8).hexdigest() for text in texts)
    return new, old


def _is_prepared(out: Path, fingerprints: Sequence[str], overwrite: bool) -> bool:
    """Whether ``out`` is the store of these sources; DataError where it holds something that may not be replaced."""
    if (out / "meta.json").is_file():
        if SkeletonStore(out).meta.get("source") in fingerprints and (out / REPORT).is_file():
            return True
        if not overwrite:
            raise DataError(
                f"{out} holds a store of other files, or of an older version of this command: leave this command out "
                "and use it as it is, choose another --out, or --overwrite it"
            )
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} holds something else; choose another --out")
    return False


def _partial(out: Path) -> Path:
    return out.with_name(f"{out.name}.partial")


def _put_back(out: Path) -> None:
    """Where a process was killed while it put a new store in the place of the old one, the old one is put back."""
    replaced = _partial(out) / REPLACED
    if replaced.exists() and not out.exists():
        with writing(out):
            replaced.rename(out)


def _unfinished(out: Path, fingerprint: str) -> Path:
    """The folder of the unfinished store: what an earlier run left of these sources, or an empty one."""
    partial = _partial(out)
    mark = partial / MARK
    if partial.is_dir() and any(partial.iterdir()):
        if not mark.is_file():
            raise DataError(f"{partial}, the folder of the unfinished store, holds something else; remove it")
        if mark.read_text() != fingerprint:
            log.info("the unfinished store in %s was of other files; starting again", partial)
            shutil.rmtree(partial)
    if not mark.is_file():
        with writing(mark, len(fingerprint)):
            partial.mkdir(parents=True, exist_ok=True)
            mark.write_text(fingerprint)
    return partial


def _put_in_place(partial: Path, out: Path) -> None:
    """The finished store takes the place of what was there."""
    with writing(out):
        if out.exists():
            _keep_lists(out, partial)
            out.rename(partial / REPLACED)
        partial.rename(out)
    _clear_away(out)


def _keep_lists(out: Path, partial: Path) -> None:
    """Copies the user's lists of splits from a store to the one that replaces it."""
    if (out / FOLDER).is_dir():
        shutil.copytree(out / FOLDER, partial / FOLDER, dirs_exist_ok=True)


def _clear_away(out: Path) -> None:
    """Removes what only an unfinished store needs; a process killed at its very end leaves it."""
    shutil.rmtree(out / REPLACED, ignore_errors=True)
    for name in ("journal.jsonl", MARK):
        (out / name).unlink(missing_ok=True)


def _report(name: str, entries: Sequence[dict[str, Any]], known: LeftOut) -> dict[str, Any]:
    left_out = {kind: dict(files) for kind, files in known.items()}
    for entry in entries:
        if entry["problem"]:
            kind, _, reason = entry["problem"].partition(": ")
            left_out.setdefault(kind, {})[entry["id"]] = reason
    used = sum(not entry["problem"] for entry in entries)
    return {"name": name, "used": used, "left_out": dict(sorted(left_out.items()))}


def _checked(file: Path, strict: bool) -> dict[str, Any]:
    """The report in ``file``; DataError where ``strict`` and something was left out."""
    try:
        report: dict[str, Any] = parse_json(file.read_bytes())
        number = sum(len(files) for kind, files in report["left_out"].items() if not kind.startswith(FOREIGN))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file} is damaged ({error}); prepare the store again, with --overwrite") from error
    if strict and number:
        raise DataError(f"{number} files were left out, and --strict forbids that; {file} names them")
    return report


def report_table(report: dict[str, Any]) -> str:
    """What was used and what was left out, as text; the first three of each kind by name."""
    lines = [f"{'used':<28}{report['used']:>8}"]
    for kind, files in report["left_out"].items():
        lines.append(f"{kind:<28}{len(files):>8}  {first_of(files)}")
    return "\n".join(lines)


def first_of(problems: Mapping[str, str], most: int = 3) -> str:
    """The first files or takes with what is wrong, as text; one reason for several is said once."""
    by_reason: dict[str, list[str]] = {}
    for file, reason in list(problems.items())[:most]:
        by_reason.setdefault(reason, []).append(Path(file).name if Path(file).is_absolute() else file)
    some = "; ".join(f"{', '.join(files)} ({reason})" for reason, files in by_reason.items())
    return f"{some}; ..." if len(problems) > most else some


def ordered_map(read: Callable[[T], R], sources: Iterable[T], jobs: int) -> Iterator[R]:
    """``map`` over ``jobs`` processes, in order; the number of results in memory is bounded."""
    if jobs == 1:
        yield from map(read, sources)
        return
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if context.get_start_method() == "forkserver":
        context.set_forkserver_preload([getattr(read, "func", read).__module__])  # imported once, shared by all
    remaining, pending = iter(sources), deque[Future[list[R]]]()
    with ProcessPoolExecutor(jobs, context, initializer=_follow_main) as pool:
        try:
            while True:
                while len(pending) < TASKS_PER_PROCESS * jobs and (task := list(islice(remaining, FILES_PER_TASK))):
                    pending.append(pool.submit(_read_all, read, task))
                if not pending:
                    return
                yield from pending.popleft().result()
        except BrokenProcessPool as error:
            raise DataError(
                "a process was killed, perhaps because memory ran out; the same command continues (try fewer --jobs)"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _read_all(read: Callable[[T], R], sources: Sequence[T]) -> list[R]:
    return [read(source) for source in sources]


def _follow_main() -> None:
    """Leaves Ctrl-C to the main process, and ends this one where the main process is killed."""

    def end_with(main: BaseProcess) -> None:
        main.join()
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with, args=[multiprocessing.parent_process()], daemon=True).start()
