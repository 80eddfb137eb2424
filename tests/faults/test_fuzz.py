"""Random input for the readers of other people's files, configs, pickles and streams; and what once broke one."""

from __future__ import annotations

import random
from itertools import islice

from tools.faults import fuzz
from tools.faults.case import outcome_of


def test_random_input(tmp_path):
    for case in islice(fuzz.cases(random.Random(22), tmp_path), 140):
        outcome = outcome_of(case)
        assert outcome.fate != "lost", f"{case.name}: {outcome.detail}"


def test_whole_input_is_read(tmp_path):
    """What is changed is what the readers take."""
    cases = fuzz.cases(random.Random(0), tmp_path)
    whole = {name: content for name, content in fuzz.takes().items() if name != "take.bvh"}  # a body of three joints
    next(cases)
    recognizer = fuzz.Recognizer.from_checkpoint(tmp_path / "last.pt", device="cpu")
    for name, content in whole.items():
        outcome = fuzz._labelled(recognizer, tmp_path / name, content)
        assert outcome.fate == "survived", f"{name}: {outcome.detail}"
    assert fuzz._streamed(recognizer, fuzz.stream_lines()).fate == "survived"
