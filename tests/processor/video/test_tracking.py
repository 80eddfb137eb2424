"""People keep their identity over the frames."""

from __future__ import annotations

import numpy as np
import pytest

from processor.video.tracking import LOST, SURE, Tracker, body_size, similarities

from .figures import standing


def follow(frames: list[list[np.ndarray]]) -> list[list[int]]:
    """The numbers of the people of each frame, in the order in which they were found."""
    tracker, people = Tracker(), []
    for number, found in enumerate(frames):
        tracker.lose(number)
        people.append(tracker.follow(number, found))
    return [[person.number for person in frame] for frame in people]


@pytest.mark.parametrize("speed", [4, 12])
def test_people_who_cross_keep_their_numbers(speed):
    rng = np.random.default_rng(0)
    frames, order = [], []
    for number in range(400 // speed):
        people = [standing(100 + speed * number, 80, 220), standing(500 - speed * number, 84, 230)]
        people = [person + np.append(rng.normal(0, 2, 2), 0).astype(np.float32) for person in people]
        order.append(rng.permutation(2))
        frames.append([people[place] for place in order[-1]])
    numbers = [
        [numbers[list(turn).index(who)] for who in range(2)]
        for numbers, turn in zip(follow(frames), order, strict=True)
    ]
    assert len({tuple(sorted(one)) for one in numbers}) == 1
    assert len({tuple(one) for one in numbers}) == 1


def test_who_is_missing_for_a_while_is_the_same_and_later_somebody_else():
    frames: list[list[np.ndarray]] = [[standing(200, 80, 220)] for _ in range(SURE)]
    again = [[standing(215, 80, 220)] for _ in range(SURE)]
    assert follow([*frames, *[[]] * (LOST - 1), *again])[-1] == [1]
    assert follow([*frames, *[[]] * (LOST + 1), *again])[-1] == [2]


def test_somebody_far_away_is_somebody_else():
    frames = [[standing(100, 80, 200)]] * SURE + [[standing(400, 80, 200)]] * SURE
    assert follow(frames)[-1] == [2]


def test_what_is_found_once_is_nobody():
    ghost = standing(500, 300, 60)
    frames = [[standing(100, 80, 200)] + [ghost] * (number == 1) for number in range(6)]
    assert {number for numbers in follow(frames) for number in numbers} == {0, 1}
    later = [*frames, *[[standing(100, 80, 200), standing(300, 80, 200)]] * SURE]
    assert follow(later)[-1] == [1, 2]


def test_joints_that_are_not_seen_do_not_count():
    tracker = Tracker()
    joints = standing(100, 80, 200)
    (person,) = tracker.follow(0, [joints])
    moved = joints.copy()
    moved[10] = 0, 0, 0  # a wrist that was missed
    assert similarities([person], 1, [moved])[0, 0] == pytest.approx(1)
    nothing = joints * np.array([1, 1, 0], np.float32)
    assert similarities([person], 1, [nothing])[0, 0] == 0
    assert body_size(nothing) == 1
    assert tracker.follow(1, []) == []
