"""Packages that not everybody needs: what an extra brings is asked for where it is used."""

from importlib.util import find_spec

from streamer.errors import UsageError


def require(extra: str, *packages: str) -> None:
    """Raises UsageError where one of the packages that `freshet-recommender[extra]` brings is not installed."""
    for package in packages:
        if find_spec(package) is None:
            raise UsageError(f"{package} is not installed: `pip install 'freshet-recommender[{extra}]'` brings it")
