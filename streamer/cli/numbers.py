"""Types of flags that are numbers: the parser refuses a wrong one, before anything is done."""

import argparse
from collections.abc import Callable


def count(text: str, least: int = 1) -> int:
    """A whole number from `least` on. Raises ArgumentTypeError."""
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} on")
    return int(text)


def number(what: str, holds: Callable[[float], bool]) -> Callable[[str], float]:
    """A type of flags whose number `holds` accepts; what: its name and range, for who gives another one."""

    def parsed(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not holds(value):
            raise argparse.ArgumentTypeError(f"{text!r} is no {what}")
        return value

    return parsed


rate = number("number above 0", lambda value: 0 < value < float("inf"))
amount = number("number from 0 on", lambda value: 0 <= value < float("inf"))
share = number("share from 0 to below 1", lambda value: 0 <= value < 1)
part = number("share from 0 to 1", lambda value: 0 <= value <= 1)
quantile = number("quantile from 0 to 1", lambda value: 0 <= value <= 1)
confidence = number("confidence between 0 and 1", lambda value: 0 < value < 1)
