"""Weights of other programs and of older versions: read under their names, with the logits that they had."""

from __future__ import annotations

import argparse
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from model import ctrgcn
from model.graph import spatial_adjacency
from processor.errors import CheckpointError
from processor.weights import load_weights

from .recogniser import Recogniser
from .test_backbones import BODY, draw, every_network, make, randomised

META = {"epoch": 16, "mmcv_version": "1.5.0", "config": "model = dict(type='RecognizerGCN')", "CLASSES": ["a", "b"]}
WIDTH, PEOPLE, CLASSES = 12, 2, 5


def recogniser(name: str, joints: int = 4) -> Recogniser:
    """The other program's network with a graph of its own and no weight at its initial value."""
    graph = draw(3, joints, joints, seed=7)
    network = Recogniser(name, WIDTH, graph, PEOPLE, CLASSES)
    for number, block in enumerate(network.backbone.gcn):
        block.gcn.A.data = draw(*graph.shape, seed=number)
    return randomised(network, 4, 3, 16, joints, PEOPLE)


def save(path, weights, form: str):
    """The forms in which checkpoints of other programs come."""
    weights = OrderedDict(weights)
    torch.save(
        {
            "mmcv": {"meta": META, "state_dict": weights, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}},
            "state_dict": {"state_dict": weights},
            "bare": weights,
            "ddp": {f"module.{key}": value for key, value in weights.items()},
            "compiled": {"model": {f"_orig_mod.module.{key}": value for key, value in weights.items()}},
        }[form],
        path,
    )
    return path


def deviation(ours: nn.Module, theirs: nn.Module, joints: int = 4) -> float:
    x = draw(6, 3, 18, joints, PEOPLE)
    with torch.no_grad():
        want = theirs(x)
        return ((ours.eval()(x) - want).abs().max() / want.abs().max()).item()


@every_network
@pytest.mark.parametrize("form", ["mmcv", "state_dict", "bare", "ddp", "compiled"])
def test_logits_of_pyskl(tmp_path, name, form):
    theirs = recogniser(name)
    ours = make(name, num_person=PEOPLE, num_class=CLASSES, base_channel=WIDTH).double()
    assert load_weights(ours, save(tmp_path / "w.pth", theirs.state_dict(), form)) == []
    assert deviation(ours, theirs) < 1e-14
    again = make(name, num_person=PEOPLE, num_class=CLASSES, base_channel=WIDTH).double()
    assert load_weights(again, save(tmp_path / "own.pt", ours.state_dict(), form)) == []  # now under our names
    assert deviation(again, theirs) < 1e-14


@every_network
def test_body_alone(tmp_path, name):
    """A body without its head, for another number of classes: the user says that fc is not there."""
    theirs = recogniser(name)
    path = save(tmp_path / "body.pth", theirs.backbone.state_dict(), "bare")
    ours = make(name, num_person=PEOPLE, num_class=CLASSES, base_channel=WIDTH).double()
    with pytest.raises(CheckpointError, match=r"unknown: none; missing: fc\.weight, fc\.bias\. "):
        load_weights(ours, path)
    before = ours.fc.weight.clone()
    assert [line.partition(":")[0] for line in load_weights(ours, path, ["fc."])] == ["fc.weight", "fc.bias"]
    assert torch.equal(ours.fc.weight, before)
    theirs.cls_head.fc_cls.load_state_dict(ours.fc.state_dict())
    assert deviation(ours, theirs) < 1e-14


@every_network
def test_new_classes(tmp_path, name):
    """All but the classifier, of another skeleton what fits; a file without a classifier will do."""
    weights = recogniser(name).state_dict()
    whole = save(tmp_path / "w.pth", weights, "mmcv")
    headless = {key: value for key, value in weights.items() if not key.startswith("cls_head.")}
    for path in (whole, save(tmp_path / "headless.pth", headless, "mmcv")):
        ours = make(name, num_class=7, num_person=PEOPLE, base_channel=WIDTH).double()
        skipped = load_weights(ours, path, new="fc")
        assert skipped == ["fc.weight: the new classifier", "fc.bias: the new classifier"]
    other = make(name, "ucla20", num_class=7, num_person=PEOPLE, base_channel=WIDTH).double()
    for line in load_weights(other, whole, new="fc"):
        assert line.startswith(("fc.", "data_bn.")) or " in the file, " in line


def test_other_names_are_refused(tmp_path):
    """All of a file with another program's names must fit: it names what does not."""
    weights = recogniser("stgcnpp").state_dict()
    ours = make("stgcnpp", num_person=PEOPLE, base_channel=WIDTH).double()
    odd = {**weights, "backbone.gcn.3.gcn.offset_scale": torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r"model\.stgcnpp: unknown: backbone\.gcn\.3\.gcn\.offset_scale; missing"):
        load_weights(ours, save(tmp_path / "w.pth", odd, "mmcv"))
    assert len(load_weights(ours, tmp_path / "w.pth", ["offset_scale"])) == 1
    for other in (make("aagcn", base_channel=WIDTH), ctrgcn.Model(5, BODY, 2, base_channel=WIDTH)):
        with pytest.raises(CheckpointError, match=r"unknown: .*gcn\.0\.gcn\.|of another network"):
            load_weights(other.double(), save(tmp_path / "w.pth", weights, "mmcv"))
    wide = make("stgcnpp", num_person=PEOPLE, base_channel=2 * WIDTH)
    with pytest.raises(CheckpointError, match="of another network"):
        load_weights(wide, save(tmp_path / "w.pth", weights, "mmcv"))
    weights["backbone.gcn.0.tcn.branches.1.0.weight"] = torch.zeros(2, 3, 1, 1)
    with pytest.raises(CheckpointError, match=r"l1\.tcn1\.reduce\.weight would be joined from"):
        load_weights(ours, save(tmp_path / "w.pth", weights, "mmcv"))


@pytest.mark.parametrize("value", [np.float64(0.9), argparse.Namespace(lr=0.1), nn.Linear(1, 1)], ids=str)
def test_other_objects_beside_the_weights(tmp_path, value):
    """... are not loaded, and nobody is advised to load them all the same."""
    ours = make("stgcn")
    torch.save({"meta": {**META, "best": value}, "state_dict": ours.state_dict()}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"^checkpoint \S+w\.pth holds more than .*; it is not loaded") as caught:
        load_weights(ours, tmp_path / "w.pth")
    assert "weights_only" not in str(caught.value)
    assert "weights alone" in str(caught.value)


def test_not_finite(tmp_path):
    ours = make("stgcn")
    weights = {**ours.state_dict(), "fc.bias": torch.full((5,), float("nan"))}
    with pytest.raises(CheckpointError, match=r"NaN or infinite values in fc\.bias"):
        load_weights(ours, save(tmp_path / "w.pt", weights, "bare"))


def test_names_that_begin_alike_in_the_network(tmp_path):
    """The network's own first name is not taken for a prefix, nor its own ``backbone`` for another program's."""
    network = nn.Sequential(OrderedDict(backbone=nn.Linear(3, 2), cls_head=nn.Linear(2, 2)))
    partly = {f"module.{key}": value + 1 for key, value in network.state_dict().items() if "backbone" in key}
    wanted = partly["module.backbone.weight"].clone()
    assert len(load_weights(network, save(tmp_path / "w.pt", partly, "bare"))) == 2
    assert torch.equal(network.backbone.weight, wanted)


# --- older versions of ours -------------------------------------------------------------------------------------------


class Older(nn.Module):
    """A graph convolution as it was, without what comes after the sum over joints: [target, source], bias before."""

    def __init__(self, new: nn.Module, skeleton: Tensor, name: str) -> None:
        super().__init__()
        self.name, self.skeleton = name, skeleton
        names = {"stgcn": "edge_importance", "stgcnpp": "adjacency", "aagcn": "offset"}
        self.learnt = names[name]
        setattr(self, self.learnt, nn.Parameter(draw(*skeleton.shape, seed=4) / 3))
        inputs, width = new.conv.in_channels, new.bn.num_features
        self.conv = nn.Conv2d(inputs, 3 * width, 1)
        for child, module in new.named_children():
            if child != "conv":
                self.add_module(child, module)
        if name == "aagcn":
            self.gate = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        learnt = getattr(self, self.learnt)
        graph = {"stgcn": self.skeleton * learnt, "stgcnpp": learnt, "aagcn": self.skeleton + learnt}[self.name]
        graph = graph.expand(len(x), -1, -1, -1)
        if self.name == "aagcn":
            target, source = self.embed(x).unflatten(1, (2, 3, -1)).unbind(1)
            size = target.shape[2] * target.shape[3]
            graph = graph + self.gate * torch.tanh(torch.einsum("nsctv,nsctw->nsvw", target, source) / size)
        y = self.bn(torch.einsum("nsctw,nsvw->nctv", self.conv(x).unflatten(1, (3, -1)), graph))
        y = torch.relu(y if self.name == "stgcn" else y + self.residual(x))
        return self.attention(y) if self.name == "aagcn" else y


@every_network
def test_older_versions(tmp_path, name):
    """... in which source and target were the other way round."""
    older = make(name, base_channel=WIDTH)
    skeleton = torch.from_numpy(spatial_adjacency(older.layout)).float()
    for number in range(1, 11):
        block = older.get_submodule(f"l{number}")
        block.gcn1 = Older(block.gcn1, skeleton, name)
    randomised(older, 4, 3, 16, 4, 2)
    assert not any(key.endswith(("gcn1.A", "gcn1.bias")) for key in older.state_dict())
    ours = make(name, base_channel=WIDTH).double()
    assert load_weights(ours, save(tmp_path / "old.pt", older.state_dict(), "compiled")) == []
    assert deviation(ours, older) < 1e-14
    again = make(name, base_channel=WIDTH).double()
    again.load_state_dict(ours.state_dict())
    assert deviation(again, older) < 1e-14
    with pytest.raises(CheckpointError, match=r"is not of this network: l1\.gcn1\.\w+ is \(3, 4, 4\), the graph here"):
        load_weights(make(name, "ucla20", base_channel=WIDTH), tmp_path / "old.pt")
