"""Load: many runs begin at once, and all need one store that is not there yet."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from processor.run_folder import RunFolder

from .case import LIMIT, Case, Outcome, tiny_config
from .process import Command, Started
from .short_runs import weights_digest


def cases(rng: random.Random, folder: Path) -> Iterator[Case]:
    """Eight to sixteen runs at once."""
    while True:
        number, longer = rng.randint(8, 16), rng.choice([8, 40, 80])
        run = partial(at_once, folder, number, longer)
        yield Case(f"runs at once: {number}, {longer} sequences of the largest class", run, limit=4 * LIMIT)


def at_once(folder: Path, number: int, largest: int = 8) -> Outcome:
    """One packs each store, the others wait, and all end with the weights that the run has alone."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    values = tiny_config(
        folder, model="tools.faults.small.Model", model_args={}, num_epoch=1, threads=1, logger="none", print_log=False,
        train_feeder_args={"n_max": largest, "imbalance": 4, "cache_dir": str(folder / "cache")},
    )  # fmt: skip
    (folder / "run.yaml").write_text(json.dumps(values), encoding="utf-8")
    runs = [RunFolder(folder / f"run_{index}") for index in range(number)]
    started = [_begin(folder, run) for run in runs]
    codes = [one.wait() for one in started]
    alone = RunFolder(folder / "alone")
    codes.append(_begin(folder, alone).wait())
    if any(codes):
        return Outcome("lost", f"exit codes {codes}, the last one of the run alone")
    wrong = [run.path.name for run in runs if weights_digest(run.last) != weights_digest(alone.last)]
    packed = sum(one.text.count("packing ") for one in started)
    left = sorted(path.name for path in (folder / "cache").iterdir())
    if wrong or packed != 2 or len(left) != 2:
        return Outcome("lost", f"{packed} times packed, left in the cache are {left}, other weights have {wrong}")
    return Outcome("survived")


def _begin(folder: Path, run: RunFolder) -> Started:
    words = ["--config", str(folder / "run.yaml"), "--work_dir", str(run.path), "--print_log", "true"]
    return Command("main", [*words, "--plugin", "tools"], run.path).start()
