"""Every network as an ONNX file: torch and onnxruntime side by side, for one sample and for a batch.

Sequences are of NTU's shape: T = 64 frames of 25 joints and 2 people, 60 classes. The file takes whole sequences of
100 frames; torch is given what the network takes, so that both numbers are of the network, and the file's are of a
little more. Each network is exported, and so compared with torch, in one of the four streams; ``--streams`` exports
each in all of them.
"""

from __future__ import annotations

import argparse
from functools import partial
from importlib import import_module
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn

from feeders.feeder_ntu import Feeder
from feeders.store import Sample, SkeletonStore
from feeders.transforms import STREAMS
from processor.card import Card
from processor.export import export_onnx, open_session
from shapmix import SkeletonLayout
from shapmix.draws import generator

from .measure import Rows, Variant, compare
from .mixing import CLASSES, SHAPE
from .network import stir

DEFAULTS = {"device": "cpu", "width": 64, "batch": (64, 64), "repeats": (5, 20), "streams": False}
NETWORKS = ("ctrgcn", "stgcn", "stgcnpp", "aagcn")
LENGTH = 100  # frames of a sequence


def view_of(stream: str, number: int) -> Feeder:
    """NTU's feeder over ``number`` made-up sequences."""
    rng = np.random.default_rng(0)
    samples = [
        Sample(str(row), 0, rng.normal(size=(LENGTH, SHAPE[3], SHAPE[2], 3)).astype(np.float32))
        for row in range(number)
    ]
    state: dict[str, Any] = {
        "layout": "ntu25",
        "coordinates": 3,
        "stream": stream,
        "window_size": SHAPE[1],
        "num_person": SHAPE[3],
    }
    state |= {"num_joints": SHAPE[2], "in_channels": 3, "test_share": 0.95, "normalization": False}
    state |= {"copies_actor": False, "statistics": None}
    return Feeder.from_view(state, SkeletonStore.of(samples))


def network_of(name: str, width: int) -> nn.Module:
    """In evaluation mode, with weights that leave no part without effect and logits of the size of 1."""
    network = import_module(f"model.{name}").Model(CLASSES, "ntu25", SHAPE[3], base_channel=width).eval()
    stir(network)
    x = torch.randn(4, *SHAPE, generator=generator(0, "benchmark", "data"))
    with torch.no_grad():
        for module in network.modules():  # each norm has the statistics of a batch, or signals would grow or vanish
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.train().momentum = 1.0
        network(x)
    return network.eval()


def file_of(network: nn.Module, stream: str, folder: Path) -> bytes:
    """The network's ONNX file; ExportError where it does not agree with torch."""
    view = view_of(stream, 1)
    card = Card(
        {"feeder": f"{Feeder.__module__}.{Feeder.__qualname__}"}, SHAPE, 3, [str(k) for k in range(CLASSES)],
        [1] * CLASSES, SkeletonLayout.get("ntu25").plain(), view.view_state(),
    )  # fmt: skip
    export_onnx(folder / "network.onnx", card, network)
    return (folder / "network.onnx").read_bytes()


@torch.no_grad()
def call(network: nn.Module, x: torch.Tensor, _: int) -> None:
    """A forward pass."""
    network(x)


def measure(options: argparse.Namespace) -> dict[str, Rows]:
    """For one sample and for a batch: torch and onnxruntime of every network."""
    if options.device != "cpu":
        raise ValueError("onnxruntime is measured on the CPU")
    tables: dict[str, Rows] = {}
    with TemporaryDirectory() as folder:
        for (number, name), stream in product(enumerate(NETWORKS), STREAMS):
            if not options.streams and stream != STREAMS[number]:
                continue
            network = network_of(name, options.width)
            content = file_of(network, stream, Path(folder))
            if stream != STREAMS[number]:
                continue
            session = open_session(content, options.threads)
            for size in (1, options.batch):
                view, rows = view_of(stream, size), np.arange(size)
                given = {key: value.numpy() for key, value in vars(view.whole(rows)).items() if value is not None}
                variants = {
                    f"{name} torch": Variant(partial(call, network, view.batch(rows)), size),
                    f"{name} onnxruntime": Variant(lambda _, s=session, g=given: s.run(None, g), size),  # type: ignore[misc]
                }
                tables.setdefault(f"batch of {size}", {}).update(compare(variants, options))
    return tables
