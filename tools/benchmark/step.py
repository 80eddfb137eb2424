"""A training step of Shap-Mix, and of cross-entropy alone, ours beside plain: float32, bf16, compiled.

A step of Shap-Mix estimates contributions, mixes, passes clean and mixed samples forward and backward, and updates the
weights. The plain step has the plain network and mixes one sample after another. Samples are of NTU's shape
(3, 64, 25, 2), 60 classes, long-tailed. Multiply-adds are those of the plain network; a backward pass counts as two
forward passes: 8 forward units a sample for Shap-Mix, 3 for cross-entropy.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from feeders.loader import Batch
from processor.build import build, load_data
from processor.config import Config
from processor.engine import Trainer
from processor.info import forward_units
from processor.processor import make_trainer
from shapmix import ShapMix
from shapmix.draws import generator

from .measure import Rows, Variant, compare, device_peak
from .mixing import CLASSES, SHAPE, PlainShapMix
from .network import DEFAULTS as NETWORK_DEFAULTS
from .network import data, plain_cost, stir

DEFAULTS = NETWORK_DEFAULTS
METHODS = {"Shap-Mix": "shap_mix", "cross-entropy": "none"}
GUIDED: dict[str, Any] = {"naive_mix_epoch": 0, "naive_estimate_epoch": 0}
PRECISIONS = {"float32": "fp32", "bf16": "bf16", "float64": "fp64"}


class MadeUp(Dataset):
    """A long-tailed set, of which only the class counts and the mean are used: all steps get the same batch."""

    def __init__(self) -> None:
        self.labels = torch.cat([torch.arange(CLASSES), torch.arange(CLASSES) % 10])
        self.x = torch.randn(len(self.labels), *SHAPE, generator=generator(0, "benchmark", "set"))

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, row: int) -> tuple[Tensor, int, int]:
        return self.x[row], int(self.labels[row]), row


def trainer_of(
    options: argparse.Namespace, mixing: str, precision: str, plain: bool, compiled: bool = False
) -> Trainer:
    """The training step of a run, with guided mixing from the first step on and always the same weights."""
    keys: dict[str, Any] = {
        "feeder": f"{__name__}.{MadeUp.__name__}",
        "plugins": ["tools"],
        "layout": "ntu25",
        "model_args": {"num_class": CLASSES, "base_channel": options.width, "fused": not plain},
        "device": options.device,
        "compile": compiled,
        "mixing": mixing,
        "precision": PRECISIONS[precision],
        "base_lr": 1e-4,  # the made-up labels have nothing to learn, and the weights should stay finite
        "warm_up_epoch": 0,
        "batch_size": options.batch,
        **GUIDED,
    }
    config = Config(**keys)
    device = torch.device(options.device)
    loaded = load_data(config, device, ("train", "test"))
    parts = build(config, loaded, device)
    stir(parts.network)
    trainer = make_trainer(config, loaded, parts, device)
    trainer.start_epoch()
    if plain and isinstance(parts.mixer, ShapMix):
        mixer = PlainShapMix("ntu25", loaded.class_counts, parts.mixer.baseline, seed=config.seed, **GUIDED)
        trainer.mixer = mixer.to(parts.mixer.baseline)
    return trainer


def batch_of(options: argparse.Namespace, dtype: torch.dtype = torch.float32) -> Batch:
    """The batch of all steps."""
    x, y = data(options)
    return Batch(x.to(dtype), y, torch.arange(len(x)))


def check(options: argparse.Namespace) -> None:
    """AssertionError where two steps do not give the plain ones' losses, weights and table (float64)."""
    few = argparse.Namespace(**{**vars(options), "batch": min(options.batch, 4)})
    batch = batch_of(few, torch.float64)
    for mixing in METHODS.values():
        plain, ours = (trainer_of(few, mixing, "float64", plain) for plain in (True, False))
        for step in range(2):
            losses = [trainer.step(batch, 0, step) for trainer in (ours, plain)]
            torch.testing.assert_close(*losses, rtol=1e-6, atol=1e-6)
        for weight, other in zip(ours.model.parameters(), plain.model.parameters(), strict=True):
            torch.testing.assert_close(weight, other, rtol=1e-6, atol=1e-8)
        if isinstance(ours.mixer, ShapMix) and isinstance(plain.mixer, ShapMix):
            torch.testing.assert_close(ours.mixer.saliency.table, plain.mixer.saliency.table, rtol=1e-6, atol=1e-9)


def variants(options: argparse.Namespace, mixing: str) -> dict[str, Variant]:
    """The steps of one method."""
    batch = batch_of(options)

    def variant(precision: str, plain: bool, compiled: bool = False) -> Variant:
        trainer = trainer_of(options, mixing, precision, plain, compiled)
        cost = forward_units(trainer) * options.batch * plain_cost(options.width)
        return Variant(lambda repeat: trainer.step(batch, 0, repeat), options.batch, cost, precision)

    found = {"plain float32": variant("float32", plain=True)}
    for precision in ("float32", "bf16"):
        found[f"ours {precision}"] = variant(precision, plain=False)
        if options.compile:
            found[f"ours compiled {precision}"] = variant(precision, plain=False, compiled=True)
    return found


def measure(options: argparse.Namespace) -> dict[str, Rows]:
    """The device's peak, and the steps of each method."""
    check(options)
    peak = device_peak(options.device)
    steps = {method: compare(variants(options, mixing), options, peak) for method, mixing in METHODS.items()}
    return {"measured peak": peak, **steps}
