"""The mixing rule: how two samples become one (docs/method.md, "Mixing").

Sample i is mixed with its partner, sample (i + shift) mod N of the same batch. A batch is either blended (mixup) or
pasted (ST-Mix): the partner's joints of some body parts are written over a segment of the sample's frames. The parts
are uniform, one coalition for the whole batch; or guided: for each pair, a coalition is drawn by the saliency of the
rarer sample's class, and these parts of the rarer sample remain.

Drawing is separate from applying. :func:`draw_mix` makes all random decisions of a batch, on the CPU. The other
functions are pure: they work on whole batches on any device, do not wait for it, and leave their arguments as they are.

Shapes: N batch, C coordinates, T frames, V joints, M people, K classes, P parts, S coalitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor
from typing import Literal

import torch
from torch import Tensor

from .checks import choice, require
from .draws import uniform_int, uniform_subset

TIME_UNIT = 4  # frames; networks of this family halve the number of frames twice


@dataclass(frozen=True)
class MixDraws:
    """The random decisions of one batch, on the CPU."""

    shift: int  # sample i is mixed with sample (i + shift) mod N; 1 .. N-1
    kind: Literal["blend", "paste"]
    lam: float  # blend: the partner's share, 0 .. 1
    target_start: int  # paste: the frames of the sample that are overwritten
    target_len: int
    source_start: int  # paste: the frames of the partner that are resized to target_len
    source_len: int
    coalition: Tensor  # uniform paste: (P,) bool, the parts that are pasted in the whole batch
    uniform: Tensor  # guided paste: (N,) in 0 .. 1, a number for each sample, which draws its coalition


def default_window(frames: int) -> tuple[int, int]:
    """Shortest and longest pasted segment in units of 4 frames: 0.4375 and 0.6875 of the clip (64 frames: 7, 11)."""
    units = frames // TIME_UNIT
    return max(1, floor(0.4375 * units + 0.5)), max(1, floor(0.6875 * units + 0.5))


def as_window(window: Sequence[int] | None) -> tuple[int, int] | None:
    """Shortest and longest pasted segment in units of 4 frames, or None; ValueError where they are no such numbers."""
    fits = window is None or (len(window) == 2 and 1 <= window[0] <= window[1])
    require(fits, f"window must be (shortest, longest) in units of 4 frames, 1 or more, got {window}")
    return None if window is None else (int(window[0]), int(window[1]))


def draw_mix(
    size: int,
    frames: int,
    num_parts: int,
    coalition_sizes: Sequence[int],
    rng: torch.Generator,
    paste_probability: float = 0.75,
    window: tuple[int, int] | None = None,
) -> MixDraws:
    """Draws all random decisions for a global batch of ``size`` >= 2 samples of ``frames`` >= 4 frames.

    Every number is drawn whether it is used or not, so that one decision does not shift the next.

    Args:
        coalition_sizes: numbers of parts that the uniform coalition may have.
        paste_probability: of a batch to be pasted rather than blended, 0 .. 1.
        window: shortest and longest target segment in units of 4 frames; by default :func:`default_window`.

    Raises:
        ValueError: a batch of one, a clip shorter than 4 frames, or a window that does not fit the clip.
    """
    units = frames // TIME_UNIT
    fits = size >= 2 and units >= 1
    require(fits, f"mixing needs at least 2 samples of at least {TIME_UNIT} frames, got {size} of {frames}")
    shortest, longest = window or default_window(frames)
    require(
        1 <= shortest <= longest <= units,
        f"window {shortest, longest} does not fit {frames} frames: it is in units of {TIME_UNIT} frames, 1..{units}",
    )
    shift = uniform_int(1, size - 1, rng)
    kind, lam = torch.rand(2, generator=rng, dtype=torch.float64).tolist()
    target = uniform_int(shortest, longest, rng)
    target_start = uniform_int(0, units - target, rng)
    source = uniform_int(target, units, rng)
    source_start = uniform_int(0, units - source, rng)
    parts = coalition_sizes[uniform_int(0, len(coalition_sizes) - 1, rng)]
    chosen = uniform_subset(range(num_parts), parts, rng)
    return MixDraws(
        shift=shift,
        kind="paste" if kind < paste_probability else "blend",
        lam=lam,
        target_start=TIME_UNIT * target_start,
        target_len=TIME_UNIT * target,
        source_start=TIME_UNIT * source_start,
        source_len=TIME_UNIT * source,
        coalition=torch.tensor([part in chosen for part in range(num_parts)]),
        uniform=torch.rand(size, generator=rng),
    )


def abundance(counts: Tensor, rarity: Literal["count", "index"]) -> Tensor:
    """(K,) how common each class is: by training samples, or, as published, the more the smaller its number."""
    choice("rarity", rarity, "count", "index")
    return counts.clone() if rarity == "count" else torch.arange(len(counts), 0, -1)


def partner_is_rarer(y: Tensor, y_partner: Tensor, abundance: Tensor) -> Tensor:
    """(N,) bool: is the partner's class rarer than the sample's, by the abundance (K,) of classes? False on a tie."""
    return abundance[y_partner] < abundance[y]


def exchanged(first: Tensor, second: Tensor, swap: Tensor) -> tuple[Tensor, Tensor]:
    """Two batches (N, ...), with the samples where ``swap`` (N,) is true in the other's place; new tensors."""
    which = swap.view(-1, *[1] * (first.ndim - 1))
    return torch.where(which, second, first), torch.where(which, first, second)


def counts_differ(counts: Tensor, y: Tensor, y_partner: Tensor, factor: float) -> Tensor:
    """(N,) bool: has one class of the pair at least ``factor`` times the training samples (K,) of the other?"""
    own, other = counts[y].clamp(min=1), counts[y_partner].clamp(min=1)
    return torch.maximum(own, other) >= factor * torch.minimum(own, other)


def draw_coalition(logits: Tensor, uniform: Tensor) -> Tensor:
    """Draws a column of the saliency table for each sample, with p = softmax(logits).

    Args:
        logits: (N, S) of each sample, for example its class's row of the table over the temperature.
        uniform: (N,) numbers in 0 .. 1; the draw is the inverse of the cumulative distribution.

    Returns:
        (N,) columns, int64.
    """
    cumulative = logits.softmax(-1).cumsum(-1)
    column = torch.searchsorted(cumulative, uniform.to(cumulative).unsqueeze(-1), right=True).squeeze(-1)
    return column.clamp(max=logits.shape[1] - 1)


def pasted_parts(remain: Tensor, partner_rarer: Tensor) -> Tensor:
    """What to paste so that the rarer sample keeps the parts (N, P), or joints (N, V), in ``remain``; all bool.

    Where the partner is the rarer (N,), these parts are pasted, else all others.
    """
    return torch.where(partner_rarer.unsqueeze(-1), remain, ~remain)


@torch.no_grad()
def blend(x: Tensor, x_partner: Tensor, lam: float) -> Tensor:
    """Mixup (Zhang et al., ICLR 2018): ``(1 - lam) x + lam x_partner``, a new tensor; the partner's share is lam."""
    mixed = (1 - lam) * x
    mixed += lam * x_partner
    return mixed


@torch.no_grad()
def source_segment(x: Tensor, x_partner: Tensor, draws: MixDraws) -> Tensor:
    """The partner's source segment, resized to the target's length by the nearest frame: (N, C, target_len, V, M)."""
    step = torch.arange(draws.target_len, device=x.device, dtype=torch.float32)
    frames = (step * (draws.source_len / draws.target_len)).long().clamp(max=draws.source_len - 1)
    source = torch.empty_like(x.narrow(2, draws.target_start, draws.target_len))  # in the memory order of x
    return torch.index_select(x_partner.narrow(2, draws.source_start, draws.source_len), 2, frames, out=source)


@torch.no_grad()
def paste(x: Tensor, x_partner: Tensor, joints: Tensor, draws: MixDraws) -> tuple[Tensor, Tensor]:
    """ST-Mix: writes the partner's source segment, resized in time, over the target segment on the given joints.

    Frames are resized to the nearest: frame t of the target is frame ``floor(t * (source_len / target_len))`` of the
    source, in float32, as torch's interpolate has it.

    Args:
        x, x_partner: (N, C, T, V, M).
        joints: (N, V) bool, the joints that are overwritten.
        draws: of the batch.

    Returns:
        the mixed batch, a new tensor (N, C, T, V, M), and the partner's share (N,), which is
        target_len * pasted joints / (T * V).
    """
    mixed = x.clone()
    segment = mixed.narrow(2, draws.target_start, draws.target_len)
    source = source_segment(mixed, x_partner, draws)
    # the mask of a whole frame, in the memory order of x: one that is broadcast within a frame is slower
    mask = torch.empty_like(segment[:, :, :1], dtype=torch.bool).copy_(joints[:, None, None, :, None])
    torch.where(mask, source, segment, out=segment)
    return mixed, pasted_share(x, joints, draws)


def pasted_share(x: Tensor, joints: Tensor, draws: MixDraws) -> Tensor:
    """(N,) the partner's share: target_len * pasted joints / (T * V), in the dtype of targets."""
    return joints.sum(1).to(target_dtype(x)) * (draws.target_len / (x.shape[2] * x.shape[3]))


def target_dtype(x: Tensor) -> torch.dtype:
    """Soft targets are at least float32, whatever the batch is."""
    return torch.promote_types(x.dtype, torch.float32)


def target_counts(counts: Tensor, share: float, abundance: Tensor | None = None) -> Tensor:
    """(K,) how often each class is the target of mixed samples whose partners are drawn alike from all classes.

    The sum is that of the training counts (K,): what a loss with a prior should know of these samples instead of them.
    A sample's own class is distributed as the training set is, its partner's evenly over the classes with samples.

    Args:
        share: the partner's mean share of a target, 0 .. 1.
        abundance: (K,) of the classes, where the rarer sample of a pair always takes the partner's place.
    """
    counts = counts.cpu()  # not every device has float64
    even = (counts > 0).double() / (counts > 0).sum()
    if abundance is None:
        return (1 - share) * counts + share * counts.sum() * even
    pairs = counts.double().unsqueeze(1) * even  # (own, partner)
    swapped = (abundance.unsqueeze(0) > abundance.unsqueeze(1)).cpu()
    first, second = torch.where(swapped, 0, pairs), torch.where(swapped, pairs, 0)
    own, partner = first.sum(1) + second.sum(0), first.sum(0) + second.sum(1)
    return (1 - share) * own + share * partner


def soft_target(y: Tensor, y_partner: Tensor, share: Tensor, num_class: int) -> Tensor:
    """(N, K) targets ``(1 - share) onehot(y) + share onehot(y_partner)``, in the dtype of share (N,)."""
    classes, shares = torch.stack([y, y_partner], 1), torch.stack([1 - share, share], 1)
    return share.new_zeros(len(y), num_class).scatter_add_(1, classes, shares)
