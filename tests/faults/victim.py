"""A worker's process that ends itself at an effect of the commit protocol, as a crash would: no handler runs.

`python -m tests.faults.victim SETTINGS EFFECT N`: SETTINGS is a TOML file; it ends at the Nth time that EFFECT has
happened, or "-" for never; then it prints the digest of its state. A fourth argument "stay": it stays at the log's end;
"freeze": it is `freshet run`, and stops at the effect until somebody wakes it.
"""

import os
import signal
import sys
from contextlib import closing
from pathlib import Path

from consumers import crash_points
from streamer.cli.main import main as run_command
from streamer.ops.audit import digest
from streamer.runtime.topics import open_log_of
from streamer.settings import Settings
from streamer.worker.worker import Worker

CRASHED = 137


def main() -> None:
    """Works to the end of the log."""
    settings, effect, left = Settings.load(Path(sys.argv[1])), sys.argv[2], [int(sys.argv[3])]
    mode = sys.argv[4] if len(sys.argv) > 4 else ""

    def listener(happened: str) -> None:
        left[0] -= happened == effect
        if happened == effect and left[0] == 0:
            if mode == "freeze":
                os.kill(os.getpid(), signal.SIGSTOP)
            else:
                os._exit(CRASHED)

    crash_points.listen(listener)
    if mode == "freeze":
        sys.exit(run_command(["run"]))
    with closing(open_log_of(settings)) as log, closing(Worker.open(log, settings)) as worker:
        worker.run(exit_at_end=mode != "stay")
        print(digest(worker.state), flush=True)


if __name__ == "__main__":
    main()
