"""Raw made-up NTU files -> store -> long-tailed list -> two epochs of each stream -> ensemble; and official YAMLs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import main
from feeders.ntu_protocols import CLASSES
from processor.config_files import load_config
from processor.data import load_data
from processor.official import NO_EFFECT
from tests.conftest import ROOT, ntu_names
from tools import ensemble, make_longtail, prepare_ntu
from tools.faults.made_up import write_ntu_raw

STREAMS = ("joint", "bone", "joint_motion", "bone_motion")
SUBJECTS = (1, 2, 3, 4)  # 3 is a test subject
TINY = ["model_args.base_channel=4", "feeder_args.window_size=16", "num_epoch=2", "warm_up_epoch=0", "batch_size=16"]
TINY += ["naive_mix_epoch=1", "naive_estimate_epoch=1", "eval_interval=1", "device=cpu"]

# Made-up files with the keys of the official repository's two kinds of NTU configs.
OFFICIAL_BALANCED = """
work_dir: ./work_dir/ntu60/xsub/ctrgcn_joint
feeder: feeders.feeder_ntu.Feeder
train_feeder_args:
  data_path: data/ntu/NTU60_CS.npz
  split: train
  debug: False
  random_choose: False
  random_shift: False
  random_move: False
  window_size: 64
  normalization: False
  random_rot: True
  p_interval: [0.5, 1]
  vel: False
  bone: True
test_feeder_args:
  data_path: data/ntu/NTU60_CS.npz
  split: test
  window_size: 64
  p_interval: [0.95]
  vel: False
  bone: True
  debug: False
model: model.ctrgcn.Model
model_args:
  num_class: 60
  num_point: 25
  num_person: 2
  graph: graph.ntu_rgb_d.Graph
  graph_args:
    labeling_mode: 'spatial'
weight_decay: 0.0004
base_lr: 0.1
lr_decay_rate: 0.1
step: [35, 55]
batch_size: 64
test_batch_size: 64
num_epoch: 65
nesterov: True
device: [0]
warm_up_epoch: 5
"""
OFFICIAL_LONG_TAILED = (
    OFFICIAL_BALANCED.replace("feeder_ntu.Feeder\n", "feeder_ntu.Feeder_LT_nosample\n")
    .replace("  bone: True\ntest", "  bone: False\n  class_balance: True\ntest")
    .replace("bone: True", "bone: False")
    .replace(
        "  split: train\n", "  split: train\n  split_path: LIST\n  train_id_path: IDS\n  sample_name_path: NAMES\n"
    )
    + "naive_mix_epoch: 5\nnaive_estimate_epoch: 5\nema: 0.9\ndist_weights: True\ndataset: ntu60\n"
)


def stored(tmp_path: Path, *options: str) -> list[str]:
    """Prepares made-up raw files of all 60 classes; returns their names."""
    names = ntu_names(cameras=(1, 2), subjects=SUBJECTS, actions=range(1, 61))
    raw = write_ntu_raw(tmp_path / "raw", names, lengths=(14, 20))
    words = ["--raw", str(raw), "--out", str(tmp_path / "ntu60"), "--dataset", "ntu60", "--jobs", "1"]
    assert prepare_ntu.main([*words, *options]) == 0
    return names


def test_from_raw_files_to_the_ensemble(tmp_path, capsys):
    names = stored(tmp_path)
    words = ["--store", str(tmp_path / "ntu60"), "--split", "xsub", "--imbalance", "3", "--n_max", "3"]
    assert make_longtail.main([*words, "--out", str(tmp_path / "lists")]) == 0
    assert "in 60 classes" in capsys.readouterr().out
    (listed,) = (tmp_path / "lists").iterdir()
    config = str(ROOT / "config" / "ntu60_xsub_lt" / "shap_mix.yaml")
    data = [f"feeder_args.data_path={tmp_path / 'ntu60'}", f"feeder_args.split_path={listed}"]
    for stream in STREAMS:
        run = ["--config", config, "--work_dir", str(tmp_path / stream), "--set", *data, *TINY]
        assert main.main([*run, f"feeder_args.stream={stream}", "feeder_args.val_subjects=[4]"]) == 0
    capsys.readouterr()
    runs = [str(tmp_path / stream) for stream in STREAMS]
    report = tmp_path / "ensemble.json"
    assert ensemble.main([*runs, "--json", str(report)]) == 0
    out = capsys.readouterr().out
    assert "weight 0.3" in out
    assert all(name in out for name in CLASSES[:60])
    metrics = json.loads(report.read_text())
    with np.load(tmp_path / "bone" / "scores_test.npz") as scores:
        assert sorted(scores["ids"]) == [name for name in names if "P003" in name]
        assert scores["class_names"].tolist() == list(CLASSES[:60])
        assert scores["class_counts"].sum() < len(listed.read_text().split()), "subject 4 is held out"
    assert metrics["samples"] == 120
    lines = [json.loads(line) for line in (tmp_path / "joint" / "metrics.jsonl").read_text().splitlines()]
    assert "val_top1" in lines[-1]
    assert lines[-1]["train_loss"] < lines[0]["train_loss"]
    capsys.readouterr()
    assert ensemble.main([*runs, "--search"]) == 0
    assert "chosen on the validation scores" in capsys.readouterr().out


def official(tmp_path: Path, text: str, **places: object) -> str:
    for word, place in places.items():
        text = text.replace(word, str(place))
    path = tmp_path / "official.yaml"
    path.write_text(text.replace("data/ntu/", f"{tmp_path / 'ntu60'}/"))
    return str(path)


def test_official_balanced(tmp_path):
    stored(tmp_path, "--npz")
    config = load_config(official(tmp_path, OFFICIAL_BALANCED))
    feeders = load_data(config, torch.device("cpu")).feeders
    train, test = feeders["train"], feeders["test"]
    assert (len(train), len(test)) == (360, 120)
    assert train.stream == test.stream == "bone"
    assert (train.random_rot, train.p_interval, test.p_interval) == (True, (0.5, 1.0), (0.95,))
    assert train.class_names == list(CLASSES[:60])
    assert train.ids[0] == "train_0"


def test_official_long_tailed(tmp_path, caplog):
    names = stored(tmp_path, "--npz")
    (tmp_path / "names.txt").write_text("\n".join(names))
    chosen = [name for name in names if "P001" in name or ("P002" in name and int(name[-3:]) < 20)]
    (tmp_path / "list.txt").write_text("\n".join(chosen))
    places = {"LIST": tmp_path / "list.txt", "IDS": tmp_path / "ids.txt", "NAMES": tmp_path / "names.txt"}
    path = official(tmp_path, OFFICIAL_LONG_TAILED, **places)
    caplog.set_level("INFO")
    config = load_config(path)
    assert (config.mixing, config.loss) == ("shap_mix", "logit_adjustment")
    data = load_data(config, torch.device("cpu"))
    assert sorted(data.feeders["train"].ids) == chosen
    assert len(data.feeders["test"]) == 120
    assert data.class_counts == [4] * 19 + [2] * 41
    assert "class_balance has no effect on Feeder_LT_nosample" in caplog.text
    assert f"dist_weights: {NO_EFFECT}" in caplog.text
    assert "is rebuilt from" in caplog.text


CONFIGS = {f"{path.parent.name}/{path.stem}": path for path in sorted(ROOT.glob("config/ntu*/*.yaml"))}


@pytest.mark.parametrize("name", [name for name in CONFIGS if "_3d_" in name])
def test_configs_of_3d_pickles(name):
    """Their splits and lists are those that the folder says, and their recipe is PYSKL's."""
    config = load_config(str(CONFIGS[name]))
    data, _, protocol, _ = CONFIGS[name].parent.name.split("_")
    assert config.train_feeder_args["split"] == f"{protocol}_train"
    assert config.test_feeder_args == {"split": f"{protocol}_val", "num_clips": 10}
    assert config.train_feeder_args["split_path"].endswith(f"{data.upper()}_{protocol}_exp_100.txt")
    assert (config.mixing, config.loss, config.schedule, config.min_lr_ratio) == (
        "shap_mix", "logit_adjustment", "cosine", 0,
    )  # fmt: skip
    assert (config.batch_size, config.num_epoch, config.train_feeder_args["repeat"]) == (128, 16, 5)


@pytest.mark.parametrize("name", [name for name in CONFIGS if "_3d_" not in name])
def test_our_configs(name):
    """Each is valid, and says what its folder and name say."""
    path = CONFIGS[name]
    config = load_config(str(path))
    protocol, long_tailed = path.parent.name.removesuffix("_lt"), path.parent.name.endswith("_lt")
    assert config.feeder_args["protocol"] == protocol
    assert config.num_epoch == (100 if long_tailed else 65)
    assert config.step == ([60, 80] if long_tailed else [35, 55])
    assert ("split_path" in config.feeder_args) == long_tailed
    methods = {
        "cross_entropy": ("none", "cross_entropy"),
        "balanced_softmax": ("none", "logit_adjustment"),
        "st_mix": ("st_mix", "logit_adjustment"),
        "shap_mix": ("shap_mix", "logit_adjustment" if long_tailed else "cross_entropy"),
    }
    assert (config.mixing, config.loss) == methods[path.stem]
    if long_tailed:
        assert f"{protocol.partition('_')[2]}_exp_100" in config.feeder_args["split_path"]
        assert yaml.safe_load(path.read_text())["feeder"].endswith("Feeder_LT_nosample")
