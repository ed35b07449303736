"""What stands for the event id of an interaction."""

import hashlib


def digest_event_id(user_id: str, event_id: str) -> bytes:
    """16 bytes that stand for an event id of a user."""
    user = user_id.encode()
    return hashlib.blake2b(len(user).to_bytes(4, "big") + user + event_id.encode(), digest_size=16).digest()


def digest_unscoped(event_id: str) -> bytes:
    """The same as older checkpoints have it: of the id alone."""
    return hashlib.blake2b(event_id.encode(), digest_size=16).digest()


def id_of_record(partition: int, offset: int) -> str:
    """The id by which a retraction names a record that has none of its own."""
    return f"@{partition}-{offset}"
