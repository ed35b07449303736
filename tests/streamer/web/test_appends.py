"""Appends of many requests: gathered into few, each answered for itself."""

import asyncio
import threading
from collections.abc import Sequence

from consumers.errors import LogUnavailable, UnknownTopic
from consumers.log import APPEND_TIMEOUT_S
from consumers.open_log import OwnedLog
from consumers.records import NewRecord
from streamer.runtime.topics import read_records, whole
from streamer.web.answers import ApiError
from streamer.web.appends import MOST_WAITING, Appends
from streamer.web.current_log import OpenLog
from tests.waiting import scaled


class Gate(OpenLog):
    """A log that takes its time: each append waits until it is let through."""

    def __init__(self, log: OwnedLog) -> None:
        super().__init__(log)
        self.open = threading.Event()
        self.sizes: list[int] = []
        self.held_back = threading.Event()  # an append has given up

    def append(self, records: Sequence[NewRecord], timeout_s: float = APPEND_TIMEOUT_S) -> None:
        self.sizes.append(len(records))
        if not self.open.wait(timeout_s):
            self.held_back.set()
            raise LogUnavailable("it was not let through")
        super().append(records, timeout_s)


def request(n: int, size: int = 2, topic: str = "interactions") -> list[NewRecord]:
    return [NewRecord(topic, b"u", f"{n}.{part}".encode()) for part in range(size)]


def test_what_comes_while_one_is_on_its_way_goes_with_the_next(log: OwnedLog) -> None:
    gate = Gate(log)

    async def send() -> None:
        appends = Appends(gate, scaled(20))
        sent = [asyncio.create_task(appends.append(request(n))) for n in range(40)]
        while not gate.sizes:
            await asyncio.sleep(0.001)
        gate.open.set()
        await asyncio.gather(*sent)

    asyncio.run(send())
    assert sum(gate.sizes) == 80
    assert len(gate.sizes) <= 2
    values = [record.value.decode() for record in read_records(log, whole(log, "interactions")) if record.value]
    assert values == [f"{n}.{part}" for n in range(40) for part in range(2)]


def test_one_request_that_the_log_refuses_is_no_matter_to_the_others(log: OwnedLog) -> None:
    gate = Gate(log)

    async def send() -> list[BaseException | None]:
        appends = Appends(gate, scaled(20))
        first = asyncio.create_task(appends.append(request(0)))
        while not gate.sizes:
            await asyncio.sleep(0.001)
        others = [request(1), request(2, topic="nowhere"), request(3)]
        sent = [asyncio.create_task(appends.append(records)) for records in others]
        await asyncio.sleep(0)
        gate.open.set()
        return list(await asyncio.gather(first, *sent, return_exceptions=True))

    answers = asyncio.run(send())
    assert [type(answer) for answer in answers] == [type(None), type(None), UnknownTopic, type(None)]
    values = [record.value.decode() for record in read_records(log, whole(log, "interactions")) if record.value]
    assert values == [f"{n}.{part}" for n in (0, 1, 3) for part in range(2)]


def test_what_nobody_waits_for_any_more_is_never_sent(log: OwnedLog) -> None:
    gate = Gate(log)

    async def send() -> list[BaseException | None]:
        appends = Appends(gate, 0.2)
        sent = [asyncio.create_task(appends.append(request(n))) for n in range(3)]
        answers = list(await asyncio.gather(*sent, return_exceptions=True))
        await asyncio.to_thread(gate.held_back.wait)
        gate.open.set()
        await appends.append(request(9))
        return answers

    assert [type(answer) for answer in asyncio.run(send())] == [LogUnavailable] * 3
    values = {record.value for record in read_records(log, whole(log, "interactions"))}
    assert values == {b"9.0", b"9.1"}


def test_more_than_the_log_takes_is_429(log: OwnedLog) -> None:
    gate = Gate(log)

    async def send() -> list[BaseException | None]:
        appends = Appends(gate, scaled(20))
        half = MOST_WAITING // 2
        sent = [asyncio.create_task(appends.append(request(n, half))) for n in range(4)]
        await asyncio.sleep(0)
        refused = [task for task in sent if task.done()]
        gate.open.set()
        await asyncio.gather(*sent, return_exceptions=True)
        assert refused
        return [task.exception() for task in refused]

    for error in asyncio.run(send()):
        assert isinstance(error, ApiError)
        assert (error.status, error.headers["Retry-After"]) == (429, "1")
