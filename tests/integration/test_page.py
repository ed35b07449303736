"""The page in a real browser, over a real embedded log with a worker behind it."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from consumers.open import OwnedLog
from streamer.commands.produce import interaction_chunks
from streamer.settings import Settings
from streamer.signals import StopRequest
from streamer.web.app import Gateway
from streamer.web.server import WebServer
from streamer.web.view import View
from streamer.worker import Worker
from tests.conftest import missing
from tests.waiting import scaled
from tests.worlds import checkerboard, table_of

pytestmark = pytest.mark.browser


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    """Headless Chromium that reaches nothing but this machine."""
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        missing("the page test needs Chromium and its driver (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (
        "headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
        "disable-component-update", "disable-sync", f"user-data-dir={tmp_path / 'chromium'}", "window-size=1280,1000",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture
def address(log: OwnedLog, settings: Settings) -> Iterator[str]:
    """A page with events behind it: items i0 … i39 are called Film 0 … Film 39."""
    view = View(log, settings)
    server = WebServer(Gateway(log, settings, view, lambda: view.clock_ms).app(), "127.0.0.1", 0)
    view.start()
    server.start()
    films = [{"item_id": f"i{n}", "title": f"Film <b>{n}</b>"} for n in range(40)]
    assert httpx.post(f"{server.address}/items", json=films).status_code == 202
    for records, _ in interaction_chunks(table_of(checkerboard(events=1_200)), "interactions"):
        log.append(records)
    stop = StopRequest()
    worker = Worker(log, settings, stop=lambda: bool(stop))
    working = threading.Thread(target=worker.run)
    working.start()
    yield server.address
    stop.set()
    working.join()
    worker.close()
    view.stop()
    server.stop()


def test_a_newcomer_sees_events_and_lists_and_moves_one(browser: webdriver.Chrome, address: str) -> None:
    def text(element: str) -> str:
        return browser.find_element(By.ID, element).text

    def until(condition: Callable[[], object]) -> None:
        WebDriverWait(browser, scaled(30)).until(lambda _: condition())

    browser.get(address)
    until(lambda: "Film <b>" in text("feed"))  # titles, escaped
    until(lambda: len(browser.find_elements(By.CSS_SELECTOR, "#list li")) == 10 and "Film <b>" in text("list"))
    until(lambda: text("hr") not in ("", "–") and text("hr-pop") not in ("", "–"))
    until(lambda: browser.find_elements(By.CSS_SELECTOR, "#plot polyline"))
    assert text("events") == "1,200"

    user = browser.find_element(By.ID, "user")
    user.click()  # from here on the page follows nobody else: else it may write a name before ours
    user.clear()
    user.send_keys("u3\n")
    until(lambda: len(browser.find_elements(By.CSS_SELECTOR, "#list li")) == 10 and "Film <b>" in text("list"))
    before = text("list")
    until(lambda: '"user_id":"u3"' in text("curl"))
    item = browser.find_element(By.ID, "item")
    for name in ("i1", "i7"):
        item.clear()
        item.send_keys(name)
        browser.find_element(By.CSS_SELECTOR, "#act button").click()
        until(lambda name=name: f"item {name}" in text("sent"))
    until(lambda: text("list") != before)
    until(lambda: "▲" in text("list") or "new" in text("list"))

    errors = [
        entry
        for entry in browser.get_log("browser")
        if entry["level"] == "SEVERE" and "favicon" not in entry["message"]
    ]
    assert not errors


def test_a_list_changes_when_another_program_posts(browser: webdriver.Chrome, address: str) -> None:
    browser.get(address)
    user = browser.find_element(By.ID, "user")
    user.click()  # from here on the page follows nobody else: else it may write a name before ours
    user.clear()
    user.send_keys("u8\n")

    def listed() -> str:
        return browser.find_element(By.ID, "list").text

    WebDriverWait(browser, scaled(30)).until(lambda _: "Film" in listed())
    time.sleep(0.5)  # whatever is still on its way
    before = listed()
    for item in ("i2", "i4", "i2"):
        event = {"user_id": "u8", "item_id": item, "event_type": "view"}
        assert httpx.post(f"{address}/interactions", json=event).status_code == 202
    WebDriverWait(browser, scaled(30)).until(lambda _: listed() != before)
