"""Challengers: models that take in what the live one does, each with a state of its own.

The rules in force say which there are. One begins as a copy of the live model, so that both know the same, and goes its
own way from there. What follows from its interactions alone (ids, the ledger, what records say of items and users) is
the live model's, and so is what is repaired: which interactions, and when.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from streamer.engine.challenger_config import Differs, challenger_config
from streamer.engine.engine import Engine
from streamer.monitoring.prequential_quality import PairedMeter
from streamer.settings import Settings
from tgn.model import Model
from tgn.serialization import GROUPS, INDICES, SCALARS, all_pages, changed_pages, load_pages, page_counts

CHALLENGER = "challenger."  # begins the group of the pages of each
_OF_IDS = [name for name, _ in INDICES]
Pages = Callable[[bytes], Iterable[tuple[bytes, bytes]]]


class Challenger:
    """One of them. `differs`: what its model has otherwise than the live one; `quality`: of both, since it began."""

    def __init__(self, engine: Engine, differs: Differs) -> None:
        self.engine, self.differs, self.quality = engine, differs, PairedMeter()


class Challengers(Mapping[str, Challenger]):
    """By `experiment/arm`.

    Args:
        live: the engine that they follow.
        pages: see `StreamState`.
    """

    def __init__(self, live: Engine, pages: Pages) -> None:
        self._live, self._pages = live, pages
        self._of: dict[str, Challenger] = {}
        self._gone: set[str] = set()  # whose pages are to be deleted

    def __getitem__(self, key: str) -> Challenger:
        return self._of[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._of)

    def __len__(self) -> int:
        return len(self._of)

    def follow(self, rules: Iterable[Mapping[str, Any]], settings: Settings) -> bool:
        """Has there be those that the rules in force name, as JSON has them; whether these are others than before."""
        named = dict[str, Differs]()
        for experiment in filter(None, (one.get("experiment") for one in rules)):
            on = [arm for arm in experiment["arms"] if arm["name"] not in experiment.get("stopped", ())]
            named |= {f"{experiment['name']}/{arm['name']}": arm["model"] for arm in on if arm.get("model") is not None}
        over = [key for key, one in self._of.items() if named.get(key) != one.differs]
        for key in over:
            del self._of[key], self._live.followers[key]
            self._gone.add(key)
        new = [key for key in sorted(named) if key not in self._of]
        for key in new:
            self._add(key, named[key], _copied(self._live.model, named[key]), settings)
        return bool(over or new)

    def _add(self, key: str, differs: Differs, model: Model, settings: Settings) -> Challenger:
        self._live.followers[key] = engine = Engine(settings, model)
        self._of[key] = challenger = Challenger(engine, differs)
        return challenger

    def measure_anew(self) -> None:
        """Forgets the figures so far."""
        for one in self._of.values():
            one.quality = PairedMeter()

    # checkpoints

    def groups(self) -> dict[str, dict[str, int]]:
        """Of each, how many pages of each group all the calls of `delta` have written."""
        return {
            key: {name: n for name, n in page_counts(one.engine.model).items() if name.encode() not in _OF_IDS}
            for key, one in self._of.items()
        }

    def saved(self) -> dict[str, int]:
        """How many pages of each challenger that are in all."""
        return {group_of_challenger(key): sum(of.values()) for key, of in self.groups().items()}

    def delta(self, between: Callable[[], None] = lambda: None) -> dict[bytes, bytes | None]:
        """What changed since the last call, after the live model's, which has the ids."""
        pages: dict[bytes, bytes | None] = {}
        for key in sorted(self._gone):
            pages.update((page, None) for page, _ in self._pages(_prefix(key)))
        self._gone = set()
        for key, one in self._of.items():
            pages |= changed_pages(one.engine.model, between, _prefix(key))
        return pages

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of them beside their pages."""
        return {key: [one.differs, one.quality.state()] for key, one in self._of.items()}

    def load(
        self, state: Mapping[str, Any], settings: Settings, pages: Callable[[bytes], Iterable[tuple[bytes, bytes]]]
    ) -> None:
        """Takes back what `delta` and `state` gave, after the live model. pages: those of a group, without its name."""
        for key, (differs, quality) in state.items():
            model = _filled(self._live.model, differs, pages(_prefix(key)))
            self._add(key, differs, model, settings).quality.restore(quality)

    def pages(self) -> Iterator[tuple[bytes, bytes]]:
        """All of them whole, in one order: the same bytes for the same state."""
        for key, one in sorted(self._of.items()):
            for page, value in sorted(all_pages(one.engine.model).items()):
                yield _prefix(key) + page, value


def group_of_challenger(key: str) -> str:
    """The group of the pages of one."""
    return CHALLENGER + key.replace("/", ".")


def _prefix(key: str) -> bytes:
    return f"{group_of_challenger(key)}/".encode()


def _copied(live: Model, differs: Differs) -> Model:
    """A model with what the live one knows; a ranker of another size begins with nothing learned."""
    pages = all_pages(live)
    scalars = msgspec.msgpack.decode(pages[SCALARS])
    anew = Model(challenger_config(live.config, differs))
    if [array.shape for array in anew.ranker] != [array.shape for array in live.ranker]:
        scalars["ranker"] = [array.tobytes() for array in anew.ranker]
    kept = [(key, value) for key, value in pages.items() if key != SCALARS]
    model = _filled(live, differs, [*kept, (SCALARS, msgspec.msgpack.encode(scalars))])
    model.saved_rows = {}
    for group in GROUPS:
        group.dirty(model)[:] = 1  # no checkpoint has any of it
    return model


def _filled(live: Model, differs: Differs, pages: Iterable[tuple[bytes, bytes]]) -> Model:
    """A model out of its pages, with the ids of the live one."""
    model = Model(challenger_config(live.config, differs))
    ids = [(name + b"/" + bytes(8), msgspec.msgpack.encode(index_of(live).ids)) for name, index_of in INDICES]
    load_pages(model, [*((key, value) for key, value in pages if key.partition(b"/")[0] not in _OF_IDS), *ids])
    model.users, model.items = live.users, live.items
    return model
