"""Sequences as compact data: the numbers that come out of the base64 are those that went in."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import processor.report.motion as report
from feeders.synthetic import synthesize
from processor.report.motion import in_script, motion
from processor.report.templating import render, template
from processor.study.layout_picture import PARTS, PARTS_ON_DARK
from shapmix import LAYOUTS

NTU, COCO = LAYOUTS["ntu25"], LAYOUTS["coco17"]


def walk(length: int = 20, people: int = 1, joints: int = 25, channels: int = 3) -> np.ndarray:
    frames = np.random.default_rng(0).normal(size=(length, people, joints, channels))
    return np.abs(frames) if joints == 17 else frames


def decoded(data: dict[str, Any]) -> np.ndarray:
    """(L, M, V, D) as the player sees it."""
    packed = np.frombuffer(base64.b64decode(data["codes"]), np.uint8).reshape(-1, 3).astype(int)
    pairs = np.stack([packed[:, 0] << 4 | packed[:, 1] >> 4, (packed[:, 1] & 15) << 8 | packed[:, 2]], axis=1)
    codes = pairs.ravel()[: np.prod(data["shape"])].reshape(data["shape"])
    return np.where(codes == report.ABSENT, np.nan, np.array(data["low"]) + codes * data["step"])


def marked(data: dict[str, Any]) -> np.ndarray:
    """(L, M, V) bool: joints that were not seen."""
    shape = data["shape"][:3]
    bits = np.unpackbits(np.frombuffer(base64.b64decode(data["missing"]), np.uint8))[: np.prod(shape)]
    return bits.reshape(shape).astype(bool) if len(bits) else np.zeros(shape, bool)


@pytest.mark.parametrize(("people", "length"), [(1, 1), (2, 7), (3, 20)])
def test_the_error_of_rounding(people, length):
    frames = 3 * walk(length, people)
    data = motion(frames, NTU)
    extent = (frames.max((0, 1, 2)) - frames.min((0, 1, 2))).max()
    assert np.abs(decoded(data) - frames).max() <= extent / 8188 * (1 + 1e-9)
    assert data["shape"] == [length, people, 25, 3]
    assert not data["missing"]
    assert data["playing"] == (length > 1)


def test_small():
    frames = synthesize(0, np.random.default_rng(0))[:64]
    assert len(in_script(motion(frames, NTU, name="S001C001P001R001A001"))) < 11_500
    assert len(in_script(motion(np.tile(frames, (10, 1, 1, 1)), NTU))) < 20_000


def test_missing_joints_lie_between_and_are_marked():
    frames = walk()
    frames[5:8, 0, 11] = np.nan
    frames[:, 0, 3] = np.nan
    data = motion(frames, NTU)
    wanted = np.zeros((20, 1, 25), bool)
    wanted[5:8, 0, 11] = wanted[:, 0, 3] = True
    np.testing.assert_array_equal(marked(data), wanted)
    np.testing.assert_allclose(decoded(data)[6, 0, 11], (frames[4, 0, 11] + frames[8, 0, 11]) / 2, atol=2e-3)
    np.testing.assert_allclose(decoded(data)[:, 0, 3], frames[:, 0, 2], atol=2e-3)  # the head at the neck


def test_absent_people():
    frames = walk(people=3)
    frames[4:9, 1] = 0
    frames[:, 2] = np.nan
    shown = decoded(motion(frames, NTU))
    absent = np.zeros((20, 2), bool)  # the third is never there
    absent[4:9, 1] = True
    np.testing.assert_array_equal(np.isnan(shown).all(axis=(2, 3)), absent)
    assert np.isfinite(shown[~absent]).all()
    assert np.isnan(decoded(motion(np.full((3, 1, 25, 3), np.nan), NTU))).all()


def test_2d_has_scores_and_stays_upright():
    frames = walk(joints=17)
    frames[3, 0, 10, 2] = 0
    data = motion(frames, COCO, 2)
    assert np.argwhere(marked(data)).tolist() == [[3, 0, 10]]
    seen = ~marked(data)
    np.testing.assert_allclose(decoded(data)[seen], frames[..., :2][seen], atol=2e-3)  # y downwards, as it came


def test_long_ones_are_thinned():
    frames = walk(241)
    data = motion(frames, NTU, spans={"left_arm": (30, 90)})
    assert (data["every"], data["length"], data["shape"][0]) == (3, 241, 81)
    np.testing.assert_allclose(decoded(data)[1:3], frames[[3, 6]], atol=2e-3)
    assert [group["span"] for group in data["groups"]] == [None, None, [10, 30], None, None]


def test_values_and_groups():
    data = motion(walk(), NTU, values=[0.25, -0.1, np.nan, 0.5, 0.0])
    assert [group["value"] for group in data["groups"]] == [0.25, -0.1, None, 0.5, 0.0]
    assert data["values"]["range"] == [-0.1, 0.5]
    assert motion(walk(), NTU, values=[0.0] * 5)["values"]["range"] == [0.0, 1.0]
    halves = {"own": range(12), "partner": range(12, 25)}
    named = motion(walk(), NTU, groups=halves)["groups"]
    assert [(one["name"], len(one["joints"])) for one in named] == [("own", 12), ("partner", 13)]


@pytest.mark.parametrize(
    ("frames", "more", "message"),
    [
        (walk(joints=17), {}, r"\(20, 1, 17, 3\) are not \(L, M, 25, 3\), as ntu25 wants"),
        (walk()[0], {}, "are not"),
        (walk(0), {"name": "empty"}, "empty has no frame"),
        (walk(), {"values": [1.0]}, "1 values for 5 groups"),
        (walk(), {"groups": {"a": range(24)}}, "each of 0 .. 24 once"),
    ],
)
def test_what_does_not_fit(frames, more, message):
    with pytest.raises(ValueError, match=message):
        motion(frames, NTU, **more)


HOSTILE = "</script><script>alert(1)</script> \"'&<!--"


def test_names_stay_text():
    data = motion(walk(2), NTU, name=HOSTILE, notes=[HOSTILE])
    page = render("show.html.j2", title=HOSTILE, about=HOSTILE, layout=NTU, motions=[data])
    assert page.count("</script>") == 2
    assert "alert(1)</script>" not in page
    inside = re.search(r'id="motion-1">(.*?)</script>', page, re.DOTALL)
    assert inside is not None
    assert json.loads(inside[1]) == data


@pytest.mark.parametrize("path", sorted(Path(report.__file__).with_name("templates").glob("player.*")), ids=str)
def test_what_is_written_into_pages(path):
    """Nothing there ends the element that holds it, or names an address."""
    text = template(path.name)
    assert "</" not in text
    assert "http" not in text
    assert "innerHTML" not in text


def test_colours_are_those_of_the_pictures():
    text = template("player.css")
    assert tuple(re.findall(r"--player-group-\d: (#\w+)", text)) == PARTS + PARTS_ON_DARK


def test_two_coordinates_without_a_score():
    """They are drawn as those with a score of 1, and a person of zeros is absent."""
    frames = np.random.default_rng(0).normal(size=(5, 2, 17, 3))
    frames[..., 2] = 1
    frames[2:, 1] = 0
    assert motion(frames[..., :2], COCO, 2) == motion(frames, COCO, 2)
