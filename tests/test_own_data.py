"""docs/own_data.md runs as it is written: from a folder of CSV files to a trained recogniser."""

from __future__ import annotations

import importlib
import re
import shlex

import numpy as np
import pandas as pd
import pytest

from processor import command_line
from processor.study.layout_picture import rest_pose
from shapmix.skeleton import SkeletonLayout

from .documents import ROOT

PAGE = (ROOT / "docs/own_data.md").read_text(encoding="utf-8")
WAY = PAGE.partition("## What is read")[0]
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"```bash\n(.*?)```", WAY, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
]
LAYOUT = SkeletonLayout.get("mediapipe33")
MOVES = {
    "bow": ("nose", "left_shoulder", "right_shoulder"),
    "kick": ("right_knee", "right_ankle"),
    "wave": ("left_wrist",),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with ``recordings`` of 3 classes and 8 people, and the program's config."""
    folder = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    rest = np.c_[rest_pose(LAYOUT), np.zeros(LAYOUT.num_joints)]
    for place, (label, joints) in enumerate(MOVES.items()):
        for who in ("anna", "ben", "cleo", "dan", "eve", "finn", "gina", "hal"):
            for take in range(1, 6 - 2 * place):
                x = rest + rng.normal(scale=0.02, size=(24, LAYOUT.num_joints, 3))
                swing = np.sin(np.linspace(0, rng.uniform(8, 12), 24))
                for joint in joints:
                    x[:, LAYOUT.joint(joint)] += 0.5 * swing[:, None]
                names = [f"{joint}_{axis}" for joint in LAYOUT.joint_names for axis in "xyz"]
                path = folder / "recordings" / label / f"{who}_{take}.csv"
                path.parent.mkdir(parents=True, exist_ok=True)
                pd.DataFrame(x.reshape(24, -1), columns=names).rename_axis("frame").to_csv(path)
    (folder / "config").symlink_to(ROOT / "config")
    return folder


def run(words):
    """One line of the page, in this process; of a training one epoch."""
    module = words[2] if words[1] == "-m" else ""
    if module:
        return importlib.import_module(module).main(words[3:])
    return command_line.main([*words[2:], *([] if "--num_epoch" in words else ["--num_epoch", "1"])])


def test_the_page_runs(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setattr("processor.suggestion.SHOWN", 64)  # short epochs
    assert len(COMMANDS) == 8
    for words in COMMANDS:
        assert words[0] == "python"
        assert run(words) == 0, " ".join(words)
    said = capsys.readouterr().out
    assert "mediapipe33, 33 joints (by the names of the joints)" in said
    assert "nothing wrong was found" in said
    assert "shap_mix" in (folder / "data/mine.yaml").read_text()
    assert (folder / "work_dir/mine/last.pt").is_file()
    assert (folder / "work_dir/mine/report.html").is_file()
    assert (folder / "data/mine/skeleton.png").is_file()
