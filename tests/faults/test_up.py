"""`freshet up` as it is started: its processes are killed, and it goes on; it is ended, and they end."""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from streamer.runtime.state_lock import StateLock
from streamer.runtime.topics import open_log_of, topic_specs
from streamer.settings import Settings
from streamer.worker.worker import Worker
from tests.waiting import ended, ends, scaled, until

ROOT = Path(__file__).parents[2]
EVENT = {"user_id": "ann", "item_id": "a", "event_type": "view"}


class Up:
    """A `freshet up` process in a folder of its own, and a client of its front."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self._errors = folder / "up.log"
        line = [sys.executable, "-m", "streamer", "up", "--log", "log", "--port", "0", "--json", *flags]
        environment = {"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(Path.home())}
        with self._errors.open("w") as errors, (folder / "out").open("w") as out:
            self.process = subprocess.Popen(line, cwd=folder, env=environment, stdout=out, stderr=errors)
        self._out = folder / "out"
        self.client = httpx.Client(timeout=scaled(60))

    @property
    def address(self) -> str | None:
        """Of the front that was started last."""
        lines = self._out.read_text().splitlines()
        return str(json.loads(lines[-1])["address"]) if lines else None

    def children(self) -> dict[str, int]:
        """Process ids: of `run`, of `serve` and of `run feedback`."""
        found = {}
        for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            name = (
                "feedback" if "feedback" in words else next((word for word in words if word in ("run", "serve")), None)
            )
            found |= {name: int(pid)} if name else {}
        return found

    def get(self, path: str) -> httpx.Response | None:
        """An answer of the front; None while it has none."""
        assert self.process.poll() is None, self.said()
        try:
            return self.client.get(f"{self.address}{path}") if self.address else None
        except httpx.HTTPError:
            return None

    def gets(self, path: str, status: int = 200) -> httpx.Response:
        """An answer with this status, which is waited for."""

        def got() -> httpx.Response | None:
            answer = self.get(path)
            return answer if answer is not None and answer.status_code == status else None

        found = until(got, 120, self.said)
        assert found is not None
        return found

    def post(self) -> httpx.Response:
        """An interaction, until it is in the log, and the list that knows it."""

        def sent() -> httpx.Response | None:
            assert self.process.poll() is None, self.said()
            try:
                answer = self.client.post(f"{self.address}/v1/interactions?wait=60000", json=EVENT)
            except httpx.HTTPError:
                return None
            return answer if answer.status_code == 200 else None

        found = until(sent, 120, self.said)
        assert found is not None
        return found

    def said(self) -> str:
        return self._errors.read_text()

    def ends_well(self) -> None:
        """SIGTERM ends it and both of its processes within 30 s."""
        children = self.children()
        self.process.send_signal(signal.SIGTERM)
        assert ended(self.process, 30, self.said) == 0, self.said()
        for pid in children.values():
            assert not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    started = Up(tmp_path)
    with ends(started.process):
        yield started
    started.client.close()


def test_either_process_may_die_and_lists_go_on(up: Up) -> None:
    up.gets("/v1/users/ann/recommendations")
    assert [item["item_id"] for item in up.post().json()["items"]] == ["a"]
    until(lambda: up.get("/v1/status").json()["lists"] == 1)
    os.kill(up.children()["run"], signal.SIGKILL)
    stale = until(
        lambda: (got := up.get("/v1/users/ann/recommendations")) is not None and "stale" in got.text and got,
        said=up.said,
    ).json()
    assert stale["stale"] is True
    assert stale["age_ms"] >= 0
    assert [item["item_id"] for item in stale["items"]] == ["a"]
    until(lambda: "stale" not in up.gets("/v1/users/ann/recommendations").text, 120, up.said)
    assert up.gets("/v1/users/ann").json()["interactions"] == 1
    os.kill(up.children()["serve"], signal.SIGKILL)
    until(lambda: "the front ended" in up.said())
    until(lambda: up.get("/v1/users/ann/recommendations") is not None, 120, up.said)
    up.post()
    assert up.gets("/v1/users/ann").json()["interactions"] == 2
    assert re.search("the worker ended by signal 9; starting it again", up.said())
    up.ends_well()


def test_a_worker_that_hangs_is_said_and_what_was_sent_meanwhile_counts_once(up: Up) -> None:
    up.post()
    until(lambda: up.get("/v1/status").json()["lists"] == 1)
    worker = up.children()["run"]
    os.kill(worker, signal.SIGSTOP)
    try:
        refused = up.client.post(f"{up.address}/v1/interactions", json=EVENT)
        waited = up.client.post(f"{up.address}/v1/interactions?wait=300", json=EVENT)
        listed = up.gets("/v1/users/ann/recommendations").json()
        up.gets("/readyz", 503)
        merge = up.client.post(f"{up.address}/v1/users/ann/merge", json={"session": "s"})
    finally:
        os.kill(worker, signal.SIGCONT)
    for answer in (refused, waited):
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not-acknowledged"), answer.text
        assert len(answer.json()["event_ids"]) == 1
    assert listed["stale"] is True
    assert (merge.status_code, merge.json()["error"]["code"]) == (503, "log-unavailable")
    for answer in (refused, waited):
        [event_id] = answer.json()["event_ids"]
        again = up.client.post(f"{up.address}/v1/interactions?wait=60000", json=EVENT | {"event_id": event_id})
        assert again.status_code == 200, again.text
    assert up.gets("/v1/users/ann").json()["interactions"] == 3


def test_its_processes_ask_one_another_with_a_key(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("reader read\nboss admin\n")
    up = Up(tmp_path, "--api-key-file", str(keys), "--exclude-seen")
    with ends(up.process):
        up.gets("/v1/popular", 401)
        up.client.headers["X-API-Key"] = "reader"
        up.gets("/v1/popular")
        assert up.gets("/v1/status").json()["workers"][0]["settings"].get("exclude_seen", True)
        up.ends_well()
    up.client.close()


def test_it_answers_https_and_asks_its_own_front_by_it(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    up = Up(tmp_path, "--tls-certificate", str(tmp_path / "both.pem"))
    with ends(up.process), httpx.Client(verify=trust, timeout=scaled(60)) as up.client:
        assert [item["item_id"] for item in up.post().json()["items"]] == ["a"]
        assert (up.address or "").startswith("https://127.0.0.1:")
        up.ends_well()


def test_what_dies_three_times_in_a_row_is_given_up(up: Up) -> None:
    killed: set[int] = set()
    while up.process.poll() is None:
        child = up.children().get("serve", 0) if Path(f"/proc/{up.process.pid}/task").exists() else 0
        if child and child not in killed:
            killed.add(child)
            os.kill(child, signal.SIGKILL)
    assert ended(up.process, 120, up.said) == 1
    assert "the front ended 3 times before it was ready, the last time by signal 9" in up.said()
    assert up.said().count("the front ended by signal 9; starting it again") == 2


def a_port_that_is_taken(folder: Path, stack: ExitStack) -> list[str]:
    taken = stack.enter_context(socket.socket())
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    return ["--port", str(taken.getsockname()[1])]


def a_folder_that_is_in_use(folder: Path, stack: ExitStack) -> list[str]:
    stack.enter_context(StateLock(folder / "log" / "state"))
    return []


def a_state_of_another_model(folder: Path, stack: ExitStack) -> list[str]:
    settings = Settings(log=folder / "log", window=30)
    with open_log_of(settings) as log:
        log.create(topic_specs(settings, partitions=1))
        with Worker.open(log, settings) as worker:
            worker.run(exit_at_end=True)
    return []


LASTING = {  # what does not pass by itself → words of the one line that is said
    a_port_that_is_taken: "choose another with --port",
    a_folder_that_is_in_use: "end it, or name another folder with --log",
    a_state_of_another_model: "the state was made with window = 30; set that again, or remove the state to rebuild it",
}


@pytest.mark.parametrize("what", LASTING, ids=lambda what: what.__name__)
def test_what_does_not_pass_ends_it_at_once(what: Any, tmp_path: Path) -> None:
    with ExitStack() as stack:
        flags = what(tmp_path, stack)
        up = Up(tmp_path, *flags)
        with ends(up.process):
            assert ended(up.process, 120, up.said) == 1
        assert "starting it again" not in up.said()
        lines = [line for line in up.said().splitlines() if line.startswith("freshet: ") and "kernel" not in line]
        assert len(lines) == 1, up.said()
        assert LASTING[what] in lines[0]
        up.client.close()


def test_a_second_one_on_the_folder_ends_at_once_and_the_first_goes_on(up: Up, tmp_path: Path) -> None:
    up.gets("/readyz")
    second = subprocess.run(
        [sys.executable, "-m", "streamer", "up", "--log", "log", "--port", "0"],
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(Path.home())}, capture_output=True, text=True,
    )  # fmt: skip
    assert (second.returncode, second.stdout) == (1, "")
    [line] = second.stderr.splitlines()
    assert "another worker uses the state folder log/state; end it, or name another folder with --log" in line
    assert "--state" not in line
    up.post()


def test_it_is_ready_once_a_list_can_be_asked_for(up: Up) -> None:
    """And not before: whoever waits for it is never told to ask again."""
    said: list[str] = []

    def ready() -> bool:
        answer = up.get("/readyz")
        if answer is not None and answer.status_code == 503:
            said.append(answer.json()["error"]["message"])
        return answer is not None and answer.status_code == 200

    until(ready, 120, up.said)
    answer = up.get("/v1/users/ann/recommendations")
    assert answer is not None
    assert (answer.status_code, "stale" in answer.json()) == (200, False)
    assert not any("freshet run" in line for line in said)
    os.kill(up.children()["run"], signal.SIGKILL)
    until(lambda: (got := up.get("/readyz")) is not None and got.status_code == 503, 60, up.said)
    until(ready, 120, up.said)
    answer = up.get("/v1/users/nobody/recommendations")
    assert answer is not None
    assert answer.status_code == 200
    assert not any("freshet run" in line for line in said)


def test_namespaces_have_workers_and_pages_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "news.keys").write_text("news-boss\n")
    (tmp_path / "main.keys").write_text("boss\n")
    (tmp_path / "freshet.toml").write_text('api_key_file = "main.keys"\n[namespaces]\nnews = "news.keys"\n')
    up = Up(tmp_path)
    with ends(up.process):
        for key, root, item in (("boss", "", "tea"), ("news-boss", "/ns/news", "story")):
            up.client.headers["X-API-Key"] = key
            up.gets(f"{root}/readyz")
            event = EVENT | {"item_id": item}
            sent = up.client.post(f"{up.address}{root}/v1/interactions?wait=60000", json=event)
            assert [one["item_id"] for one in sent.json()["items"]] == [item]
            assert up.gets(f"{root}/v1/users/ann").json()["interactions"] == 1
            for address in {root or "/", f"{root}/"}:
                page = up.client.get(f"{up.address}{address}")
                assert f'src="{root}/static/app.js"' in page.text
            assert up.gets(f"{root}/static/app.js").headers["content-type"].startswith("text/javascript")
        up.gets("/v1/popular", 401)
        up.ends_well()
    up.client.close()


def test_its_processes_end_when_it_is_killed(up: Up) -> None:
    children = until(lambda: (found := up.children()).keys() >= {"run", "serve", "feedback"} and found)
    up.process.kill()
    up.process.wait()
    until(lambda: not any(_runs(pid) for pid in children.values()))


def test_it_is_for_a_folder(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "streamer", "up", "--set", "bootstrap=127.0.0.1:9092"]
    got = subprocess.run(line, cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True)
    assert got.returncode == 2
    assert "`freshet serve`" in got.stderr


def test_settings_are_read_again_on_sighup(up: Up, tmp_path: Path) -> None:
    """By the worker, which stays the same process; a file that cannot be read changes nothing."""
    up.post()
    before = up.children()
    file = tmp_path / "freshet.toml"
    for text, k in (("k = 1", 1), ("k = 'many'", 1), ("k = 2\n", 2)):
        for item in ("b", "c", "d"):
            up.client.post(f"{up.address}/v1/interactions", json=EVENT | {"item_id": item})
        said = len(up.said())
        file.write_text(text)
        up.process.send_signal(signal.SIGHUP)
        until(lambda said=said: "settings" in up.said()[said:], 60, up.said)
        until(lambda k=k: len(up.gets("/v1/users/ann/recommendations").json()["items"]) == k, 60, up.said)
    assert up.children() == before
    assert "the settings stay as they are: setting 'k' got" in up.said()
    up.ends_well()
