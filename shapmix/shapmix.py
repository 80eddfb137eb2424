"""Shap-Mix as a plug-in for any training loop (Zhang, Lin, Liu, IJCAI 2024; docs/method.md).

    mixer = ShapMix("ntu25", class_counts=counts, baseline=baseline)
    for epoch ...:
        for step, (x, y) in enumerate(loader):
            mixer.start_step(epoch, step)
            mixer.observe(model, x, y)
            x_mix, y_mix = mixer(x, y)
            logits, logits_mix = model(torch.cat([x, x_mix])).chunk(2)
            loss = criterion(logits, y) + criterion(logits_mix, y_mix)

Shapes: N batch, C coordinates, T frames, V joints, M people, K classes, P parts, S coalitions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil, inf
from typing import Any, Literal

import torch
from torch import Tensor, nn

from . import mixing
from .bodies import Paste, present
from .checks import choice, require, within
from .distributed import own_slice, sum_over_ranks, world
from .draws import generator, uniform_int
from .formats import DEFAULT
from .mixer import Mixer
from .saliency import SaliencyTable
from .shapley import draw_context, exact_contributions, sampled_contribution
from .skeleton import SkeletonLayout


class ShapMix(Mixer):
    """Estimates which body parts carry each class, and mixes samples so that those parts of the rarer class survive.

    A module with two buffers to save, the saliency table and the baseline, and no parameters.

    Args:
        layout: a :class:`SkeletonLayout`, its name, or a dict of one.
        class_counts: training samples of each class (K,).
        baseline: static reference sequence (C, T, V, M): the mean over the training set of the sequences as the
            network sees them at test time. Only needed where ``guided``.
        guided: False gives ST-Mix: parts are uniform, and nothing is estimated.
        coalition_sizes: parts in a coalition, each 1 .. P-1; by default floor(P/2) and ceil(P/2).
        paste_probability: of a batch to be pasted rather than blended, 0 .. 1.
        temperature, bias_correction, standardise: see :class:`SaliencyTable`.
        guide_from: only pairs are guided whose classes' training counts differ by this factor, >= 1; in the others
            every coalition is equally likely.
        tail_over_head: of each pair, the sample of the rarer class is pasted over the other one (after Park et al.,
            CVPR 2022). False: over whichever comes first in the pair, as published.
        ema: share of a table entry that stays at an update, 0 .. 1.
        scale: factor on a contribution when it enters the table, > 0.
        window: shortest and longest pasted segment in units of 4 frames; by default 0.4375 and 0.6875 of the clip
            (64 frames: (7, 11); the Kinetics recipe sets (13, 20) for 100).
        body, people, dims, same_facing, up: how a segment is pasted, see :class:`shapmix.bodies.Paste`.
        naive_mix_epoch: first epoch of guided mixing; before it, mixing is uniform.
        naive_estimate_epoch: first epoch with drawn contexts and with decay; before it, contexts are empty and
            each value replaces the last.
        estimator: ``sampled``: :meth:`observe` estimates one coalition in each step, as published. ``refresh``: it does
            nothing; :meth:`refresh` computes all rows exactly, from samples that the caller gives, where
            :meth:`refresh_due` says so.
        refresh_interval: epochs from one refresh to the next, >= 1; the first one is in epoch ``naive_mix_epoch``.
        estimate_interval: contributions are estimated every so many steps, >= 1.
        estimate_fraction: share of the global batch, above 0 and up to 1, that they are estimated for. It is rounded
            up to whole samples, at evenly spaced places that do not depend on the number of processes.
        rarity: ``count``: the class with fewer training samples is the rarer. ``index``: the one with the larger
            number, as published.
        update, reduction: see :class:`SaliencyTable`; ``sequential`` and ``table`` are as published.
        decay_start: ``guidance``: decay is on from epoch naive_estimate_epoch. ``later``: one epoch later, as
            published.
        with_clean, enabled, seed, input_format: see :class:`Mixer`. Where it is not enabled, ``observe`` does nothing.

    Raises:
        ValueError: an argument out of range.
    """

    layout: SkeletonLayout
    baseline: Tensor | None  # (C, T, V, M), in the order of input_format
    abundance: Tensor  # (K,) how common each class is
    coalition_joints: Tensor  # (S, V) bool
    part_joints: Tensor  # (P, V) bool

    def __init__(
        self,
        layout: str | Mapping[str, Any] | SkeletonLayout,
        class_counts: Sequence[int] | Tensor,
        baseline: Tensor | None = None,
        *,
        guided: bool = True,
        coalition_sizes: Sequence[int] | None = None,
        paste_probability: float = 0.75,
        temperature: float = 0.2,
        bias_correction: bool = True,
        standardise: bool = False,
        guide_from: float = 1.0,
        tail_over_head: bool = False,
        ema: float = 0.9,
        scale: float = 10.0,
        window: tuple[int, int] | None = None,
        body: Literal["joints", "bones"] = "joints",
        people: Literal["all", "present"] = "all",
        dims: int = 3,
        same_facing: bool | Literal["auto"] = False,
        up: int = 1,
        naive_mix_epoch: int = 5,
        naive_estimate_epoch: int = 5,
        estimator: Literal["sampled", "refresh"] = "sampled",
        refresh_interval: int = 5,
        estimate_interval: int = 1,
        estimate_fraction: float = 1.0,
        rarity: Literal["count", "index"] = "count",
        update: Literal["mean", "sequential"] = "mean",
        decay_start: Literal["guidance", "later"] = "guidance",
        reduction: Literal["evidence", "table"] = "evidence",
        with_clean: bool = True,
        enabled: bool = True,
        seed: int = 0,
        input_format: str = DEFAULT,
    ) -> None:
        super().__init__(class_counts, with_clean, enabled, seed, input_format)
        within(0, 1, paste_probability=paste_probability, ema=ema)
        within(1, inf, guide_from=guide_from, refresh_interval=refresh_interval, estimate_interval=estimate_interval)
        require(0 < estimate_fraction <= 1, f"estimate_fraction must lie above 0 and up to 1, got {estimate_fraction}")
        choice("decay_start", decay_start, "guidance", "later")
        choice("estimator", estimator, "sampled", "refresh")
        self.layout = SkeletonLayout.get(layout)
        coalitions = self.layout.coalitions(coalition_sizes)
        self.coalition_sizes = sorted({len(coalition) for coalition in coalitions})
        self.guided, self.paste_probability, self.ema = guided, paste_probability, ema
        self.guide_from, self.tail_over_head, self.window = guide_from, tail_over_head, mixing.as_window(window)
        self.naive_mix_epoch, self.naive_estimate_epoch = naive_mix_epoch, naive_estimate_epoch
        self.decay_epoch = naive_estimate_epoch + (decay_start == "later")
        self.estimator, self.refresh_interval = estimator, refresh_interval
        self.estimate_interval, self.estimate_fraction = estimate_interval, estimate_fraction
        self.saliency = SaliencyTable(
            self.num_class, self.layout, coalitions, scale, update, reduction, temperature, bias_correction, standardise
        )
        self.paste = Paste(self.layout, body, people, dims, same_facing, up)
        self.register_buffer("baseline", None if baseline is None else baseline.detach().clone())
        self.register_buffer("abundance", mixing.abundance(self.counts, rarity), persistent=False)
        self.register_buffer("coalition_joints", self.layout.joints_of(coalitions), persistent=False)
        self.register_buffer("part_joints", self.layout.membership(), persistent=False)

    def start_step(self, epoch: int, step: int) -> None:
        """Seeds the draws of this step; epoch and step count from 0. Calling ``observe`` does not change the mix."""
        super().start_step(epoch, step)
        self._estimate_rng = generator(self.seed, epoch, step, "estimate")

    def observe(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor | None:
        """Estimates the contribution of one drawn coalition for this batch and enters it into the table.

        Args:
            model: x (N, C, T, V, M) -> logits (N, K); its mode, gradients and statistics stay as they are. In
                DistributedDataParallel, it shares its buffers here instead of in the next training step.
            x, y: the clean batch of this rank (N, C, T, V, M) and its classes (N,), integers.

        Returns:
            unclipped contributions (N,), NaN for samples that ``estimate_fraction`` leaves out; or None where nothing
            was to be estimated (not guided, not enabled, or not a step of ``estimate_interval``). Cost: 2 samples
            forward for each one that is estimated, 2 N by default, in one call. A rank that has none of them evaluates
            one of its samples all the same: networks that span ranks wait for the call of every rank.

        Raises:
            ValueError: there is no baseline, or x, y, baseline and layout do not fit together; y as in :meth:`forward`.
        """
        if not (self.enabled and self.guided and self.estimator == "sampled") or self.step % self.estimate_interval:
            return None
        y = self.classes(x, y)
        column = uniform_int(0, len(self.saliency.coalitions) - 1, self._estimate_rng)
        coalition = self.saliency.coalitions[column]
        context = draw_context(self.layout.num_parts, coalition, self._estimate_rng)
        if self.epoch < self.naive_estimate_epoch:
            context = ()
        places = self._estimated_places(len(x))
        what = self.layout, coalition, context, self.input_format.order
        if len(places) == len(x):
            values = sampled_contribution(model, x, y, self._absent(x), *what)
        else:
            values = torch.full_like(y, torch.nan, dtype=mixing.target_dtype(x))  # which the table leaves out
            rows = torch.tensor(places or [0]).to(x.device, non_blocking=True)
            some = x[rows]
            found = sampled_contribution(model, some, y[rows], self._absent(some), *what)
            if places:
                values[rows] = found.to(values)
        ema = self.ema if self.epoch >= self.decay_epoch else 0.0
        self.saliency.update(column, y, values, ema, average=self.epoch >= self.naive_mix_epoch)
        return values

    def _absent(self, x: Tensor) -> Tensor:
        """What replaces absent parts: the baseline (C, T, V, M); with ``people: present`` one for each sample.

        In the order of ``input_format``, as x is.
        """
        if self.baseline is None:
            raise ValueError(
                "ShapMix needs a baseline (C, T, V, M) to estimate contributions: the mean of the training sequences; "
                "without one, use guided=False (ST-Mix)"
            )
        if self.paste.people == "all":
            return self.baseline
        there = present(self.input_format.inward(x)).any(1)[:, None, None, None, :]  # (N, 1, 1, 1, M)
        return self.baseline.to(x) * self.input_format.outward(there)

    def refresh_due(self, epoch: int) -> bool:
        """Does :meth:`refresh` come before this epoch?"""
        since = epoch - max(0, self.naive_mix_epoch)
        active = self.enabled and self.guided and self.estimator == "refresh"
        return active and since >= 0 and since % self.refresh_interval == 0

    @torch.no_grad()
    def refresh(self, model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], max_batch: int | None = None) -> None:
        """Sets the rows of the table to the mean exact contributions, clipped by sample, of these samples.

        Classes without samples keep their rows. Samples with a value that is not finite are left out. Under
        torch.distributed each rank gives its own samples; the rows are those of all of them.

        Args:
            model: as for :meth:`observe`.
            batches: x (N, C, T, V, M) without augmentation, and classes y (N,). 16 samples of each class are enough.
            max_batch: at most so many samples in one forward call; by default 2**P * N in one.

        Raises:
            ValueError: as :meth:`observe`. Cost: 2**P samples forward for each sample.
        """
        size, device = (self.num_class, len(self.saliency.coalitions) + 1), self.counts.device
        sums = torch.zeros(size, dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)
        for x, y in batches:
            y, absent = self.classes(x, y), self._absent(x)
            values = exact_contributions(
                model, x, y, absent, self.layout, self.saliency.coalitions, max_batch, self.input_format.order
            )
            usable = values.isfinite().all(1, keepdim=True)
            evidence = torch.cat([torch.where(usable, values.clamp(min=0), 0), usable], 1)  # and a count
            sums.index_add_(0, y.to(sums.device), evidence.to(sums))
        sum_over_ranks(sums)
        self.saliency.replace(sums[:, :-1] / sums[:, -1:].clamp(min=1), sums[:, -1])

    def waits_for_epoch(self) -> int:
        return max(self.naive_mix_epoch, self.decay_epoch) if self.enabled and self.guided else 0

    def _estimated_places(self, size: int) -> list[int]:
        """Places in this rank's batch of ``size``; over all ranks ceil(estimate_fraction * N), evenly spaced."""
        _, processes = world()
        everyone = processes * size
        count = max(1, ceil(self.estimate_fraction * everyone - 1e-6))  # 0.07 * 100 is 7.000000000000001
        estimated = torch.zeros(everyone, dtype=torch.bool)
        estimated[torch.arange(count) * everyone // count] = True
        return own_slice(estimated).nonzero().flatten().tolist()

    def draw(self, size: int, x: Tensor) -> mixing.MixDraws:
        """The random decisions for a global batch of ``size`` whose slice is x.

        Raises:
            ValueError: x has fewer than 4 frames, or the window does not fit it.
        """
        num_parts, sizes = self.layout.num_parts, self.coalition_sizes
        return mixing.draw_mix(size, x.shape[2], num_parts, sizes, self.mix_rng, self.paste_probability, self.window)

    def apply_draws(
        self, x: Tensor, y: Tensor, x_partner: Tensor, y_partner: Tensor, draws: mixing.MixDraws
    ) -> tuple[Tensor, Tensor]:
        """Mixes x with x_partner (both (N, C, T, V, M)) as drawn, by the rule in mixing.py: x_mix, soft targets (N, K).

        Both are new tensors. No wait for the device, and no loop over samples.
        """
        x_partner = self.paste.faced(x, x_partner)
        if draws.kind == "blend":
            share = x.new_full((len(x),), draws.lam, dtype=mixing.target_dtype(x))
            mixed = mixing.blend(x, x_partner, draws.lam)
            return mixed, mixing.soft_target(y, y_partner, share, self.num_class)
        partner_rarer = mixing.partner_is_rarer(y, y_partner, self.abundance)
        if self.tail_over_head:
            swap = mixing.partner_is_rarer(y_partner, y, self.abundance)
            x, x_partner = mixing.exchanged(x, x_partner, swap)
            y, y_partner = mixing.exchanged(y, y_partner, swap)
            partner_rarer = partner_rarer | swap
        if self.guided and self.epoch >= self.naive_mix_epoch:
            logits = self.saliency.logits()[torch.where(partner_rarer, y_partner, y)]
            if self.guide_from > 1:
                logits = logits * mixing.counts_differ(self.counts, y, y_partner, self.guide_from).unsqueeze(1)
            uniform = own_slice(draws.uniform).to(x.device, non_blocking=True)
            column = mixing.draw_coalition(logits, uniform)
            joints = mixing.pasted_parts(self.coalition_joints[column], partner_rarer)  # (N, V)
        else:
            coalition = draws.coalition.to(x.device, non_blocking=True)
            joints = (coalition.unsqueeze(-1) & self.part_joints).any(0).expand(len(x), -1)
        mixed, share = self.paste(x, x_partner, joints, draws)
        return mixed, mixing.soft_target(y, y_partner, share, self.num_class)

    def target_counts(self, frames: int) -> Tensor | None:
        """See :class:`Mixer`. Guidance is not counted: all coalitions are taken as equally likely."""
        shortest, longest = self.window or mixing.default_window(frames)
        time = mixing.TIME_UNIT * (shortest + longest) / 2 / frames
        body = self.part_joints.cpu().double().mean().item() * sum(self.coalition_sizes) / len(self.coalition_sizes)
        share = self.paste_probability * time * body + (1 - self.paste_probability) / 2
        return mixing.target_counts(self.counts, share, self.abundance if self.tail_over_head else None)

    def guidance(self) -> Tensor:
        """(K,) how far from uniform each class draws its coalitions, see :meth:`SaliencyTable.guidance`."""
        return self.saliency.guidance()

    def metrics(self) -> dict[str, float]:
        """Where guided: ``guidance``, the mean of :meth:`guidance` over the classes."""
        return {"guidance": self.guidance().mean().item()} if self.guided else {}
