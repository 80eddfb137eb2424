"""Where the metrics of a run go besides metrics.jsonl: TensorBoard, Weights & Biases, Trackio, or nowhere.

Names are grouped: ``loss/train_loss``, ``accuracy/top1``, ``group/few``, ``speed/samples_per_s``, ``shapmix/guidance``.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import SummaryWriter
from tensorboardX.summary import hparams

from feeders.files import write_atomically, writing

from ..errors import ConfigError

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
    """Event files in the run's folder ``tensorboard``; whole after each call."""

    keeps = True

    def __init__(self, folder: Path, first_epoch: int, settings: Mapping[str, Any]) -> None:
        super().__init__(folder, first_epoch, settings)
        self.path = folder / "tensorboard"
        with writing(self.path):
            self.board = SummaryWriter(str(self.path), purge_step=first_epoch)

    def scalars(self, values: Scalars, epoch: int) -> None:
        with writing(self.path):
            for name, value in values.items():
                self.board.add_scalar(name, value, epoch)
            self.board.flush()

    def images(self, images: Mapping[str, np.ndarray], epoch: int) -> None:
        with writing(self.path):
            for name, image in images.items():
                self.board.add_image(name, image, epoch, dataformats="HWC")
            self.board.flush()

    def results(self, values: Scalars) -> None:
        """In the same event file: ``add_hparams`` would make a second run."""
        with writing(self.path):
            for summary in hparams(self.settings, dict(values)):
                self.board.file_writer.add_summary(summary)
            self.board.flush()

    def close(self) -> None:
        with suppress(OSError):  # what could not be written was reported when it was added
            self.board.close()


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
