"""The page as files: what it names is there, nothing of it needs what its policy forbids, and browsers keep it."""

import re
from collections.abc import Iterator
from importlib.resources import files

import httpx
import pytest

from consumers.open_log import OwnedLog
from streamer.settings import Settings
from streamer.web.api import Gateway
from streamer.web.materialized_view import View
from streamer.web.routes.page import TYPES
from streamer.web.server import WebServer

FOLDER = files("streamer.web") / "static"
FILES = sorted(entry.name for entry in FOLDER.iterdir())


@pytest.fixture
def client(log: OwnedLog, settings: Settings) -> Iterator[httpx.Client]:
    server = WebServer(Gateway(log, settings, View(log, settings)).app(), "127.0.0.1", 0)
    server.start()
    with httpx.Client(base_url=server.address) as client:
        yield client
    server.stop()


def test_every_file_comes_with_its_type_and_is_not_sent_twice(client: httpx.Client) -> None:
    for path in ("/", *(f"/static/{name}" for name in FILES)):
        answer = client.get(path)
        name = path.rpartition("/")[2] or "index.html"
        assert (answer.status_code, answer.headers["content-type"]) == (200, TYPES[name.rpartition(".")[2]])
        assert answer.content == (FOLDER / name).read_bytes()
        assert answer.headers["cache-control"] == "no-cache"
        assert "unsafe" not in answer.headers["content-security-policy"]
        for held in (answer.headers["etag"], f'"other", W/{answer.headers["etag"]}'):
            again = client.get(path, headers={"If-None-Match": held})
            assert (again.status_code, again.content) == (304, b"")
        assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize("name", ["nothing.js", "..%2Fapi.py", "%2e%2e%2f%2e%2e%2fsettings.py", "__init__.py", "."])
def test_nothing_else_is_served(client: httpx.Client, name: str) -> None:
    answer = client.get(f"/static/{name}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not-found")


def test_what_the_files_name_is_there() -> None:
    named = set()
    for name in FILES:
        text = (FOLDER / name).read_text()
        named |= set(re.findall(r'from "\./([\w.]+)"', text)) | set(re.findall(r'"/static/([\w.]+)"', text))
    assert named | {"index.html"} == set(FILES)


def test_nothing_is_written_into_the_page_as_html() -> None:
    html = (FOLDER / "index.html").read_text()
    assert not re.search(r"<style|style=|\son\w+=|<script(?! type=\"module\" src)", html)
    for name in FILES:
        if name.endswith(".js"):
            assert not re.search(
                r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", (FOLDER / name).read_text()
            )
