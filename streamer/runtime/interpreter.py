"""What a process that has to be quick asks of Python: few full collections, and threads that take turns often."""

import gc
import sys

TURN_S = 0.0005
YOUNG, MIDDLE, OLD = 20_000, 50, 1_000
"""After how many new objects, collections of these, and collections of those, the next generation is looked at."""


def freeze_heap() -> None:
    """Keeps the collector from what lives on: looking through a state again and again takes 200 ms each time.

    What an earlier call kept, and is garbage now, is collected first.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)


def hand_over_often() -> None:
    """Lets another thread run after half a millisecond: one that answers waits 5 ms by default."""
    sys.setswitchinterval(TURN_S)
