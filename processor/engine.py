"""The two loops: train one epoch, evaluate a split.

Shapes: N batch, C coordinates, T frames, V joints, M people, K classes, n samples of a split.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from time import perf_counter

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from feeders.loader import Batch, Loader
from shapmix import Mixer
from shapmix.distributed import world
from shapmix.draws import derive_seed

from .distributed import any_rank, gather_rows, is_main, share_buffers, sum_over_ranks


class Stopped(Exception):
    """The run was asked to stop and is between two steps."""


class NotFinite(ValueError):
    """A loss became NaN or infinite; the message names the samples."""


@dataclass
class Meter:
    """Running sums of an epoch, so that a run that goes on in its middle reports the whole of it."""

    steps: int = 0
    loss: float = 0.0
    mix_loss: float = 0.0
    correct: int = 0
    seen: int = 0
    seconds: float = 0.0

    def over_ranks(self, device: torch.device) -> Meter:
        """The sums of all processes; the duration is this one's."""
        if world()[1] == 1:
            return self
        sums = torch.tensor([self.loss, self.mix_loss, self.correct, self.seen], dtype=torch.float64, device=device)
        loss, mix_loss, correct, seen = sum_over_ranks(sums).tolist()
        return Meter(self.steps, loss, mix_loss, int(correct), int(seen), self.seconds)

    def metrics(self) -> dict[str, float]:
        """Means over the samples."""
        return {
            "train_loss": self.loss / self.seen,
            "train_mix_loss": self.mix_loss / self.seen,
            "train_top1": self.correct / self.seen,
            "samples_per_s": self.seen / max(self.seconds, 1e-9),
        }


@dataclass
class Trainer:
    """What one training step needs, whatever the data."""

    model: nn.Module  # as it is called: wrapped in DDP where there are several processes
    mixer: Mixer | None
    criterion: Callable[[Tensor, Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    learning_rate: Callable[[int, int], float]  # of (epoch, step)
    seed: int = 0
    rank: int = 0
    grad_clip: float | None = None
    read_interval: int = 1  # steps after which the host reads the losses, and so waits for the device
    reads_also: Callable[[int], bool] = field(default=lambda steps: False)  # and after so many steps of the epoch
    compiled: bool = False
    autocast: Callable[[], AbstractContextManager] = nullcontext
    after_step: Callable[[int, Meter], None] = field(default=lambda step, meter: None)  # may raise Stopped
    frozen: Sequence[nn.Module] = ()  # modules that stay in evaluation mode

    def start_epoch(self) -> None:
        """Training mode, for all that is trained."""
        self.model.train()
        for module in self.frozen:
            module.training = False

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Clean loss, mixed loss, and how many samples were right, from one forward pass.

        Where the clean batch is not trained on, its loss is 0, and a mixed sample's class is that of the larger share.
        """
        if self.mixer is None:
            with self.autocast():
                logits = self.model(batch.x)
            loss = self.criterion(logits, batch.y)
            return loss, torch.zeros_like(loss), _correct(logits, batch.y)
        with (
            self.autocast()
        ):  # on its own: autocast must not hand weights that it cast without gradients to the training
            self.mixer.observe(self.model, batch.x, batch.y)
        x_mix, y_mix = self.mixer(batch.x, batch.y)
        if not self.mixer.with_clean:
            with self.autocast():
                logits = self.model(x_mix)
            loss = self.criterion(logits, y_mix)
            return torch.zeros_like(loss), loss, _correct(logits, y_mix.argmax(1))
        with self.autocast():
            logits, logits_mix = self.model(torch.cat([batch.x, x_mix])).chunk(2)
        return self.criterion(logits, batch.y), self.criterion(logits_mix, y_mix), _correct(logits, batch.y)

    def step(self, batch: Batch, epoch: int, step: int) -> Tensor:
        """One update of the weights.

        Returns:
            clean loss, mixed loss and how many samples were right (3,), on the device, so that nothing waits for it.

        Raises:
            NotFinite: a loss is NaN or infinite, on any process, before the weights change; only where every step is
                read (``read_interval`` 1).
        """
        if self.compiled:
            torch.compiler.cudagraph_mark_step_begin()
        torch.manual_seed(derive_seed(self.seed, epoch, step, self.rank, "dropout"))
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(epoch, step)
        if self.mixer is not None:
            self.mixer.start_step(epoch, step)
        loss, mix_loss, correct = self.losses(batch)
        total = loss + mix_loss
        figures = torch.stack([loss, mix_loss, correct.to(loss)]).detach()
        if self.read_interval == 1 and any_rank(not bool(total.isfinite()), total.device):
            raise NotFinite(f"the loss is not finite ({loss.item()} clean, {mix_loss.item()} mixed)")
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        if self.grad_clip is not None:
            clip_grad_norm_(self.model.parameters(), self.grad_clip)
        self.optimizer.step()
        return figures


def train_one_epoch(trainer: Trainer, loader: Loader, epoch: int, first_step: int, meter: Meter) -> dict[str, float]:
    """Trains on one epoch's batches from ``first_step`` on; ``meter`` holds the sums of those before.

    Returns:
        train_loss, train_mix_loss, train_top1, samples_per_s over the whole epoch.

    Raises:
        NotFinite: a loss is NaN or infinite, on any process. The weights are as before that step where every step is
            read; else they are spoilt, but nothing was saved since.
        Stopped: ``after_step`` was asked to stop.
    """
    trainer.start_epoch()
    bar = tqdm(
        total=loader.steps, initial=first_step, desc=f"epoch {epoch}", unit="batch", leave=False, disable=_silent()
    )
    with bar:
        begun = perf_counter()
        unread: list[tuple[Tensor, Tensor]] = []  # rows and figures of steps
        for step, batch in enumerate(loader.shuffled(epoch, first_step), first_step):
            try:
                unread.append((batch.rows, trainer.step(batch, epoch, step)))
            except NotFinite as error:
                raise _named(error, loader, epoch, step, batch.rows) from error
            done = step + 1
            if done < loader.steps and done % trainer.read_interval and not trainer.reads_also(done):
                continue
            for place, (loss, mix_loss, correct, bad) in enumerate(_read([figures for _, figures in unread])):
                rows = unread[place][0]
                if bad:
                    reason = NotFinite(f"the loss is not finite (here {loss} clean, {mix_loss} mixed)")
                    raise _named(reason, loader, epoch, step + 1 - len(unread) + place, rows)
                meter.loss += loss * len(rows)
                meter.mix_loss += mix_loss * len(rows)
                meter.correct += int(correct)
                meter.seen += len(rows)
            now = perf_counter()
            meter.steps = step + 1
            meter.seconds += now - begun
            begun = now
            bar.update(len(unread))
            unread.clear()
            rate = meter.seen * loader.processes / meter.seconds
            bar.set_postfix_str(
                f"loss {loss + mix_loss:.3f}, acc {meter.correct / meter.seen:.3f}, {rate:.0f} samples/s"
            )
            trainer.after_step(epoch, meter)
    return meter.over_ranks(loader.device).metrics()


def _correct(logits: Tensor, y: Tensor) -> Tensor:
    return (logits.argmax(1) == y).sum()


def _read(figures: list[Tensor]) -> list[list[float]]:
    """Figures of some steps on the host, each with the number of processes in which a loss is not finite."""
    table = torch.stack(figures)
    bad = sum_over_ranks((~table.isfinite()).any(1).to(table))
    return torch.cat([table, bad.unsqueeze(1)], 1).tolist()


def _named(error: NotFinite, loader: Loader, epoch: int, step: int, rows: Tensor) -> NotFinite:
    """The error with the samples of its step, of all processes."""
    names = ", ".join(loader.ids[row] for row in gather_rows(rows.to(loader.device)).tolist())
    return NotFinite(
        f"epoch {epoch}, step {step}: {error} for samples {names}. The last good checkpoint is kept; lower base_lr, "
        "set grad_clip, or look at these samples"
    )


@dataclass(frozen=True)
class Scores:
    """A network's logits (n, K) on a split, in the split's order, and the mean cross-entropy."""

    logits: Tensor
    loss: float


@torch.no_grad()
def evaluate(
    model: nn.Module,
    loader: Loader,
    batch_size: int,
    autocast: Callable[[], AbstractContextManager] = nullcontext,
    after_batch: Callable[[], None] = lambda: None,
    fixed_size: bool = False,
    adjustment: Tensor | None = None,
) -> Scores:
    """Scores every sample of a split once: shared out over the processes without padding, joined by row.

    Cost: n samples forward. The same on every process. The model is left in evaluation mode.

    Args:
        model: x (N, C, T, V, M) -> logits (N, K).
        batch_size: samples in a forward pass of a process.
        after_batch: called after each; may raise Stopped.
        fixed_size: fill the last batch up with copies, which are not scored: for networks compiled for one size.
        adjustment: (K,) is subtracted from every sample's logits.

    Raises:
        NotFinite: a score is NaN or infinite.
    """
    share_buffers(model)
    model.eval()
    logits, rows = [], []
    batches: Iterable[Batch] = tqdm(loader.in_order(batch_size), desc="evaluate", leave=False, disable=_silent())
    for batch in batches:
        x, missing = batch.x, batch_size * batch.clips - len(batch.x) if fixed_size else 0
        if fixed_size:  # also a full batch, so that all lie alike in memory
            x = torch.cat([x, x[:1].expand(missing, *x.shape[1:])])
        with autocast():
            scores = model(x)[: len(batch.x)]
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32), copy=True)  # a graph may reuse its outputs
        logits.append(over_clips(scores, batch.clips))
        rows.append(batch.rows)
        after_batch()
    empty = torch.zeros(0, len(loader.class_names), dtype=loader.dtype, device=loader.device)
    all_rows = gather_rows(torch.cat([*rows, torch.zeros(0, dtype=torch.int64)]).to(loader.device)).cpu()
    all_logits = gather_rows(torch.cat([*logits, empty])).cpu()
    ordered, order = all_rows.sort()
    assert torch.equal(ordered, torch.arange(len(loader.ids))), "every sample is scored exactly once"
    joined = all_logits[order] if adjustment is None else all_logits[order] - adjustment.to(all_logits)
    bad = (~joined.isfinite().all(1)).nonzero().flatten().tolist()
    if bad:
        names = ", ".join(loader.ids[row] for row in bad[:5])
        raise NotFinite(f"the network's scores are not finite for {len(bad)} samples: {names}; lower base_lr")
    return Scores(joined, F.cross_entropy(joined, loader.labels).item())


def over_clips(logits: Tensor, clips: int) -> Tensor:
    """Logits (N * clips, K) of the clips of each sample in turn -> (N, K): the logarithm of their mean probability."""
    if clips == 1:
        return logits
    return logits.log_softmax(1).view(-1, clips, logits.shape[1]).logsumexp(1) - math.log(clips)


@torch.no_grad()
def mean_sequence(loader: Loader, batch_size: int, published: bool = False) -> Tensor:
    """The baseline (C, T, V, M): mean of the training set as seen at test time, over all processes.

    Args:
        published: instead the mean of raw, zero-padded joint sequences, whatever the stream (METHOD 9).
    """
    batches = loader.padded(batch_size) if published else (batch.x for batch in loader.in_order(batch_size))
    total: Tensor | None = None
    for x in tqdm(batches, desc="baseline", leave=False, disable=_silent()):
        part = x.cpu().double().sum(0)
        total = part if total is None else total + part
    if total is None:
        raise ValueError(f"fewer training samples ({len(loader.ids)}) than processes")
    total = sum_over_ranks(total.to(loader.device)) if loader.device.type != "mps" else total
    return (total / len(loader.ids)).to(loader.dtype).to(loader.device)


def _silent() -> bool | None:
    """tqdm's ``disable``: only the main process shows a bar, and only on a terminal."""
    return None if is_main() else True
