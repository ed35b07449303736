"""Kafka records carried by Faust, to whoever keeps their positions: committed records only, from where it is.

Faust reads, balances and stays connected. State, positions and results are not its own: positions are given to it
before the first record, and where it is in the group moves none.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import aiokafka
import faust
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.helpers import create_ssl_context
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from consumers.log import Positions
from consumers.records import Record, TopicPartition

RECORDS_A_STEP, STEP_S, LOOK_EVERY_S = 2_000, 0.1, 0.5
SESSION_TIMEOUT_S = 10.0
_SASL = {
    "security.protocol": "security_protocol",
    "sasl.mechanism": "sasl_mechanism",
    "sasl.mechanisms": "sasl_mechanism",
    "sasl.username": "sasl_plain_username",
    "sasl.password": "sasl_plain_password",
}
_TLS = {
    "ssl.ca.location": "cafile",
    "ssl.certificate.location": "certfile",
    "ssl.key.location": "keyfile",
    "ssl.key.password": "password",
}


class Carried(NamedTuple):
    """Who gets the records, in the event loop's thread.

    Args:
        places: the next offset to take of each partition, of each that there is.
        take: takes records, each partition's in the order of its offsets.
        rest: told now and then how far each partition is read, past gaps that transactions leave.
        stop: whether to end.
    """

    places: Callable[[], Positions]
    take: Callable[[list[Record]], None]
    rest: Callable[[Positions], None]
    stop: Callable[[], bool]


async def carry(group: str, instance: str, bootstrap: str, config: Mapping[str, Any], carried: Carried) -> None:
    """Carries records until it is to stop. Raises what `take` and `rest` raise.

    Args:
        group: of consumers. One of its processes reads all partitions; the others wait for its end.
        instance: names this process among them, the same after a restart.
        config: librdkafka keys, of which those of SASL and TLS count.
    """
    app = faust.App(
        group, broker=f"kafka://{bootstrap}", store="memory://", web_enabled=False, topic_disable_leader=True,
        topic_allow_declare=False, consumer_group_instance_id=instance, stream_wait_empty=False,
        broker_session_timeout=SESSION_TIMEOUT_S, broker_heartbeat_interval=SESSION_TIMEOUT_S / 3,
        stream_buffer_maxsize=4 * RECORDS_A_STEP,
    )  # fmt: skip
    transport = _OwnPlaces(app.conf.broker, app, loop=app.loop)
    transport.places, transport.security = carried.places, _security(config)
    app.transport = transport
    topics = app.topic(
        *sorted({at.topic for at in carried.places()}), key_serializer="raw", value_serializer="raw", allow_empty=True
    )
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @app.agent(topics)  # type: ignore[untyped-decorator,unused-ignore]
    async def count(stream: Any) -> None:
        async for events in stream.take_events(RECORDS_A_STEP, within=STEP_S):
            await _taken(carried, [_record(event.message) for event in events], failed)

    await app.start()
    try:
        while not carried.stop():
            if failed.done():
                failed.result()
            if app.crashed:
                raise app.crash_reason or RuntimeError("faust has ended")
            await asyncio.sleep(LOOK_EVERY_S)
            reached = await _reached(app, carried)
            if reached and not failed.done():
                carried.rest(reached)
    finally:
        await app.stop()


async def _taken(carried: Carried, records: list[Record], failed: "asyncio.Future[None]") -> None:
    """Faust goes on after an agent's error; here nothing may follow what was not taken."""
    try:
        if not failed.done():
            carried.take(records)
    except Exception as error:
        failed.set_exception(error)
    if failed.done():
        await asyncio.Event().wait()


async def _reached(app: Any, carried: Carried) -> dict[TopicPartition, int]:
    """How far partitions are read and taken; empty while they are not this process's."""
    mine, reached = app.consumer.assignment(), {}
    for at in carried.places():
        position = await app.consumer.position(TP(*at)) if TP(*at) in mine else None
        if position is None:
            return {}
        reached[at] = int(position)
    taken, fetched = carried.places(), app.consumer.fetched
    on_the_way = {at for at in taken if fetched.get(TP(*at), 0) > taken[at]}
    return {at: taken[at] if at in on_the_way else position for at, position in reached.items()}


def _record(message: Any) -> Record:
    headers = message.headers or ()
    return Record(
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        key=message.key,
        value=message.value,
        headers=tuple(
            (name, value or b"") for name, value in (headers.items() if isinstance(headers, dict) else headers)
        ),
        timestamp_ms=round(message.timestamp * 1000),
    )


def _security(config: Mapping[str, Any]) -> dict[str, Any]:
    """What aiokafka calls the keys of librdkafka for SASL and TLS."""
    found = {ours: str(config[key]) for key, ours in _SASL.items() if key in config}
    if "security_protocol" in found:
        found["security_protocol"] = found["security_protocol"].upper()
    if "SSL" in found.get("security_protocol", "").split("_"):
        found["ssl_context"] = create_ssl_context(**{ours: config[key] for key, ours in _TLS.items() if key in config})
    return found


class _AllToOne(RoundRobinPartitionAssignor):
    """Gives every partition to one member: results are totals over all of them."""

    name = "freshet-all-to-one"

    @classmethod
    def assign(cls, cluster: Any, members: Mapping[str, Any]) -> dict[str, Any]:
        first = min(members)
        given = super().assign(cluster, {first: members[first]})
        nothing = super().assign(_Nowhere(), members)
        return {**nothing, **given}


class _Nowhere:
    """A cluster without partitions."""

    def partitions_for_topic(self, topic: str) -> set[int]:
        return set()


class _Thread(driver.AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: Any) -> Any:
        conf, self._assignor = self.app.conf, _AllToOne
        return aiokafka.AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            bootstrap_servers=driver.server_list(transport.url, transport.default_port),
            partition_assignment_strategy=[_AllToOne],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_records=conf.broker_max_poll_records,
            fetch_max_wait_ms=500,
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            isolation_level="read_committed",
            **transport.security,
        )

    async def _fetch_records(self, *given: Any, **named: Any) -> Any:
        """Notes what comes in the thread in which the position moves, at once: who asks it for the position learns of
        no record before it is noted.
        """
        records = await super()._fetch_records(*given, **named)
        self.consumer.fetched |= {TP(*tp): came[-1].offset + 1 for tp, came in records.items() if came}
        return records


class _Consumer(driver.Consumer):
    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.fetched: dict[Any, int] = {}  # partition → what follows the last record that came from the broker

    def _new_consumer_thread(self) -> Any:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    async def seek_to_committed(self) -> Any:
        """What is committed is the state of the one who takes the records."""
        known = {TP(*at): position for at, position in cast(_OwnPlaces, self.transport).places().items()}
        places = {tp: known[tp] for tp in self.assignment() if tp in known}
        await self.seek_wait(places)
        return places

    async def _commit(self, offsets: Any) -> bool:
        return True


class _OwnPlaces(driver.Transport):
    Consumer = _Consumer
    places: Callable[[], Positions]
    security: Mapping[str, Any]
