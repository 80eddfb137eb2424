"""From the config to data: the feeders of the splits, and their batches.

Shapes: C coordinates, T frames, V joints, M people, K classes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from feeders.feeder import Stage, StoreFeeder, make_resident
from feeders.loader import Loader, Partner, StoreLoader
from feeders.longtail import shot_groups
from feeders.store import DataError
from shapmix import SkeletonLayout
from shapmix.distributed import sum_over_ranks
from shapmix.draws import derive_seed

from .config import Config
from .config_files import import_class, parameters
from .distributed import main_first, no_bar
from .errors import ConfigError
from .methods import MIXERS
from .network import Shape
from .overlap import check_overlap
from .own_dataset import DatasetLoader
from .user_code import place_of, seeded

log = logging.getLogger(__name__)

Split = Literal["train", "val", "test"]
# Of weights and data; auto is fp32 or bf16.
DTYPES = {"fp32": torch.float32, "bf16": torch.float32, "auto": torch.float32, "fp64": torch.float64}


@dataclass(frozen=True)
class Data:
    """The splits of a run.

    Attributes:
        feeders: split -> feeder, or the user's Dataset.
        loaders: split -> its batches.
        class_names: K names.
        class_counts: training samples of each class (K,).
        sample_shape: (C, T, V, M) in training.
        groups: many, medium, few -> classes.
        checksum: of the contents of all splits.
    """

    feeders: Mapping[str, Any]
    loaders: Mapping[str, Loader]
    class_names: list[str]
    class_counts: list[int]
    sample_shape: Shape
    groups: Mapping[str, list[int]]
    checksum: str


class Trained(Protocol):
    """What is known of training data that is not there, see processor.card."""

    @property
    def class_names(self) -> list[str]: ...
    @property
    def class_counts(self) -> list[int]: ...
    @property
    def sample_shape(self) -> Shape: ...
    @property
    def view(self) -> Mapping[str, Any] | None: ...


def load_data(
    config: Config,
    device: torch.device,
    splits: Sequence[Split] = ("train", "val", "test"),
    trained: Trained | None = None,
) -> Data:
    """Feeders and loaders of the splits, which include test; the main process builds caches first.

    Args:
        trained: of the weights that are tested, where the splits do not include train.

    Raises:
        ValueError: data that is missing or damaged, or splits that do not fit together.
    """
    feeder_class = import_class(config.feeder, config.plugins)
    feeders: dict[str, Any] = {}
    with main_first():
        for split in splits:
            if split != "val" or config.validates:
                feeders[split] = _feeder(config, feeder_class, split)
    ours = {split: feeder for split, feeder in feeders.items() if isinstance(feeder, StoreFeeder)}
    for feeder in ours.values():
        if trained is None:
            feeder.agree(ours)
        elif trained.view is not None:
            _as_trained(feeder, trained.view)
    loaders: dict[str, Loader] = {split: _loader(config, feeder, device) for split, feeder in feeders.items()}
    known = loaders["train"] if trained is None else trained
    counts, names, shape = known.class_counts, known.class_names, known.sample_shape
    _check_splits(config, feeders, loaders, names, shape)
    absent = [name for name, count in zip(names, counts, strict=True) if count == 0]
    if absent:
        log.warning(
            "%d classes have no training samples: %s. They are left out of the adjusted softmax", len(absent), absent
        )
    if config.phase == "train":  # the others show a sequence once
        make_resident(ours, device, config.device_resident)
    contents = [f"{getattr(feeder, 'checksum', 'unknown')}:{len(loaders[key].ids)}" for key, feeder in feeders.items()]
    groups = shot_groups(counts, config.groups.many, config.groups.few)
    return Data(feeders, loaders, names, counts, shape, groups, "+".join(contents))


def _as_trained(feeder: StoreFeeder, view: Mapping[str, Any]) -> None:
    """The feeder with what the view has from training data; a warning where its own options are others."""
    feeder.as_trained(view)
    own, theirs = feeder.view_state(), SkeletonLayout.get(view["layout"])
    if theirs.joint_names != feeder.layout.joint_names:
        raise DataError(
            f"the weights were trained on joints of {theirs.name}, the test data has those of {feeder.layout.name}; "
            "they are not in the same order"
        )
    other = [f"{key} {view[key]}" for key in own if key in view and own[key] != view[key]]
    if other:
        log.warning("the weights were trained with another view of the data: %s", ", ".join(other))


def _feeder(config: Config, feeder_class: type, split: Split) -> Any:
    known: dict[str, Any] = {"split": split}
    if config.layout is not None and issubclass(feeder_class, StoreFeeder):  # in a Dataset it may mean something else
        known["layout"] = config.layout
    args = {name: value for name, value in known.items() if name in parameters(feeder_class)} | config.split_args(split)
    try:
        with seeded(derive_seed(config.seed, "feeder", split)):
            return feeder_class(**args)
    except TypeError as error:
        if place_of(error):
            raise
        raise ConfigError(f"{config.config}: {split}_feeder_args of {config.feeder}: {error}") from error


def _loader(config: Config, feeder: Any, device: torch.device) -> Loader:
    """Batches of one feeder: ours by the batch, a user's Dataset through a DataLoader."""
    dtype = DTYPES[config.precision]
    mixes = config.mixing in MIXERS
    if isinstance(feeder, StoreFeeder):
        stage: Stage = config.mix_stage if mixes else "input"
        if stage != "input" and feeder.stored_motion and feeder.stream.endswith("motion"):
            raise ConfigError(
                f"{config.config}: mix_stage {stage}: {config.feeder} takes motion between stored frames, which mixed "
                "joints do not have; set mix_stage: input, or feeder_args.stream to joint or bone"
            )
        partner: Partner = "class_balanced" if mixes and config.partner != "batch" else "batch"
        return StoreLoader(feeder, config.batch_size, config.seed, device, dtype, config.sampler, stage, partner)
    for key in ("mix_stage", "partner"):
        if mixes and getattr(config, key) != Config.model_fields[key].get_default():
            raise ConfigError(f"{config.config}: {key} {getattr(config, key)} needs the project's own feeders")
    num_class = config.model_args.get("num_class")
    if num_class is None and not hasattr(feeder, "class_names"):
        raise ConfigError(f"{config.config}: model_args.num_class is missing; your own Dataset has no class_names")
    sampler, workers = config.sampler or "instance", config.num_worker
    may_lack = config.phase == "test"
    return DatasetLoader(feeder, num_class, config.batch_size, config.seed, device, dtype, workers, sampler, may_lack)


def _check_splits(
    config: Config, feeders: Mapping[str, Any], loaders: Mapping[str, Loader], names: list[str], shape: Shape
) -> None:
    """ConfigError where the splits do not fit together, or not to the classes and shape of training samples."""
    streams = {getattr(feeder, "stream", None) for feeder in feeders.values()}
    if len(streams) > 1:
        raise ConfigError(f"{config.config}: the splits have different streams {streams}; set feeder_args.stream")
    for split, loader in loaders.items():
        if loader.class_names != names:
            raise ConfigError(f"{config.config}: training and {split} feeders have different classes")
        shapes = [(channels, joints, people) for channels, _, joints, people in (shape, loader.sample_shape)]
        if shapes[0] != shapes[1]:
            raise ConfigError(
                f"{config.config}: samples (C, T, V, M) are {shape} in training, but "
                f"{loader.sample_shape} in {split}; coordinates, joints and people must agree: {split}_feeder_args"
            )
    if "train" not in loaders:
        return
    loaders["train"].check_batch_size()
    for split in ("val", "test"):
        if split in loaders:
            check_overlap(config, split, (feeders["train"], loaders["train"]), (feeders[split], loaders[split]))


@torch.no_grad()
def mean_sequence(loader: Loader, batch_size: int, published: bool = False, rows: Tensor | None = None) -> Tensor:
    """The baseline (C, T, V, M): mean of the training set as seen at test time, over all processes.

    Args:
        rows: of these samples; by default of all.
        published: instead the mean of raw, zero-padded joint sequences, whatever the stream (docs/method.md,
            "Differences from the official code").
    """
    batches = loader.padded(batch_size) if published else (batch.x for batch in loader.in_order(batch_size, rows))
    total: Tensor | None = None
    for x in tqdm(batches, desc="baseline", leave=False, disable=no_bar()):
        part = x.cpu().double().sum(0)
        total = part if total is None else total + part
    if total is None:
        raise ValueError(f"fewer training samples ({len(loader.ids)}) than processes")
    total = sum_over_ranks(total.to(loader.device)) if loader.device.type != "mps" else total
    return (total / len(loader.ids if rows is None else rows)).to(loader.dtype).to(loader.device)
