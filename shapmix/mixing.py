"""Blend and paste: two samples become one (METHOD 4). Drawing is separate from applying.

``draw_mix`` makes every random decision of a batch on the CPU; the other functions are pure, work on whole
batches on any device, and neither synchronise with the device nor touch their arguments. Nothing is differentiated.

Shapes: N batch, C coordinates, T frames, V joints, M people, K classes, P parts, S coalitions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import floor
from typing import Literal

import torch
from torch import Tensor

from .draws import uniform_int, uniform_subset

TIME_UNIT = 4  # frames; networks of this family halve time twice
Rows = Tensor | Sequence[Tensor]  # a batch (N, ...), or consecutive pieces of it


@dataclass(frozen=True)
class MixDraws:
    """The random decisions of one batch: who is mixed with whom, how, when, and which parts.

    Sample i is mixed with sample (i + shift) mod N. ``lam`` is for blending; the four numbers of frames and the parts
    are for pasting. ``uniform`` (N,) selects a guided coalition for each sample; ``coalition`` (P,) bool, one for the
    whole batch, is the unguided choice.
    """

    shift: int
    kind: Literal["blend", "paste"]
    lam: float
    target_start: int
    target_len: int
    source_start: int
    source_len: int
    coalition: Tensor
    uniform: Tensor


def default_window(frames: int) -> tuple[int, int]:
    """Shortest and longest pasted segment in units of 4 frames: 0.4375 and 0.6875 of the clip (64 frames: 7, 11)."""
    units = frames // TIME_UNIT
    return max(1, floor(0.4375 * units + 0.5)), max(1, floor(0.6875 * units + 0.5))


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

    Raises:
        ValueError: a batch of one, a clip shorter than 4 frames, or a window that does not fit the clip.
    """
    units = frames // TIME_UNIT
    if size < 2 or units < 1:
        raise ValueError(f"mixing needs at least 2 samples of at least {TIME_UNIT} frames, got {size} of {frames}")
    shortest, longest = window or default_window(frames)
    if not 1 <= shortest <= longest <= units:
        raise ValueError(
            f"window {shortest, longest} does not fit {frames} frames: it is in units of {TIME_UNIT} frames, 1..{units}"
        )
    shift = uniform_int(1, size - 1, rng)
    chance, lam = torch.rand(2, generator=rng, dtype=torch.float64).tolist()
    target = uniform_int(shortest, longest, rng)
    target_start = uniform_int(0, units - target, rng)
    source = uniform_int(target, units, rng)
    source_start = uniform_int(0, units - source, rng)
    parts = coalition_sizes[uniform_int(0, len(coalition_sizes) - 1, rng)]
    chosen = uniform_subset(range(num_parts), parts, rng)
    return MixDraws(
        shift=shift,
        kind="paste" if chance < paste_probability else "blend",
        lam=lam,
        target_start=TIME_UNIT * target_start,
        target_len=TIME_UNIT * target,
        source_start=TIME_UNIT * source_start,
        source_len=TIME_UNIT * source,
        coalition=torch.tensor([part in chosen for part in range(num_parts)]),
        uniform=torch.rand(size, generator=rng),
    )


def draw_coalition(table: Tensor, rarer: Tensor, uniform: Tensor, temperature: float) -> Tensor:
    """Draws a column of the saliency table for each sample, by inverse CDF.

    Args:
        table: (K, S) saliency.
        rarer: class (N,) whose row is drawn from, with p = softmax(row / temperature).
        uniform: (N,) numbers in 0 .. 1.

    Returns:
        (N,) columns, int64.
    """
    cdf = (table[rarer] / temperature).softmax(-1).cumsum(-1)
    return torch.searchsorted(cdf, uniform.to(cdf).unsqueeze(-1), right=True).squeeze(-1).clamp(max=table.shape[1] - 1)


def pasted_parts(drawn: Tensor, y: Tensor, y_partner: Tensor, abundance: Tensor) -> Tensor:
    """What is written onto each sample, given the parts that must survive of the rarer one.

    Args:
        drawn: (N, P) bool, the coalition drawn from the rarer sample's class; or its joints, (N, V).
        y, y_partner: classes (N,).
        abundance: (K,) how common a class is; the smaller is the rarer.

    Returns:
        bool, shaped as drawn: the drawn parts where the partner is the rarer, else (also on a tie) the complement.
    """
    partner_is_rarer = abundance[y_partner] < abundance[y]
    return torch.where(partner_is_rarer.unsqueeze(-1), drawn, ~drawn)


def partner_rows(everyone: Tensor, first: int, size: int) -> list[Tensor]:
    """The ``size`` rows of a global batch (N, ...) from place ``first`` mod N on, in one piece, or two round the end.

    The pieces are views: a roll would move the whole batch through memory once more.
    """
    first %= len(everyone)
    pieces = [everyone[first : first + size], everyone[: max(0, first + size - len(everyone))]]
    return [piece for piece in pieces if len(piece)]


@torch.no_grad()
def blend(x: Tensor, partner: Rows, lam: float) -> Tensor:
    """Mixup (Zhang et al., ICLR 2018): ``(1 - lam) x + lam partner``; the partner's share is lam."""
    mixed = (1 - lam) * x
    for rows, other in in_pieces(mixed, partner):
        rows += lam * other
    return mixed


@torch.no_grad()
def paste(x: Tensor, partner: Rows, joints: Tensor, draws: MixDraws) -> tuple[Tensor, Tensor]:
    """Writes the partner's source segment, resized in time, over the target segment on the given joints (ST-Mix).

    Nearest-neighbour in time, index ``floor(t * (src / dst))`` in float32, as torch's interpolate has it.

    Args:
        x: (N, C, T, V, M).
        partner: the same shape, as one tensor or as pieces of it.
        joints: (N, V) bool, the joints that are overwritten.

    Returns:
        the mixed batch, a new tensor (N, C, T, V, M), and the partner's share (N,) of the pasted samples:
        target length * pasted joints / (T * V).
    """
    frames = _nearest(draws.source_len, draws.target_len, x.device)
    mixed = x.clone()
    segment = mixed.narrow(2, draws.target_start, draws.target_len)
    source = torch.empty_like(segment)  # in the memory order of x
    for rows, other in in_pieces(source, partner):
        torch.index_select(other.narrow(2, draws.source_start, draws.source_len), 2, frames, out=rows)
    # of one whole frame, in the memory order of x: a mask that is broadcast within a frame is read number by number
    mask = torch.empty_like(segment[:, :, :1], dtype=torch.bool).copy_(joints[:, None, None, :, None])
    torch.where(mask, source, segment, out=segment)
    pasted = joints.sum(1).to(target_dtype(x))
    share = pasted * (draws.target_len / (x.shape[2] * x.shape[3]))
    return mixed, share


def _nearest(source: int, target: int, device: torch.device) -> Tensor:
    """(target,) frames 0 .. source - 1 that resize a segment to the target length."""
    step = torch.arange(target, device=device, dtype=torch.float32)
    return (step * (source / target)).long().clamp(max=source - 1)


def in_pieces(whole: Tensor, partner: Rows) -> Iterator[tuple[Tensor, Tensor]]:
    """(rows of ``whole``, the piece of the partner that belongs to them)."""
    pieces = [partner] if isinstance(partner, Tensor) else partner
    return zip(whole.split([len(piece) for piece in pieces]), pieces, strict=True)


def target_dtype(x: Tensor) -> torch.dtype:
    """Soft targets are at least float32, whatever the batch is."""
    return torch.promote_types(x.dtype, torch.float32)


def soft_target(y: Tensor, y_partner: Tensor, share: Tensor, num_class: int) -> Tensor:
    """(N, K) targets ``(1 - share) onehot(y) + share onehot(y_partner)``, in the dtype of share."""
    classes, shares = torch.stack([y, y_partner], 1), torch.stack([1 - share, share], 1)
    return share.new_zeros(len(y), num_class).scatter_add_(1, classes, shares)
