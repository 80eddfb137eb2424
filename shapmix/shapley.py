"""Contribution of coalitions of body parts to a network's decision (Shapley estimation; METHOD 2).

A part is "absent" when its joints are replaced by those of a static reference sequence, the ``baseline``.
``v(A)`` is the softmax probability of the true class when only the parts in A are present. The contribution of a
coalition Q is the Shapley value of Q taken as one player: the mean over context sizes of the mean over the
contexts R of that size of ``v(Q ∪ R) - v(R)``. One drawn context estimates it without bias, all contexts give it
exactly. Both are a weighted sum of values, here called *terms*, so they share one code path.

Shapes: N batch, C coordinates, T frames, V joints, M people, K classes, P parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations
from math import comb

import torch
from torch import Tensor, nn

from .draws import uniform_int, uniform_subset
from .skeleton import SkeletonLayout

Coalition = tuple[int, ...]
Terms = Mapping[Coalition, float]  # parts that are present -> weight of v(those parts)


def draw_context(num_parts: int, coalition: Coalition, rng: torch.Generator) -> Coalition:
    """One context R of ``coalition``: size uniform in 0 .. P - |Q|, then a uniform subset of that size."""
    others = [part for part in range(num_parts) if part not in coalition]
    return uniform_subset(others, uniform_int(0, len(others), rng), rng)


def sampled_terms(coalition: Coalition, context: Coalition) -> Terms:
    """Terms of one sample ``v(Q ∪ R) - v(R)``: 2 evaluations."""
    return {tuple(sorted({*coalition, *context})): 1.0, tuple(sorted(context)): -1.0}


def exact_terms(num_parts: int, coalition: Coalition) -> Terms:
    """Terms of the exact contribution: ``2 * 2**(P - |Q|)`` evaluations (P = 5: 16 for a pair, 8 for a triple)."""
    others = [part for part in range(num_parts) if part not in coalition]
    terms: dict[Coalition, float] = {}
    for size in range(len(others) + 1):
        weight = 1.0 / ((len(others) + 1) * comb(len(others), size))
        for context in combinations(others, size):
            terms.update({parts: sign * weight for parts, sign in sampled_terms(coalition, context).items()})
    return terms


def coalition_values(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    target: Tensor,
    baseline: Tensor,
    layout: SkeletonLayout,
    present: Sequence[Coalition],
    max_batch: int | None = None,
) -> Tensor:
    """``v(A)`` of every sample for every set A of present parts.

    The model runs in evaluation mode and without gradients; its train/eval flags (each module's own) are restored
    afterwards, also when it raises, so batch-norm statistics and gradients stay as they were.

    Args:
        model: x (N, C, T, V, M) -> logits (N, K).
        x: the batch (N, C, T, V, M).
        target: true classes (N,), int64.
        baseline: static reference sequence (C, T, V, M), in the same units as x.
        layout: which joints belong to which part.
        present: E sets of parts.
        max_batch: at most this many samples in one forward call; by default all E * N in one.

    Returns:
        (E, N) probabilities in 0 .. 1. Cost: E * N samples forward.

    Raises:
        ValueError: x, target, baseline and layout do not fit together.
    """
    fits = x.ndim == 5 and x.shape[3] == layout.num_joints and x.shape[1:] == baseline.shape
    if not fits or target.shape != x.shape[:1]:
        raise ValueError(
            f"x {tuple(x.shape)} must be (N, C, T, V, M) with V = {layout.num_joints} joints of layout "
            f"{layout.name!r}, baseline {tuple(baseline.shape)} its (C, T, V, M), target {tuple(target.shape)} its (N,)"
        )
    parts = torch.zeros(len(present), layout.num_parts, dtype=torch.bool)
    for row, members in zip(parts, present, strict=True):
        row[list(members)] = True
    joints = (parts.unsqueeze(-1) & layout.membership()).any(1).to(x.device, non_blocking=True)  # (E, V)
    mask = joints[:, None, None, None, :, None]
    # no inference_mode: tensors that a network makes in its first forward call and keeps could not be trained with
    with _evaluating(model), torch.no_grad():
        masked = torch.where(mask, x, baseline.to(x, non_blocking=True)).flatten(0, 1)  # (E * N, C, T, V, M)
        logits = torch.cat([model(chunk) for chunk in masked.split(max_batch or len(masked))])
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    chance = logits.softmax(-1).view(len(present), len(x), -1)
    return chance.gather(-1, target.view(1, -1, 1).expand(len(present), -1, 1)).squeeze(-1)


def contributions(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    target: Tensor,
    baseline: Tensor,
    layout: SkeletonLayout,
    terms: Sequence[Terms],
    max_batch: int | None = None,
) -> Tensor:
    """Weighted sums of values, unclipped: column j is ``sum of weight * v(parts)`` over ``terms[j]``.

    Returns:
        (N, len(terms)), each within -1 .. 1. Cost: one evaluation for each different set of parts in the terms.
    """
    present = sorted({parts for term in terms for parts in term}, key=lambda parts: (len(parts), parts))
    values = coalition_values(model, x, target, baseline, layout, present, max_batch)
    weights = torch.tensor([[term.get(parts, 0.0) for term in terms] for parts in present], dtype=values.dtype)
    # no matrix product, which autocast would round to bf16: the difference of two probabilities needs its digits
    return (values.T.unsqueeze(-1) * weights.to(values.device, non_blocking=True)).sum(1)


def sampled_contribution(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    target: Tensor,
    baseline: Tensor,
    layout: SkeletonLayout,
    coalition: Coalition,
    context: Coalition,
) -> Tensor:
    """(N,) estimates ``v(Q ∪ R) - v(R)``, unclipped. Cost: 2 N samples in one forward call (paper, section 3)."""
    return contributions(model, x, target, baseline, layout, [sampled_terms(coalition, context)])[:, 0]


def exact_contributions(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    target: Tensor,
    baseline: Tensor,
    layout: SkeletonLayout,
    coalitions: Sequence[Coalition],
    max_batch: int | None = None,
) -> Tensor:
    """(N, S) exact contributions, unclipped. Cost: at most ``2**P * N`` samples forward, whatever S is."""
    terms = [exact_terms(layout.num_parts, coalition) for coalition in coalitions]
    return contributions(model, x, target, baseline, layout, terms, max_batch)


def shapley_values(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    target: Tensor,
    baseline: Tensor,
    layout: SkeletonLayout,
    max_batch: int | None = None,
) -> Tensor:
    """(N, P) exact Shapley values of the single parts; a row sums to v(all) - v(none). Cost: ``2**P * N`` samples."""
    single = [(part,) for part in range(layout.num_parts)]
    return exact_contributions(model, x, target, baseline, layout, single, max_batch)


@contextmanager
def _evaluating(model: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Evaluation mode inside, every module's own flag restored outside; a plain function has no mode."""
    flags = [(module, module.training) for module in model.modules()] if isinstance(model, nn.Module) else []
    for module, _ in flags:
        module.training = False
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training
