"""The report in a real browser, opened from disk with the network off."""

from __future__ import annotations

import re
from time import perf_counter

import numpy as np
import pytest

from processor.config_files import load_config
from processor.processor import Processor
from processor.scores import ScoreFile
from tools.report import main

from ...browser import NARROW, browser  # noqa: F401  (a fixture)
from .test_report import _written, tiny_config, with_many_classes

DRAWN = "return document.querySelectorAll('[data-chart]').length === document.querySelectorAll('[data-drawn]').length"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The report of a run with odd names, and all its sections."""
    folder = tmp_path_factory.mktemp("browser")
    assert Processor(load_config(_written(folder, tiny_config(folder)))).start() == 0
    run = folder / "run"
    with np.load(run / "scores_test.npz") as file:
        arrays = dict(file)
    names = arrays["class_names"].tolist()
    names[0], names[1] = "<script>alert(1)</script>", 'a "quoted" & <b>bold</b> class'
    counts = arrays["class_counts"].tolist()
    ScoreFile("x", arrays["ids"].tolist(), arrays["scores"], arrays["labels"], names, counts).write(
        run / "scores_test.npz"
    )
    assert main([str(run), "--device", "cpu", "--samples", "1"]) == 0
    return run / "report.html"


def draw_all(page):
    """Draws the charts that are not in view too, as before printing; asked again until the page's script listens."""
    page.wait(f"window.dispatchEvent(new Event('beforeprint')); {DRAWN}", 120)


def test_a_chart_is_drawn_when_it_comes_into_view(report, browser):  # noqa: F811
    browser.open(report)
    drawn = "return Boolean(document.querySelector('[data-chart=deletion]').dataset.drawn)"
    assert not browser.run(drawn)
    browser.run("document.querySelector('[data-chart=deletion]').scrollIntoView()")
    browser.wait(drawn, 20)


def test_it_opens_without_errors_or_requests(report, browser):  # noqa: F811
    begun = perf_counter()
    browser.open(report)
    browser.wait("return document.documentElement.dataset.ready")
    assert perf_counter() - begun < 10  # 3 s on a quiet machine
    draw_all(browser)
    assert browser.run("return document.querySelectorAll('.plot .main-svg').length") >= 8
    assert browser.errors() == []
    assert browser.requests() == []


def test_sorting_and_search(report, browser):  # noqa: F811
    browser.open(report)
    names = (
        "return [...document.querySelectorAll('#classes tbody tr:not([hidden]) th')].map((cell) => cell.textContent)"
    )
    counts = "return [...document.querySelectorAll('#classes tbody tr')].map((row) => Number(row.cells[1].textContent))"
    before = browser.run(names)
    assert "<script>alert(1)</script>" in before
    browser.run("document.querySelectorAll('#classes thead button')[1].click()")
    assert browser.run(counts) == sorted(browser.run(counts))
    browser.run("document.querySelectorAll('#classes thead button')[1].click()")
    assert browser.run(counts) == sorted(browser.run(counts), reverse=True)
    assert (
        browser.run("return document.querySelector('#classes [aria-sort]').getAttribute('aria-sort')") == "descending"
    )
    browser.run("document.querySelector('#classes input').focus()")
    browser.press(*"quoted")
    assert browser.run(names) == ['a "quoted" & <b>bold</b> class']
    assert browser.run("return document.querySelector('#classes .found').textContent") == f"1 of {len(before)} rows"


def test_a_class_is_chosen_and_plays(report, browser):  # noqa: F811
    browser.open(report)
    shown = "return [...document.querySelectorAll('#parts .panel:not([hidden]) h3')].map((title) => title.textContent)"
    first = browser.run(shown)
    browser.run(
        "const choice = document.querySelector('[data-choose=parts]'); choice.value = '1';"
        "choice.dispatchEvent(new Event('change'))"
    )
    assert len(browser.run(shown)) == 1
    assert browser.run(shown) != first
    frame = "return document.querySelector('#parts .panel:not([hidden]) .player-frame').textContent"
    browser.run("document.querySelector('#parts .panel:not([hidden])').scrollIntoView()")
    before = browser.run(frame)
    browser.run("document.querySelector('#parts .panel:not([hidden]) .player-play').click()")
    browser.wait(f"return (() => {{ {frame} }})() !== {before!r}")


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read_on_a_phone(report, browser, dark):  # noqa: F811
    browser.open(report, NARROW, dark)
    draw_all(browser)
    assert browser.sideways() <= 0
    ratio, text = browser.contrast()
    assert ratio >= 4.5, text


def test_the_keyboard_reaches_everything(report, browser):  # noqa: F811
    browser.open(report, still=True)
    reached = browser.tab()
    wanted = browser.run(
        "return [...document.querySelectorAll('a, button, input, select')].filter((one) => one.offsetParent).length"
    )
    assert sum(tag in ("a", "button", "input", "select") for tag, _, _ in reached) == wanted
    assert [one for one in reached if not one[2]] == []
    assert [one for one in reached if not one[1] and one[0] != "div"] == []


def test_every_picture_has_an_alternative(report, browser):  # noqa: F811
    browser.open(report)
    labels = browser.run(
        "return [...document.querySelectorAll('[role=img]')].map((one) => one.getAttribute('aria-label'))"
    )
    assert labels
    assert all(len(label) > 10 for label in labels)


def test_400_classes(report, browser, tmp_path):  # noqa: F811
    run = with_many_classes(report.parent, tmp_path)
    assert main([str(run)]) == 0
    browser.open(run / "report.html")
    browser.wait("return document.documentElement.dataset.ready", 10)
    draw_all(browser)
    assert browser.errors() == []
    assert re.search("400 classes", browser.run("return document.querySelector('#classes caption').textContent"))
