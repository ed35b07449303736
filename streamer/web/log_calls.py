"""Calls of the log for requests: whether it answers or not, a client is answered while it has patience."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from consumers.errors import LogUnavailable

Given = ParamSpec("Given")
Found = TypeVar("Found")


async def called_within(
    timeout_s: float, work: Callable[Given, Found], *given: Given.args, **named: Given.kwargs
) -> Found:
    """What `work` returns, in a thread. Raises LogUnavailable after `timeout_s`, and what `work` raises."""
    try:
        async with asyncio.timeout(timeout_s):
            return await asyncio.to_thread(work, *given, **named)
    except TimeoutError:
        raise LogUnavailable(f"the log has not answered for {timeout_s:g} s") from None
