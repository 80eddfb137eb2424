"""Mixed samples of a run, to look at: what was mixed with what, and which joints are whose.

Shapes: N batch, C coordinates, T frames, V joints, M people, K classes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from feeders.loader import Batch, Loader, StoreLoader
from shapmix import Mixer, ShapMix
from shapmix.bodies import Paste

from ..config import Config
from ..data import Data


@dataclass(frozen=True, eq=False)
class MixedSample:
    """A training sample, what it was mixed with, and what came of it, as joints (in a Dataset of the user's: as it is).

    Attributes:
        own, partner, result: (C, T, V, M) float32; in stage ``frames``, all three are turned alike.
        mask: (T, V) bool, where the result has the partner's joints (with ``body: bones``, its bones); None: everything
            is blended, with the partner's share ``blend``.
        blend: the partner's share of all joints and frames, 0 .. 1.
        labels: classes of sample and partner.
        target: class -> its share of the soft target, without those of 0.
        ids: of sample and partner.
        seed, epoch, step: which draws these are.
    """

    own: np.ndarray
    partner: np.ndarray
    result: np.ndarray
    mask: np.ndarray | None
    blend: float
    labels: tuple[int, int]
    target: dict[int, float]
    ids: tuple[str, str]
    seed: int
    epoch: int
    step: int


def mixed_samples(config: Config, data: Data, mixer: Mixer | None, epoch: int, number: int = 3) -> list[MixedSample]:
    """Mixed samples of the first steps of an epoch, one of each step, of two classes where the batch has such a pair.

    They are what training mixes in these steps, with the mixer's present saliency table, and in joints: a run that
    mixes another stream or stage shows the same draws in its joints. Cost: one training batch for each sample; no
    forward pass. For one process. The mixer's epoch and step are as before.

    Returns:
        at most ``number``; none where the run does not mix.
    """
    loader = shown_as_joints(config, data.loaders["train"])
    if mixer is None or not mixer.enabled or loader.batch_size < 2 or loader.processes > 1:
        return []
    before = mixer.epoch, mixer.step
    try:
        steps = range(min(number, loader.steps))
        return [_mixed(config, loader, mixer, epoch, step) for step in steps]
    finally:
        mixer.start_step(*before)


def shown_as_joints(config: Config, loader: Loader) -> Loader:
    """The same training batches, whose ``finished`` are joints, whatever the stream of the run."""
    if not isinstance(loader, StoreLoader):
        return loader
    feeder = copy.copy(loader.feeder)
    feeder.stream = "joint"
    return StoreLoader(
        feeder,
        config.batch_size,
        config.seed,
        loader.device,
        loader.dtype,
        config.sampler,
        loader.stage,
        loader.partner,
    )


@torch.no_grad()
def _mixed(config: Config, loader: Loader, mixer: Mixer, epoch: int, step: int) -> MixedSample:
    """The mixed sample of one step."""
    batch = next(iter(loader.shuffled(epoch, step)))
    mixer.start_step(epoch, step)
    draws = mixer.draw(len(batch.x), batch.x)
    partner = batch.partner
    if partner is None:
        x, y, rows = (values.roll(-draws.shift, 0) for values in (batch.x, batch.y, batch.rows))
        partner = Batch(x, y, rows)
    result, targets = mixer.apply_draws(batch.x, batch.y, partner.x, partner.y, draws)
    place = int((batch.y != partner.y).int().argmax())  # the first pair of two classes, else the first one
    share = partner_share(mixer, batch, partner, draws)[place]
    whole = bool(((share == 0) | (share == 1)).all())
    target = targets[place]
    own, other, mixed = (batch.finished(x)[place].float().cpu().numpy() for x in (batch.x, partner.x, result))
    return MixedSample(
        own=own,
        partner=other,
        result=mixed,
        mask=share.bool().cpu().numpy() if whole else None,
        blend=share.mean().item(),
        labels=(int(batch.y[place]), int(partner.y[place])),
        target={int(label): target[label].item() for label in target.nonzero().flatten()},
        ids=(loader.ids[int(batch.rows[place])], loader.ids[int(partner.rows[place])]),
        seed=config.seed,
        epoch=epoch,
        step=step,
    )


def partner_share(mixer: Mixer, batch: Batch, partner: Batch, draws: Any) -> Tensor:
    """(N, T, V) the share that the partner has in each joint: the same draws, applied to zeros and ones."""
    nothing = torch.zeros_like(batch.x)
    with _plain_paste(mixer):
        share, _ = mixer.apply_draws(nothing, batch.y, torch.ones_like(nothing), partner.y, draws)
    return share[:, 0, :, :, 0]


@contextmanager
def _plain_paste(mixer: Mixer) -> Iterator[None]:
    """Joints are pasted as they are: bodies that are kept whole, or absent, would show in zeros and ones."""
    if not isinstance(mixer, ShapMix):
        yield
        return
    own, mixer.paste = mixer.paste, Paste(mixer.layout).to(mixer.counts.device)
    try:
        yield
    finally:
        mixer.paste = own
