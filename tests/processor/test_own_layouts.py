"""Layouts that nobody named, with 3 and with 6 parts: Shap-Mix finds the parts that carry each class."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import main
from processor.checkpoint import load_checkpoint
from processor.config_files import load_config
from processor.methods import METHODS
from tests.made_up import DESK, HAND, write_moving_parts
from tools import picture, saliency

RECIPE = "config/own_data.yaml"
SIZES = {"desk13": 2 * 3, "my_hand": 20}  # coalitions of 1 and 2 of 3 parts, of 3 of 6 parts


def test_the_recipe_takes_methods(tmp_path, capsys):
    """Every method lies over it, a run trains, and a split that is not there is named."""
    for name, method in METHODS.items():
        load_config([RECIPE, f"config/methods/{name}.yaml"], {"weights": "x.pt"} if method.starts_from else {})
    store = write_moving_parts(tmp_path / "mine", DESK, n_max=8, imbalance=2)
    words = ["--config", RECIPE, "config/methods/ldam_drw.yaml", "--num_epoch", "1", "--warm_up_epoch", "0", "--set"]
    words += [f"feeder_args.data_path={store.path}", "feeder_args.window_size=8", "model_args.base_channel=4"]
    assert main.main([*words, f"work_dir={tmp_path / 'run'}"]) == 0
    assert "move trunk" in capsys.readouterr().err + (tmp_path / "run" / "log.txt").read_text()
    (store.path / "splits" / "test.txt").unlink()
    assert main.main([*words, f"work_dir={tmp_path / 'other'}"]) == 2
    assert "has no split 'test'; there are train. New lists: python -m tools.split" in capsys.readouterr().err


@pytest.mark.parametrize("layout", [DESK, HAND], ids=lambda layout: layout.name)
def test_the_carrying_parts_are_found(layout, tmp_path, write_config, capsys):
    """In the exact contributions of each class, and in the table that training learned."""
    store = write_moving_parts(tmp_path / "mine", layout)
    run = str(tmp_path / "run")
    config = write_config(
        feeder="feeders.feeder_store.Feeder",
        feeder_args={"data_path": str(store.path), "window_size": 16, "scale": "bones"},
        train_feeder_args={"repeat": 2},
        test_feeder_args=None,
        model="tests.small.Model",
        model_args={"drop_out": 0.0},
        mixing="shap_mix",
        loss="logit_adjustment",
        optimizer="AdamW",
        base_lr=0.02,
        batch_size=16,
        num_epoch=10,
        naive_mix_epoch=2,
        naive_estimate_epoch=2,
    )
    assert main.main(["--config", config, "--plugin", "tests"]) == 0
    table = load_checkpoint(tmp_path / "run" / "last.pt")["mixer"]["saliency.table"]
    assert table.shape == (layout.num_parts, SIZES[layout.name])
    words = [run, "--device", "cpu", "--plugin", "tests"]
    found = saliency.contributions(saliency.trained(saliency.parser().parse_args(words)))
    assert found.parts.argmax(1).tolist() == list(range(layout.num_parts))
    size = min(map(len, found.coalitions))
    tops = [found.top(found.table, label, size) for label in range(layout.num_parts)]
    assert sum(label in top for label, top in enumerate(tops)) >= layout.num_parts - 1, tops
    capsys.readouterr()
    assert saliency.main(words) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("move ")]
    assert [line.split("  ")[0] for line in lines] == [f"move {part}" for part in layout.parts]
    assert picture.main([*words, "--out", str(tmp_path / "a.gif")]) == 0
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 16
        assert np.asarray(image.convert("RGB")).std() > 10
