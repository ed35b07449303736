"""A checkpoint goes to a store that speaks S3 and comes back; what the store refuses is said in one line."""

import re
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from streamer.cli.main import main
from streamer.runtime.optional_packages import find_spec
from streamer.settings import Settings
from tests.streamer.ops.test_checkpoint_inspection import Freshet, freshet, stored_digest, taken

__all__ = ["freshet"]
BUCKET = "states"


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[fsspec.AbstractFileSystem]:
    """A server of S3 on loopback with an empty bucket, as the environment names it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "anything")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://{host}:{port}")
    store = fsspec.filesystem("s3", skip_instance_cache=True)
    store.makedirs(BUCKET, exist_ok=True)
    yield store
    server.stop()
    type(store).clear_instance_cache()


def test_out_to_a_bucket_and_in_again_elsewhere(
    s3: fsspec.AbstractFileSystem, settings: Settings, freshet: Freshet, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"s3://{BUCKET}/shop/state.parquet"
    before = taken(settings)
    assert freshet("export", url) == 0
    assert f"pages in {url}, " in capsys.readouterr().out
    assert s3.cat_file(url)[:4] == b"PAR1"
    assert freshet("export", "here.parquet") == 0
    assert s3.cat_file(url) == Path("here.parquet").read_bytes()
    taken(settings, events=500)
    assert freshet("import", url) == 1  # there is one already
    assert freshet("import", url, "--replace") == 0
    assert stored_digest(settings) == before
    assert freshet("verify") == 0


def test_what_is_in_the_bucket_stays_where_an_export_fails(
    s3: fsspec.AbstractFileSystem, settings: Settings, freshet: Freshet, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"s3://{BUCKET}/state.parquet"
    s3.pipe_file(url, b"of before")
    assert main(["topics", "create", "--partitions", "1", "--log", str(settings.log)]) == 0
    assert freshet("export", url) == 1
    assert "no checkpoint to export" in capsys.readouterr().err
    assert s3.cat_file(url) == b"of before"
    taken(settings, events=20)
    assert freshet("import", url, "--replace") == 3
    assert f"{url} is torn or damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "code", "says"),
    [
        ("s3://{bucket}/none.parquet", 1, "there is no such file or bucket"),
        ("s3://no-such-bucket/state.parquet", 1, "there is no such file or bucket"),
        ("nowhere://a/state.parquet", 2, "nowhere://a/state.parquet names no place for a file"),
        ("gs://a/state.parquet", 2, "gs:// needs another package"),
    ],
)
@pytest.mark.usefixtures("s3")
def test_what_a_store_refuses_is_one_line(
    url: str, code: int, says: str, settings: Settings, freshet: Freshet, capsys: pytest.CaptureFixture[str]
) -> None:
    taken(settings, events=20)
    url = url.format(bucket=BUCKET)
    for action in ("import",) if "none" in url else ("import", "export"):
        capsys.readouterr()
        assert freshet(action, url, *(["--replace"] if action == "import" else [])) == code
        [line] = re.findall(r"^freshet: (?!warning).*", capsys.readouterr().err, re.M)
        assert says in line


def test_a_store_that_does_not_answer_is_one_line(
    settings: Settings, freshet: Freshet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    taken(settings, events=20)
    assert freshet("import", "s3://states/state.parquet", "--replace") == 1
    assert "freshet: s3://states/state.parquet: " in capsys.readouterr().err


def test_without_the_extra_its_name_is_said(
    settings: Settings, freshet: Freshet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there = find_spec
    monkeypatch.setattr(
        "streamer.runtime.optional_packages.find_spec", lambda name: None if name == "fsspec" else there(name)
    )
    taken(settings, events=20)
    assert freshet("import", "s3://states/state.parquet") == 2
    assert "freshet-recommender[object-storage]" in capsys.readouterr().err
