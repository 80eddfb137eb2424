"""Sequences to look at, from whatever somebody has: a store, a run or config, a whole set, single files.

Shapes: n sequences, L frames, M people, V joints, C channels: x, y, z, or x, y and perhaps a score (dims 2).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from feeders.convert.forms import FORMS
from feeders.convert.sequences import Conversion
from feeders.convert.takes import find_takes
from feeders.convert.understand import UNLABELLED, UnknownSkeleton, Wishes, understand
from feeders.convert.whole_sets import find_whole_set, open_whole_set
from feeders.feeder import StoreFeeder
from feeders.store import DataError, SkeletonStore
from shapmix import SkeletonLayout

from ..config import Config
from ..config_files import load_config, nearest
from ..data import Data, load_data
from ..errors import ConfigError
from ..network import layout_of
from ..run_folder import RunFolder
from ..study.layout_picture import rest_pose

log = logging.getLogger(__name__)
PEOPLE = 8  # of one sequence, most
SPLITS: tuple[Literal["test", "val", "train"], ...] = ("test", "val", "train")


@dataclass(frozen=True)
class Sequences:
    """What can be shown.

    Attributes:
        name: of the data, for titles and files.
        about: what it is, in words.
        layout, dims: of all sequences; dims is 2 or 3.
        ids, labels: (n,) names, and numbers of classes.
        class_names: of the labels; empty where none is known.
        read: number of a sequence -> (L, M, V, C), NaN where a joint is not seen; DataError where it cannot be read.
        sketch: no data: a layout alone.
        usual: how many of the first are chosen from where no id is named; None: all.
    """

    name: str
    about: str
    layout: SkeletonLayout
    dims: int
    ids: Sequence[str]
    labels: Sequence[int]
    class_names: Sequence[str]
    read: Callable[[int], np.ndarray]
    sketch: bool = False
    usual: int | None = None

    def class_of(self, row: int) -> str:
        """The name of a sequence's class; empty where it is not known."""
        label = int(self.labels[row])
        known = 0 <= label < len(self.class_names) and self.class_names[label] != UNLABELLED
        return str(self.class_names[label]) if known else ""

    def only(self, ids: Container[str], of: Path) -> Sequences:
        """Those with such ids; DataError, which names ``of``, where there are none."""
        rows = [row for row, name in enumerate(self.ids) if name in ids]
        if not rows:
            raise DataError(f"none of the {len(self.ids)} sequences of {self.name} is a sample of {of}")
        names, labels = [self.ids[row] for row in rows], [self.labels[row] for row in rows]
        usual = None if self.usual is None else max(1, sum(row < self.usual for row in rows))
        return replace(self, ids=names, labels=labels, usual=usual, read=lambda row: self.read(rows[row]))

    def choose(self, ids: Sequence[str], class_name: str | None, most: int) -> list[int]:
        """Numbers of sequences: those that are named, else at most so many, of one class or evenly of all.

        Raises:
            DataError: no sequence or class of this name; the nearest is named.
        """
        if unknown := [name for name in ids if name not in self.ids]:
            some = f"there are {len(self.ids)}: {', '.join(self.ids[:5])}, ..."
            raise DataError(f"{self.name} has no sequence {unknown[0]!r}{nearest(unknown[0], self.ids, some)}")
        if ids:
            return [list(self.ids).index(name) for name in ids]
        rows = np.arange(len(self.ids))[: self.usual]
        if class_name is not None:
            if class_name not in self.class_names:
                raise DataError(f"{self.name} has no class {class_name!r}{nearest(class_name, self.class_names)}")
            rows = rows[np.asarray(self.labels)[rows] == list(self.class_names).index(class_name)]
            if not len(rows):
                raise DataError(f"{self.name} has no sequence of class {class_name!r}")
        rows = rows[np.argsort(np.asarray(self.labels)[rows], kind="stable")]
        return np.unique(rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)]).tolist()

    def read_all(self, rows: Sequence[int], asked_for: bool) -> dict[int, np.ndarray]:
        """Frames by number of the sequence.

        Args:
            asked_for: one that cannot be read is an error; else it is left out, with a warning.

        Raises:
            DataError: it cannot be read, or none can.
        """
        found: dict[int, np.ndarray] = {}
        for row in rows:
            try:
                found[row] = self.read(row)
                if not found[row].size:
                    del found[row]
                    raise DataError("it has no frame")
            except DataError as error:
                if asked_for or (row == rows[-1] and not found):
                    raise DataError(f"{self.name}: sequence {self.ids[row]!r}: {error}") from error
                log.warning("%s: sequence %r is left out: %s", self.name, self.ids[row], error)
        return found


def open_sequences(
    place: Path,
    layout: SkeletonLayout | None = None,
    dims: int | None = None,
    axes: str | None = None,
    plugins: Sequence[str] = (),
) -> Sequences:
    """What lies in a place: a store, a run's folder or a config (its data, also of a plug-in), or files.

    Args:
        layout: of the joints, where the data does not say it.
        dims: 2 or 3, where the data does not say it.
        axes: of arrays, such as TVC.
        plugins: packages that a config may name.

    Raises:
        ValueError: nothing there that can be read, or the layout is not known.
    """
    if (place / "meta.json").is_file():
        return _of_store(place, layout, dims)
    config = RunFolder(place).config if RunFolder(place).config.is_file() else place
    if config.suffix in (".yaml", ".yml"):
        read = load_config(str(config), {"device": "cpu", "phase": "test"}, plugins)
        return of_data(read, load_data(read, torch.device("cpu"), ("train", "test")), place, layout, dims)
    wishes = Wishes(layout, axes, dims, PEOPLE, max_missing=1.0, to_look_at=True)
    whole = find_whole_set(place) if place.exists() else None
    if whole is not None:
        return _of_conversion(place, open_whole_set(whole, wishes))
    takes = find_takes(place, FORMS)
    try:
        return _of_conversion(place, understand(takes, wishes, jobs=1))
    except UnknownSkeleton as error:
        log.warning("%s; shown with a draft of their bones and parts", error)
        return _of_conversion(place, understand(takes, replace(wishes, layout=error.draft), jobs=1))


def of_layout(layout: SkeletonLayout) -> Sequences:
    """One frame of a person without data: a sketch by the names of the joints."""
    joints = np.concatenate([rest_pose(layout) * (1, -1), np.ones((layout.num_joints, 1))], axis=1)
    about = "no data: a sketch by the names, seen from the front"
    return Sequences(layout.name, about, layout, 2, [layout.name], [0], [], lambda row: joints[None, None], True)


def of_data(config: Config, data: Data, place: Path, layout: SkeletonLayout | None, dims: int | None) -> Sequences:
    """The sequences of a run's splits, test first: as stored, or of a user's own Dataset as the network sees them."""
    parts = [(data.feeders[split], data.loaders[split]) for split in SPLITS if split in data.loaders]
    feeder = parts[0][0]
    known = layout or layout_of(config, feeder)
    if known is None:
        raise ConfigError(f"{place} does not name the layout of its joints; give --layout")
    flat = getattr(feeder, "coordinates", 3) == 2 or parts[0][1].sample_shape[0] == 2
    ids = [name for _, loader in parts for name in loader.ids]
    labels = [label for _, loader in parts for label in loader.labels.tolist()]
    where = [(one, row) for one in parts for row in range(len(one[1].ids))]
    about = f"{config.feeder}: {', '.join(f'{len(loader.ids)} {split}' for split, loader in data.loaders.items())}"
    return Sequences(
        place.resolve().name, about, known, dims or (2 if flat else 3), ids, labels, data.class_names,
        lambda row: _of_split(*where[row][0], where[row][1]), usual=len(parts[0][1].ids),
    )  # fmt: skip


def _of_split(feeder: Any, loader: Any, row: int) -> np.ndarray:
    if isinstance(feeder, StoreFeeder):
        return feeder.store.sequence(int(feeder.members[row]))
    x = next(iter(loader.in_order(1, torch.tensor([row])))).x[0]
    frames: np.ndarray = x.float().cpu().numpy().transpose(1, 3, 2, 0)  # (T, M, V, C)
    return frames


def _of_store(place: Path, layout: SkeletonLayout | None, dims: int | None) -> Sequences:
    store = SkeletonStore(place)
    if layout is None and "layout" not in store.meta:
        raise DataError(f"{place} does not name the layout of its joints; give --layout")

    def read(row: int) -> np.ndarray:
        frames = store.sequence(row)
        if not len(frames):
            raise DataError(store.problems.get(store.ids[row], "it has no frame"))
        return frames

    known = layout or SkeletonLayout.get(store.meta["layout"])
    own = int(store.meta.get("dims", 2 if "height" in store.columns else 3))
    about = f"{len(store)} sequences of a store"
    names = store.meta.get("class_names", [])
    return Sequences(place.resolve().name, about, known, dims or own, store.ids, store.labels.tolist(), names, read)


def _of_conversion(place: Path, found: Conversion) -> Sequences:
    def read(row: int) -> np.ndarray:
        sample = found.read(found.items[row])
        if sample.problem:
            raise DataError(sample.problem)
        return sample.frames

    layout, dims = SkeletonLayout.get(found.meta["layout"]), int(found.meta["dims"])
    about = "; ".join([f"{len(found.ids)} sequences", *(f"{what}: {text}" for what, text in found.words.items())])
    return Sequences(
        place.resolve().name, about, layout, dims, found.ids, found.labels, found.meta["class_names"], read
    )
