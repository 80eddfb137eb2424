"""What a trained network says of single samples, and what each body part contributed to that.

Shapes: N * clips views of a sample, P parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from feeders.store import DataError
from shapmix import Mixer
from shapmix.shapley import shapley_values

from ..build import Data
from ..config import Config
from ..config_files import nearest
from ..errors import ConfigError
from ..network import layout_of
from .explain import run_baseline

SPLITS = ("test", "val", "train")


@dataclass(frozen=True, eq=False)
class Prediction:
    """Of one sample.

    Attributes:
        name, probability: of the most probable class; the probability, 0 .. 1, is the mean over the clips.
        truth: the name of its own class.
        parts: (P,) exact Shapley values of the parts for that probability, -1 .. 1.
    """

    name: str
    probability: float
    truth: str
    parts: np.ndarray

    def __str__(self) -> str:
        label = "as labelled" if self.name == self.truth else f"but labelled {self.truth}"
        return f"predicted: {self.name} ({100 * self.probability:.1f} %), {label}"


def known_ids(data: Data) -> list[str]:
    """The names of all samples of a run, those of the test set first."""
    return [name for split in SPLITS if split in data.loaders for name in data.loaders[split].ids]


def predictions(
    config: Config, data: Data, network: nn.Module, mixer: Mixer | None, ids: Sequence[str]
) -> dict[str, Prediction]:
    """Predictions of samples of a run, by id. Cost: ``2**P + 1`` forward passes for each view of a sample.

    Raises:
        DataError: a sample that is in no split of the run.
        ConfigError: the layout is not known.
    """
    layout = layout_of(config, data.feeders["train"])
    if layout is None:
        raise ConfigError(f"{config.config}: layout is missing: which joints form a body part is not known")
    baseline, found = run_baseline(config, data, mixer), {}
    network.eval()
    for name in ids:
        split = next((split for split in SPLITS if split in data.loaders and name in data.loaders[split].ids), None)
        if split is None:
            known = known_ids(data)
            meant = nearest(name, known, f"there are {len(known)}; only the run's own samples can be explained")
            raise DataError(f"{config.config} has no sample {name!r}{meant}")
        loader = data.loaders[split]
        batch = next(iter(loader.in_order(1, torch.tensor([list(loader.ids).index(name)]))))
        with torch.no_grad():
            scores = network(batch.x).float().softmax(-1).mean(0)
        label = int(scores.argmax())
        target = torch.full((len(batch.x),), label, device=batch.x.device)
        parts = shapley_values(network, batch.x, target, baseline, layout, max_batch=256).double().mean(0)
        names = loader.class_names
        found[name] = Prediction(names[label], float(scores[label]), names[int(batch.y[0])], parts.cpu().numpy())
    return found
