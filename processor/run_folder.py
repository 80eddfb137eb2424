"""What a run leaves behind besides checkpoints: log.txt, metrics.jsonl, TensorBoard, config.yaml, environment.json."""

from __future__ import annotations

import json
import logging
import platform
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from tensorboardX import SummaryWriter
from tqdm import tqdm

from feeders.files import write_atomically

from .config import Config

log = logging.getLogger(__name__)


class _Console(logging.Handler):
    """Prints above a progress bar, where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stdout)


def open_log(work_dir: Path | None, console: bool) -> None:
    """Sends the project's log to the console and, given a work_dir, to its log.txt (appended).

    Until there is a work_dir, lines are kept, so that log.txt begins with what was said about the config.
    """
    root = logging.getLogger()
    early = [line for handler in root.handlers if isinstance(handler, MemoryHandler) for line in handler.buffer]
    close_log()
    root.setLevel(logging.INFO)
    logging.getLogger("processor").setLevel(logging.DEBUG)
    handlers: list[logging.Handler] = [logging.NullHandler()]
    if console:
        handlers.append(_Console(logging.INFO))
        handlers[-1].setFormatter(logging.Formatter("%(message)s"))
    if work_dir is None:
        handlers.append(MemoryHandler(capacity=10_000, flushLevel=logging.CRITICAL + 1))
    else:
        handlers.append(logging.FileHandler(work_dir / "log.txt", encoding="utf-8"))
        handlers[-1].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        for line in early:
            handlers[-1].handle(line)
    for handler in handlers:
        handler.set_name("shapmix")
        root.addHandler(handler)


def close_log() -> None:
    """Takes back what :func:`open_log` opened."""
    for handler in list(logging.getLogger().handlers):
        if handler.get_name() == "shapmix":
            logging.getLogger().removeHandler(handler)
            handler.close()


def write_config(work_dir: Path, config: Config) -> None:
    """config.yaml: every key of the run, as resolved; a config file in its own right."""
    of_this_call = {"config", "phase", "resume", "overwrite", "plugins"}
    text = yaml.safe_dump(config.model_dump(exclude=of_this_call), sort_keys=False, allow_unicode=True)
    write_atomically(work_dir / "config.yaml", text.encode())


def write_environment(
    work_dir: Path, checksum: str, weights_checksum: str | None, device: torch.device, processes: int
) -> None:
    """environment.json: versions, commit, checksums of the data and of the weights it began with, command, machine."""
    commit = None
    try:
        root = Path(__file__).parents[1]
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        log.info("no git commit is known for this copy of the code")
    facts = {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],  # runs are published; where a copy of the code lies is not
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "git_commit": commit,
        "data_checksum": checksum,
        "weights_checksum": weights_checksum,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processes": processes,
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
    }
    write_atomically(work_dir / "environment.json", json.dumps(facts, indent=1).encode())


class MetricsLog:
    """One JSON line an epoch in metrics.jsonl, and the same figures in TensorBoard.

    Args:
        work_dir: of the run.
        first_epoch: lines of this epoch and later ones are of a run that was cut off, and are taken out.
    """

    def __init__(self, work_dir: Path, first_epoch: int) -> None:
        self.path = work_dir / "metrics.jsonl"
        kept = [line for line in read_metrics(work_dir) if 0 <= line["epoch"] < first_epoch]  # -1 is before any
        write_atomically(self.path, "".join(json.dumps(line) + "\n" for line in kept).encode())
        self.board = SummaryWriter(str(work_dir / "tensorboard"), purge_step=first_epoch)

    def add(self, figures: Mapping[str, Any]) -> None:
        """Writes one epoch's figures; lists and missing figures stay out of TensorBoard."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(dict(figures)) + "\n")
        for name, value in figures.items():
            if isinstance(value, (int, float)) and name != "epoch":
                self.board.add_scalar(name, value, figures["epoch"])
        self.board.flush()

    def close(self) -> None:
        """Closes TensorBoard's file."""
        self.board.close()


def read_metrics(work_dir: Path | zipfile.Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, up to the first that is none: a crash may have cut off the last."""
    path = work_dir / "metrics.jsonl"
    lines: list[dict[str, Any]] = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []:
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            break
        if not isinstance(line, dict) or not isinstance(line.get("epoch"), int):
            break
        lines.append(line)
    return lines
