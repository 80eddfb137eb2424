"""tools.suggest: a config that suits the store, with reasons, that the program accepts."""

from __future__ import annotations

import numpy as np

from feeders.store import Sample, SkeletonStore
from processor.yaml_text import parse_yaml
from tools.suggest import main


def store(tmp_path, counts, length=30, split=True):
    rng = np.random.default_rng(0)

    def read():
        for label, count in enumerate(counts):
            for number in range(count + 2):
                frames = rng.normal(size=(length + number % 3, 1, 20, 3)).astype(np.float32)
                columns = {
                    "in train": int(number < count),
                    "in test": int(number == count),
                    "in val": int(number > count),
                }
                yield Sample(f"{label}_{number}", label, frames, columns=columns if split else {})

    names = [f"class {label}" for label in range(len(counts))]
    meta = {"layout": "ucla20", "class_names": names, "splits": ["train", "test", "val"] if split else [], "dims": 3}
    built = SkeletonStore.build([tmp_path], "mine", "0", read, **meta)
    return built.path.rename(tmp_path / "mine")


def suggested(tmp_path, *options):
    assert main([str(tmp_path / "mine"), "--device", "cpu", *options]) == 0
    return parse_yaml((tmp_path / "mine.yaml").read_text(), "mine.yaml")


def test_a_long_tail(tmp_path, capsys):
    store(tmp_path, [40, 12, 4])
    config = suggested(tmp_path)
    assert config["feeder_args"] == {"data_path": str(tmp_path / "mine"), "window_size": 32}
    assert config["train_feeder_args"] == {"split": "train", "repeat": 9}
    assert config["test_feeder_args"] == {"split": "test"}
    assert config["val_feeder_args"] == {"split": "val"}
    assert (config["batch_size"], config["num_epoch"]) == (16, 79)
    assert (config["loss"], config["mixing"], config["groups"]) == (
        "logit_adjustment",
        "shap_mix",
        {"many": 19, "few": 9},
    )
    said = capsys.readouterr().out
    assert "10 times as many sequences" in said
    assert f"python main.py --config config/own_data.yaml {tmp_path / 'mine.yaml'}" in said


def test_of_two_protocols_the_test_belongs_to_the_training_set(tmp_path):
    folder = store(tmp_path, [5, 5], split=False)
    ids = SkeletonStore(folder).ids
    (folder / "splits").mkdir()
    for split, members in {"a_train": ids[::2], "a_val": ids[1::2], "b_val": ids[::3]}.items():
        (folder / f"splits/{split}.txt").write_text("\n".join(members))
    config = suggested(tmp_path)
    assert (config["train_feeder_args"]["split"], config["test_feeder_args"]) == ("a_train", {"split": "a_val"})


def test_balanced_classes_and_long_sequences(tmp_path):
    store(tmp_path, [5, 5], length=500)
    config = suggested(tmp_path)
    assert (config["loss"], config["mixing"]) == ("cross_entropy", "st_mix")
    assert "(5 sequences each)" in (tmp_path / "mine.yaml").read_text()
    assert "groups" not in config
    assert config["feeder_args"]["window_size"] == 64


def test_a_gpu(tmp_path):
    store(tmp_path, [40, 4])
    config = suggested(tmp_path, "--device", "cuda")
    assert config["model_args"] == {"base_channel": 64}
    assert config["num_epoch"] == 100


def test_it_needs_splits(tmp_path, capfd):
    store(tmp_path, [4, 4], split=False)
    assert main([str(tmp_path / "mine")]) == 2
    assert "python -m tools.split" in capfd.readouterr().err


def test_another_file_is_not_replaced(tmp_path, capfd):
    store(tmp_path, [4, 4])
    (tmp_path / "mine.yaml").write_text("base_lr: 0.1\n")
    assert main([str(tmp_path / "mine")]) == 2
    assert "--overwrite" in capfd.readouterr().err
    assert (tmp_path / "mine.yaml").read_text() == "base_lr: 0.1\n"
    assert main([str(tmp_path / "mine"), "--overwrite"]) == 0
    assert main([str(tmp_path / "mine")]) == 0  # it says the same
