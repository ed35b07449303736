"""The page in a real browser, over a real embedded log with a worker behind it."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from consumers.open_log import OwnedLog
from streamer.cli.producing import interaction_chunks
from streamer.runtime.signals import StopRequest
from streamer.settings import Settings
from streamer.web.api import Gateway
from streamer.web.materialized_view import View
from streamer.web.server import WebServer
from streamer.worker.worker import Worker
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
    worker = Worker.open(log, settings, stop=lambda: bool(stop))
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


class ForeignPage:
    """A web page on a port, thus of an origin, of its own."""

    HTML = b"<!doctype html><title>foreign</title><p>hello"

    def __init__(self) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(ForeignPage.HTML)

            def log_message(self, *arguments: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def foreign() -> Iterator[ForeignPage]:
    page = ForeignPage()
    yield page
    page.close()


READ = """const [url, options, done] = arguments;
fetch(url, options).then(async r => done(r.type === "opaque" ? "opaque" : r.status + " " + await r.text()), e => done("refused: " + e.message));"""
LISTEN = """const [url, done] = arguments; const source = new EventSource(url);
source.onmessage = source.onopen = () => { source.close(); done("open"); }; source.onerror = () => { source.close(); done("refused"); };
source.addEventListener("stats", () => done("read"));"""


def test_a_page_of_another_origin_can_neither_write_nor_read(
    browser: webdriver.Chrome, log: OwnedLog, settings: Settings, foreign: ForeignPage
) -> None:
    shop = f"http://localhost:{foreign.port}"
    refusing, sharing = settings, settings.model_copy(update={"cors_origins": [shop]})
    event = '{"user_id": "u", "item_id": "a", "event_type": "view"}'
    browser.set_script_timeout(20)
    for mine in (refusing, sharing):
        view = View(log, mine)
        server = WebServer(Gateway(log, mine, view).app(), "127.0.0.1", 0)
        view.start()
        server.start()
        try:
            before = log.ends("interactions")
            browser.get(shop)
            got = {}
            for path in ("/v1/interactions", "/interactions"):
                for kind in ("text/plain", "application/json", "application/x-www-form-urlencoded", None):
                    for mode in ("cors", "no-cors"):
                        options = {"method": "POST", "body": event, "mode": mode, "credentials": "include"}
                        if kind:
                            options["headers"] = {"Content-Type": kind}
                        if mine is sharing:
                            options["credentials"] = "omit"
                        url = server.address + path
                        got[path, kind, mode] = browser.execute_async_script(READ, url, options)
            read = browser.execute_async_script(READ, server.address + "/v1/users", {})
            listened = browser.execute_async_script(LISTEN, server.address + "/v1/stream")
            browser.execute_script(
                "const f = document.createElement('form'); f.method = 'post'; f.enctype = 'text/plain';"
                "f.action = arguments[0]; const i = document.createElement('input');"
                'i.name = \'{"user_id": "u", "item_id": "a", "event_type": "view", "x": "\'; i.value = \'"}\';'
                "f.append(i); document.body.append(f); f.submit();",
                server.address + "/interactions",
            )
            WebDriverWait(browser, scaled(30)).until(lambda driver: '"error"' in driver.page_source)
            taken = sum(log.ends("interactions").values()) - sum(before.values())
            if mine is refusing:
                assert taken == 0
                assert all(answer == "opaque" or answer.startswith("refused") for answer in got.values()), got
                assert read.startswith("refused")
                assert listened == "refused"
            else:
                assert taken == 2  # those with the right content type, from the origin that is named
                assert got["/v1/interactions", "application/json", "cors"].startswith("202 ")
                assert read.startswith('200 {"users"')
                assert listened in ("open", "read")
        finally:
            view.stop()
            server.stop()


def test_a_name_that_is_made_to_point_here_reads_nothing(
    browser: webdriver.Chrome, log: OwnedLog, settings: Settings
) -> None:
    """DNS rebinding: for the browser the page and the server are of one origin."""
    view = View(log, settings)
    server = WebServer(Gateway(log, settings, view).app(), "127.0.0.1", 0)
    view.start()
    server.start()
    try:
        port = server.address.rpartition(":")[2]
        browser.get(
            f"http://evil.localhost:{port}/v1/users"
        )  # Chromium resolves every name under localhost to loopback
        assert "bad-host" in browser.page_source
        browser.get(f"http://localhost:{port}/v1/users")
        assert '"users"' in browser.page_source
    finally:
        view.stop()
        server.stop()


def test_a_browser_logs_in_once_and_sees_the_page(browser: webdriver.Chrome, log: OwnedLog, settings: Settings) -> None:
    mine = settings.model_copy(update={"api_key": "open-sesame"})
    view = View(log, mine)
    server = WebServer(Gateway(log, mine, view).app(), "127.0.0.1", 0)
    view.start()
    server.start()
    try:
        browser.get(server.address)
        key = browser.find_element(By.ID, "key")
        WebDriverWait(browser, scaled(30)).until(lambda _: key.is_displayed())
        assert not browser.find_element(By.TAG_NAME, "main").is_displayed()
        key.send_keys("wrong\n")
        WebDriverWait(browser, scaled(30)).until(lambda _: "wrong" in browser.find_element(By.ID, "refused").text)
        key.send_keys("open-sesame\n")
        WebDriverWait(browser, scaled(30)).until(lambda _: browser.find_element(By.TAG_NAME, "main").is_displayed())
        event = {"user_id": "u", "item_id": "a", "event_type": "view"}
        answer = httpx.post(f"{server.address}/v1/interactions", json=event, headers={"X-API-Key": "open-sesame"})
        assert answer.status_code == 202
        WebDriverWait(browser, scaled(30)).until(lambda _: "user u" in browser.find_element(By.ID, "feed").text)
        assert browser.execute_script("return document.cookie") == ""
        browser.refresh()
        WebDriverWait(browser, scaled(30)).until(lambda _: "user u" in browser.find_element(By.ID, "feed").text)
    finally:
        view.stop()
        server.stop()
