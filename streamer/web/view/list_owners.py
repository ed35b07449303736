"""Whose list a list id names, looked up in the log: feedback may leave the user out."""

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection

import msgspec

from consumers.dead_letter import DeadLetter
from consumers.decode_fields import UNDECODABLE
from consumers.errors import PositionGone, UnknownTopic
from consumers.log import Log
from consumers.records import Record, TopicPartition
from streamer.runtime.decoders import interaction_decoder
from streamer.runtime.topics import end_positions
from streamer.settings import Settings

REMEMBERED = 100_000  # lists whose users are known
LISTS_BACK = 20_000  # of each partition of the topic of lists, how many there are read back to
LOOKED_UP = 100  # lists of one request that are looked up
WAIT_S = 1.0  # a list that was asked for comes to its topic soon after
_OF_INTERACTION = re.compile(r"(\d{1,9})-(\d{1,18})(?:-.*)?")
_OF_EPOCH = re.compile(r"e-[^-]*-\d+-(.+)", re.DOTALL)


class _Told(msgspec.Struct, frozen=True):
    """What of a list on its topic is looked at."""

    list_id: str
    user_id: str | None = None


_told = msgspec.json.Decoder(_Told)


class ListOwners:
    """Finds the users of lists; "" is the user of a list of a session, a basket or anybody. For any thread.

    A list that an interaction caused is named after its place, where the user stands; one that was made between
    interactions names its user; of one that was asked for the record on the topic of lists says so.

    Args:
        log: the log that is open now. Raises LogUnavailable.
        published: a user's newest list, as it is on its topic.
    """

    def __init__(self, log: Callable[[], Log], published: Callable[[str], bytes | None], settings: Settings) -> None:
        self._log, self._published, self._settings = log, published, settings
        self._decoder = interaction_decoder(settings)
        self._known: OrderedDict[str, str] = OrderedDict()
        self._read_to: dict[TopicPartition, int] = {}  # how far the topic of lists is read; empty: it is not yet
        self._lock = threading.Lock()

    def users_of(self, list_ids: Collection[str]) -> dict[str, str]:
        """The user of each list that is found. Looks up LOOKED_UP at most that were not looked up before.

        Raises LogUnavailable.
        """
        with self._lock:
            new = [list_id for list_id in dict.fromkeys(list_ids) if list_id not in self._known][:LOOKED_UP]
            asked = [list_id for list_id in new if list_id.startswith("q-")]
            for list_id in new:
                user = None if list_id.startswith("q-") else self._user_of_published(list_id)
                if user is not None:
                    self._note(list_id, user)
            if asked:
                self._read_asked(asked)
            return {list_id: self._known[list_id] for list_id in list_ids if list_id in self._known}

    def _note(self, list_id: str, user: str) -> None:
        self._known[list_id] = user
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def _user_of_published(self, list_id: str) -> str | None:
        if match := _OF_INTERACTION.fullmatch(list_id):
            return self._user_at(TopicPartition(self._settings.interactions_topic, int(match[1])), int(match[2]))
        if match := _OF_EPOCH.fullmatch(list_id):
            return self._user_named(list_id, match[1])
        return None

    def _user_at(self, place: TopicPartition, offset: int) -> str | None:
        """The user of the interaction at a place of the log."""
        log = self._log()
        end = log.ends(place.topic).get(place.partition, 0)
        if not log.starts(place.topic).get(place.partition, 0) <= offset < end:
            return None
        try:
            with log.reader({place: offset}) as reader:
                records = reader.read(1, WAIT_S)
        except PositionGone:
            return None
        if not records or records[0].offset != offset:
            return None
        interaction = self._decoder.decode(records[0], records[0].timestamp_ms)
        return None if isinstance(interaction, DeadLetter) else interaction.user_id

    def _user_named(self, list_id: str, named: str) -> str:
        """The user in the id of a list of an epoch, behind whom a surface may be named."""
        users = [named]
        while "-" in users[-1]:
            users.append(users[-1].rpartition("-")[0])
        for user in users:
            value = self._published(user) if user else None
            if value is not None and _told.decode(value).list_id == list_id:
                return user
        surface = self._settings.surface
        return named if surface == "default" else named.removesuffix(f"-{surface}")

    def _read_asked(self, wanted: list[str]) -> None:
        """Reads the topic of lists, from where it was left, until all of the wanted ones are there, or for a moment."""
        deadline, log = time.monotonic() + WAIT_S, self._log()
        try:
            with log.reader(self._read_to or self._back_from_end(log)) as reader:
                while any(list_id not in self._known for list_id in wanted):
                    records = reader.read(1_000, 0.05)
                    for record in records:
                        self._note_asked(record)
                    if not records and time.monotonic() > deadline:
                        break
                self._read_to = reader.positions()
        except UnknownTopic:
            pass
        except PositionGone:
            self._read_to = {}

    def _note_asked(self, record: Record) -> None:
        try:
            told = _told.decode(record.value or b"")
        except UNDECODABLE:
            return  # whoever wrote it did not write a list
        self._note(told.list_id, told.user_id or "")

    def _back_from_end(self, log: Log) -> dict[TopicPartition, int]:
        topic = self._settings.lists_topic
        starts = log.starts(topic)
        ends = end_positions(log, topic).items()
        return {place: max(starts.get(place.partition, 0), end - LISTS_BACK) for place, end in ends}
