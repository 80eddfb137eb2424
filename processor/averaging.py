"""Averaged weights: less noise between seeds and epochs than the last step's weights have.

``ema``: a moving average over steps (Polyak and Juditsky, 1992; its decay grows at the start, so that the first weights
are soon forgotten). ``swa``: the plain mean of the weights after each of the last epochs (Izmailov et al., UAI 2018).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel

SWA_FROM = 0.75  # share of the epochs after which swa begins


class WeightAverage:
    """Averages a network's weights while it is trained.

    Args:
        network: x (N, C, T, V, M) -> logits (N, K).
        kind: ``ema`` or ``swa``.
        decay: of ``ema``, 0 .. 1: share of the old average that stays in a step, at most (1 + steps) / (10 + steps).
        num_epoch: of the run; ``swa`` begins after three quarters of them.
        frozen: do batch norms keep the statistics that they have?
    """

    def __init__(
        self, network: nn.Module, kind: Literal["ema", "swa"], decay: float, num_epoch: int, frozen: bool = False
    ) -> None:
        self.network, self.kind, self.decay, self.frozen = network, kind, decay, frozen
        self.entered = -1  # the last epoch whose weights are in the mean (swa)
        self.measured = True  # do the batch norms' statistics belong to the averaged weights?
        self.first_epoch = 0 if kind == "ema" else int(SWA_FROM * num_epoch)
        self.model = AveragedModel(network)  # torch's plain mean, for swa

    @torch.no_grad()
    def after_step(self) -> None:
        """Enters the weights of a step (ema). Does not wait for the device: the number of steps is on the CPU."""
        if self.kind != "ema":
            return
        steps = int(self.model.n_averaged)
        decay = min(self.decay, (1 + steps) / (10 + steps)) if steps else 0.0
        averaged, current = ([*chain(one.parameters(), one.buffers())] for one in (self.model.module, self.network))
        for old, new in zip(averaged, current, strict=True):
            if old.is_floating_point() and decay:
                old.lerp_(new, 1 - decay)
            else:
                old.copy_(new)
        self.model.n_averaged += 1

    def after_epoch(self, epoch: int) -> None:
        """Enters the weights of an epoch (swa), once: a run that was stopped in an evaluation comes here again."""
        if self.kind == "swa" and epoch >= self.first_epoch and epoch > self.entered:
            self.model.update_parameters(self.network)
            self.entered, self.measured = epoch, self.frozen

    def ready(self) -> bool:
        """Has anything been averaged?"""
        return int(self.model.n_averaged) > 0

    def evaluated(self, inputs: Iterable[Tensor]) -> nn.Module:
        """The network with averaged weights, to evaluate.

        Args:
            inputs: training batches x (N, C, T, V, M), without augmentation, the same on every process. For ``swa``
                batch-norm statistics are computed from them, where batch norms are trained: one forward pass over the
                training set. Each batch counts by its samples.
        """
        if self.kind == "swa" and not self.frozen:
            _set_statistics(self.model.module, inputs)
            self.measured = True
        return self.model.module

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: the averaged network's state, how many were averaged, and the last epoch of them."""
        more = {"entered": torch.tensor(self.entered), "measured": torch.tensor(self.measured)}
        return {**self.model.state_dict(), **more}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues. A mean that ended before this run's begins (it has more epochs than it had) is left out."""
        entered = int(state.get("entered", -1))
        if self.kind == "swa" and entered < self.first_epoch:
            return
        self.model.load_state_dict({key: value for key, value in state.items() if key not in ("entered", "measured")})
        self.entered, self.measured = entered, bool(state.get("measured", True))


@torch.no_grad()
def _set_statistics(network: nn.Module, inputs: Iterable[Tensor]) -> None:
    """Sets the running statistics of all batch norms to their means over the batches, weighted by the samples.

    torch's ``update_bn`` weights all batches alike, also a last one of few samples.
    """
    norms = [one for one in network.modules() if isinstance(one, _BatchNorm) and one.track_running_stats]
    momenta, training, seen = [norm.momentum for norm in norms], network.training, 0
    for norm in norms:
        norm.reset_running_stats()
    network.train()
    for x in inputs:
        seen += len(x)
        for norm in norms:
            norm.momentum = len(x) / seen
        network(x)
    network.train(training)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
