"""The API over HTTPS: what browsers and clients get, what a client that does not speak it gets, and a renewal at work."""

import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
import trustme
from websockets.sync.client import connect

from consumers.open_log import OwnedLog
from streamer.cli.main import main
from streamer.runtime.certificate import Certificate
from streamer.runtime.children import _answers
from streamer.settings import Settings
from streamer.web.api import Gateway
from streamer.web.materialized_view import View
from streamer.web.server import WebServer
from tests.waiting import ended, ends, scaled, until

ROOT = Path(__file__).parents[3]
EVENT = {"user_id": "ann", "item_id": "tea", "event_type": "view"}


class Secured(NamedTuple):
    """A server, and what trusts its authority."""

    address: str
    trust: ssl.SSLContext


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trust(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
def secured(
    log: OwnedLog, settings: Settings, authority: trustme.CA, trust: ssl.SSLContext, tmp_path: Path
) -> Iterator[Secured]:
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    mine = settings.model_copy(update={"api_key": "k", "request_timeout_s": 0.5})
    view = View(log, mine)
    server = WebServer(
        Gateway(log, mine, view).app(), "127.0.0.1", 0, request_timeout_s=mine.request_timeout_s, sockets=True,
        certificate=Certificate(tmp_path / "both.pem"),
    )  # fmt: skip
    view.start()
    server.start()
    yield Secured(server.address, trust)
    view.stop()
    server.stop()


def test_the_api_its_streams_and_its_cookies(secured: Secured) -> None:
    assert secured.address.startswith("https://127.0.0.1:")
    with httpx.Client(base_url=secured.address, verify=secured.trust, timeout=scaled(10)) as client:
        assert client.post("/v1/session", json={"key": "k"}).status_code == 200
        assert "; Secure" in client.post("/v1/session", json={"key": "k"}).headers["set-cookie"]
        assert client.post("/v1/interactions", json=EVENT).status_code == 202  # by the cookie
        with client.stream("GET", "/v1/users/ann/lists/stream", headers={"X-API-Key": "k"}) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
    wss = secured.address.replace("https", "wss") + "/v1/ws"
    with connect(wss, ssl=secured.trust, additional_headers={"X-API-Key": "k"}) as pushed:
        assert pushed.ping().wait(scaled(10))


def test_a_page_of_the_same_address_over_http_is_another_origin(secured: Secured) -> None:
    with httpx.Client(base_url=secured.address, verify=secured.trust, headers={"X-API-Key": "k"}) as client:
        assert client.get("/v1/status", headers={"Origin": secured.address}).status_code == 200
        assert client.get("/v1/status", headers={"Origin": "https://elsewhere.example"}).status_code == 403


def test_who_does_not_trust_the_authority_gets_no_answer(secured: Secured) -> None:
    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        httpx.get(secured.address)
    with pytest.raises(httpx.HTTPError):
        httpx.get(secured.address.replace("https", "http"))
    assert _answers(f"{secured.address}/livez", None)  # `up` asks its own child


def test_a_client_that_begins_no_handshake_is_cut_off(secured: Secured) -> None:
    port = int(secured.address.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), scaled(30)) as silent:
        assert silent.recv(1) == b""


def test_serve_takes_a_renewed_certificate_while_it_runs(
    authority: trustme.CA, trust: ssl.SSLContext, tmp_path: Path
) -> None:
    file, out, errors = tmp_path / "both.pem", tmp_path / "out", tmp_path / "errors"
    first, second = (authority.issue_cert("127.0.0.1") for _ in range(2))
    first.private_key_and_cert_chain_pem.write_to_path(file)
    assert main(["topics", "create", "--log", str(tmp_path / "log")]) == 0
    line = [
        sys.executable,
        "-m",
        "streamer",
        "serve",
        "--log",
        "log",
        "--port",
        "0",
        "--tls-certificate",
        file,
        "--json",
    ]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "HOME": os.environ["HOME"]}
    with out.open("w") as said, errors.open("w") as told:
        process = subprocess.Popen(line, cwd=tmp_path, env=environment, stdout=said, stderr=told)
    with ends(process):
        until(lambda: out.read_text().endswith("\n") or process.poll() is not None, said=errors.read_text)
        port = int(json.loads(out.read_text())["address"].rpartition(":")[2])
        assert _shown(port, trust) == first.cert_chain_pems[0].bytes()
        file.write_text("not yet")
        until(lambda: "has no certificate" in errors.read_text())
        assert _shown(port, trust) == first.cert_chain_pems[0].bytes()
        second.private_key_and_cert_chain_pem.write_to_path(file)
        until(lambda: _shown(port, trust) == second.cert_chain_pems[0].bytes(), said=errors.read_text)
        process.terminate()
        assert ended(process) == 0


def _shown(port: int, trust: ssl.SSLContext) -> bytes:
    """The certificate of whoever listens there, PEM."""
    with (
        socket.create_connection(("127.0.0.1", port), scaled(10)) as plain,
        trust.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
    ):
        der = secured.getpeercert(binary_form=True)
        assert der is not None
        return ssl.DER_cert_to_PEM_cert(der).encode()
