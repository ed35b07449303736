"""What tests of deploy/ share: a command line of a container or a unit, looked at without running it."""

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml

from streamer.cli.given_settings import load_settings
from streamer.cli.main import parser_for
from streamer.settings import PREFIX, Settings

DEPLOY = Path(__file__).parents[2] / "deploy"


def settings_with(command: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """The settings of `freshet COMMAND` there. SystemExit, UsageError: a flag, a variable or a value is none."""
    arguments: argparse.Namespace = parser_for(command).parse_args(command)
    others = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    with patch.dict(os.environ, {**others, **environment}, clear=True):
        return load_settings(arguments)


def manifests(path: str) -> list[dict[str, Any]]:
    """The documents of a file below deploy/."""
    return [manifest for manifest in yaml.safe_load_all((DEPLOY / path).read_text()) if manifest]
