"""What the log says of an epoch, so that it can be taken again."""

from collections.abc import Mapping, Sequence

import msgspec

from consumers.dead_letter import DeadLetter, Reason
from consumers.decode_fields import UNDECODABLE
from consumers.positions import by_topic
from consumers.schemas import EpochManifest
from streamer.pipeline.epoch import CommittedBlock, EpochInput, Erasure
from streamer.state.stream_state import StreamState

OF_THE_MOMENT = (Reason.FUTURE_TIMESTAMP, Reason.OTHER_WORKER, Reason.UNKNOWN_SCHEMA)
"""Why a record is refused that may be taken at another time."""
_decode = msgspec.json.Decoder(EpochManifest).decode


def decode_manifest(value: bytes | None) -> EpochManifest | None:
    """The manifest in a record of the topic of epochs; None where it is none: anybody may write there."""
    try:
        return _decode(value or b"")
    except UNDECODABLE:
        return None


def manifest(
    epoch: EpochInput,
    state: StreamState,
    worker: str,
    repaired: bool,
    erased: Sequence[Erasure],
    sessions_erased: Mapping[str, Sequence[bytes]],
) -> EpochManifest:
    """The manifest of an epoch that a state has taken.

    Args:
        worker: whose epoch it is.
        repaired: whether the graph followed what was taken back or came late.
        erased: the users who were erased.
        sessions_erased: the digests of the sessions of each, by the user's id.
    """
    refused = dict[str, list[int]]()
    for arrival in epoch.arrivals:
        if isinstance(arrival.payload, DeadLetter) and arrival.payload.reason in OF_THE_MOMENT:
            refused.setdefault(str(arrival.partition), []).append(arrival.offset)
    for record in (letter.record for letter in epoch.dead if letter.reason in OF_THE_MOMENT):
        refused.setdefault(f"{record.topic}/{record.partition}", []).append(record.offset)
    void, erased_at, of_sessions = dict[str, dict[str, int]](), dict[str, int](), dict[str, list[str]]()
    for erasure in erased:
        digest = erasure.digest or state.digest_user(erasure.user_id)
        _, before = (state.erased_by_name if erasure.by_name else state.erased)[digest]
        void[digest.hex()] = {str(p): end for p, end in before.items()}
        erased_at[digest.hex()] = erasure.at_ms
        if found := sessions_erased.get(erasure.user_id):
            of_sessions[digest.hex()] = [one.hex() for one in found]
    return EpochManifest(
        epoch=state.epoch,
        ends=by_topic(epoch.ends),
        events=len(epoch.arrivals),
        refused=refused,
        knows_schemas=True,
        repaired=repaired,
        erased=void,
        worker=worker,
        adopted=epoch.adopted,
        released=list(epoch.released),
        regained=list(epoch.regained),
        embeddings=epoch.embeddings,
        settings=epoch.settings,
        erased_at=erased_at,
        repair_size=epoch.repair_size if repaired else 0,
        now_ms=epoch.now_ms,
        aged=list(epoch.aged),
        rules=None if epoch.rules is None else dict(epoch.rules),
        sessions_erased=of_sessions,
        shared=epoch.shared,
        observed=_observed(epoch.observed),
        keeps=epoch.keeps,
        learned=[at for at, _ in epoch.learned],
    )


def _observed(blocks: Sequence[CommittedBlock]) -> dict[str, tuple[int, int, int]]:
    """The first and the next offset of the blocks of each partition, and the offset that they reach."""
    found = dict[str, tuple[int, int, int]]()
    for partition, at, block in blocks:
        first, _, end = found.get(str(partition), (at, 0, 0))
        found[str(partition)] = first, at + 1, max(end, block.end)
    return found
