"""Small runs to disturb, and whether one ended as the undisturbed one did."""

from __future__ import annotations

import json
import math
import re
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from signal import SIGALRM, SIGKILL, SIGTERM
from typing import Any

import numpy as np
import torch
import yaml

from feeders.store import SkeletonStore
from processor.checkpoint import load_checkpoint
from processor.origin import CODE, KEY
from processor.run_folder import RunFolder
from processor.scores import read_scores

from .case import tiny_config
from .made_up import write_arrays, write_ntu_raw
from .process import Command, Fuse, Started

ENDS = 60  # seconds in which all processes of a run have ended after one of them died
SAVE_STEPS = 2  # last.pt is written after every second step
RUN: dict[str, Any] = {
    "model": "tools.faults.small.Model",
    "model_args": {"drop_out": 0.3},
    "num_epoch": 5,
    "logger": "none",  # see shown_run
    "save_steps": SAVE_STEPS,
    "log_interval": 1,
    "schedule": "cosine",
    "save_interval": 2,
    "save_epoch": 0,
    "dataset": "made_up",
    "train_feeder_args": {"n_max": 6, "imbalance": 6},
}
MODES: dict[str, dict[str, Any]] = {
    "fp32": {},
    "bf16": {"precision": "bf16"},
    "averaged": {"average_weights": "ema", "average_decay": 0.9},
    "refreshed": {"mixing_args": {"estimator": "refresh"}},
    "two processes": {},
}


def run_command(folder: Path, mode: str = "fp32", **changes: Any) -> Command:
    """A run of a second with dropout and everything else that could make a resumed run differ."""
    values = tiny_config(folder, **{**RUN, **MODES[mode], **changes})
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return Command("main", ["--config", str(path), "--plugin", "tools"], folder)


def shown_run(folder: Path) -> Command:
    """The same run with curves, pictures and a report, which take seconds."""
    return run_command(folder, logger="tensorboard", report=True)


def preparation(folder: Path, jobs: int = 1) -> Command:
    """Twelve raw NTU files to prepare."""
    raw = folder.parent / "raw"
    if not raw.is_dir():
        write_ntu_raw(
            raw, [f"S001C001P{person:03d}R001A{action:03d}" for person in (1, 2, 3) for action in range(1, 5)]
        )
    words = ["--raw", str(raw), "--out", str(folder / "run"), "--dataset", "ntu60", "--jobs", str(jobs)]
    return Command("tools.prepare_ntu", words, folder)


def conversion(folder: Path, jobs: int = 1) -> Command:
    """Twelve arrays to convert."""
    arrays = folder.parent / "arrays"
    if not arrays.is_dir():
        write_arrays(arrays)
    words = [str(arrays), "--out", str(folder / "run"), "--layout", "ntu25", "--jobs", str(jobs)]
    return Command("tools.convert", words, folder)


def start_all(
    command: Command,
    processes: int,
    fuses: Mapping[int, Fuse] | None = None,
    words: Mapping[int, Sequence[str]] | None = None,
) -> list[Started]:
    """Starts a command, as torchrun does where there are several processes; ``fuses`` and more ``words`` of ranks."""
    if processes == 1:
        return [command.start((fuses or {}).get(0))]
    own = [replace(command, words=[*command.words, *(words or {}).get(rank, [])]) for rank in range(processes)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        own[rank].start((fuses or {}).get(rank), **shared, RANK=str(rank), LOCAL_RANK=str(rank))
        for rank in range(processes)
    ]


def result(folder: Path) -> dict[str, Any]:
    """What a run or a preparation ended with, without timings, and whatever is committed meanwhile.

    Raises:
        ValueError: a run has no scores, or its best.pt is not of the best line of its metrics.
    """
    if (folder / "meta.json").is_file():
        store = SkeletonStore(folder)
        store.check()
        return {"checksum": store.checksum, "ids": store.ids, "report": (folder / "report.json").read_text()}
    run = RunFolder(folder)
    lines, scores = run.read_metrics(), read_scores(run.scores())
    for line in lines:
        del line["samples_per_s"]
    states = {path.name: _comparable(load_checkpoint(path), folder.parent) for path in sorted(folder.glob("*.pt"))}
    best = max((line for line in lines if "top1" in line), key=lambda line: line["top1"])
    for state in (states[run.best.name], states[run.last.name]):
        if (state["best"]["epoch"], state["best"]["value"]) != (best["epoch"], best["top1"]):
            raise ValueError(f"{run.metrics} is best in epoch {best['epoch']}, but a checkpoint says {state['best']}")
    if states[run.best.name]["epoch"] != best["epoch"] + 1:
        raise ValueError(f"{run.best} is of epoch {states[run.best.name]['epoch'] - 1}, not {best['epoch']}")
    tables = {path.name: np.load(path).tolist() for path in sorted(folder.glob("*_saliency.npy"))}
    tested = {"ids": scores.ids, "labels": np.asarray(scores.labels).tolist(), "scores": scores.scores.tolist()}
    return {"checkpoints": states, "metrics": lines, "tables": tables, "scores": tested}


def _comparable(state: dict[str, Any], place: Path) -> dict[str, Any]:
    """A checkpoint without what differs from run to run, such as the folder in which it was made."""
    state["meter"].pop("seconds")
    for key in CODE:
        del state[KEY][key]
    del state["metrics"]  # checksums of lines with timings
    state["config"] = json.loads(json.dumps(state["config"]).replace(json.dumps(str(place))[1:-1], ""))
    return state


def difference(ours: Any, theirs: Any, tolerance: float = 0.0, path: str = "") -> str | None:
    """Where two results differ by more than a tolerance; None: nowhere."""
    if isinstance(ours, torch.Tensor) and isinstance(theirs, torch.Tensor):
        same = ours.shape == theirs.shape and torch.allclose(ours.double(), theirs.double(), rtol=0, atol=tolerance)
        return None if same else path
    if type(ours) is not type(theirs):
        return path
    if isinstance(ours, dict):
        if ours.keys() != theirs.keys():
            return path
        parts = ((f"{path}.{key}", ours[key], theirs[key]) for key in ours)
    elif isinstance(ours, (list, tuple)):
        if len(ours) != len(theirs):
            return path
        parts = ((f"{path}[{place}]", *both) for place, both in enumerate(zip(ours, theirs, strict=True)))
    elif isinstance(ours, float) and not math.isnan(ours):
        return None if abs(ours - theirs) <= tolerance else path
    else:
        return None if ours == theirs or (ours != ours and theirs != theirs) else path
    return next((found for where, one, other in parts if (found := difference(one, other, tolerance, where))), None)


def repeated(folder: Path) -> int:
    """Steps of training that were done, by the log, but that last.pt lacks."""
    found = re.findall(r"epoch (\d+) step (\d+)/(\d+)", (folder / "log.txt").read_text()) if folder.is_dir() else []
    if not found:
        return 0
    epoch, step, steps = map(int, found[-1])
    done = epoch * steps + step
    if not (folder / "last.pt").is_file():
        return done
    state = load_checkpoint(folder / "last.pt")
    return done - state["epoch"] * steps - state["meter"]["steps"]


@cache
def undisturbed(
    make: Callable[..., Command], folder: Path, *args: Any, processes: int | None = None
) -> tuple[dict[str, Any], float, int]:
    """What a command ends with when nothing happens, its duration, and its operations on files."""
    command = make(folder, *args)
    begun = time.monotonic()
    started = start_all(command, processes or processes_of(*args))
    if any(one.wait(ENDS) for one in started):
        raise RuntimeError(started[0].text)
    return result(folder / "run"), time.monotonic() - begun, int(started[0].events.read_text())


def processes_of(mode: Any = "", *_: Any) -> int:
    """How many processes a mode has."""
    return 2 if mode == "two processes" else 1


def ended(started: Sequence[Started]) -> str | None:
    """What is wrong with the end of processes, one of which was killed (or all had ended before): None, if nothing.

    They end by themselves. Only those that still wait for the killed one to join are ended, as torchrun does at once.
    """
    begun = time.monotonic()
    while time.monotonic() - begun < ENDS / 2 and any(one.wait(0) is None for one in started):
        time.sleep(0.05)
    waiting = [one for one in started if one.wait(0) is None and one.waits.exists()]
    for one in waiting:
        one.process.terminate()
    codes = [one.wait(ENDS / 2) for one in started]
    if None in codes:
        for one in started:
            one.kill()
        return f"a process still runs after {ENDS} s: exit codes {codes}"
    others = [one for one, code in zip(started, codes, strict=True) if code not in (0, -SIGKILL, -SIGALRM)]
    alone = [one for one in others if one not in waiting or one.wait() != -SIGTERM]
    wrong = [one.text[-1500:] for one in alone if "Traceback" in one.text or "error: " not in one.text]
    return f"no readable cause: {wrong[0]}" if wrong else None
