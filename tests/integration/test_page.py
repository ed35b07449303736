"""The page in a real browser, over a real embedded log with a worker behind it."""

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import msgspec
import numpy as np
import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from consumers.open_log import OwnedLog
from consumers.records import NewRecord
from streamer.asking.question_queue import QuestionQueue
from streamer.cli.producing import interaction_chunks
from streamer.experiments.experiment_records import create, read_experiment
from streamer.runtime.signals import StopRequest
from streamer.settings import Settings
from streamer.web.api import Gateway, Namespaces
from streamer.web.materialized_view import View
from streamer.web.server import WebServer
from streamer.web.workers.askers import LocalAsker
from streamer.worker.worker import Worker
from tests.conftest import missing
from tests.waiting import scaled
from tests.worlds import checkerboard, table_of
from tests.worlds.outcomes import ctr_until, outcomes

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


class Site:
    """A page with a worker behind it that answers questions; the server can be away for a while."""

    def __init__(self, log: OwnedLog, settings: Settings) -> None:
        self._log, self._settings = log, settings
        self._stop, self._queue = StopRequest(), QuestionQueue()
        self._working: threading.Thread | None = None
        self._port = 0
        self.open()

    def open(self) -> None:
        """Listens, on the port of before."""
        log, settings = self._log, self._settings
        self._view = view = View(log, settings)
        app = Gateway(log, settings, view, lambda: view.feed.stream_ms, LocalAsker(self._queue)).app()
        self._server = WebServer(Namespaces(app, {"shop": app}), "127.0.0.1", self._port)
        view.start()
        self._server.start()
        self.address = self._server.address
        self._port = int(self.address.rpartition(":")[2])

    def shut(self) -> None:
        """As if the process had ended; the worker goes on."""
        self._view.stop()
        self._server.stop()

    def work(self) -> None:
        """Starts a worker."""
        worker = Worker.open(self._log, self._settings, stop=lambda: bool(self._stop), queue=self._queue)

        def run() -> None:
            worker.run()
            worker.close()

        self._working = threading.Thread(target=run)
        self._working.start()

    def close(self) -> None:
        self._stop.set()
        if self._working is not None:
            self._working.join()
        self.shut()


@pytest.fixture
def site(log: OwnedLog, settings: Settings) -> Iterator[Site]:
    made = Site(log, settings)
    yield made
    made.close()


class Page:
    """The page in the browser."""

    def __init__(self, browser: webdriver.Chrome, address: str) -> None:
        self.browser, self._address = browser, address

    def go(self, screen: str, heading: str) -> None:
        """Opens a screen, and waits for its heading."""
        self.browser.get(f"{self._address}/#/{screen}")
        self.until(lambda: heading in self.all("h1")[0].text)

    def all(self, selector: str) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str = "main") -> str:
        """What can be read there; empty where nothing is."""
        return str(
            self.browser.execute_script("return document.querySelector(arguments[0])?.innerText ?? ''", selector)
        )

    def until(self, condition: Callable[[], object]) -> None:
        def holds(_: webdriver.Chrome) -> bool:
            try:
                return bool(condition())
            except (StaleElementReferenceException, IndexError):
                return False

        WebDriverWait(self.browser, scaled(30)).until(holds, message=self.text("body"))

    def write(self, field: str, text: str) -> None:
        element = self.all(field)[0]
        element.clear()
        element.send_keys(text)

    def check(self) -> None:
        """Nothing is wider than a telephone; axe-core finds nothing serious, in light and in dark."""
        for width, theme in ((1400, "light"), (390, "dark"), (390, "light"), (1400, "dark")):
            size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
            self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            scheme = [{"name": "prefers-color-scheme", "value": theme}]
            self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
            assert self.browser.execute_script("return document.documentElement.scrollWidth") <= width
            if AXE.exists():
                self.browser.execute_cdp_cmd("Runtime.evaluate", {"expression": AXE.read_text()})
                found = self.browser.execute_async_script(SERIOUS)
                assert found == [], (self.browser.current_url, width, theme)


AXE = Path(os.environ.get("AXE_CORE", "node_modules/axe-core/axe.min.js"))
SERIOUS = """const done = arguments[0]; axe.run().then(found => done(found.violations
.filter(one => ["serious", "critical"].includes(one.impact)).map(one => one.id + ": " + one.nodes[0].html)));"""


def test_the_page(browser: webdriver.Chrome, site: Site, log: OwnedLog, settings: Settings) -> None:
    page = Page(browser, site.address)

    # nothing is there yet, nobody works: it says what to do next
    page.go("", "Overview")
    page.until(lambda: "curl -X POST" in page.text(".call") and "freshet run" in page.text("#worker"))
    page.check()
    page.go("user/somebody", "User somebody")
    page.until(lambda: "freshet run" in page.text("#known") and "no list" in page.text("#about"))
    page.go("settings", "Settings")
    page.until(lambda: "freshet run" in page.text())

    # a newcomer sees events, lists, figures
    films = [{"item_id": f"i{n}", "title": f"Film <b>{n}</b>", "tags": ["odd" if n % 2 else "even"]} for n in range(40)]
    assert httpx.post(f"{site.address}/v1/items", json=films).status_code == 202
    log.append([NewRecord("interactions", b"u", b"{nonsense")])
    for records, _ in interaction_chunks(table_of(checkerboard(events=1_200)), "interactions"):
        log.append(records)
    site.work()
    page.go("", "Overview")
    page.until(lambda: "Film <b>" in page.text("#feed") and not page.all(".call")[0].is_displayed())  # escaped
    page.until(lambda: len(page.all("#list li")) == 10 and "Film <b>" in page.text("#list"))
    page.until(lambda: page.text("#hr") and page.text("#ndcg") and page.all(".plot polyline.ours"))
    page.until(lambda: page.text("#events") == "1,201" and page.text("#lag") == "0")
    page.until(lambda: "A worker runs" in page.text("#worker") and "not-json" in page.text("#dead"))
    page.all("#dead summary")[0].click()
    page.until(lambda: "{nonsense" in page.text("#dead"))  # the record as it came
    brings = {
        "metric": "ctr",
        "surface": "home",
        "arm": "price:A",
        "value": 0.125,
        "numerator": 1,
        "denominator": 8,
        "users": 2,
    }
    log.append([NewRecord("quality", b"business/home/price:A/ctr", json.dumps(brings | {"timestamp": 1}).encode())])
    page.until(lambda: "price:A" in page.text("#business") and "12.5 %" in page.text("#business"))
    arms = [{"name": name, "share": 0.5} for name in "ab"]
    create(log, settings, read_experiment({"name": "colour", "surface": "home", "arms": arms}), 1)
    random = np.random.default_rng(1)
    for arm, lift in (("a", 0.0), ("b", 0.6)):
        one = ctr_until(f"colour:{arm}", outcomes(random, 2_000, 10, lift), 9)
        told = msgspec.structs.replace(one, surface="home")
        log.append([NewRecord("quality", f"business/home/colour:{arm}/ctr".encode(), msgspec.json.encode(told))])
    page.until(lambda: "colour on home: created" in page.text("#experiments"))
    page.until(lambda: "b has more than a: clicked of shown" in page.text("#experiments"))
    page.all("#experiments summary")[0].click()
    page.until(lambda: "at any time, 95 %" in page.text("#experiments table"))
    page.check()

    # somebody unknown gets an answer at once, and a list of their own with a first interaction
    page.go("user/nobody%2F7", "User nobody/7")
    page.until(lambda: "curl -X POST" in page.text("#known") and len(page.all("#list li")) == 10)
    page.check()
    page.write("#item", "i1\n")
    page.until(lambda: "1 interactions" in page.text("#known") and "Film <b>1</b>" in page.text("#last"))

    # a user: events move the list, reasons are told, a filter is tried; by keyboard alone
    page.go("user/u3", "User u3")
    page.until(lambda: len(page.all("#list li")) == 10 and page.text("#last"))
    before = page.text("#list")
    for name in ("i1", "i7"):
        page.write("#item", f"{name}\n")
        page.until(lambda name=name: f"item {name}" in page.text("#sent"))
    page.until(lambda: page.text("#list") != before and '"user_id":"u3"' in page.text())
    before = page.text("#list")
    event = {"user_id": "u3", "item_id": "i2", "event_type": "view"}
    assert httpx.post(f"{site.address}/interactions", json=event).status_code == 202  # by another program
    page.until(lambda: page.text("#list") != before)
    page.all("#list button")[0].send_keys(Keys.ENTER)
    page.until(lambda: len(page.text("#list .why:not([hidden]) p")) > 20)
    page.write("#filter", '"odd" in item.tags\n')
    page.until(lambda: "passes the filter" in page.text("#about") and page.all("#list li"))
    assert all(int(li.get_attribute("data-id")[1:]) % 2 for li in page.all("#list li"))  # type: ignore[index]
    page.write("#filter", "item.tags ==\n")
    page.until(lambda: page.text("#filtered"))
    page.check()

    # an item: found by title, what is like it; hidden, it leaves the lists
    page.go("items/FILM <b>39", "Items")
    page.until(lambda: "Film <b>39</b>" in page.text("#found"))
    page.check()
    page.all("#found a")[0].send_keys(Keys.ENTER)
    page.until(lambda: page.all("h1")[0].text == "Film <b>39</b>" and len(page.all("main ul li")) > 3)
    assert browser.switch_to.active_element.tag_name == "h1"
    page.check()
    page.all("#hide")[0].send_keys(Keys.ENTER)
    page.until(lambda: "Hidden" in page.text("#said"))
    asked = httpx.post(f"{site.address}/v1/recommendations", json={"user_id": "u3", "k": 100}).json()
    assert len(asked["items"]) == 39
    page.until(lambda: page.all("#hide")[0].is_enabled())
    page.all("#hide")[0].send_keys(Keys.ENTER)
    page.until(lambda: "may be listed again" in page.text("#said"))
    page.go("item/none", "Item none")
    page.until(lambda: "Nothing is known of this item" in page.text())
    page.go("rules", "Rules")
    page.until(lambda: "There are none" in page.text("#force"))
    page.write("#rules", '{"surface": "default", "filter": "\\"odd\\" in item.tags"}')
    page.write("#users", "u3, nobody")
    page.all("#try")[0].send_keys(Keys.ENTER)
    page.until(lambda: len(page.all("#tried ol")) == 2)
    assert all(int(li.get_attribute("data-id")[1:]) % 2 for li in page.all("#tried li"))  # type: ignore[index]
    page.check()
    page.all("#put")[0].send_keys(Keys.ENTER)
    page.until(lambda: "in force from the next epoch on" in page.text("#said") and "odd" in page.text("#force"))
    page.check()
    page.write("#rules", '{"surface": "vain", "quotas": [{"per": "item.colour", "max": 1}]}')
    for button in ("#try", "#put"):
        page.all(button)[0].send_keys(Keys.ENTER)
        page.until(lambda: "quotas.0.per: no item has the field 'colour'" in page.text("#warnings"))
    page.check()
    page.write("#rules", '{"filter": "item.tags =="}')
    page.all("#put")[0].send_keys(Keys.ENTER)
    page.until(lambda: "filter: the filter ends too early" in page.text("#said"))
    page.write("#rules", '{"surface": "default"}')
    page.all("#put")[0].send_keys(Keys.ENTER)
    page.until(lambda: "in force from the next epoch on" in page.text("#said"))
    page.go("users", "Users")
    page.until(lambda: "u3" in page.text("#users"))
    page.check()
    page.go("settings", "Settings")
    page.until(lambda: "every_item_below" in page.text())
    page.check()
    faults = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    refused = ("status of 404", "status of 503", "status of 400")  # what was asked for above
    assert [fault for fault in faults if not any(words in fault for words in refused)] == []

    # the server is gone: it says so, and comes back by itself without a row shown twice
    page.go("", "Overview")
    page.until(lambda: len(page.all("#feed li")) == 14)
    site.shut()
    page.until(lambda: "does not answer" in page.text("#banner"))
    page.check()
    site.open()
    page.until(lambda: not page.all("#banner")[0].is_displayed())
    event = {"user_id": "u-last", "item_id": "i3", "event_type": "view"}
    assert httpx.post(f"{site.address}/v1/interactions", json=event).status_code == 202
    page.until(lambda: "u-last" in page.text("#feed"))
    places = [li.get_attribute("data-place") for li in page.all("#feed li")]
    assert len(set(places)) == len(places) == 14
    if not AXE.exists():
        missing(
            "axe-core is not there: `npm install axe-core`, or AXE_CORE with the path of axe.min.js; all else passed"
        )


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
        WebDriverWait(browser, scaled(30)).until(lambda _: browser.find_elements(By.ID, "key"))
        key = browser.find_element(By.ID, "key")
        assert not browser.find_elements(By.ID, "feed")
        key.send_keys("wrong\n")
        WebDriverWait(browser, scaled(30)).until(lambda _: "wrong" in browser.find_element(By.ID, "refused").text)
        key.send_keys("open-sesame\n")
        WebDriverWait(browser, scaled(30)).until(lambda _: browser.find_elements(By.ID, "feed"))
        event = {"user_id": "u", "item_id": "a", "event_type": "view"}
        answer = httpx.post(f"{server.address}/v1/interactions", json=event, headers={"X-API-Key": "open-sesame"})
        assert answer.status_code == 202
        WebDriverWait(browser, scaled(30)).until(lambda _: browser.find_elements(By.CSS_SELECTOR, "#feed li"))
        assert browser.execute_script("return document.cookie") == ""
        browser.refresh()
        WebDriverWait(browser, scaled(30)).until(lambda _: browser.find_elements(By.CSS_SELECTOR, "#feed li"))
    finally:
        view.stop()
        server.stop()


def test_the_page_of_a_namespace_asks_that_namespace(browser: webdriver.Chrome, site: Site) -> None:
    site.work()
    page = Page(browser, f"{site.address}/ns/shop")
    page.go("", "Overview")
    page.until(lambda: "/ns/shop/v1/interactions" in page.text())
    event = {"user_id": "ann", "item_id": "tea", "event_type": "view"}
    httpx.post(f"{site.address}/ns/shop/v1/interactions?wait=30000", json=event).raise_for_status()
    page.until(lambda: "tea" in page.text("#feed"))
    page.go("user/ann", "ann")
    page.until(lambda: "tea" in page.text())
    asked = browser.execute_script(
        "return performance.getEntriesByType('resource').map(one => new URL(one.name).pathname)"
    )
    assert asked
    assert all(path.startswith("/ns/shop/") for path in asked), asked
