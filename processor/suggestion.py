"""A config for a store: values that suit its size, its lengths and its classes, each with the reason.

They lie over ``config/own_data.yaml``. They are rules of thumb to start with; a sweep over a validation split, judged
with ``tools.table --split val``, finds better ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from feeders.convert.pyskl import is_training
from feeders.inspection import Inspection
from feeders.store import DataError

from .yaml_text import yaml_text

Machine = Literal["cpu", "cuda"]
LONG_TAIL = 3  # times as many sequences in the largest class as in the smallest
SHOWN = 500  # sequences that an epoch shows at least
STEPS = {"cpu": 2500, "cuda": 20_000}  # of a training
WIDTH = {"cpu": 16, "cuda": 64}
WINDOWS = {"cpu": 64, "cuda": 100}  # the longest


@dataclass(frozen=True)
class Choice:
    """A key of the config, dotted, its value and the reason."""

    key: str
    value: Any
    reason: str


def suggest(data: Inspection, machine: Machine) -> list[Choice]:
    """What to train with.

    Raises:
        DataError: the store has no training or no test split.
    """
    if not data.pairs:
        missing = "test" if any(map(is_training, data.splits)) else "training"
        raise DataError(
            f"{data.store.path} has no {missing} split; make one first: python -m tools.split {data.store.path} "
            "--by random --test 0.2"
        )
    training = data.pairs[0][0]
    held_out = [other for one, other in data.pairs if one == training]
    test = next((split for split in held_out if split == "test"), held_out[-1])
    return [
        *_splits(data, training, test),
        *_size(data, training, machine),
        *_long_tail(data.counts[training]),
    ]


def _splits(data: Inspection, training: str, test: str) -> Iterator[Choice]:
    yield Choice("feeder_args.data_path", str(data.store.path), f"{len(data.store)} sequences of {data.layout.name}")
    yield Choice("train_feeder_args.split", training, f"{len(data.splits[training])} sequences")
    yield Choice("test_feeder_args.split", test, f"{len(data.splits[test])} sequences")
    if "val" in data.splits and test != "val":
        reason = f"{len(data.splits['val'])} sequences: choose methods and values on these"
        yield Choice("val_feeder_args.split", "val", reason)


def _size(data: Inspection, training: str, machine: Machine) -> Iterator[Choice]:
    """Window, repetitions, batch, width and epochs."""
    rows = data.splits[training]
    number, lengths = len(rows), data.store.lengths[rows]
    middle = float(np.median(lengths))
    window = int(np.clip(8 * round(middle / 8), 16, WINDOWS[machine]))
    yield Choice("feeder_args.window_size", window, f"half of the sequences have up to {middle:.0f} frames")
    repeat = math.ceil(SHOWN / number)
    if repeat > 1:
        yield Choice("train_feeder_args.repeat", repeat, f"{number} sequences alone are a short epoch")
    shown = number * repeat
    batch = 16 if shown < 2000 else 32 if shown < 10_000 else 64
    yield Choice("batch_size", batch, f"an epoch of {math.ceil(shown / batch)} steps")
    steps = STEPS[machine]
    epochs = int(np.clip(round(steps * batch / shown), 16, 100))
    yield Choice("num_epoch", epochs, f"about {epochs * math.ceil(shown / batch)} steps in all")
    yield Choice("eval_interval", max(1, epochs // 8), "eight looks at the curve")
    width = WIDTH[machine]
    where = "two CPU cores; 64 on a GPU" if machine == "cpu" else "a GPU"
    yield Choice("model_args.base_channel", width, f"channels of the first blocks, for {where}")


def _long_tail(counts: np.ndarray) -> Iterator[Choice]:
    """Shot groups, loss and mixing."""
    there = counts[counts > 0]
    low, high = int(there.min()), int(there.max())
    if high >= LONG_TAIL * low:
        few, many = (round(low * (high / low) ** share) for share in (1 / 3, 2 / 3))
        groups = {"many": 100, "few": 20} if low < 20 and high > 100 else {"many": many, "few": max(few, low + 1)}
        yield Choice(
            "groups", groups, f"limits of many-shot and few-shot classes, which have {low} to {high} sequences"
        )
        reason = f"the largest class has {high / low:.3g} times as many sequences as the smallest"
        yield Choice("loss", "logit_adjustment", reason)
        reason = "rare classes keep the parts that carry them; config/methods/ has the other methods"
        yield Choice("mixing", "shap_mix", reason)
    else:
        each = f"{low}" if low == high else f"{low} to {high}"
        yield Choice("loss", "cross_entropy", f"the classes are balanced ({each} sequences each)")
        yield Choice("mixing", "st_mix", "mixing by body parts; config/methods/ has the other methods")


def as_yaml(choices: list[Choice], title: str) -> str:
    """A config with each reason behind its line."""
    blocks: dict[str, list[str]] = {}
    for choice in choices:
        outer, _, inner = choice.key.rpartition(".")
        block = blocks.setdefault(outer or inner, [f"{outer}:"] if outer else [])
        line = f"{yaml_text({inner: choice.value}, one_line=True).strip()[1:-1]}  # {choice.reason}"
        block.append(f"  {line}" if outer else line)
    return "\n".join([f"# {title}", *(line for block in blocks.values() for line in block)]) + "\n"


def default_path(store: Path) -> Path:
    """Where the config of a store is written: ``data/mine`` -> ``data/mine.yaml``."""
    return store.with_name(f"{store.name}.yaml")
