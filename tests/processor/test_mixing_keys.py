"""Keys beyond the published method: what is mixed with what, refreshed tables, averaged weights, fitted temperature."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import main
from processor.averaging import WeightAverage
from processor.build import build
from processor.checkpoint import load_checkpoint
from processor.config_files import load_config
from processor.data import load_data
from processor.errors import ConfigError
from processor.host import Stopped
from processor.metrics import fitted_temperature, group_means
from processor.run_folder import RunFolder
from processor.training import Training
from processor.weights import load_weights
from shapmix.draws import generator
from tests.conftest import write_ucla

ALL = {
    "mix_stage": "frames", "partner": "tail_over_head", "refresh_samples": 2, "average_weights": "ema",
    "mixing_args": {
        "estimator": "refresh", "refresh_interval": 1, "standardise": True, "temperature": 1.0, "guide_from": 2,
        "body": "bones", "people": "present", "same_facing": True,
    },
}  # fmt: skip
OTHERS = {
    "mix_stage": "joints", "partner": "class_balanced", "refresh_samples": 2, "average_weights": "swa",
    "loss_args": {"label_smoothing": 0.1}, "mixing_args": {"estimator": "refresh", "refresh_interval": 2},
}  # fmt: skip
BONES = ("--set", "feeder_args.stream=bone")  # of joints that were mixed
FITTED = ("--fit_temperature", "true", "--set", "val_feeder_args.split=test", "val_feeder_args.num_test=2")


def run(path, folder, *words):
    code = main.main(["--config", path, "--work_dir", str(folder), "--plugin", "tests", *words])
    lines = RunFolder(folder).read_metrics()
    return code, lines, load_checkpoint(folder / "last.pt")


@pytest.mark.parametrize(("keys", "words", "last"), [(ALL, FITTED, 2), (OTHERS, BONES, 4)])
def test_all_keys_stopped_and_continued(keys, words, last, write_config, tmp_path, monkeypatch):
    """In the last epoch: after a refresh, and with an epoch in swa's mean."""
    path = write_config(num_epoch=last + 1, naive_mix_epoch=1, **keys)
    code, lines, whole = run(path, tmp_path / "whole", *words)
    assert code == 0
    assert "guidance_few" in lines[-1]
    assert {"raw_top1", "raw_few"} <= set(lines[-1])
    after = Training.after_reading

    def after_reading(self):
        after(self)
        if (self.epoch, self.meter.steps) == (last, 1):
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(Training, "after_reading", after_reading)
        assert run(path, tmp_path / "cut", *words)[0] == 143
    code, cut_lines, cut = run(path, tmp_path / "cut", *words)
    assert code == 0
    for part in ("model", "average", "mixer"):
        assert whole[part].keys() == cut[part].keys()
        for name, value in whole[part].items():
            assert torch.equal(value, cut[part][name]), (part, name)
    assert ("temperature" in lines[-1]) == (words == FITTED)
    assert whole["card"]["temperature"] == cut["card"]["temperature"]
    for name in ("top1", "test_loss", "temperature"):
        assert cut_lines[-1].get(name) == lines[-1].get(name)


@pytest.mark.parametrize("key", ["mix_stage", "partner"])
def test_the_clean_batch_stays_as_it_is(key, write_config):
    """Whatever is mixed, the network gets the same unmixed samples."""
    seen = []
    for value in ("input" if key == "mix_stage" else "batch", ALL[key]):
        config = load_config(write_config(**{key: value}))
        data = load_data(config, torch.device("cpu"))
        batch = next(data.loaders["train"].shuffled(0))
        seen.append(batch.finished(batch.x))
    torch.testing.assert_close(*seen)


@pytest.mark.parametrize("stage", ["joints", "frames"])
def test_mixed_before_the_view_in_bf16(stage, tmp_path, write_config):
    """The view is turned in float32, outside autocast: matrices in bf16 would not fit, and would be coarse."""
    view = {"feeder": "feeders.feeder_ucla.Feeder", "train_feeder_args": {}, "test_feeder_args": {}}
    data = {"data_path": str(write_ucla(tmp_path / "all_sqe")), "cache_dir": str(tmp_path), "window_size": 16}
    path = write_config(**view, feeder_args=data, mix_stage=stage, precision="bf16", num_epoch=1, naive_mix_epoch=0)
    code, lines, _ = run(path, tmp_path / "run")
    assert code == 0
    assert lines[-1]["train_mix_loss"] > 0


def test_the_prior_of_mixed_samples_is_that_of_their_targets(write_config):
    """Where partners are drawn alike from all classes. The loss of clean samples keeps the training counts."""
    device = torch.device("cpu")
    for changes in ({"partner": "batch"}, {"partner": "class_balanced"}, {"partner": "tail_over_head"}):
        config = load_config(write_config(loss="logit_adjustment", tau=0.5, **changes))
        data = load_data(config, device)
        parts = build(config, data, device)
        priors = [criterion.adjustment for criterion in (parts.criterion, parts.mix_criterion)]
        counts = torch.tensor(data.class_counts, dtype=torch.float64)
        torch.testing.assert_close(priors[0].double(), 0.5 * (counts / counts.sum()).log(), atol=1e-6, rtol=0)
        if changes["partner"] == "batch":
            assert parts.mix_criterion is parts.criterion
        else:
            wanted = parts.mixer.target_counts(data.sample_shape[1])
            torch.testing.assert_close(priors[1].double(), 0.5 * (wanted / wanted.sum()).log(), atol=1e-6, rtol=0)
            assert (priors[1] - priors[0]).argmax() == counts.argmin(), "rare classes are more common there"


def test_tables_are_refreshed_when_due(write_config, tmp_path):
    options = {"estimator": "refresh", "refresh_interval": 2}
    path = write_config(num_epoch=2, naive_mix_epoch=1, mixing_args=options)
    _, _, state = run(path, tmp_path / "run")
    seen = state["mixer"]["saliency.initial"] < 1
    assert seen.all(1).sum() == 12, "all classes have training samples"


def test_moving_average_of_weights():
    network = nn.Linear(1, 1, bias=False)
    average = WeightAverage(network, "ema", decay=0.5, num_epoch=1)
    wanted = None
    for step, weight in enumerate([4.0, 8.0, 2.0, 6.0]):
        nn.init.constant_(network.weight, weight)
        average.after_step()
        decay = min(0.5, (1 + step) / (10 + step))
        wanted = weight if wanted is None else decay * wanted + (1 - decay) * weight
    assert average.evaluated([]).weight.item() == pytest.approx(wanted)


def test_mean_of_the_last_epochs_with_its_own_statistics():
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    average = WeightAverage(network, "swa", decay=0.5, num_epoch=8)
    for epoch, weight in enumerate([9.0] * 6 + [1.0, 3.0]):
        nn.init.constant_(network[0].weight, weight)
        average.after_epoch(epoch)
        assert average.ready() == (epoch >= 6)
    resumed = WeightAverage(network, "swa", decay=0.5, num_epoch=8)
    resumed.load_state_dict(average.state_dict())
    resumed.after_epoch(7)  # as after a stop in an evaluation: the epoch is in already
    x = torch.randn(64, 1, generator=generator(0, "x"))
    averaged = resumed.evaluated(x.split(60))  # each of the 64 samples counts the same, also the last 4
    assert averaged[1].momentum == 0.1
    assert averaged[0].weight.item() == 2
    assert averaged[1].running_mean.item() == pytest.approx(2 * x.mean().item(), abs=1e-6)
    extended = WeightAverage(network, "swa", decay=0.5, num_epoch=40)  # --resume --num_epoch: the mean begins at 30
    extended.load_state_dict(average.state_dict())
    assert not extended.ready()


def test_the_tested_weights_are_those_that_a_checkpoint_gives(write_config, tmp_path):
    """--phase test of last.pt finds the averaged network's metrics; before swa begins the plain weights are tested."""
    path = write_config(num_epoch=2, average_weights="swa", save_interval=1)
    _, lines, _ = run(path, tmp_path / "run")
    config = load_config(
        path, {"weights": str(tmp_path / "run" / "last.pt"), "phase": "test", "work_dir": str(tmp_path / "t")}
    )
    data = load_data(config, torch.device("cpu"))
    network = build(config, data, torch.device("cpu")).network.eval()
    batch = next(data.loaders["test"].in_order(100))
    with torch.no_grad():
        assert (network(batch.x).argmax(1) == batch.y).float().mean().item() == pytest.approx(lines[-1]["top1"])
    path = write_config(num_epoch=8, eval_interval=8, average_weights="swa", save_interval=1)  # the mean begins at 6
    _, _, last = run(path, tmp_path / "long")
    assert last["average"]["measured"]
    for name in ("epoch_5.pt", "epoch_6.pt"):  # the second has a mean, but not its statistics
        load_weights(network, tmp_path / "long" / name)
        plain = load_checkpoint(tmp_path / "long" / name)["model"]
        torch.testing.assert_close(dict(network.state_dict()), plain, rtol=0, atol=0)
    early = tmp_path / "run" / "epoch_0.pt"
    load_weights(network, early)
    torch.testing.assert_close(dict(network.state_dict()), load_checkpoint(early)["model"], rtol=0, atol=0)


def test_fitted_temperature():
    logits = torch.randn(4000, 5, generator=generator(0, "logits"))
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator(0, "labels"))[:, 0]
    assert fitted_temperature(3 * logits, labels) == pytest.approx(3, rel=0.1)
    best = F.cross_entropy(3 * logits / fitted_temperature(3 * logits, labels), labels)
    assert all(best <= F.cross_entropy(3 * logits / wrong, labels) for wrong in (2.5, 3.5))


def test_a_temperature_needs_validation(write_config):
    with pytest.raises(ConfigError, match=r"fit_temperature needs a validation split.*val_feeder_args$"):
        load_config(write_config(fit_temperature=True))


def test_group_means():
    assert group_means("x", [1.0, 2.0, 4.0], {"many": [0], "medium": [], "few": [1, 2]}) == {
        "x_many": 1.0,
        "x_few": 3.0,
    }


def test_what_does_not_fit(write_config, tmp_path):
    config = load_config(write_config(mixing_args={"body": "bones"}))
    config = config.model_copy(update={"feeder_args": {**config.feeder_args, "stream": "bone"}})
    with pytest.raises(ConfigError, match="set mix_stage: joints"):
        build(config, load_data(config, torch.device("cpu")), torch.device("cpu"))
    config = load_config(write_config(mixing="mixup", partner="tail_over_head"))
    with pytest.raises(ConfigError, match="tail_over_head needs mixing by body parts, not mixup"):
        build(config, load_data(config, torch.device("cpu")), torch.device("cpu"))
    args = {"stream": "joint_motion", "window_size": 16, "cache_dir": str(tmp_path)}
    poses = {"feeder": "feeders.synthetic_pose.Feeder", "feeder_args": args}
    for stage in ("joints", "frames"):  # else a test sample would show a smaller motion than a training sample
        config = load_config(write_config(**poses, mix_stage=stage))
        with pytest.raises(ConfigError, match=f"mix_stage {stage}: .* takes motion between stored frames"):
            load_data(config, torch.device("cpu"))
    for facing in (True, "auto"):
        with pytest.raises(ConfigError, match=r"not turned yet; set mix_stage: frames$"):
            load_config(write_config(mixing_args={"same_facing": facing}))


def test_bodies_turn_about_the_vertical_axis_of_the_data(write_config, monkeypatch):
    config = load_config(write_config(mix_stage="frames", mixing_args={"same_facing": True}))
    data = load_data(config, torch.device("cpu"))
    assert build(config, data, torch.device("cpu")).mixer.paste.up == 1
    monkeypatch.setattr(type(data.feeders["train"]), "vertical", 2)
    assert build(config, data, torch.device("cpu")).mixer.paste.up == 2
