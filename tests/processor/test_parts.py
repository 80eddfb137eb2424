"""Parts of a checkpoint that are missing, or of another kind than they must be, are an error that names them."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import asdict, fields

import pytest
import torch
from torch import nn

from processor.card import Card, card_of
from processor.checkpoint import load_checkpoint, save_checkpoint
from processor.engine import Meter
from processor.errors import CheckpointError, shown
from processor.parts import KINDS, check_parts, restoring
from processor.recognition import trained_network
from processor.training import restore_optimizer
from processor.weights import load_weights
from tools.faults.untrained import write_checkpoint

CARD = Card(
    {}, (3, 16, 5, 1), 3, ["a", "b"], [4, 0], baseline=torch.zeros(3, 16, 5, 1), spread=0.5, version="1"
).plain()
STATE = {
    "model": {"fc.weight": torch.ones(2, 3), "fc._extra_state": 1},
    "optimizer": {"state": {0: {"momentum_buffer": None, "step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1}]},
    "mixer": {}, "epoch": 1, "meter": asdict(Meter()), "best": {}, "average": {}, "data": "d", "weights": None,
    "threads": 1, "config": {"seed": 1, "groups": {"many": 100}, "tuple": (1, None)}, "origin": {}, "card": CARD,
    "metrics": {0: 17, 1: None},
}  # fmt: skip


def test_every_field_has_a_kind():
    for part, made in {"card": Card, "meter": Meter}.items():
        there = {name.partition(".")[2] for name in KINDS if name.startswith(f"{part}.")}
        assert there == {field.name for field in fields(made)} - {"config"}
    assert {name.partition(".")[0] for name in KINDS} == STATE.keys()


def test_good_parts(tmp_path):
    save_checkpoint(tmp_path / "a.pt", STATE)
    assert card_of(load_checkpoint(tmp_path / "a.pt"), "a.pt").sample_shape == (3, 16, 5, 1)
    check_parts("a.pt", STATE | {"best": {"value": 0.5, "epoch": 1, "split": "val", "test": 0.5}}, *STATE)
    with pytest.raises(CheckpointError, match=r"a\.pt has no epoch, meter"):
        check_parts("a.pt", {"config": {}}, "config", "epoch", "meter")


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("config", [1, 2]), ("config", {1: 2}), ("config", {"a": [torch.ones(1)]}), ("epoch", "1"), ("epoch", True),
        ("epoch", -1), ("meter", None), ("meter.steps", "1"), ("optimizer", {}),
        ("model", {"w": 5}), ("model", [1]), ("mixer", 3), ("best", {"epoch": 1}), ("average", {"w": ""}),
        ("card", 5), ("card.class_names", None), ("card.class_counts", ["1", "2"]), ("card.temperature", "x"),
        ("card.temperature", math.nan), ("card.temperature", 0.0), ("card.sample_shape", [3]),
        ("card.layout", 1), ("card.view", "x"), ("card.baseline", [1.0]), ("card.spread", math.inf),
        ("card.dims", None), ("metrics", {"0": 1}),
    ],
)  # fmt: skip
def test_another_kind(tmp_path, part, value):
    name, _, field = part.partition(".")
    path = tmp_path / "a.pt"
    save_checkpoint(path, STATE | {name: {**STATE[name], field: value} if field else value})
    with pytest.raises(CheckpointError, match=rf"a\.pt is damaged or not of this program: {name}.*; got "):
        load_checkpoint(path)


def test_fields_that_do_not_fit():
    for card in ({"card": CARD | {"class_counts": [1]}}, {"card": {}}):
        with pytest.raises(CheckpointError, match=r"a\.pt has a card of another version"):
            card_of(STATE | card, "a.pt")
    weight = torch.nn.Parameter(torch.ones(2, 3))
    optimizer = torch.optim.SGD([weight], 0.1, momentum=0.9)
    state = optimizer.state_dict()
    for other in ({"state": {0: {"momentum_buffer": torch.ones(4)}}}, {"param_groups": []}):
        with pytest.raises(CheckpointError, match=r"a\.pt does not fit this run"), restoring("a.pt"):
            restore_optimizer(optimizer, state | other)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.to(torch.complex64), "complex values in fc.bias"),
        (lambda w: w.to_sparse(), "sparse, quantised or empty tensors in fc.bias"),
        (lambda w: w.to("meta"), "sparse, quantised or empty tensors in fc.bias"),
        (lambda w: w * math.nan, "NaN or infinite values in fc.bias"),
    ],
)
def test_weights_that_are_no_plain_numbers(tmp_path, change, words):
    network = nn.Sequential(OrderedDict(fc=nn.Linear(3, 4)))
    torch.save({**network.state_dict(), "fc.bias": change(torch.ones(4))}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=rf"w\.pt has {words}"):
        load_weights(network, tmp_path / "w.pt")


def test_networks_that_would_fill_the_memory(tmp_path):
    """... are not built: their shapes are compared first."""
    state = load_checkpoint(path := write_checkpoint(tmp_path))
    few = {"x": torch.ones(1)}
    for width, weights, words in (
        (20_000, state["model"], "is of another network"), (20_000, few, "values of its network"),
        (2 * 10**9, state["model"], "cannot be built"),
    ):  # fmt: skip
        config = state["config"] | {"model_args": {"base_channel": width}}
        save_checkpoint(path, state | {"config": config, "model": weights})
        with pytest.raises(CheckpointError, match=rf"last\.pt.*{words}"):
            trained_network(path)


def test_messages_stay_short():
    value: object = "x" * 1000
    for _ in range(200):
        value = [value, value]
    assert len(shown(value)) < 500
    assert len(shown({"a": 10**900, "b": ["long"] * 10**5})) < 500
