"""A training step of Shap-Mix, and of cross-entropy alone, ours beside plain: float32, bf16, compiled.

A step of Shap-Mix estimates contributions, mixes, passes clean and mixed samples forward and backward, and updates the
weights. The plain step has the plain network and mixes one sample after another. Samples are of NTU's shape
(3, 64, 25, 2), 60 classes. Multiply-adds are those of the plain network; a backward pass counts as two forward passes:
8 forward passes a sample for Shap-Mix, 3 for cross-entropy.
"""

from __future__ import annotations

import argparse

import torch

from feeders.loader import Batch
from processor.build import build
from processor.data import load_data
from processor.engine import Trainer
from processor.info import forward_units
from processor.training import make_trainer
from shapmix import ShapMix

from . import made_up, network
from .epoch import config_of
from .feeder import FOLDER
from .measure import Rows, Variant, compare, device_peak
from .mixing import PlainShapMix
from .network import plain_cost, stir

DEFAULTS = network.DEFAULTS | {"sequences": 512, "folder": FOLDER}
METHODS = {"Shap-Mix": "shap_mix", "cross-entropy": "none"}
PRECISIONS = {"float32": "fp32", "bf16": "bf16", "float64": "fp64"}


def trainer_of(
    options: argparse.Namespace, mixing: str, precision: str, plain: bool, compiled: bool = False
) -> tuple[Trainer, Batch]:
    """The training step of a run, always from the same weights, and a batch."""
    config = config_of(
        options,
        made_up.ntu(options.folder, options.sequences),
        model_args={"base_channel": options.width, "fused": not plain},
        mixing=mixing,
        precision=PRECISIONS[precision],
        compile=compiled,
        base_lr=1e-4,  # there is nothing to learn, and the weights should stay finite
        warm_up_epoch=0,
    )
    device = torch.device(options.device)
    data = load_data(config, device, ("train", "test"))
    parts = build(config, data, device)
    stir(parts.network)
    trainer = make_trainer(config, data, parts, device)
    trainer.start_epoch()
    if plain and isinstance(parts.mixer, ShapMix):
        args = {"naive_mix_epoch": 0, "naive_estimate_epoch": 0, "seed": config.seed}
        mixer = PlainShapMix("ntu25", data.class_counts, parts.mixer.baseline, **args)  # type: ignore[arg-type]
        trainer.mixer = mixer.to(parts.mixer.baseline)
    return trainer, next(data.loaders["train"].shuffled(0))


def check(options: argparse.Namespace) -> None:
    """AssertionError where two steps do not give the plain ones' losses, weights and table (float64)."""
    few = argparse.Namespace(**{**vars(options), "batch": min(options.batch, 4)})
    for mixing in METHODS.values():
        (plain, batch), (ours, _) = (trainer_of(few, mixing, "float64", plain) for plain in (True, False))
        for step in range(2):
            losses = [trainer.step(batch, 0, step) for trainer in (ours, plain)]
            torch.testing.assert_close(*losses, rtol=1e-6, atol=1e-6)
        for weight, other in zip(ours.model.parameters(), plain.model.parameters(), strict=True):
            torch.testing.assert_close(weight, other, rtol=1e-6, atol=1e-8)
        if isinstance(ours.mixer, ShapMix) and isinstance(plain.mixer, ShapMix):
            torch.testing.assert_close(ours.mixer.saliency.table, plain.mixer.saliency.table, rtol=1e-6, atol=1e-9)


def variants(options: argparse.Namespace, mixing: str) -> dict[str, Variant]:
    """The steps of one method."""

    def variant(precision: str, plain: bool, compiled: bool = False) -> Variant:
        trainer, batch = trainer_of(options, mixing, precision, plain, compiled)
        cost = forward_units(trainer) * options.batch * plain_cost(options.width)
        return Variant(lambda repeat: trainer.step(batch, 0, repeat), options.batch, cost, precision)

    found = {"plain float32": variant("float32", plain=True)}
    for precision in ("float32", "bf16"):
        found[f"ours {precision}"] = variant(precision, plain=False)
    if options.compile:
        found["ours compiled bf16"] = variant("bf16", plain=False, compiled=True)
    return found


def measure(options: argparse.Namespace) -> dict[str, Rows]:
    """The device's peak, and the steps of each method."""
    check(options)
    peak = device_peak(options.device)
    steps = {method: compare(variants(options, mixing), options, peak) for method, mixing in METHODS.items()}
    return {"measured peak": peak, **steps}
