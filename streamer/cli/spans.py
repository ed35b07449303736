"""Spans of time, moments and factors of speed, as flags give them."""

import re

from consumers.decode_fields import Refused, parse_iso
from streamer.errors import UsageError

_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def span_ms(flag: str, text: str) -> int:
    """Milliseconds of such as 90d, 12h, 30m, 10s. Raises UsageError."""
    found = re.fullmatch(r"(\d+)([smhd])", text)
    if not found or not int(found[1]):
        raise UsageError(f"{flag} got {text!r}: a number and s, m, h or d, such as 90d")
    return int(found[1]) * _UNITS_MS[found[2]]


def moment_ms(flag: str, text: str) -> int:
    """Epoch ms of a time in ISO 8601 or epoch ms. Raises UsageError."""
    try:
        return int(text) if text.isdecimal() else parse_iso(text)
    except Refused:
        raise UsageError(f"{flag} got {text!r}: a time such as 2026-01-31, 2026-01-31T10:00:00Z or epoch ms") from None


def parse_speed(text: str) -> float | None:
    """Event time per wall time; None: as fast as it goes. Raises UsageError."""
    if text == "max":
        return None
    try:
        speed = float(text.removesuffix("x"))
        if speed > 0:
            return speed
    except ValueError:
        pass
    raise UsageError(f"--speed got {text!r}: max, or a factor such as 10x")
