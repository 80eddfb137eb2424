"""A feeder on a made-up set, beside a Dataset that loads sample by sample: start, memory, samples a second.

``--kind ntu`` is the feeder of NTU on CTR-GCN's .npz file, ``--kind pose`` that of 2D poses on a prepared store,
``--kind store`` that of one's own skeletons, beside NTU's view of the same store. Each variant runs in a process of its
own. ``ready`` is the time until the first batch can be asked for, ``own`` the private
memory that the variant adds, ``shared`` what it maps from files (Linux).
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import count, islice
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from feeders import feeder_ntu, feeder_pose, feeder_store
from feeders.crop import CropFeeder
from feeders.feeder import StoreFeeder
from feeders.loader import StoreLoader
from feeders.store import SkeletonStore

from . import made_up
from .measure import Row, Rows

FOLDER, NTU60_LT = Path("work_dir/cache/benchmark"), 7892  # sequences
DEFAULTS = {"kind": "ntu", "sequences": NTU60_LT, "batch": 64, "batches": 200, "workers": 2, "folder": FOLDER}
STATUS = Path("/proc/self/status")


def ntu_view(path: str) -> StoreFeeder:
    """A prepared store as NTU's feeder shows it: nothing is centred, nobody comes or goes."""
    store = SkeletonStore(Path(path))
    names, rows = store.meta["class_names"], np.arange(len(store))
    return CropFeeder(store, rows, feeder_ntu.LAYOUT, names, "train", training=True, random_rot=True)


KINDS: dict[str, tuple[Callable[[Path, int], Path], Any, Callable[[str], StoreFeeder]]] = {  # set, plain, ours
    "ntu": (made_up.ntu, made_up.PlainNTU, partial(feeder_ntu.Feeder, protocol="ntu60_xsub", random_rot=True)),
    "pose": (made_up.pose, made_up.PlainPose, feeder_pose.Feeder),
    "store": (made_up.store, made_up.PlainStore, partial(feeder_store.Feeder, min_crop=64)),
}


def plain_batches(path: Path, options: argparse.Namespace) -> Iterator[Any]:
    """Shuffled batches of the plain Dataset through torch's DataLoader, whose processes share its memory."""
    workers: dict[str, Any] = {"num_workers": options.workers}
    if options.workers:
        workers |= {"multiprocessing_context": "fork", "persistent_workers": True}
    _, plain, _ = KINDS[options.kind]
    loader: DataLoader[Any] = DataLoader(plain(path), options.batch, shuffle=True, drop_last=True, **workers)
    return (batch for _ in count() for batch in loader)


def our_batches(
    path: Path, options: argparse.Namespace, resident: bool = False, make: Callable[[str], StoreFeeder] | None = None
) -> Iterator[Any]:
    """Training batches of our feeder, which packs an .npz file where it has not yet.

    Args:
        make: another feeder than that of the kind.
        resident: with the frames in memory (``device_resident: true``), as the plain one has them.
    """
    feeder = (make or KINDS[options.kind][-1])(str(path))
    if resident:
        feeder.make_resident(torch.device("cpu"))
    loader = StoreLoader(feeder, options.batch, 0, torch.device("cpu"))
    return (batch for epoch in count() for batch in loader.shuffled(epoch))


def check(path: Path, options: argparse.Namespace) -> None:
    """AssertionError where plain and ours do not deliver the same for the same random numbers."""
    _, make_plain, make_ours = KINDS[options.kind]
    plain, ours = make_plain(path), make_ours(str(path))
    draws, rows = ours.draw(8, torch.Generator().manual_seed(0)), np.linspace(0, len(ours) - 1, 8).astype(int)
    expected = torch.stack([plain.drawn(int(row), draws, place) for place, row in enumerate(rows)])
    torch.testing.assert_close(ours.batch(rows, draws=draws), expected, rtol=0, atol=1e-4)


def in_new_process(function: Callable[..., Any], *arguments: object) -> Any:
    """What a function of a module returns, called in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def run(start: Callable[[Path, argparse.Namespace], Iterator[Any]], path: Path, options: argparse.Namespace) -> Row:
    """One variant, in this process."""
    torch.set_num_threads(options.threads)
    torch.empty(7 * 2**20)  # 28 MB, given back: as after a training step, the C library then keeps what is freed
    before, begun = memory(), perf_counter()
    batches = start(path, options)
    ready = perf_counter() - begun
    next(batches)
    begun = perf_counter()
    delivered = sum(1 for _ in islice(batches, options.batches))
    rate = delivered * options.batch / (perf_counter() - begun)
    added = {name: value - before[name] for name, value in memory().items()}
    return {"ready_s": ready, "samples_per_s": rate} | added


def memory() -> dict[str, float]:
    """Megabytes in memory that are this process's own, and mapped from files; NaN where there is no Linux /proc."""
    keys = {"own_mb": "RssAnon", "shared_mb": "RssFile"}
    if not STATUS.is_file():
        return dict.fromkeys(keys, float("nan"))
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return {name: int(lines[key].split()[0]) / 1024 for name, key in keys.items()}


def measure(options: argparse.Namespace) -> dict[str, Rows]:
    """The variants; an .npz file is packed at our first start."""
    make, _, _ = KINDS[options.kind]
    path = in_new_process(make, options.folder, options.sequences)
    in_new_process(check, path, options)
    variants: dict[str, Callable] = {"sample by sample": plain_batches}
    if path.suffix == ".npz":
        variants["ours, first start"] = our_batches
        for packed in path.parent.glob(f"{path.stem}.store-*"):
            shutil.rmtree(packed)
    variants |= {"ours": our_batches, "ours, frames in memory": partial(our_batches, resident=True)}
    if options.kind == "store":
        variants["NTU's view"] = partial(our_batches, make=ntu_view)
    rows = {name: in_new_process(run, start, path, options) for name, start in variants.items()}
    for row in rows.values():
        row["ratio"] = row["samples_per_s"] / rows["sample by sample"]["samples_per_s"]
    return {f"{options.kind} feeder": rows}
