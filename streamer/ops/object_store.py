"""Files that a path or a URL names: those of a URL lie in an object store, such as s3://bucket/state.parquet."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from streamer.errors import StoreUnavailable, UsageError
from streamer.runtime.optional_packages import require


@contextmanager
def written_to(place: str) -> Iterator[Path]:
    """Gives the file to write; with a URL it is sent there at the end, whole, and not at all where that is not reached.

    Raises UsageError where nothing is known of such URLs, StoreUnavailable where the store does not take it.
    """
    if "://" not in place:
        yield Path(place)
        return
    store = _Store.open(place)
    with _folder() as folder:
        yield folder / "file"
        store.ask("put_file", str(folder / "file"), store.path)


@contextmanager
def read_from(place: str) -> Iterator[Path]:
    """Gives the file to read, of a URL a copy. Raises UsageError and StoreUnavailable."""
    if "://" not in place:
        yield Path(place)
        return
    store = _Store.open(place)
    with _folder() as folder:
        store.ask("get_file", store.path, str(folder / "file"))
        yield folder / "file"


class _Store(NamedTuple):
    url: str
    system: Any  # of fsspec
    path: str

    @classmethod
    def open(cls, url: str) -> "_Store":
        require("object-storage", "fsspec")
        import fsspec

        protocol = url.partition("://")[0]
        try:
            system, path = fsspec.core.url_to_fs(url)
        except ImportError as error:  # fsspec says which package knows them
            raise UsageError(f"{protocol}:// needs another package: {error}") from None
        except ValueError as error:
            raise UsageError(f"{url} names no place for a file: {error}") from None
        except Exception as error:  # each store has errors of its own
            raise StoreUnavailable(f"{url}: {_line(error)}") from error
        return cls(url, system, path)

    def ask(self, method: str, *paths: str) -> None:
        try:
            getattr(self.system, method)(*paths)
        except FileNotFoundError as error:
            raise StoreUnavailable(f"{self.url}: there is no such file or bucket") from error
        except Exception as error:  # each store has errors of its own
            raise StoreUnavailable(f"{self.url}: {_line(error)}") from error


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder that nobody else may look into: what is in it is a worker's state."""
    with tempfile.TemporaryDirectory(prefix="freshet-") as folder:
        yield Path(folder)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".removesuffix(": ")
