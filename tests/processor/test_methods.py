"""Every method of config/methods on a tiny run: its keys combine, and each does what it says."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import main
from processor.checkpoint import file_checksum
from processor.config_files import keys_without_effect, load_config, parameters
from processor.data import load_data
from processor.errors import ConfigError
from processor.host import Stopped
from processor.methods import GUIDANCE, METHODS, MIXERS, SAMPLED
from processor.processor import Processor
from processor.scores import read_scores
from processor.training import Training
from shapmix import post_hoc_adjustment
from tests import as_on_cuda
from tests.conftest import ROOT

CPU = torch.device("cpu")


def method(name):
    return str(ROOT / "config" / "methods" / f"{name}.yaml")


def run(path, name, folder, *words):
    assert main.main(["--config", path, method(name), "--work_dir", str(folder), *words]) == 0
    return read_scores(folder)


@pytest.fixture
def first_stage(write_config, tmp_path):
    """(config, folder) of a finished run with cross-entropy."""
    path = write_config()
    run(path, "cross_entropy", tmp_path / "first")
    return path, tmp_path / "first"


@pytest.mark.parametrize("name", [name for name, row in METHODS.items() if row.starts_from is None])
def test_trains(name, write_config, tmp_path):
    scores = run(write_config(num_epoch=1), name, tmp_path / name)
    assert scores.scores.shape == (24, 12)
    (line,) = [json.loads(text) for text in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
    both = name in ("shap_mix", "shap_mix_bodies", "st_mix")
    mixed = both or name in ("mixup", "temporal_cutmix", "remix", "remix_drw")
    assert (line["train_loss"] > 0) == (both or not mixed)
    assert (line["train_mix_loss"] > 0) == mixed


@pytest.mark.parametrize("backbone", ["stgcn", "stgcnpp", "aagcn"])
def test_cosine_classifier_on_every_backbone(backbone, write_config, tmp_path):
    path = write_config(num_epoch=1, model=f"model.{backbone}.Model")
    scores = run(path, "ldam_drw", tmp_path / backbone).scores
    assert np.abs(scores).max() <= 30


def test_keys_combine(write_config, tmp_path):
    words = ["--sampler", "class_balanced", "--reweight_from", "0.5", "--loss", "focal", "--post_hoc_tau", "0.5"]
    run(write_config(), "remix", tmp_path / "all", *words)


def test_reweighting_starts_late(write_config, monkeypatch):
    config = load_config([write_config(num_epoch=5), method("remix_drw")])
    seen = []
    monkeypatch.setattr(
        "shapmix.losses.LongTailedLoss.reweight", lambda self, weights: seen.append(weights is not None)
    )
    Processor(config).start()
    assert seen == [False] * 4 + [True]


def test_sampler_of_the_config(write_config):
    loaders = load_data(load_config([write_config(), method("over_sampling")]), CPU).loaders
    train = loaders["train"]
    shown = train.labels[train.plan(0).flatten()].bincount()
    assert len(shown) == len(train.class_counts)
    assert shown.min() >= max(train.class_counts) - train.batch_size
    assert [len(batch.rows) for batch in loaders["test"].in_order(24)] == [24]


def test_sampler_of_a_dataset(write_config, tmp_path, monkeypatch):
    (tmp_path / "samplerdata").mkdir()
    (tmp_path / "samplerdata" / "__init__.py").write_text(
        "import torch\n\n\nclass Data(torch.utils.data.Dataset):\n    labels = [0] * 9 + [1]\n\n"
        "    def __len__(self):\n        return 10\n\n"
        "    def __getitem__(self, i):\n        return torch.ones(3, 16, 25, 2) * i, self.labels[i], i\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    path = write_config(
        feeder="samplerdata.Data", feeder_args=None, train_feeder_args=None, test_feeder_args=None, layout="ntu25",
        model_args={"base_channel": 4, "num_class": 2}, overlap="warn",
    )  # fmt: skip
    config = load_config([path, method("over_sampling")], plugins=["samplerdata"])
    train = load_data(config, CPU).loaders["train"]
    assert train.samples_per_epoch == 18
    assert [int(batch.y.sum()) for batch in train.shuffled(0)] == [
        int(train.labels[rows].sum()) for rows in train.plan(0)
    ]
    assert train.labels[train.plan(0)].float().mean().item() == pytest.approx(0.5, abs=0.1)


def test_post_hoc_adjusts_the_same_scores(first_stage, tmp_path):
    path, first = first_stage
    before = read_scores(first)
    after = run(path, "post_hoc", tmp_path / "post", "--weights", str(first / "last.pt"))
    adjustment = post_hoc_adjustment(before.class_counts).numpy()
    np.testing.assert_allclose(after.scores, before.scores - adjustment, rtol=1e-5, atol=1e-5)
    (line,) = [json.loads(text) for text in (tmp_path / "post" / "metrics.jsonl").read_text().splitlines()]
    assert line["epoch"] == -1
    assert line["top1"] == pytest.approx(after.metrics()["top1"])


def test_tau_normalisation_needs_no_training(first_stage, tmp_path):
    path, first = first_stage
    folder = tmp_path / "tau"
    run(path, "tau_normalisation", folder, "--weights", str(first / "last.pt"))
    old, new = (torch.load(place / "last.pt", weights_only=True)["model"] for place in (first, folder))
    for key in old:
        if not key.startswith("fc."):
            assert torch.equal(old[key], new[key])
    torch.testing.assert_close(new["fc.weight"].norm(dim=1), torch.ones(12))
    stamp = (folder / "scores_test.npz").stat().st_mtime_ns
    run(path, "tau_normalisation", folder, "--weights", str(first / "last.pt"))  # finished: nothing happens
    assert (folder / "scores_test.npz").stat().st_mtime_ns == stamp
    again = ["--config", path, method("tau_normalisation"), "--phase", "test", "--work_dir", str(tmp_path / "test")]
    assert main.main([*again, "--weights", str(folder / "last.pt")]) == 0
    tested = read_scores(tmp_path / "test" / "scores_test_last.npz")
    np.testing.assert_array_equal(tested.scores, read_scores(folder).scores)


def test_retraining_keeps_the_features(first_stage, tmp_path):
    path, first = first_stage
    folder = tmp_path / "again"
    words = ["--weights", str(first / "last.pt"), "--num_epoch", "2"]
    run(path, "classifier_retraining", folder, *words, "--set", "save_steps=1")
    old, new = (torch.load(place / "last.pt", weights_only=True)["model"] for place in (first, folder))
    assert {key for key in old if not torch.equal(old[key], new[key])} == {"fc.weight", "fc.bias"}


def test_retraining_resumes(first_stage, tmp_path, monkeypatch):
    path, first = first_stage
    words = ["--weights", str(first / "last.pt"), "--num_epoch", "2"]
    whole = run(path, "classifier_retraining", tmp_path / "whole", *words)
    folder = tmp_path / "cut"
    config = load_config(
        [path, method("classifier_retraining")],
        {"weights": str(first / "last.pt"), "num_epoch": 2, "work_dir": str(folder)},
    )
    run_epoch = Training.run_epoch

    def stop(self, record):
        if self.epoch == 1:
            raise OSError("cut")
        run_epoch(self, record)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "run_epoch", stop)
        with pytest.raises(OSError, match="cut"):
            Processor(config).start()
    began_with = file_checksum(first / "last.pt")
    with open(first / "last.pt", "ab") as file:  # another file, which the second stage never saw
        file.write(b" ")
    resumed = run(path, "classifier_retraining", folder, *words)
    np.testing.assert_array_equal(resumed.scores, whole.scores)
    assert json.loads((folder / "environment.json").read_text())["weights_checksum"] == began_with


def test_second_stage_needs_weights(write_config):
    with pytest.raises(ConfigError, match=r"second_stage tau_normalisation needs weights: a first stage's last.pt"):
        load_config([write_config(), method("tau_normalisation")])


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"loss": "focal", "loss_args": {"gama": 1}}, r"unknown key loss_args.gama; did you mean gamma\?"),
        ({"loss": "ldam", "loss_args": {"scale": "much"}}, r"loss_args.scale: .*valid number"),
        ({"loss": "cross_entropy", "loss_args": {"gamma": 1}}, r"unknown key loss_args.gamma"),
        ({"mixing": "mixup", "mixing_args": {"temperature": 1}}, r"unknown key mixing_args.temperature"),
        ({"mixing": "none", "mixing_args": {"alpha": 1}}, r"mixing_args .* without effect, because mixing is none"),
        ({"second_stage_args": {"tau": 1}}, r"second_stage_args .* without effect"),
        ({"reweight_from": 1}, r"reweight_from: .*less than 1"),
        ({"sampler": "balanced"}, r"sampler: .*'class_balanced'"),
    ],
)
def test_bad_keys(write_config, changes, wanted):
    with pytest.raises(ConfigError, match=wanted):
        load_config(write_config(**changes))


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"loss": "cross_entropy", "tau": 0.5}, "tau has no effect, because loss is cross_entropy"),
        ({"reweight_beta": 0.9}, "reweight_beta has no effect, because reweight_from is not set"),
        ({"mixing": "mixup", "baseline": "published"}, "baseline has no effect, because mixing is mixup"),
        (
            {"mixing": "st_mix", "mixing_args": {"temperature": 0.1}},
            "mixing_args.temperature has no effect, because mixing is st_mix",
        ),
        (
            {"mixing_args": {"estimator": "refresh", "estimate_interval": 4, "rarity": "index"}},
            "mixing_args.estimate_interval has no effect, because mixing_args.estimator is refresh",
        ),
        (
            {"mixing_args": {"refresh_interval": 4, "estimate_interval": 4}},
            "mixing_args.refresh_interval has no effect, because mixing_args.estimator is sampled",
        ),
        ({"tau": 0.5, "reweight_from": 0.5, "reweight_beta": 0.9, "baseline": "published"}, None),
        ({"mixing": "st_mix", "mixing_args": {"paste_probability": 0.5}}, None),
        ({"loss": "cross_entropy", "tau": 1, "mixing": "none"}, None),
    ],
)
def test_keys_without_effect_are_told(write_config, changes, wanted):
    told = [
        f"{key} has no effect, because {why}" for key, why in keys_without_effect(load_config(write_config(**changes)))
    ]
    assert told == ([] if wanted is None else [wanted])


def test_a_run_tells_of_keys_without_effect(write_config, tmp_path):
    assert main.main(["--config", write_config(mixing="none", loss="cross_entropy", tau=0.5, num_epoch=1)]) == 0
    assert "WARNING tau has no effect, because loss is cross_entropy\n" in (tmp_path / "run" / "log.txt").read_text()


def test_what_st_mix_reads_is_no_argument_of_guidance():
    """Every argument in GUIDANCE leaves uniform mixing as it is, bit for bit, and no other argument is missing."""
    others = {"coalition_sizes", "paste_probability", "window", "with_clean", "enabled"}
    others |= {"body", "people", "dims", "same_facing", "up"}
    st_mix = MIXERS["st_mix"]
    reserved = st_mix.reserved - {"network"}
    assert set(parameters(st_mix.make)) == {*GUIDANCE, *reserved, *others}
    assert st_mix.ignores == GUIDANCE
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(6, 3, 16, 25, 1, generator=rng), torch.tensor([0, 1, 2, 0, 1, 2])
    odd = {"temperature": 9.0, "bias_correction": True, "standardise": True, "guide_from": 3.0, "estimator": "refresh",
           "refresh_interval": 9, "scale": 9.0, "estimate_interval": 9, "estimate_fraction": 0.1, "rarity": "index",
           "update": "sequential", "decay_start": "later", "reduction": "table"}  # fmt: skip
    assert set(odd) == set(GUIDANCE)

    def mixed(**args: object) -> list[torch.Tensor]:
        mixer = st_mix.make("ntu25", [9, 5, 2], **st_mix.sets, **args)
        found = []
        for step in range(6):
            mixer.start_step(9, step)
            mixer.observe(torch.nn.Identity(), x, y)
            found += mixer(x, y)
        return found

    for args in ({name: value} for name, value in odd.items()):
        assert all(map(torch.equal, mixed(), mixed(**args))), args


def test_what_a_refresh_does_not_read():
    """Every argument in SAMPLED leaves a mixer with refreshed rows as it is, and no other one of guidance does."""
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(6, 3, 16, 25, 1, generator=rng), torch.tensor([0, 1, 2, 0, 1, 2])
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(x[0].numel(), 3))
    weights = 0.05 * torch.randn(4, 3, x[0].numel(), generator=rng)  # of each epoch

    def rows(**args: object) -> list[torch.Tensor]:
        mixer = MIXERS["shap_mix"].make(
            "ntu25", [9, 2, 5], torch.zeros_like(x[0]), naive_mix_epoch=0, naive_estimate_epoch=0,
            **{"estimator": "refresh", "paste_probability": 1.0, **args},
        )  # fmt: skip
        seen = []
        for epoch in range(4):
            if mixer.refresh_due(epoch):
                network[1].weight.data = weights[epoch]
                mixer.refresh(network, [(x, y)])
            for step in range(4):
                mixer.start_step(epoch, step)
                mixer.observe(network, x, y)
                seen += [mixer.saliency.logits().clone(), *mixer(x, y)]
        return seen

    known = rows()
    odd = {"temperature": 9.0, "bias_correction": False, "standardise": True, "guide_from": 3.0, "scale": 9.0,
           "refresh_interval": 1, "estimate_interval": 9, "estimate_fraction": 0.1, "rarity": "index",
           "update": "sequential", "decay_start": "later", "reduction": "table"}  # fmt: skip
    alike = {name for name, value in odd.items() if all(map(torch.equal, known, rows(**{name: value})))}
    assert alike == set(SAMPLED)


def test_bad_values_are_told_with_their_key(write_config, capsys):
    for changes, wanted in (
        ({"loss": "focal", "loss_args": {"gamma": -1}}, "loss_args: gamma must be >= 0"),
        ({"mixing": "remix", "mixing_args": {"kappa": 0}}, "mixing_args: need kappa >= 1"),
    ):
        path = write_config(**changes)
        assert main.main(["--config", path]) == 2
        assert wanted in capsys.readouterr().err


def test_evaluation_alone_needs_weights(write_config):
    with pytest.raises(ConfigError, match="num_epoch 0 evaluates weights, but there are none"):
        load_config(write_config(num_epoch=0))
    with pytest.raises(ConfigError, match="tau_normalisation trains nothing; set num_epoch to 0"):
        load_config([write_config(), method("tau_normalisation")], {"weights": "last.pt", "num_epoch": 2})


def test_evaluation_alone_that_was_stopped_is_done_again(first_stage, tmp_path, monkeypatch):
    path, first = first_stage
    folder, words = tmp_path / "post", ["--weights", str(first / "last.pt")]

    def stop(self, metrics):
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(Training, "evaluate", stop)
        assert main.main(["--config", path, method("post_hoc"), "--work_dir", str(folder), *words]) == 143
    assert not (folder / "scores_test.npz").exists()
    run(path, "post_hoc", folder, *words)
    (line,) = [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]
    assert line["epoch"] == -1


def test_ldam_fits_the_classifier(write_config, tmp_path, capsys, caplog):
    words = ["--config", write_config(num_epoch=1), method("ldam"), "--set", "loss_args.scale=10"]
    assert main.main(words) == 2
    assert "loss_args.scale is 10.0, but that of the cosine classifier is 30.0" in capsys.readouterr().err
    run(write_config(num_epoch=1), "ldam", tmp_path / "linear", "--set", "model_args.classifier=linear")
    assert "margins of a cosine classifier, which this network lacks" in (tmp_path / "linear" / "log.txt").read_text()


def test_retraining_freezes_what_became_of_the_norms(first_stage, tmp_path, monkeypatch):
    """On several GPUs SyncBatchNorm takes the norms' places before anything is frozen."""
    path, first = first_stage
    config = load_config([path, method("classifier_retraining")], {"weights": str(first / "last.pt")})
    parts = as_on_cuda.build_of_several(config, monkeypatch)
    norms = [module for module in parts.network.modules() if isinstance(module, torch.nn.SyncBatchNorm)]
    assert norms
    assert not any(norm.training for norm in norms)
    assert parts.network.fc.training
