"""Counts in messages for people."""


def counted(n: int, noun: str, plural: str = "") -> str:
    """A count with its noun: "1 partition", "2,000 partitions".

    Args:
        n: how many.
        noun: what one of them is called.
        plural: what several are called, where that is not the noun with an s.
    """
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"
