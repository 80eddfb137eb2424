"""Recognizer: a checkpoint -> what its network says of sequences that are not in its data set.

Shapes: n sequences, L frames, M people, V joints, C coordinates, K classes, P body parts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from feeders.convert.recording import Hints, Recording
from feeders.convert.sequences import Plan, sequence
from feeders.feeder import BAD_VALUE_LIMIT, StoreFeeder
from feeders.store import DataError, Sample, SkeletonStore
from shapmix import SkeletonLayout

from ..answers import EXPLAINED, Answers, autocast_dtype
from ..card import Card, card_of, spread_of
from ..checkpoint import load_checkpoint
from ..config import Config
from ..config_files import import_class
from ..distributed import set_up
from ..errors import CheckpointError
from ..network import check_logits, make_network
from ..weights import check_shapes, find_weights, load_weights
from .windows import FEWEST

BATCH_SIZE = 64  # views in a forward pass
SHARES = 2  # coordinates of at most this are no pixels
OTHER_SIZE = 5.0  # times as large as in training, or as small: another unit
log = logging.getLogger(__name__)
Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a network says of one sequence.

    Attributes:
        label, probability: of the most probable class; 0 .. 1.
        probabilities: (K,) float64, of all classes.
        class_names: K names.
        parts: (P,) exact Shapley values of the body parts for ``probability``, -1 .. 1, where they were asked for.
        part_names: P names.
    """

    probabilities: np.ndarray
    class_names: Sequence[str]
    parts: np.ndarray | None = None
    part_names: Sequence[str] = ()

    @property
    def number(self) -> int:
        """Of the most probable class, 0 .. K-1."""
        return int(self.probabilities.argmax())

    @property
    def label(self) -> str:
        return self.class_names[self.number]

    @property
    def probability(self) -> float:
        return float(self.probabilities[self.number])

    def top(self, most: int) -> list[tuple[str, float]]:
        """The most probable classes and their probabilities, the largest first."""
        order = np.argsort(-self.probabilities, kind="stable")[:most]
        return [(self.class_names[number], float(self.probabilities[number])) for number in order]


class Recognizer:
    """A trained network with all that it needs to label sequences: ``Recognizer.from_checkpoint(path)(sequence)``.

    Args:
        card: of its checkpoint.
        network: with its weights.
        device: that it computes on.
        precision: fp32, or bf16 by autocast; by default that of the training.
        plugins: packages besides our own that the card's classes may lie in.

    Raises:
        CheckpointError: the network was trained on a Dataset of the user's own, which alone makes its samples.
    """

    def __init__(
        self,
        card: Card,
        network: nn.Module,
        device: torch.device,
        precision: Precision | None = None,
        plugins: Sequence[str] = (),
    ) -> None:
        self.card, self.network, self.device = card, network.to(device).eval(), device
        self.class_names, self.dims = card.class_names, card.dims
        dtype = autocast_dtype(precision or card.config["precision"])
        self.answers = Answers(self.network, dtype, card.adjustment, card.temperature)
        if card.view is None or card.skeleton is None:
            raise CheckpointError(
                f"the network was trained on {card.config['feeder']}, which alone makes its samples of shape (C, T, V, "
                f"M) {card.sample_shape}; use phase: test, or load its weights with processor.weights.load_weights"
            )
        self.layout: SkeletonLayout = card.skeleton
        self.view: Mapping[str, Any] = card.view
        self._clips: int = card.view.get("num_clips", 1)
        self._feeder: type[StoreFeeder] = import_class(card.config["feeder"], plugins)
        self._warned = False
        self._crowded = ""  # the name of the last sequence with too many people

    @classmethod
    def from_checkpoint(
        cls, weights: str | Path, device: str = "auto", precision: Precision | None = None, plugins: Sequence[str] = ()
    ) -> Self:
        """The recogniser of a checkpoint.

        Args:
            weights: a checkpoint, or the folder of a run, whose last one is taken: that of the reported result.
            device: auto, cpu, cuda, mps.
            precision, plugins: see the class.

        Raises:
            CheckpointError: no such file, weights alone, or those of another network than their config says.
            ConfigError: its network needs a package that ``plugins`` do not name.
        """
        card, network = trained_network(weights, plugins)
        return cls(card, network, set_up(device), precision, plugins)

    @property
    def people(self) -> int:
        """M, how many people a sequence may have."""
        return self.card.sample_shape[3]

    def __call__(
        self, frames: np.ndarray, size: tuple[int, int] | None = None, explain: bool = False, name: str = "the sequence"
    ) -> Prediction:
        """What the network says of one sequence.

        Args:
            frames: (L, M, V, C) or (L, V, C), L >= 2: joints in the layout's order; x, y, z in the units and axes of
                the training data, or x, y in pixels and perhaps a score 0 .. 1. NaN where a joint was not seen; a
                person of zeros is absent.
            size: (height, width) of the image of 2D poses, in pixels.
            explain: also computes the Shapley values of the body parts. Cost: ``2**P`` forward passes more.
            name: of the sequence, in messages.

        Raises:
            DataError: frames of another shape, fewer than 2, nobody in them, or not enough joints seen.
        """
        sample = self.sample(frames, size, name)
        probabilities = self.probabilities([sample])[0]
        parts = self.shapley([sample], [int(probabilities.argmax())])[0] if explain else None
        return Prediction(probabilities, self.class_names, parts, list(self.layout.parts))

    def sample(self, frames: np.ndarray, size: tuple[int, int] | None = None, name: str = "the sequence") -> Sample:
        """A sequence as the data set stores it, for :meth:`probabilities` and :meth:`shapley`; see :meth:`__call__`."""
        return self.as_stored(self.recording(frames, size, name), name)

    def recording(
        self, frames: np.ndarray, size: tuple[int, int] | None = None, name: str = "the sequence"
    ) -> Recording:
        """A sequence as a file has it, for :meth:`as_stored`; see :meth:`__call__`."""
        frames = np.asarray(frames, np.float32)
        frames = frames[:, None] if frames.ndim == 3 else frames
        scored = self.dims == 2 and frames.shape[-1:] == (3,)
        if frames.ndim != 4 or frames.shape[3] != self.dims + scored:
            wanted = "x, y and perhaps a score" if self.dims == 2 else "x, y, z"
            raise DataError(f"{name} has shape {frames.shape}, wanted (frames, people, joints, {self.dims}): {wanted}")
        return Recording(frames[..., : self.dims], frames[..., 2] if scored else None, size=size)

    def as_stored(self, given: Recording | Sample, name: str, ready: bool = False) -> Sample:
        """A take of a file, or a sequence of a store, as the data set stores it: frames with people, gaps filled.

        Args:
            ready: the data set itself has read the sequence, so that nothing is left to do.

        Raises:
            DataError: see :meth:`__call__`; the message begins with ``name``.
        """
        try:
            if isinstance(given, Sample):
                frames, columns = given.frames, given.columns
            else:
                frames, columns = sequence(given, Plan(self.layout, self.dims, self.people, Hints(), ()))
                self._look_at_pixels(frames, columns)
                self._look_at_people(given, name)
            if frames.shape[1:] != (shape := (self.people, self.layout.num_joints, 3)):
                raise DataError(f"(people, joints, channels) are {frames.shape[1:]}, the network takes {shape}")
            if len(frames) < FEWEST:
                raise DataError(f"too short: {len(frames)} frame with people; a movement needs at least {FEWEST}")
            if (largest := float(np.abs(frames).max(initial=0))) > BAD_VALUE_LIMIT:
                raise DataError(f"values up to {largest:.3g}: no number above {BAD_VALUE_LIMIT:g} is a coordinate")
            frames = frames if ready else self._feeder.as_stored(frames, self.dims)
            return Sample(name, 0, frames, columns=self._size_of(columns))
        except DataError as error:
            raise DataError(f"{name}: {error}") from error

    def _look_at_people(self, given: Recording, name: str) -> None:
        """Warns, once for each name, where people are left out."""
        number = int((np.nan_to_num(given.frames) != 0).any(axis=(0, 2, 3)).sum())
        if number > self.people and name != self._crowded:
            self._crowded = name
            kept = "that move most" if given.score is None else "with the largest scores"
            log.warning("%s: %d people, the network sees %d; kept those %s", name, number, self.people, kept)

    def check_size(self, size: tuple[int, int] | None) -> None:
        """DataError where the size (height, width) of the images of 2D poses is needed, and is not known."""
        if self.dims == 2 and self.sized and min(size or (0, 0)) <= 0:
            raise DataError(
                "the size of its image (height, width) is not known, but it was in training; give --img_shape HEIGHT "
                'WIDTH, or in a stream "size": [height, width]'
            )

    def _size_of(self, columns: Mapping[str, int]) -> dict[str, int]:
        """Height and width of the image of 2D poses, as in training: known of all sequences, or of none."""
        if self.dims == 3:
            return {}
        height, width = (0 if self.sized is False else columns.get(side, 0) for side in ("height", "width"))
        self.check_size((height, width))
        return {"height": height, "width": width}

    def _look_at_pixels(self, frames: np.ndarray, columns: Mapping[str, int]) -> None:
        """DataError for 2D poses that are shares of an image whose size is in pixels."""
        if (
            self.dims == 2
            and min(columns["height"], columns["width"]) > SHARES
            and abs(frames[..., :2]).max() <= SHARES
        ):
            raise DataError(
                f"coordinates up to {abs(frames[..., :2]).max():.2g} in an image of {columns['height']} x "
                f"{columns['width']} pixels are no pixels; if they are shares of the image, give 1 x 1 as its size"
            )

    @property
    def sized(self) -> bool | None:
        """Whether the sizes of images were known in training, see StoreFeeder; None too where an old card lacks it."""
        return self.view.get("sized", self._feeder.needs_size or None)

    def whole_set(self, path: Path, size: tuple[int, int] | None = None) -> Iterator[Sample] | None:
        """A whole set as the data set itself reads it, see StoreFeeder; None where it does not."""
        return self._feeder.whole_set(path, self.view, size)

    @property
    def raw_readers(self) -> Mapping[str, Callable[[bytes], np.ndarray]]:
        """How the data set itself reads raw files, by their suffix, see StoreFeeder."""
        return self._feeder.raw_readers

    def probabilities(self, samples: Sequence[Sample]) -> np.ndarray:
        """(n, K) float64 of sequences, as :meth:`sample` makes them. Cost: n views forward.

        Raises:
            DataError: one cannot be used, or the network's scores of it are not finite.
        """
        found = [np.zeros((0, len(self.class_names)))]
        with torch.inference_mode():
            for x, few in self._views(samples, max(1, BATCH_SIZE // self._clips)):
                self._look_at_size(x, few)
                scores = self.answers.scores(x, len(x) // len(few))
                if not scores.isfinite().all():
                    row = int((~scores.isfinite().all(1)).nonzero()[0])
                    raise DataError(f"{few[row].id}: the network's scores are not finite; look at its coordinates")
                found.append(self.answers.probabilities(scores))
        return np.concatenate(found)

    def _look_at_size(self, x: Tensor, few: Sequence[Sample]) -> None:
        """Warns, for the first sample, where what the network sees of it has another size than in training."""
        for sample, own in zip(few, x.chunk(len(few)), strict=True):
            if self._warned or not self.card.spread:
                return
            ratio = spread_of(own, self.dims) / self.card.spread
            if not 1 / OTHER_SIZE < ratio < OTHER_SIZE:
                self._warned = True
                log.warning(
                    "%s: the coordinates are %.3g times as large as those of the training data; give them in the same "
                    "unit (said of the first one alone)", sample.id, ratio,
                )  # fmt: skip

    def shapley(self, samples: Sequence[Sample], classes: Sequence[int]) -> np.ndarray:
        """(n, P) exact Shapley values of the body parts for the probability of a class of each sample, -1 .. 1.

        They are of the probability that :meth:`probabilities` returns. Cost: ``2**P`` forward passes a view.

        Raises:
            CheckpointError: the checkpoint has no baseline, which stands for an absent part.
        """
        if self.card.baseline is None:
            raise CheckpointError(
                "an explanation needs the mean of the training samples, which this checkpoint does not have"
            )
        baseline, found, place = self.card.baseline.to(self.device), [np.zeros((0, self.layout.num_parts))], 0
        for x, few in self._views(samples, max(1, EXPLAINED // (self._clips << self.layout.num_parts))):
            own = classes[place : place + len(few)]
            found.append(self.answers.shapley(x, len(x) // len(few), own, baseline, self.layout).numpy())
            place += len(few)
        return np.concatenate(found)

    def _views(self, samples: Sequence[Sample], at_once: int) -> Iterator[tuple[Tensor, Sequence[Sample]]]:
        """What the network takes, x (clips * N, C, T, V, M), and the N samples that it is of."""
        for first in range(0, len(samples), at_once):
            few = samples[first : first + at_once]
            yield self._view(few).batch(np.arange(len(few)), self.device), few

    def _view(self, samples: Sequence[Sample]) -> StoreFeeder:
        """The view of the test split over these samples; where several have one id, their place is added to it."""
        if len({sample.id for sample in samples}) < len(samples):
            samples = [replace(sample, id=f"{sample.id} ({place})") for place, sample in enumerate(samples)]
        return self._feeder.from_view(self.view, SkeletonStore.of(samples))


def trained_network(weights: str | Path, plugins: Sequence[str] = ()) -> tuple[Card, nn.Module]:
    """Card and network of a checkpoint, or of a run's folder; arguments and errors as Recognizer.from_checkpoint."""
    path = find_weights(weights)
    state = load_checkpoint(path)
    card = card_of(state, path)
    try:
        config = Config(**{**card.config, "config": str(path), "plugins": list(plugins)})
    except ValidationError as error:
        raise CheckpointError(f"{path} has a config of another version of this program: {error}") from error
    _check_size(path, config, card, state)
    network = make_network(config, card.sample_shape, len(card.class_names), card.skeleton)
    check_logits(config, network, torch.zeros(2, *card.sample_shape), len(card.class_names))
    load_weights(network, path)
    return card, network


def _check_size(path: Path, config: Config, card: Card, state: Mapping[str, Any]) -> None:
    """CheckpointError where the network of the config is another one than that of the weights, before it takes memory.

    A user's network may be impossible to build without memory; then this is left out.
    """
    try:
        with torch.device("meta"):
            plan = make_network(config, card.sample_shape, len(card.class_names), card.skeleton)
    except RuntimeError as error:
        if config.model.startswith("model."):
            raise CheckpointError(f"{path}: the network of its config cannot be built: {error}") from error
        return
    except Exception:  # what is wrong with it, building it says
        return
    check_shapes(path, plan.state_dict(), state)
