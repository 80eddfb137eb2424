"""Epochs of Shap-Mix with evaluation through the Processor, over a made-up set of the size of NTU60-LT.

The training set has as many sequences as the long-tailed one, in equal numbers of each class. The first epoch is
warm-up and reported on its own. "Waiting" is the share of training in which no step was under way: on the CPU, host
time outside of Trainer.step (the next batch, the loop's own figures); on CUDA, time between the end of a step on the
device and the start of the next one, by CUDA events (the device has nothing to do, or prepares the batch). Pauses
within a step are not seen.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import yaml

from processor.config import load_config
from processor.engine import Scores
from processor.processor import Processor, Split
from processor.run_folder import MetricsLog

from . import feeder
from .measure import Figures, choose, synchronise
from .measure import table as lines
from .step import PRECISIONS

SIZE, EPOCHS, EVAL_INTERVAL = "ntu60_lt", 100, 5  # of the published set, and of its configs
FEW = 256  # sequences, on the CPU
COLUMNS = {
    "train_s": ("training s", 1, ".1f"),
    "train_samples_per_s": ("samples/s", 1, ".1f"),
    "waiting": ("waiting %", 100, ".1f"),
    "test_s": ("evaluation s", 1, ".1f"),
    "test_samples_per_s": ("samples/s", 1, ".1f"),
    "other_s": ("other s", 1, ".1f"),
    "peak_mb": ("peak MB", 1, ".0f"),
}


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of ``python -m tools.benchmark epoch``."""
    command.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1")
    command.add_argument("--folder", type=Path, default=Path("work_dir/cache/benchmark"), help="for the made-up set")
    command.add_argument("--sequences", type=int, help=f"for training and for testing; all on a GPU, {FEW} on the CPU")
    command.add_argument("--epochs", type=int, default=2, help="the first is warm-up")
    command.add_argument("--width", type=int, default=64, help="of CTR-GCN's first block")
    command.add_argument("--batch", type=int, help="samples; by default 16 on the CPU, 64 on a GPU")
    command.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    command.add_argument("--compile", action="store_true", help="through torch.compile")


def made_up(sequences: int | None) -> str:
    """The name in feeder.SIZES of a set with fewer sequences; None: the whole one."""
    if sequences is None:
        return SIZE
    protocol, train, test = feeder.SIZES[SIZE]
    name = f"{SIZE}_{sequences}"
    feeder.SIZES[name] = protocol, min(train, sequences), min(test, sequences)
    return name


class Clock:
    """How long the steps of an epoch take on the device, and when the last one is done."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.begun = self.ended = perf_counter()
        self.busy = 0.0
        self.events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def step(self, call: Any, last: bool, *arguments: Any) -> Any:
        """Calls a step."""
        if self.device.type == "cuda":
            events = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            events[0].record()
            found = call(*arguments)
            events[1].record()
            self.events.append(events)
        else:
            begun = perf_counter()
            found = call(*arguments)
            self.busy += perf_counter() - begun
        if last:
            synchronise(self.device)
            self.ended = perf_counter()
            self.busy += sum(first.elapsed_time(second) for first, second in self.events) / 1e3
        return found


class TimedProcessor(Processor):
    """A run that writes down its durations: ``epochs`` has one entry for each."""

    epochs: list[dict[str, float]]

    def build_training(self, mixer_state: dict[str, Any] | None) -> None:
        super().build_training(mixer_state)
        self.epochs = []
        steps, call = self.loaders["train"].steps, self.trainer.step
        self.trainer.step = (  # type: ignore[method-assign]
            lambda batch, epoch, step: self.clock.step(call, step + 1 == steps, batch, epoch, step)
        )

    def run_epoch(self, metrics: MetricsLog | None) -> None:
        cuda = self.device.type == "cuda"
        if cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
        self.clock, self.test_s, loader = Clock(self.device), 0.0, self.loaders["train"]
        super().run_epoch(metrics)
        synchronise(self.device)
        whole, train_s = perf_counter() - self.clock.begun, self.clock.ended - self.clock.begun
        entry = {
            "train_s": train_s,
            "train_samples_per_s": loader.steps * loader.batch_size / train_s,
            "waiting": max(0.0, 1 - self.clock.busy / train_s),
            "test_s": self.test_s,
            "test_samples_per_s": len(self.loaders["test"].ids) / self.test_s,
            "other_s": whole - train_s - self.test_s,
        }
        if cuda:
            entry["peak_mb"] = torch.cuda.max_memory_allocated(self.device) / 2**20
        self.epochs.append(entry)

    def evaluate(self, split: Split) -> Scores:
        synchronise(self.device)
        begun = perf_counter()
        scores = super().evaluate(split)
        self.test_s += perf_counter() - begun
        return scores


def measure(options: argparse.Namespace) -> Figures:
    """Figures of each epoch, and what a whole training would take.

    Raises:
        ValueError: a run that did not end well.
    """
    device = choose(options)
    if options.sequences is None and device.type == "cpu":
        options.sequences = FEW
    torch.compiler.reset()
    path = feeder.make(argparse.Namespace(folder=options.folder, size=made_up(options.sequences)))
    with tempfile.TemporaryDirectory() as folder:
        keys = {
            "feeder": "feeders.feeder_ntu.Feeder",
            "feeder_args": {"data_path": os.fspath(path.absolute())},
            "train_feeder_args": {"p_interval": [0.5, 1], "random_rot": True},
            "test_feeder_args": {"p_interval": [0.95]},
            "model_args": {"base_channel": options.width},
            "work_dir": os.fspath(Path(folder) / "run"),
            "device": device.type,
            "precision": PRECISIONS[options.precision],
            "batch_size": options.batch,
            "test_batch_size": options.batch,
            "num_epoch": options.epochs,
            "naive_mix_epoch": 0,
            "naive_estimate_epoch": 0,
            "print_log": False,
        }
        if options.compile:
            keys["compile"] = True
        file = Path(folder) / "run.yaml"
        file.write_text(yaml.safe_dump(keys), encoding="utf-8")
        begun = perf_counter()
        processor = TimedProcessor(load_config(str(file)))
        code = processor.start()
        whole = perf_counter() - begun
    if code:
        raise ValueError(f"the run ended with {code}")
    names = ["epoch 0, warm-up", *(f"epoch {number}" for number in range(1, options.epochs))]
    figures: Figures = {"epochs": dict(zip(names, processor.epochs, strict=True)), "whole_run_s": whole}
    settled = processor.epochs[-1]
    _, train, test = feeder.SIZES[SIZE]
    passes = train / settled["train_samples_per_s"], test / settled["test_samples_per_s"]
    figures["estimate_h"] = (EPOCHS * passes[0] + EPOCHS / EVAL_INTERVAL * passes[1]) / 3600
    return figures


def table(figures: Figures, options: argparse.Namespace) -> str:
    """One line for each epoch, and the estimate."""
    _, train, test = feeder.SIZES[SIZE]
    return (
        f"{lines(figures['epochs'], COLUMNS, 'Shap-Mix')}\n"
        f"other: checkpoints, metrics; the whole run with start and baseline {figures['whole_run_s']:.1f} s\n"
        f"{EPOCHS} epochs of NTU60-LT ({train} sequences, evaluation of {test} every {EVAL_INTERVAL} epochs) at the "
        f"last epoch's rates: {figures['estimate_h']:.2f} h"
    )
