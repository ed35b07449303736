"""A worker's process that ends itself at an effect of the commit protocol, as a crash would: no handler runs.

`python -m tests.faults.victim SETTINGS EFFECT N`: SETTINGS is a TOML file; it ends at the Nth time that EFFECT has
happened, or "-" for never; then it prints the digest of its state. A fourth argument: it stays at the log's end.
"""

import os
import sys
from contextlib import closing
from pathlib import Path

from consumers import effects
from streamer.audit import digest
from streamer.logs import open_log_of
from streamer.settings import Settings
from streamer.worker import Worker

CRASHED = 137


def main() -> None:
    """Works to the end of the log."""
    settings, effect, left = Settings.load(Path(sys.argv[1])), sys.argv[2], [int(sys.argv[3])]

    def listener(happened: str) -> None:
        left[0] -= happened == effect
        if happened == effect and left[0] == 0:
            os._exit(CRASHED)

    effects.listen(listener)
    with closing(open_log_of(settings)) as log, closing(Worker(log, settings)) as worker:
        worker.run(exit_at_end=len(sys.argv) < 5)
        print(digest(worker.state), flush=True)


if __name__ == "__main__":
    main()
