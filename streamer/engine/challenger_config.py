"""The configuration of a challenger model, for who reads rules as well: it loads no kernels."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tgn.config import ModelConfig

Differs = Mapping[str, Any]


def challenger_config(live: ModelConfig, differs: Differs) -> ModelConfig:
    """The configuration of a challenger, where the live model has this one. Raises ValueError.

    Args:
        differs: what it has otherwise, as JSON has it.
    """
    own: Any = {name: tuple(value) if isinstance(value, list) else value for name, value in differs.items()}
    return replace(live, **own)
