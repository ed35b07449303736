"""The writes of the commit protocol by name, in their order, so that a test can end the process at each of them.

In production nobody listens and a name costs one comparison.
"""

from collections.abc import Callable

EMBEDDED = ("taken", "staged", "batched", "written", "settling")
KAFKA = ("taken", "begun", "first output", "outputs", "offsets", "committed", "checkpointed")
"""An epoch is taken; (1) a transaction is begun, (2) outputs and the manifest are produced, (3) the offsets sent,
(4) all of it committed; (5) the checkpoint is written. Besides: "revoked", a partition is to be given up."""

_listener: Callable[[str], None] | None = None


def listen(listener: Callable[[str], None] | None) -> None:
    """`listener` is told each effect right after it happened; None: nobody is."""
    global _listener  # one process, one protocol
    _listener = listener


def happened(effect: str) -> None:
    """Says that an effect of the protocol has happened."""
    if _listener is not None:
        _listener(effect)
