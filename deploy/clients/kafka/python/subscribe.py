"""Prints each user's newest list, and each that follows: python subscribe.py BOOTSTRAP [TOPIC]"""

import json
import sys
import uuid

from confluent_kafka import Consumer

bootstrap, topic = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "recommendations"
consumer = Consumer(
    {
        "bootstrap.servers": bootstrap,
        "group.id": f"lists-{uuid.uuid4().hex}",  # every reader gets all lists
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
    }
)
consumer.subscribe([topic])
try:
    while True:
        record = consumer.poll(1.0)
        if record is None:
            continue
        if record.error():
            sys.exit(str(record.error()))
        user, value = record.key().decode(), record.value()
        items = None if value is None else [item["item_id"] for item in json.loads(value)["items"]]
        print(json.dumps({"user_id": user, "items": items}), flush=True)
except KeyboardInterrupt:
    pass
finally:
    consumer.close()
