"""StoreFeeder: sequences of a store -> batches on the device. The data sets' feeders derive from it.

Shapes: N batch, C coordinates, T frames (``window_size``), V joints, M people, L frames of a stored sequence.
"""

from __future__ import annotations

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from shapmix.skeleton import SkeletonLayout

from .resident import ResidentFrames, packed_bytes
from .store import DataError, Sample, SkeletonStore
from .transforms import STREAMS, to_stream

log = logging.getLogger(__name__)
Sampler = Literal["instance", "class_balanced", "round_robin", "over_sampling"]
# How far a view is made: frames are chosen but not yet turned; joints before the stream is taken; the network's input.
Stage = Literal["frames", "joints", "input"]
BAD_VALUE_LIMIT = 1e6  # metres, millimetres (10^5) and pixels (10^4) stay below it
FREE_SHARE = 1 / 3  # of a GPU's free memory that frames may take with ``device_resident: auto``


class Draws:
    """The random numbers of a training batch: a dataclass of tensors, each with one row for each place in the batch."""

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """The same draws with ``function`` applied to every field, for example to take a slice of the rows."""
        return type(self)(**{name: function(numbers) for name, numbers in vars(self).items()})


AnyDraws = TypeVar("AnyDraws", bound=Draws)


@dataclass(frozen=True)
class Whole:
    """Whole sequences as tensors, and which of their frames are shown: what an exported network is given.

    Attributes:
        sequence: (N, L, M, V, C) float32, as in a store; after its own frames padded with anything finite.
        length: (N,) int64, frames of each sequence.
        frames: (N, F) int64, see StoreFeeder.shown.
        weight: (N, T) float32, or None.
        size: (N, 2) float32, height and width of the images in pixels; None in three dimensions.
    """

    sequence: Tensor
    length: Tensor
    frames: Tensor
    weight: Tensor | None = None
    size: Tensor | None = None

    def inside(self) -> Tensor:
        """(N, L) bool: not the padding."""
        return torch.arange(self.sequence.shape[1], device=self.length.device) < self.length[:, None]

    def read(self, frames: Tensor) -> Tensor:
        """Frames (N, F) of the sequences as (N, C, F, V, M)."""
        index = frames[:, :, None, None, None].expand(-1, -1, *self.sequence.shape[2:])
        return self.sequence.gather(1, index).permute(0, 4, 1, 3, 2)


class StoreFeeder(ABC, Generic[AnyDraws]):
    """A split of a store. Subclasses say what a training batch draws and how stored frames become its view.

    Args:
        store: the packed data set.
        members: which of its sequences belong to this split.
        layout: of its joints.
        class_names: K names; labels are 0 .. K-1.
        split: its name, for messages.
        training: whether the split is trained on.
        stream: joint, bone, joint_motion or bone_motion.
        window_size: T, at least 4.
        repeat: how often an epoch shows every sequence.
        sampler: ``instance`` shows every sequence once an epoch; see feeders.loader for the others.
        on_bad_sample: what to do with training sequences that cannot be used: ``error``, or ``skip`` (the log names
            and counts them). In other splits they are always an error, unless ``skips_held_out``.
        bad_value_limit: sequences with a larger absolute value cannot be used: one such value spoils batch norm's
            running variance for good.

    Raises:
        DataError: no sequence in the split, sequences that cannot be used, another number of joints than the layout.
    """

    # How the data set's own raw files are read: suffix -> function of their bytes, to frames (L, M, V, C) as stored.
    raw_readers: ClassVar[Mapping[str, Callable[[bytes], np.ndarray]]] = {}
    needs_size = False  # whether sizes of the images of 2D poses must be known
    stored_motion = False  # whether a motion stream is between stored frames, not between those that are shown
    skips_held_out = False  # whether on_bad_sample: skip shrinks validation and test sets too
    # The attributes that make a view which is not augmented, besides layout and classes; numbers, words and None.
    VIEW: ClassVar[tuple[str, ...]] = ("stream", "window_size", "num_person", "num_joints", "in_channels")

    def __init__(
        self,
        store: SkeletonStore,
        members: np.ndarray,
        layout: SkeletonLayout,
        class_names: list[str],
        split: str,
        training: bool,
        stream: str = "joint",
        window_size: int = 64,
        repeat: int = 1,
        sampler: Sampler = "instance",
        on_bad_sample: Literal["error", "skip"] = "error",
        bad_value_limit: float = BAD_VALUE_LIMIT,
    ) -> None:
        if stream not in STREAMS:
            raise DataError(f"stream must be one of {', '.join(STREAMS)}, got {stream!r}")
        if window_size < 4 or repeat < 1 or on_bad_sample not in ("error", "skip"):
            raise DataError(
                "window_size must be at least 4, repeat at least 1, on_bad_sample error or skip; "
                f"got {window_size}, {repeat}, {on_bad_sample!r}"
            )
        self.layout = layout
        self.class_names = class_names
        self.split = split
        self.training = training
        self.stream = stream
        self.window_size = window_size
        self.repeat = repeat
        self.sampler = sampler
        self.num_person, self.num_joints, self.in_channels = store.frames.shape[1:]
        self.over(store, self._usable(store, members, on_bad_sample, bad_value_limit))
        if self.num_joints != layout.num_joints:
            raise DataError(f"{store.path} has {self.num_joints} joints, layout {layout.name!r} {layout.num_joints}")

    def over(self, store: SkeletonStore, members: np.ndarray) -> None:
        """Makes these sequences of a store the ones that are shown."""
        self.store, self.members = store, members
        self.labels = store.labels[members]
        self.ids = [store.ids[member] for member in members]
        self.resident: ResidentFrames | None = None

    def view_state(self) -> dict[str, Any]:
        """What :meth:`from_view` makes a feeder of: numbers, words, lists and dicts, without the data."""
        return {
            "layout": self.layout.plain(),
            "coordinates": self.coordinates,
            "sized": self.sized,
            **{name: getattr(self, name) for name in self.VIEW},
        }

    @classmethod
    def from_view(cls, state: Mapping[str, Any], store: SkeletonStore, limit: float = BAD_VALUE_LIMIT) -> Self:
        """A feeder over another store, that shows all its sequences as the one with this state shows its test set.

        It has the views without augmentation, and no classes.

        Args:
            state: of :meth:`view_state`, perhaps of the same class in another process.
            store: frames (F, M, V, C) as that of the other feeder, see :meth:`as_stored`.
            limit: see ``bad_value_limit``.

        Raises:
            DataError: frames of another shape, or sequences that cannot be used.
        """
        feeder = cls.__new__(cls)  # a constructor opens a data set
        vars(feeder).update({name: state[name] for name in feeder.VIEW})
        feeder.layout, feeder.class_names = SkeletonLayout.get(state["layout"]), []
        feeder.split, feeder.training, feeder.repeat, feeder.sampler = "given", False, 1, "instance"
        members = feeder._usable(store, np.arange(len(store)), "error", limit)
        shape = feeder.num_person, feeder.num_joints, feeder.in_channels
        if store.frames.shape[1:] != shape:
            raise DataError(f"frames have (people, joints, channels) {store.frames.shape[1:]}, wanted {shape}")
        feeder.over(store, members)
        if feeder.coordinates != state["coordinates"]:
            raise DataError(f"frames have {feeder.coordinates} coordinates, wanted {state['coordinates']}")
        feeder.as_trained(state)
        return feeder

    def as_trained(self, state: Mapping[str, Any]) -> None:
        """Takes over what another feeder's :meth:`view_state` has from training data. Here it is nothing."""

    @classmethod
    def as_stored(cls, frames: np.ndarray, dims: int) -> np.ndarray:
        """What the preparation of this data set makes of frames (L, M, V, C) with 2 or 3 coordinates. Here: nothing."""
        return frames

    @classmethod
    def whole_set(
        cls, path: Path, state: Mapping[str, Any], size: tuple[int, int] | None = None
    ) -> Iterator[Sample] | None:
        """The sequences of a file that holds a whole set, stored as this data set stores them; None: it reads no such.

        Args:
            state: of :meth:`view_state`, of the feeder whose options hold.
            size: (height, width) of the images of 2D poses, where the file does not say it.

        Raises:
            DataError: the file is damaged or holds something else.
        """
        return None

    @property
    def coordinates(self) -> int:
        """How many of the C channels are coordinates; the others, such as a score, are not."""
        return self.in_channels

    @property
    def vertical(self) -> int:
        """The vertical axis of joint positions in 3D before the view is turned: 0, 1 or 2. Here y."""
        return 1

    @property
    def sized(self) -> bool | None:
        """Whether the sizes of the images of 2D poses are known: of all sequences, or of none; else None."""
        if self.store.dims == 3:
            return None
        known = np.stack([self.store.columns[side][self.members] > 0 for side in ("height", "width")]).all(0)
        return True if known.all() else None if known.any() else False

    def __len__(self) -> int:
        return len(self.members)

    @property
    def checksum(self) -> str:
        """Of the store's contents and of which sequences are in the split."""
        return f"{self.store.checksum}/{hashlib.blake2b(self.members.tobytes(), digest_size=8).hexdigest()}"

    def agree(self, splits: Mapping[str, StoreFeeder[Any]]) -> None:
        """Takes over what this split shares with ``train`` and ``test`` of a run, by name. Here it is nothing.

        Raises:
            DataError: they do not fit together.
        """

    @abstractmethod
    def draw(self, size: int, rng: torch.Generator) -> AnyDraws:
        """The random numbers of a training batch of ``size`` samples, on the CPU."""

    @abstractmethod
    def view(self, members: np.ndarray, device: torch.device, draws: AnyDraws | None, stage: Stage = "input") -> Tensor:
        """What :meth:`batch` returns, of the store's sequences ``members``."""

    @abstractmethod
    def turn(self, x: Tensor, draws: AnyDraws | None) -> Tensor:
        """From stage ``frames`` to ``joints``: the augmentation of the view, and what follows it."""

    def take_stream(self, x: Tensor) -> Tensor:
        """From stage ``joints`` to ``input``."""
        return to_stream(x, self.layout, self.stream, self.coordinates)

    def finish(self, x: Tensor, draws: AnyDraws | None, stage: Stage) -> Tensor:
        """From a stage to the network's input: x (N, C, T, V, M), one row of ``draws`` for each sample."""
        if stage == "input":
            return x
        return self.take_stream(self.turn(x, draws) if stage == "frames" else x)

    def shown(self, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Which frames of sequences of these lengths (n,) the test shows.

        Returns:
            (n, F) frames, counted from the first, and weights (n, T) or None. With weights F is 2T: a shown frame lies
            between one of the first half and one of the second half, whose weight it is. Without, F is T. Of several
            clips of a sequence, each is a row: (n * Q, F).
        """
        raise NotImplementedError

    def whole(self, rows: np.ndarray) -> Whole:
        """The sequences ``rows`` of this split, padded with 0: a row for each of their clips."""
        store, members = self.store, self.members[rows]
        lengths = store.lengths[members]
        sequence = np.zeros((len(members), lengths.max(), *store.frames.shape[1:]), np.float32)
        for row, member in enumerate(members.tolist()):
            sequence[row, : lengths[row]] = store.sequence(member)
        frames, weight = self.shown(lengths)
        clips = len(frames) // len(members)
        values = {"sequence": sequence.repeat(clips, 0), "length": lengths.repeat(clips), "frames": frames}
        values |= {} if weight is None else {"weight": weight}
        if store.dims == 2:
            sizes = np.stack([store.columns[side][members] for side in ("height", "width")], axis=1)
            values["size"] = sizes.astype(np.float32).repeat(clips, 0)
        return Whole(**{name: torch.from_numpy(value) for name, value in values.items()})

    def whole_view(self, whole: Whole) -> Tensor:
        """x (N, C, T, V, M) of whole sequences as the test shows them, in torch alone, so that it can be exported."""
        raise NotImplementedError

    def batch(
        self,
        rows: Tensor | np.ndarray,
        device: torch.device | str = "cpu",
        draws: AnyDraws | None = None,
        stage: Stage = "input",
    ) -> Tensor:
        """The samples ``rows`` of this split as x (N, C, T, V, M), float32, on the device, made as far as ``stage``.

        ``draws`` of :meth:`draw` have a row for each sample; without them the view is not augmented, in any split.
        """
        return self.view(self.members[np.asarray(rows)], torch.device(device), draws, stage)

    def read(self, members: np.ndarray, frames: np.ndarray, device: torch.device) -> Tensor:
        """Frames (N, T) of stored sequences -> (N, C, T, V, M) on the device; a copy that may be changed."""
        if self.resident is not None and self.resident.frames.device.type == device.type:
            return self.resident.read(members, frames)
        pieces, places = (torch.from_numpy(array) for array in self.store.pieces(members, frames))
        shape = *places.shape, *pieces.shape[1:]
        stored = torch.empty(shape, dtype=pieces.dtype, pin_memory=device.type == "cuda")
        torch.index_select(pieces.flatten(1), 0, places.flatten(), out=stored.view(places.numel(), -1))
        return stored.to(device, non_blocking=True).permute(0, 4, 1, 3, 2)

    def make_resident(self, device: torch.device) -> None:
        """Holds this split's frames in the memory of the device; DataError where they do not fit."""
        self.resident = ResidentFrames(self.store, self.members, device)

    def padded_joints(self, rows: np.ndarray) -> Tensor:
        """(N, C, T, V, M) float32: the first T stored frames of each sequence, then zeros; joints, in any stream."""
        members = self.members[rows]
        place = np.arange(self.window_size)[None]
        inside = place < self.store.lengths[members][:, None]
        x = self.read(members, np.where(inside, place, 0), torch.device("cpu"))
        return x.float() * torch.from_numpy(inside)[:, None, :, None, None]

    def _usable(self, store: SkeletonStore, members: np.ndarray, on_bad_sample: str, limit: float) -> np.ndarray:
        """The members without those that the store says cannot be used."""
        problems = dict(store.problems)
        for member in members[store.largest[members] > limit]:
            problems[store.ids[member]] = (
                f"has values up to {store.largest[member]:.3g}, above bad_value_limit {limit:g}"
            )
        bad = [member for member in members if store.ids[member] in problems]
        first = [store.ids[member] for member in bad[:5]]
        named = "; ".join(f"{name} {problems[name]}" for name in first) + (" ..." if len(bad) > 5 else "")
        skippable, kind = self.training or self.skips_held_out, "training" if self.training else self.split
        if bad and not (on_bad_sample == "skip" and skippable):
            where = "train" if self.training else "test"
            raise DataError(
                f"{len(bad)} {self.split} sample(s) cannot be used: {named}. Fix or remove them"
                + (f", or set on_bad_sample: skip in {where}_feeder_args" if skippable else "")
            )
        if bad:
            log.warning("left out %d of %d %s samples: %s", len(bad), len(members), kind, named)
        members = members[~np.isin(members, bad)]
        if not len(members):
            raise DataError(f"{store.path}: no sample in split {self.split!r}")
        return members


def make_resident(
    feeders: Mapping[str, StoreFeeder[Any]], device: torch.device, wanted: Literal["auto"] | bool = "auto"
) -> None:
    """Holds the frames of splits in the memory of the device, the first ones first, and says so in the log.

    Args:
        wanted: true: all splits, DataError where they do not fit; false: none; ``auto``: on a GPU as many splits as
            fit into ``FREE_SHARE`` of its free memory, elsewhere none.
    """
    room = float("inf") if wanted is True else 0.0
    if wanted == "auto" and device.type == "cuda":
        room = FREE_SHARE * torch.cuda.mem_get_info(device)[0]
    for split, feeder in feeders.items():
        size = packed_bytes(feeder.store, feeder.members)
        held = size <= room
        if held:
            feeder.make_resident(device)
            room -= size
        level = logging.INFO if held or device.type == "cuda" else logging.DEBUG
        place = f"held in the memory of {device}" if held else "read batch by batch"
        log.log(level, "device_resident %s: %.0f MB of %s frames are %s", wanted, size / 2**20, split, place)
