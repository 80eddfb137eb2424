"""The benchmarks run, check that their variants agree, and write what they print."""

from __future__ import annotations

import json

import torch

from tools.benchmark import feeder
from tools.benchmark.__main__ import main


def test_mixing(tmp_path, capsys):
    threads = torch.get_num_threads()
    words = ["mixing", "--repeats", "1", "--batch", "4", "--json", str(tmp_path / "a.json")]
    assert main([*words, "--threads", str(threads)]) == 0
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
    threads = torch.get_num_threads()
    try:
        assert main([*words, "--folder", str(tmp_path), "--json", str(tmp_path / "a.json")]) == 0
    finally:
        torch.set_num_threads(threads)
    assert "times sooner ready" in capsys.readouterr().out
    figures = json.loads((tmp_path / "a.json").read_text())["figures"]
    assert all(row["samples"] == 40 and row["samples_per_s"] > 0 for row in figures.values())
