"""What a trained network answers: scores, probabilities and Shapley values of samples of which it sees clips.

Shapes: N samples, Q clips of each, x (N * Q, C, T, V, M) with the clips of a sample in turn, K classes, P body parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from shapmix import SkeletonLayout, post_hoc_adjustment
from shapmix.shapley import shapley_values

EXPLAINED = 256  # views in a forward pass of an explanation, or the clips of one sample


@dataclass(frozen=True, eq=False)
class Answers:
    """A network in evaluation mode, and how its logits become probabilities.

    Attributes:
        network: x (N, C, T, V, M) -> logits (N, K).
        precision: dtype of autocast; None: no autocast.
        adjustment: (K,) is subtracted from every sample's logits.
        temperature: by which they are divided after that, > 0.
    """

    network: Callable[[Tensor], Tensor]
    precision: torch.dtype | None = None
    adjustment: Tensor | None = None
    temperature: float = 1.0

    def scores(self, x: Tensor, clips: int) -> Tensor:
        """(N, K) logits of samples of Q = ``clips`` clips, adjusted, not yet divided; float32 or more."""
        with autocast(x.device, self.precision):
            logits = self.network(x)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32), copy=True)  # a graph may reuse its outputs
        joined = over_clips(logits, clips)
        return joined if self.adjustment is None else joined - self.adjustment.to(joined.dtype).to(joined.device)

    def probabilities(self, scores: Tensor) -> np.ndarray:
        """(N, K) float64 of scores (N, K)."""
        found: np.ndarray = (scores.cpu().double() / self.temperature).softmax(1).numpy()
        return found

    def shapley(
        self, x: Tensor, clips: int, classes: Sequence[int], baseline: Tensor, layout: SkeletonLayout
    ) -> Tensor:
        """(N, P) exact Shapley values, -1 .. 1, of the parts for the probability of a class of each sample.

        A row sums to that probability less the probability where all clips are ``baseline`` (C, T, V, M). Cost:
        ``2**P * N * Q`` views forward.
        """

        def divided(few: Tensor) -> Tensor:
            """Each clip's row is that of its sample."""
            return (self.scores(few, clips) / self.temperature).repeat_interleave(clips, 0)

        target = torch.tensor(classes, device=x.device).repeat_interleave(clips)
        at_once = max(1, EXPLAINED // clips) * clips
        return shapley_values(divided, x, target, baseline, layout, max_batch=at_once)[::clips].cpu().double()


def over_clips(logits: Tensor, clips: int) -> Tensor:
    """Logits (N * clips, K) of the clips of each sample in turn -> (N, K): the logarithm of their mean probability."""
    if clips == 1:
        return logits
    return logits.log_softmax(1).view(-1, clips, logits.shape[1]).logsumexp(1) - math.log(clips)


def adjustment_of(class_counts: Sequence[int], tau: float) -> Tensor | None:
    """(K,) float64, what post-hoc logit adjustment subtracts; None where tau is 0."""
    return post_hoc_adjustment(class_counts, tau) if tau else None


def autocast(device: torch.device, dtype: torch.dtype | None) -> torch.autocast:
    """Autocast to a dtype; None: computation in the dtype of the weights."""
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


def autocast_dtype(precision: str) -> torch.dtype | None:
    """bf16 where ``precision`` of a config says so."""
    return torch.bfloat16 if precision == "bf16" else None
