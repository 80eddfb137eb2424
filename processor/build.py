"""From the config to data, network, mixer, loss and optimiser.

Shapes: C coordinates, T frames, V joints, M people, K classes.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from feeders.feeder import Stage, StoreFeeder, make_resident
from feeders.loader import Loader, Partner, StoreLoader
from feeders.longtail import shot_groups
from feeders.store import DataError
from model.classifier import CLASSIFIER, CosineClassifier, classifier_of, freeze_backbone
from shapmix import LDAMLoss, LogitAdjustedLoss, Mixer, SkeletonLayout
from shapmix.distributed import sum_over_ranks, world
from shapmix.draws import derive_seed
from shapmix.losses import LongTailedLoss

from .config import Config
from .config_files import import_class, parameters
from .distributed import main_first, no_bar
from .errors import ConfigError
from .methods import LOSSES, MIXERS, SECOND_STAGES
from .network import Shape, check_logits, layout_of, make_network
from .overlap import check_overlap
from .own_dataset import DatasetLoader
from .parts import restoring
from .saliency_file import read_table
from .user_code import place_of, seeded
from .weights import load_weights
from .zoo import weights_file

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


@dataclass(frozen=True)
class Parts:
    """What a training step works with.

    Attributes:
        network: x (N, C, T, V, M) -> logits (N, K).
        model: the network as it is called: wrapped in DDP where there are several processes.
        mixer: or None.
        criterion: loss of logits and classes or soft targets.
        mix_criterion: that of mixed samples, another one where it has a prior and their classes are drawn otherwise.
        optimizer: over the weights that are trained.
        frozen: modules that stay in evaluation mode.
    """

    network: nn.Module
    model: nn.Module
    mixer: Mixer | None
    criterion: LongTailedLoss
    mix_criterion: LongTailedLoss
    optimizer: torch.optim.Optimizer
    frozen: Sequence[nn.Module]


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


def build(
    config: Config, data: Data, device: torch.device, state: Mapping[str, Any] | None = None, source: object = ""
) -> Parts:
    """Everything that is trained, or trains.

    Args:
        state: the checkpoint of a run that continues. Its mixer's state spares the pass over the training data, and the
            weights that the run began with are not read again. Network and optimiser are for the caller to restore.
        source: its file, for messages.
    """
    network = build_network(config, data, device, None if state is not None else config.weights)
    several, cuda = world()[1] > 1, device.type == "cuda"
    if several and cuda:
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    elif several:
        log.info("batch norm uses each process's own samples (SyncBatchNorm needs CUDA)")
    frozen = _second_stage(config, network)
    if config.freeze == "backbone":
        name = config.second_stage_args.get("classifier", CLASSIFIER)
        frozen = _checked(config, "freeze", freeze_backbone, network, name)
    model = _shared(network, device) if several else network
    criterion = build_criterion(config, data.class_counts, network).to(device, DTYPES[config.precision])
    mixer = build_mixer(config, data, device, None if state is None else state["mixer"], source)
    mixed = None if mixer is None or config.partner == "batch" else mixer.target_counts(data.sample_shape[1])
    mix_criterion = criterion
    if mixed is not None and isinstance(criterion, LogitAdjustedLoss):
        mix_criterion = build_criterion(config, mixed.tolist(), network).to(criterion.adjustment)
    return Parts(network, model, mixer, criterion, mix_criterion, build_optimizer(config, network, device), frozen)


def _shared(network: nn.Module, device: torch.device) -> DistributedDataParallel:
    """The network over all processes.

    DDP warns of a gradient whose strides are not its weight's. Autograd sees to it that they differ only in dimensions
    of size 1, where a stride means nothing.
    """
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    return DistributedDataParallel(network, device_ids=[device] if device.type == "cuda" else None)


def build_network(config: Config, data: Data, device: torch.device, weights: str | None = None) -> nn.Module:
    """The network that the config names, for this data, from ``weights`` where there are some."""
    layout = layout_of(config, next(iter(data.feeders.values())))
    network = make_network(config, data.sample_shape, len(data.class_names), layout)
    network = network.to(device, DTYPES[config.precision])
    loader = data.loaders["test"]
    x = torch.zeros(2, *data.sample_shape, device=loader.device, dtype=loader.dtype)
    check_logits(config, network, x, len(data.class_names))
    if config.compile:
        mode = None if config.compile is True else config.compile
        network.compile(mode=mode, dynamic=False)  # in place, at its first calls: names stay, DDP calls it too
        log.info("the network is compiled at its first step and first evaluation: minutes; --phase info tells")
    if weights is not None:
        new = config.new_classifier and config.phase != "test"  # what is tested has been trained
        if new:
            _checked(config, "new_classifier", classifier_of, network)
        load_weights(network, weights_file(weights), config.ignore_weights, CLASSIFIER if new else None)
    return network


def build_mixer(
    config: Config, data: Data, device: torch.device, state: Mapping[str, Any] | None = None, source: object = ""
) -> Mixer | None:
    """What mixes a batch, or None; in the state that the checkpoint ``source`` has, where there is one."""
    if config.mixing not in MIXERS:
        return None
    choice = MIXERS[config.mixing]
    args: dict[str, Any] = {"class_counts": data.class_counts, "seed": config.seed, **choice.sets}
    args |= {key: getattr(config, key) for key in choice.reads}
    if "layout" in parameters(choice.make):
        args["layout"] = layout_of(config, data.feeders["train"])
        if args["layout"] is None:
            raise ConfigError(f"{config.config}: layout is missing: mixing by body parts needs to know the skeleton")
    if config.partner == "tail_over_head" and "tail_over_head" not in parameters(choice.make):
        raise ConfigError(f"{config.config}: partner: tail_over_head needs mixing by body parts, not {config.mixing}")
    feeder = data.feeders["train"]
    if isinstance(feeder, StoreFeeder) and "dims" in parameters(choice.make):
        args |= {"dims": feeder.coordinates, "tail_over_head": config.partner == "tail_over_head"}
        if config.mixing_args.get("same_facing"):
            args["up"] = feeder.vertical
        if config.mixing_args.get("body") == "bones" and config.mix_stage == "input" and feeder.stream != "joint":
            raise ConfigError(f"{config.config}: mixing_args.body bones needs joint positions; set mix_stage: joints")
    if "baseline" in args:
        loader, published = data.loaders["train"], config.baseline == "published"
        with restoring(source):
            known = None if state is None else state["baseline"]
        args["baseline"] = mean_sequence(loader, config.test_batch_size, published) if known is None else known
    try:
        mixer: Mixer = choice.make(**{**args, **config.mixing_args})
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{config.config}: mixing_args: {error}") from error
    mixer = mixer.to(device, DTYPES[config.precision])
    if state is not None:
        with restoring(source):
            mixer.load_state_dict(state)
    elif config.dist_weights is not None and config.weights is not None:
        read_table(Path(config.dist_weights), mixer)
    return mixer


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


def _second_stage(config: Config, network: nn.Module) -> list[nn.Module]:
    """Changes a first stage's network into what the second one trains; the modules that stay in evaluation mode."""
    if config.second_stage not in SECOND_STAGES:
        return []
    torch.manual_seed(derive_seed(config.seed, "classifier"))
    make = partial(SECOND_STAGES[config.second_stage].make, **config.second_stage_args)
    return _checked(config, "second_stage_args", make, network)


def _checked(config: Config, key: str, take: Callable[..., Any], *args: Any) -> Any:
    """What ``take`` returns; its ValueError becomes one that names the key."""
    try:
        return take(*args)
    except ValueError as error:
        raise ConfigError(f"{config.config}: {key}: {error}") from error


def build_criterion(config: Config, class_counts: Sequence[float], network: nn.Module) -> LongTailedLoss:
    """The loss of a training batch; LDAM's margins are checked against the network's classifier."""
    choice = LOSSES[config.loss]
    args = {**choice.sets, **{key: getattr(config, key) for key in choice.reads}}
    try:
        criterion = choice.make(class_counts, **args, **config.loss_args)
    except ValueError as error:
        raise ConfigError(f"{config.config}: loss_args: {error}") from error
    if isinstance(criterion, LDAMLoss):
        scales = {module.scale for module in network.modules() if isinstance(module, CosineClassifier)}
        if not scales:
            log.warning("ldam has the margins of a cosine classifier, which this network lacks: model_args.classifier")
        elif scales != {criterion.scale}:
            raise ConfigError(
                f"{config.config}: loss_args.scale is {criterion.scale}, but that of the cosine classifier is "
                f"{', '.join(map(str, scales))}"
            )
    return criterion


def build_optimizer(config: Config, network: nn.Module, device: torch.device) -> torch.optim.Optimizer:
    """SGD, Adam or AdamW over what is trained of a network."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    fused = True if device.type == "cuda" else None  # all weights in one kernel; None: torch's choice
    if config.optimizer != "SGD":
        adaptive = torch.optim.AdamW if config.optimizer == "AdamW" else torch.optim.Adam
        return adaptive(trained, config.base_lr, weight_decay=config.weight_decay, fused=fused)
    return torch.optim.SGD(
        trained,
        config.base_lr,
        config.momentum,
        weight_decay=config.weight_decay,
        nesterov=config.nesterov and config.momentum > 0,
        fused=fused,
    )
