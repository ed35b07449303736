"""Counts in messages for people."""

_OF_ONE = {"are": "is", "were": "was", "have": "has", "do": "does"}


def counted(n: int, noun: str, plural: str = "", verb: str = "") -> str:
    """A count with its noun, and its verb: "1 partition", "2,000 partitions", "1 list is".

    Args:
        n: how many.
        noun: what one of them is called.
        plural: what several are called, where that is not the noun with an s.
        verb: what several do, see `agreeing`.
    """
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}" + (f" {agreeing(n, verb)}" if verb else "")


def agreeing(n: int, verb: str) -> str:
    """A verb, as several do it, for n of them.

    >>> agreeing(2, "are"), agreeing(1, "are"), agreeing(1, "lie")
    ('are', 'is', 'lies')
    """
    return verb if n != 1 else _OF_ONE.get(verb, verb + "s")
