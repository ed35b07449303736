"""`/v1/dead-letters`: an example of what could not be taken, as it came."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from consumers.errors import PositionGone
from consumers.records import Record, TopicPartition
from streamer.settings import Settings
from streamer.web.answers import ApiError
from streamer.web.current_log import CurrentLog, called_within
from streamer.web.endpoints import Endpoint
from streamer.web.front_answers import DeadRecord
from streamer.web.materialized_view import View

MOST_CHARACTERS = 4_000  # of a value and of a key
WAIT_S = 2.0


class DeadLetterRoutes:
    """Reads dead letters from the log when they are asked for."""

    def __init__(self, settings: Settings, view: View, log: CurrentLog) -> None:
        self._topic, self._view, self._log = settings.dead_topic, view, log
        self._wait_s = settings.append_timeout_s

    def endpoints(self) -> list[Endpoint]:
        """The one endpoint. A record may hold anything, so it asks for more than figures do."""
        return [Endpoint("/v1/dead-letters/{reason:id}", "GET", self.newest, "admin", answer=DeadRecord)]

    async def newest(self, request: Request) -> Response:
        """The newest record that could not be taken for a reason: key and value as text, cut where they are long."""
        reason = request.path_params["reason"]
        place = self._view.dead_letters.newest(reason)
        record = None if place is None else await called_within(self._wait_s, self._read, *place)
        if record is None:
            raise ApiError(404, "not-found", "no record was refused for this reason of late", field="reason")
        headers = {name: value.decode("utf-8", "replace")[:MOST_CHARACTERS] for name, value in record.headers}
        origin = {name: headers.get(f"__streams.errors.{name}") for name in ("message", "topic", "partition", "offset")}
        told = {"reason": reason, **origin, "at_ms": record.timestamp_ms, "key": _text(record.key)}
        size = None if record.value is None else len(record.value)
        return JSONResponse({**told, "value": _text(record.value), "value_bytes": size})

    def _read(self, partition: int, offset: int) -> Record | None:
        """None where retention has taken it."""
        try:
            with self._log.now().reader({TopicPartition(self._topic, partition): offset}) as reader:
                found = reader.read(1, WAIT_S)
        except PositionGone:
            return None
        return found[0] if found and found[0].offset == offset else None


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")[:MOST_CHARACTERS]
