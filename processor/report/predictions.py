"""What a trained network says of single samples, and what each body part contributed to that.

Shapes: N * clips views of a sample, P parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from feeders.store import DataError

from ..answers import Answers, adjustment_of, autocast_dtype
from ..config_files import nearest
from ..data import Data
from ..errors import ConfigError
from .explain import run_baseline
from .open_run import OpenRun

SPLITS = ("test", "val", "train")


@dataclass(frozen=True, eq=False)
class ShownPrediction:
    """Of one sample.

    Attributes:
        name, probability: of the most probable class; the probability, 0 .. 1, is that of the run's scores.
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


def predictions(run: OpenRun, ids: Sequence[str]) -> dict[str, ShownPrediction]:
    """Predictions of samples of a run, by id. Cost: ``2**P + 1`` forward passes for each view of a sample.

    Raises:
        DataError: a sample that is in no split of the run.
        ConfigError: the layout is not known.
    """
    config, data, layout = run.config, run.data, run.layout
    if layout is None:
        raise ConfigError(f"{config.config}: layout is missing: which joints form a body part is not known")
    baseline, found = run_baseline(config, data, run.mixer), {}
    adjustment = adjustment_of(data.class_counts, config.post_hoc_tau)
    answers = Answers(run.network.eval(), autocast_dtype(config.precision), adjustment, run.temperature)
    for name in ids:
        split = next((split for split in SPLITS if split in data.loaders and name in data.loaders[split].ids), None)
        if split is None:
            known = known_ids(data)
            meant = nearest(name, known, f"there are {len(known)}; only the run's own samples can be explained")
            raise DataError(f"{config.config} has no sample {name!r}{meant}")
        loader = data.loaders[split]
        batch = next(iter(loader.in_order(1, torch.tensor([list(loader.ids).index(name)]))))
        with torch.no_grad():
            (values,) = answers.probabilities(answers.scores(batch.x, batch.clips))
        label, names = int(values.argmax()), loader.class_names
        (parts,) = answers.shapley(batch.x, batch.clips, [label], baseline, layout)
        found[name] = ShownPrediction(names[label], float(values[label]), names[int(batch.y[0])], parts.numpy())
    return found
