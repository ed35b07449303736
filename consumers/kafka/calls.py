"""What every call to a broker shares: waiting for leaders, sending records, naming an error."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException, Producer

from consumers.errors import LogUnavailable, RecordRefused, SettingRefused
from consumers.records import NewRecord

START_TIMEOUT_S = 15.0
ANSWER_TIMEOUT_S = 2 * START_TIMEOUT_S  # for what librdkafka itself ends after START_TIMEOUT_S
REPORT_TIMEOUT_S = 1.0  # how long a failed transaction waits to hear what became of its records
LEADERLESS = {
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,  # a broker that has just come back knows less than we do
}
REPEATS = {  # refusals of what was sent: sent again unchanged it is refused again
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.INVALID_MSG_SIZE,
    KafkaError.INVALID_RECORD,
    KafkaError.INVALID_TIMESTAMP,
    KafkaError.POLICY_VIOLATION,
    KafkaError.TOPIC_EXCEPTION,
    KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT,
    KafkaError.UNSUPPORTED_COMPRESSION_TYPE,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}
COORDINATORLESS = {  # a group's: the broker has just started, or just met the group
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
}
_TOLD_AGAIN = KafkaException, SystemError
"""How a call that lets a client speak says that it met a fatal error before; the second where it calls `error_cb` with
the first one raised already (confluent-kafka 2.16)."""
_TOO_LARGE = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE, KafkaError.INVALID_MSG_SIZE}

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


def shut(opened: Any) -> None:
    """Closes an admin client or a producer, and drops what it has not sent; one that is closed stays so.

    Whoever made it calls this: left to the garbage collector it may be freed in a thread of its own, which then waits
    for itself. No producer with transactions: closing would wait for the broker without limit to abort one.
    """
    if isinstance(opened, Producer):
        with suppress(RuntimeError, *_TOLD_AGAIN):
            opened.purge()  # RuntimeError: it is closed
            opened.close()
    else:
        opened.__exit__(None, None, None)


def answered(call: Callable[..., Answer]) -> Callable[..., Answer]:
    """A question to the broker: asked again while a partition finds its leader, or a group its coordinator.

    Else its failure is LogUnavailable. So is the end of the client meanwhile: another thread may close the log.
    """

    @wraps(call)
    def answered(*arguments: Any, **named: Any) -> Answer:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                return call(*arguments, **named)
            except KafkaException as error:
                if error.args[0].code() not in LEADERLESS | COORDINATORLESS or time.monotonic() > deadline:
                    raise LogUnavailable(f"the broker does not answer: {text_of(error)}") from error
            except TimeoutError as error:
                raise LogUnavailable("the broker does not answer in time") from error
            except RuntimeError as error:
                if not str(error).endswith("has been closed"):
                    raise
                raise LogUnavailable("the log was closed") from error
            time.sleep(0.1)

    return answered


def produce(producer: Any, records: Sequence[NewRecord], delivered: Any = None) -> None:
    """Hands records to a producer. Raises RecordRefused where it sees by itself that one is too large.

    A producer looks for partitions that were added every few minutes only: it is made to look where it knows none.
    """
    looked = False
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
            except KafkaException as error:
                if error.args[0].code() != KafkaError._UNKNOWN_PARTITION or looked:
                    raise refused(error.args[0], record.topic) or error from error
                producer.list_topics(record.topic, timeout=START_TIMEOUT_S)
                looked = True
    producer.poll(0)


def text_of(error: KafkaException) -> str:
    return str(error.args[0].str() if isinstance(error.args[0], KafkaError) else error)


def refused(error: KafkaError, topic: str = "") -> RecordRefused | None:
    """The error where the same records would be refused again, with what an operator can do."""
    if error.code() not in REPEATS:
        return None
    mend = "raise its max.message.bytes" if error.code() in _TOO_LARGE else "see its settings and the rights on it"
    return RecordRefused(f"the broker refuses what is written to {topic or 'a topic'}: {error.str()}; {mend}")


class Deliveries:
    """Listens to what becomes of produced records; keeps the first failure, with its topic."""

    def __init__(self) -> None:
        self.failed: tuple[KafkaError, str] | None = None

    def __call__(self, error: KafkaError | None, message: Any) -> None:
        purged = KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT  # what an aborted transaction takes with it
        if error is not None and self.failed is None and error.code() not in purged:
            self.failed = error, message.topic()

    def check(self) -> None:
        """Raises RecordRefused where a record would be refused again, KafkaException where another thing went wrong."""
        if self.failed is not None:
            raise refused(*self.failed) or KafkaException(self.failed[0])

    @contextmanager
    def refusals(self, producer: Any) -> Iterator[None]:
        """Makes RecordRefused of a failure of what `producer` sends meanwhile that could only repeat.

        The next call of a transaction fails ("erroneous state") before the client has said which record was refused:
        so it is listened to first.
        """
        try:
            yield
        except KafkaException as error:
            self._wait_for_report(producer)
            for cause in (self.failed, (error.args[0], "")):
                if cause is not None and (refusal := refused(*cause)):
                    raise refusal from error
            raise

    def _wait_for_report(self, producer: Any) -> None:
        deadline = time.monotonic() + REPORT_TIMEOUT_S
        with suppress(*_TOLD_AGAIN):
            while self.failed is None and len(producer) and time.monotonic() < deadline:
                producer.poll(0.05)
