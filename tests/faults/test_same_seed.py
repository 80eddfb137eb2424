"""Same seed, same run; other seeds, epochs, steps and places give other draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from feeders.feeder_store import Feeder
from feeders.loader import StoreLoader
from processor.config_files import load_config
from tests.made_up import write_store
from tools.faults.same_seed import LOOKS, other_seed, twice
from tools.faults.short_runs import CONFIG, DEMO, OVERLAY_FILES, RECIPES

SOME = ["k400/shap_mix_stgcnpp", "ntu120_xsub_lt/shap_mix", "ntu60_3d_xview_lt/shap_mix", "nw_ucla_lt/small/shap_mix"]
ALL = {"eval_interval": 1, "log_interval": 1, "save_steps": 1, "save_interval": 1, "logger": "tensorboard"}


def test_every_recipe_is_known():
    """Those of one feeder and network do not all train here; tools.faults trains all."""
    assert {CONFIG / f"{name}.yaml" for name in SOME} < set(RECIPES)
    assert len(RECIPES) + len(OVERLAY_FILES) == len(
        [path for path in CONFIG.rglob("*.yaml") if path.parent.name != "sweeps"]
    )


def test_every_look_is_known():
    for key, values in LOOKS.items():
        for value in values:
            load_config([str(DEMO)], {key: value})


@pytest.mark.parametrize("name", SOME)
def test_recipe(name, tmp_path):
    assert twice([CONFIG / f"{name}.yaml"], ALL, tmp_path / "x").fate == "survived"


@pytest.mark.parametrize("method", ["remix_drw", "classifier_retraining"])
def test_method(method, tmp_path):
    paths = [DEMO, CONFIG / "methods" / f"{method}.yaml"]
    assert twice(paths, {**ALL, "report": method == "remix_drw"}, tmp_path / "x").fate == "survived"


def test_other_seed(tmp_path):
    assert other_seed([DEMO], 7, tmp_path / "x").fate == "survived"


def test_no_two_draws_are_equal(tmp_path):
    """One sequence, eight times: it is drawn in another way at each place of each step of each epoch with each seed."""
    frames = np.random.default_rng(0).normal(size=(40, 1, 13, 3))
    write_store(tmp_path / "store", {f"take {number}": frames for number in range(8)}, [0, 1] * 4)
    feeder = Feeder(str(tmp_path / "store"), "train", window_size=16, random_rot=0.3)
    seen = []
    for seed in (1, 2):
        loader = StoreLoader(feeder, 4, seed, torch.device("cpu"), torch.float32, None, "input", "batch")
        for epoch in range(2):
            first = [batch.x for batch in loader.shuffled(epoch)]
            assert all(map(torch.equal, first, [batch.x for batch in loader.shuffled(epoch)])), "the same again"
            seen += [x.numpy().tobytes() for x in torch.cat(first)]
    assert len(seen) == len(set(seen)) == 2 * 2 * 8
