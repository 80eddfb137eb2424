"""A run's folder, ``work_dir/<run>``: its file names, who holds it, which config it belongs to, what it records."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from feeders.files import SEAL, append, kind_of, parse_json, sealed, write_atomically, writing
from feeders.locks import Lock, OthersLockError, try_lock

from .checkpoint import load_checkpoint
from .config import Config
from .config_files import read_yaml
from .errors import BusyError, CheckpointError, ConfigError
from .metrics_lines import Recorded, differences, read_lines, recorded_by
from .origin import origin
from .parts import check_parts
from .report.logger import LOGGER_ID, Logger, grouped
from .yaml_text import yaml_text

log = logging.getLogger(__name__)

POLL = 0.05  # seconds between two attempts to lock the folder
SHARED_PATIENCE = 5.0  # seconds until a file that one process wrote is there for all
PATIENCE = 1.0  # seconds: another process that asks whether the folder is busy holds the lock for a moment
CALL_ONLY = {"config", "phase", "resume", "overwrite", "plugins"}  # keys that config.yaml leaves out


class RunFolder:
    """The only place that knows the files of a run. Nothing is created before something is written.

    Attributes:
        path: the folder.
        config, environment, metrics, log, output: config.yaml, environment.json, metrics.jsonl, log.txt, and
            output.txt, what a run of a sweep prints.
        last, best: the checkpoints.
        report: report.html, the page that shows the run.
        explanation: explanation.npz, of the weights in ``last``.
        source: the checkpoint that the run goes on from; :meth:`resume` may find another one than ``last``.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path) if isinstance(path, str) else path  # a zipfile.Path can be read too
        self.config, self.environment = self.path / "config.yaml", self.path / "environment.json"
        self.metrics, self.log, self.output = (self.path / name for name in ("metrics.jsonl", "log.txt", "output.txt"))
        self.last, self.best = self.checkpoint("last"), self.checkpoint("best")
        self.report, self.explanation = self.path / "report.html", self.path / "explanation.npz"
        self.source, self.tensorboard = self.last, self.path / "tensorboard"
        self.logger_id = self.path / LOGGER_ID
        self._lock_file, self._holder = self.path / ".lock", self.path / ".holder"
        self._shown, self._begun = self.path / ".shown", self.path / ".begun"
        self._lock: Lock | None = None

    def __str__(self) -> str:
        return str(self.path)

    def checkpoint(self, name: str) -> Path:
        """``last``, ``best`` or ``epoch_<N>``."""
        return self.path / f"{name}.pt"

    def holds(self, path: Path) -> bool:
        """Does a file lie in this folder, be it a link?"""
        return path.parent.resolve() == self.path.resolve()

    def scores(self, split: str = "test", weights: Path | None = None) -> Path:
        """The score file of a split: of the last epoch, or of the tested ``weights``."""
        return self.path / f"scores_{split}{'' if weights is None else f'_{weights.stem}'}.npz"

    def saliency_table(self, prefix: str) -> Path:
        """The saliency table, ``<prefix>_saliency.npy``; the prefix without the separators of folders."""
        return self.path / f"{prefix.replace('/', '_').replace(os.sep, '_')}_saliency.npy"

    # --- who holds it ------------------------------------------------------------------------------------------------

    def acquire(self) -> None:
        """Creates the folder and locks it for this process, until :meth:`release` or the process's end.

        Raises:
            BusyError: another process holds it; the message says which.
        """
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        last = time.monotonic() + PATIENCE
        try:
            while (lock := try_lock(self._lock_file)) is None and time.monotonic() < last:
                time.sleep(POLL)
        except OthersLockError:
            raise
        except OSError as error:
            log.warning("%s cannot be locked (%s); make sure that no other process trains there", self, error)
            return
        if lock is None:
            holder = f" ({self._holder.read_text(encoding='utf-8')})" if self._holder.is_file() else ""
            raise BusyError(
                f"another process is training in work_dir {self}{holder}; wait for it, or choose another --work_dir"
            )
        self._lock = lock
        if not self.is_locked_for_others():
            self.release()
            raise ConfigError(
                f"{self}: the locks of this file system exclude nobody, so that two runs could write there at once; "
                "choose a --work_dir on another one"
            )
        holder = f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}"
        write_atomically(self._holder, holder.encode())

    def is_locked_for_others(self) -> bool:
        """Does the lock that a process holds keep others out, as seen from here? True also where that is not known.

        On some shared file systems, locks do not reach other nodes, or exclude nobody.
        """
        try:
            lock = try_lock(self._lock_file, create=False)
        except OSError:
            return True
        if lock is not None:
            lock.release()
        return lock is None

    def release(self) -> None:
        """Lets other processes train there, if this one holds the folder."""
        if self._lock is not None:
            self._holder.unlink(missing_ok=True)
            self._lock.release()
            self._lock = None

    def begin(self, launcher: str) -> None:
        """Notes which torchrun began the run in the place of another one, so that it is not begun again after that."""
        if launcher:
            write_atomically(self._begun, launcher.encode())

    def end(self) -> None:
        """Forgets who began the run, which is complete."""
        self._begun.unlink(missing_ok=True)

    def begun_by(self, launcher: str) -> bool:
        """Did this torchrun begin the run that the folder holds?"""
        return bool(launcher) and self._begun.is_file() and self._begun.read_text(encoding="utf-8") == launcher

    def show(self, token: int | None) -> None:
        """Writes a number that other processes look for, or removes it."""
        if token is None:
            self._shown.unlink(missing_ok=True)
        else:
            write_atomically(self._shown, str(token).encode())

    def sees(self, token: int) -> bool:
        """Is it the folder in which another process shows this number? A network's folder may take seconds."""
        last = time.monotonic() + SHARED_PATIENCE
        while (
            not (found := self._shown.is_file() and self._shown.read_text() == str(token)) and time.monotonic() < last
        ):
            time.sleep(POLL)
        return found

    def check_place(self) -> None:
        """ConfigError where the folder that this process holds was moved or removed: files would lie in two places."""
        if self._lock is not None and not self._lock.is_on(self._lock_file):
            raise ConfigError(
                f"{self} was moved or removed while this run trains there; move it back and start it again"
            )

    def is_busy(self) -> bool:
        """Does a process train there now?"""
        if not self._lock_file.is_file():
            return False
        try:
            lock = try_lock(self._lock_file, create=False)
        except OSError:  # no permission to lock it; the training process reports that
            return False
        if lock is None:
            return self._holder.is_file()  # else another process only asks, as this one does
        lock.release()
        return False

    # --- which config it belongs to ----------------------------------------------------------------------------------

    def other_keys(self, config: Config) -> list[str]:
        """Keys in which the stored config differs from this one; none where the folder holds no run."""
        return config.other_keys(read_yaml(self.config)) if self.config.is_file() else []

    def resume(self, config: Config) -> dict[str, Any] | None:
        """The checkpoint from which a run continues, or None for a fresh start.

        Raises:
            ConfigError: the folder holds a run of another config. A checkpoint that ``resume`` names may be of one with
                another ``num_epoch``, as long as there are epochs left to train.
            CheckpointError: the checkpoint cannot be read.
        """
        present = None
        if self.last.is_file() and not config.overwrite:
            present = _own_checkpoint(self.last, config)
        elif not config.overwrite:
            self._check_that_nothing_is_lost(config)
        if config.resume in ("auto", "none"):
            return present
        named = Path(config.resume)
        state = _own_checkpoint(named, config)
        if present is not None and not self.holds(named) and _reached(present) > _reached(state):
            log.info("%s is further on than %s: the run continues from there", self.last, named)
            return present  # else the user goes back
        self.source = named
        return state

    def _check_that_nothing_is_lost(self, config: Config) -> None:
        """ConfigError where the folder has no last.pt, but something that a new run would replace.

        A run that is killed before its first last.pt has none of it: that is written before the first metrics.
        """
        other, advice = self.other_keys(config), "choose another --work_dir, or --overwrite it"
        lines, damaged = read_lines(self.metrics)
        if lines and (other or (config.num_epoch and self.is_complete(config.num_epoch))):
            whose = f"a run of another config (other {', '.join(other)})" if other else "this run, finished"
            raise ConfigError(f"{self} holds the results of {whose}, without its {self.last.name}; {advice}")
        if other and not self.environment.is_file():
            raise ConfigError(f"{self.config} is a config of your own, which a run there would replace; {advice}")
        results = f"{self.best.name} and " * self.best.is_file() + f"the metrics of {len(lines)} epochs"
        replaces = config.num_epoch and (lines or damaged or self.best.is_file())  # without epochs it only evaluates
        if replaces and config.resume in ("auto", "none"):
            raise ConfigError(
                f"{self.last} {kind_of(self.last)}, but {self} has {results} of this run, which a new one would "
                f"replace; put {self.last.name} back, go on from another checkpoint with --resume FILE, or --overwrite "
                "the run to begin again"
            )

    def is_complete(self, num_epoch: int) -> bool:
        """Does it hold the metrics and scores of the last epoch?"""
        lines = self.read_metrics()
        return bool(lines) and lines[-1]["epoch"] == num_epoch - 1 and self.scores().is_file()

    def lost(self, config: Config, state: Mapping[str, Any]) -> Iterator[str]:
        """What this run, finished with a checkpoint, should have but lacks, and how to make it again, in words."""
        again = "nothing but training again (--overwrite) makes it"
        if config.save_score and not self.scores().is_file():
            yield (
                f"{self.scores()} is missing: the same command with --phase test --weights {self.last} writes these "
                f"scores to {self.scores('test', self.last).name}, which you may rename"
            )
        lines = [line for line in self.read_metrics() if line["epoch"] >= 0]
        if wrong := differences(lines, recorded_by(state)):
            yield f"{self.metrics}: {wrong}; {again}"
        if state["best"] and (problem := self.best_problem()):
            yield f"{self.best} {problem}, of epoch {state['best']['epoch']}; {again}"
        if config.report and not self.report.is_file():
            yield f"{self.report} is missing: python -m tools.report {self} makes it"

    def best_problem(self) -> str | None:
        """Why best.pt cannot be used, in words; None: it can."""
        if not self.best.is_file():
            return "is missing"
        try:
            load_checkpoint(self.best)
        except CheckpointError:
            return "is damaged"
        return None

    def clear(self) -> None:
        """Removes what a run writes, and nothing else; log.txt stays and is added to."""
        kept = [
            self.config, self.environment, self.metrics, self.last, self.best, self.report, self.explanation,
            self.logger_id,
        ]  # fmt: skip
        many = [path for pattern in ("epoch_*.pt", "*_saliency.npy") for path in self.path.glob(pattern)]
        for path in [*kept, self.scores(), self.scores("val"), *many]:
            path.unlink(missing_ok=True)
        shutil.rmtree(self.tensorboard, ignore_errors=True)

    # --- records -----------------------------------------------------------------------------------------------------

    def write_config(self, config: Config) -> None:
        """config.yaml: every key of the run, as resolved; a config file in its own right."""
        text = yaml_text(config.model_dump(exclude=CALL_ONLY))
        write_atomically(self.config, text.encode())

    def write_environment(self, data_checksum: str, weights_checksum: str | None, device: torch.device) -> None:
        """environment.json: versions, commit, checksums of data and starting weights, command, machine."""
        program = Path(sys.argv[0])  # runs are published; where a copy of the code lies is not
        as_module = program.name == "__main__.py" and program.parent.name == "processor"
        facts = {
            "command": ["main.py" if as_module else program.name, *sys.argv[1:]],
            **origin(device),
            "data_checksum": data_checksum,
            "weights_checksum": weights_checksum,
        }
        write_atomically(self.environment, json.dumps(facts, indent=1).encode())

    def weights_checksum(self) -> str | None:
        """Checksum of the weights that the run began with, where its environment.json has one."""
        if not self.environment.is_file():
            return None
        try:
            return parse_json(self.environment.read_bytes()).get("weights_checksum")
        except (ValueError, AttributeError) as error:
            raise ConfigError(
                f"{self.environment} is damaged ({error}); delete its folder to train this run again"
            ) from error

    def read_metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, without damaged ones: a crash may have cut off the last."""
        return read_lines(self.metrics)[0]

    def damaged_metrics(self) -> list[int]:
        """Numbers, from 1, of the lines of metrics.jsonl that cannot be read."""
        return read_lines(self.metrics)[1]


class MetricsLog:
    """One JSON line an epoch in metrics.jsonl, and the same metrics in a logger.

    Args:
        folder: of the run.
        first_epoch: lines of this epoch and later ones are of a run that was cut off, and are taken out.
        logger: by default none.
        recorded: the lines before, by the checkpoint; a warning says what is wrong with those in the file.
    """

    def __init__(
        self, folder: RunFolder, first_epoch: int, logger: Logger | None = None, recorded: Recorded | None = None
    ) -> None:
        self.path = folder.metrics
        lines, damaged = read_lines(self.path)
        kept = [line for line in lines if 0 <= line["epoch"] < first_epoch]  # -1 is before any
        wrong = differences(kept, dict.fromkeys(range(first_epoch)) if recorded is None else recorded)
        if wrong:  # else the damaged lines are of what is trained again
            left_out = f"damaged and left out are lines {', '.join(map(str, damaged))}; " if damaged else ""
            log.warning("%s: %s%s", self.path, left_out, wrong)
        write_atomically(self.path, "".join(json.dumps(sealed(line)) + "\n" for line in kept).encode())
        self.logger = logger or Logger(folder.path, first_epoch, {})

    def add(self, metrics: Mapping[str, Any]) -> int:
        """Writes one epoch's metrics; returns the checksum of the line."""
        line = sealed(metrics)
        append(self.path, json.dumps(line) + "\n")
        self.logger.scalars(grouped(metrics), metrics["epoch"])
        return int(line[SEAL])

    def close(self) -> None:
        """Ends the logger."""
        self.logger.close()


def _own_checkpoint(source: Path, config: Config) -> dict[str, Any]:
    """The checkpoint in a file, if it is one of this run, or of one that the user extends by naming the file."""
    state = load_checkpoint(source)
    if not {"config", "epoch", "model", "optimizer"} <= state.keys():
        raise CheckpointError(f"{source} is not a checkpoint of a run; bare weights go to --weights")
    check_parts(source, state, "mixer", "meter", "best")
    other = config.other_keys(state["config"])
    num_epoch = state["config"].get("num_epoch", config.num_epoch)
    if other == ["num_epoch"] and config.resume not in ("auto", "none") and config.num_epoch > state["epoch"]:
        return state
    if other or config.resume == "none":
        finished = "a finished" if state["epoch"] >= num_epoch else "an unfinished"
        reason = f"of another config (other {', '.join(other)})" if other else "and resume is none"
        extend = f"--resume {source} --num_epoch {state['epoch'] + 1} or more extends it; " * (other == ["num_epoch"])
        raise ConfigError(
            f"{source} holds {finished} run {reason}; choose another --work_dir, or --overwrite it. {extend}"
            f"{train_on(source)}"
        )
    return state


def _reached(state: Mapping[str, Any]) -> tuple[int, int]:
    """The epoch in which a checkpoint's run is, and how many of its steps are done."""
    return state["epoch"], state.get("meter", {}).get("steps", 0)


def train_on(checkpoint: Path) -> str:
    """How other settings go on from a checkpoint, as a part of a message."""
    return f"--weights {checkpoint} --work_dir NEW trains on from its weights with other settings"
