"""The benchmarks run, check that their variants agree, and write what they print."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator

import pytest
import torch
from torch.serialization import get_crc32_options

from model import layers
from tools.benchmark import checksums, export, feeder, mixing, network, step
from tools.benchmark.__main__ import SMOKE, main
from tools.benchmark.measure import Variant, compare, table


@pytest.fixture
def tiny(tmp_path) -> argparse.Namespace:
    """Options of network and step, small; the first ten classes of the set have two sequences, the others one."""
    return argparse.Namespace(device="cpu", width=16, batch=4, repeats=1, compile=False, sequences=70, folder=tmp_path)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """The benchmarks set torch's number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", ["ntu", "pose", "store"])
def test_feeder(kind, tmp_path, capsys):
    words = ["feeder", "--kind", kind, "--sequences", "70", "--batch", "8", "--batches", "20", "--workers", "0"]
    assert main([*words, "--threads", "1", "--folder", str(tmp_path), "--json", str(tmp_path / "a.json")]) == 0
    assert f"{kind} feeder" in capsys.readouterr().out
    written = json.loads((tmp_path / "a.json").read_text())["feeder"]
    assert written["settings"]["sequences"] == 70
    rows = written["tables"][f"{kind} feeder"]
    assert len(rows) == (3 if kind == "pose" else 4)
    assert all(row["samples_per_s"] > 0 for row in rows.values())


def test_checksums(tmp_path):
    """A save and a read with checksums, each beside one without."""
    options = argparse.Namespace(width=16, sequences=70, repeats=1, folder=tmp_path)
    (save, read) = checksums.measure(options).values()
    assert list(save) == ["without CRC-32", "with CRC-32"]
    assert list(read) == ["later reads", "first reads"]
    assert all(row["ms"] > 0 for row in (*save.values(), *read.values()))
    assert get_crc32_options()


def test_all(tmp_path, capsys, monkeypatch):
    """One file of everything; a benchmark that fails does not stop the others."""

    def broken(*arguments: object) -> None:
        raise AssertionError("the variants disagree")

    monkeypatch.setattr(feeder, "in_new_process", broken)
    for part in (network, step):  # which has a test of its own
        monkeypatch.setattr(part, "check", lambda options: None)
    file = tmp_path / "all.json"
    assert (
        main(["all", "--smoke", "--batch", "3", "--threads", "1", "--folder", str(tmp_path), "--json", str(file)]) == 1
    )
    printed = capsys.readouterr()
    assert "error: feeder: AssertionError: the variants disagree" in printed.err
    assert "plain float32" in printed.out
    written = json.loads(file.read_text())
    assert "disagree" in written.pop("feeder")["error"]
    found = {name: part["tables"] for name, part in written.items()}
    assert found.keys() == {"mixing", "network", "step", "epoch", "predict"}
    durations = [
        value
        for tables in found.values()
        for rows in tables.values()
        for row in rows.values()
        for value in row.values()
    ]
    assert all(math.isfinite(value) and value >= 0 for value in durations)
    ours = {"plain float32", "ours float32", "ours bf16"}
    for tables in (found["network"], found["step"]):
        tables.pop("measured peak")
    assert all(rows.keys() == ours | {"plain bf16"} for rows in found["network"].values())
    assert all(rows.keys() == ours for rows in [*found["step"].values(), *found["epoch"].values()])
    assert found["step"]["Shap-Mix"]["plain float32"]["ratio"] == 1
    assert written["step"]["settings"] | {"batch": 3, "width": SMOKE["width"]} == written["step"]["settings"]


def test_unknown_option(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["step", "--widht", "16"])
    assert capsys.readouterr().err == "error: unknown option --widht; did you mean --width?\n"


def test_plain_and_ours_are_the_same(tiny):
    network.check(tiny)
    step.check(tiny)


def test_broken_variants_are_noticed(monkeypatch, tiny):
    def wrong_shares(mixer: mixing.PlainShapMix, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x_mix, y_mix = forward(mixer, x, y)
        return x_mix, 0.9 * y_mix

    forward = mixing.PlainShapMix.forward
    with monkeypatch.context() as patch:
        patch.setattr(mixing.PlainShapMix, "forward", wrong_shares)
        for part in (step.check, mixing.measure):
            with pytest.raises(AssertionError, match="not close"):
                part(tiny)
        patch.setattr(network, "evaluate", lambda made, x, y: (1 + made.l1.gcn1.fused) * made(x).detach())
        with pytest.raises(AssertionError, match="not close"):
            network.check(tiny)


def test_a_variant_that_cannot_run():
    def fails(repeat: int) -> None:
        raise RuntimeError("no compiler")

    variants = {"sum": Variant(lambda repeat: torch.ones(100).sum(), 1, 100.0), "broken": Variant(fails, 1)}
    options = argparse.Namespace(device="cpu", repeats=2)
    rows = compare(variants, options, {"float32": {"macs_per_s": 1e9}})
    assert rows["sum"]["ratio"] == 1
    assert rows["broken"] == {"error": "RuntimeError: no compiler"}
    assert "failed: RuntimeError: no compiler" in table(rows, "variant")


def test_export(monkeypatch):
    """Torch and onnxruntime of every network, for one sample and for a batch; files that do not agree are an error."""
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(export, "NETWORKS", ("stgcn",))
    monkeypatch.setattr(layers, "PLAN", ((1, 1), (2, 2)))
    options = argparse.Namespace(device="cpu", width=4, batch=2, repeats=1, threads=1, streams=False)
    tables = export.measure(options)
    assert tables.keys() == {"batch of 1", "batch of 2"}
    assert all(rows["stgcn torch"]["ratio"] == 1 < 100 * rows["stgcn onnxruntime"]["ratio"] for rows in tables.values())
    with pytest.raises(ValueError, match="measured on the CPU"):
        export.measure(argparse.Namespace(**{**vars(options), "device": "cuda"}))
