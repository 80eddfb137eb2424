"""Every backbone trains with Shap-Mix on both demos by one changed line of YAML."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

import main
from processor.checkpoint import load_checkpoint, save_checkpoint
from processor.config_files import load_config
from processor.data import load_data
from tests.conftest import ROOT
from tests.model.recogniser import Recogniser

BACKBONES = ("ctrgcn", "stgcn", "stgcnpp", "aagcn")


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("stream", ["joint", "bone"])
@pytest.mark.parametrize("demo", ["demo", "pose_demo"])
def test_one_epoch(tmp_path, demo, stream, backbone):
    words = small_run(tmp_path, demo, backbone, stream)
    assert main.main(words) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    assert metrics["train_mix_loss"] > 0
    assert 0 <= metrics["mean_class_accuracy"] <= 1


def small_run(tmp_path: Path, demo: str, backbone: str, stream: str = "joint") -> list[str]:
    """The command line of one epoch on few samples."""
    values = yaml.safe_load((ROOT / "config" / f"{demo}.yaml").read_text())
    assert values["model_args"]["base_channel"] == 8
    values |= {"model": f"model.{backbone}.Model", "num_epoch": 1, "naive_estimate_epoch": 0, "naive_mix_epoch": 0}
    values["feeder_args"] |= {"stream": stream, "cache_dir": str(tmp_path / "cache")}
    values["train_feeder_args"] |= {"n_max": 6, "imbalance": 2}
    values["test_feeder_args"] |= {"num_test": 1}
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(values))
    return ["--config", str(path), "--work_dir", str(tmp_path / "run"), "--device", "cpu"]


def test_weights_of_pyskl(tmp_path):
    """A file as mmcv writes it is tested, its logits are the other program's."""
    theirs = Recogniser("stgcnpp", 8, torch.rand(3, 25, 25), 1, 12)
    for norm in theirs.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            norm.running_var.uniform_(0.5, 2)
    torch.save({"meta": {"epoch": 3}, "state_dict": theirs.state_dict()}, tmp_path / "theirs.pth")
    words = small_run(tmp_path, "demo", "stgcnpp")
    assert main.main([*words, "--phase", "test", "--weights", str(tmp_path / "theirs.pth")]) == 0
    (scores,) = (tmp_path / "run").glob("scores_test*.npz")
    config = load_config(words[1], {"device": "cpu"})
    with torch.no_grad():
        batches = load_data(config, torch.device("cpu"), ("train", "test")).loaders["test"].in_order(64)
        want = torch.cat([theirs.eval()(batch.x) for batch in batches])
    with np.load(scores) as found:
        np.testing.assert_allclose(found["scores"], want, rtol=1e-4, atol=1e-4)


def test_run_of_an_older_version_is_not_continued(tmp_path, capsys):
    words, last = small_run(tmp_path, "demo", "stgcn"), tmp_path / "run" / "last.pt"
    assert main.main(words) == 0
    state = load_checkpoint(last)
    state["model"]["l1.gcn1.edge_importance"] = state["model"].pop("l1.gcn1.PA")
    save_checkpoint(last, {**state, "epoch": 0})  # not finished
    assert main.main(words) == 2
    assert "was begun with another version of its network" in capsys.readouterr().err
