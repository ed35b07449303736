"""One peer over one stream in a process of its own, on one thread: python -m tests.benchmarks.run_peer STREAM PEER SCRATCH

Writes the lists, has them judged, prints one JSON object. SCRATCH is the folder for the lists.
"""

import json
import sys
from contextlib import suppress
from pathlib import Path

from streamer.runtime.progress import progress
from tests.benchmarks.judge import judge
from tests.benchmarks.peers import make_peer
from tests.benchmarks.protocol import plan_of, prequential, read_events, world_of, write_lists
from tests.benchmarks.streams import STREAMS


def main(stream_name: str, peer_name: str, scratch: Path) -> None:
    with suppress(ImportError):
        import torch

        torch.set_num_threads(1)
    stream = STREAMS[stream_name]
    file = stream.file(scratch)
    events = read_events(file)
    plan = plan_of(stream, events)
    peer = make_peer(peer_name, world_of(events, plan))
    with progress(f"{stream_name}: {peer_name}", len(events)) as advance:
        measured = prequential(peer, events, plan, advance)
    lists = scratch / f"{stream_name}.{peer_name}.lists.parquet"
    write_lists(lists, measured, events, plan)
    verdict = judge(stream, file, lists)
    lists.unlink()
    print(
        json.dumps(
            {
                **verdict,
                "events_per_second": round(len(measured.lists) / measured.measured_seconds, 1),
                "fit_seconds": round(measured.fit_seconds, 1),
                "refits": len(measured.refits),
                "refit_seconds": round(sum(measured.refits), 1),
                "refit_every_s": round(measured.refit_every_ms / 1000) if measured.refit_every_ms else None,
                "chosen": peer.described(),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
