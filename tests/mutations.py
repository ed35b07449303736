"""Bytes as a fault of a program or of a disk leaves them."""

from collections.abc import Sequence
from random import Random


def mutated(content: bytes, chance: Random, words: Sequence[bytes], others: Sequence[bytes]) -> bytes:
    """The content with a few bytes, words, or pieces of others put in, taken out or written over, or its end torn off."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        place = chance.randint(0, len(data))
        match chance.randint(0, 4):
            case 0:
                data[place : place + chance.randint(0, 12)] = b""
            case 1:
                data[place:place] = chance.choice(words)
            case 2:
                data[place : place + 1] = bytes([chance.randint(0, 255)])
            case 3:
                other = chance.choice(others)
                data[place : place + chance.randint(0, 20)] = other[chance.randint(0, len(other)) :][:60]
            case 4:
                data = data[:place] if chance.random() < 0.3 else data
    return bytes(data)
