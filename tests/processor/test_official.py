"""Official files and arguments as they are published, in made-up files of their form."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

import main
from feeders.convert.ctrgcn_npz import write_arrays
from feeders.feeder_ntu import Feeder
from feeders.store import SkeletonStore
from processor.build import build_optimizer
from processor.checkpoint import load_checkpoint
from processor.config import Config
from processor.config_files import keys_without_effect, load_config
from processor.data import load_data
from processor.distributed import set_up
from processor.errors import ConfigError
from processor.saliency_file import read_table
from tests.conftest import build_training, ntu_names, tiny_config, write_ntu_store

NAMES = ntu_names(subjects=(1, 3, 8), actions=(1, 2, 3, 60))
TRAIN = sorted((name for name in NAMES if "P003" not in name), key=lambda name: (name[9:12], name))


@pytest.fixture
def shap_mix_ntu60(tmp_path, monkeypatch):
    """NTU60_XSub.npz, its lists and the long-tailed YAML, in the form of Shap-Mix's."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    store = write_ntu_store(tmp_path / "store", {name: rng.normal(size=(9, 1, 25, 3)) for name in NAMES}, "ntu60")
    (tmp_path / "data").mkdir()
    write_arrays(tmp_path / "data" / "NTU60_XSub.npz", SkeletonStore(store), "ntu60_xsub")
    places = "\n".join(str(NAMES.index(name)) for name in TRAIN)
    (tmp_path / "data" / "train_id.txt").write_text(places + "\n")
    (tmp_path / "data" / "names.txt").write_text("\n".join(f"{name}.skeleton" for name in NAMES))
    (tmp_path / "data" / "NTU60_xsub_exp_100.txt").write_text("\n".join(sorted(TRAIN[::2])))
    common = {"data_path": "data/NTU60_XSub.npz", "window_size": 16, "vel": False, "bone": False, "debug": False}
    lists = {"train_id_path": "data/train_id.txt", "sample_name_path": "data/names.txt"}
    values = {
        "work_dir": "./work_dir/lt",
        "feeder": "feeders.feeder_ntu.Feeder_LT_nosample",
        "train_feeder_args": {
            **common, **lists, "split": "train", "split_path": "data/NTU60_xsub_exp_100.txt", "random_rot": True,
            "random_choose": False, "normalization": False, "p_interval": [0.5, 1], "class_balance": False,
        },
        "test_feeder_args": {**common, "split": "test", "p_interval": [0.95]},
        "model": "model.ctrgcn.Model",
        "model_args": {
            "num_class": 60, "num_point": 25, "num_person": 2, "base_channel": 4, "graph": "graph.ntu_rgb_d.Graph",
            "graph_args": {"labeling_mode": "spatial"},
        },
        "naive_estimate_epoch": -1, "batch_size": 8, "num_epoch": 1, "warm_up_epoch": 0, "optimizer": "Adam",
        "base_lr": 0.001, "device": [0], "dataset": "ntu60", "start_epoch": 0,
    }  # fmt: skip
    path = tmp_path / "lt.yaml"
    path.write_text(yaml.safe_dump(values))
    return str(path)


def test_long_tailed_ntu60(shap_mix_ntu60, tmp_path, capsys):
    config = load_config(shap_mix_ntu60)
    data = load_data(config, set_up("cpu"), ("train", "test"))
    assert data.loaders["train"].ids == [name for name in TRAIN if name in TRAIN[::2]]
    assert (config.mixing, config.loss) == ("shap_mix", "logit_adjustment")
    assert type(build_optimizer(config, build_training(config)[1].network, set_up("cpu"))).__name__ == "Adam"
    assert main.main(["--config", shap_mix_ntu60, "--device", "cpu", "--train_feeder_args", "bone=True,vel=True"]) == 2
    assert "different streams" in capsys.readouterr().err, "both arguments came through"
    assert main.main(["--config", shap_mix_ntu60, "--device", "cpu"]) == 0
    table = np.load(tmp_path / "work_dir" / "lt" / "ntu60_saliency.npy", allow_pickle=False)
    assert table.shape == (60, 20)


def test_places_of_training_names(shap_mix_ntu60):
    arguments = load_config(shap_mix_ntu60).train_feeder_args
    test = Feeder("data/NTU60_XSub.npz", "test", sample_name_path="data/names.txt")
    assert test.ids == [name for name in NAMES if "P003" in name]
    with open("data/train_id.txt", "a") as file:
        file.write("99\n")
    with pytest.raises(ValueError, match=r"train_id.txt names place 99, but data/names.txt has 36 names"):
        Feeder(**arguments)


def test_names_of_an_array_file_with_any_name(shap_mix_ntu60, tmp_path):
    """Names are enough; without a protocol the order of the test set is not known."""
    arguments = load_config(shap_mix_ntu60).train_feeder_args
    (tmp_path / "data" / "NTU60_XSub.npz").rename(tmp_path / "data" / "mine.npz")
    feeder = Feeder(**{**arguments, "data_path": "data/mine.npz", "split_path": None})
    assert feeder.ids == TRAIN
    assert Feeder(**{**arguments, "data_path": "data/mine.npz", "split": "test"}).ids[0] == "test_0"


def test_saliency_table_goes_with_the_weights(tmp_path, capsys):
    """Also: the best of epochs of which not every one was evaluated is not called published."""
    values = tiny_config(tmp_path, num_epoch=2, eval_interval=2, dataset="made/up", naive_estimate_epoch=-1)
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(values))
    assert main.main(["--config", str(path)]) == 0
    out = capsys.readouterr().out
    assert "best evaluated epoch on the test split (the published protocol evaluates every epoch): epoch 1" in out
    assert "best_test_epoch" not in out
    saved = tmp_path / "run" / "made_up_saliency.npy"
    table = np.load(saved, allow_pickle=False)
    last = tmp_path / "run" / "last.pt"
    assert np.array_equal(table, load_checkpoint(last)["mixer"]["saliency.table"].numpy())
    assert (table > 1e-6).any()

    given = {"dist_weights": str(saved), "work_dir": str(tmp_path / "second")}
    mixer = build_training(load_config(str(path), {**given, "weights": str(last)}))[1].mixer
    assert np.array_equal(mixer.saliency.table.numpy(), table)
    mixer.saliency.bias_correction = True
    assert np.array_equal(mixer.saliency.rows().numpy(), table), "nothing of the initial value is taken out"
    alone = load_config(str(path), given)
    assert (build_training(alone)[1].mixer.saliency.table == 1e-6).all()
    assert ("dist_weights", "weights is not set") in list(keys_without_effect(alone))
    plain = load_config(str(path), {"mixing": "mixup"})
    assert ("dataset", "mixing is mixup, which has no saliency table") in list(keys_without_effect(plain))
    for content, wanted in [
        (table[:3], r"float32 \(3, 20\), wanted numbers of shape \(12, 20\)"),
        (np.array([{}]), "cannot be read as a .npy file"),
        (np.full((12, 20), np.nan), "not finite"),
    ]:
        np.save(saved, content)
        with pytest.raises(ConfigError, match=wanted):
            read_table(saved, mixer)
    with pytest.raises(ConfigError, match=r"absent.npy cannot be read"):
        read_table(tmp_path / "absent.npy", mixer)


def test_recipes_evaluate_as_published():
    for name in ("ntu60_xsub", "ntu60_xview", "ntu120_xsub", "ntu120_xset"):
        for folder in (name, f"{name}_lt"):
            assert Config.model_fields["eval_interval"].default == 1
            assert load_config(f"config/{folder}/shap_mix.yaml").eval_interval == 1
