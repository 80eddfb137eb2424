"""A user's own Dataset as a loader: its samples are checked, and its random draws depend on where they are used.

Shapes: n samples, N batch of this process, B global batch, C coordinates, T frames, V joints, M people, K classes.
"""

from __future__ import annotations

import logging
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from traceback import format_exception
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from feeders.feeder import BAD_VALUE_LIMIT, Sampler
from feeders.loader import UNLABELLED, Batch, Loader
from feeders.store import DataError
from shapmix.distributed import own_slice
from shapmix.draws import derive_seed

from .user_code import UserCodeError, described, seeded

log = logging.getLogger(__name__)
Key = tuple[int, int]  # a row of the Dataset, and the seed of the draws that it may make
WANTED = "a Dataset's sample is (data (C, T, V, M), label, index) or (data, label)"
AXES = ("coordinates", "frames", "joints", "people")


@dataclass(frozen=True)
class Problem:
    """What is wrong with a sample; a loading process hands it over like a sample."""

    message: str
    traceback: str


class Samples(Dataset):
    """The samples of a user's Dataset, checked one by one.

    Args:
        dataset: the user's.
        ids: n names.

    Attributes:
        labels: (n,) that the Dataset lists, or None where it lists none.
        shape: (C, T, V, M) of every sample; None until the first one was read.
    """

    def __init__(self, dataset: Any, ids: Sequence[str]) -> None:
        self.dataset, self.ids = dataset, ids
        self.limit = float(getattr(dataset, "bad_value_limit", BAD_VALUE_LIMIT))
        self.labels: np.ndarray | None = None
        self.shape: tuple[int, ...] | None = None

    def __getitem__(self, key: Key) -> Tensor | Problem:
        try:
            return self.read(*key)[0]
        except ValueError as error:
            return Problem(str(error), "".join(format_exception(error)))

    def called(self, row: int) -> str:
        """The name of a sample in messages."""
        name = self.ids[row]
        return f"sample {name}" + ("" if name == str(row) else f" (index {row})")

    def read(self, row: int, seed: int) -> tuple[Tensor, int]:
        """Data (C, T, V, M) float32 and label of a sample, as the Dataset makes it after ``seed``.

        Raises:
            UserCodeError: the Dataset failed.
            DataError: a sample of another form or shape, another label than listed, values that are not finite.
        """
        try:
            with seeded(seed):
                sample = self.dataset[row]
        except Exception as error:
            raise UserCodeError(f"{type(self.dataset).__name__}: {self.called(row)}: {described(error)}") from error
        if not isinstance(sample, (tuple, list)) or len(sample) not in (2, 3):
            size = (
                f" of {len(sample)}: {', '.join(map(str, sample))[:80]}"
                if isinstance(sample, (tuple, list, dict))
                else ""
            )
            raise DataError(f"{self.called(row)} is a {type(sample).__name__}{size}; {WANTED}")
        label = self._label(row, sample[1])
        return self._data(row, sample[0]), label

    def _data(self, row: int, given: Any) -> Tensor:
        try:
            x = given.detach().to("cpu", torch.float32) if isinstance(given, Tensor) else _float32(given)
        except (TypeError, ValueError) as error:
            raise DataError(f"{self.called(row)}: its data is no array of numbers ({error}); {WANTED}") from error
        shape = tuple(x.shape)
        if len(shape) != 4:
            raise DataError(f"{self.called(row)} has data of shape {shape}; {WANTED}")
        if 0 in shape:
            raise DataError(f"{self.called(row)} has 0 {AXES[shape.index(0)]} (shape {shape}); remove it")
        if self.shape is not None and shape != self.shape:
            other = ", ".join(
                f"{here} {axis} instead of {there}"
                for axis, here, there in zip(AXES, shape, self.shape, strict=True)
                if here != there
            )
            raise DataError(
                f"{self.called(row)} has {other}: shape {shape}, but {self.called(0)} has {self.shape}; crop, "
                "resize or pad in your Dataset, so that all samples have one shape"
            )
        if not bool((x.isfinite() & (x.abs() <= self.limit)).all()):
            raise DataError(
                f"{self.called(row)} has NaN or infinite values, or some beyond {self.limit:g} (the attribute "
                "bad_value_limit of your Dataset); fix or remove it"
            )
        return x

    def _label(self, row: int, given: Any) -> int:
        label, problem = whole_label(given)
        if problem:
            raise DataError(f"{self.called(row)} {problem}")
        if self.labels is not None and label != self.labels[row]:
            raise DataError(
                f"{self.called(row)} comes with label {label}, but the Dataset's list of labels says {self.labels[row]}"
            )
        return label


def whole_label(given: Any) -> tuple[int, str]:
    """A label as a whole number, and what is wrong with it, or ''."""
    wanted = "labels are whole numbers 0 .. K-1"
    if isinstance(given, (str, bytes)):
        return -1, f"has the text {given!r} as label; {wanted}, names of classes go to class_names"
    if not isinstance(given, (int, float, np.generic, np.ndarray, Tensor, list, tuple)):
        return -1, f"has a {type(given).__name__} as label; {wanted}"
    array = np.asarray(given)
    if array.size != 1:
        return -1, f"has {array.size} numbers as label (one-hot?); {wanted}: return its argmax"
    if array.dtype.kind not in "iufb" or array.item() != array.item() // 1:
        return -1, f"has label {array.item()!r}; {wanted}"
    return int(array.item()), ""


class DatasetLoader(Loader):
    """Batches of a user's own Dataset that returns (data (C, T, V, M), label, index), through torch's DataLoader.

    The order of samples is that of :class:`Loader`. Before each sample the global generators of Python, numpy and torch
    are seeded by seed, epoch, step and place in the global batch, wherever it is loaded; in evaluation by seed and row.
    A generator that the Dataset keeps for itself is out of reach.

    Args:
        dataset: with ``labels`` or, as in CTR-GCN, ``label``; without either, one pass over it reads them. Optional:
            ``sample_name`` (ids), ``class_names`` and ``bad_value_limit``, see StoreFeeder.
        num_class: K; None: as many as the Dataset has class names.
        num_worker: processes that load.
        may_lack_labels: label -1 stands for an unknown one.

    Attributes:
        named: does the Dataset name its samples?

    Raises:
        DataError: labels, names or samples that contradict each other or the classes; values that are not finite.
        UserCodeError: the Dataset failed.
    """

    def __init__(
        self,
        dataset: Any,
        num_class: int | None,
        batch_size: int,
        seed: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        num_worker: int = 0,
        sampler: Sampler = "instance",
        may_lack_labels: bool = False,
    ) -> None:
        self.kind = type(dataset).__name__
        for method in ("__len__", "__getitem__"):
            if not hasattr(dataset, method):
                raise DataError(f"{self.kind} has no {method}; a Dataset here is read by index and knows its length")
        size, class_names = len(dataset), self._class_names(dataset, num_class)
        names = getattr(dataset, "sample_name", None)
        listed = getattr(dataset, "labels", getattr(dataset, "label", None))
        self.named, self.dataset = names is not None, dataset
        number = len(listed) if listed is not None else len(names) if names is not None else size
        rounds = size // max(1, number)  # a Dataset may count itself several times, as CTR-GCN's repeat does
        ids = _repeated([str(name) for name in (range(number) if names is None else names)], rounds)
        if size == 0 or number * rounds != size or len(ids) != size or len(set(ids)) != size:
            name, times = Counter(ids).most_common(1)[0] if ids else ("", 0)
            raise DataError(
                f"{self.kind} has {size} samples, {number} labels, {len(set(ids))} different names"
                + (f" ({name} {times} times)" if times > 1 else "")
            )
        self.samples = Samples(dataset, ids)
        x, _ = self.samples.read(0, derive_seed(seed, "in order", 0))
        self.samples.shape = tuple(x.shape)
        if listed is None:
            log.info("%s has no labels or label; one pass over it reads them", self.kind)
            labels = np.array([self.samples.read(row, derive_seed(seed, "in order", row))[1] for row in range(size)])
        else:
            labels = np.tile(self._listed(listed), rounds)
        self._check_range(labels[labels != UNLABELLED] if may_lack_labels else labels, len(class_names))
        self.samples.labels = labels
        super().__init__(labels, ids, class_names, batch_size, 1, seed, device, dtype, sampler, may_lack_labels)
        self.num_worker = num_worker

    def _class_names(self, dataset: Any, num_class: int | None) -> list[str]:
        names = [str(name) for name in getattr(dataset, "class_names", range(num_class or 0))]
        if num_class is not None and len(names) != num_class:
            raise DataError(
                f"{self.kind}.class_names has {len(names)} names, but model_args.num_class is {num_class}; give a name "
                "for each class, or leave num_class out"
            )
        return names

    def _listed(self, listed: Any) -> np.ndarray:
        """The Dataset's list of labels, as whole numbers."""
        found = [whole_label(label) for label in listed]
        for row, (_, problem) in enumerate(found):
            if problem:
                raise DataError(f"{self.samples.called(row)} {problem}")
        return np.array([label for label, _ in found], dtype=np.int64)

    def _check_range(self, labels: np.ndarray, num_class: int) -> None:
        wrong = np.flatnonzero((labels < 0) | (labels >= num_class))
        if len(wrong):
            first = labels.min() == 1 and labels.max() == num_class
            raise DataError(
                f"{self.samples.called(wrong[0])} has label {labels[wrong[0]]}, outside the classes 0..{num_class - 1}"
                + ("; labels are counted from 0: subtract 1" if first else f" of num_class {num_class}")
            )

    @property
    def sample_shape(self) -> tuple[int, int, int, int]:
        channels, frames, joints, people = self.samples.shape or ()
        return channels, frames, joints, people

    def shuffled(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        plan = self.plan(epoch)[first_step:]
        places = own_slice(torch.arange(self.batch_size)).tolist()
        yield from self._load(
            [
                [
                    (row, derive_seed(self.seed, epoch, step, place, "dataset"))
                    for row, place in zip(own_slice(batch).tolist(), places, strict=True)
                ]
                for step, batch in enumerate(plan, first_step)
            ],
            epoch,
        )

    def in_order(self, batch_size: int, rows: Tensor | None = None) -> Iterator[Batch]:
        yield from self._load([[self.key(row) for row in own.tolist()] for own in self._shares(batch_size, rows)], -1)

    def key(self, row: int) -> Key:
        """A row with its seed in evaluation."""
        return row, derive_seed(self.seed, "in order", row)

    def _load(self, batches: list[list[Key]], epoch: int) -> Iterator[Batch]:
        loader: DataLoader[Any] = DataLoader(
            self.samples,
            batch_sampler=batches,
            num_workers=self.num_worker,
            pin_memory=self.device.type == "cuda",
            collate_fn=_joined,
            worker_init_fn=_ignore_sigterm,
            generator=torch.Generator().manual_seed(derive_seed(self.seed, epoch, self.rank, "workers")),
        )
        for batch, x in zip(batches, loader, strict=True):
            if isinstance(x, Problem):
                log.debug("%s", x.traceback)
                raise UserCodeError(x.message)
            yield self._to_device(x, torch.tensor([row for row, _ in batch]))


def _repeated(names: list[str], rounds: int) -> list[str]:
    """The names once for each round; from the second on with its number."""
    return [name if number == 0 else f"{name}#{number}" for number in range(rounds) for name in names]


def _float32(given: Any) -> Tensor:
    """A copy: torch takes no arrays that run backwards or have another byte order."""
    array = np.asarray(given)
    if array.dtype.kind not in "iufb":
        raise TypeError(f"dtype {array.dtype}")
    return torch.from_numpy(np.array(array, dtype=np.float32, order="C"))


def _joined(samples: list[Tensor | Problem]) -> Tensor | Problem:
    """A batch (N, C, T, V, M), or what is wrong with its first bad sample."""
    bad = next((sample for sample in samples if isinstance(sample, Problem)), None)
    joined: Tensor | Problem = bad or default_collate(samples)
    return joined


def _ignore_sigterm(worker: int) -> None:
    """Leaves a signal to all processes to the main one, which still needs the batches that are being made."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
