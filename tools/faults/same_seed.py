"""Same seed, same run: every recipe trains to the same bits again, also where it looks at its run in other ways."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from .case import Case, Outcome
from .short_runs import all_recipes, short, train

LOOKS: dict[str, list[Any]] = {  # what looks at a run, or keeps it, and must not change it
    "eval_interval": [1, 2, 5], "log_interval": [1, 3], "save_steps": [0, 1, 2], "save_interval": [0, 1],
    "logger": ["none", "tensorboard"], "print_log": [True, False], "report": [False, False, True],
    "show_topk": [[1], [1, 2]], "dataset": [None, "made_up"], "overlap": ["refuse", "warn"],
}  # fmt: skip


def cases(rng: random.Random, folder: Path) -> Iterator[Case]:
    """Each recipe in turn: again, with other looks, with another seed."""
    while True:
        recipes = all_recipes()
        rng.shuffle(recipes)
        for paths in recipes:
            name, looks = "/".join(paths[-1].parts[-2:]), {key: rng.choice(values) for key, values in LOOKS.items()}
            yield Case(f"the same recipe twice: {name}, {looks}", partial(twice, paths, looks, folder))
            yield Case(f"another seed: {name}", partial(other_seed, paths, rng.randrange(2, 10**6), folder))


def twice(paths: list[Path], looks: dict[str, Any], folder: Path) -> Outcome:
    """Trains as it is, then again with other looks; an evaluation after the last epoch is always there."""
    shutil.rmtree(folder, ignore_errors=True)
    given = short(paths, folder)
    first = train(paths, given)
    second = train(paths, {**given, **looks, "work_dir": str(folder / "again")})
    wrong = [key for key, digest in first.items() if second[key] != digest]
    return Outcome("lost", f"other {', '.join(wrong)}") if wrong else Outcome("survived")


def other_seed(paths: list[Path], seed: int, folder: Path) -> Outcome:
    """Another seed gives other weights, wherever something is trained."""
    shutil.rmtree(folder, ignore_errors=True)
    given = short(paths, folder)
    if given["num_epoch"] == 0:
        return Outcome("survived", "nothing is trained")
    first = train(paths, given)
    second = train(paths, {**given, "seed": seed, "work_dir": str(folder / "again")})
    same = [key for key in ("weights", "losses") if first[key] == second[key]]
    return Outcome("lost", f"the same {', '.join(same)} with seed {seed}") if same else Outcome("survived")
