"""Northwestern-UCLA as CTR-GCN's users have it: a folder of JSON files, one for each sequence.

See docs/method.md, "Training recipes" and "Long-tail protocol".

Shapes: N batch, C coordinates, T frames (``window_size``), V = 20 joints, M = 1 person, L frames of a sequence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import radians
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from shapmix.skeleton import SkeletonLayout

from .feeder import BAD_VALUE_LIMIT, Draws, Stage, StoreFeeder, Whole
from .files import is_from_macos, kind_of, parse_json
from .longtail import cut_long_tail, held_out_subjects
from .store import DataError, Sample, SkeletonStore, cache_folders, fingerprint_files
from .transforms import rotate, rotation_matrices, scale_to_unit, to_device

LAYOUT = SkeletonLayout.get("ucla20")
CENTRE = LAYOUT.joint("spine")
VIEW_ANGLE = 60  # degrees
CLASSES = {  # number in the file's name -> class name, in the order of the labels
    1: "pick up with one hand", 2: "pick up with two hands", 3: "drop trash", 4: "walk around", 5: "sit down",
    6: "stand up", 8: "donning", 9: "doffing", 11: "throw", 12: "carry",
}  # fmt: skip
NAME = re.compile(r"a(\d\d)_s(\d\d)_e(\d\d)_v(\d\d)")
SPLIT_VIEWS = {"train": (1, 2), "val": (1, 2), "test": (3,)}


@dataclass(frozen=True)
class ViewDraws(Draws):
    """Uniform numbers of a batch: view (N, 2), the angles about x and y; frames (N, T)."""

    view: Tensor
    frames: Tensor


class Feeder(StoreFeeder[ViewDraws]):
    """NW-UCLA: centred on the spine of the first frame, turned in training, scaled to -1 .. 1, T frames chosen.

    Args:
        data_path: the folder ``all_sqe`` with its JSON files.
        split: ``train`` (views 1 and 2), ``test`` (view 3), or ``val``: views 1 and 2 of ``val_subjects``.
        stream, repeat, on_bad_sample, bad_value_limit: see StoreFeeder.
        window_size: T; in training frames are drawn uniformly and sorted, elsewhere they are evenly spaced.
        long_tail: ``{n_max: 100, imbalance: 10, seed: 0}`` cuts the training set by BRL's protocol; null: no cut. The
            last classes are rare; with ``order_seed: 0``, classes at random.
        val_subjects: subjects that are held out of training for ``split: val``.
        val_fraction: instead, the share (0 .. 1) of subjects to hold out; always the same ones.
        random_rot: in training turn by whole degrees, uniform in -60 .. 60, about y (vertical), then about x. (CTR-GCN
            also scales at random; the scaling to -1 .. 1 cancels that.)
        cache_dir: where the packed store lies; by default beside ``data_path``.

    Raises:
        DataError: no such folder, no files in it, files that are no such sequences, too few samples for the long tail.
    """

    def __init__(
        self,
        data_path: str = "data/NW-UCLA/all_sqe",
        split: Literal["train", "val", "test"] = "train",
        stream: str = "joint",
        window_size: int = 52,
        repeat: int = 1,
        long_tail: Mapping[str, Any] | None = None,
        val_subjects: Sequence[int] = (),
        val_fraction: float = 0.0,
        random_rot: bool = True,
        on_bad_sample: Literal["error", "skip"] = "error",
        bad_value_limit: float = BAD_VALUE_LIMIT,
        cache_dir: str | None = None,
    ) -> None:
        if split not in SPLIT_VIEWS:
            raise DataError(f"split must be one of {', '.join(SPLIT_VIEWS)}, got {split!r}")
        store = open_store(Path(data_path), cache_dir)
        numbers = np.array([[int(n) for n in NAME.fullmatch(name).groups()] for name in store.ids])  # type: ignore[union-attr]
        members = np.flatnonzero(np.isin(numbers[:, 3], SPLIT_VIEWS[split]))
        if split != "test":
            held = held_out_subjects(numbers[members, 1], val_subjects, val_fraction)
            members = members[held == (split == "val")]
        if long_tail is not None and split == "train":
            members = members[cut_long_tail(store.labels[members], len(CLASSES), {"n_max": 100, **long_tail})]
        super().__init__(
            store, members, LAYOUT, list(CLASSES.values()), split, split == "train", stream, window_size, repeat,
            on_bad_sample=on_bad_sample, bad_value_limit=bad_value_limit,
        )  # fmt: skip
        self.random_rot = random_rot

    def draw(self, size: int, rng: torch.Generator) -> ViewDraws:
        """See StoreFeeder."""
        numbers = torch.rand(size, 2 + self.window_size, generator=rng)
        return ViewDraws(view=numbers[:, :2], frames=numbers[:, 2:])

    def view(
        self, members: np.ndarray, device: torch.device, draws: ViewDraws | None, stage: Stage = "input"
    ) -> Tensor:
        """x (N, C, T, V, M) of stored sequences: centre, turn, scale over the whole sequence, choose T frames."""
        lengths = self.store.lengths[members]
        place = np.arange(lengths.max())[None]
        valid = to_device(place < lengths[:, None], device)
        x = self.read(members, np.minimum(place, lengths[:, None] - 1), device)
        if draws is None:
            frames = torch.from_numpy(self.shown(lengths)[0])
        else:
            frames = (draws.frames.double() * torch.from_numpy(lengths)[:, None]).floor().long().sort(1).values
        x = self._chosen(x, valid, to_device(frames, device), draws, stage)
        return self.take_stream(x) if stage == "input" else x

    def _chosen(self, x: Tensor, valid: Tensor, frames: Tensor, draws: ViewDraws | None, stage: Stage) -> Tensor:
        """Whole sequences x (N, C, L, V, M), valid (N, L), as frames (N, T) of them."""
        x = x - x[:, :, :1, CENTRE : CENTRE + 1]
        if stage != "frames":
            x = scale_to_unit(self._rotated(x, draws), valid)
        return x.gather(2, frames[:, None, :, None, None].expand(-1, x.shape[1], -1, *x.shape[3:]))

    def shown(self, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """See StoreFeeder: evenly spaced frames."""
        # each by itself: linspace rounds otherwise where one of several has a single frame
        return np.stack([np.linspace(0, length - 1, self.window_size).astype(np.int64) for length in lengths]), None

    def whole_view(self, whole: Whole) -> Tensor:
        """See StoreFeeder."""
        x = whole.sequence.permute(0, 4, 1, 3, 2)
        return self.take_stream(self._chosen(x, whole.inside(), whole.frames, None, "input"))

    def turn(self, x: Tensor, draws: ViewDraws | None) -> Tensor:
        """See StoreFeeder: turn, and scale over the chosen frames, which are all that is left of the sequence."""
        return scale_to_unit(self._rotated(x, draws), torch.ones(len(x), x.shape[2], dtype=torch.bool, device=x.device))

    def _rotated(self, x: Tensor, draws: ViewDraws | None) -> Tensor:
        if draws is None or not self.random_rot:
            return x
        degrees = (draws.view.double() * (2 * VIEW_ANGLE + 1)).floor() - VIEW_ANGLE
        angles = torch.cat([degrees * radians(1), torch.zeros(len(degrees), 1)], dim=1)
        published = rotation_matrices(to_device(angles.to(x.dtype), x.device))  # Ry Rx, which rows are multiplied by
        return rotate(x, published.mT)


def open_store(folder: Path, cache_dir: str | None = None) -> SkeletonStore:
    """The packed store of a folder of JSON files; built again when the files have changed."""
    if not folder.is_dir():
        raise DataError(
            f"data_path {folder} {kind_of(folder)}, not a folder of JSON files; unpack NW-UCLA's all_sqe.zip, and set "
            "data_path to the folder all_sqe"
        )
    files = sorted(file for file in folder.glob("*.json") if not is_from_macos(file.name))
    if not files:
        raise DataError(f"data folder {folder} has no .json files; NW-UCLA's all_sqe holds 1484")
    for file in files:
        match = NAME.fullmatch(file.stem)
        if not match or int(match[1]) not in CLASSES:
            raise DataError(
                f"{file}: the name must be aAA_sSS_eEE_vVV with an action among {', '.join(map(str, CLASSES))}"
            )
    where = cache_folders(folder, cache_dir), f"nw_ucla_{folder.name}", fingerprint_files(files)
    return SkeletonStore.build(*where, lambda: map(_read, files), source=folder)


def _read(file: Path) -> Sample:
    name, label = file.stem, list(CLASSES).index(int(file.stem[1:3]))
    try:
        with np.errstate(over="ignore"):  # a number that is too large becomes infinite; the store reports it
            skeletons = np.asarray(_parsed(file)["skeletons"], dtype=np.float32)
    except DataError as error:
        problem = str(error)
    except KeyError:
        problem = "has no 'skeletons'"
    except (TypeError, ValueError, OSError) as error:
        problem = f"cannot be read as frames of {LAYOUT.num_joints} joints: {error}"
    else:
        if skeletons.size == 0:
            return Sample(name, label)
        if skeletons.shape[1:] == (LAYOUT.num_joints, 3):
            return Sample(name, label, skeletons[:, None])
        problem = f"has frames of shape {skeletons.shape[1:]}, wanted {LAYOUT.num_joints} joints of x, y, z"
    return Sample(name, label, problem=f"({file}) {problem}")


def _parsed(file: Path) -> Any:
    try:
        return parse_json(file.read_bytes())
    except ValueError as error:
        raise DataError(f"is not JSON: {error}") from error
