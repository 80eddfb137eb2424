"""What a checkpoint says of its network besides the weights: all that is needed to use it where its data is not.

Shapes: C coordinates, T frames, V joints, M people, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from feeders.feeder import StoreFeeder
from feeders.loader import Loader, StoreLoader
from feeders.longtail import shot_groups
from shapmix import Mixer, SkeletonLayout, __version__

from .answers import adjustment_of
from .config import Config
from .data import Data, mean_sequence
from .errors import CheckpointError
from .network import Shape, layout_of
from .parts import check_parts

KEY = "card"  # of a checkpoint
SPREAD_SAMPLES = 64  # training samples whose coordinates say how large they are
BASELINE_SAMPLES = 2048  # training samples whose mean explains networks that are trained without Shap-Mix


@dataclass(frozen=True, eq=False)
class Card:
    """What is known of a trained network. Plain values, but for the baseline.

    Attributes:
        config: the keys of its config that say what was computed.
        sample_shape: (C, T, V, M) of what the network takes.
        dims: how many of the C channels are coordinates, 2 or 3; a score follows where C is larger.
        class_names, class_counts: K names, and training samples.
        layout: of the joints, for :meth:`SkeletonLayout.get`; None where it is not known.
        view: how a sequence becomes what the network takes, for :meth:`StoreFeeder.from_view`; None where it was
            trained on the user's own Dataset, which alone makes its samples.
        baseline: (C, T, V, M) mean of the training set as the network sees it, or None.
        spread: root mean square of the coordinates that the network saw of training samples; None: not known.
        temperature: by which logits are divided, as fitted on the validation split.
        version: of this program.
    """

    config: Mapping[str, Any]
    sample_shape: Shape
    dims: int
    class_names: list[str]
    class_counts: list[int]
    layout: str | Mapping[str, Any] | None = None
    view: Mapping[str, Any] | None = None
    baseline: Tensor | None = None
    spread: float | None = None
    temperature: float = 1.0
    version: str = ""

    @property
    def skeleton(self) -> SkeletonLayout | None:
        """The layout."""
        return None if self.layout is None else SkeletonLayout.get(self.layout)

    @property
    def adjustment(self) -> Tensor | None:
        """(K,) what post-hoc adjustment subtracts from logits, before they are divided; None where there is none."""
        return adjustment_of(self.class_counts, self.config.get("post_hoc_tau") or 0.0)

    @property
    def groups(self) -> dict[str, list[int]]:
        """The classes of each shot group."""
        limits = self.config["groups"]
        return shot_groups(self.class_counts, limits["many"], limits["few"])

    def plain(self) -> dict[str, Any]:
        """For a checkpoint, which has the config already; see :func:`card_of`."""
        values = asdict(replace(self, config={}, baseline=None)) | {"baseline": self.baseline}
        return {name: value for name, value in values.items() if name != "config"}


def make_card(config: Config, data: Data, mixer: Mixer | None, state: Mapping[str, Any] | None = None) -> Card:
    """The card of a run.

    Args:
        state: the checkpoint of a run that continues, which may have the baseline.
    """
    baseline = getattr(mixer, "baseline", None)
    if baseline is None:
        known = None if state is None or KEY not in state else card_of(state, config.work_dir)
        baseline = _mean(config, data.loaders["train"]) if known is None else known.baseline
    test, shape = data.feeders["test"], data.sample_shape
    layout = layout_of(config, test)
    view, dims, spread = None, min(shape[0], 3), None
    if isinstance(test, StoreFeeder):
        view, dims = test.view_state(), 2 if test.coordinates == 2 else 3
        spread = spread_of(data.feeders["train"].batch(_evenly(len(data.loaders["train"].ids), SPREAD_SAMPLES)), dims)
    return Card(
        config.identity(), shape, dims, list(data.class_names), list(data.class_counts),
        None if layout is None else layout.plain(), view, None if baseline is None else baseline.cpu(), spread,
        version=__version__,
    )  # fmt: skip


def _mean(config: Config, loader: Loader) -> Tensor | None:
    """The mean of some training samples, evenly chosen; None for a user's Dataset, which is not read for this."""
    if not isinstance(loader, StoreLoader):
        return None
    return mean_sequence(loader, config.test_batch_size, rows=_evenly(len(loader.ids), BASELINE_SAMPLES))


def _evenly(number: int, most: int) -> Tensor:
    """At most so many of 0 .. number - 1."""
    return torch.linspace(0, number - 1, min(number, most)).long()


def spread_of(x: Tensor, dims: int) -> float:
    """The root mean square of the coordinates of x (N, C, T, V, M) that are not 0; 0 where all are."""
    values = x[:, :dims].double()
    return float((values.square().sum() / (values != 0).sum().clamp(min=1)).sqrt())


def temperature_of(state: Mapping[str, Any], where: object) -> float:
    """The temperature of a checkpoint's card; 1 where it has no card."""
    return card_of(state, where).temperature if KEY in state else 1.0


def card_of(state: Mapping[str, Any], where: object) -> Card:
    """The card of a checkpoint; CheckpointError where it has none, or one of another version."""
    if KEY not in state:
        raise CheckpointError(
            f"{where} says nothing of its data and classes: it is of an older version, or weights alone. "
            "Train an epoch more (--config ... --resume FILE --num_epoch N), or use it with its config and --phase test"
        )
    check_parts(where, state, "config", KEY)
    try:
        card = Card(config=state["config"], **state[KEY])
        if len(card.class_names) != len(card.class_counts):
            raise ValueError(f"{len(card.class_names)} class names, {len(card.class_counts)} class counts")
        return replace(card, sample_shape=(*card.sample_shape,))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{where} has a card of another version of this program ({error})") from error
