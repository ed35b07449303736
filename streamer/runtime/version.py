"""The version that is installed. On the package index `freshet` is another project: this one has another name there."""

from importlib import metadata

DISTRIBUTION = "freshet-recommender"


def installed_version() -> str | None:
    """The version of the distribution, such as "0.1.0"; None in a checkout that is not installed."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return None
