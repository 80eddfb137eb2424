"""Batches of an epoch: which samples, in which order, for which process; the same for one process and for many.

Shapes: n samples of a split, N batch (this process's slice), B global batch, C coordinates, T frames, V joints,
M people, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from shapmix.distributed import own_slice, world
from shapmix.draws import generator

from .feeder import Draws, Sampler, Stage, StoreFeeder
from .store import DataError
from .transforms import to_device

ROUND_ROBIN = 4  # times that an epoch of this sampler has as many samples as the split
UNLABELLED = -1  # the label of samples whose class is not known
Partner = Literal["batch", "class_balanced"]


@dataclass(frozen=True)
class Batch:
    """One process's slice: x (N, C, T, V, M), y (N,) int64 on the device; rows (N,) of the split, on the CPU.

    In evaluation x may hold ``clips`` views of each sample in turn: (N * clips, C, T, V, M).

    Attributes:
        partner: in training, another batch of this size to mix with; None: the batch is mixed with itself.
        finish: what is left to do between x, or what it was mixed to, and the network's input; None: nothing.
    """

    x: Tensor
    y: Tensor
    rows: Tensor
    clips: int = 1
    partner: Batch | None = None
    finish: Callable[[Tensor], Tensor] | None = None

    def finished(self, x: Tensor) -> Tensor:
        """The network's input, of x or of what it was mixed to."""
        return x if self.finish is None else self.finish(x)


def prefetch(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The same batches; a thread makes each one while the caller works on the one before. Errors come in their turn.

    For a GPU they are made on another CUDA stream, which the caller's stream waits for. A caller who stops early waits
    for the one batch that is being made.
    """
    cuda = device.type == "cuda"
    side = torch.cuda.Stream(device) if cuda else None
    if side is not None:
        side.wait_stream(torch.cuda.current_stream(device))

    def make() -> tuple[Batch | None, torch.cuda.Event | None]:
        with torch.cuda.stream(side) if cuda else nullcontext():
            batch = next(batches, None)
            return batch, None if side is None else side.record_event()

    with ThreadPoolExecutor(1, "prefetch") as thread:
        ahead = thread.submit(make)
        while True:
            batch, made = ahead.result()
            if batch is None:
                return
            ahead = thread.submit(make)
            if made is not None:
                stream = torch.cuda.current_stream(device)
                stream.wait_event(made)
                for part in (batch, batch.partner):
                    if part is not None:
                        part.x.record_stream(stream)
                        part.y.record_stream(stream)
            yield batch


class Loader:
    """Delivers a split in batches. Subclasses say how rows of the split become tensors, and of which shape.

    Args:
        labels: (n,) classes of the split.
        ids, class_names: n and K names.
        batch_size: B; in training the number of processes must divide it.
        repeat: how often an epoch shows every sample.
        seed: of order and augmentation.
        device, dtype: of x.
        sampler: ``instance`` shows every sample once; ``over_sampling`` repeats the samples of each class, at random,
            until it has as many as the largest; ``class_balanced`` draws as many as there are, first a class, then one
            of its samples, both uniformly (Kang et al., arXiv 1910.09217). ``round_robin``: four times as many, the
            classes in turn, of each a sample at random: an epoch of the official Feeder_LT_ros with class_balance.

        may_lack_labels: label -1 stands for an unknown one; such a split is not trained on.

    Raises:
        DataError: labels outside the classes 0 .. K-1.
    """

    def __init__(
        self,
        labels: np.ndarray,
        ids: list[str],
        class_names: list[str],
        batch_size: int,
        repeat: int,
        seed: int,
        device: torch.device,
        dtype: torch.dtype,
        sampler: Sampler = "instance",
        may_lack_labels: bool = False,
    ) -> None:
        least = UNLABELLED if may_lack_labels else 0
        wrong = np.flatnonzero((labels < least) | (labels >= len(class_names)))
        if len(wrong):
            last = len(class_names) - 1
            raise DataError(f"sample {ids[wrong[0]]} has label {labels[wrong[0]]}, outside the classes 0..{last}")
        self.labels = torch.from_numpy(np.asarray(labels, dtype=np.int64))
        self.ids = ids
        self.class_names = class_names
        self.seed = seed
        self.device = device
        self.dtype = dtype
        self.rank, self.processes = world()
        self.sampler = sampler
        self.samples_per_epoch = repeat * len(ids)
        if sampler == "over_sampling":
            present = [count for count in self.class_counts if count]
            self.samples_per_epoch = repeat * len(present) * max(present)
        elif sampler == "round_robin":
            self.samples_per_epoch = ROUND_ROBIN * repeat * len(ids)
        self.batch_size = min(batch_size, self.samples_per_epoch)

    @property
    def sample_shape(self) -> tuple[int, int, int, int]:
        """(C, T, V, M) of every sample."""
        raise NotImplementedError

    @property
    def steps(self) -> int:
        """Training batches of an epoch; an incomplete last one is dropped, unless it is the only one."""
        return self.samples_per_epoch // self.batch_size

    @property
    def class_counts(self) -> list[int]:
        """Samples of each class (K,), without repetition."""
        return torch.bincount(self.labels[self.labels >= 0], minlength=len(self.class_names)).tolist()

    def check_batch_size(self) -> None:
        """Raises a DataError where the number of processes does not divide the global batch."""
        if self.batch_size % self.processes:
            raise DataError(
                f"the global batch of {self.batch_size} ({self.samples_per_epoch} samples an epoch) does not divide by "
                f"{self.processes} processes; change batch_size or the number of processes"
            )

    def plan(self, epoch: int) -> Tensor:
        """(steps, B) rows of every global batch of an epoch."""
        order = torch.randperm(self.samples_per_epoch, generator=generator(self.seed, epoch, "order"))
        if self.sampler == "instance":
            order = order % len(self.ids)
        else:
            order = self._resampled(generator(self.seed, epoch, "sampler"))[order]
        return order[: self.steps * self.batch_size].view(self.steps, self.batch_size)

    def partners(self, epoch: int) -> Tensor:
        """(steps, B) rows to mix the batches of :meth:`plan` with: a class is drawn first, then one of its samples."""
        rng = generator(self.seed, epoch, "partner")
        chosen = torch.randint(len(self._members()), (self.steps * self.batch_size,), generator=rng)
        return self._one_of(chosen, rng).view(self.steps, self.batch_size)

    def of_each_class(self, most: int, epoch: int) -> Tensor:
        """Rows of up to ``most`` samples of each class, drawn without repetition, in class order."""
        rng = generator(self.seed, epoch, "refresh")
        return torch.cat([own[torch.randperm(len(own), generator=rng)[:most]] for own in self._members()])

    def all_for_each_process(self) -> Tensor:
        """Rows for :meth:`in_order` that give every process the whole split, each in the same batches."""
        return torch.arange(len(self.ids)).repeat_interleave(self.processes)

    def _members(self) -> list[Tensor]:
        """The rows of each class that occurs."""
        return [(self.labels == label).nonzero().flatten() for label in self.labels.unique()]

    def _one_of(self, chosen: Tensor, rng: torch.Generator) -> Tensor:
        """A row drawn from each chosen class (n,), counted among the classes that occur."""
        members = self._members()
        sizes = torch.tensor([len(rows) for rows in members])
        places = (torch.rand(len(chosen), generator=rng, dtype=torch.float64) * sizes[chosen]).long()
        return torch.cat(members)[(sizes.cumsum(0) - sizes)[chosen] + places]

    def _resampled(self, rng: torch.Generator) -> Tensor:
        """(samples_per_epoch,) rows of an epoch; every class that occurs is as likely as the others."""
        members = self._members()
        if self.sampler != "over_sampling":
            chosen = torch.arange(self.samples_per_epoch) % len(members)
            if self.sampler == "class_balanced":
                chosen = torch.randint(len(members), (self.samples_per_epoch,), generator=rng)
            return self._one_of(chosen, rng)
        share = self.samples_per_epoch // len(members)
        rows = []
        for own in members:  # every sample as often as possible, the rest of the share without repetition
            shuffled = own[torch.randperm(len(own), generator=rng)]
            rows.append(shuffled.repeat(-(-share // len(own)))[:share])
        return torch.cat(rows)

    def shuffled(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The training batches of an epoch, from ``first_step`` on."""
        raise NotImplementedError

    def in_order(self, batch_size: int, rows: Tensor | None = None) -> Iterator[Batch]:
        """This process's share of the split, or of some of its rows, without augmentation.

        Over all processes each row comes once.
        """
        raise NotImplementedError

    def padded(self, batch_size: int) -> Iterator[Tensor]:
        """x of this process's share: the first T stored frames, padded with zeros (for ``baseline: published``)."""
        raise DataError("baseline: published needs the project's own feeders, which keep the raw sequences")

    def _shares(self, batch_size: int, rows: Tensor | None = None) -> Iterator[Tensor]:
        """Rows of this process, batch by batch and in order; the last batch may be smaller."""
        own = (torch.arange(len(self.ids)) if rows is None else rows)[self.rank :: self.processes]
        if len(own):
            yield from own.split(batch_size)

    def _to_device(self, x: Tensor, rows: Tensor) -> Batch:
        x = x.to(self.device, self.dtype, non_blocking=True)
        return Batch(x, to_device(self.labels[rows], self.device), rows, len(x) // len(rows))


class StoreLoader(Loader):
    """Batches of a :class:`StoreFeeder`; a whole batch is transformed at once, on the device.

    While a GPU works on a batch, the next one is read from disk. ``sampler`` replaces the feeder's own.

    Args:
        stage: how far the views of training batches are made before they are mixed; a batch's ``finish`` does the rest.
        partner: ``batch``: a batch is mixed with itself. ``class_balanced``: each comes with a second one, in which all
            classes are equally likely, with its own augmentation.
    """

    def __init__(
        self,
        feeder: StoreFeeder,
        batch_size: int,
        seed: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        sampler: Sampler | None = None,
        stage: Stage = "input",
        partner: Partner = "batch",
    ) -> None:
        super().__init__(
            feeder.labels, feeder.ids, feeder.class_names, batch_size, feeder.repeat, seed, device, dtype,
            sampler or feeder.sampler,
        )  # fmt: skip
        self.feeder, self.stage, self.partner = feeder, stage, partner

    @property
    def sample_shape(self) -> tuple[int, int, int, int]:
        feeder = self.feeder
        return feeder.in_channels, feeder.window_size, feeder.num_joints, feeder.num_person

    def shuffled(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        yield from self._ahead(self._shuffled(epoch, first_step))

    def in_order(self, batch_size: int, rows: Tensor | None = None) -> Iterator[Batch]:
        shares = self._shares(batch_size, rows)
        yield from self._ahead(self._to_device(self.feeder.batch(own, self.device), own) for own in shares)

    def _shuffled(self, epoch: int, first_step: int) -> Iterator[Batch]:
        plan = self.plan(epoch)
        partners = self.partners(epoch) if self.partner != "batch" else None
        for step in range(first_step, self.steps):
            batch = self._augmented(plan[step], (self.seed, epoch, step, "augment"))
            if partners is not None:
                other = self._augmented(partners[step], (self.seed, epoch, step, "augment_partner"))
                batch = replace(batch, partner=other)
            yield batch

    def _augmented(self, rows: Tensor, key: tuple[int | str, ...]) -> Batch:
        """The batch of these rows (B,) of the global batch, this process's slice."""
        draws = self.feeder.draw(len(rows), generator(*key)).map(own_slice)
        own = own_slice(rows)
        batch = self._to_device(self.feeder.batch(own, self.device, draws, self.stage), own)
        return batch if self.stage == "input" else replace(batch, finish=lambda x: self._finish(x, draws))

    def _finish(self, x: Tensor, draws: Draws) -> Tensor:
        return self.feeder.finish(x, draws, self.stage).to(self.dtype)

    def _ahead(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        reads = self.device.type == "cuda" and self.feeder.resident is None
        return prefetch(batches, self.device) if reads else batches

    def padded(self, batch_size: int) -> Iterator[Tensor]:
        for rows in self._shares(batch_size):
            yield self.feeder.padded_joints(rows.numpy())
