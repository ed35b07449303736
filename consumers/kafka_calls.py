"""What every call to a broker shares: waiting for leaders, sending records, naming an error."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException

from consumers.errors import LogUnavailable, SettingRefused
from consumers.records import NewRecord

START_TIMEOUT_S = 15.0
LEADERLESS = {KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE}

Answer = TypeVar("Answer")


def client(kind: Callable[[dict[str, Any]], Answer], config: Mapping[str, Any]) -> Answer:
    """A consumer, producer or admin client. Raises SettingRefused where librdkafka does not take a key or a file."""
    for name, value in config.items():
        if name.endswith(".location") and value != "probe" and not Path(str(value)).exists():
            raise SettingRefused(f"librdkafka refuses the table [kafka]: {name} names {value}, which is not there")
    try:
        return kind(dict(config))
    except (KafkaException, TypeError, ValueError) as error:
        text = text_of(error) if isinstance(error, KafkaException) else str(error)
        raise SettingRefused(f"librdkafka refuses the table [kafka]: {' '.join(text.split())}") from error


def answered(call: Callable[..., Answer]) -> Callable[..., Answer]:
    """A question to the broker: asked again while a partition finds its leader; else its failure is LogUnavailable."""

    @wraps(call)
    def answered(*arguments: Any, **named: Any) -> Answer:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                return call(*arguments, **named)
            except KafkaException as error:
                if error.args[0].code() not in LEADERLESS or time.monotonic() > deadline:
                    raise LogUnavailable(f"the broker does not answer: {text_of(error)}") from error
            time.sleep(0.1)

    return answered


def produce(producer: Any, records: Sequence[NewRecord], delivered: Any = None) -> None:
    for record in records:
        arguments: dict[str, Any] = {"key": record.key, "value": record.value}
        if record.headers:
            arguments["headers"] = list(record.headers)
        if record.partition is not None:
            arguments["partition"] = record.partition
        if delivered is not None:
            arguments["on_delivery"] = delivered
        while True:
            try:
                producer.produce(record.topic, **arguments)
                break
            except BufferError:  # the local queue is full: wait for acknowledgements
                producer.poll(0.05)
    producer.poll(0)


def text_of(error: KafkaException) -> str:
    return str(error.args[0].str() if isinstance(error.args[0], KafkaError) else error)
