"""From the body of a request into the log, within bounds of size and time."""

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from consumers.errors import LogDamaged, LogUnavailable
from consumers.partitioner import partition_of
from consumers.records import NewRecord, TopicPartition
from streamer.settings import Settings
from streamer.web.answers import ApiError
from streamer.web.appends import Appends
from streamer.web.bodies import Body, decode_record, read_body
from streamer.web.current_log import CurrentLog, called_within
from streamer.web.incoming import IncomingRecords


class LogWriter:
    """Reads bodies, and appends what was made of them, by the bounds of the settings."""

    def __init__(self, log: CurrentLog, settings: Settings) -> None:
        self._log, self._settings = log, settings
        self._appends = Appends(log, settings.append_timeout_s)

    async def body(self, request: Request) -> Body:
        """What a request holds. Raises ApiError."""
        return await read_body(request, self._settings.max_body_bytes, self._settings.request_timeout_s)

    async def records(self, request: Request) -> Body:
        """The same of records, each number as it was written. Raises ApiError."""
        return await read_body(request, self._settings.max_body_bytes, self._settings.request_timeout_s, decode_record)

    async def append(self, taken: IncomingRecords, within_s: float | None = None) -> Response:
        """202 once the records are in the log; 503 where they may be or not, with what makes another try safe.

        within_s: how long to wait for that; None: as long as the settings say, which is never exceeded.
        """
        try:
            await self._appends.append(taken.records, within_s)
        except (LogUnavailable, LogDamaged) as error:
            raise ApiError(
                503,
                "not-acknowledged",
                f"{error}; send the same again with these event_ids: what is in the log already counts once"
                if taken.event_ids
                else f"{error}; send the same again",
                headers={"Retry-After": "1"},
                beside={"event_ids": taken.event_ids},
            ) from None
        return Response(msgspec.json.encode(taken.answer()), 202, media_type="application/json")

    async def append_tombstone(self, topic: str, id_: str, warnings: Sequence[dict[str, Any]] = ()) -> Response:
        """The same with a record that deletes what a compacted topic says of an id."""
        return await self.append(IncomingRecords([NewRecord(topic, id_.encode(), None)], [], list(warnings)))

    async def end_of(self, topic: str, key: bytes) -> tuple[TopicPartition, int]:
        """The partition of a key, and the position after its last record now. Raises LogUnavailable."""
        ends = await called_within(self._settings.append_timeout_s, lambda: self._log.now().ends(topic))
        partition = partition_of(key, len(ends))
        return TopicPartition(topic, partition), ends[partition]
