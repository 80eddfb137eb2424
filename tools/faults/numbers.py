"""Bad numbers in one sequence of a hundred: in training, validation or test, in 3D or 2D, in fp32 or bf16.

A run must name the sequence and refuse it, or skip it as configured, or end with finite losses, scores and weights.
"""

from __future__ import annotations

import contextlib
import io
import random
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from feeders.feeder import BAD_VALUE_LIMIT
from feeders.lists import write_list
from feeders.store import Sample, StoreWriter
from processor.checkpoint import load_checkpoint
from processor.command_line import main
from processor.run_folder import RunFolder
from processor.scores import read_scores
from processor.yaml_text import yaml_text

from .case import Case, Outcome, tiny_config
from .damage import digest

SPLITS = {"train": 100, "val": 20, "test": 20}  # sequences
CLASSES = 4
BAD = "the bad one"
FILLS: Mapping[str, float] = {
    "NaN": np.nan, "infinity": np.inf, "minus infinity": -np.inf, "denormals": 1e-40, "1e30": 1e30, "1e5": 1e5,
    "constant zero": 0.0, "constant": 0.25,
}  # fmt: skip


def cases(rng: random.Random, folder: Path) -> Iterator[Case]:
    """A kind of number in a split, a share of the values, a precision, error or skip; without end."""
    number = 0
    while True:
        for fill in FILLS:
            number += 1
            what = {
                "fill": fill, "split": rng.choice(list(SPLITS)), "dims": rng.choice((2, 3)),
                "precision": rng.choice(("fp32", "bf16")), "on_bad_sample": rng.choice(("error", "skip")),
                "whole": rng.random() < 0.5, "seed": rng.randrange(2**16),
            }  # fmt: skip
            words = ", ".join(f"{name} {value}" for name, value in what.items() if name != "fill")
            yield Case(f"{fill}: {words}", partial(_trained, folder / f"case_{number}", **what))  # type: ignore[arg-type]


def write_data(folder: Path, fill: str, split: str, dims: int, whole: bool, seed: int) -> None:
    """A store of people who sway, in which one sequence has the number: everywhere, or in one joint of one frame."""
    numbers = np.random.default_rng(seed)
    joints = 25 if dims == 3 else 17
    rest = numbers.normal(size=(joints, 3)) if dims == 3 else numbers.uniform(100, 400, (joints, 3))
    folder.mkdir(parents=True)
    names: dict[str, list[str]] = {name: [] for name in SPLITS}
    with StoreWriter(folder) as writer:
        for part, many in SPLITS.items():
            for row in range(many):
                name = BAD if (part, row) == (split, many // 2) else f"{part} {row}"
                length = int(numbers.integers(8, 20))
                frames = rest + 0.1 * numbers.normal(size=(length, 1, joints, 3))
                frames[..., row % CLASSES, 1] += np.sin(np.arange(length))[:, None]
                if dims == 2:
                    frames[..., 2] = 0.9
                if name == BAD:
                    place = np.s_[...] if whole else np.s_[length // 2, 0, joints // 2]
                    frames[place] = FILLS[fill]
                size = {"height": 480, "width": 640} if dims == 2 else {}
                with np.errstate(over="ignore"):
                    writer.add(Sample(name, row % CLASSES, frames.astype(np.float32), columns=size))
                names[part].append(name)
        layout = "ntu25" if dims == 3 else "coco17"
        writer.close("numbers", layout=layout, class_names=[f"class {label}" for label in range(CLASSES)])
    for part, listed in names.items():
        write_list(folder / "splits" / f"{part}.txt", listed)


def _trained(
    folder: Path, fill: str, split: str, dims: int, precision: str, on_bad_sample: str, whole: bool, seed: int
) -> Outcome:
    write_data(folder / "data", fill, split, dims, whole, seed)
    config = tiny_config(
        folder, feeder="feeders.feeder_store.Feeder", precision=precision, num_epoch=1, batch_size=25, seed=seed,
        feeder_args={"data_path": str(folder / "data"), "window_size": 16}, test_feeder_args={"split": "test"},
        train_feeder_args={"on_bad_sample": on_bad_sample}, val_feeder_args={"split": "val"}, naive_estimate_epoch=0,
        naive_mix_epoch=0,
    )  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml_text(config), encoding="utf-8")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = main(["--config", str(folder / "recipe.yaml")])
    usable = abs(FILLS[fill]) <= BAD_VALUE_LIMIT
    wanted = 0 if usable or (split == "train" and on_bad_sample == "skip") else 2
    return _end(code, wanted, printed.getvalue(), RunFolder(folder / "run"), named=not usable)


def _end(code: int, wanted: int, text: str, run: RunFolder, named: bool) -> Outcome:
    """Has a run ended with this exit code, the sequence named where it cannot be used, and all else finite?"""
    last = (text.strip().splitlines() or [""])[-1]
    if "Traceback" in text or code != wanted:
        return Outcome("lost", f"exit code {code}, wanted {wanted}: {last}")
    if named and BAD not in text:
        return Outcome("lost", f"a sequence that cannot be used was not named: {last}")
    if code == 2:
        return Outcome("refused", last)
    state, (line,) = load_checkpoint(run.last), run.read_metrics()
    weights = [key for key, value in state["model"].items() if not value.isfinite().all()]
    losses = {key: value for key, value in line.items() if isinstance(value, float) and not np.isfinite(value)}
    if weights or losses or not np.isfinite(read_scores(run.scores()).scores).all():
        return Outcome("lost", f"not finite: {weights[:3]}, {losses}")
    return Outcome("survived", digest(line))
