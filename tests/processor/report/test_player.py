"""Moving skeletons in a real browser: they move, turn, obey the keyboard and can be read, with the network off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from feeders.synthetic import synthesize
from processor.report.motion import motion
from processor.report.templating import render
from shapmix import LAYOUTS
from tests.browser import NARROW, WIDE, Page

NTU, COCO = LAYOUTS["ntu25"], LAYOUTS["coco17"]
HOSTILE = "<script>alert(1)</script> \"'&"
PIXELS = "return arguments[0].getContext('2d').getImageData(0, 0, arguments[0].width, arguments[0].height).data"
SUM = f"const data = (() => {{ {PIXELS} }})(); return data.reduce((sum, value, at) => (sum * 31 + value) % 1e9, 0)"


@pytest.fixture(scope="module")
def page_file(tmp_path_factory) -> Path:
    body = synthesize(0, np.random.default_rng(0))
    gaps = np.concatenate([body, body + np.array([1.0, 0, 0])], axis=1)
    gaps[10:30, 0, 8:12] = np.nan
    gaps[:20, 1] = 0
    pose = np.abs(np.random.default_rng(1).normal(size=(30, 1, 17, 3)))
    motions = [
        motion(body, NTU, name="wave", values=[0.02, 0.6, 0.1, -0.2, 0.3], notes=["predicted: wave (98 %)"]),
        motion(gaps, NTU, name=HOSTILE),
        motion(pose, COCO, 2, name="flat"),
        motion(body[:1], NTU, name="one frame"),
        motion(np.full((9, 1, 25, 3), np.nan), NTU, name="nobody"),
    ]
    path = tmp_path_factory.mktemp("player") / "page.html"
    page = render("show.html.j2", title=HOSTILE, about="five sequences", layout=NTU, motions=motions)
    path.write_text(page, encoding="utf-8")
    return path


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_can_be_read(browser: Page, page_file, size, dark):
    browser.open(page_file, size, dark)
    browser.wait("return document.querySelectorAll('.player canvas').length === 5")
    assert browser.sideways() == 0
    assert browser.contrast()[0] >= 4.5, browser.contrast()
    assert browser.run("return document.querySelectorAll('.player-name')[1].textContent") == HOSTILE
    assert (browser.errors(), browser.requests()) == ([], [])


def canvas(browser: Page, number: int) -> object:
    return browser.run(f"return document.querySelectorAll('.player canvas')[{number}]")


def test_play_pause_scrub_and_turn(browser: Page, page_file):
    browser.open(page_file)
    frame = "document.querySelector('.player-frame').textContent"
    browser.wait(f"return parseInt({frame}) > 3")
    browser.run("document.querySelector('.player-play').click()")
    still = browser.run(f"return {frame}"), browser.run(SUM, canvas(browser, 0))
    assert browser.run("return document.querySelector('.player-play').textContent") == "Play"
    browser.run("return new Promise((done) => setTimeout(done, 200))")
    assert (browser.run(f"return {frame}"), browser.run(SUM, canvas(browser, 0))) == still
    slider = "const slider = document.querySelector('input[type=range]')"
    browser.run(f"{slider}; slider.value = 40; slider.dispatchEvent(new Event('input'))")
    assert browser.run(f"return {frame}") == "41 / 83"
    moved = browser.run(SUM, canvas(browser, 0))
    assert moved != still[1]
    browser.run("document.querySelector('canvas').focus()")
    browser.press("\ue012")  # the arrow to the left
    turned = browser.run(SUM, canvas(browser, 0))
    assert turned != moved
    browser.run("document.querySelector('.player-reset').click()")
    assert browser.run(SUM, canvas(browser, 0)) == moved
    browser.run("document.querySelector('input[type=checkbox]').click()")
    assert browser.run(SUM, canvas(browser, 0)) != moved
    browser.run("document.querySelector('canvas').focus()")
    browser.press(" ")
    browser.wait(f"return parseInt({frame}) > 43")


def test_turned_by_mouse_but_not_in_2d(browser: Page, page_file):
    from selenium.webdriver.common.action_chains import ActionChains

    browser.open(page_file, still=True)
    for number, turns in ((1, True), (2, False)):
        shown = canvas(browser, number)
        before = browser.run(SUM, shown)
        ActionChains(browser.driver).click_and_hold(shown).move_by_offset(60, 0).release().perform()
        assert (browser.run(SUM, shown) != before) == turns


def test_who_prefers_no_motion_sees_none(browser: Page, page_file):
    browser.open(page_file, still=True)
    names = browser.run("return [...document.querySelectorAll('.player-play')].map((one) => one.textContent)")
    assert names == ["Play"] * 5
    disabled = browser.run("return [...document.querySelectorAll('.player-play')].map((one) => one.disabled)")
    assert disabled == [False, False, False, True, True]


def test_the_keyboard_reaches_everything(browser: Page, page_file):
    browser.open(page_file)
    reached = browser.tab()
    wanted = browser.run(
        "return document.querySelectorAll('button:enabled, input:enabled, select, canvas, summary').length"
    )
    assert len(reached) == wanted
    assert [one for one in reached if not one[1] or not one[2]] == []


def test_the_checks_see_what_is_wrong(browser: Page, tmp_path):
    (tmp_path / "page.html").write_text(
        "<body style='background: #fff'><p style='color: #aaa; width: 500px'>pale</p><button style='outline: none'>a"
        "</button><img src='http://localhost/x.png'><script>console.error('wrong')</script>"
    )
    browser.open(tmp_path / "page.html", NARROW)
    assert browser.contrast() == pytest.approx((2.32, "pale"), abs=0.01)
    assert browser.sideways() > 100
    assert browser.tab() == [("button", "a", False)]
    assert browser.requests() == ["http://localhost/x.png"]
    assert any("wrong" in message for message in browser.errors())
