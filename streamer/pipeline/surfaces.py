"""The lists of every surface, by the settings and rules in force."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import msgspec

from streamer.engine.engine import Engine
from streamer.errors import StateUnreadable
from streamer.lists.rule_book import RuleBook
from streamer.lists.rules import Rules
from streamer.pipeline.surface_lists import SurfaceLists
from streamer.settings import Settings
from streamer.state.catalogue import Catalogue
from streamer.state.ledger import Ledger
from streamer.state.stream_state import StreamState


class Surfaces:
    """The lists of every surface, by the settings and rules in force.

    Args:
        rules: those in force, by surface: `version` and `rules`, as JSON has them.
        challengers: the engines that follow the live one, by `experiment/arm`.
    """

    def __init__(
        self,
        engine: Engine,
        catalogue: Catalogue,
        ledger: Ledger | None,
        settings: Callable[[], Settings],
        rules: Mapping[str, Mapping[str, Any]],
        challengers: Mapping[str, Engine] = MappingProxyType({}),
    ) -> None:
        self._engine, self._of = engine, (catalogue, ledger)
        self._settings, self._rules, self._challengers = settings, rules, challengers
        self._made: dict[tuple[str, str | None], tuple[Settings, str | None, SurfaceLists]] = {}

    def lists_of(self, surface: str, challenger: str | None = None) -> SurfaceLists:
        """The lists of a surface; one without rules has those of the settings.

        challenger: as if its model were the live one; None: the lists of everybody, each from who makes them.
        """
        engine = self._engine if challenger is None else self._challengers[challenger]
        settings, record = self._settings(), self._rules.get(surface)
        version = None if record is None else str(record["version"])
        made = self._made.get((surface, challenger))
        if made is None or made[0] is not settings or made[1] != version or made[2].model is not engine.model:
            book = None if record is None else compiled(_json(record["rules"]))
            lists = SurfaceLists(engine, *self._of, settings, book, challenger)
            made = self._made[surface, challenger] = settings, version, lists
            if book is not None and challenger is None:
                own = book.challengers.keys() & self._challengers.keys()
                lists.rivals = {name: self.lists_of(surface, name) for name in sorted(own)}
        return made[2]

    def main(self) -> SurfaceLists:
        """The lists of the surface that the settings name."""
        return self.lists_of(self._settings().surface)

    def proposed(self, rules: Rules) -> SurfaceLists:
        """The lists of a surface by other rules than those in force."""
        return SurfaceLists(self._engine, *self._of, self._settings(), None if rules.say_nothing() else RuleBook(rules))

    def beside(self) -> list[str]:
        """The other surfaces whose lists are published, in order."""
        main = self._settings().surface
        return sorted(
            surface for surface, record in self._rules.items() if surface != main and record["rules"].get("publish")
        )


def build_surfaces(state: StreamState) -> Surfaces:
    """The lists of every surface, by what is in force in a state."""
    followers = state.engine.followers
    return Surfaces(state.engine, state.catalogue, state.ledger, lambda: state.settings, state.rules, followers)


@lru_cache(maxsize=64)
def compiled(text: bytes) -> RuleBook | None:
    """The rules of a text, compiled; None where they say nothing. Raises StateUnreadable."""
    try:
        rules = Rules.model_validate_json(text)
    except ValueError as error:
        raise StateUnreadable(f"the rules in force cannot be read by this version: {error}") from error
    return None if rules.say_nothing() else RuleBook(rules)


def _json(rules: Any) -> bytes:
    return msgspec.json.encode(rules)
