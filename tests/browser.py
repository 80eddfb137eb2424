"""A headless browser for tests of pages: Debian's chromium and chromium-driver, by selenium, without a network.

A test takes the fixture ``browser`` (name it in the file's ``pytest_plugins``, or import it). It is skipped with a
message where selenium, a browser or its driver is missing.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDE, NARROW = (1400, 1000), (390, 844)  # pixels: a desk and a phone
CONTRAST = """
const channels = (text) => (text.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
  .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
const over = ([r, g, b, a = 1], [x, y, z]) => [r * a + x * (1 - a), g * a + y * (1 - a), b * a + z * (1 - a)];
const ground = (element) => {
  if (!element) return matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18] : [255, 255, 255];
  const own = channels(getComputedStyle(element).backgroundColor), alpha = own.length > 3 ? own[3] : 1;
  return alpha === 1 ? own.slice(0, 3) : over([...own.slice(0, 3), alpha], ground(element.parentElement));
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
for (let node = walker.nextNode(); node; node = walker.nextNode()) {
  const element = node.parentElement, style = getComputedStyle(element);
  const drawn = element.getClientRects().length && style.visibility === "visible";
  if (!node.textContent.trim() || !drawn || element.closest("script, style, svg, :disabled")) continue;
  const behind = ground(element), [one, other] = [light(over(channels(style.color), behind)), light(behind)];
  found.push([(Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05), node.textContent.trim().slice(0, 60)]);
}
return found;
"""
REACHED = """
const element = document.activeElement, style = getComputedStyle(element);
const name = element.getAttribute("aria-label") || element.textContent.trim() || element.labels?.[0]?.textContent || "";
const outline = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1;
return element === document.body ? null : [element.tagName.toLowerCase(), name.trim(), outline];
"""


class Page:
    """One page in the browser, and what a test asks of it.

    Attributes:
        driver: selenium's.
        width: of the window, pixels.
    """

    def __init__(self, driver: Any) -> None:
        self.driver, self.width = driver, WIDE[0]

    def open(self, path: Path, size: tuple[int, int] = WIDE, dark: bool = False, still: bool = False) -> None:
        """Opens a file from disk in a window of ``size`` pixels.

        Args:
            dark: the reader prefers dark pages.
            still: the reader prefers pages that do not move.
        """
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"},
        ]
        command = self.driver.execute_cdp_cmd
        command("Emulation.setEmulatedMedia", {"features": features})
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size[0] < 600}
        command("Emulation.setDeviceMetricsOverride", metrics)
        self.width = size[0]
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)  # what was there before
        self.driver.get(path.resolve().as_uri())

    def run(self, script: str, *values: Any) -> Any:
        """What a script returns; ``arguments[0]`` is the first of the values."""
        return self.driver.execute_script(script, *values)

    def wait(self, script: str, seconds: float = 60.0) -> Any:
        """What the script returns as soon as that is true; TimeoutException after so many seconds."""
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, seconds, 0.05).until(lambda driver: driver.execute_script(script))

    def errors(self) -> list[str]:
        """Messages of the console since the page was opened, warnings and errors."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses that the page asked for since it was opened, besides its own file and data in itself."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        asked = [
            event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"
        ]
        own = self.driver.current_url.partition("#")[0]
        return [url for url in asked if url.partition("#")[0] != own and not url.startswith(("data:", "blob:"))]

    def sideways(self) -> int:
        """How many pixels the page can be scrolled to the side."""
        wide = self.run("return Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)")
        return int(wide) - self.width

    def contrast(self) -> tuple[float, str]:
        """The least contrast of text against what is behind it, 1 .. 21, and that text."""
        ratio, text = min(self.run(CONTRAST))
        return float(ratio), str(text)

    def tab(self, most: int = 500) -> list[tuple[str, str, bool]]:
        """Presses Tab until the page is left: (tag, name, is its focus visible?) of everything that is reached."""
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.keys import Keys

        self.run("document.activeElement.blur(); window.scrollTo(0, 0)")
        found = []
        for _ in range(most):
            ActionChains(self.driver).send_keys(Keys.TAB).perform()
            reached = self.run(REACHED)
            if reached is None:
                break
            found.append(tuple(reached))
        return found

    def press(self, *keys: str) -> None:
        """Presses keys in whatever has the focus."""
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def picture(self, path: Path) -> None:
        """A PNG of the whole page."""
        found = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "format": "png"})
        path.write_bytes(base64.b64decode(found["data"]))


@pytest.fixture(scope="session")
def browser() -> Iterator[Page]:
    """One headless browser for all tests of a session, with the network off."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium: pip install -r requirements-dev.txt")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no chromium and chromedriver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for word in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "hide-scrollbars",
                 "host-resolver-rules=MAP * ~NOTFOUND", "disable-background-networking"):  # fmt: skip
        options.add_argument(f"--{word}")
    options.set_capability("goog:loggingPrefs", {"browser": "WARNING", "performance": "INFO"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    started.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    started.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    try:
        yield Page(started)
    finally:
        started.quit()
