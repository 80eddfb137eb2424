"""A tiny run as a user sees it: files, metrics, test phase, info, streams, a Dataset of one's own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from sklearn.metrics import balanced_accuracy_score

import main
from processor import training
from processor.checkpoint import load_checkpoint
from processor.config_files import load_config
from processor.engine import Meter, Reading, Trainer
from processor.host import StopSignals
from processor.info import estimate_line, forward_units
from processor.metrics import classification_metrics, expected_calibration_error, table
from processor.run_folder import MetricsLog, RunFolder
from processor.weights import load_weights
from shapmix import ShapMix
from tests import as_on_cuda, small
from tests.conftest import write_ucla


def test_what_a_run_leaves(write_config, tmp_path, capsys):
    assert main.main(["--config", write_config()]) == 0
    run = tmp_path / "run"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    wanted = {
        "epoch", "train_loss", "train_mix_loss", "lr", "samples_per_s", "top1", "top5", "mean_class_accuracy", "many",
        "medium", "few", "per_class", "guidance",
    }  # fmt: skip
    assert [line["epoch"] for line in lines] == [0, 1]
    assert all(wanted <= line.keys() for line in lines)
    assert lines[0]["many"] is None, "a group without classes has no value"
    assert len(lines[0]["per_class"]) == 12
    out = capsys.readouterr().out
    for text in ("overall (top-1)", "few shot", "wave_left", "best_test_epoch (published protocol)"):
        assert text in out
    log = (run / "log.txt").read_text()
    assert "chosen on the test split (published protocol)" in log
    assert "names no method: Shap-Mix with logit adjustment" in log
    environment = json.loads((run / "environment.json").read_text())
    assert environment["torch"] == torch.__version__
    assert environment["command"] == [Path(sys.argv[0]).name, *sys.argv[1:]]
    assert len(environment["data_checksum"]) > 30
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert (config["mixing"], config["momentum"]) == ("shap_mix", 0.9)
    with np.load(run / "scores_test.npz") as scores:
        assert scores["scores"].shape == (24, 12)
        assert scores["class_names"][0] == "wave_right"
        top1 = float((scores["scores"].argmax(1) == scores["labels"]).mean())
    assert top1 == lines[-1]["top1"]
    state = load_checkpoint(run / "last.pt")
    assert state["epoch"] == 2
    assert state["best"]["split"] == "test"
    assert state["mixer"]["saliency.table"].shape == (12, 20)

    # the written config is a config, and testing the last checkpoint gives the last epoch's metrics
    words = ["--config", str(run / "config.yaml"), "--phase", "test", "--weights", str(run / "last.pt")]
    assert main.main([*words, "--work_dir", str(tmp_path / "test")]) == 0
    with np.load(run / "scores_test.npz") as ours, np.load(tmp_path / "test" / "scores_test_last.npz") as theirs:
        np.testing.assert_array_equal(ours["scores"], theirs["scores"])


@pytest.mark.parametrize(
    "changes",
    [
        {"mixing": "none", "loss": "cross_entropy", "optimizer": "AdamW", "base_lr": 0.001},
        {"mixing": "st_mix", "precision": "bf16", "grad_clip": 1.0, "eval_interval": 2},
        {"baseline": "published", "feeder_args.stream": "bone_motion", "precision": "fp64"},
        {
            "mixing_args.temperature": "'2e-1'",
            "mixing_args.update": "sequential",
            "mixing_args.rarity": "index",
            "mixing_args.estimate_interval": 2,
        },
    ],
)
def test_variants_train(write_config, tmp_path, changes):
    words = [f"{key}={value}" for key, value in changes.items()]
    assert main.main(["--config", write_config(), "--set", *words]) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert np.isfinite(lines[-1]["train_loss"])
    assert ("top1" in lines[0]) == ("eval_interval" not in changes)
    assert (lines[-1]["train_mix_loss"] == 0) == (changes.get("mixing") == "none")


@pytest.mark.parametrize(
    "last", [b'{"epoch": 2, "top', b"[1, 2]", b'{"top1": 0.5}', b'{"epoch": null}', b"\xff\x00\x00"]
)
def test_odd_lines_of_metrics(tmp_path, last, caplog):
    """What a crash or an editor left behind is left out, with a warning where it was not the end."""
    good = [{"epoch": epoch, "top1": epoch / 4} for epoch in range(2)]
    written = b"".join(json.dumps(line).encode() + b"\n" for line in good)
    (tmp_path / "metrics.jsonl").write_bytes(written + last + b"\n" + json.dumps({"epoch": 3}).encode())
    assert RunFolder(tmp_path).read_metrics() == [*good, {"epoch": 3}]
    assert RunFolder(tmp_path).damaged_metrics() == [3]
    MetricsLog(RunFolder(tmp_path), 4).close()
    assert "metrics.jsonl: damaged and left out are lines 3" in caplog.text
    assert RunFolder(tmp_path).read_metrics() == [*good, {"epoch": 3}]
    assert RunFolder(tmp_path).damaged_metrics() == []
    caplog.clear()
    (tmp_path / "metrics.jsonl").write_bytes(written + last)
    MetricsLog(RunFolder(tmp_path), 2).close()
    assert RunFolder(tmp_path).read_metrics() == good
    assert len((tmp_path / "metrics.jsonl").read_bytes().splitlines()) == 2
    assert not caplog.text


def test_validation_split_chooses_best(write_config, tmp_path, capsys):
    folder = write_ucla(
        tmp_path / "all_sqe", **{f"a01_s02_e0{n}_v01": {"skeletons": [[[n, 1, 2]] * 20] * 5} for n in "123"}
    )
    path = write_config(
        feeder="feeders.feeder_ucla.Feeder",
        feeder_args={"data_path": str(folder), "window_size": 16, "val_subjects": [2]},
        train_feeder_args={},
        test_feeder_args={},
        val_feeder_args={"split": "val"},
    )
    assert main.main(["--config", path]) == 0
    out = capsys.readouterr().out
    assert "20 training samples" in out, "the validation subject is kept out of training"
    assert "best.pt is chosen on the validation split" in out
    assert "best on validation: epoch" in out
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    best = load_checkpoint(tmp_path / "run" / "best.pt")["best"]
    assert best["split"] == "val"
    assert best["value"] == max(line["val_top1"] for line in lines)


def test_info(write_config, capsys, tmp_path):
    assert main.main(["--config", write_config(), "--phase", "info"]) == 0
    out = capsys.readouterr().out
    for text in (
        "M parameters",
        "M multiply-adds forward",
        "100 % of the batch: 2.0 of 8.0 forward units",
        "samples/s on cpu",
        "3x16x25x1",
    ):
        assert text in out
    assert not (tmp_path / "run").exists(), "info writes nothing"


def test_forward_units():
    trainer = Trainer(None, None, None, None, None)  # type: ignore[arg-type]
    assert forward_units(trainer) == 3
    assert estimate_line(trainer) == "none"
    trainer.mixer = ShapMix("ntu25", [3, 1], guided=False)
    assert forward_units(trainer) == 6
    assert estimate_line(trainer) == "none"
    trainer.mixer = ShapMix("ntu25", [3, 1], estimate_interval=2, estimate_fraction=0.25)
    assert forward_units(trainer) == 6.25
    assert estimate_line(trainer) == "every 2 step(s), 25 % of the batch: 0.2 of 6.2 forward units"


PLUGIN = '''
import numpy as np
from torch.utils.data import Dataset

class Feeder(Dataset):
    """Ten-joint waves, as CTR-GCN's feeders return them."""
    def __init__(self, size: int, bad: str = "", repeat: int = 1):
        rng = np.random.default_rng(size)
        self.label = [row % 3 for row in range(size)]
        self.data = rng.normal(size=(size, 3, 16, 10, 1)).astype("float32")
        if bad == "nan": self.data[1, 0, 0, 0, 0] = np.nan
        if bad == "label": self.label[1] = 3
        self.repeat = repeat
    def __len__(self): return len(self.label) * self.repeat
    def __getitem__(self, row): return self.data[row % len(self.label)], self.label[row % len(self.label)], row
'''
BODY = {
    "name": "mine",
    "joint_names": list("abcdefghij"),
    "bones": [[joint, joint - 1] for joint in range(1, 10)],
    "parts": {"top": [0, 1, 2], "middle": [3, 4, 5], "low": [6, 7, 8, 9]},
}


@pytest.fixture
def own_dataset(tmp_path, monkeypatch, write_config):
    (tmp_path / "plugin_under_test.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    return write_config(
        feeder="plugin_under_test.Feeder",
        feeder_args=None,
        layout=BODY,
        train_feeder_args={"size": 20},
        test_feeder_args={"size": 9},
        model_args={"num_class": 3, "num_person": 1, "layout": BODY, "base_channel": 4},
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_own_dataset(own_dataset, tmp_path, workers):
    words = ["--config", own_dataset, "--plugin", "plugin_under_test", "--num_worker", str(workers)]
    assert main.main([*words, "--set", "train_feeder_args.repeat=2"]) == 0
    assert load_checkpoint(tmp_path / "run" / "last.pt")["mixer"]["saliency.table"].shape == (3, 6)


@pytest.mark.parametrize(
    ("bad", "wanted"), [("nan", "sample 1 has NaN or infinite values"), ("label", "sample 1 has label 3, outside")]
)
def test_own_dataset_bad_samples(own_dataset, capsys, bad, wanted):
    words = ["--config", own_dataset, "--plugin", "plugin_under_test", "--train_feeder_args", "size=20", f"bad={bad}"]
    assert main.main(words) == 2
    assert wanted in capsys.readouterr().err


def test_weights_with_module_prefix(tmp_path, caplog):
    network = torch.nn.Linear(3, 2)
    wanted = {f"module.{key}": value + 1 for key, value in network.state_dict().items()}
    torch.save({**wanted, "module.old.weight": torch.zeros(1)}, tmp_path / "bare.pt")
    skipped = load_weights(network, tmp_path / "bare.pt", ignore=["bias"])
    assert torch.equal(network.weight, wanted["module.weight"])
    assert skipped == [
        "bias: ignored",
        "old.weight: in the file, not in the network",
        "bias: in the network, not in the file",
    ]


def test_metrics():
    labels = np.array([0, 0, 1, 1, 1, 3])
    scores = np.eye(4)[[0, 1, 1, 1, 0, 3]] + 0.1 * np.eye(4)[[1, 0, 0, 0, 1, 0]]
    metrics = classification_metrics(scores, labels, {"many": [0, 1], "medium": [], "few": [2, 3]}, topk=(2,))
    assert metrics["per_class"] == [0.5, pytest.approx(2 / 3), None, 1.0]
    assert metrics["top1"] == pytest.approx(4 / 6)
    assert metrics["top2"] == 1.0
    assert metrics["mean_class_accuracy"] == pytest.approx(balanced_accuracy_score(labels, scores.argmax(1)))
    assert metrics["many"] == pytest.approx((0.5 + 2 / 3) / 2)
    assert metrics["medium"] is None
    assert metrics["few"] == 1.0
    groups = {"many": [0, 1], "medium": [], "few": [2, 3]}
    text = table(metrics, list("abcd"), [5, 4, 0, 1], groups)
    assert "medium shot                    - %  (0 classes)" in text
    assert f"expected calibration error {100 * metrics['ece']:5.1f} %\n" in text


def test_mean_class_accuracy_is_balanced_accuracy():
    rng = np.random.default_rng(0)
    labels, scores = np.sort(rng.choice(4, 100, p=[0.7, 0.2, 0.06, 0.04])), rng.normal(size=(100, 4))
    scores[np.arange(60), labels[:60]] += 2
    assert set(labels) == {0, 1, 2, 3}
    metrics = classification_metrics(scores, labels, {})
    assert metrics["mean_class_accuracy"] == pytest.approx(balanced_accuracy_score(labels, scores.argmax(1)))
    assert abs(metrics["mean_class_accuracy"] - metrics["top1"]) > 0.05


def test_expected_calibration_error_against_a_loop():
    rng = np.random.default_rng(0)
    logits = 3 * rng.normal(size=(300, 6))
    labels = np.where(rng.random(300) < 0.7, logits.argmax(1), 0)  # neighbouring bins err to either side
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    wanted = 0.0
    for low in range(15):
        rows = [row for row in range(300) if low / 15 < probabilities[row].max() <= (low + 1) / 15]
        if rows:
            accuracy = np.mean([probabilities[row].argmax() == labels[row] for row in rows])
            confidence = np.mean([probabilities[row].max() for row in rows])
            wanted += len(rows) / 300 * abs(accuracy - confidence)
    assert wanted > 0.05
    assert expected_calibration_error(logits, labels) == pytest.approx(wanted)
    assert classification_metrics(logits + 1000, labels, {})["ece"] == pytest.approx(wanted)


def test_expected_calibration_error_in_closed_form():
    """Confidence 0.9 with 3 of 4 right, and confidence 0.6 with 1 of 4 right."""
    scores = np.log([[0.9, 0.1]] * 4 + [[0.4, 0.6]] * 4)
    labels = np.array([0, 0, 0, 1, 1, 0, 0, 0])
    assert expected_calibration_error(scores, labels) == pytest.approx((0.15 + 0.35) / 2)
    assert expected_calibration_error(1e4 * np.eye(2), np.array([0, 1])) == 0
    assert expected_calibration_error(1e4 * np.eye(2), np.array([1, 0])) == 1


def test_meter():
    metrics = Meter(steps=2, loss=6.0, mix_loss=3.0, correct=2, seen=4, seconds=2.0).metrics()
    assert metrics == {"train_loss": 1.5, "train_mix_loss": 0.75, "train_top1": 0.5, "samples_per_s": 2.0}


def test_reading_losses_later_changes_nothing(write_config, tmp_path, monkeypatch):
    """Sums of an epoch whose losses are read every second step, and at its end."""
    lines = []
    for name in ("every", "second"):
        if name == "second":
            monkeypatch.setattr(training, "read_interval", lambda config, device: 2)
        assert main.main(["--config", write_config(), "--work_dir", str(tmp_path / name)]) == 0
        lines.append([line | {"samples_per_s": 0} for line in RunFolder(tmp_path / name).read_metrics()])
    assert lines[0] == lines[1]


def test_read_interval(write_config):
    config = load_config(write_config(log_interval=30, save_steps=7))
    assert training.read_interval(config, torch.device("cpu")) == 1
    assert training.read_interval(config, torch.device("cuda")) == 30
    stop = StopSignals()
    reading = Reading((30, config.log_interval, config.save_steps), stop)
    assert [steps for steps in range(1, 31) if reading.due(steps)] == [7, 14, 21, 28, 30]
    stop.received = 15
    assert reading.due(3), "a stop does not wait"


def test_compiled(write_config, tmp_path, monkeypatch):
    """The same metrics as without; all batches of the evaluation have one size, also the last."""
    as_on_cuda.pretend(monkeypatch.setattr)
    config = write_config(test_batch_size=10, model="tests.small.Model", model_args=None)
    words, scores = ["--config", config, "--plugin", "tests"], []
    for compiled in ("false", "true"):
        assert main.main([*words, "--compile", compiled, "--work_dir", str(tmp_path / compiled)]) == 0
        with np.load(tmp_path / compiled / "scores_test.npz") as file:
            scores.append(file["scores"])
    np.testing.assert_allclose(*scores, rtol=1e-4, atol=1e-4)
    sizes, forward = [], small.Model.forward

    def noted(self, x):
        sizes.append((len(x), x.stride()))
        return forward(self, x)

    monkeypatch.setattr(small.Model, "forward", noted)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, mode, dynamic: None)
    words += ["--phase", "test", "--weights", str(tmp_path / "true" / "last.pt"), "--work_dir", str(tmp_path / "test")]
    for compiled, wanted in (("true", [2, 10, 10, 10]), ("false", [2, 10, 10, 4])):  # 2: before it is compiled
        assert main.main([*words, "--compile", compiled]) == 0
        assert [size for size, _ in sizes] == wanted
        assert len({memory for _, memory in sizes}) == 1 or compiled == "false"
        sizes.clear()
        with np.load(tmp_path / "test" / "scores_test_last.npz") as file:
            np.testing.assert_allclose(file["scores"], scores[1], rtol=1e-4, atol=1e-4)
