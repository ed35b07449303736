"""When a call is made again, and after which time: no input, no output, for the client of either kind."""

import random
from collections.abc import Generator
from typing import Any

import httpx

from freshet_client.errors import Refused, Unreachable

PASSING = frozenset({429, 502, 503, 504})
FIRST_S, LONGEST_S = 0.2, 10.0

Attempts = Generator[float, httpx.Response | httpx.TransportError, Any]
"""Gives the time to wait before each try, s, and is sent what came of it. Its value is the answer."""


def attempts(retries: int) -> Attempts:
    """The tries of one call. Raises Refused and Unreachable."""
    outcome = yield 0.0
    for n in range(retries):
        if not _may_pass(outcome):
            break
        outcome = yield wait_s(n, outcome)
    if isinstance(outcome, httpx.TransportError):
        raise Unreachable(str(outcome) or type(outcome).__name__) from outcome
    if outcome.is_success:
        return outcome.json() if outcome.content else None
    raise refusal(outcome)


def wait_s(n: int, outcome: httpx.Response | httpx.TransportError) -> float:
    """What the server asks for, else a time that doubles with each try, by chance less: clients come apart."""
    asked = outcome.headers.get("retry-after", "") if isinstance(outcome, httpx.Response) else ""
    grown = min(FIRST_S * 2**n, LONGEST_S)
    return min(float(asked), LONGEST_S) if asked.isdigit() else grown * random.uniform(0.5, 1)


def longer(timeout: httpx.Timeout, more_s: float) -> httpx.Timeout:
    """The same limits, with more time for an answer to come."""
    read_s = None if timeout.read is None else timeout.read + more_s
    return httpx.Timeout(connect=timeout.connect, read=read_s, write=timeout.write, pool=timeout.pool)


def refusal(response: httpx.Response) -> Refused:
    """The error of an answer, whoever gave it: a proxy may answer in another form."""
    try:
        told = response.json()["error"]
        return Refused(response.status_code, told["code"], told["message"], told.get("field"))
    except (ValueError, KeyError, TypeError):
        return Refused(response.status_code, "unknown", response.text[:200] or response.reason_phrase)


def _may_pass(outcome: httpx.Response | httpx.TransportError) -> bool:
    return isinstance(outcome, httpx.TransportError) or outcome.status_code in PASSING
