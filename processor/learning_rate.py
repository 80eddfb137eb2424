"""The learning rate as a pure function of where training is (docs/method.md, "Training recipes")."""

from __future__ import annotations

from math import cos, pi

from .config import Config


def learning_rate(config: Config, epoch: int, step: int, steps: int) -> float:
    """Learning rate of step ``step`` (of ``steps``) in an epoch; epochs and steps count from 0.

    Warm-up: base_lr * (epoch + 1) / warm_up_epoch. Then ``step``: base_lr * lr_decay_rate for every entry of
    ``step`` that is reached; ``cosine``: by iteration, from base_lr to min_lr_ratio * base_lr.
    """
    if epoch < config.warm_up_epoch:
        return config.base_lr * (epoch + 1) / config.warm_up_epoch
    if config.schedule == "step":
        return config.base_lr * config.lr_decay_rate ** sum(epoch >= decay for decay in config.step)
    warm_up = config.warm_up_epoch * steps
    progress = (epoch * steps + step - warm_up) / max(1, config.num_epoch * steps - warm_up)
    low = config.min_lr_ratio
    return config.base_lr * (low + (1 - low) * 0.5 * (1 + cos(pi * progress)))
