"""The network that a config names: what the data knows is filled in, and what it returns is looked at.

Shapes: N batch, C coordinates, T frames, V joints, M people, K classes.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn

from shapmix import SkeletonLayout
from shapmix.draws import derive_seed

from .config import Config
from .config_files import import_class, parameters
from .errors import ConfigError, shown
from .user_code import UserCodeError, described, place_of

log = logging.getLogger(__name__)
Shape = tuple[int, int, int, int]  # of a sample: (C, T, V, M)


def layout_of(config: Config, feeder: Any) -> SkeletonLayout | None:
    """The skeleton layout: the feeder's, or what the config says of a user's Dataset; None where neither knows it.

    Raises:
        ConfigError: the config names another layout than the feeder has.
    """
    own = getattr(feeder, "layout", None)
    layout = own or config.layout or config.model_args.get("layout")
    if layout is None:
        return None
    skeleton = SkeletonLayout.get(layout)
    if own and config.layout is not None and SkeletonLayout.get(config.layout) != skeleton:
        raise ConfigError(f"{config.config}: layout: {config.feeder} has its own, {skeleton.name!r}; leave layout out")
    return skeleton


def make_network(config: Config, shape: Shape, num_class: int, layout: SkeletonLayout | None) -> nn.Module:
    """The network of a config, on the CPU in float32.

    What its constructor takes of ``num_class``, ``layout``, ``in_channels`` (C), ``num_frame`` (T), ``num_point`` (V)
    and ``num_person`` (M) is filled in from the data.

    Raises:
        ConfigError: the config says otherwise than the data, or gives arguments that the network does not take.
    """
    channels, frames, joints, people = shape
    model = import_class(config.model, config.plugins)
    takes = parameters(model)
    known: dict[str, Any] = {"num_class": num_class, "in_channels": channels, "num_frame": frames}
    known |= {"num_point": joints, "num_person": people}
    default = takes["layout"].default if "layout" in takes else None
    if layout is None and isinstance(default, (str, SkeletonLayout)):
        layout = SkeletonLayout.get(default)
    if layout is not None:
        known["layout"] = layout
        if layout.num_joints != joints:
            raise ConfigError(
                f"{config.config}: layout {layout.name!r} has {layout.num_joints} joints, but samples (C, T, V, M) of "
                f"{config.feeder} are {shape}, which is {joints}; set layout to that of your joints (docs/data.md)"
            )
    args = {name: value for name, value in known.items() if name in takes}
    for name, value in config.model_args.items():
        given = SkeletonLayout.get(value) if name == "layout" else value
        if name in known and given != known[name]:
            raise ConfigError(
                f"{config.config}: model_args.{name} is {shown(value)}, but the data has {shown(known[name])}; "
                "leave it out"
            )
        args[name] = given
    torch.manual_seed(derive_seed(config.seed, "network"))
    try:
        network: nn.Module = model(**args)
    except TypeError as error:
        if place_of(error):
            raise
        raise ConfigError(f"{config.config}: model_args of {config.model}: {error}") from error
    if not isinstance(network, nn.Module):
        raise ConfigError(f"{config.config}: {config.model} is no torch.nn.Module")
    return network


def check_logits(config: Config, network: nn.Module, x: Tensor, num_class: int) -> None:
    """Looks at what the network returns for two samples x (2, C, T, V, M) in evaluation mode; it must be (2, K).

    Of several values the first one is taken, now and at every call.

    Raises:
        UserCodeError: it cannot take samples of this shape.
        ConfigError: it returns something else.
    """
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            output = network(x)
    except Exception as error:
        raise UserCodeError(
            f"{config.config}: {config.model} fails on x (N, C, T, V, M) of shape {tuple(x.shape)}: {described(error)}"
        ) from error
    network.train(training)
    first = _first(None, None, output)
    found = tuple(first.shape) if isinstance(first, Tensor) else type(first).__name__
    if found != (2, num_class):
        classes = found[1] if isinstance(found, tuple) and len(found) == 2 and found[0] == 2 else None
        raise ConfigError(
            f"{config.config}: {config.model} must return logits (N, K), (2, {num_class}) for two samples; it returned "
            + (f"scores of {classes} classes, but the data has {num_class}" if classes else f"{found}")
        )
    if first is not output:
        log.info("%s returns %d values; the first, (N, K), is taken as the logits", config.model, len(output))
        network.register_forward_hook(_first)


def _first(network: Any, inputs: Any, output: Any) -> Any:
    return output[0] if isinstance(output, (tuple, list)) and output else output
