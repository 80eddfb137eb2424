"""Random input for the readers of other people's files, configs, pickles and streams; and what once broke one."""

from __future__ import annotations

import pickle
import random
from itertools import islice

from tools.faults import fuzz
from tools.faults.case import outcome_of


def test_random_input(tmp_path):
    for case in islice(fuzz.cases(random.Random(22), tmp_path), 140):
        outcome = outcome_of(case)
        assert outcome.fate != "lost", f"{case.name}: {outcome.detail}"


def test_whole_input_is_read(tmp_path):
    """What is changed is what the readers take; but for opcodes in any order."""
    for target in fuzz.targets(tmp_path):
        for number, content in enumerate(target.whole):
            odd = target.name == "pickle" and number > pickle.HIGHEST_PROTOCOL
            outcome = target.give(content)
            assert outcome.fate == "survived" or (odd and outcome.fate == "refused"), f"{target.name}: {outcome.detail}"
