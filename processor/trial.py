"""What suits this machine as it is now: how many threads, and which precision, by timing a few training steps.

The steps are those of a copy: the run's weights, optimiser, saliency table and random draws stay as they are.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
import os
from collections.abc import Mapping
from statistics import median
from time import perf_counter
from typing import Any

import torch

from feeders.loader import Batch
from shapmix.distributed import world

from .answers import autocast_dtype
from .build import Parts
from .config import Config, Precision
from .data import Data
from .engine import Trainer
from .host import usable_cores
from .training import make_trainer

log = logging.getLogger(__name__)

SHARE = 0.05  # of the samples that the run trains on: so many are timed at most
SECONDS = 4.0  # that a comparison of two variants takes, where two samples a step are not longer
TURNS = 5  # timings of each of two variants
STEPS = 2 + 2 * TURNS  # of a comparison
MARGIN = 1.02  # more threads, or bf16, must be so many times as fast
SLOW = 1.2  # a precision that takes so many times as long is spoken of
CLEARLY = 4.0  # a variant whose first step takes so many times as long is not timed again
VARIABLE = "OMP_NUM_THREADS"

Variant = tuple[int, torch.dtype | None]  # threads, dtype of autocast


class Trial:
    """Timed training steps of a copy of a run's parts.

    Args:
        trainer: its step is what is timed.
        batch: of training samples; the first ones are used.
        most: samples of a step; fewer where SECONDS do not last for a comparison.

    Raises:
        ValueError: ``most`` is under 2, which a mixer needs.
    """

    def __init__(self, trainer: Trainer, batch: Batch, most: int) -> None:
        if most < 2:
            raise ValueError("the run is too short")
        self.trainer = copy.deepcopy(trainer)
        self.trainer.start_epoch()
        self._first: dict[Variant, float] = {}  # the first step of a variant also prepares its kernels
        self.seconds: dict[Variant, float] = {}  # of a step
        size, fits, plain = 0, 2, (1, trainer.autocast)
        while fits > 1.1 * size:
            size = fits
            self.batch = _part(batch, size)
            self._step(plain)
            fits = min(most, len(batch.x), int(size * SECONDS / STEPS / self._step(plain)))

    def _step(self, variant: Variant) -> float:
        threads, self.trainer.autocast = variant
        torch.set_num_threads(threads)
        begun = perf_counter()
        self.trainer.step(self.batch, 0, 0).tolist()
        return perf_counter() - begun

    def ratio(self, variant: Variant, other: Variant) -> float:
        """How many times as long ``variant`` takes as ``other``, which are timed in turn."""
        for each in (other, variant):
            if each not in self._first:
                self.seconds[each] = self._first[each] = self._step(each)
        ratio = self._first[variant] / self._first[other]
        if ratio > CLEARLY:
            return ratio
        taken: dict[Variant, list[float]] = {other: [], variant: []}
        begun = perf_counter()
        for _ in range(TURNS):
            for each, seconds in taken.items():
                seconds.append(self._step(each))
            if perf_counter() - begun > SECONDS:
                break
        self.seconds |= {each: median(seconds) for each, seconds in taken.items()}
        return self.seconds[variant] / self.seconds[other]


def _part(batch: Batch, size: int) -> Batch:
    """The first samples of a batch, with their partners; what is left to do after mixing is not timed."""
    partner = None if batch.partner is None else _part(batch.partner, size)
    x, y, rows = batch.x[:size], batch.y[:size], batch.rows[:size]
    return dataclasses.replace(batch, x=x, y=y, rows=rows, partner=partner, finish=None)


def numbers_of_threads(most: int) -> list[int]:
    """1, 2, 4, 8 and so on, and at the end all but one of ``most``, and all."""
    powers = [2**power for power in range(most.bit_length())]
    return sorted({number for number in (*powers, most - 1, most) if 1 <= number <= most})


def without_timing(config: Config, device: torch.device, state: Mapping[str, Any] | None = None) -> Config:
    """Settles ``threads`` and ``precision`` as far as nothing has to be timed, and tells torch the number of threads.

    Args:
        state: the checkpoint of a run that continues: it keeps what it began with.

    Returns:
        the config with a number and a word in place of ``auto``, where they are known.
    """
    began, alone = (None if state is None else state.get("threads")), world()[1] == 1
    threads, precision = config.threads, config.precision
    if os.environ.get(VARIABLE):
        if threads not in ("auto", torch.get_num_threads()):
            log.warning("threads: %s has no effect, because %s is set", threads, VARIABLE)
        threads = torch.get_num_threads()
    elif threads == "auto" and began is not None:
        threads = min(began, usable_cores())
    if threads != "auto":
        torch.set_num_threads(threads)
    if device.type == "cpu" and began not in (None, torch.get_num_threads()):
        log.warning(
            "the run began with %d thread(s) and goes on with %d: its last digits differ from those of a run that kept "
            "them", began, torch.get_num_threads(),
        )  # fmt: skip
    if precision == "auto" and state is not None:
        precision = state["config"]["precision"]
    elif precision == "auto" and (device.type != "cpu" or not alone):
        quick = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        precision = "bf16" if quick else "fp32"
        log.info("precision: %s (auto)", precision)
    return config.model_copy(update={"threads": threads, "precision": precision})


def with_timing(config: Config, data: Data, parts: Parts, device: torch.device) -> Config:
    """Settles what :func:`without_timing` could not: the quickest number of threads, and the quicker precision.

    Cost: training steps of at most 5 % of the run's samples, a few seconds in all. Where a run is too short for that,
    or cannot be copied, torch's number of threads and fp32 remain.

    Returns:
        the config, without any ``auto`` in ``threads`` (on one CPU process) and ``precision``.
    """
    most, alone = torch.get_num_threads(), device.type == "cpu" and world()[1] == 1
    numbers = numbers_of_threads(most) if alone and config.threads == "auto" else [most]
    both = alone and config.precision in ("auto", "bf16")
    chosen, precision = most, config.precision
    loader = data.loaders["train"]
    if len(numbers) > 1 or both:
        try:
            samples = SHARE * config.num_epoch * loader.steps * loader.batch_size
            comparisons = len(numbers) - 1 + both
            trainer = make_trainer(config, data, parts, device)
            with torch.random.fork_rng(devices=[]):
                trial = Trial(trainer, next(loader.shuffled(0)), int(samples / (STEPS * comparisons)))
                chosen = _threads(trial, numbers, autocast_dtype(config.precision))
                if both:
                    precision = _precision(trial, chosen, config.precision)
        except Exception as error:  # what is wrong with the run, its first step says
            log.debug("no steps were timed: %s: %s", type(error).__name__, error)
        torch.set_num_threads(chosen)
    values = {"threads": chosen if alone else config.threads, "precision": "fp32" if precision == "auto" else precision}
    return config.model_copy(update=values)


def _threads(trial: Trial, numbers: list[int], autocast: torch.dtype | None) -> int:
    """The quickest of ascending numbers of threads: one after the other, while more are quicker."""
    chosen = numbers[0]
    for number in numbers[1:]:
        if trial.ratio((number, autocast), (chosen, autocast)) * MARGIN > 1:
            break
        chosen = number
    if trial.seconds:
        timed = ", ".join(f"{1e3 * seconds:.0f} ms with {threads}" for (threads, _), seconds in trial.seconds.items())
        log.info(
            "threads: %d (auto, which chooses by timing; %d samples took %s). Threads change the last digits: "
            "--threads %d repeats this run", chosen, len(trial.batch.x), timed, chosen,
        )  # fmt: skip
    return chosen


def _precision(trial: Trial, threads: int, wanted: Precision) -> Precision:
    """``wanted``, or for auto the quicker of fp32 and bf16; says so where bf16 is the slower one."""
    ratio = trial.ratio((threads, torch.bfloat16), (threads, None))
    quicker: Precision = "bf16" if ratio * MARGIN < 1 else "fp32"
    if wanted == "auto":
        log.info("precision: %s (auto; a step in bf16 takes %.2f times as long as in fp32)", quicker, ratio)
    elif ratio > SLOW:
        log.warning("bf16 takes %.1f times as long as fp32 on this processor; --precision fp32 is quicker", ratio)
    return quicker if wanted == "auto" else wanted
