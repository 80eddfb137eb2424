"""tools.show: pictures of layouts and of stores, to check by eye."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path

import matplotlib.colors
import numpy as np
import pytest
from PIL import Image
from scipy.special import softmax

import main as train
from feeders.convert.names import draft_layout, layout_text
from feeders.store import Sample, StoreWriter
from feeders.synthetic import synthesize
from processor.checkpoint import load_checkpoint, save_checkpoint
from processor.scores import read_scores
from processor.study.layout_picture import PARTS, first_person, frames_picture, layout_picture, png, rest_pose
from shapmix import LAYOUTS, SkeletonLayout
from tools import show
from tools.faults.made_up import skeleton_text


def body(action: int = 0) -> np.ndarray:
    return synthesize(action, np.random.default_rng(0))


def store(folder: Path, frames: np.ndarray, **meta: object) -> Path:
    folder.mkdir()
    with StoreWriter(folder) as writer:
        for name in ("wave one", "wave_2"):
            writer.add(Sample(name, 0, frames))
        writer.close("mine", class_names=["wave"], **meta)
    return folder


def colours(path: Path) -> list[bool]:
    """Which of the parts' colours are in a PNG."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
    wanted = [np.array(matplotlib.colors.to_rgb(part)) * 255 for part in PARTS]
    return [bool((np.abs(pixels - one).max(axis=1) < 3).sum() > 50) for one in wanted]


@pytest.mark.parametrize("name", ["ntu25", "hand21"])
def test_a_layout(tmp_path, capsys, name):
    assert show.main(["--layout", name, "--out", str(tmp_path / "layout.png")]) == 0
    parts = LAYOUTS[name].num_parts
    assert colours(tmp_path / "layout.png")[:7] == [True] * parts + [False] * (7 - parts)
    assert f"{name}, {LAYOUTS[name].num_joints} joints, parts {LAYOUTS[name].part_names[0]}" in capsys.readouterr().out


def test_an_own_layout_beside_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    layout = draft_layout("arm", ["chest", "shoulder", "elbow", "hand"], [(1, 0), (2, 1), (3, 2)])
    Path("arm.yaml").write_text(layout_text(layout))
    assert show.main(["--layout", "arm.yaml"]) == 0
    assert colours(tmp_path / "arm.png")[:3] == [True, True, False]


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_sketches(layout):
    """No two joints lie together; the person's left is on the right, legs are below, sides are alike."""
    places = rest_pose(layout)
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1) + np.eye(len(places))
    assert apart.min() > 0.03
    if layout.name == "hand21":
        return
    np.testing.assert_allclose(places[layout.mirrored()][:, 0], -places[:, 0], atol=0.3)
    arm, leg = (places[list(layout.parts[part])] for part in ("left_arm", "left_leg"))
    assert (arm[:, 0] > 0).all()
    assert leg[:, 1].mean() < arm[:, 1].mean()


def test_a_store(tmp_path, capsys):
    data, out = store(tmp_path / "data", body(), layout="ntu25"), tmp_path / "out.png"
    assert show.main([str(data), "--out", str(out)]) == 0
    assert colours(out)[:6] == [True] * 5 + [False]
    assert show.main([str(data), "--id", "wave one", "--out", str(out)]) == 0
    assert colours(out)[:6] == [True] * 5 + [False]
    capsys.readouterr()
    assert show.main([str(data), "--layout", "body25", "--out", str(out)]) == 0
    assert "the joint order does not look like body25; ntu25 fits far better" in capsys.readouterr().out


def test_what_is_wrong(tmp_path, capsys):
    data, bare = store(tmp_path / "data", body(), layout="ntu25"), store(tmp_path / "bare", body())
    for words, message in (
        ([], "--layout alone"),
        (["--layout", "ntu26"], "did you mean 'ntu25'?"),
        (["--layout", "ntu25", "--id", "x"], "name a store"),
        ([str(bare)], "does not name the layout"),
        ([str(data), "--layout", "ucla20"], "as ucla20 wants"),
        ([str(data), "--id", "wave"], "data has no sequence 'wave'; did you mean wave_2?"),
        ([str(tmp_path / "nothing")], "nothing"),
    ):
        assert show.main([*words, "--out", str(tmp_path / "out.png")]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out.png").exists()


def motions(path: Path) -> list[dict]:
    """What the players of a page show."""
    found = re.findall(r'<script type="application/json" id="motion-\d+">(.*?)</script>', path.read_text(), re.DOTALL)
    return [json.loads(one) for one in found]


def names(path: Path) -> list[str]:
    return [one["name"] for one in motions(path)]


def test_a_page_of_a_store(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = store(tmp_path / "data", body(), layout="ntu25")
    assert show.main([str(data)]) == 0
    page = tmp_path / "work_dir" / "show" / "data.html"
    assert names(page) == ["wave one", "wave_2"]
    assert "http" not in page.read_text()
    assert show.main([str(data), "--class", "wave", "--number", "1", "--out", "one.html"]) == 0
    assert names(Path("one.html")) == ["wave one"]
    assert show.main([str(data), "--id", "wave_2", "--out", "two.gif"]) == 0
    with Image.open("two.gif") as picture:
        assert picture.n_frames == 60
    capsys.readouterr()
    for words, message in (
        (["--class", "wavv"], "data has no class 'wavv'; did you mean wave?"),
        (["--number", "0"], "--number must be at least 1"),
        (["--out", "x.txt"], "ends with .html, .gif or .png, not with .txt"),
    ):
        assert show.main([str(data), *words]) == 2
        assert message in capsys.readouterr().err


def test_single_files_and_whole_sets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = body()[:20]
    gaps = np.where(np.arange(25)[:, None] == 11, np.nan, seen)
    Path("S001C001P001R001A023.skeleton").write_text(skeleton_text(seen))
    np.save("take.npy", gaps[:, 0])
    np.save("frame.npy", seen[:1, 0])
    flat = np.pad(seen.reshape(1, 20, 75), [(0, 0), (0, 0), (0, 75)])
    labels = {"y_train": np.eye(2)[[0]], "y_test": np.eye(2)[[1]]}
    np.savez("set.npz", x_train=flat, x_test=flat, **labels)
    for file, wanted in (
        ("S001C001P001R001A023.skeleton", ["S001C001P001R001A023"]),
        ("take.npy", ["take"]),
        ("frame.npy", ["frame"]),
        ("set.npz", ["train_0", "test_0"]),
    ):
        assert show.main([file, "--layout", "ntu25", "--out", "page.html"]) == 0
        assert names(Path("page.html")) == wanted
        assert bool(motions(Path("page.html"))[0]["missing"]) == (file == "take.npy")
        for other in ("page.gif", "page.png"):
            assert show.main([file, "--layout", "ntu25", "--id", wanted[0], "--out", other]) == 0


def test_hostile_names(tmp_path):
    hostile = "</script><script>alert(1)</script>\"'$x_{"
    folder = tmp_path / "data"
    folder.mkdir()
    with StoreWriter(folder) as writer:
        writer.add(Sample(hostile, 0, body()[:5]))
        writer.close("mine", class_names=[hostile], layout="ntu25")
    for suffix in ("html", "gif", "png"):
        assert show.main([str(folder), "--id", hostile, "--out", str(tmp_path / f"page.{suffix}")]) == 0
    assert "<script>alert" not in (tmp_path / "page.html").read_text()
    assert names(tmp_path / "page.html") == [hostile]
    assert motions(tmp_path / "page.html")[0]["notes"] == [f"class: {hostile}"]


def test_a_run_and_its_predictions(write_config, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = write_config(num_epoch=1, loss="cross_entropy", post_hoc_tau=1.0)
    assert train.main(["--config", config]) == 0
    state, recorded = load_checkpoint(tmp_path / "run" / "last.pt"), read_scores(tmp_path / "run" / "scores_test.npz")
    save_checkpoint(tmp_path / "run" / "last.pt", state | {"card": state["card"] | {"temperature": 2.0}})
    largest = dict(zip(recorded.ids, softmax(recorded.scores / 2, axis=1).max(1), strict=True))
    assert show.main([config, "--number", "2", "--out", "bare.html"]) == 0
    assert [one["values"] for one in motions(Path("bare.html"))] == [None, None]
    words = ["--weights", str(tmp_path / "run"), "--device", "cpu", "--number", "2"]
    for suffix in ("html", "gif", "png"):
        assert show.main([*words, "--out", f"page.{suffix}"]) == 0
    for one in motions(Path("page.html")):
        probability = float(re.search(r"predicted: .* \((.*) %\)", one["notes"][0])[1]) / 100
        assert probability == pytest.approx(largest[one["name"]], abs=6e-4)
        assert len(one["groups"]) == 5
        assert sum(part["value"] for part in one["groups"]) < probability  # it sums to v(all) - v(none)
    capsys.readouterr()
    data = store(tmp_path / "data", body(), layout="ntu25")
    assert show.main([str(data), *words]) == 2
    assert "none of the 2 sequences of data is a sample of" in capsys.readouterr().err
    assert show.main([str(data), *words, "--id", "wave_2"]) == 2
    assert "has no sample 'wave_2'" in capsys.readouterr().err


def test_in_a_notebook(tmp_path):
    shown = show.figure(store(tmp_path / "data", body(), layout="ntu25"), ids=["wave_2"])
    assert shown.ids == ["wave_2"]
    frame = shown._repr_html_()
    assert frame.startswith('<iframe srcdoc="&lt;!doctype html&gt;')
    assert frame.count('"') == 8


def test_joints_that_are_not_seen():
    coco, pose = LAYOUTS["coco17"], np.ones((3, 2, 17, 3))
    pose[..., 0] += np.arange(17)
    pose[:, 0] = 0
    pose[0, 1, 4, 2] = pose[1, 1, 3:5, 2] = pose[2, 1, 3:5, 2] = 0
    shown = first_person(pose, coco, 2)
    assert np.flatnonzero(np.isnan(shown[:, 0])).tolist() == [4]
    for figure in (layout_picture(coco, pose, 2), frames_picture(coco, {"a": pose, "b": pose[:1]}, 2)):
        assert png(figure).startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="nobody is there"):
        layout_picture(coco, np.zeros_like(pose), 2)
    with pytest.raises(ValueError, match="x: nobody is there"):
        frames_picture(coco, {"x": np.zeros_like(pose)}, 2)


def test_many_parts_share_colours():
    names = tuple(f"j{joint}" for joint in range(12))
    bones = tuple((joint, 0) for joint in range(1, 12))
    layout = SkeletonLayout("star", names, bones, {name: (joint,) for joint, name in enumerate(names)})
    assert len(png(layout_picture(layout))) > 1000


def test_as_a_module(monkeypatch, capsys):
    """An error in the command's own file, which is __main__ then, is not taken for one in the user's code."""
    monkeypatch.setattr(sys, "argv", ["show"])
    monkeypatch.delitem(sys.modules, "tools.show")
    with pytest.raises(SystemExit, match="2"):
        runpy.run_module("tools.show", run_name="__main__", alter_sys=True)
    assert capsys.readouterr().err.startswith("error: name a store or other data")
