"""Writes interactions, one JSON object a line of stdin: python produce.py BOOTSTRAP [TOPIC]"""

import json
import sys
import uuid

from confluent_kafka import KafkaError, Message, Producer


def refuse(error: KafkaError | None, _: Message) -> None:
    """Called for each record once the brokers have it, or will not have it."""
    if error is not None:
        sys.exit(f"not written: {error}")


bootstrap, topic = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "interactions"
producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5})
for line in sys.stdin:
    event = {"event_id": uuid.uuid4().hex, **json.loads(line)}
    while True:
        try:
            producer.produce(topic, json.dumps(event), key=event["user_id"], on_delivery=refuse)
            break
        except BufferError:  # the queue is full: wait until some of it is written
            producer.poll(0.1)
    producer.poll(0)
producer.flush()
