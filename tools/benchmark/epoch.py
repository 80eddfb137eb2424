"""Runs of Shap-Mix on a made-up set of NTU's form: samples a second of the last epoch, as the run records them.

An epoch's rate includes loading and the reading of losses. The whole run also has its start, the baseline, evaluation
and checkpoints.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from processor.config import Config
from processor.processor import Processor
from processor.run_folder import RunFolder

from . import made_up
from .feeder import FOLDER, NTU60_LT
from .measure import Rows

EPOCHS = 100  # of the published recipe
DEFAULTS = {"device": "cpu", "width": 64, "batch": (16, 64), "sequences": (128, NTU60_LT), "epochs": 2}
DEFAULTS |= {"compile": False, "folder": FOLDER}
PLAIN, OURS = "plain float32", "ours float32"


def config_of(options: argparse.Namespace, data: Path, **changes: Any) -> Config:
    """A run of Shap-Mix on an .npz file of NTU's form, guided from the first step on."""
    keys: dict[str, Any] = {
        "feeder": "feeders.feeder_ntu.Feeder",
        "feeder_args": {"data_path": str(data.absolute()), "protocol": "ntu60_xsub"},
        "train_feeder_args": {"random_rot": True},
        "model_args": {"base_channel": options.width},
        "device": options.device,
        "batch_size": options.batch,
        "test_batch_size": options.batch,
        "naive_mix_epoch": 0,
        "naive_estimate_epoch": 0,
        "print_log": False,
    }
    return Config(**keys | changes)


def measure(options: argparse.Namespace) -> dict[str, Rows]:
    """A run of each variant; the hours are those of 100 epochs of NTU60-LT at the last epoch's rate.

    Raises:
        AssertionError: the losses of the first epoch are not those of the plain network.
    """
    data = made_up.ntu(options.folder, options.sequences)
    plain = {"base_channel": options.width, "fused": False}
    variants: dict[str, dict[str, Any]] = {PLAIN: {"model_args": plain}, OURS: {}, "ours bf16": {"precision": "bf16"}}
    if options.compile:
        variants["ours compiled bf16"] = {"precision": "bf16", "compile": True}
    rows: Rows = {}
    losses = {}
    for name, changes in variants.items():
        if options.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        with tempfile.TemporaryDirectory() as folder:
            length = {"num_epoch": options.epochs, "eval_interval": options.epochs}
            begun = perf_counter()
            if Processor(config_of(options, data, work_dir=folder, **length, **changes)).start():
                raise KeyboardInterrupt  # the run has caught it, saved and stopped
            lines = RunFolder(folder).read_metrics()
        rate, losses[name] = lines[-1]["samples_per_s"], lines[0]["train_loss"]
        rows[name] = {"whole_s": perf_counter() - begun, "samples_per_s": rate}
        rows[name] |= {"ratio": rate / rows[PLAIN]["samples_per_s"], "hours": EPOCHS * NTU60_LT / rate / 3600}
        if options.device == "cuda":
            rows[name]["peak_mb"] = torch.cuda.max_memory_allocated() / 2**20
    assert abs(losses[OURS] / losses[PLAIN] - 1) < 0.01, f"losses of the first epoch differ: {losses}"
    return {"epoch": rows}
