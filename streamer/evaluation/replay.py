"""Replay: a recorded stream through the live engine, for evaluation. Deterministic to the byte."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from consumers.dead_letter import Reason
from consumers.event_weights import EventWeights
from consumers.schemas import Item, User
from streamer.embeddings.registry import versions
from streamer.engine.engine import Columns, Engine, last_of_user
from streamer.evaluation.availability import Availability, clock_of
from streamer.evaluation.held_out import HeldOut
from streamer.evaluation.merged_sessions import MergedSessions
from streamer.evaluation.retractions import Retractions
from streamer.features.tables import digest_rows, retraction_rows, weigh_rows
from streamer.features.topic_table import SessionMerge
from streamer.lists.list_files import TestLists, list_column
from streamer.lists.rule_book import RuleBook
from streamer.lists.rules import Rules
from streamer.monitoring.drift import Alarm, DriftMonitor
from streamer.monitoring.prequential_quality import QualityMeter
from streamer.pipeline.surface_lists import SurfaceLists
from streamer.runtime.whole_files import whole_file
from streamer.settings import Settings
from streamer.state.dedup import SeenEvents
from tgn.prequential import Outcome

LISTED_ITEMS_A_CHUNK = 2_000_000  # bounds the memory of a chunk's lists


@dataclass(frozen=True)
class ReplayOptions:
    """What a replay does besides taking the events."""

    lists_out: Path | None = None
    last_lists_out: Path | None = None
    learn_until: float | None = None  # time quantile after which the weights stay
    stale: int = 1
    lag_ms: int | None = None  # span of event time at the end of which its events are observed, in place of `stale`
    measure_after: float = 0.8  # share of the events before the measured ones
    score: bool = True  # False: observe only, to catch up or import
    chunk: int | None = None  # events taken at once; by default as many as memory allows. Changes no result
    number: np.ndarray | None = None  # [N] number of each row's event in `lists_out`; −1: none; None: that of the row
    pace: Callable[[int | None], None] | None = None  # waits until an event time, epoch ms, is due
    ask: pa.Table | None = None  # interactions that are asked for and not observed: `lists_out` has their lists alone
    learned: np.ndarray | None = None  # [N] bool: the rows that weights learn from; None: all
    merges: Sequence[SessionMerge] = ()  # sessions that become users'; their rows are those of the stream by `number`


class TakenChunk(NamedTuple):
    """A chunk of the stream that was taken, for who watches a replay."""

    event: np.ndarray  # [N] number of each event that counted
    columns: Columns  # [N]
    outcome: Outcome  # [N]
    seconds: float  # wall time of the chunk


@dataclass
class ReplayResult:
    """What a replay measured."""

    events: int = 0
    users: int = 0
    items: int = 0
    dead: Counter[str] = field(default_factory=Counter)
    refused_measured: int = 0  # dead ones in the measured part: they have empty lists and no place in `quality`
    duplicates: int = 0
    seconds: float = 0.0
    quality: QualityMeter = field(default_factory=QualityMeter)
    filled: int = 0  # measured lists that have an item
    drift: list[Alarm] = field(default_factory=list)
    retractions: Retractions | None = None  # where the stream takes interactions back: what was taken, without these
    merged: int = 0  # sessions that became users'
    asked: HeldOut | None = None  # what was asked for, where anything was


def replay(
    table: pa.Table,
    settings: Settings,
    options: ReplayOptions,
    advance: Callable[[int], None] = lambda n: None,
    watch: Callable[[TakenChunk], None] = lambda taken: None,
    engine: Engine | None = None,
    items: Iterable[Item] = (),
    users: Iterable[User] = (),
    rules: Rules | None = None,
) -> ReplayResult:
    """Takes a table of `read_interactions`; event n is its row n, bad rows included.

    Args:
        table: the events.
        settings: of the model and its lists.
        options: what is measured, and what is written.
        advance: told how many events were taken.
        watch: shown each chunk after it was taken; its arrays are its own to keep.
        engine: a fresh one of these settings that takes the table, for who wants its model after it.
        items: those that are known from the start; in no list before or after their time.
        users: likewise.
        rules: those that test lists and published lists obey; None: there are none.

    >>> from consumers.files.interactions import read_interactions
    >>> users, items = ["ann", "bob"] * 20, ["tea", "pot"] * 20
    >>> rows = [f"{user},{item},view,{n}000" for n, (user, item) in enumerate(zip(users, items))]
    >>> _ = Path("events.csv").write_text(chr(10).join(["user_id,item_id,event_type,timestamp", *rows]))
    >>> result = replay(read_interactions(Path("events.csv")), Settings.load(), ReplayOptions())
    >>> result.events, result.users, result.quality.events
    (40, 2, 8)
    """
    started = time.perf_counter()
    engine, weights = engine or Engine(settings), EventWeights(settings.event_weights, settings.max_weight)
    seen_events, monitor = SeenEvents(settings.dedup_window), DriftMonitor()
    result = ReplayResult(events=len(table))
    learn_until_ms = _time_quantile(table, options.learn_until)
    measured_from = first_measured(len(table), options)
    lists = options.score or options.last_lists_out is not None
    wanted = options.chunk or (LISTED_ITEMS_A_CHUNK // settings.k if lists else len(table))
    chunk = max(1, wanted // options.stale) * options.stale  # whole blocks
    edges = _block_starts(table, options)
    number = np.arange(len(table)) if options.number is None else options.number
    learned = np.ones(len(table), bool) if options.learned is None else options.learned
    last_lists: dict[str, pa.Scalar] = {}
    switches = _switches(table, settings.embeddings, edges)
    retracts, availability, clock = retraction_rows(table), Availability(engine, items, users), clock_of(table)
    book = None if rules is None or rules.say_nothing() else RuleBook(rules)
    if retracts.any() or options.merges or (book is not None and book.rules.seen_for_ms() not in (0, np.inf)):
        result.retractions = Retractions(engine)
    sessions = None
    if result.retractions and options.merges:
        sessions = MergedSessions(options.merges, number, engine.model.users, result.retractions)
    taken = result.retractions.ledger if result.retractions else None
    surface = SurfaceLists(engine, availability.catalogue, taken, settings, book)
    merged_at = sessions.rows() if sessions else np.zeros(0, np.int64)
    changes = np.concatenate([_after_retractions(retracts), availability.rows(clock), merged_at])
    starts = {*_chunk_starts(edges, chunk, len(table)), *switches, *_next_starts(edges, changes)}
    asked = None if options.ask is None else HeldOut(options.ask, engine, surface, sessions)
    starts |= set() if asked is None else set(asked.rows(clock, edges).tolist())
    result.asked = asked
    with TestLists(options.lists_out) as lists_out, TestLists(None) as nowhere:
        test_lists = nowhere if asked else lists_out
        for first, end in pairwise([*sorted(starts), len(table)]):
            if sessions:
                _merge(sessions, first, last_lists, engine, surface, _clock_ms(table, first))
            if asked:
                asked.answer(first, lists_out)
            chunk_started = time.perf_counter()
            if settings.embeddings and first in switches:
                engine.load_embeddings(settings.embeddings, switches[first])
            availability.reach(clock[first:end])
            rows = table.slice(first, end - first)
            if options.pace:
                options.pace(rows["timestamp"][-1].as_py())
            backs = retracts[first:end]
            good, event, digests = _good_rows(rows, first, ~backs, seen_events, weights, result, measured_from)
            if len(good):
                good = sessions.owned(good) if sessions else good
                columns = engine.encode_table(good, weigh_rows(good, weights))
                outcome = surface.take(
                    columns,
                    list_ids(event),
                    learn=(columns.t <= learn_until_ms) & options.score & learned[event],
                    score=options.score,
                    publish=options.last_lists_out is not None,
                    block=np.searchsorted(edges, event, "right") - 1,
                    sources=options.lists_out is not None and asked is None,
                ).outcome
                late_enough = event >= measured_from
                result.quality.add(outcome.rank[late_enough], outcome.popularity_rank[late_enough])
                result.filled += int(np.count_nonzero(outcome.test.size[late_enough])) if options.score else 0
                result.drift += monitor.add(event, columns.t, outcome.rank, outcome.surprise)
                _write(test_lists, last_lists, options, engine, good, number[event], columns.user, outcome)
                if result.retractions:
                    result.retractions.note(event, columns, digests or [None] * len(event))
                watch(TakenChunk(event, columns, outcome, time.perf_counter() - chunk_started))
            if result.retractions and backs.any():
                changed = result.retractions.take_back(rows.filter(pa.array(backs)), seen_events)
                _relist(last_lists, engine, surface, changed, _clock_ms(table, end))
            not_taken = np.ones(len(rows), bool)
            not_taken[event - first] = False
            missed = number[first + np.flatnonzero(not_taken)]
            test_lists.write_empty(missed[missed >= 0])
            advance(len(rows))
        if sessions:
            _merge(sessions, len(table), last_lists, engine, surface, _clock_ms(table, len(table)))
            result.merged = sessions.taken
            result.dead.update({str(Reason.OTHER_USER): sessions.refused} if sessions.refused else {})
        if asked:
            asked.finish(lists_out)
    if options.last_lists_out:
        _write_last(options.last_lists_out, last_lists)
    result.users, result.items = len(engine.model.users), len(engine.model.items)
    result.seconds = time.perf_counter() - started
    return result


def list_ids(event: np.ndarray) -> Callable[[int], str]:
    """What names the lists of a replay, as the key of what rules draw: row → id; event: [N] numbers of its events."""
    return lambda row: f"0-{event[row]}"


def _block_starts(table: pa.Table, options: ReplayOptions) -> np.ndarray:
    """[blocks] the first row of each block: what is scored before any of it is observed."""
    if options.lag_ms is None:
        return np.arange(0, len(table), options.stale)
    span = clock_of(table) // options.lag_ms
    return np.flatnonzero(np.diff(span, prepend=-1))


def _chunk_starts(edges: np.ndarray, wanted: int, rows: int) -> list[int]:
    """Rows to begin a chunk at: starts of blocks, as many rows apart as are wanted, or fewer, where blocks let them.

    >>> _chunk_starts(np.array([0, 3, 6, 9]), wanted=7, rows=11), _chunk_starts(np.array([0, 9]), wanted=3, rows=11)
    ([0, 6], [0, 9])
    """
    starts = [0] if len(edges) else []
    at = 0
    while at + 1 < len(edges) and edges[at] + wanted < rows:
        at = max(at + 1, int(np.searchsorted(edges, edges[at] + wanted, "right")) - 1)
        starts.append(int(edges[at]))
    return starts


def _next_starts(edges: np.ndarray, rows: Sequence[int] | np.ndarray) -> list[int]:
    """The first start of a block from each of the rows on, where there is one: blocks are whole.

    >>> _next_starts(np.array([0, 3, 6, 9]), [0, 1, 6, 10])
    [0, 3, 6]
    """
    at = np.searchsorted(edges, rows)
    starts: list[int] = edges[at[at < len(edges)]].tolist()
    return starts


def _switches(table: pa.Table, folder: Path | None, edges: np.ndarray) -> dict[int, str]:
    """Row → the version to use from there on: the newest whose `until_ms` is past, so that nothing of it is to come."""
    if folder is None:
        return {}
    clock = clock_of(table)
    found = {}
    for manifest in versions(folder):
        for row in _next_starts(edges, [int(np.searchsorted(clock, manifest["until_ms"]))]):
            found[row] = manifest["version"]
    return found


def first_measured(events: int, options: ReplayOptions) -> int:
    """Number of the first event that is measured."""
    return int(events * options.measure_after)


def _after_retractions(retracts: np.ndarray) -> np.ndarray:
    """[M] rows to begin anew at: what is taken back is gone for the next event."""
    return np.flatnonzero(retracts & ~np.append(retracts[1:], False)) + 1


def _clock_ms(table: pa.Table, end: int) -> int:
    """The latest event time of the rows before `end`."""
    return int(pc.max(table["timestamp"].slice(0, end)).as_py() or 0)


def _good_rows(
    rows: pa.Table,
    first: int,
    wanted: np.ndarray,
    seen_events: SeenEvents,
    weights: EventWeights,
    result: ReplayResult,
    measured_from: int,
) -> tuple[pa.Table, np.ndarray, list[bytes | None]]:
    """The rows that can be taken, their event numbers and the digests of their ids; the others are counted by reason.

    wanted: [N] the rows that are interactions, not retractions.
    """
    dead = ~rows["reason"].is_null().to_numpy()
    good = ~dead & wanted
    result.dead.update(str(reason) for reason in rows["reason"].drop_null().to_pylist())
    if weights.reads_value:
        refused = good & ~_weighed(rows, weights)
        result.dead.update({str(Reason.BAD_VALUE): int(refused.sum())} if refused.any() else {})
        good, dead = good & ~refused, dead | refused
    result.refused_measured += int(dead[max(measured_from - first, 0) :].sum())
    digests: list[bytes | None] = []
    if "event_id" in rows.column_names:
        digests = digest_rows(rows)
        fresh = seen_events.add(digests, good)
        result.duplicates += int((good & ~fresh).sum())
        good &= fresh
    at = np.flatnonzero(good)
    return (
        (rows if good.all() else rows.filter(pa.array(good))),
        first + at,
        [digests[n] for n in at] if digests else [],
    )


def _weighed(rows: pa.Table, weights: EventWeights) -> np.ndarray:
    """[N] bool: whether the value of each row may be its weight."""
    if "value" not in rows.column_names:
        return np.ones(len(rows), bool)
    pairs = zip(rows["event_type"].to_pylist(), rows["value"].to_pylist(), strict=True)
    return np.array([weights.takes(*pair) for pair in pairs], bool)


def _time_quantile(table: pa.Table, quantile: float | None) -> float:
    if quantile is None:
        return np.inf
    return float(np.quantile(table["timestamp"].drop_null().to_numpy(), quantile))


def _write(
    test_lists: TestLists,
    last_lists: dict[str, pa.Scalar],
    options: ReplayOptions,
    engine: Engine,
    good: pa.Table,
    event: np.ndarray,
    user: np.ndarray,
    outcome: Outcome,
) -> None:
    ids = engine.model.items.ids
    if options.lists_out and options.ask is None:
        at = np.flatnonzero(event >= 0)
        whose = good.select(["user_id", "timestamp"]).take(pa.array(at))
        test_lists.write(
            event[at],
            outcome.test,
            outcome.source,
            at,
            ids,
            whose["user_id"].to_pylist(),
            whose["timestamp"].to_pylist(),
        )
    if options.last_lists_out:
        rows = np.flatnonzero(last_of_user(user))
        last_lists.update(
            zip(good["user_id"].take(rows).to_pylist(), list_column(outcome.published, rows, ids), strict=True)
        )


def _relist(
    last_lists: dict[str, pa.Scalar], engine: Engine, surface: SurfaceLists, users: np.ndarray, now_ms: int
) -> None:
    """The published lists of users whose interactions have changed; who has none left has no list."""
    model = engine.model
    listed = np.array([user for user in users.tolist() if model.users.ids[user] in last_lists], np.int32)
    if not len(listed):
        return
    outcome = surface.relist(listed, now_ms).outcome
    for row, items in enumerate(list_column(outcome.published, np.arange(len(listed)), model.items.ids)):
        user_id = model.users.ids[listed[row]]
        if model.graph.users.events[listed[row]]:
            last_lists[user_id] = items
        else:
            del last_lists[user_id]


def _merge(
    sessions: MergedSessions,
    row: int,
    last_lists: dict[str, pa.Scalar],
    engine: Engine,
    surface: SurfaceLists,
    now_ms: int,
) -> None:
    """Takes the merges that are due before a row: the lists of sessions are withdrawn, those of owners made anew."""
    changed, owners = sessions.reach(row)
    for session, owner in owners.items():
        if (listed := last_lists.pop(session, None)) is not None:
            last_lists.setdefault(owner, listed)
    _relist(last_lists, engine, surface, changed, now_ms)


def _write_last(path: Path, last_lists: dict[str, pa.Scalar]) -> None:
    items = pa.array([items.as_py() for items in last_lists.values()], pa.list_(pa.string()))
    with whole_file(path) as part:
        pq.write_table(pa.table({"user_id": list(last_lists), "items": items}), part)
