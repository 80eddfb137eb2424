"""The report of a run: what it says, and that a run in any state gives a page that says what is missing."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from processor.config_files import load_config
from processor.processor import Processor
from processor.report.page import Page, Section, Table
from processor.report.run_data import read_run
from processor.run_folder import RunFolder
from processor.scores import ScoreFile
from tools.report import main

from ...conftest import tiny_config


class Text(HTMLParser):
    """Collects ids, the text outside of scripts and styles, and what the page would load."""

    def __init__(self, page):
        super().__init__()
        self.ids, self.words, self.loads, self.tags = [], [], [], []
        self.skipping = False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append(tag)
        self.skipping = tag in ("script", "style")
        if "id" in found:
            self.ids.append(found["id"])
        for name in ("src", "href"):
            if found.get(name) and not found[name].startswith(("#", "data:")):
                self.loads.append(found[name])

    def handle_endtag(self, tag):
        self.skipping = False

    def handle_data(self, data):
        if not self.skipping:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def page_of(folder):
    return Text((folder / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run of two epochs, with its report."""
    folder = tmp_path_factory.mktemp("report")
    config = tiny_config(folder, report=True)
    assert Processor(load_config(_written(folder, config))).start() == 0
    return folder / "run"


def _written(folder, config):
    path = folder / "run.yaml"
    path.write_text(json.dumps(config))
    return str(path)


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the run that a test may damage."""
    return shutil.copytree(trained, tmp_path / "run")


def with_many_classes(trained, tmp_path):
    """A copy of a run that has scores of 50,000 samples in 400 classes, and no weights."""
    run = shutil.copytree(trained, tmp_path / "run")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 400, 50_000)
    scores = rng.normal(size=(50_000, 400)).astype(np.float32)
    scores[np.arange(50_000), labels] += 2
    names, counts = [f"class {k}" for k in range(400)], rng.integers(1, 500, 400).tolist()
    ScoreFile("x", [str(k) for k in range(50_000)], scores, labels, names, counts).write(run / "scores_test.npz")
    (run / "last.pt").unlink()
    return run


def again(run, code=0):
    assert main([str(run), "--device", "cpu"]) == code
    return page_of(run)


def test_a_run_ends_with_its_report(trained):
    page = page_of(trained)
    assert not page.loads
    assert len(page.ids) == len(set(page.ids))
    line = RunFolder(trained).read_metrics()[-1]
    for share in (line["top1"], line["mean_class_accuracy"]):
        assert f"{100 * share:.1f} %" in page.text
    for words in ("shap_mix", "model.ctrgcn.Model", "Which classes fail", "wave_right", "test sequences"):
        assert words in page.text
    assert (trained / "report.html").stat().st_size < 8e6


def test_charts_are_valid_and_have_alternatives(trained):
    content = (trained / "report.html").read_text(encoding="utf-8")
    charts = re.findall(r'<script type="application/json" id="chart-(\w+)">(.*?)</script>', content)
    assert {"losses", "accuracies", "rate", "speed", "by_count", "confusion"} <= {key for key, _ in charts}
    for key, figure in charts:
        assert json.loads(figure)["data"]
        assert re.search(rf'data-chart="{key}"[^>]*>\s*<div class="plot" role="img" aria-label="[^"]{{10,}}"', content)


def test_it_can_be_made_again(run):
    before = again(run).text
    for words in ("What carries an action", "Mixing, seen", "Label: ", "seed 1, epoch 1, step 0"):
        assert words in before
    assert (run / "explanation.npz").is_file()
    (run / "report.html").unlink()
    assert again(run).text == before


def test_more_samples_are_explained_where_they_are_asked_for(run):
    for samples, wanted in ((1, 12), (2, 24), (1, 24), (9, 24)):  # there are two test samples of each of 12 classes
        assert main([str(run), "--device", "cpu", "--samples", str(samples)]) == 0
        with np.load(run / "explanation.npz") as file:
            assert len(file["ids"]) == wanted


def test_without_data(run, capfd):
    shutil.rmtree(run.parent / "cache", ignore_errors=True)
    config = (run / "config.yaml").read_text().replace("feeders.synthetic.Feeder", "feeders.feeder_ucla.Feeder")
    config = re.sub(r"feeder_args:\n(  .*\n)+", "feeder_args: {data_path: nowhere}\n", config, count=1)
    config = re.sub(r"(train|test)_feeder_args:\n(  .*\n)+", "", config)
    (run / "config.yaml").write_text(config)
    page = again(run)
    assert "cannot be shown" in page.text
    assert "nowhere" in page.text
    assert "left out" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda run: (run / "scores_test.npz").unlink(), "the run has no scores yet"),
        (lambda run: (run / "scores_test.npz").write_bytes(b"PK"), "scores_test.npz"),
        (lambda run: (run / "environment.json").write_text("{"), "environment.json is missing or damaged"),
        (lambda run: (run / "metrics.jsonl").write_text(""), "No epoch is written yet"),
        (lambda run: (run / "metrics.jsonl").unlink(), "No epoch is written yet"),
        (lambda run: (run / "last.pt").unlink(), "cannot be shown"),
        (lambda run: (run / "last.pt").write_bytes(b"no"), "cannot be shown"),
    ],
)
def test_what_is_missing_is_said(run, damage, words):
    damage(run)
    assert words in again(run).text


def test_a_cut_line_and_an_unfinished_run(run):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text(lines[0] + "\n" + lines[1][:40])
    page = again(run)
    assert "The run is not finished: 1 of 2 epochs are trained." in page.text
    assert "Lines 2 of metrics.jsonl are damaged." in page.text


def test_names_are_text(run):
    """A class called like code, an id with quotes, and a class that is not tested."""
    names = ["<script>alert(1)</script>", "a\"b'c & <b>d</b>", "größe\nzwei", "empty"]
    scores = np.eye(4)[[0, 1, 2, 1]] * 3
    scores[3, 2] = 9
    ids = ["one", 'two "2"', "three<img src=x onerror=alert(1)>", "four"]
    file = ScoreFile("x", ids, scores, np.array([0, 1, 2, 1]), names, [5, 4, 3, 0])
    file.write(run / "scores_test.npz")
    page = again(run)
    content = (run / "report.html").read_text(encoding="utf-8")
    ours = len(re.findall('^<script type="application/json"', content, re.MULTILINE)) + 3  # plotly, player, page
    assert page.tags.count("script") == ours, "a name became a script"
    assert "<script>alert(1)</script>" in page.text
    assert "img" not in page.tags
    assert "1 classes have no training sequence: empty." in page.text
    assert "1 classes have no test sequence, and no accuracy: empty." in page.text
    assert "alert(1)</script>" not in content


def test_no_run(tmp_path, capfd):
    assert main([str(tmp_path)]) == 2
    assert "Traceback" not in capfd.readouterr().err


def test_several_runs(trained, tmp_path):
    first = shutil.copytree(trained, tmp_path / "runs/first/seed_1")
    second = shutil.copytree(trained, tmp_path / "runs/second/seed_1")
    text = (second / "config.yaml").read_text()
    (second / "config.yaml").write_text(text.replace("base_lr: 0.1", "base_lr: 0.2"))
    out = tmp_path / "all.html"
    assert main([str(tmp_path / "runs"), "--out", str(out), "--baseline", "first"]) == 0
    page = Text(out.read_text(encoding="utf-8"))
    assert "first/seed_1" in out.read_text(encoding="utf-8")
    assert "baseline" in page.text
    assert "difference from first in points" in page.text
    (first / "scores_test.npz").unlink()
    assert main([str(tmp_path / "runs"), "--out", str(out)]) == 0
    assert "Left out, without scores" in Text(out.read_text(encoding="utf-8")).text


def test_a_failing_report_does_not_fail_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("processor.report.report.sections_of", lambda *_: 1 / 0)
    path = _written(tmp_path, tiny_config(tmp_path, report=True, num_epoch=1))
    assert Processor(load_config(path)).start() == 0
    assert not (tmp_path / "run/report.html").exists()
    log = (tmp_path / "run/log.txt").read_text()
    assert "the report could not be made" in log
    assert "ZeroDivisionError" in log


def test_many_classes_and_samples(tmp_path, trained):
    """50,000 samples of 400 classes: a page of at most 8 MB in seconds."""
    run = with_many_classes(trained, tmp_path)
    page = again(run)
    assert "class 399" in page.text
    assert (run / "report.html").stat().st_size < 8e6


def test_the_most_confused_pairs(run):
    labels = np.array([0] * 10 + [1] * 4 + [2] * 2)
    predicted = np.array([0] * 7 + [1] * 3 + [2] * 2 + [1] * 2 + [2] * 2)
    scores = np.eye(3)[predicted]
    ScoreFile("x", [str(k) for k in range(16)], scores, labels, ["a", "b", "c"], [9, 5, 1]).write(
        run / "scores_test.npz"
    )
    found = read_run(run)
    assert found.confused() == [(1, 2, 2), (0, 1, 3)]  # half of b, then three tenths of a
    assert found.samples_of(1, 2) == [10, 11]
    assert found.confusion.tolist() == [[7, 3, 0], [0, 2, 2], [0, 0, 2]]


def test_numbers_stand_to_the_right():
    table = Table("t", ["name", "n"], [["a", "1.5"], ["2b", "-"]])
    assert table.numeric == [False, True]
    page = Page("t", [Section("s", "S", tables=[table])]).html()
    assert "plotly" not in page  # no chart, no script of five megabytes
