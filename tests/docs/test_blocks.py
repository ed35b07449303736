"""The blocks of the README and of the site: shell and Python are run, commands that are only shown are parsed.

What runs is one shell that goes through the README and the pages in their order, as a reader would; a block that stands
on several pages is run once. What needs Kafka is run in `tests/integration/test_kafka_page.py`.
"""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tomllib
from ast import literal_eval
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from streamer.cli.main import parser_for
from streamer.settings import Settings
from tests.docs.pages import DOCUMENTS, KAFKA_PAGE, PRODUCE, SUBSCRIBE, Block, blocks, written
from tests.waiting import scaled

RUN, PARSED = {"sh", "python", "sql"}, {"console", "indented"}  # statements: see integration/test_postgres
SHOWN = {"text", "json", "toml", "html", "promql"}  # JSON and settings are read; the rest is for people


def test_the_commands_work_in_their_order(tmp_path: Path) -> None:
    texts = dict.fromkeys(
        block.text for page in written() if page != KAFKA_PAGE for block in blocks(page) if block.language == "sh"
    )
    commands = "\n".join(texts).replace("8765", str(free_port()))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FRESHET_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    shell = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", commands], cwd=tmp_path, env=environment | {"PATH": path}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        out, errors = shell.communicate(timeout=scaled(240))
    finally:
        with suppress(ProcessLookupError):  # what a command that failed has left at work
            os.killpg(shell.pid, signal.SIGKILL)
    assert shell.returncode == 0, errors
    last_list = [line for line in out.splitlines() if line.startswith('{"topic": "recommendations"')][-1]
    assert '"user_id": "cat"' in last_list
    assert '"item_id": "pot"' in last_list
    assert (tmp_path / "lists.parquet").is_file()
    shop = dict(re.findall(r"([a-z' ]+): (\['.*?\])$", out, re.M))
    assert literal_eval(shop["home"])[0] == "kettle"
    assert set(literal_eval(shop["a product's page"])[:2]) == {"cup", "honey"}
    assert "kettle" not in literal_eval(shop["cheap ones"])
    assert literal_eval(shop["a visitor"])[0] in {"spoon", "cup"}
    assert {"cup", "spoon"} < set(literal_eval(shop["ida"])[:4])  # what was seen before somebody logged in


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_shop_takes_few_lines() -> None:
    [shop] = re.findall(
        r"<<'PY'\n(.*?)^PY$", "".join(block.text for page in written() for block in blocks(page)), re.S | re.M
    )
    assert len(shop.splitlines()) < 60


def every_block() -> Iterator[Block]:
    for document in dict.fromkeys([*written(), *DOCUMENTS]):
        yield from blocks(document)


def test_every_language_is_run_or_parsed_or_named_here() -> None:
    found = {(block.document, block.language) for block in every_block()}
    assert {(document, language) for document, language in found if language not in RUN | PARSED | SHOWN} == set()
    assert {document for document, language in found if language == "python"} == {PRODUCE, SUBSCRIBE}


def commands_shown() -> list[tuple[str, list[str]]]:
    """The document and the words of every `freshet …` in a block that is not run, and in code in the text."""
    found = []
    for block in every_block():
        if block.language in PARSED:
            found += [(block.document, line) for line in block.text.replace("\\\n", " ").splitlines()]
    lines = [(document, re.sub(r"^.*? -- (?=freshet )", "", line).strip()) for document, line in found]
    words = [(document, shlex.split(line, comments=True)) for document, line in lines if line.startswith("freshet ")]
    return [(document, [word for word in line if word not in ("…", "&")]) for document, line in words]


def test_commands_that_are_only_shown_are_taken_by_the_parser() -> None:
    assert len(commands_shown()) > 40
    refused = []
    for document, words in commands_shown():
        try:
            parser_for(words[1:]).parse_args(words[1:])
        except SystemExit:
            refused.append(f"{document}: {shlex.join(words)}")
    assert refused == []


@pytest.mark.usefixtures("settings")  # in a folder of its own, whatever the environment says
def test_settings_and_json_that_are_shown_are_valid(tmp_path: Path) -> None:
    for block in every_block():
        if block.language == "json":
            json.loads(block.text)
        if block.language == "toml" and "[project]" not in block.text:
            file = tmp_path / "shown.toml"
            file.write_text(block.text)
            assert Settings.load(file).model_fields_set >= tomllib.loads(block.text).keys() - {"kafka"}
