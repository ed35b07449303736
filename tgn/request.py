"""What a list is asked for with: the arguments that every source of candidates and every feature read."""

from typing import NamedTuple


class Request(NamedTuple):
    """For whom, and as of when."""

    user: int  # node index
    now: int  # epoch ms
    exclude_seen: bool  # nothing that the user ever interacted with
    frozen: bool  # nothing is learned any more: the ranker's mean scores, and contexts are not read
    items: int  # how many item indices exist
