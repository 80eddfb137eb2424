"""Every backbone trains with Shap-Mix on both demos by one changed line of YAML."""

from __future__ import annotations

import json

import pytest
import yaml

import main
from tests.conftest import ROOT

BACKBONES = ("ctrgcn", "stgcn", "stgcnpp", "aagcn")


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("stream", ["joint", "bone"])
@pytest.mark.parametrize("demo", ["demo", "pose_demo"])
def test_one_epoch(tmp_path, demo, stream, backbone):
    values = yaml.safe_load((ROOT / "config" / f"{demo}.yaml").read_text())
    assert values["model_args"]["base_channel"] == 8
    values |= {"model": f"model.{backbone}.Model", "num_epoch": 1, "naive_estimate_epoch": 0, "naive_mix_epoch": 0}
    values["feeder_args"] |= {"stream": stream, "cache_dir": str(tmp_path / "cache")}
    values["train_feeder_args"] |= {"n_max": 6, "imbalance": 2}
    values["test_feeder_args"] |= {"num_test": 1}
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(values))
    assert main.main(["--config", str(path), "--work_dir", str(tmp_path / "run"), "--device", "cpu"]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    assert metrics["train_mix_loss"] > 0
    assert 0 <= metrics["mean_class_accuracy"] <= 1
