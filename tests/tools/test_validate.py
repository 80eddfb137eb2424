"""tools.validate: the command line; tests/feeders/test_inspection.py has the findings."""

from __future__ import annotations

import json

import numpy as np
import pytest

from feeders.store import Sample, SkeletonStore
from tools.validate import main


@pytest.fixture
def path(tmp_path):
    """A store of 12 sequences of noise with splits, in which "take 5" does not move."""
    rng = np.random.default_rng(0)

    def read():
        for row in range(12):
            x = rng.normal(size=(20, 1, 13, 3)).astype(np.float32)
            columns = {"in train": int(row < 8), "in test": int(row >= 8)}
            yield Sample(f"take {row}", row % 2, np.repeat(x[:1], 20, axis=0) if row == 5 else x, columns=columns)

    meta = {"layout": "penn13", "class_names": ["bow", 'größe, "x"'], "splits": ["train", "test"], "dims": 3}
    built = SkeletonStore.build([tmp_path], "mine", "0", read, **meta)
    return built.path.rename(tmp_path / "mine")


def test_what_it_says(path, capsys):
    assert main([str(path)]) == 0
    said = capsys.readouterr().out
    assert "12 sequences of 20 to 20 frames" in said
    assert "penn13" in said
    assert "warning: 1 sequences do not move at all (take 5)" in said
    assert (path / "skeleton.png").read_bytes().startswith(b"\x89PNG")
    assert SkeletonStore(path).ids[0] == "take 0"  # the picture does no harm


def test_json(path, tmp_path, capsys):
    assert main([str(path), "--json", "--picture", str(tmp_path / "p.png")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["classes"]['größe, "x"'] == {"all": 6, "train": 4, "test": 2}
    assert {"no_motion": ["take 5"]}.items() <= {one["code"]: one["ids"] for one in said["findings"]}.items()
    assert (tmp_path / "p.png").is_file()
    assert not (path / "skeleton.png").exists()


def test_an_error_is_exit_code_1(path, capsys):
    (path / "splits").mkdir()
    (path / "splits/test.txt").write_text("take 0\n")
    assert main([str(path)]) == 1
    assert capsys.readouterr().out.count("error: 1 sequences are in train and in test (take 0)") == 1


def test_no_store(tmp_path, capfd):
    assert main([str(tmp_path)]) == 2
    assert "name a folder that was prepared" in capfd.readouterr().err
