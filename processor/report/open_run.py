"""A run that can be asked: its data, its network and its mixer, for what its files alone do not say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import nn

from feeders.feeder import StoreFeeder
from shapmix import Mixer, SkeletonLayout

from ..build import build_mixer, build_network
from ..card import temperature_of
from ..checkpoint import load_checkpoint
from ..config import Config
from ..config_files import load_config
from ..data import Data, load_data
from ..distributed import set_up
from ..network import layout_of
from ..own_dataset import DatasetLoader
from ..parts import check_parts
from ..run_folder import RunFolder
from .motion import motion
from .page import Motion

PLAYED = 64  # frames of a sequence on a page
START = 0.5  # where in a sequence a still picture is: in the middle of the action


@dataclass(frozen=True, eq=False)
class OpenRun:
    """A run's config, data, network as it is tested, mixer, and the temperature that its scores are divided by."""

    config: Config
    data: Data
    network: nn.Module
    mixer: Mixer | None
    temperature: float = 1.0

    @cached_property
    def layout(self) -> SkeletonLayout | None:
        """Of the data; None where it is not known."""
        return layout_of(self.config, self.data.feeders["test"])

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.data.loaders["test"].ids)}

    @property
    def dims(self) -> int:
        """How many of the channels are coordinates."""
        feeder = self.data.feeders["test"]
        if isinstance(feeder, StoreFeeder):
            return 2 if feeder.coordinates == 2 else 3
        return min(self.data.loaders["test"].sample_shape[0], 3)

    def frames(self, sample: str) -> np.ndarray:
        """(L, M, V, C) of a test sample, as it is stored; of a Dataset of the user's own as it is delivered."""
        feeder, loader = self.data.feeders["test"], self.data.loaders["test"]
        row = self._rows[sample]
        if isinstance(feeder, StoreFeeder):
            return feeder.store.sequence(int(feeder.members[row]))
        assert isinstance(loader, DatasetLoader)
        return loader.samples.read(*loader.key(row))[0].permute(1, 3, 2, 0).numpy()

    def player(self, sample: str, key: str, label: str, values: Sequence[float] | None = None) -> Motion | None:
        """How a test sample plays; None where the run does not have it, or its skeleton is not known."""
        if sample not in self._rows or self.layout is None:
            return None
        frames = self.frames(sample)
        if not np.isfinite(frames).any() or not len(frames):
            return None
        largest = max(map(abs, values), default=0.0) if values is not None else 0.0
        content = motion(
            frames, self.layout, self.dims, most_frames=PLAYED, values=values, playing=False, start=START,
            value_range=(-largest, largest) if largest else None,  # what is nearly 0 has the colour of 0
        )  # fmt: skip
        return Motion(key, label, content)


def open_run(
    folder: RunFolder, device: str = "auto", plugins: Sequence[str] = (), checkpoint: str | None = None
) -> OpenRun:
    """A finished or unfinished run, from its config and a checkpoint in its folder, by default the last one.

    Raises:
        ValueError: data or checkpoint that is missing, damaged, or no longer fits.
    """
    weights = folder.last if checkpoint is None else folder.path / checkpoint
    state = load_checkpoint(weights)
    check_parts(weights, state, "mixer")
    whole = {"device": device, "phase": "test", "ignore_weights": []}  # the run's own weights, whatever it began with
    config = load_config(str(folder.config), whole, list(plugins))
    place = set_up(config.device)
    data = load_data(config, place, ("train", "test"))
    network = build_network(config, data, place, str(weights))
    mixer = build_mixer(config, data, place, state["mixer"] or None, weights)
    return OpenRun(config, data, network, mixer, temperature_of(state, weights))
