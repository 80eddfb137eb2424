"""Where the metrics of a run go besides metrics.jsonl: TensorBoard, Weights & Biases, Trackio, or nowhere.

Names are grouped: ``loss/train_loss``, ``accuracy/top1``, ``group/few``, ``speed/samples_per_s``, ``shapmix/guidance``.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import RecordWriter
from tensorboardX.summary import hparams, image, scalar

from feeders.files import write_atomically, writing

from ..errors import ConfigError

log = logging.getLogger(__name__)

PROJECT = "shapmix"
LOGGER_ID = ".logger_id"  # a file in a run's folder
GROUPS = {
    "loss": ("lr", "train_loss", "train_mix_loss", "test_loss", "temperature"),
    "accuracy": ("train_top1", "mean_class_accuracy", "ece"),  # and top1, top5, ...
    "group": ("many", "medium", "few"),
    "speed": ("samples_per_s",),
}
MIXERS = "shapmix"  # what a mixer records, under names of its own
Scalars = Mapping[str, float]


def grouped(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line of metrics.jsonl by their grouped names; lists and missing values are left out."""
    return {
        f"{_group(name)}/{name}": float(value)
        for name, value in metrics.items()
        if isinstance(value, (int, float)) and name != "epoch"
    }


def _group(name: str) -> str:
    bare = name.removeprefix("raw_").removeprefix("val_")
    if bare.startswith("top") and bare[3:].isdecimal():
        return "accuracy"
    return next((group for group, names in GROUPS.items() if bare in names), MIXERS)


class Logger:
    """What all have in common, and ``logger: none``, which keeps nothing.

    Args:
        folder: of the run.
        first_epoch: what is there of this epoch and later ones belongs to a run that was cut off.
        settings: the run's hyper-parameters.

    Attributes:
        keeps: whether it keeps anything.
        module: the package that it needs besides ours, if any.
    """

    keeps, module = False, ""

    def __init__(self, folder: Path, first_epoch: int, settings: Mapping[str, Any]) -> None:
        self.folder, self.settings = folder, plain_settings(settings)

    def scalars(self, values: Scalars, epoch: int) -> None:
        """Keeps the numbers of an epoch, by grouped names."""

    def images(self, images: Mapping[str, np.ndarray], epoch: int) -> None:
        """Keeps images (height, width, 3) uint8 of an epoch."""

    def results(self, values: Scalars) -> None:
        """Keeps the final figures beside the hyper-parameters."""

    def close(self) -> None:
        """Ends it; what was kept stays."""


class TensorBoard(Logger):
    """An event file in the run's folder ``tensorboard``; whole after each call, without a thread of its own."""

    keeps = True

    def __init__(self, folder: Path, first_epoch: int, settings: Mapping[str, Any]) -> None:
        super().__init__(folder, first_epoch, settings)
        self.path = (folder / "tensorboard").absolute()  # a path such as s3:a is not for a service
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            name = f"events.out.tfevents.{time.time():017.6f}.{socket.gethostname()}"
            self.records = RecordWriter(str(self.path / name))
            start = SessionLog(status=SessionLog.START)
            self._add([Event(file_version="brain.Event:2"), Event(session_log=start)], first_epoch)

    def _add(self, events: Iterable[Event], epoch: int | None = None) -> None:
        for event in events:
            event.wall_time = time.time()
            if epoch is not None:
                event.step = epoch
            self.records.write(event.SerializeToString())
        self.records.flush()

    def scalars(self, values: Scalars, epoch: int) -> None:
        self._add((Event(summary=scalar(name, value)) for name, value in values.items()), epoch)

    def images(self, images: Mapping[str, np.ndarray], epoch: int) -> None:
        made = (image(name, values, dataformats="HWC") for name, values in images.items())
        self._add((Event(summary=one) for one in made), epoch)

    def results(self, values: Scalars) -> None:
        """In the same event file: ``add_hparams`` would make a second run."""
        self._add(Event(summary=one) for one in hparams(self.settings, dict(values)))

    def close(self) -> None:
        self.records.close()


class WeightsAndBiases(Logger):
    """A run of wandb, which a resumed run goes on with; WANDB_MODE=offline keeps it on this machine."""

    keeps, module = True, "wandb"

    def __init__(self, folder: Path, first_epoch: int, settings: Mapping[str, Any]) -> None:
        super().__init__(folder, first_epoch, settings)
        self.client = client(self.module)
        try:
            self.run = self._begin(run_id(folder))
        except Exception as error:  # of an account or a connection, of any type
            raise ConfigError(f"logger: {self.module} cannot begin a run ({error}); logger: tensorboard can") from error

    def _begin(self, own: str) -> Any:
        arguments = {"project": PROJECT, "name": str(self.folder), "dir": str(self.folder), "config": self.settings}
        return self.client.init(id=own, resume="allow", **arguments)

    def scalars(self, values: Scalars, epoch: int) -> None:
        self.run.log(dict(values), step=max(epoch, 0))

    def images(self, images: Mapping[str, np.ndarray], epoch: int) -> None:
        self.run.log({name: self.client.Image(image) for name, image in images.items()}, step=max(epoch, 0))

    def results(self, values: Scalars) -> None:
        self.run.summary.update(dict(values))

    def close(self) -> None:
        self.run.finish()


class Trackio(WeightsAndBiases):
    """The same with trackio, which has no ids and no summary: a run is found by its name."""

    module = "trackio"

    def _begin(self, own: str) -> Any:
        name = re.sub(r"[^\w.-]+", "_", f"{self.folder} {own}").strip("._")  # it becomes a folder's name there
        return self.client.init(project=PROJECT, name=name, config=self.settings, resume="allow")

    def results(self, values: Scalars) -> None:
        """The last epoch's values are the last ones that were kept."""


class Spared(Logger):
    """A logger whose failure ends no run: what follows is not kept, which is said at once and at the end."""

    def __init__(self, inner: Logger) -> None:
        self.inner, self.keeps, self.failure = inner, inner.keeps, ""
        self.name = f"{type(inner).__name__} of {inner.folder}"

    def _try(self, call: Callable[..., None], *args: Any) -> None:
        try:
            call(*args)
        except Exception as error:  # of a disk, an account or a connection, of any type
            self.failure = str(error)
            log.warning("%s failed (%s): the run goes on without it; metrics.jsonl has the figures", self.name, error)
            log.debug("no %s", self.name, exc_info=True)
            with suppress(Exception):
                self.inner.close()
            self.inner, self.keeps = Logger(self.inner.folder, 0, {}), False

    def scalars(self, values: Scalars, epoch: int) -> None:
        self._try(self.inner.scalars, values, epoch)

    def images(self, images: Mapping[str, np.ndarray], epoch: int) -> None:
        self._try(self.inner.images, images, epoch)

    def results(self, values: Scalars) -> None:
        self._try(self.inner.results, values)

    def close(self) -> None:
        if self.failure:
            log.warning("%s lacks the end of the run (%s)", self.name, self.failure)
        self._try(self.inner.close)


LOGGERS: dict[str, type[Logger]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "trackio": Trackio,
    "none": Logger,
}


def check_logger(name: str) -> None:
    """ConfigError where the package of a logger is not installed."""
    if LOGGERS[name].module:
        client(LOGGERS[name].module)


def open_logger(name: str, folder: Path, first_epoch: int, settings: Mapping[str, Any]) -> Logger:
    """The logger of that name, which ends no run once it has begun; see :class:`Logger`.

    Raises:
        ValueError: it cannot begin.
    """
    return Spared(LOGGERS[name](folder, first_epoch, settings))


def client(module: str) -> Any:
    """The package of that name, which is imported only here."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(f"logger: {module} is not installed ({error}): pip install {module}") from error


def run_id(folder: Path) -> str:
    """The id of a run for these services, kept in its folder, so that a resumed run goes on under it."""
    path = folder / LOGGER_ID
    if not path.is_file():
        write_atomically(path, secrets.token_hex(8).encode())
    return path.read_text(encoding="utf-8")


def plain_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as words and numbers; others as JSON."""
    return {
        key: value if isinstance(value, (str, int, float)) or value is None else json.dumps(value)
        for key, value in settings.items()
    }
