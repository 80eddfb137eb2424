"""Shap-Mix as a plug-in for any training loop (Zhang, Lin, Liu, IJCAI 2024; METHOD 1-4 and 9).

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

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil, log
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .distributed import own_slice, world
from .draws import generator, uniform_int
from .mixer import Mixer, check
from .mixing import MixDraws, Rows, blend, draw_coalition, draw_mix, paste, pasted_parts, soft_target, target_dtype
from .saliency import SaliencyTable
from .shapley import draw_context, sampled_contribution
from .skeleton import SkeletonLayout


class ShapMix(Mixer):
    """Estimates which body parts carry each class, and mixes samples so that those parts of rare classes survive.

    A module with buffers (the saliency table and the baseline) and generators of its own; no parameters. Under
    torch.distributed it mixes over the global batch (all ranks must call it with equal batches) and returns the
    rank's slice.

    Args:
        layout: a :class:`SkeletonLayout`, its name, or a dict of one.
        class_counts: training samples of each class (K,).
        baseline: static reference sequence (C, T, V, M): the mean over the training set of the sequences as the
            network sees them at test time. Only needed where ``guided``.
        guided: False gives ST-Mix: uniform parts, nothing is estimated.
        coalition_sizes: parts in a coalition, each 1 .. P-1; by default floor(P/2) and ceil(P/2).
        paste_probability: chance that a batch is pasted rather than blended.
        temperature: of the softmax over a row of the table, > 0.
        ema: share of a table entry that stays at an update, 0 .. 1.
        scale: factor on a contribution when it enters the table.
        window: shortest and longest pasted segment in units of 4 frames; by default 0.4375 and 0.6875 of the clip
            (64 frames: (7, 11); the Kinetics recipe sets (13, 20) for 100).
        naive_mix_epoch: first epoch of guided mixing; uniform before.
        naive_estimate_epoch: first epoch with drawn contexts and with decay; before it contexts are empty and
            each value replaces the last.
        estimate_interval: contributions are estimated every so many steps.
        estimate_fraction: share of the global batch, above 0 and up to 1, that they are estimated for: the same
            evenly spaced places of it, rounded up, whatever the number of processes. The batch must be in random order.
        rarity: ``count``: the class with fewer training samples is the rarer. ``index``: the one with the larger
            number, as published.
        update: see :class:`SaliencyTable`; ``sequential`` is as published.
        decay_start: ``guidance``: decay is on from epoch naive_estimate_epoch. ``later``: one epoch later, as
            published.
        reduction: see :class:`SaliencyTable`; ``table`` is as published.
        with_clean: should the clean batch be trained on as well (as published), or the mixed one alone? For the
            training loop to read.
        enabled: False makes ``observe`` do nothing and the call return the batch unmixed.
        seed: of all draws, together with epoch and step.

    Raises:
        ValueError: an argument out of range.
    """

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
        ema: float = 0.9,
        scale: float = 10.0,
        window: tuple[int, int] | None = None,
        naive_mix_epoch: int = 5,
        naive_estimate_epoch: int = 5,
        estimate_interval: int = 1,
        estimate_fraction: float = 1.0,
        rarity: Literal["count", "index"] = "count",
        update: Literal["mean", "sequential"] = "mean",
        decay_start: Literal["guidance", "later"] = "guidance",
        reduction: Literal["evidence", "table"] = "evidence",
        with_clean: bool = True,
        enabled: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(class_counts, with_clean, enabled, seed)
        self.layout = SkeletonLayout.get(layout)
        check(
            window is None or (len(window) == 2 and 1 <= window[0] <= window[1]),
            f"window must be (shortest, longest) in units of 4 frames, 1 or more, got {window}",
        )
        check(0 <= paste_probability <= 1, f"paste_probability must lie in 0..1, got {paste_probability}")
        check(temperature > 0, f"temperature must be above 0, got {temperature}")
        check(0 <= ema <= 1, f"ema must lie in 0..1, got {ema}")
        check(scale > 0, f"scale must be above 0, got {scale}")
        check(estimate_interval >= 1, f"estimate_interval must be at least 1, got {estimate_interval}")
        check(0 < estimate_fraction <= 1, f"estimate_fraction must lie above 0 and up to 1, got {estimate_fraction}")
        check(rarity in ("count", "index"), f"rarity is count or index, got {rarity!r}")
        check(decay_start in ("guidance", "later"), f"decay_start is guidance or later, got {decay_start!r}")
        coalitions = self.layout.coalitions(coalition_sizes)
        self.coalition_sizes = sorted({len(coalition) for coalition in coalitions})
        self.guided = guided
        self.paste_probability = paste_probability
        self.temperature = temperature
        self.ema = ema
        self.window = (int(window[0]), int(window[1])) if window else None
        self.naive_mix_epoch = naive_mix_epoch
        self.naive_estimate_epoch = naive_estimate_epoch
        self.estimate_interval = estimate_interval
        self.estimate_fraction = estimate_fraction
        self.decay_epoch = naive_estimate_epoch + (decay_start == "later")
        self.saliency = SaliencyTable(self.num_class, self.layout, coalitions, scale, update, reduction)
        abundance = self.counts if rarity == "count" else torch.arange(self.num_class, 0, -1)
        part_joints = self.layout.membership()
        joints = torch.stack([part_joints[list(coalition)].any(0) for coalition in coalitions])
        self.baseline: Tensor | None
        self.abundance: Tensor
        self.coalition_joints: Tensor
        self.part_joints: Tensor
        self.register_buffer("baseline", None if baseline is None else baseline.detach().clone())
        self.register_buffer("abundance", abundance.clone(), persistent=False)  # (K,)
        self.register_buffer("coalition_joints", joints, persistent=False)  # (S, V)
        self.register_buffer("part_joints", part_joints, persistent=False)  # (P, V)

    def start_step(self, epoch: int, step: int) -> None:
        """Seeds the draws of this step (both count from 0). Whether ``observe`` runs does not change the mix."""
        super().start_step(epoch, step)
        self._estimate_rng = generator(self.seed, epoch, step, "estimate")

    def observe(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor | None:
        """Estimates the contribution of one drawn coalition for this batch and enters it into the table.

        Args:
            model: x (N, C, T, V, M) -> logits (N, K); its mode, gradients and statistics stay as they are.
            x: the clean batch of this rank.
            y: its classes (N,), int64.

        Returns:
            unclipped contributions (N,), NaN for samples that ``estimate_fraction`` leaves out; or None where nothing
            was to be estimated (not guided, not enabled, or not a step of ``estimate_interval``). Cost: 2 samples
            forward for each that is estimated, 2 N by default, in one call; no call where none of this rank's is.
        """
        if not (self.enabled and self.guided) or self.step % self.estimate_interval:
            return None
        if self.baseline is None:
            raise ValueError(
                "ShapMix needs a baseline (C, T, V, M) to estimate contributions: the mean of the training sequences; "
                "without one, use guided=False (ST-Mix)"
            )
        model = model.module if isinstance(model, DistributedDataParallel) else model
        column = uniform_int(0, len(self.saliency.coalitions) - 1, self._estimate_rng)
        coalition = self.saliency.coalitions[column]
        context = draw_context(self.layout.num_parts, coalition, self._estimate_rng)
        if self.epoch < self.naive_estimate_epoch:
            context = ()
        places = self._estimated_places(len(x))
        if len(places) == len(x):
            values = sampled_contribution(model, x, y, self.baseline, self.layout, coalition, context)
        else:
            values = torch.full_like(y, torch.nan, dtype=target_dtype(x))  # which the table leaves out
            if places:
                rows = torch.tensor(places).to(x.device, non_blocking=True)
                found = sampled_contribution(model, x[rows], y[rows], self.baseline, self.layout, coalition, context)
                values[rows] = found.to(values)
        self.saliency.update(column, y, values, self.ema if self.epoch >= self.decay_epoch else 0.0)
        return values

    def _estimated_places(self, size: int) -> list[int]:
        """Places in this rank's batch of ``size``; over all ranks ceil(estimate_fraction * N), evenly spaced."""
        rank, processes = world()
        everyone = processes * size
        count = max(1, ceil(self.estimate_fraction * everyone - 1e-6))  # 0.07 * 100 is 7.000000000000001
        first = rank * size
        places = (number * everyone // count - first for number in range(count))
        return [place for place in places if 0 <= place < size]

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Mixes a batch with itself, see :class:`Mixer`.

        Raises:
            ValueError: x has other joints than the layout, or fewer than 4 frames.
        """
        if x.ndim != 5 or x.shape[3] != self.layout.num_joints:
            raise ValueError(
                f"x {tuple(x.shape)} must be (N, C, T, V, M) with V = {self.layout.num_joints} joints of layout "
                f"{self.layout.name!r}"
            )
        return super().forward(x, y)

    @torch.no_grad()
    def guidance(self) -> Tensor:
        """How far from uniform each class draws its coalitions: 0 (any is as likely) .. 1 (always the same one).

        One minus the entropy of softmax(row / temperature), in units of that of S equal chances. Near 0 the
        contributions are small against the temperature. It is blunt there: at 0.03 of S = 20 one coalition may still be
        a few times as likely as another.

        Returns:
            (K,) float64, on the CPU: one wait for the device.
        """
        logp = (self.saliency.table.cpu().double() / self.temperature).log_softmax(-1)
        return (1 + (logp.exp() * logp).sum(-1) / log(logp.shape[-1])).clamp(0, 1)

    def metrics(self) -> dict[str, float]:
        """Where guided: ``guidance``, the mean of :meth:`guidance` over the classes."""
        return {"guidance": self.guidance().mean().item()} if self.guided else {}

    def draw(self, size: int, x: Tensor) -> MixDraws:
        """The random decisions; per-sample ones for this rank's slice, on the device of x."""
        draws = draw_mix(
            size,
            x.shape[2],
            self.layout.num_parts,
            self.coalition_sizes,
            self.mix_rng,
            self.paste_probability,
            self.window,
        )
        return replace(
            draws,
            uniform=own_slice(draws.uniform).to(x.device, non_blocking=True),
            coalition=draws.coalition.to(x.device, non_blocking=True),
        )

    def apply_draws(
        self, x: Tensor, y: Tensor, partner: Rows, y_partner: Tensor, draws: MixDraws
    ) -> tuple[Tensor, Tensor]:
        """Mixes x with partner (both (N, C, T, V, M)) as drawn; the draws' tensors are on their device already.

        The partner may come in pieces, see :func:`partner_rows`.

        Returns:
            x_mix and soft targets (N, K), both new. No transfer to or from the device, and no loop over samples.
        """
        if draws.kind == "blend":
            mixed, share = blend(x, partner, draws.lam), x.new_full((len(x),), draws.lam, dtype=target_dtype(x))
        else:
            if self.guided and self.epoch >= self.naive_mix_epoch:
                rarer = torch.where(self.abundance[y_partner] < self.abundance[y], y_partner, y)
                column = draw_coalition(self.saliency.table, rarer, draws.uniform, self.temperature)
                joints = pasted_parts(self.coalition_joints[column], y, y_partner, self.abundance)  # (N, V)
            else:
                joints = (draws.coalition.unsqueeze(-1) & self.part_joints).any(0).expand(len(x), -1)
            mixed, share = paste(x, partner, joints, draws)
        return mixed, soft_target(y, y_partner, share, self.num_class)

    def extra_repr(self) -> str:
        return f"layout={self.layout.name}, classes={self.num_class}, guided={self.guided}, enabled={self.enabled}"
