"""A run that is killed at random moments ends as if nothing had happened; a few cases of tools.faults."""

from __future__ import annotations

import random

import pytest

from tools.faults import kills
from tools.faults.runs import difference


@pytest.mark.parametrize("mode", ["averaged", "two processes", "preparation, two jobs", "conversion"])
def test_killed(tmp_path, mode):
    rng = random.Random(mode)
    outcome = kills.killed(mode, [kills.draw(rng, mode) for _ in range(2)], tmp_path, tmp_path / "killed")
    assert outcome.fate == "survived", outcome.detail


def test_a_difference_is_seen():
    ours = {"a": [1.0, {"b": float("nan")}], "c": "x"}
    assert difference(ours, ours) is None
    assert difference(ours, {"a": [1.1, {"b": float("nan")}], "c": "x"}) == ".a[0]"
    assert difference(ours, {"a": [1.1, {"b": float("nan")}], "c": "x"}, 0.2) is None
    assert difference(ours, {"a": [1.0, {"b": 0.0}], "c": "x"}) == ".a[1].b"
    assert difference(ours, {"a": ours["a"]}) == ""
