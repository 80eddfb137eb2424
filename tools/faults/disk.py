"""A full disk, one that cannot be written, and folders where files should be.

What needs a small disk of its own (a tmpfs) is caused where the user may mount one: as root on Linux.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from processor.checkpoint import load_checkpoint

from .case import Case, Outcome, judged
from .process import Command
from .runs import ENDS, conversion, difference, preparation, result, run_command, shown_run, undisturbed

Make = Callable[..., Command]
NEEDS = 700  # kB that a run, its cache and a checkpoint beside the one before need, at most
CURVES = 200  # kB that the curves and pictures of a run need, at most
MAKE: dict[str, Make] = {"a run": run_command, "preparation": preparation, "conversion": conversion}
OUTPUTS = ("last.pt", "best.pt", "config.yaml", "environment.json", "metrics.jsonl", "log.txt", "scores_test.npz")
NOBODY = 65534


def cases(rng: random.Random, folder: Path) -> Iterator[Case]:
    """All kinds in turn."""
    number = 0
    while True:
        for what, make in MAKE.items():
            number += 1
            place = folder / str(number)
            if can_mount(folder):
                size, share = rng.randrange(4, NEEDS, 4), rng.random()
                yield Case(f"small disk, {what}: {size} kB", partial(small, make, folder, place, size))
                yield Case(f"disk fills up, {what}: at {share}", partial(fills_up, make, folder, place, share))
                yield Case(f"read-only, {what}", partial(read_only, make, folder, place))
            name = rng.choice(OUTPUTS)
            if make is run_command:
                if can_mount(folder):
                    size, curves = rng.randrange(4, CURVES, 4), folder / f"{number}_curves"
                    yield Case(f"small disk, curves: {size} kB", partial(small_curves, folder, curves, size))
                yield Case(f"folder instead of a file: {name}", partial(folder_there, folder, place, name))
            if hasattr(os, "geteuid") and os.geteuid() == 0:
                yield Case(f"no permission, {what}", partial(no_permission, make, folder, folder / f"{number}_root"))


def can_mount(folder: Path) -> bool:
    """May this user mount a tmpfs?"""
    place = folder / "try"
    place.mkdir(exist_ok=True)
    if not mount(place, "size=16k"):
        return False
    unmount(place)
    return True


def mount(place: Path, options: str) -> bool:
    """Mounts a tmpfs, or changes the one that is there."""
    words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    try:
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def unmount(place: Path) -> None:
    """Unmounts it."""
    words = ["umount", str(place)]
    subprocess.run(words, capture_output=True, check=True)


def small(make: Make, common: Path, place: Path, size: int) -> Outcome:
    """A disk that may be too small from the start; on a larger one the same command goes on."""
    wanted = undisturbed(make, common / "undisturbed" / make.__name__)[0]
    place.mkdir()
    mount(place, f"size={size}k")
    try:
        command = _outside(make, place)
        started = command.start()
        outcome = judged(started.wait(ENDS) or 0, started.text, str(place))
        outcome = _with_room(outcome) if outcome.fate == "refused" else outcome
        mount(place, "remount,size=64m")
        return _goes_on(command, place, wanted, outcome)
    finally:
        unmount(place)
        shutil.rmtree(place)


def small_curves(common: Path, place: Path, size: int) -> Outcome:
    """A disk that may be too small for what TensorBoard shows, and holds nothing else: the run ends as if it were not.

    The report fails too, because a folder has its name.
    """
    wanted = undisturbed(run_command, common / "undisturbed" / "run_command")[0]
    command, curves, report = shown_run(place), place / "run" / "tensorboard", place / "run" / "report.html"
    curves.mkdir(parents=True)
    report.mkdir()
    mount(curves, f"size={size}k")
    try:
        started = command.start()
        outcome = judged(started.wait(ENDS), started.text)
        if outcome.fate == "survived" and "report could not be made" not in started.text:
            return Outcome("lost", "no word of the report")
        found = difference(result(place / "run"), wanted)
        return Outcome("lost", found) if found else outcome
    finally:
        unmount(curves)
        shutil.rmtree(place)


def fills_up(make: Make, common: Path, place: Path, share: float) -> Outcome:
    """A disk that somebody else fills while the command runs."""
    wanted, seconds, _ = undisturbed(make, common / "undisturbed" / make.__name__)
    place.mkdir()
    mount(place, "size=4m")
    try:
        command = _outside(make, place)
        started = command.start()
        started.wait(share * seconds)
        ballast = place / "ballast"
        try:
            with open(ballast, "wb") as file:
                while file.write(bytes(4096)):
                    file.flush()
        except OSError:
            pass
        outcome = judged(started.wait(ENDS) or 0, started.text, str(place))
        outcome = _with_room(outcome) if outcome.fate == "refused" else outcome
        if (place / "run" / "last.pt").is_file():
            load_checkpoint(place / "run" / "last.pt")
        ballast.unlink()
        return _goes_on(command, place, wanted, outcome)
    finally:
        unmount(place)
        shutil.rmtree(place)


def read_only(make: Make, common: Path, place: Path) -> Outcome:
    """A disk that cannot be written."""
    wanted = undisturbed(make, common / "undisturbed" / make.__name__)[0]
    place.mkdir()
    mount(place, "size=64m")
    try:
        command = _outside(make, place)
        mount(place, "remount,ro")
        started = command.start()
        outcome = judged(started.wait(ENDS) or 0, started.text, str(place))
        mount(place, "remount,rw")
        return _goes_on(command, place, wanted, outcome)
    finally:
        unmount(place)
        shutil.rmtree(place)


def folder_there(common: Path, place: Path, name: str) -> Outcome:
    """A folder has the name of a file that the run writes."""
    wanted = undisturbed(run_command, common / "undisturbed" / "run_command")[0]
    command = run_command(place)
    (place / "run" / name / "something").mkdir(parents=True)
    started = command.start()
    outcome = judged(started.wait(ENDS) or 0, started.text, name)
    shutil.rmtree(place / "run" / name, ignore_errors=True)
    return _goes_on(command, place, wanted, outcome)


def no_permission(make: Make, common: Path, place: Path) -> Outcome:
    """A folder that belongs to somebody else."""
    wanted = undisturbed(make, common / "undisturbed" / make.__name__)[0]
    place.mkdir()
    command = _outside(make, place)
    for above in (common, common.parent):
        above.chmod(above.stat().st_mode | 0o055)  # what is there may be read
    started = Command(command.module, command.words, command.folder, before=become_nobody).start()
    outcome = judged(started.wait(ENDS) or 0, started.text, str(place))
    return _goes_on(command, place, wanted, outcome)


def become_nobody() -> None:
    """Gives up the rights of root."""
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def _outside(make: Make, place: Path) -> Command:
    """A command that writes to ``place``; its config and what it prints lie beside it."""
    beside = place.with_name(f"{place.name}_printed")
    command = make(place)
    words = list(command.words)
    if make is run_command:
        beside.mkdir(exist_ok=True)
        words[1] = str(shutil.move(place / "run.yaml", beside / "run.yaml"))
    return Command(command.module, words, beside)


def _with_room(outcome: Outcome) -> Outcome:
    """Lost where the message does not say how much was free."""
    return outcome if "are free" in outcome.detail else Outcome("lost", f"no word of what is needed: {outcome.detail}")


def _goes_on(command: Command, place: Path, wanted: dict, outcome: Outcome) -> Outcome:
    """The outcome, or lost where the same command does not end as if nothing had happened."""
    again = command.start()
    code = again.wait(ENDS)
    found = f"exit code {code}: {again.text[-500:]}" if code else difference(result(place / "run"), wanted)
    return Outcome("lost", f"afterwards: {found}; first: {outcome.detail}") if found else outcome
