"""Which axis of an array is which: every usual order, what is ambiguous, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from feeders.convert.axes import common_axes, orient, recording_of
from feeders.convert.prepare import Unusable
from feeders.convert.recording import Hints

T, M, V, C = 17, 2, 21, 3
WHOLE = np.random.default_rng(0).normal(size=(T, M, V, C))  # TMVC


def arranged(order: str) -> np.ndarray:
    """``WHOLE``, or its first person, in an order."""
    array = WHOLE if "M" in order else WHOLE[:, :1]
    axes = order.replace("F", "VC").replace("R", "TV")
    letters = "N" + "TMVC"
    kept = [letters.index(axis) for axis in axes]
    dropped = [place for place in range(5) if place not in kept]
    array = array[None].transpose([*kept, *dropped])
    shape = [{"F": V * C, "R": T * V, "N": 1, "T": T, "M": array.size // (T * V * C), "V": V, "C": C}[a] for a in order]
    return array.reshape(shape)


@pytest.mark.parametrize("order", ["TVC", "CTV", "TCV", "VCT", "TMVC", "MTVC", "CTVM", "NCTVM", "TF", "FT", "RC"])
def test_every_usual_order(order):
    wanted = WHOLE if "M" in order else WHOLE[:, :1]
    np.testing.assert_array_equal(orient(arranged(order), Hints(num_joints=V, dims=C)), wanted)
    np.testing.assert_array_equal(orient(arranged(order), Hints(num_joints=V, axes=order)), wanted)
    assert common_axes([arranged(order).shape], V, C) == [order]


def test_orders_that_only_the_user_names():
    np.testing.assert_array_equal(orient(WHOLE.transpose(2, 3, 1, 0), Hints(axes="VCMT")), WHOLE)
    np.testing.assert_array_equal(orient(WHOLE[:, 0, :, :].transpose(1, 0, 2), Hints(axes="VTC")), WHOLE[:, :1])


def test_one_frame_is_a_vector():
    np.testing.assert_array_equal(orient(WHOLE[0, 0].ravel(), Hints(num_joints=V))[0, 0], WHOLE[0, 0])
    np.testing.assert_array_equal(orient(WHOLE[0, 0], Hints(num_joints=V))[0, 0], WHOLE[0, 0])


def test_people_one_after_the_other():
    flat = WHOLE.reshape(T, M * V * C)
    np.testing.assert_array_equal(orient(flat, Hints(num_joints=V, dims=C)), WHOLE)
    with pytest.raises(Unusable, match=r"^other axes"):
        orient(flat[:, 1:], Hints(num_joints=V, dims=C))


def test_an_ambiguous_shape_lists_its_readings():
    with pytest.raises(Unusable, match=r"^ambiguous axes: .*TCV \(41 frames, 20 joints.*VCT \(20 frames.*--axes TCV"):
        orient(np.ones((41, 3, 20)), Hints())
    assert orient(np.ones((41, 3, 20)), Hints(num_joints=20)).shape == (41, 1, 20, 3)
    assert orient(np.ones((41, 3, 20)), Hints(num_joints=41)).shape == (20, 1, 41, 3)


def test_many_takes_decide():
    assert common_axes([(20, 3, 41), (20, 3, 55)]) == ["VCT"]
    assert common_axes([(41, 3, 20), (55, 3, 20)]) == ["TCV"]
    assert common_axes([(60, 41), (60, 55)]) == ["FT"]
    assert common_axes([(41, 60), (55, 60)]) == ["TF"]
    assert common_axes([(1, 55, 25, 3), (2, 41, 25, 3)]) == ["MTVC"]
    assert common_axes([(41, 3, 20), (55, 3)]) == []
    assert common_axes([]) == []
    assert common_axes([(20, 3, 41)] * 3) == ["TCV", "VCT"]


@pytest.mark.parametrize(
    ("array", "hints", "message"),
    [
        (np.array(["a"]), Hints(), "no numbers: an array of <U1"),
        (np.zeros((0, 20, 3)), Hints(), "no numbers: an array of shape"),
        (np.ones((9, 20, 7)), Hints(), r"other axes: shape \(9, 20, 7\) is none of TVC"),
        (np.ones((9, 20, 3)), Hints(num_joints=25), "other axes: .* with 25 joints"),
        (np.ones((9, 20, 3)), Hints(axes="TCV"), r"other axes: shape \(9, 20, 3\) is not TCV"),
        (np.ones((9, 20, 3)), Hints(axes="XYZ"), "other axes"),
        (np.ones((9, 61)), Hints(axes="TF"), "unknown joints: 61 numbers a frame"),
        (np.ones((9, 3)), Hints(), "unknown joints: 9 rows"),
        (np.ones((9, 61)), Hints(num_joints=20), "other axes"),
        (np.full((9, 20, 3), np.inf), Hints(), "damaged: infinite numbers, first in frame 0"),
        (np.zeros((9, 20, 3)), Hints(), "no people: in none of 9 frames"),
        (np.full((9, 20, 3), np.nan), Hints(), "no people: in none of 9 frames"),
        (np.float64(3), Hints(), "other axes"),
    ],
)
def test_what_is_refused(array, hints, message):
    with pytest.raises(Unusable, match=f"^{message}"):
        recording_of(array, hints)


def test_scores_and_joints_that_are_not_seen():
    array = np.abs(WHOLE) * 100
    array[..., 2] = 0.5
    array[3, 0, 4] = 0
    array[5, 1] = 0
    array[6, 0, 2, 0] = np.nan
    take = recording_of(array, Hints())
    assert take.frames.shape == (T, M, V, 2), "pixels beside shares: the last number is a score"
    assert np.isnan(take.frames[3, 0, 4]).all()
    assert np.isnan(take.frames[5, 1]).all()
    assert np.isnan(take.frames[6, 0, 2]).all()
    assert np.isnan(take.frames).sum() == 2 * (1 + V + 1)
    assert take.score[3, 0, 4] == 0
    assert take.score[0, 0, 0] == 0.5
    assert recording_of(WHOLE, Hints()).score is None
    deep = recording_of(np.concatenate([WHOLE, np.ones((T, M, V, 1))], axis=3), Hints())
    assert deep.frames.shape == WHOLE.shape
    assert (deep.score == 1).all()
    guessed = recording_of(np.concatenate([WHOLE, np.zeros((T, M, V, 1))], axis=3), Hints())
    assert np.isfinite(guessed.frames).all()
    assert (guessed.score == 0.5).all(), "joints that a depth camera infers"
    centred = WHOLE - WHOLE[:, :, :1]
    assert not np.isnan(recording_of(centred, Hints()).frames).any(), "a centre joint at 0 is seen"


@pytest.mark.parametrize("number", [258, 1662])
def test_holistic_vectors(number):
    vector = np.random.default_rng(0).random(number)
    pose, hands = vector[:132].reshape(33, 4), vector[-126:].reshape(42, 3)
    take = recording_of(np.stack([vector, vector]), Hints())
    np.testing.assert_array_equal(take.frames[1, 0], pose[:, :3])
    np.testing.assert_array_equal(take.score[1, 0], pose[:, 3])
    both = recording_of(vector, Hints(num_joints=75))
    np.testing.assert_array_equal(both.frames[0, 0], np.concatenate([pose[:, :3], hands]))
