"""From a ranking of the model to the places of a list: ids, sources, and reasons in words."""

import hashlib
from collections.abc import Sequence

import numpy as np

from consumers.schemas import ListedItem
from tgn.config import ModelConfig
from tgn.model import Model
from tgn.prequential import Outcome
from tgn.reasons import SOURCES

SOURCE_NAMES = (*SOURCES, "pinned", "similar-items", "cohort")
CODE_OF = {name: code for code, name in enumerate(SOURCE_NAMES)}
"""What stands for a source: those of the model, and what rules put there."""
PINNED = CODE_OF["pinned"]
OWN = frozenset({"repeat", "transition", "co-interaction", "taste"})
"""Sources that read what the user did."""
_FALLBACKS = ("similar-items", "cohort", "popular")
_REASONS = {
    "repeat": "chosen before",
    "transition": "often chosen right after",
    "co-interaction": "often chosen along with",
    "taste": "suits what was chosen lately",
    "new": "new",
    "pinned": "pinned",
    "similar-items": "like what was chosen",
    "cohort": "suits who shares attributes or context",
}
_WORDS = [_REASONS.get(source, "popular now") for source in SOURCE_NAMES]
_NAMES_CAUSE = frozenset(map(SOURCE_NAMES.index, ("transition", "co-interaction")))


def listed_items(outcome: Outcome, n: int, ids: Sequence[str]) -> tuple[ListedItem, ...]:
    """The published list in row n of an outcome, best item first. ids: of the items, by index."""
    size = int(outcome.published.size[n])
    rows = zip(
        outcome.published.item[n, :size].tolist(),
        np.round(outcome.published.score[n, :size].astype(np.float64), 6).tolist(),  # exact: float32 times 1e6 fits
        outcome.evidence.source[n, :size].tolist(),
        outcome.evidence.cause[n, :size].tolist(),
        strict=True,
    )
    return tuple(
        [
            ListedItem(
                ids[item],
                score,
                SOURCE_NAMES[source],
                f"{_WORDS[source]} {ids[cause] if cause >= 0 else None}" if source in _NAMES_CAUSE else _WORDS[source],
            )
            for item, score, source, cause in rows
        ]
    )


def fallback_of(items: Sequence[ListedItem]) -> str | None:
    """What the list was made from where the user's own history gave nothing; of several sources the first.

    An empty list was made from nothing: what may be listed says so, not what is known of the user.
    """
    sources = [item.source for item in items]
    if not sources or OWN.intersection(sources):
        return None
    return next((source for source in sources if source in _FALLBACKS), "new")


def configuration_name(config: ModelConfig) -> str:
    """Names a model's configuration and seed."""
    return "walk-counts-" + hashlib.blake2b(repr(config).encode(), digest_size=4).hexdigest()


def model_version(configuration: str, model: Model) -> str:
    """The configuration, and the trained embeddings that the model uses."""
    return f"{configuration}+{model.trained_version}" if model.trained_version else configuration
