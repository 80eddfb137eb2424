"""tools.picture: a GIF of a run with one panel for each class; body parts have the colours of their contributions."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

import main
from processor.study.picture import COLOURS, Body, moving_picture
from shapmix import SkeletonLayout
from tools import picture

COCO = SkeletonLayout.get("coco17")


def frames(gif: bytes) -> list[np.ndarray]:
    """(H, W, 3) images."""
    with Image.open(io.BytesIO(gif)) as image:
        made = []
        for number in range(image.n_frames):
            image.seek(number)
            made.append(np.asarray(image.convert("RGB")).astype(int))
    return made


def shows(image: np.ndarray, value: float) -> bool:
    """Whether there is a patch in the colour of a contribution; the colour scale, below, does not count."""
    colour = np.array(COLOURS.to_rgba(value)[:3]) * 255
    return (np.abs(image[40:250] - colour).max(axis=-1) < 8).sum() > 30


def body(parts: list[float], people: int = 1) -> Body:
    """Joints at random places, which move from frame to frame."""
    joints = np.random.default_rng(0).normal(size=(3, people, COCO.num_joints, 3))
    return Body("raise_arms", "4 training samples", joints, np.array(parts))


@pytest.mark.parametrize("people", [1, 2])
def test_parts_have_their_colours(people):
    images = frames(moving_picture([body([0.0, 1.0, 0.0, 0.0, -0.3], people)], COCO))
    assert len(images) == 3
    assert [shows(image, 1.0) for image in images] == [True] * 3
    assert [shows(image, 0.0) for image in images] == [True] * 3
    assert not any(shows(image, 0.5) for image in images)
    assert (images[0] != images[1]).any()


@pytest.mark.parametrize(("depth", "over"), [(-1.0, True), (1.0, False)])
def test_the_nearer_part_is_drawn_over_the_farther_one(depth, over):
    """Two bones at the same place; z points away from the viewer."""
    layout = SkeletonLayout("two", ("hip", "left", "right"), ((1, 0), (2, 0)), {"left": (1,), "right": (0, 2)})
    joints = np.array([[0.0, 0, 0], [1, 1, depth], [1, 1, 0]])[None, None]
    image = frames(moving_picture([Body("any", "", joints, np.array([1.0, 0.0]))], layout))[0]
    assert (shows(image, 1.0), shows(image, 0.0)) == (over, not over)


def test_run(write_config, tmp_path, capsys):
    """From the run's folder alone: six classes from frequent to rare, or those that are named."""
    assert main.main(["--config", write_config(num_epoch=1)]) == 0
    out = tmp_path / "picture.gif"
    words = [str(tmp_path / "run"), "--device", "cpu", "--out", str(out)]
    assert picture.main(words) == 0
    assert "wave_right, bow, lean, throw_right, raise_arms, wave_left" in capsys.readouterr().out
    images = frames(out.read_bytes())
    assert (len(images), images[0].shape) == (16, (310, 900, 3))
    assert picture.main([*words, "--classes", "clap", "bow", "--flat"]) == 0
    assert frames(out.read_bytes())[0].shape == (310, 340, 3)
    assert picture.main([*words, "--classes", "clapp"]) == 2
    assert "no test sample of class clapp; there are wave_right, " in capsys.readouterr().err


def test_another_stream(write_config, tmp_path, capsys):
    config = write_config(num_epoch=1, feeder_args={"window_size": 16, "stream": "bone", "cache_dir": str(tmp_path)})
    assert main.main(["--config", config]) == 0
    assert picture.main([str(tmp_path / "run"), "--device", "cpu"]) == 2
    assert "stream bone" in capsys.readouterr().err
