"""`StreamState`: everything that a restart needs, as one value, and its way into and out of a checkpoint."""

import hashlib
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import msgspec
import numpy as np

from consumers.errors import CheckpointDamaged
from consumers.event_weights import Means
from consumers.log import StateDelta
from consumers.positions import from_rows, to_rows
from consumers.records import TopicPartition
from streamer.engine.engine import Engine, model_config
from streamer.errors import StateUnreadable
from streamer.monitoring.drift import DriftMonitor, new_adwin
from streamer.monitoring.prequential_quality import QualityMeter, places
from streamer.settings import Settings
from streamer.state.catalogue import Catalogue
from streamer.state.challengers import Challengers
from streamer.state.dedup import SeenEvents
from streamer.state.in_force import Recorded, identity, recorded, with_recorded
from streamer.state.ledger import Ledger, Pages
from streamer.state.merges import Merges
from streamer.state.pending_repairs import PendingRepairs
from streamer.state.published_lists import PublishedLists
from streamer.state.shared_learning import SharedLearning
from tgn.graph import I32, I64
from tgn.serialization import NAMES, PagesDamaged, changed_pages, load_pages, page_counts

FORMAT, READS = 14, (9, 10, 11, 12, 13, 14)
_ALONE, _SHARED = 12, 13  # of a state without challengers, which older versions read too: that has shared or not
_STREAM, _MODEL, _EVENTS, _LISTED, _LEDGER = b"stream", b"model/", b"events/", b"listed/", b"ledger/"
_CATALOGUE, CATALOGUE_SINCE = b"catalogue/", 11
LISTED_BESIDE = "listed."  # begins the group of the lists of another surface
_MERGED, _LEARNED = b"merged/", b"learned/"
STREAM_GROUP, WRITTEN_GROUP = "stream", "written"
GROUPS = (
    STREAM_GROUP,
    WRITTEN_GROUP,
    "events",
    "listed",
    "ledger",
    "catalogue",
    "merged",
    "learned",
    *(f"model/{name.decode()}" for name in NAMES),
)
"""Every kind of page of a checkpoint. How many there must be of each but the first two stands in the page `stream`."""
OF_NO_PAGE = (msgspec.MsgspecError, ValueError, KeyError, IndexError, TypeError, AttributeError)
"""What comes of reading bytes that are none of ours, behind a right checksum."""


def group_of(key: bytes) -> str:
    """`model/users` of `model/users/<n>`, `ledger` of `ledger/<n>`."""
    first, _, rest = key.partition(b"/")
    name = first + b"/" + rest.partition(b"/")[0] if first == b"model" else first
    return name.decode("utf-8", "replace")


def wrong_counts(found: Mapping[str, int], stream: Mapping[str, Any]) -> list[str]:
    """Where there are other pages than were counted when the page `stream` was written, a line each."""
    wanted = stream.get("pages")
    if wanted is None:  # before format 10
        return [] if found.get("model/model") else ["the page `model/model` is missing"]
    names = sorted((found.keys() | wanted.keys()) - {STREAM_GROUP, WRITTEN_GROUP})
    return [
        f"{name} has {found.get(name, 0)} pages of {wanted.get(name, 0)}"
        for name in names
        if found.get(name, 0) != wanted.get(name, 0)
    ]


def _no_pages(prefix: bytes) -> Iterable[tuple[bytes, bytes]]:
    return ()


class StreamState:
    """The model, what has been read, and what is known of it. A function of the log.

    Args:
        settings: those in force until the checkpoint or an epoch says otherwise.
        pages: reads the keys of the checkpoint with a prefix; what of it stays on disk is read when it is needed.
    """

    def __init__(self, settings: Settings, pages: Pages = _no_pages) -> None:
        self._pages = pages
        self.settings = settings  # in force
        self.in_force: Recorded | None = None  # what manifests said of them last; None: nothing yet
        self.engine = Engine(settings)
        self.seen_events = SeenEvents(settings.dedup_window)
        self.listed = PublishedLists(settings.k)
        self.catalogue = Catalogue(self.engine.model)
        self.has_catalogue = True  # False: the checkpoint is of before there was one, see streamer.worker.node_topics
        self.ledger = Ledger(lambda prefix: _without(_LEDGER, prefix, pages), self._interactions_of)
        self.repairs = PendingRepairs(self.engine.model, self.ledger)
        self.merges = Merges()
        self.learning = SharedLearning()
        self.erasure_key, self.has_key = secrets.token_bytes(32), False  # whether the checkpoint had one
        self.erased: dict[bytes, tuple[int, dict[int, int]]] = {}  # digest of a user → when, and the offsets reached
        self.erased_by_name: dict[bytes, tuple[int, dict[int, int]]] = {}  # the same before format 10
        self.quality = QualityMeter()
        self.drift = DriftMonitor()
        self.positions: dict[TopicPartition, int] = {}  # next offset to take of each input partition
        self.observed: dict[int, int] = {}  # next block to take of each partition that others have, or had
        self.watermarks: dict[int, int] = {}  # of their owners, until this worker takes records of them
        self.epoch = 0
        self.clock_ms = 0  # latest event time taken
        self.newest_place = (0, 0)  # the last place that an interaction took in the order of all
        self.value_means: Means = {}  # of the values that event weights compare with their mean
        self.records = 0  # interactions records taken, bad ones too
        self.manifest_position = 0  # where in the epochs topic the epochs after this state begin
        self.topic_ids: dict[str, str] = {}  # of the topics to which the positions belong
        self.made_anew: list[str] = []  # topics that go on from their start, of which no manifest says so yet
        self.rules: dict[str, dict[str, Any]] = {}  # in force, by surface: `version` and `rules`, as JSON has them
        self.beside: dict[str, PublishedLists] = {}  # the lists of other surfaces, likewise
        self.challengers = Challengers(self.engine, pages)
        self._config = asdict(model_config(settings))

    def delta(self, between: Callable[[], None] = lambda: None) -> dict[bytes, bytes | None]:
        """What changed since the last call, for `Committer.commit`. Raises CheckpointDamaged: it reads blocks too.

        between: called between two pieces of the work; it may read the state.
        """
        pages = changed_pages(self.engine.model, between, _MODEL)
        parts: tuple[tuple[bytes, Callable[[], StateDelta]], ...] = (
            (_EVENTS, self.seen_events.delta),
            (_LISTED, lambda: self.listed.delta(between)),
            (_LEDGER, lambda: self.ledger.delta(between)),
            (_CATALOGUE, self.catalogue.delta),
            *((_beside(surface), partial(lists.delta, between)) for surface, lists in self.beside.items()),
            (_MERGED, self.merges.delta),
            (_LEARNED, lambda: self.learning.delta(self.engine.model)),
            (b"", lambda: self.challengers.delta(between)),
        )
        for prefix, changed in parts:
            pages.update((prefix + key, value) for key, value in changed().items())
            between()
        pages[_STREAM] = msgspec.msgpack.encode(self._stream())
        return pages

    def load(self) -> bool:
        """Takes the checkpoint in; False where there is none. What is in the ledger is read when it is needed.

        Raises StateUnreadable when it was made by another format or with another model, CheckpointDamaged where pages
        are missing or are none.
        """
        stored = list(self._pages(_STREAM))
        if not stored:
            if next(iter(self._pages(b"")), None):
                raise CheckpointDamaged("the checkpoint is torn: its pages are there, its page `stream` is not")
            return False
        try:
            stream = msgspec.msgpack.decode(stored[0][1])
            self._check(stream)
            self._load(stream)
        except PagesDamaged as error:
            raise CheckpointDamaged(f"the checkpoint is damaged: {error}") from error
        except OF_NO_PAGE as error:
            raise CheckpointDamaged(f"the checkpoint is damaged: it cannot be read ({error!r})") from error
        return True

    def _load(self, stream: dict[str, Any]) -> None:
        if stream.get("settings") is not None:
            self.take_on(stream["settings"])
        found: Counter[str] = Counter()
        load_pages(self.engine.model, self._counted(_MODEL, found))
        self.seen_events.load(self._counted(_EVENTS, found), stream.get("events_first", 0), stream.get("scoped_from"))
        self.listed.load(self._counted(_LISTED, found))
        self.listed.away = set(stream.get("away", ()))
        self.catalogue.load(self._counted(_CATALOGUE, found))
        for surface in stream.get("beside", ()):
            self.beside[surface] = lists = PublishedLists(self.settings.k)
            lists.load(self._counted(_beside(surface), found))
            lists.away = self.listed.away
        self.merges.load(self._counted(_MERGED, found))
        self.merges.restore(stream.get("merges_waiting", ()))
        self.learning.load(self._counted(_LEARNED, found), self.engine.model)
        self.challengers.load(stream.get("challengers", {}), self.settings, lambda prefix: self._counted(prefix, found))
        self.has_catalogue = stream["format"] >= CATALOGUE_SINCE
        counted = stream.get("pages")
        if counted is None:
            found["ledger"] = sum(1 for _ in self._pages(_LEDGER))
        else:
            found["ledger"] = counted["ledger"]  # each user's is counted when it is read
        self.ledger.restore(stream["ledger"], found["ledger"])
        if wrong := wrong_counts(found, stream):
            raise PagesDamaged(wrong[0])
        self.repairs.follow(self.engine.models()[1:])
        self.repairs.restore(stream["amendments"])
        erased = {digest: (at_ms, before) for digest, (at_ms, before) in stream["erased"].items()}
        if "erasure_key" in stream:
            self.erasure_key, self.has_key, self.erased = stream["erasure_key"], True, erased
            self.erased_by_name = {digest: (t, before) for digest, (t, before) in stream["erased_by_name"].items()}
        else:
            self.erased_by_name = erased
        self.newest_place = tuple(stream["newest_place"])
        self.quality.restore(stream["quality"])
        self.drift.restore(stream["drift"])
        self.value_means.update(stream.get("value_means", {}))
        self.positions = from_rows(stream["positions"])
        self.observed, self.watermarks = dict(stream.get("observed", ())), dict(stream.get("watermarks", ()))
        self.rules.update(stream.get("rules", {}))
        self.topic_ids, self.made_anew = stream.get("topic_ids", {}), stream.get("made_anew", [])
        for name in ("epoch", "clock_ms", "records", "manifest_position"):
            setattr(self, name, stream[name])

    def check_ledger(self) -> None:
        """Reads every interaction that was kept. Raises CheckpointDamaged."""
        found = sum(1 for _ in self._pages(_LEDGER))
        if found != self.ledger.saved:
            raise CheckpointDamaged(f"the checkpoint's ledger has {found} pages of {self.ledger.saved}")
        self.ledger.history(np.arange(len(self.engine.model.users), dtype=np.int32))

    # settings

    def take_on(self, values: Recorded) -> None:
        """From here on these settings are in force: a manifest or the checkpoint says so."""
        self.in_force = values
        self.assume(values)

    def assume(self, values: Recorded) -> None:
        """The same where nothing says so: for epochs of a version that did not record its settings."""
        before, self.settings = self.settings, with_recorded(self.settings, values)
        if places(before.k) != places(self.settings.k):
            self.quality = QualityMeter()  # hits among ten places and among five have no mean
            self.challengers.measure_anew()
        self.engine.set_lists(self.settings)
        self.seen_events.window = self.settings.dedup_window

    def take_rules(self, changed: Mapping[str, dict[str, Any] | None]) -> None:
        """From here on these rules are in force, by surface; None: the surface has none any more."""
        for surface, record in changed.items():
            if record is None:
                self.rules.pop(surface, None)
            else:
                self.rules[surface] = record
        if self.challengers.follow((record["rules"] for record in self.rules.values()), self.settings):
            self.repairs.follow(self.engine.models()[1:])

    def unrecorded(self, settings: Settings) -> Recorded | None:
        """What the next epoch has to record for these settings to be in force; None where they are."""
        values = recorded(settings)
        return None if values == self.in_force else values

    # users that were erased

    def digest_user(self, user_id: str) -> bytes:
        """16 bytes that stand for an erased user here and in manifests; who has not the key cannot guess whom."""
        return _digest(user_id, self.erasure_key)

    def digest_by_name(self, user_id: str) -> bytes:
        """What stood for one before format 10: keyed by the application's name."""
        return digest_by_name(user_id, self.settings.application)

    def erasure_of(self, user_id: str) -> tuple[int, dict[int, int]] | None:
        """When a user was erased last, and the offset of each partition before which nothing of theirs counts."""
        found = self.erased.get(self.digest_user(user_id)) if self.erased else None
        if found is None and self.erased_by_name:
            found = self.erased_by_name.get(self.digest_by_name(user_id))
        return found

    def warm_up(self) -> None:
        """Loads what the first interaction would wait for; changes nothing."""
        self.engine.warm_up()
        new_adwin()

    def parts(self) -> dict[str, Any]:
        """All of it but the model, in one order: equal for equal states."""
        users = np.arange(len(self.engine.model.users), dtype=np.int32)
        history = self.ledger.history(users)
        erased = [*self.erased.values(), *self.erased_by_name.values()]
        return self._counters() | {
            "erased": sorted((at_ms, sorted(before.items())) for at_ms, before in erased),  # whatever the key
            "settings": self.in_force,
            "rules": sorted(self.rules.items()),
            "events": self.seen_events.digests(),
            "listed": list(self.listed.lists().items()),
            "beside": [(surface, list(lists.lists().items())) for surface, lists in sorted(self.beside.items())],
            "catalogue": self.catalogue.records(),
            "history": [column.tobytes() for column in history],
            **({"merged": merged} if (merged := [self.merges.owners(), self.merges.state()]) != [[], []] else {}),
            **({"learned": self.learning.page(self.engine.model)} if self.learning else {}),
        }

    def _stream(self) -> dict[str, Any]:
        model = {f"model/{name}": count for name, count in page_counts(self.engine.model).items()}
        others = {
            "events": self.seen_events.saved(),
            "listed": self.listed.saved(),
            "ledger": self.ledger.saved,
            "catalogue": self.catalogue.saved(),
            **({"merged": self.merges.saved()} if self.merges else {}),
            **({"learned": self.learning.saved()} if self.learning else {}),
            **self.challengers.saved(),
        }
        return self._counters() | {
            "format": FORMAT if self.challengers else _SHARED if self.learning else _ALONE,
            "config": self._config,
            "stream": identity(self.settings),
            "settings": self.in_force,
            "rules": self.rules,
            "pages": model | others | {f"listed.{name}": lists.saved() for name, lists in self.beside.items()},
            "beside": list(self.beside),
            "erasure_key": self.erasure_key,
            "erased": self.erased,
            "erased_by_name": self.erased_by_name,
            "events_first": self.seen_events.first(),
            "ledger": self.ledger.state(),
            "manifest_position": self.manifest_position,
            "scoped_from": self.seen_events.scoped_from,
            "away": sorted(self.listed.away),
            "topic_ids": self.topic_ids,
            "made_anew": self.made_anew,
            "merges_waiting": self.merges.state(),
        }

    def _counters(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "clock_ms": self.clock_ms,
            "records": self.records,
            "newest_place": self.newest_place,
            "amendments": self.repairs.state(),
            "positions": sorted(to_rows(self.positions)),
            "observed": sorted(self.observed.items()),
            "watermarks": sorted(self.watermarks.items()),
            "quality": self.quality.state(),
            "drift": self.drift.state(),
            "value_means": self.value_means,
            **({"challengers": self.challengers.state()} if self.challengers else {}),
        }

    def _check(self, stream: dict[str, Any]) -> None:
        if stream["format"] not in READS:
            raise StateUnreadable(
                f"the state has format {stream['format']}, this version reads {FORMAT}; remove it to rebuild"
            )
        mine = msgspec.msgpack.decode(msgspec.msgpack.encode(self._config | identity(self.settings)))
        its = stream["config"] | stream.get("stream", {name: mine[name] for name in identity(self.settings)})
        known = [name for name in mine if name in its]  # what is newer than the checkpoint has no value there
        other = [f"{name} = {its[name]}" for name in known if mine[name] != its[name]]
        if other:
            raise StateUnreadable(
                f"the state was made with {', '.join(other)}; set that again, or remove the state to rebuild it"
            )

    def _counted(self, group: bytes, found: Counter[str]) -> Iterator[tuple[bytes, bytes]]:
        """The pages of a group, without the group's name, counted as they are read."""
        for key, value in self._pages(group):
            found[group_of(key)] += 1
            yield key[len(group) :], value

    def _interactions_of(self, users: I32) -> I64:
        """How many interactions of users [N] the ledger must have, −1 for those whose ledger was edited since."""
        events = self.engine.model.graph.users.events
        count = np.zeros(len(users), np.int64)
        known = users < len(events)
        count[known] = events[users[known]]
        count[np.isin(users, self.repairs.pending())] = -1
        return count


def _beside(surface: str) -> bytes:
    """What the keys of the lists of a surface begin with."""
    return f"{LISTED_BESIDE}{surface}/".encode()


def digest_by_name(user_id: str, application: str) -> bytes:
    """What stands for a user where no secret is: whoever knows the application's name can find out whom, by trying."""
    return _digest(user_id, application.encode()[:64])


def _digest(user_id: str, key: bytes) -> bytes:
    return hashlib.blake2b(user_id.encode(), key=key, digest_size=16).digest()


def _without(group: bytes, prefix: bytes, pages: Pages) -> Iterator[tuple[bytes, bytes]]:
    """The pages of a group whose keys begin with `prefix`, without the group's name."""
    return ((key[len(group) :], value) for key, value in pages(group + prefix))
