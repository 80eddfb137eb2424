"""tools.faults: whose turn it is, what counts as lost, and the table."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from tools.faults import __main__ as faults
from tools.faults.case import Case, Outcome, judged, outcome_of


def fails() -> Outcome:
    raise KeyError("w")


@pytest.mark.parametrize(
    ("run", "fate"),
    [(lambda: Outcome("refused"), "refused"), (fails, "lost"), (lambda: time.sleep(9), "lost")],
)
def test_errors_and_hangs_are_lost(run, fate):
    assert outcome_of(Case("x", run, limit=1)).fate == fate


@pytest.mark.parametrize(
    ("code", "printed", "fate"),
    [
        (0, "done", "survived"),
        (2, "error: a.pt is cut off", "refused"),
        (2, "error: something", "lost"),
        (2, "Traceback\nerror: a.pt", "lost"),
        (-9, "", "lost"),
    ],
)
def test_judged(code, printed, fate):
    assert judged(code, printed, "a.pt", "b.pt").fate == fate


def test_table(monkeypatch, tmp_path, capsys):
    def cases(rng, folder):
        assert folder.is_dir()
        for number, fate in enumerate(("survived", "lost", "survived", "refused")):
            yield Case(f"{'cut' if number < 3 else 'flip'}: {rng.random()}", lambda fate=fate: Outcome(fate, "why"))

    monkeypatch.setattr(faults, "kinds", lambda: {"files": SimpleNamespace(cases=cases)})
    assert faults.main(["--minutes", "1", "--seed", "3", "--out", str(tmp_path / "table.md")]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("lost: files: cut: 0.")
    text = (tmp_path / "table.md").read_text()
    assert "| files | cut | 3 | 2 | 0 | 1 |\n| files | flip | 1 | 0 | 1 | 0 |\n| all |  | 4 | 2 | 1 | 1 |\n" in text
    assert "Seed 3, 0 minutes" in text
    assert faults.main(["--minutes", "0"]) == 0
    assert "| files | cut | 1 | 1 | 0 | 0 |" in capsys.readouterr().out
