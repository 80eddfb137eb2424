"""How much body parts contribute to a network's decision (docs/method.md, "Contribution of a coalition").

A part is "absent" when its joints are replaced by those of a static reference sequence, the ``baseline``.
``v(A)`` is the softmax probability of the true class when only the parts in A are present. The contribution of a
coalition Q is the Shapley value of Q taken as one player: the mean over context sizes of the mean over the
contexts R of that size of ``v(Q ∪ R) - v(R)``. One drawn context estimates it without bias; all contexts give it
exactly. Both are a weighted sum of values, here called *terms*, so they share one code path.

Shapes: N batch, C coordinates, T frames, V joints, M people, K classes, P parts, E sets of parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations
from math import comb
from typing import Any

import torch
from torch import Tensor, nn

from .checks import as_classes, require
from .draws import uniform_int, uniform_subset
from .formats import DEFAULT, InputFormat
from .skeleton import SkeletonLayout

Coalition = tuple[int, ...]
Terms = Mapping[Coalition, float]  # parts that are present -> weight of v(those parts)
Network = Callable[[Tensor], Tensor]  # x (N, C, T, V, M) -> logits (N, K)


def draw_context(num_parts: int, coalition: Coalition, rng: torch.Generator) -> Coalition:
    """Draws a context R of ``coalition``: size uniform in 0 .. P - |Q|, then a uniform subset of that size."""
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


def contributions(
    model: Network,
    x: Tensor,
    target: Tensor,
    baseline: Tensor,
    layout: SkeletonLayout,
    terms: Sequence[Terms],
    max_batch: int | None = None,
    input_format: str = DEFAULT,
) -> Tensor:
    """Weighted sums of values, unclipped: column j is the sum of ``weight * v(parts)`` over ``terms[j]``.

    The model runs in evaluation mode and without gradients, by its ``eval`` and ``train``. Afterwards each of its
    modules is in its own mode again, also when the model raises, so batch-norm statistics and gradients stay as they
    were.

    Args:
        model: x (N, C, T, V, M) -> logits (N, K).
        x: the batch (N, C, T, V, M).
        target: true classes (N,), integers.
        baseline: static reference sequence (C, T, V, M), or one for each sample (N, C, T, V, M), in the units of x.
        layout: which joints belong to which part.
        terms: they name E different sets of parts.
        max_batch: at most this many samples in one forward call, and made at once; by default all E * N in one.
        input_format: order of the dimensions of x, baseline and model input, see :class:`shapmix.formats.InputFormat`.

    Returns:
        (N, len(terms)). Cost: E * N samples forward.

    Raises:
        ValueError: x, target, baseline and layout do not fit together, the model does not return logits, or a target is
            no class of theirs.
    """
    form = InputFormat(input_format)
    fits = x.ndim == len(form.order) and x.shape[form.order.index("V")] == layout.num_joints
    require(
        fits and baseline.shape in (x.shape, x.shape[1:]) and target.shape == x.shape[:1],
        f"x {tuple(x.shape)} must be {form} with V = {layout.num_joints} joints of layout {layout.name!r}, "
        f"baseline {tuple(baseline.shape)} its {form.sequence}, target {tuple(target.shape)} its (N,)",
    )
    x, baseline = form.inward(x), form.baseline_inward(baseline)
    present = sorted({parts for term in terms for parts in term}, key=lambda parts: (len(parts), parts))
    mask = layout.joints_of(present).to(x.device, non_blocking=True)[:, None, None, :, None]
    views = _views(x, mask, baseline.to(x, non_blocking=True), max_batch or len(mask) * len(x))
    # no inference_mode: tensors that a network makes in its first forward call and keeps could not be trained with
    with _evaluating(model), torch.no_grad():
        outputs = [_kept(model(form.outward(chunk))) for chunk in views]
    require(
        all(isinstance(output, Tensor) and output.ndim == 2 for output in outputs),
        f"the model must return logits (N, K), got {type(outputs[0]).__name__}; wrap it in a module that picks them",
    )
    logits = torch.cat(outputs)
    target = as_classes(target, logits.shape[1], look=False)
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    probabilities = logits.softmax(-1).view(len(present), len(x), -1)
    values = probabilities.gather(-1, target.view(1, -1, 1).expand(len(present), -1, 1)).squeeze(-1)  # (E, N): v
    weights = torch.tensor([[term.get(parts, 0.0) for term in terms] for parts in present], dtype=values.dtype)
    # no matrix product, which autocast would round to bf16: the difference of two probabilities needs its digits
    return (values.T.unsqueeze(-1) * weights.to(values.device, non_blocking=True)).sum(1)


def _kept(output: Any) -> Any:
    """An output that the next call cannot overwrite, as that of a CUDA graph does (``compile: reduce-overhead``)."""
    return output.clone() if isinstance(output, Tensor) else output


def _views(x: Tensor, mask: Tensor, baseline: Tensor, at_once: int) -> Iterator[Tensor]:
    """The samples x with each set of parts present (E * N, C, T, V, M), ``at_once`` of them at a time."""
    for rows in torch.arange(len(mask) * len(x), device=x.device).split(at_once):
        which, sample = rows // len(x), rows % len(x)
        yield torch.where(mask[which], x[sample], baseline[sample] if baseline.ndim == x.ndim else baseline)


def sampled_contribution(
    model: Network,
    x: Tensor,
    target: Tensor,
    baseline: Tensor,
    layout: SkeletonLayout,
    coalition: Coalition,
    context: Coalition,
    input_format: str = DEFAULT,
) -> Tensor:
    """(N,) estimates ``v(Q ∪ R) - v(R)`` in -1 .. 1, unclipped. Cost: 2 N samples in one forward call."""
    terms = [sampled_terms(coalition, context)]
    return contributions(model, x, target, baseline, layout, terms, input_format=input_format)[:, 0]


def exact_contributions(
    model: Network,
    x: Tensor,
    target: Tensor,
    baseline: Tensor,
    layout: SkeletonLayout,
    coalitions: Sequence[Coalition],
    max_batch: int | None = None,
    input_format: str = DEFAULT,
) -> Tensor:
    """(N, S) exact contributions in -1 .. 1, unclipped. Cost: at most ``2**P * N`` samples forward, whatever S is."""
    terms = [exact_terms(layout.num_parts, coalition) for coalition in coalitions]
    return contributions(model, x, target, baseline, layout, terms, max_batch, input_format)


def shapley_values(
    model: Network,
    x: Tensor,
    target: Tensor,
    baseline: Tensor,
    layout: SkeletonLayout,
    max_batch: int | None = None,
    input_format: str = DEFAULT,
) -> Tensor:
    """(N, P) exact Shapley values of the single parts; a row sums to v(all) - v(none). Cost: ``2**P * N`` samples."""
    single = [(part,) for part in range(layout.num_parts)]
    return exact_contributions(model, x, target, baseline, layout, single, max_batch, input_format)


def set_modes(modes: Iterable[tuple[nn.Module, bool]]) -> None:
    """Puts each module into training mode (True) or evaluation mode by its own ``train``, which may do more.

    They come in the order of ``modules()``, a module before those in it: ``train`` changes these too.
    """
    for module, training in modes:
        if module.training != training:
            module.train(training)


@contextmanager
def _evaluating(model: Network) -> Iterator[None]:
    """Evaluation mode inside, each module's own mode again outside; a plain function has no mode."""
    if not isinstance(model, nn.Module):
        yield
        return
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        set_modes(modes)
