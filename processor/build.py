"""From the config to network, mixer, loss and optimiser."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from feeders.feeder import StoreFeeder
from model.classifier import CosineClassifier
from shapmix import LDAMLoss, LogitAdjustedLoss, Mixer, SkeletonLayout
from shapmix.draws import derive_seed
from shapmix.losses import LongTailedLoss

from .config import LOSSES, MIXERS, SECOND_STAGES, Config, ConfigError, import_class, parameters

log = logging.getLogger(__name__)


def build_network(
    config: Config, feeder: Any, num_class: int, device: torch.device, dtype: torch.dtype
) -> tuple[nn.Module, SkeletonLayout | None]:
    """The network, with what the feeder knows filled in, and the skeleton layout, where one is known."""
    model = import_class(config.model, config.plugins)
    known: dict[str, Any] = {"num_class": num_class}
    if isinstance(feeder, StoreFeeder):
        known |= {"layout": feeder.layout, "num_person": feeder.num_person, "in_channels": feeder.in_channels}
    elif config.layout is not None:
        known["layout"] = SkeletonLayout.get(config.layout)
    args = {name: value for name, value in known.items() if name in parameters(model)}
    for name, value in config.model_args.items():
        given = SkeletonLayout.get(value) if name == "layout" else value
        if name in known and given != known[name]:
            raise ConfigError(f"{config.config}: model_args.{name} is {value}, but the data has {known[name]}")
        args[name] = given
    torch.manual_seed(derive_seed(config.seed, "network"))
    try:
        network: nn.Module = model(**args).to(device, dtype)
    except TypeError as error:
        raise ConfigError(f"{config.config}: model_args of {config.model}: {error}") from error
    if config.compile:
        mode = None if config.compile is True else config.compile
        network.compile(mode=mode, dynamic=False)  # in place, at its first calls: names stay, DDP calls it too
        log.info("the network is compiled at its first step and first evaluation: minutes; --phase info tells")
    return network, known.get("layout") or args.get("layout")


def second_stage(config: Config, network: nn.Module) -> list[nn.Module]:
    """Changes a first stage's network into what the second one trains; the modules that stay in evaluation mode."""
    if config.second_stage == "none":
        return []
    torch.manual_seed(derive_seed(config.seed, "classifier"))
    try:
        return SECOND_STAGES[config.second_stage](network, **config.second_stage_args)
    except ValueError as error:
        raise ConfigError(f"{config.config}: second_stage_args: {error}") from error


def build_mixer(
    config: Config, layout: SkeletonLayout | None, class_counts: Sequence[int], baseline: Callable[[], Tensor]
) -> Mixer | None:
    """What mixes a batch, or none; ``baseline`` is called where contributions are to be estimated."""
    if config.mixing == "none":
        return None
    args: dict[str, Any] = {"class_counts": class_counts, "seed": config.seed}
    if config.mixing in ("shap_mix", "st_mix"):
        if layout is None:
            raise ConfigError(f"{config.config}: layout is missing: mixing by body parts needs to know the skeleton")
        guided = config.mixing == "shap_mix"
        args |= {"layout": layout, "guided": guided, "baseline": baseline() if guided else None}
        args |= {key: getattr(config, key) for key in ("naive_mix_epoch", "naive_estimate_epoch", "ema")}
    try:
        return MIXERS[config.mixing](**args, **config.mixing_args)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{config.config}: mixing_args: {error}") from error


def build_criterion(config: Config, class_counts: Sequence[int], network: nn.Module) -> LongTailedLoss:
    """The loss of a training batch; LDAM's margins are checked against the network's classifier."""
    if config.loss == "cross_entropy":
        return LogitAdjustedLoss(class_counts, 0.0)
    args = {"tau": config.tau} if config.loss == "logit_adjustment" else {}
    try:
        criterion = LOSSES[config.loss](class_counts, **args, **config.loss_args)
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
    """SGD or AdamW over what is trained of a network."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    fused = True if device.type == "cuda" else None  # all weights in one kernel; None: torch's choice
    if config.optimizer == "AdamW":
        return torch.optim.AdamW(trained, config.base_lr, weight_decay=config.weight_decay, fused=fused)
    return torch.optim.SGD(
        trained,
        config.base_lr,
        config.momentum,
        weight_decay=config.weight_decay,
        nesterov=config.nesterov and config.momentum > 0,
        fused=fused,
    )
