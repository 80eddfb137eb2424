"""NaN, infinity, denormals, 1e30 and zeros in one sequence of a hundred; and in a stream."""

from __future__ import annotations

import json
import math

import pytest

from processor.recognition import Recognizer
from processor.recognition.rows import as_json
from processor.recognition.stream import Stream
from processor.recognition.windows import Cut
from processor.run_folder import RunFolder
from tools.faults import numbers
from tools.faults.untrained import write_checkpoint


@pytest.mark.parametrize(
    ("fill", "split", "dims", "precision", "on_bad_sample", "whole", "fate"),
    [
        ("NaN", "train", 3, "fp32", "error", False, "refused"),
        ("infinity", "train", 2, "bf16", "skip", False, "survived"),
        ("1e30", "train", 3, "bf16", "skip", True, "survived"),
        ("1e30", "test", 3, "fp32", "skip", False, "refused"),
        ("minus infinity", "val", 2, "fp32", "skip", True, "refused"),
        ("denormals", "train", 3, "bf16", "error", True, "survived"),
        ("constant zero", "train", 2, "fp32", "error", True, "survived"),
        ("1e5", "test", 3, "bf16", "error", True, "survived"),
    ],
)
def test_a_bad_number_in_one_of_a_hundred(tmp_path, fill, split, dims, precision, on_bad_sample, whole, fate):
    outcome = numbers._trained(tmp_path, fill, split, dims, precision, on_bad_sample, whole, seed=3)
    assert outcome.fate == fate, outcome.detail


@pytest.mark.parametrize(
    ("code", "wanted", "text"),
    [(2, 0, "error: the bad one has NaN"), (0, 2, "the bad one"), (2, 2, "error: a sequence has NaN")],
)
def test_another_end_than_the_setting_asks_for_is_lost(tmp_path, code, wanted, text):
    """Refused instead of skipped, skipped instead of refused, refused without its name."""
    assert numbers._end(code, wanted, text, RunFolder(tmp_path), named=True).fate == "lost"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1e30", "1e-42", "0", "null"])
def test_a_bad_number_in_a_stream(tmp_path, number):
    """Each line is answered by finite probabilities, or by a problem; the answers are JSON."""
    recognizer = Recognizer.from_checkpoint(write_checkpoint(tmp_path), device="cpu")
    body = [[0.1 * joint, 0.2, 0.3] for joint in range(25)]
    odd = json.dumps([*body[:-1], ["?", 0.2, 0.3]]).replace('"?"', number)
    all_odd = json.dumps([["?"] * 3] * 25).replace('"?"', number)
    lines = [f'{{"frames": [{frame}, {frame}, {frame}, {frame}]}}' for frame in (odd, all_odd)]
    lines += [f'{{"joints": {frame}}}' for frame in (json.dumps(body), odd, odd, all_odd, odd)]
    rows = list(Stream(recognizer, Cut(4, 1, 1)).rows(lines))
    assert len(rows) >= 3
    for row in rows:
        answer = json.loads(as_json(row, 3), parse_constant=pytest.fail)
        assert "error" in answer or all(math.isfinite(one["probability"]) for one in answer["top"])
