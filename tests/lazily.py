"""What is slow to import is imported when a test uses it: every process collects every file, and runs a few of them.

    torch = lazily("torch")
    whole = lazily("tgn.family.view:whole")
    pytestmark = needs("torch_geometric")

An annotation, a class that is caught and what is compared need the thing itself: a quoted name, or an import in the test.
`test_layout` keeps what is slow out of collection.
"""

from importlib.util import find_spec
from pkgutil import resolve_name
from typing import Any

import pytest

SLOW = ("fastmcp", "moto", "river", "scipy.stats", "torch", "torch_geometric", "transformers")
"""What takes a tenth of a second of a processor and more, and few files use."""

imported_at_collection = set[str]()
"""The modules that this process had when every file was collected, see `conftest`."""


class Lazily:
    """A module, or a name in one, that is imported when it is asked for an attribute or called."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("_"):  # pytest asks every name of a file for some of these
            raise AttributeError(attribute)
        return getattr(resolve_name(self._name), attribute)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return resolve_name(self._name)(*arguments, **named)


def lazily(name: str) -> Any:
    """`package.module`, or `package.module:name`; Any, as what it stands for is not there yet."""
    return Lazily(name)


def needs(package: str, extra: str) -> pytest.MarkDecorator:
    """A named skip of a file whose package is not installed, without an import of it."""
    return pytest.mark.skipif(find_spec(package) is None, reason=f"the extra `{extra}` is not installed")
