"""Training that begins with the weights of other classes or another skeleton, and classifiers trained alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import yaml

import main
from model import ctrgcn
from processor.build import build
from processor.checkpoint import load_checkpoint
from processor.config_files import keys_without_effect, load_config
from processor.data import load_data
from processor.errors import CheckpointError, ConfigError
from processor.host import Stopped
from processor.report.open_run import open_run
from processor.run_folder import RunFolder
from processor.scores import read_scores
from processor.training import Training
from processor.weights import load_weights
from tests import as_on_cuda, small
from tests.conftest import tiny_config
from tests.made_up import DESK, HAND, write_moving_parts
from tests.model import test_backbones
from tests.model.test_backbones import draw, every_network, make, randomised

NETWORKS = {"ctrgcn": ctrgcn, **test_backbones.NETWORKS}
DESK_CARD = {"layout": DESK.plain(), "sample_shape": (3, 16, 13, 2)}  # what is read of a card
CPU = torch.device("cpu")
# The same joints in other parts, and so another number of classes.
DESK_IN_FOUR = dataclasses.replace(
    DESK, name="desk13_in_4", parts={"belly": (0, 1, 2), "head": (3, 4, 5, 6), "left": (7, 8, 9), "right": (10, 11, 12)}
)


def config_of(folder, layout, **changes):
    """The path of a config whose set has one class for each part of a layout."""
    write_moving_parts(folder / layout.name, layout, n_max=8, imbalance=4)
    own = {"feeder": "feeders.feeder_store.Feeder", "train_feeder_args": {}, "test_feeder_args": {"split": "test"}}
    own |= {"feeder_args": {"data_path": str(folder / layout.name), "window_size": 16}}
    values = tiny_config(folder, **own, mixing="none", loss="cross_entropy", num_epoch=1, logger="none")
    path = folder / f"{layout.name}.yaml"
    path.write_text(yaml.safe_dump(values | changes))
    return str(path)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The last.pt of a run with the three classes of DESK."""
    folder = tmp_path_factory.mktemp("first")
    assert main.main(["--config", config_of(folder, DESK), "--print_log", "false"]) == 0
    return folder / "run" / "last.pt"


def words(folder, layout, first, **changes):
    """A command line that begins with the first run's weights."""
    return ["--config", config_of(folder, layout, **changes), "--weights", str(first), "--new_classifier", "true"]


def began_with(path, first, **keys) -> tuple[dict, dict]:
    """The weights of the first run, and those that a run begins with."""
    config = load_config(path, {"weights": str(first), "new_classifier": True, **keys})
    network = build(config, load_data(config, CPU), CPU).network
    return load_checkpoint(first)["model"], network.state_dict()


def test_other_classes(tmp_path, first, caplog):
    caplog.set_level("INFO")
    old, new = began_with(config_of(tmp_path, DESK_IN_FOUR), first)
    assert {key for key in new if not torch.equal(old[key], new[key])} == {"fc.weight", "fc.bias"}
    assert len(new["fc.weight"]) == 4
    assert "fc 0 of 2" in caplog.text
    assert "not loaded: fc.weight: the new classifier" in caplog.text


def test_as_many_classes_that_are_others(tmp_path, first):
    """The classifier is a new one even where the old one would fit."""
    path = config_of(tmp_path, DESK)
    old, new = began_with(path, first)
    assert not torch.equal(old["fc.weight"], new["fc.weight"])


def test_another_skeleton(tmp_path, first, caplog):
    """Without the card nothing is known of its joints: what has another shape is left out."""
    caplog.set_level("INFO")
    torch.save({"model": load_checkpoint(first)["model"]}, tmp_path / "bare.pt")
    old, new = began_with(config_of(tmp_path, HAND), tmp_path / "bare.pt")
    same = {key for key in new if old[key].shape == new[key].shape and torch.equal(old[key], new[key])}
    others = {key.rpartition(".")[2] for key in new.keys() - same if not key.startswith(("data_bn", "fc"))}
    assert others == {"PA"}
    assert "data_bn 1 of 5, l1 " in caplog.text
    assert "not loaded: l3.gcn1.PA: (3, 13, 13) in the file, (3, 21, 21) in the network" in caplog.text


REVERSED = dataclasses.replace(
    DESK,
    name="desk13_reversed",
    joint_names=DESK.joint_names[::-1],
    bones=tuple((12 - joint, 12 - nearer) for joint, nearer in DESK.bones),
    parts={part: tuple(12 - joint for joint in joints) for part, joints in DESK.parts.items()},
    edges=(),
)


@pytest.mark.parametrize("name", NETWORKS)
def test_joints_in_another_order(tmp_path, name, caplog):
    """What belongs to joints finds them by name: the features of turned samples are the same (but for a convolution
    along joints)."""
    caplog.set_level("INFO")
    theirs, ours = (NETWORKS[name].Model(5, layout, 2, base_channel=4) for layout in (DESK, REVERSED))
    randomised(theirs, 4, 3, 16, 13, 2).float()
    if name == "aagcn":
        for module in theirs.modules():
            if hasattr(module, "joints"):
                torch.nn.init.zeros_(module.joints.weight)
    torch.save({"model": theirs.state_dict(), "card": DESK_CARD}, tmp_path / "w.pt")
    skipped = load_weights(ours, tmp_path / "w.pt", new="fc")
    assert {line.rpartition(": ")[2] for line in skipped} <= {"the new classifier", "its joints are others"}
    assert "by name: 13 of 13" in caplog.text
    ours.fc.load_state_dict(theirs.fc.state_dict())
    x = draw(2, 3, 16, 13, 2).float()
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(x.flip(3)), theirs.eval()(x), rtol=1e-4, atol=1e-4)
    load_weights(ours, tmp_path / "w.pt")  # as they are, for the same classes: a warning
    assert "are others, or in another order (desk13, here desk13_reversed)" in caplog.text


def test_some_joints(tmp_path):
    """Joints and people that only this network has begin as they would without weights."""
    theirs = randomised(ctrgcn.Model(5, DESK, 2, base_channel=4), 4, 3, 16, 13, 2).float()
    torch.save(
        {"model": theirs.state_dict(), "card": DESK_CARD},
        tmp_path / "w.pt",
    )
    ours = ctrgcn.Model(7, "ucla20", 3, base_channel=4)
    before = {key: value.clone() for key, value in ours.state_dict().items()}
    load_weights(ours, tmp_path / "w.pt", new="fc")
    there, here = DESK.joint("left_wrist"), ours.layout.joint("left_wrist")
    neck = DESK.joint("neck"), ours.layout.joint("neck")
    spine = ours.layout.joint("spine")
    graph = ours.l2.gcn1.PA
    assert torch.equal(graph[:, here, neck[1]], theirs.l2.gcn1.PA[:, there, neck[0]])
    assert torch.equal(graph[:, here, spine], before["l2.gcn1.PA"][:, here, spine])
    norm, other = ours.data_bn.running_mean.view(3, 20, 3), theirs.data_bn.running_mean.view(2, 13, 3)
    assert torch.equal(norm[:2, here], other[:, there])
    assert torch.equal(norm[2], torch.zeros(20, 3))


@every_network
def test_every_network(tmp_path, name):
    """Of another skeleton, all but the graph, the input's norm and the attention over joints is loaded."""
    torch.save(make(name, base_channel=12).state_dict(), tmp_path / "w.pt")
    ours = make(name, "ucla20", base_channel=12)
    skipped = {line.partition(":")[0] for line in load_weights(ours, tmp_path / "w.pt", new="fc")}
    kinds = {key.rpartition(".")[2] for key in skipped if not key.startswith(("data_bn", "fc"))}
    assert {key for key in skipped if key.startswith("fc")} == {"fc.weight", "fc.bias"}
    assert kinds <= {"A", "PA", "weight"}
    assert all("attention.joints" in key for key in skipped if key.endswith("gcn1.attention.joints.weight"))
    with pytest.raises(CheckpointError, match=r"of another network .*, or set new_classifier: true to train other"):
        load_weights(ours, tmp_path / "w.pt")


def test_without_the_flag_it_is_named(tmp_path, first, capsys):
    assert main.main(words(tmp_path, DESK_IN_FOUR, first)[:-2]) == 2
    error = capsys.readouterr().err
    assert "fc.weight: (3, 16) in the file, (4, 16) in the network" in error
    assert "new_classifier: true" in error


@pytest.mark.parametrize(
    "changes", [{"model_args": {"base_channel": 8}}, {"model": "model.stgcn.Model"}], ids=["width", "network"]
)
def test_another_network_is_refused(tmp_path, first, capsys, changes):
    assert main.main(words(tmp_path, DESK_IN_FOUR, first, **changes)) == 2
    assert "weights below the classifier fit; not " in capsys.readouterr().err


def test_nothing_fits(tmp_path):
    torch.save({"a.weight": torch.zeros(2, 2)}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="has no weight of this network"):
        load_weights(make("stgcn"), tmp_path / "w.pt", new="fc")


def test_what_is_tested_keeps_its_classifier(tmp_path, first):
    """... whatever the run began with: config.yaml says new_classifier and ignore_weights."""
    run = tmp_path / "run"
    assert main.main([*words(tmp_path, DESK_IN_FOUR, first), "--ignore_weights", "data_bn"]) == 0
    assert "new_classifier: true" in (run / "config.yaml").read_text()
    live = open_run(RunFolder(run))
    for key, value in load_checkpoint(run / "last.pt")["model"].items():
        assert torch.equal(live.network.state_dict()[key], value), key
    again = ["--config", str(run / "config.yaml"), "--phase", "test", "--weights", str(run / "last.pt")]
    assert main.main([*again, "--set", "ignore_weights=[]"]) == 0
    np.testing.assert_array_equal(read_scores(run / "scores_test_last.npz").scores, read_scores(run).scores)


# --- freeze ----------------------------------------------------------------------------------------------------------


def changed(first, run) -> set[str]:
    """Names of the weights and statistics that training changed."""
    old, new = load_checkpoint(first)["model"], load_checkpoint(run / "last.pt")["model"]
    return {key for key in old if old[key].shape != new[key].shape or not torch.equal(old[key], new[key])}


@pytest.mark.parametrize(
    "keys",
    [
        {"mixing": "shap_mix", "loss": "logit_adjustment", "reweight_from": 0},
        {"second_stage": "classifier_retraining", "sampler": "class_balanced"},
        {"average_weights": "swa"},
    ],
    ids=lambda keys: next(iter(keys)),
)
def test_the_classifier_is_trained_alone(tmp_path, first, keys):
    assert main.main([*words(tmp_path, DESK_IN_FOUR, first, **keys), "--freeze", "backbone"]) == 0
    assert changed(first, tmp_path / "run") == {"fc.weight", "fc.bias"}
    average = load_checkpoint(tmp_path / "run" / "last.pt")["average"]
    for key, value in load_checkpoint(first)["model"].items():  # of the average no statistics either
        assert not average or key.startswith("fc.") or torch.equal(average[f"module.{key}"], value)


def test_frozen_runs_go_on(tmp_path, first, monkeypatch):
    def run(folder) -> np.ndarray:
        folder.mkdir()
        line = words(folder, DESK_IN_FOUR, first, mixing="shap_mix", num_epoch=2)
        code = main.main([*line, "--freeze", "backbone"])
        while code == 143:
            monkeypatch.undo()
            code = main.main([*line, "--freeze", "backbone"])
        assert code == 0
        return read_scores(folder / "run").scores

    whole = run(tmp_path / "whole")
    run_epoch = Training.run_epoch

    def stop(self, record):
        if self.epoch == 1:
            raise Stopped
        run_epoch(self, record)

    monkeypatch.setattr(Training, "run_epoch", stop)
    np.testing.assert_array_equal(run(tmp_path / "cut"), whole)


def test_frozen_norms_of_several_gpus(tmp_path, first, monkeypatch):
    """SyncBatchNorm takes the norms' places before anything is frozen."""
    keys = {"weights": str(first), "new_classifier": True, "freeze": "backbone"}
    config = load_config(config_of(tmp_path, DESK_IN_FOUR), keys)
    parts = as_on_cuda.build_of_several(config, monkeypatch)
    norms = [module for module in parts.network.modules() if isinstance(module, torch.nn.SyncBatchNorm)]
    assert norms
    assert not any(norm.training for norm in norms)
    assert [key for key, value in parts.network.named_parameters() if value.requires_grad] == ["fc.weight", "fc.bias"]


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ({"freeze": "backbone"}, "freeze backbone needs weights: random ones would stay"),
        ({"freeze": "head"}, "freeze: .*'none' or 'backbone'"),
        ({"weights": "x.pt", "new_classifier": True, "num_epoch": 0}, "new_classifier with num_epoch 0"),
    ],
)
def test_bad_keys(write_config, keys, wanted):
    with pytest.raises(ConfigError, match=wanted):
        load_config(write_config(), keys)


def test_a_network_without_fc(tmp_path):
    torch.save(small.Model(4, num_point=13).state_dict(), tmp_path / "small.pt")
    path = config_of(tmp_path, DESK_IN_FOUR, model="tests.small.Model", model_args={})
    for keys in ({"new_classifier": True}, {"freeze": "backbone"}):
        config = load_config(path, {"weights": str(tmp_path / "small.pt"), **keys}, ["tests"])
        with pytest.raises(ConfigError, match=rf"{next(iter(keys))}: the network has no linear layer 'fc' .*; it has "):
            build(config, load_data(config, CPU), CPU)


def test_no_effect_is_told(write_config):
    told = dict(keys_without_effect(load_config(write_config(new_classifier=True))))
    assert told == {"new_classifier": "weights is not set"}
