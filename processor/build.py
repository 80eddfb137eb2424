"""From the config and data to network, mixer, loss and optimiser.

Shapes: C coordinates, T frames, V joints, M people, K classes.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from feeders.feeder import StoreFeeder
from model.classifier import CLASSIFIER, CosineClassifier, classifier_of, freeze_backbone
from shapmix import LDAMLoss, LogitAdjustedLoss, Mixer
from shapmix.distributed import world
from shapmix.draws import derive_seed
from shapmix.losses import LongTailedLoss

from .config import Config
from .config_files import parameters
from .data import DTYPES, Data, mean_sequence
from .errors import ConfigError
from .methods import LOSSES, MIXERS, SECOND_STAGES
from .network import check_logits, layout_of, make_network
from .parts import restoring
from .saliency_file import read_table
from .weights import load_weights
from .zoo import weights_file

log = logging.getLogger(__name__)


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
        _check_positions(config, feeder)
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


def _check_positions(config: Config, feeder: StoreFeeder) -> None:
    """ConfigError where the mixer needs joint positions, and gets something else from the feeder."""
    bones, present = config.mixing_args.get("body") == "bones", config.mixing_args.get("people") == "present"
    if bones and config.mix_stage == "input" and feeder.stream != "joint":
        raise ConfigError(f"{config.config}: mixing_args.body bones needs joint positions; set mix_stage: joints")
    if getattr(feeder, "normalization", False) and ((bones and config.mix_stage != "frames") or present):
        need = "people: present finds absent people by their zeros" if present else "body: bones needs joint positions"
        raise ConfigError(f"{config.config}: mixing_args.{need}; set feeder_args.normalization: false")


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
