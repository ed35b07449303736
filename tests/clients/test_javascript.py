"""The JavaScript client: types made of the document, calls from Node, and the snippet of its README in a browser."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from streamer.web.api import Gateway
from streamer.web.server import WebServer
from streamer.web.workers.askers import RemoteAsker
from tests.clients.conftest import Front
from tests.conftest import missing
from tests.integration.test_page import browser
from tests.shop import Shop, started
from tests.waiting import scaled, until

__all__ = ["browser"]
HERE = Path(__file__).parents[2] / "deploy" / "clients" / "javascript"
SCRIPT = """
import {Freshet, Refused} from "./freshet.js";
const freshet = new Freshet(process.argv[2], "node/user");
const told = [await freshet.happened("i1"), await freshet.happened("i2", "purchase", {value: 3})];
const list = await freshet.recommendations({k: 3, exclude: ["i4", "i6"], fields: ["title"]});
await freshet.feedback(list, "click", list.items[0].item_id);
const refused = await freshet.recommendations({k: 0}).catch(error => error);
console.log(JSON.stringify({told, list, refused: refused instanceof Refused && [refused.status, refused.field]}));
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with what its lock names."""
    if not shutil.which("node") or not shutil.which("npm"):
        missing("the JavaScript client needs Node 20 with npm")
    folder = tmp_path_factory.mktemp("javascript") / "package"
    shutil.copytree(HERE, folder, ignore=shutil.ignore_patterns("node_modules", "freshet.d.ts"))
    npm(folder, "ci", "--silent", "--no-audit", "--no-fund")
    return folder


def npm(folder: Path, *words: str, **variables: str) -> None:
    environment = {"PATH": f"{Path(shutil.which('npm') or '').parent}:/usr/bin:/bin", "HOME": str(Path.home())}
    done = subprocess.run(
        ["npm", *words], cwd=folder, env=environment | variables, capture_output=True, text=True, timeout=scaled(240)
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_types_are_those_of_the_document(package: Path, front: Front) -> None:
    npm(package, "run", "--silent", "types", OPENAPI=f"{front.address}/openapi.json")
    assert (package / "schema.d.ts").read_text() == (HERE / "schema.d.ts").read_text(), "`npm run types`: see README"


@pytest.mark.slow
def test_what_the_types_do_not_allow_is_found(package: Path) -> None:
    npm(package, "run", "--silent", "check")
    npm(package, "run", "--silent", "prepack")
    use = 'import {Freshet} from "./freshet.js";\nconst list = await new Freshet("", "u").recommendations({k: 3});\n'
    config = json.loads((package / "tsconfig.json").read_text())
    (package / "use.json").write_text(json.dumps(config | {"files": ["use.mts"]}))
    for line, fine in (
        ("const id: string = list.items[0].item_id;", True),
        ("const id: number = list.items[0].item_id;", False),
        ('await new Freshet("", "u").recommendations({k: "3"});', False),
    ):
        (package / "use.mts").write_text(use + line)
        done = subprocess.run(
            ["node_modules/.bin/tsc", "--project", "use.json"], cwd=package, capture_output=True, text=True
        )
        assert (done.returncode == 0) == fine, done.stdout


def test_node_sends_what_counts_once_and_gets_lists(package: Path, front: Front) -> None:
    (package / "use.mjs").write_text(SCRIPT)
    front.faults.next += ["lost", "busy"]
    done = subprocess.run(
        ["node", "use.mjs", front.address], cwd=package, capture_output=True, text=True, timeout=scaled(60)
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert [told["accepted"] for told in said["told"]] == [1, 1]
    assert said["list"]["user_id"] == "node/user"
    assert not {"i4", "i6"} & {item["item_id"] for item in said["list"]["items"]}
    assert said["refused"] == [400, "k"]
    until(lambda: front.shop.front.get("/v1/users/node%2Fuser").json().get("interactions", 0) >= 2)
    assert front.shop.front.get("/v1/users/node%2Fuser").json()["interactions"] == 2


class Elsewhere(SimpleHTTPRequestHandler):
    """A site of another origin."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Its origin, and the folder of its files."""
    folder = tmp_path / "site"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Elsewhere, directory=str(folder)))
    Thread(target=server.serve_forever, name="site").start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    server.server_close()


@pytest.mark.browser
def test_the_snippet_shows_each_new_list_on_a_page_of_another_origin(
    shop: Shop, site: tuple[str, Path], browser: webdriver.Chrome
) -> None:
    origin, folder = site
    mine = shop.settings.model_copy(update={"cors_origins": [origin]})
    gateway = Gateway(shop.log, mine, shop.view, asker=RemoteAsker(shop.view.workers))
    [snippet] = re.findall(r"```html\n(.*?)```", (HERE / "README.md").read_text(), re.S)
    shutil.copy(HERE / "freshet.js", folder)
    with started(WebServer(gateway.app(), "127.0.0.1", 0)) as server:
        page = snippet.replace("http://localhost:8765", server.address).replace('"tea"', '"i1"')
        (folder / "index.html").write_text(f"<!doctype html><title>shop</title>{page}")
        browser.get(origin)

        def shown() -> list[str]:
            return list(browser.execute_script("return [...document.querySelectorAll('li')].map(item => item.id)"))

        first = until(shown, said=lambda: browser.get_log("browser"))
        event = {"user_id": "ann", "item_id": first[-1], "event_type": "purchase"}
        assert shop.front.post("/v1/interactions", json=event).status_code == 202
        until(lambda: shown() not in ([], first), said=shown)
        assert browser.find_element(By.TAG_NAME, "li").text.startswith("Item ")
        until(lambda: _feedback(shop) >= 2)


def _feedback(shop: Shop) -> int:
    """How many records of feedback are in the log."""
    return sum(shop.log.ends(shop.settings.feedback_topic).values())
