"""A headless Chromium, and what tests ask of a page in it."""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
NEEDED = [
    pytest.mark.engine,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER) and not os.environ.get("PCAN_REQUIRE_ENGINES"),
        reason="chromium or chromedriver is missing",
    ),
]


def started() -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def drawn(browser: Any) -> Any:
    """Wait for the page that was just opened; a busy machine takes its time."""
    waiting(browser).until(lambda b: js(b, "return document.body.dataset.drawn") == "yes")
    return browser


def size(browser: Any, width: int, height: int) -> None:
    shape = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", shape)


def fits(browser: Any, width: int) -> None:
    """Wait until nothing is wider; charts follow a new width after a moment."""
    wide = "return document.documentElement.scrollWidth"
    waiting(browser).until(lambda b: js(b, wide) <= width)


def js(browser: Any, code: str, *given: Any) -> Any:
    return browser.execute_script(code, *given)


def click(browser: Any, selector: str) -> None:
    browser.find_element("css selector", selector).click()


def waiting(browser: Any) -> Any:
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 240)
