"""NTU RGB+D 60 and 120, whole and long-tailed, from a prepared store or CTR-GCN's ``.npz`` files.

See docs/method.md, "Training recipes", "Long-tail protocol" and "NTU preparation".

Shapes: N batch, C coordinates, T frames (``window_size``), V = 25 joints, M = 2 actors, n sequences.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from .convert.ctrgcn_npz import read_arrays
from .convert.ntu_raw import read_sequence, translate
from .crop import CropDraws, CropFeeder
from .feeder import BAD_VALUE_LIMIT, Sampler, StoreFeeder, Whole
from .ntu_data import NTUData
from .ntu_protocols import LAYOUT, PROTOCOLS
from .store import DataError, Sample, SkeletonStore
from .transforms import move, to_device

log = logging.getLogger(__name__)
SPLITS = ("train", "val", "test")
DEBUG_SAMPLES = 100


class Feeder(CropFeeder):
    """NTU as CTR-GCN shows it: crop, linear resize to ``window_size`` frames, rotation.

    Args:
        data_path: a store written by ``tools.prepare_ntu``, or CTR-GCN's ``.npz`` file, which is packed into a store
            beside it the first time.
        split: ``train``, ``test``, or ``val``: the held-out subjects' part of the training set.
        protocol: ntu60_xsub, ntu60_xview, ntu120_xsub or ntu120_xset; for an ``.npz`` file by default from its name.
        stream: joint, bone, joint_motion or bone_motion; by default what ``bone`` and ``vel`` say.
        window_size, repeat: see StoreFeeder. p_interval, random_rot: see CropFeeder.
        split_path: list of the training sequences to use, one name a line, such as BRL's long-tailed lists.
        val_subjects: training subjects that are held out for ``split: val``, with all their sequences, whatever the
            list.
        val_fraction: instead, the share (0 .. 1) of training subjects to hold out; always the same ones.
        train_id_path: for an ``.npz`` file: the names of its training sequences, in its order; or, as in Shap-Mix's
            files, their places (from 0) in the list ``sample_name_path``.
        sample_name_path: for an ``.npz`` file: the names of all sequences; where there is no ``train_id_path``, the
            order is rebuilt from them. Both are checked against the labels.
        class_balance: see :class:`Feeder_LT_ros`; no effect elsewhere.
        random_choose: in training show ``window_size`` consecutive frames at their own speed, instead of a share.
        random_shift: in training do not stretch what is shorter than ``window_size``; put it anywhere among zeros.
        random_move: in training turn, scale and shift smoothly over time, see feeders.transforms.move.
        normalization: subtract the mean of each joint and coordinate, divide by its standard deviation, both over the
            sequences that are trained on. The other splits have them from the training split, by ``agree``.
        debug: only the first 100 sequences.
        use_mmap: false reads all frames into memory.
        on_bad_sample: error or skip, see StoreFeeder; skip also ignores unknown names in ``split_path``.
        bad_value_limit: see StoreFeeder.
        cache_dir: where the store of an ``.npz`` file lies; by default beside it.
        bone, vel: the official way to name the stream.

    Raises:
        DataError: data or lists that are missing or damaged, or that contradict each other.
    """

    needs_list = False
    VIEW = (*CropFeeder.VIEW, "normalization", "copies_actor")
    raw_readers = {".skeleton": lambda text: read_sequence(text)[0]}
    samplers: tuple[Sampler, Sampler] = ("instance", "instance")  # without and with class_balance

    def __init__(
        self,
        data_path: str,
        split: Literal["train", "val", "test"] = "train",
        protocol: Literal["ntu60_xsub", "ntu60_xview", "ntu120_xsub", "ntu120_xset"] | None = None,
        stream: str | None = None,
        window_size: int = 64,
        p_interval: Sequence[float] | float | None = None,
        random_rot: bool = False,
        split_path: str | None = None,
        val_subjects: Sequence[int] = (),
        val_fraction: float = 0.0,
        train_id_path: str | None = None,
        sample_name_path: str | None = None,
        class_balance: bool = False,
        random_choose: bool = False,
        random_shift: bool = False,
        random_move: bool = False,
        normalization: bool = False,
        debug: bool = False,
        use_mmap: bool = True,
        repeat: int = 1,
        on_bad_sample: Literal["error", "skip"] = "error",
        bad_value_limit: float = BAD_VALUE_LIMIT,
        cache_dir: str | None = None,
        bone: bool = False,
        vel: bool = False,
    ) -> None:
        if split not in SPLITS:
            raise DataError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        if protocol is not None and protocol not in PROTOCOLS:
            raise DataError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}")
        if self.needs_list and split == "train" and split_path is None:
            raise DataError(f"{type(self).__name__} needs split_path: a list such as NTU120_xsub_exp_100.txt")
        official = ("bone" if bone else "joint") + ("_motion" if vel else "")
        if stream is not None and (bone or vel) and stream != official:
            raise DataError(f"stream is {stream}, but bone and vel say {official}; give one of them")
        data = NTUData(Path(data_path), protocol, train_id_path, sample_name_path, cache_dir)
        members = data.test
        if split != "test":
            members = data.training_part(split == "val", val_subjects, val_fraction)
        if split == "train" and split_path is not None:
            members = members[np.isin(members, data.listed(Path(split_path), skip_unknown=on_bad_sample == "skip"))]
        if class_balance and len(set(self.samplers)) == 1:
            log.info("class_balance has no effect on %s, as in the official code", type(self).__name__)
        super().__init__(
            data.store if use_mmap else data.store.in_memory(), members[:DEBUG_SAMPLES] if debug else members, LAYOUT,
            data.class_names, split, split == "train", stream or official, window_size, repeat,
            self.samplers[class_balance], on_bad_sample, bad_value_limit, p_interval=p_interval, random_rot=random_rot,
        )  # fmt: skip
        self.random_choose, self.random_shift, self.random_move = random_choose, random_shift, random_move
        self.copies_actor, self.single = data.copied_actor is not None, data.copied_actor
        self.normalization = normalization
        self.statistics: tuple[Tensor, Tensor] | None = None
        if normalization and self.training:
            self.statistics = _statistics(self.store, self.members, self.single)

    def agree(self, splits: Mapping[str, StoreFeeder[Any]]) -> None:
        """As CropFeeder; and the training split's mean and deviation are those of all."""
        super().agree(splits)
        train = splits["train"]
        if not isinstance(train, Feeder) or train.normalization != self.normalization:
            raise DataError("normalization differs between the splits; set it in feeder_args, for all of them")
        self.statistics = train.statistics

    def view_state(self) -> dict[str, Any]:
        """See StoreFeeder; and mean and deviation, as lists."""
        statistics = None if self.statistics is None else [value.flatten().tolist() for value in self.statistics]
        return super().view_state() | {"statistics": statistics}

    def as_trained(self, state: Mapping[str, Any]) -> None:
        """See StoreFeeder: mean and deviation."""
        self.statistics = None
        if state.get("statistics") is not None:
            shape = 1, self.in_channels, 1, self.num_joints, 1
            mean, deviation = (torch.tensor(values).view(shape) for values in state["statistics"])
            self.statistics = mean, deviation

    @classmethod
    def from_view(cls, state: Mapping[str, Any], store: SkeletonStore, limit: float = BAD_VALUE_LIMIT) -> Self:
        """See StoreFeeder."""
        feeder = super().from_view(state, store, limit)
        feeder.single = None
        if feeder.copies_actor:
            feeder.single = np.array([not store.sequence(row)[:, 1].any() for row in range(len(store))])
        return feeder

    @classmethod
    def as_stored(cls, frames: np.ndarray, dims: int) -> np.ndarray:
        """See StoreFeeder; two actors, the first one's spine_mid at the origin when it is first there."""
        return translate(frames)

    @classmethod
    def whole_set(
        cls, path: Path, state: Mapping[str, Any], size: tuple[int, int] | None = None
    ) -> Iterator[Sample] | None:
        """See StoreFeeder: CTR-GCN's ``.npz``."""
        return read_arrays(path) if path.suffix.lower() == ".npz" else None

    def crop(self, lengths: np.ndarray, draws: CropDraws | None) -> tuple[np.ndarray, np.ndarray]:
        """As CropFeeder; with ``random_choose`` ``window_size`` consecutive frames."""
        if draws is None or not self.random_choose:
            return super().crop(lengths, draws)
        length = np.minimum(lengths, self.window_size)
        return np.floor(draws.crop[:, 1].double().numpy() * (lengths - length + 1)).astype(np.int64), length

    def neighbours(self, lengths: np.ndarray, draws: CropDraws | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As CropFeeder; with ``random_shift`` what is shorter than ``window_size`` keeps its own speed."""
        left, right, weight = super().neighbours(lengths, draws)
        if draws is not None and self.random_shift:
            start, length = (numbers[:, None] for numbers in self.crop(lengths, draws))
            own = start + np.clip(self._placed(lengths, draws)[0], 0, length - 1)
            short = length < self.window_size
            left, right, weight = np.where(short, own, left), np.where(short, own, right), weight * ~short
        return left, right, weight

    def _placed(self, lengths: np.ndarray, draws: CropDraws) -> tuple[np.ndarray, np.ndarray]:
        """With ``random_shift``: which frame of the crop is shown at each place (N, T), and whether there is one."""
        length = np.minimum(self.crop(lengths, draws)[1], self.window_size)
        start = np.floor(draws.shift.double().numpy() * (self.window_size - length + 1)).astype(np.int64)
        place = np.arange(self.window_size) - start[:, None]
        return place, (place >= 0) & (place < length[:, None])

    def joint_view(
        self, members: np.ndarray, device: torch.device, draws: CropDraws | None, turned: bool = True
    ) -> Tensor:
        """Crop, resize, rotation, the second actor, and the options."""
        x = super().joint_view(members, device, draws, turned)
        if self.single is not None:
            x = copy_actor(x, to_device(self.single[members], device))
        if draws is not None and self.random_shift:
            inside = to_device(self._placed(self.store.lengths[members], draws)[1], device)
            x = x * inside[:, None, :, None, None]
        return self._moved(x, draws) if turned else x

    def whole_joints(self, whole: Whole) -> Tensor:
        """See CropFeeder. A sequence without a second actor has zeros in its place."""
        x = super().whole_joints(whole)
        if self.single is not None:
            second = (whole.sequence[:, :, 1] != 0).flatten(2).any(2) & whole.inside()
            x = copy_actor(x, ~second.any(1))
        return self._moved(x, None)

    def turn(self, x: Tensor, draws: CropDraws | None) -> Tensor:
        """See StoreFeeder: rotation, ``random_move``, ``normalization``."""
        return self._moved(super().turn(x, draws), draws)

    def _moved(self, x: Tensor, draws: CropDraws | None) -> Tensor:
        if draws is not None and self.random_move:
            x = move(x, draws.move)
        if self.normalization:
            if self.statistics is None:
                raise DataError(f"normalization of split {self.split!r} needs the training split: call agree first")
            mean, deviation = (to_device(value, x.device) for value in self.statistics)
            x = (x - mean) / deviation
        return x

    def padded_joints(self, rows: np.ndarray) -> Tensor:
        """As StoreFeeder, with the second actor."""
        x = super().padded_joints(rows)
        return x if self.single is None else copy_actor(x, to_device(self.single[self.members[rows]], x.device))


class Feeder_LT_nosample(Feeder):
    """A long-tailed training set (``split_path``), every sequence once an epoch. The test set is whole."""

    needs_list = True


class Feeder_LT_ros(Feeder):
    """A long-tailed training set (``split_path``), re-sampled so that all classes are equally frequent.

    Random over-sampling: an epoch repeats the sequences of each class until it has as many as the largest class. With
    ``class_balance`` an epoch has as many sequences as the set; for each a class is drawn first, then one of its own.
    (An official epoch with ``class_balance`` has four times as many, the classes in turn: ``sampler: round_robin``.)
    """

    needs_list = True
    samplers = ("over_sampling", "class_balanced")


def copy_actor(x: Tensor, alone: Tensor) -> Tensor:
    """x (N, C, T, V, M = 2), changed: where ``alone`` (N,), the second actor is a copy of the first, as of NTU 120."""
    x[..., 1] = torch.where(alone[:, None, None, None], x[..., 0], x[..., 1])
    return x


def _statistics(store: SkeletonStore, rows: np.ndarray, single: np.ndarray | None) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (1, C, 1, V, 1) over all frames and actors of the training sequences."""
    total, squares, number = np.zeros(()), np.zeros(()), 0
    for row in rows:
        frames = store.sequence(row).astype(np.float64)
        if single is not None and single[row]:
            frames[:, 1] = frames[:, 0]
        total, squares = total + frames.sum((0, 1)), squares + (frames**2).sum((0, 1))
        number += len(frames) * frames.shape[1]
    mean = total / number
    deviation = np.sqrt(np.maximum(squares / number - mean**2, 0))
    deviation[deviation == 0] = 1
    first, second = (torch.from_numpy(value.T[None, :, None, :, None]).float() for value in (mean, deviation))
    return first, second
