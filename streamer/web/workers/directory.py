"""Which worker answers for which user, as the topic of workers tells."""

import asyncio
import itertools
from typing import NamedTuple

from consumers.partitioner import partition_of
from consumers.schemas import WorkerAddress

LOOK_EVERY_S = 0.02
SILENT_MS = 6_000  # three times as long as between two words of a worker
AWAY_MS = 15_000  # one whose last word is so much older than another's is not asked what any worker could answer


class _Claim(NamedTuple):
    address: str
    partitions: frozenset[int]
    of: int
    at_ms: int


class WorkerDirectory:
    """Keeps what workers say of themselves. One thread notes it, any thread may ask."""

    def __init__(self) -> None:
        self._claims: dict[str, _Claim] = {}  # seat → its last; never changed, but replaced
        self._turn = itertools.count()

    def note(self, seat: str, said: WorkerAddress | None) -> None:
        """Takes what the worker of a seat says; None: it is there no more."""
        claims = {name: claim for name, claim in self._claims.items() if name != seat}
        if said is not None:
            claims[seat] = _Claim(said.address, frozenset(said.partitions), said.of, said.at_ms)
        self._claims = claims

    def addresses(self) -> dict[str, list[int]]:
        """Address → partitions of each worker that is known."""
        return {claim.address: sorted(claim.partitions) for claim in self._claims.values()}

    def ownerless(self) -> list[int]:
        """Partitions that no worker says it has, of those that spoke lately."""
        claims = list(self._claims.values())
        newest = max((claim.at_ms for claim in claims), default=0)
        lately = [claim for claim in claims if claim.at_ms > newest - SILENT_MS]
        owned = frozenset[int]().union(*(claim.partitions for claim in lately))
        return [one for one in range(max((claim.of for claim in claims), default=0)) if one not in owned]

    def address_of(self, user: str | None, but: str | None = None) -> str | None:
        """The address of the worker that owns a user's partition; without a user those of all in turn.

        Where two claim a partition the later claim counts. `but`: an address that was wrong.
        """
        claims = [claim for claim in self._claims.values() if claim.address != but]
        if user is None:
            newest = max((claim.at_ms for claim in claims), default=0)
            claims = [claim for claim in claims if claim.at_ms > newest - AWAY_MS]
            return claims[next(self._turn) % len(claims)].address if claims else None
        key = user.encode()
        owners = [claim for claim in claims if claim.of and partition_of(key, claim.of) in claim.partitions]
        return max(owners, key=lambda claim: claim.at_ms).address if owners else None

    async def look_again(self, user: str | None, but: str, patience_s: float) -> str | None:
        """Another address than `but`, as soon as one is known, or None after `patience_s`."""
        deadline = asyncio.get_running_loop().time() + patience_s
        while (address := self.address_of(user, but)) is None and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(LOOK_EVERY_S)
        return address
