"""People at any place and of any size, as a recogniser of 2D poses knows them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from processor.video.framing import Framing

from .figures import standing

SIZE = 480, 640


def card(stream: str = "joint") -> SimpleNamespace:
    """Of a training set in whose middle somebody stands, 240 pixels tall in a picture of 640 x 480."""
    place = standing(320, 120, 240)[:, :2] / (320, 240) - 1
    baseline = torch.zeros(3, 4, 17, 1)
    baseline[:2] = torch.from_numpy(place.T.astype(np.float32))[:, None, :, None]
    return SimpleNamespace(dims=2, view={"stream": stream}, baseline=baseline)


@pytest.mark.parametrize(("x", "y", "tall"), [(320, 120, 240), (60, 300, 90), (600, 10, 460)])
def test_people_come_to_one_place_and_size(x, y, tall):
    frames = np.repeat(standing(x, y, tall)[None], 8, axis=0)
    frames[3] = np.nan
    frames[4, 9] = 5, 5, 0.05  # a wrist that was not seen
    framed = Framing(card())(frames, SIZE)
    assert framed[0] == pytest.approx(standing(320, 120, 240), abs=0.5)
    assert np.isnan(framed[3]).all()
    assert np.array_equal(framed[..., 2], frames[..., 2], equal_nan=True)


def test_legs_that_are_out_of_the_picture_do_not_count():
    frames = np.repeat(standing(200, 200, 480)[None], 8, axis=0)
    frames[:, 13:, 2] = 0.1
    framed = Framing(card())(frames, SIZE)
    assert framed[0, :13] == pytest.approx(standing(320, 120, 240)[:13], abs=0.5)


def test_windows_that_stay_as_they_are():
    frames = np.repeat(standing(60, 300, 90)[None], 4, axis=0)
    for framing in (Framing(None), Framing(card("bone"))):
        assert np.array_equal(framing(frames, SIZE), frames)
    assert np.isnan(Framing(card())(np.full((4, 17, 3), np.nan, np.float32), SIZE)).all()
