"""The two loops: train one epoch, evaluate a split.

Shapes: N batch, C coordinates, T frames, V joints, M people, K classes, n samples of a split.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from time import perf_counter

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from feeders.loader import UNLABELLED, Batch, Loader
from shapmix import Mixer
from shapmix.distributed import sum_over_ranks, world
from shapmix.draws import derive_seed
from shapmix.shapley import set_modes

from .answers import Answers, autocast
from .averaging import WeightAverage
from .distributed import any_rank, gather_rows, no_bar, share_buffers
from .host import StopSignals


class NotFinite(ValueError):
    """A loss became NaN or infinite; the message names the samples."""


@dataclass
class Meter:
    """Running sums of an epoch, kept in checkpoints, so that a resumed epoch reports all of it."""

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


@dataclass(frozen=True)
class Reading:
    """After which steps of an epoch the host reads the losses, and so waits for the device.

    Attributes:
        intervals: losses are read after each multiple of one of these numbers of steps; 0 is ignored.
        stop: a signal that came is a reason to read, so that the caller can stop.
    """

    intervals: tuple[int, ...] = (1,)
    stop: StopSignals | None = None

    def due(self, done: int) -> bool:
        """Are losses read after ``done`` steps of the epoch?"""
        stopping = self.stop is not None and self.stop.received is not None
        return stopping or any(interval and done % interval == 0 for interval in self.intervals)


@dataclass
class Trainer:
    """What one training step needs, whatever the data.

    Attributes:
        model: as it is called: wrapped in DDP where there are several processes.
        learning_rate: of (epoch, step).
        autocast: dtype of autocast; None: no autocast.
        compiled: is the model compiled?
        frozen: modules that stay in evaluation mode.
        mix_criterion: the loss of mixed samples, where it is another one than that of clean ones.
        average: of the weights after each step.
    """

    model: nn.Module
    mixer: Mixer | None
    criterion: Callable[[Tensor, Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    learning_rate: Callable[[int, int], float]
    seed: int = 0
    grad_clip: float | None = None
    reading: Reading = Reading()
    autocast: torch.dtype | None = None
    compiled: bool = False
    frozen: Sequence[nn.Module] = ()
    mix_criterion: Callable[[Tensor, Tensor], Tensor] | None = None
    average: WeightAverage | None = None

    def start_epoch(self) -> None:
        """Training mode, for all that is trained."""
        self.model.train()
        set_modes((module, module not in self.frozen) for module in self.model.modules())

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Clean loss, mixed loss, and how many samples were right, from one forward pass.

        Where the clean batch is not trained on, its loss is 0, and a mixed sample's class is that of the larger share.
        """
        precision = batch.x.device, self.autocast
        if self.mixer is None:
            with autocast(*precision):
                logits = self.model(batch.x)
            loss = self.criterion(logits, batch.y)
            return loss, torch.zeros_like(loss), _correct(logits, batch.y)
        clean = batch.finished(batch.x)
        with autocast(*precision):  # apart: weights cached in bf16 without gradients must not be reused below
            self.mixer.observe(self.model, clean, batch.y)
        partner = () if batch.partner is None else (batch.partner.x, batch.partner.y)
        mixed, y_mix = self.mixer(batch.x, batch.y, *partner)
        mix_criterion = self.mix_criterion or self.criterion
        x_mix = batch.finished(mixed)
        if not self.mixer.with_clean:
            with autocast(*precision):
                logits = self.model(x_mix)
            loss = mix_criterion(logits, y_mix)
            return torch.zeros_like(loss), loss, _correct(logits, y_mix.argmax(1))
        with autocast(*precision):
            logits, logits_mix = self.model(torch.cat([clean, x_mix])).chunk(2)
        return self.criterion(logits, batch.y), mix_criterion(logits_mix, y_mix), _correct(logits, batch.y)

    def step(self, batch: Batch, epoch: int, step: int) -> Tensor:
        """One update of the weights.

        Returns:
            clean loss, mixed loss and how many samples were right (3,), on the device, so that nothing waits for it.

        Raises:
            NotFinite: a loss is NaN or infinite, on any process, before the weights change; only where every step is
                read.
        """
        if self.compiled:
            torch.compiler.cudagraph_mark_step_begin()
        torch.manual_seed(derive_seed(self.seed, epoch, step, world()[0], "dropout"))
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(epoch, step)
        if self.mixer is not None:
            self.mixer.start_step(epoch, step)
        loss, mix_loss, correct = self.losses(batch)
        total = loss + mix_loss
        sums = torch.stack([loss, mix_loss, correct.to(loss)]).detach()
        if 1 in self.reading.intervals and any_rank(not bool(total.isfinite()), total.device):
            raise NotFinite(f"the loss is not finite ({loss.item()} clean, {mix_loss.item()} mixed)")
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        if self.grad_clip is not None:
            clip_grad_norm_(self.model.parameters(), self.grad_clip)
        self.optimizer.step()
        if self.average is not None:
            self.average.after_step()
        return sums


def train_one_epoch(trainer: Trainer, loader: Loader, epoch: int, meter: Meter) -> Generator[Meter, None, None]:
    """Trains on the batches of one epoch, from step ``meter.steps`` on.

    Yields the meter after each reading of losses, when it holds the sums of all steps so far: here the caller logs,
    saves or stops, and is between two steps.

    Raises:
        NotFinite: a loss is NaN or infinite, on any process. The weights are as before that step where every step is
            read; else they are wrong already, but no checkpoint was written since.
    """
    trainer.start_epoch()
    first = meter.steps
    with tqdm(
        total=loader.steps, initial=first, desc=f"epoch {epoch}", unit="batch", leave=False, disable=no_bar()
    ) as bar:
        begun = perf_counter()
        unread: list[tuple[Tensor, Tensor]] = []  # rows and sums of steps
        for step, batch in enumerate(loader.shuffled(epoch, first), first):
            try:
                unread.append((batch.rows, trainer.step(batch, epoch, step)))
            except NotFinite as error:
                raise _named(error, loader, epoch, step, batch.rows) from error
            if step + 1 < loader.steps and not trainer.reading.due(step + 1):
                continue
            _read(unread, meter, loader, epoch, step + 1 - len(unread))
            now = perf_counter()
            meter.steps = step + 1
            meter.seconds += now - begun
            begun = now
            bar.update(len(unread))
            unread.clear()
            bar.set_postfix_str(
                f"loss {(meter.loss + meter.mix_loss) / meter.seen:.3f}, acc {meter.correct / meter.seen:.3f}, "
                f"{meter.seen * loader.processes / meter.seconds:.0f} samples/s"
            )
            yield meter


def _correct(logits: Tensor, y: Tensor) -> Tensor:
    return (logits.argmax(1) == y).sum()


def _read(unread: list[tuple[Tensor, Tensor]], meter: Meter, loader: Loader, epoch: int, first: int) -> None:
    """Adds the sums of steps to the meter, from step ``first`` on. NotFinite where a loss is so on any process."""
    sums = torch.stack([step for _, step in unread])
    bad = sum_over_ranks((~sums.isfinite()).any(1).to(sums))
    rows_and_sums = zip(unread, torch.cat([sums, bad.unsqueeze(1)], 1).tolist(), strict=True)
    for step, ((rows, _), (loss, mix_loss, correct, not_finite)) in enumerate(rows_and_sums, first):
        if not_finite:
            reason = NotFinite(f"the loss is not finite (here {loss} clean, {mix_loss} mixed)")
            raise _named(reason, loader, epoch, step, rows)
        meter.loss += loss * len(rows)
        meter.mix_loss += mix_loss * len(rows)
        meter.correct += int(correct)
        meter.seen += len(rows)


def _named(error: NotFinite, loader: Loader, epoch: int, step: int, rows: Tensor) -> NotFinite:
    """The error with the samples of its step, of all processes."""
    names = ", ".join(loader.ids[row] for row in gather_rows(rows.to(loader.device)).tolist())
    return NotFinite(f"epoch {epoch}, step {step}: {error} for samples {names}")


@dataclass(frozen=True)
class Scores:
    """A network's logits (n, K) on a split, in the split's order, and the mean cross-entropy."""

    logits: Tensor
    loss: float

    def divided(self, temperature: float, labels: Tensor) -> Scores:
        """The scores with logits divided by a temperature; labels (n,), those that are not known are not counted."""
        if temperature == 1.0:
            return self
        logits = self.logits / temperature
        return Scores(logits, F.cross_entropy(logits, labels, ignore_index=UNLABELLED).item())


def refresh_table(
    mixer: Mixer,
    network: nn.Module,
    loader: Loader,
    epoch: int,
    most: int,
    batch_size: int,
    precision: torch.dtype | None,
) -> int:
    """Computes all rows of the saliency table from up to ``most`` training samples of each class, drawn by epoch.

    Returns how many samples that were, of all processes. Cost: as :meth:`shapmix.Mixer.refresh`.
    """
    rows = loader.of_each_class(most, epoch)
    batches = ((batch.x, batch.y) for batch in loader.in_order(batch_size, rows))
    with autocast(loader.device, precision):
        mixer.refresh(network, batches, batch_size)
    return len(rows)


@torch.no_grad()
def evaluate(
    model: nn.Module,
    loader: Loader,
    batch_size: int,
    precision: torch.dtype | None = None,
    stop: StopSignals | None = None,
    fixed_size: bool = False,
    adjustment: Tensor | None = None,
) -> Scores:
    """Scores every sample of a split once: shared out over the processes without padding, joined by row.

    Cost: n samples forward. The same on every process. The model is left in evaluation mode.

    Args:
        model: x (N, C, T, V, M) -> logits (N, K).
        batch_size: samples in a forward pass of a process.
        precision: dtype of autocast; None: no autocast.
        stop: looked at after each batch.
        fixed_size: fill the last batch up with copies, which are not scored: for networks compiled for one size.
        adjustment: (K,) is subtracted from every sample's logits.

    Raises:
        NotFinite: a score is NaN or infinite.
        Stopped: a signal came.
    """
    share_buffers(model)
    model.eval()
    answers, logits, rows = Answers(model, precision, adjustment), [], []
    batches: Iterable[Batch] = tqdm(loader.in_order(batch_size), desc="evaluate", leave=False, disable=no_bar())
    for batch in batches:
        x, missing = batch.x, batch_size * batch.clips - len(batch.x) if fixed_size else 0
        if fixed_size:  # also a full batch, so that all lie alike in memory
            x = torch.cat([x, x[:1].expand(missing, *x.shape[1:])])
        logits.append(answers.scores(x, batch.clips)[: len(batch.rows)])
        rows.append(batch.rows)
        if stop is not None:
            stop.check()
    empty = torch.zeros(0, len(loader.class_names), dtype=loader.dtype, device=loader.device)
    all_rows = gather_rows(torch.cat([*rows, torch.zeros(0, dtype=torch.int64)]).to(loader.device)).cpu()
    all_logits = gather_rows(torch.cat([*logits, empty])).cpu()
    ordered, order = all_rows.sort()
    assert torch.equal(ordered, torch.arange(len(loader.ids))), "every sample is scored exactly once"
    joined = all_logits[order]
    bad = (~joined.isfinite().all(1)).nonzero().flatten().tolist()
    if bad:
        names = ", ".join(loader.ids[row] for row in bad[:5])
        raise NotFinite(f"the network's scores are not finite for {len(bad)} samples: {names}")
    return Scores(joined, F.cross_entropy(joined, loader.labels, ignore_index=UNLABELLED).item())
