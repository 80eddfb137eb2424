"""Threads and precision chosen by timing: what is chosen, that it changes nothing else, and that a run keeps it."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
import yaml

from processor import trial
from processor.checkpoint import load_checkpoint
from processor.config import Config
from processor.processor import Processor
from processor.trial import MARGIN, Trial, numbers_of_threads, with_timing, without_timing
from tests.conftest import build_training, tiny_config

CPU = torch.device("cpu")


@pytest.fixture
def free(monkeypatch):
    """Nobody says how many threads: there are two, and any run is long enough to time them."""
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(trial, "SHARE", 100.0)
    monkeypatch.setattr(trial, "TURNS", 1)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def settled(folder: Path, **changes: object) -> Config:
    """A tiny run's config after the timing."""
    config = Config(**tiny_config(folder, **changes))
    data, parts, _ = build_training(config)
    return with_timing(without_timing(config, CPU), data, parts, CPU)


def durations(monkeypatch, seconds: dict) -> list[tuple]:
    """Steps take so many seconds (threads -> seconds, dtype -> factor); returns which are timed."""
    timed: list[tuple] = []

    def step(self: Trial, variant: tuple) -> float:
        timed.append(variant)
        return seconds[variant[0]] * seconds.get(variant[1], 1.0)

    monkeypatch.setattr(Trial, "_step", step)
    return timed


@pytest.mark.parametrize(
    ("most", "expected"), [(1, [1]), (2, [1, 2]), (4, [1, 2, 3, 4]), (6, [1, 2, 4, 5, 6]), (9, [1, 2, 4, 8, 9])]
)
def test_numbers(most, expected):
    assert numbers_of_threads(most) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [({1: 0.2, 2: 0.11}, 2), ({1: 0.2, 2: 0.2 / MARGIN**0.5}, 1), ({1: 0.2, 2: 1.5}, 1), ({1: 0.2, 2: 0.25}, 1)],
)
def test_quickest_threads(free, monkeypatch, tmp_path, seconds, expected):
    timed = durations(monkeypatch, seconds)
    config = settled(tmp_path)
    assert config.threads == torch.get_num_threads() == expected
    assert timed.count((2, None)) == 1 + trial.TURNS * (seconds[2] < trial.CLEARLY * seconds[1])


def test_stops_where_more_are_not_quicker(free, monkeypatch, tmp_path):
    torch.set_num_threads(6)
    timed = durations(monkeypatch, {1: 0.4, 2: 0.2, 4: 0.199, 5: 0.01, 6: 0.01})
    assert settled(tmp_path).threads == 2
    assert max(threads for threads, _ in timed) == 4


@pytest.mark.parametrize("changes", [{"partner": "class_balanced"}, {"mix_stage": "frames", "batch_size": 16}])
def test_batches_with_more_than_samples(free, monkeypatch, tmp_path, caplog, changes):
    """A part of a batch is timed: also of its partners, and without what is left to do for the whole."""
    monkeypatch.setattr(trial, "SECONDS", 1e-9)
    caplog.set_level(logging.DEBUG)
    settled(tmp_path, **changes)
    assert "auto, which chooses by timing; 2 samples took" in caplog.text
    assert "no steps were timed" not in caplog.text


def test_threads_stay_where_the_precision_cannot_be_timed(free, monkeypatch, tmp_path):
    def step(self: Trial, variant: tuple) -> float:
        if variant[1] is not None:
            raise RuntimeError("no bf16 here")
        return 0.1 * variant[0]

    monkeypatch.setattr(Trial, "_step", step)
    config = settled(tmp_path, precision="auto")
    assert (config.threads, config.precision, torch.get_num_threads()) == (1, "fp32", 1)


def test_short_runs_are_not_timed(free, monkeypatch, tmp_path):
    monkeypatch.setattr(trial, "SHARE", 0.05)
    timed = durations(monkeypatch, {1: 0.1, 2: 9.0})
    config = settled(tmp_path, num_epoch=2, precision="auto")
    assert (config.threads, config.precision) == (2, "fp32")
    assert not timed


def test_size_of_a_step(free, monkeypatch, tmp_path):
    """Two samples of a slow network; all of a quick one, whose duration hardly depends on them."""
    config = Config(**tiny_config(tmp_path))
    data, _, trainer = build_training(config)
    batch = next(data.loaders["train"].shuffled(0))
    limit = trial.SECONDS / trial.STEPS
    for per_step, per_sample, expected in ((0.0, limit, 2), (limit / 2, limit / 100, 8), (0.0, limit / 5, 5)):
        monkeypatch.setattr(Trial, "_step", lambda self, _, a=per_step, b=per_sample: a + b * len(self.batch.x))
        assert len(Trial(trainer, batch, 8).batch.x) == expected


@pytest.mark.parametrize(("factor", "expected"), [(0.6, "bf16"), (0.995, "fp32"), (7.0, "fp32")])
def test_precision(free, monkeypatch, tmp_path, caplog, factor, expected):
    durations(monkeypatch, {1: 0.2, 2: 0.1, torch.bfloat16: factor})
    assert settled(tmp_path, precision="auto").precision == expected
    assert settled(tmp_path, precision="bf16").precision == "bf16"
    assert (f"bf16 takes {factor:.1f} times as long as fp32" in caplog.text) == (factor > trial.SLOW)


def test_nothing_else_changes(free, tmp_path):
    """A run that was timed is, bit by bit, the one with the same numbers given; its folder says which."""
    timed, given = (tmp_path / name for name in ("timed", "given"))
    changes = {"work_dir": str(timed), "precision": "auto", "num_epoch": 1}
    assert Processor(Config(**tiny_config(tmp_path, **changes))).start() == 0
    used = yaml.safe_load((timed / "config.yaml").read_text())
    assert used["threads"] == json.loads((timed / "environment.json").read_text())["threads"]
    assert used["precision"] in ("fp32", "bf16")
    assert Processor(Config(**used | {"work_dir": str(given)})).start() == 0
    first, second = (load_checkpoint(folder / "last.pt") for folder in (timed, given))
    assert first["threads"] == second["threads"] == used["threads"]
    torch.testing.assert_close(first["model"], second["model"], rtol=0, atol=0)
    torch.testing.assert_close(first["mixer"], second["mixer"], rtol=0, atol=0)
    assert Processor(Config(**tiny_config(tmp_path, **changes))).start() == 0, "auto is what the run chose"


def test_a_network_that_cannot_be_copied(free, monkeypatch, tmp_path):
    def refuse(thing: object) -> None:
        raise TypeError("cannot pickle 'generator' object")

    monkeypatch.setattr(trial.copy, "deepcopy", refuse)
    config = settled(tmp_path, precision="auto")
    assert (config.threads, config.precision) == (2, "fp32")


def test_a_resumed_run_keeps_them(free, monkeypatch, tmp_path, caplog):
    config = Config(**tiny_config(tmp_path, precision="auto"))
    began = {"threads": 1, "config": {"precision": "bf16"}}
    kept = without_timing(config, CPU, began)
    assert (kept.threads, kept.precision, torch.get_num_threads()) == (1, "bf16", 1)
    assert not caplog.text
    torch.set_num_threads(2)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert without_timing(config, CPU, began).threads == 2, "the user's variable wins"
    assert "began with 1 thread(s) and goes on with 2" in caplog.text
    assert without_timing(config.model_copy(update={"threads": 3}), CPU).threads == 2
    assert "threads: 3 has no effect" in caplog.text


def test_given_threads(free, tmp_path):
    config = settled(tmp_path, threads=1)
    assert config.threads == torch.get_num_threads() == 1
