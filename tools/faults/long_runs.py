"""Long runs: what a run holds and writes grows with nothing but the lines of its epochs."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy.stats import theilslopes

from processor.run_folder import RunFolder

from .case import LIMIT, ROOT, Case, Outcome, single, tiny_config

EPOCHS = 2000
MEMORY = 1.0  # MiB in 100 epochs, at most
WRITTEN = 8192  # bytes of an epoch in log, metrics and TensorBoard's files, at most
WARM_UP = 0.25  # of a run: until then, memory that is freed is kept
LOOK = 0.25  # seconds between two looks at the process
MOST_LOOKS = 1000  # in a slope, whose cost is their square
EXTRA = 40  # MiB by which memory may grow, where the run is too short for a slope


@dataclass(frozen=True)
class Look:
    """A process at one moment: epochs that are done, memory in MiB, open files."""

    epoch: int
    memory: float
    files: int


def cases(rng: random.Random, folder: Path) -> Iterator[Case]:
    """A short one, then a long one, in turn."""
    while True:
        for epochs in (rng.randint(100, 200), EPOCHS):
            run = partial(long_run, folder, epochs, rng.choice(["none", "shap_mix", "mixup"]))
            yield Case(f"many epochs: {epochs}", run, limit=LIMIT if epochs < EPOCHS else 4 * 3600)


def long_run(folder: Path, epochs: int, mixing: str = "shap_mix") -> Outcome:
    """Trains one step an epoch, and watches the process from outside."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    values = tiny_config(
        folder, num_epoch=epochs, mixing=mixing, eval_interval=max(1, epochs // 40), print_log=False,
        train_feeder_args={"n_max": 1, "imbalance": 1}, test_feeder_args={"num_test": 1}, batch_size=12, threads=1,
    )  # fmt: skip
    (folder / "run.yaml").write_text(json.dumps(values), encoding="utf-8")
    words = [sys.executable, "main.py", "--config", str(folder / "run.yaml")]
    with open(folder / "printed.txt", "w+b") as printed:
        process = subprocess.Popen(words, cwd=ROOT, env=single(), stdout=printed, stderr=subprocess.STDOUT)
        try:
            looks = list(watch(process, RunFolder(values["work_dir"])))
        finally:
            process.kill()
        printed.seek(0)
        last = printed.read()[-300:].decode(errors="replace")
    if process.wait() != 0:
        return Outcome("lost", f"exit code {process.returncode}: {last}")
    return judged(looks, epochs, RunFolder(values["work_dir"]))


def watch(process: subprocess.Popen[bytes], folder: RunFolder) -> Iterator[Look]:
    """Looks at a process until it ends."""
    place = Path("/proc", str(process.pid))
    while process.poll() is None:
        time.sleep(LOOK)
        try:
            pages = int((place / "statm").read_text().split()[1])
            files = len(list((place / "fd").iterdir()))
            epoch = folder.metrics.read_bytes().count(b"\n") if folder.metrics.is_file() else 0
        except (OSError, IndexError):
            continue
        if epoch and files > 3:  # else it ends, and has only its three streams
            yield Look(epoch, pages * 4096 / 2**20, files)


def judged(looks: list[Look], epochs: int, folder: RunFolder) -> Outcome:
    """Survived, where memory, open files and what is written stay within their bounds; the figures in words."""
    late = [look for look in looks if look.epoch > WARM_UP * epochs]
    third = len(late) // 3
    if not third:
        return Outcome("lost", f"only {len(late)} looks at {epochs} epochs")
    memory = np.array([look.memory for look in late])
    some = slice(None, None, -(-len(late) // MOST_LOOKS))
    # the median of the slopes of all pairs: at a few looks, tens of MiB are out of memory for a moment
    slope = 100 * theilslopes(memory[some], [look.epoch for look in late[some]]).slope
    grown = float(np.median(memory[-third:]) - np.median(memory[:third]))
    before, after = (min(look.files for look in part) for part in (late[:third], late[-third:]))  # a save opens some
    paths = [folder.log, folder.metrics, *folder.tensorboard.rglob("*")]
    written = sum(path.stat().st_size for path in paths if path.is_file()) / epochs
    steep = slope > MEMORY if epochs >= EPOCHS else grown > EXTRA
    words = (
        f"{slope:.2f} MiB in 100 epochs (grown by {grown:.1f} of {memory.max():.0f} MiB), {before} open files first, "
        f"{after} last, {written:.0f} bytes an epoch written"
    )
    return Outcome("lost" if steep or after > before or written > WRITTEN else "survived", words)
