"""Times in epoch seconds, given where epoch milliseconds are meant: taken as they are, and said once."""

from collections.abc import Iterable

SECONDS = range(100_000_000, 100_000_000_000)  # as epoch ms a day of January 1970 to March 1973, as epoch s 1973 on
DAY_MS = 86_400_000


def like_seconds(time_ms: float) -> bool:
    """Whether a time in epoch milliseconds is more likely one in seconds."""
    return SECONDS.start <= time_ms < SECONDS.stop


def all_like_seconds(times_ms: Iterable[int]) -> str | None:
    """When times are, taken as milliseconds, if every one of them is more likely in seconds; None if not."""
    times = sorted(times_ms)
    if not times or not (like_seconds(times[0]) and like_seconds(times[-1])):
        return None
    return f"{times[0] // DAY_MS} to {times[-1] // DAY_MS} days after 1970"
