"""kill -9 at random moments; the same command goes on, and ends as if nothing had happened."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from feeders.files import UNFINISHED

from .case import Case, Outcome
from .process import Command, Fuse
from .runs import (
    ENDS,
    MODES,
    SAVE_STEPS,
    conversion,
    difference,
    ended,
    preparation,
    processes_of,
    repeated,
    result,
    run_command,
    start_all,
    undisturbed,
)

MAKE: dict[str, tuple[Callable[..., Command], tuple]] = {
    **{mode: (run_command, (mode,)) for mode in MODES},
    "preparation": (preparation, (1,)),
    "preparation, two jobs": (preparation, (2,)),
    "conversion": (conversion, (1,)),
}
MOMENTS = {"evaluation": 10, "save": 26, "checkpoint": 26, "metrics": 5, "step": 15}  # and how often they come


def cases(rng: random.Random, folder: Path) -> Iterator[Case]:
    """Runs of every mode in turn, each killed up to three times before it is left alone."""
    number = 0
    while True:
        for mode in MAKE:
            number += 1
            kills = [draw(rng, mode) for _ in range(rng.choice([1, 1, 2, 3]))]
            yield Case(f"{mode}: {kills}", partial(killed, mode, kills, folder, folder / str(number)))


def draw(rng: random.Random, mode: str) -> tuple[str, float, float]:
    """When to kill: a moment, its share (0 .. 1) of all such moments, and seconds after it."""
    delay = rng.choice([0.0, rng.uniform(0, 0.003)])
    moment = rng.choice(["time", "file", *([*MOMENTS] if mode in MODES else [])])
    return moment, rng.random(), delay


def killed(mode: str, kills: list[tuple[str, float, float]], common: Path, folder: Path) -> Outcome:
    """Kills a command and starts it again, once for each kill, and compares what it ends with."""
    make, args = MAKE[mode]
    wanted, seconds, events = undisturbed(make, common / f"{mode}_undisturbed", *args)
    command, processes = make(folder, *args), processes_of(*args)
    for moment, share, delay in kills:
        if moment == "time":
            started = start_all(command, processes)
            if started[0].wait(share * seconds) is None:
                started[0].kill()
        else:
            count = events if moment == "file" else MOMENTS[moment]
            started = start_all(command, processes, {0: Fuse(moment, 1 + int(share * count), delay)})
        problem = ended(started) or too_much_repeated(folder / "run")
        if problem:
            return Outcome("lost", f"{moment} {share} {delay}: {problem}")
    last = start_all(command, processes)
    codes = [one.wait(ENDS) for one in last]
    if any(codes):
        return Outcome("lost", f"exit codes {codes} after the kills: {last[0].text[-500:]}")
    found = difference(result(folder / "run"), wanted, 1e-6 if processes > 1 else 0.0)
    litter = [path.name for path in folder.rglob(f".*{UNFINISHED}")]
    shutil.rmtree(folder)
    if found or litter:
        return Outcome("lost", f"it ends with other {found}" if found else f"it leaves {litter}")
    return Outcome("survived")


def too_much_repeated(run: Path) -> str | None:
    """Was more lost than the work since the last checkpoint?"""
    steps = repeated(run) if (run / "log.txt").is_file() else 0
    return f"{steps} steps are lost" if steps > SAVE_STEPS else None
