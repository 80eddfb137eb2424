"""The benchmarks run, check that their variants agree, and write what they print."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping

import pytest
import torch
from torch import nn

from tools.benchmark import everything, feeder, mixing, network, step
from tools.benchmark.__main__ import main
from tools.benchmark.measure import Variant, failed, timed, trace, variant_table

TINY = ["--width", "16", "--batch", "2", "--repeats", "1", "--peak_size", "64", "--threads", "1"]
PEAK = {"float32": 1e9, "bf16": 1e9}


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """The benchmarks set torch's number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def options_of(command: str, *words: str) -> argparse.Namespace:
    """A command's options, tiny."""
    own = everything.options_of(
        command, argparse.Namespace(smoke=True, device="cpu", compile=False, folder=None, threads=1)
    )
    for name, value in zip(words[::2], words[1::2], strict=True):
        setattr(own, name, value)
    return own


def numbers(figures: object) -> Iterator[float]:
    """All figures below."""
    for value in figures.values() if isinstance(figures, Mapping) else ():
        if isinstance(value, Mapping):
            yield from numbers(value)
        else:
            yield value


def test_mixing(tmp_path, capsys):
    words = ["mixing", "--repeats", "1", "--batch", "4", "--json", str(tmp_path / "a.json")]
    assert main([*words, "--threads", "1"]) == 0
    assert "sample by sample" in capsys.readouterr().out
    assert json.loads((tmp_path / "a.json").read_text())["figures"].keys() == {"ShapMix", "sample by sample"}


def test_feeder(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(feeder, "SIZES", {"ntu60_lt": ("ntu60_xsub", 70, 5)})
    words = ["feeder", "--batch", "8", "--batches", "20", "--workers", "0", "--threads", "1"]
    threads = torch.get_num_threads()
    try:
        assert main([*words, "--folder", str(tmp_path), "--json", str(tmp_path / "a.json")]) == 0
    finally:
        torch.set_num_threads(threads)
    assert "ours, resident against .npz read whole" in capsys.readouterr().out
    figures = json.loads((tmp_path / "a.json").read_text())["figures"]
    assert figures.pop("on disk").keys() == {"npz_mb", "store_mb"}
    assert len(figures) == 4
    assert all(row["samples"] == 70 and row["samples_per_s"] > 0 for row in figures.values())


def test_feeder_pose(tmp_path, capsys):
    words = ["feeder_pose", "--clips", "40", "--batch", "8", "--batches", "2", "--workers", "0", "--threads", "1"]
    assert main([*words, "--folder", str(tmp_path), "--json", str(tmp_path / "a.json")]) == 0
    assert "times sooner ready" in capsys.readouterr().out
    figures = json.loads((tmp_path / "a.json").read_text())["figures"]
    assert all(row["samples"] == 40 and row["samples_per_s"] > 0 for row in figures.values())


def test_all(tmp_path, capsys, monkeypatch):
    """One file of everything; a part that fails does not stop the others."""

    def broken(options: argparse.Namespace) -> None:
        raise AssertionError("the variants disagree")

    monkeypatch.setattr(mixing, "measure", broken)
    for part in (network, step):  # which has a test of its own
        monkeypatch.setattr(part, "check", lambda *arguments: None)
    file = tmp_path / "all.json"
    words = ["all", "--smoke", "--parts", "mixing", "network", "step", "epoch", "--threads", "1"]
    assert main([*words, "--folder", str(tmp_path), "--json", str(file)]) == 1
    printed = capsys.readouterr()
    assert "the variants disagree" in printed.err
    assert "mixing: failed; network: done; step: done; epoch: done" in printed.out
    written = json.loads(file.read_text())
    assert written["settings"]["smoke"] is True
    assert "disagree" in written["figures"].pop("mixing")["error"]
    found = {name: part["figures"] for name, part in written["figures"].items()}
    assert all(math.isfinite(value) and value >= 0 for value in numbers(found))
    variants = {"plain float32", "plain float32, memory kept", "ours float32", "ours bf16"}
    assert found["network"]["training"].keys() == found["network"]["evaluation"].keys() == variants | {"plain bf16"}
    assert found["step"]["Shap-Mix"].keys() == found["step"]["cross-entropy"].keys() == variants
    assert found["step"]["forward_units"] == {"Shap-Mix": 8.0, "cross-entropy": 3.0}
    assert found["step"]["Shap-Mix"]["plain float32"]["ratio"] == 1
    assert written["figures"]["step"]["settings"]["batch"] == 2
    settled = found["epoch"]["epochs"]["epoch 1"]
    assert settled["train_s"] > 0
    assert 0 < settled["waiting"] < 1


def test_plain_and_ours_are_the_same():
    network.check(options_of("network"), torch.device("cpu"))
    step.check(options_of("step"))


def test_broken_variants_are_noticed(monkeypatch, capsys):
    def wrong_shares(mixer: object, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x_mix, y_mix = mixing.plain_mixing(mixer, x, y)
        return x_mix, 0.9 * y_mix

    like = network.plain_like
    with monkeypatch.context() as patch:
        patch.setattr(step, "plain_mixing", wrong_shares)
        with pytest.raises(AssertionError, match="not close"):
            step.check(options_of("step"))
        patch.setattr(network, "plain_like", lambda ours, width: nn.Sequential(nn.Hardtanh(), like(ours, width)))
        assert main(["network", *TINY]) == 1
    assert "not close" in capsys.readouterr().err


def variants(options: argparse.Namespace) -> dict[str, Variant]:
    """One that works and one that does not."""

    def fails(repeat: int) -> None:
        raise RuntimeError("no compiler")

    return {"sum": Variant(sum_of, 1, 100.0, keep_memory=False), "broken": Variant(fails, 1, 100.0)}


def sum_of(repeat: int) -> torch.Tensor:
    return torch.ones(100).sum()


def test_a_variant_that_cannot_run():
    figures = timed(variants, argparse.Namespace(device="cpu", threads=1, repeats=2, in_a_row=2), PEAK, "sum")
    assert figures["sum"]["ratio"] == 1
    assert figures["broken"] == {"error": "RuntimeError: no compiler"}
    assert failed({"training": figures})
    assert "failed: RuntimeError: no compiler" in variant_table(figures, "variant")


def test_trace(tmp_path):
    trace(tmp_path / "trace.json", {"sum": Variant(sum_of, 1, 100.0)}, torch.device("cpu"))
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert sum(event.get("name") == "sum" and event.get("cat") == "user_annotation" for event in events) == 2
