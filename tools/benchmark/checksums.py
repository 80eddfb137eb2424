"""What checksums cost: in a save of a checkpoint, and where a sequence of a store is read for the first time.

The checkpoint is that of a run of CTR-GCN with AdamW (weights and two moments), in memory until it is written, so that
what is timed is the archive, its CRC-32 and the disk.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from torch.serialization import set_crc32_options

from feeders.store import SkeletonStore
from processor.checkpoint import save_checkpoint

from . import made_up
from .feeder import FOLDER
from .measure import Rows, Variant, compare
from .network import weights

DEFAULTS = {"width": 64, "sequences": 512, "repeats": 20, "folder": FOLDER}


def measure(options: argparse.Namespace) -> dict[str, Rows]:
    """Saves with and without CRC-32, and the first and later reads of all sequences of a store."""
    options.device = "cpu"
    return saves(options) | reads(options)


def saves(options: argparse.Namespace) -> dict[str, Rows]:
    """A sample is a checkpoint."""
    values = weights(options.width)
    state = {part: {name: value.clone() for name, value in values.items()} for part in ("model", "mean", "square")}
    file = options.folder / f"checkpoint_{options.width}.pt"

    def save(checksums: bool) -> None:
        set_crc32_options(checksums)
        try:
            save_checkpoint(file, state)
        finally:
            set_crc32_options(True)

    variants = {"without CRC-32": lambda _: save(False), "with CRC-32": lambda _: save(True)}
    rows = compare({name: Variant(run, 1) for name, run in variants.items()}, options)
    return {f"save of {file.stat().st_size / 1e6:.0f} MB": rows}


def reads(options: argparse.Namespace) -> dict[str, Rows]:
    """A sample is a sequence; they are read in batches, as a training run reads them."""
    path = made_up.store(options.folder, options.sequences)
    batches = torch.arange(options.sequences).split(64)

    def read(store: SkeletonStore) -> None:
        for rows in batches:
            lengths = store.lengths[rows.numpy()]
            store.pieces(rows.numpy(), np.linspace(0, lengths - 1, 64, axis=1).astype(int))

    known = SkeletonStore(path)
    variants = {"later reads": lambda _: read(known), "first reads": lambda _: read(SkeletonStore(path))}
    rows = compare({name: Variant(run, options.sequences) for name, run in variants.items()}, options)
    return {f"store of {(path / 'frames.npy').stat().st_size / 1e6:.0f} MB": rows}
