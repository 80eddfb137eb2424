"""Files of strangers, and names that are markup, formulas or commands: refused, or shown as text."""

from __future__ import annotations

import csv
import html
import json
import random
import re
import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np

import main
from feeders.lists import write_list
from feeders.store import Sample, StoreWriter
from processor.recognition import Prediction
from processor.recognition.rows import Row, lines
from processor.study.tables import STYLES
from tools import predict, table
from tools.faults import hostile
from tools.faults.case import Outcome, outcome_of, tiny_config


def test_attacks(tmp_path):
    for case in islice(hostile.cases(random.Random(22), tmp_path), 63):
        outcome = outcome_of(case)
        assert outcome.fate != "lost", f"{case.name}: {outcome.detail}"


def test_attacks_work_elsewhere(tmp_path):
    """The code in the pickles is code: who looks for its side effect would find it."""
    for kind in range(5):
        marker = tmp_path / f"marker{kind}"
        call, arguments = hostile.Code(marker, kind).__reduce__()
        call(*arguments)
        assert marker.exists()


def test_what_an_attack_writes_is_seen(tmp_path):
    """Each of the members that climb, beside the archive, in the current folder or a temporary one."""

    def unpacking(place: str, number: int) -> Callable[..., Outcome]:
        def attack(folder: Path, marker: Path, rng: random.Random) -> Outcome:
            where = {"beside": folder, "current": Path.cwd(), "temporary": Path(tempfile.mkdtemp())}[place]
            (where / hostile.climbing(folder)[number]).touch()
            return Outcome("refused")

        return attack

    for place in ("beside", "current", "temporary"):
        for number in range(3):
            assert hostile._watched(unpacking(place, number), tmp_path / "case", random.Random(0)).fate == "lost"
    assert not list(tmp_path.iterdir())


NAMES = (
    "$(touch {marker})", "`touch {marker}`; touch {marker}", "<script>alert(1)</script>",
    '"><img src=x onerror="alert(1)">', "\x1b[31mred\x1b]0;title\x07", "two\nlines\r\n", r"\input{x} & 50% $x$ _",
    r"$\frac{$ a", r"$\notacommand$", "^" + "x" * 300,
    "=cmd|' /C calc'!A0", "@SUM(A1)", "{{{{ 7 * 7 }}}} {{% raw %}}", "${{jndi:x}} %s %n {0}", "\u202eright to left",
)  # fmt: skip


BAD_FOLDER = "=1+1 \\input{x} & $\\frac{$ <b>|\n\x1b[31m"


def hostile_store(folder, marker):
    names = [name.replace("{marker}", str(marker)) for name in NAMES]
    numbers, ids = np.random.default_rng(0), {"train": [], "test": []}
    folder.mkdir()
    with StoreWriter(folder) as writer:
        for label, name in enumerate(names):
            for number, split in enumerate(("train", "train", "test")):
                one = f"{' '.join(name.split())} {number}"
                writer.add(Sample(one, label, numbers.normal(size=(9, 1, 25, 3)).astype(np.float32)))
                ids[split].append(one)
        writer.close("<b>hostile</b>", layout="ntu25", class_names=names)
    for split, listed in ids.items():
        write_list(folder / "splits" / f"{split}.txt", listed)
    return names


def test_names_are_text(tmp_path, capfd, monkeypatch):
    """In logs, pages, tables, CSV, LaTeX and predictions of a run on data whose names are attacks."""
    monkeypatch.chdir(tmp_path)
    marker = tmp_path / "marker"
    names = hostile_store(tmp_path / "data", marker)
    config = tiny_config(
        tmp_path, feeder="feeders.feeder_store.Feeder", feeder_args={"data_path": "data", "window_size": 16},
        train_feeder_args={}, test_feeder_args={}, num_epoch=1, report=True, work_dir=BAD_FOLDER, logger="tensorboard",
    )  # fmt: skip
    (tmp_path / "run.yaml").write_text(json.dumps(config))
    run = tmp_path / BAD_FOLDER
    assert main.main(["--config", "run.yaml"]) == 0
    assert predict.main([str(run), "data", "--top", "12"]) == 0
    assert predict.main([str(run), "data", "--json"]) == 0
    for style in (*STYLES, "csv"):
        words = ["--plot", "plot.png"] * (style == "markdown")
        assert table.main([str(run), "--format", style, "--group-by", "count", *words]) == 0
    printed = capfd.readouterr()
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f\x9b\u202e]", printed.out + printed.err)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f\x9b\u202e]", (run / "log.txt").read_text(encoding="utf-8"))
    page = (run / "report.html").read_text(encoding="utf-8")
    for name in ("<script>alert(1)", "<img src=x", "<b>hostile"):
        assert name not in page
    assert html.escape("<script>alert(1)</script>") in page
    assert "{{ 7 * 7 }}" in page or "{{{{ 7 * 7 }}}}" in page
    assert not marker.exists()
    assert len(names) == len(NAMES)


def test_formulas_in_predictions_are_text():
    prediction = Prediction(np.eye(len(NAMES))[7], NAMES)
    (_, row) = lines([Row("=1+1", "@\udcff", 0, 1, prediction)], "csv", 3)
    assert row.encode()
    assert all(cell[:1] not in "=+@" for cell in next(csv.reader([row])) if cell)
