"""A broker that answers late, as one under load does: no record is passed over."""

import os
import signal
import time
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition as KafkaPartition

from consumers.kafka.group import GroupReader
from consumers.kafka.log import KafkaLog
from consumers.records import NewRecord, Record, TopicPartition, TopicSpec
from tests import kafka_broker
from tests.waiting import until

pytestmark = pytest.mark.kafka
PARTITIONS, RECORDS = 12, 20


def test_a_partition_that_came_is_read_from_where_it_begins(tmp_path: Path, broker: kafka_broker.Broker) -> None:
    """Whatever the client has asked the broker before, and whenever it is answered."""
    log = KafkaLog(broker.bootstrap, tmp_path / "state", {}, True, "classic")
    log.create([TopicSpec("t", PARTITIONS)])
    log.append([NewRecord("t", None, b"", partition=n % PARTITIONS) for n in range(PARTITIONS * RECORDS)])
    committer = log.committer("app")
    member = log.subscribe(committer, {TopicPartition("t", p): 0 for p in range(PARTITIONS)})
    assert isinstance(member, GroupReader)
    came(member, 0)
    member.begin(TopicPartition("t", 0), 0)
    assert len(read_to_the_end(member, 0)) == RECORDS  # it has a connection now
    for partition in range(1, PARTITIONS):
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            came(member, partition)
            time.sleep(0.1 * (partition % 3))  # what is asked meanwhile is on its way, or not yet
            member.begin(TopicPartition("t", partition), 5)
            time.sleep(0.1 * (partition % 2))
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        read = read_to_the_end(member, partition)
        assert [record.offset for record in read] == [*range(5, RECORDS)]
    committer.close()
    log.close()


def came(member: GroupReader, partition: int) -> None:
    """The group gives a partition to a member, which has been told of it."""
    member._on_assign(member._consumer, [KafkaPartition("t", partition)])
    member._new.clear()
    member._deal_again = False  # it has joined no group that could deal


def read_to_the_end(member: GroupReader, partition: int) -> list[Record]:
    records: list[Record] = []
    until(lambda: records.extend(member.read(100, 0.1)) or TopicPartition("t", partition) in member.at_end())
    return records
