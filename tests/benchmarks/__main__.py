"""The measurements: python -m tests.benchmarks [quality] [speed] [render] [--streams a,b] [--peers x,y]

Without a part it measures all of them. Each part is kept in results/ as it is measured; RESULTS.md is rendered from
what is there, so a part can be measured again alone, and `render` measures nothing.
"""

import argparse
from importlib import import_module
from importlib.util import find_spec

from tests.benchmarks import quality, records, report
from tests.benchmarks.peers import PEERS
from tests.benchmarks.streams import STREAMS

PARTS = ("quality", "speed", "render")


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.benchmarks", description="Measures and writes RESULTS.md.")
    parser.add_argument("part", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--streams", type=_names, default=list(STREAMS), help=f"of {', '.join(STREAMS)}")
    parser.add_argument("--peers", type=_names, default=[], help=f"of freshet, ablations, {', '.join(PEERS)}")
    arguments = parser.parse_args()
    for name, known in (("part", PARTS), ("streams", STREAMS), ("peers", (quality.OURS, quality.ABLATIONS, *PEERS))):
        if unknown := [value for value in getattr(arguments, name) if value not in known]:
            parser.error(f"no {name} {', '.join(unknown)}; there are {', '.join(known)}")
    wanted = arguments.part or PARTS
    fine = quality.run(arguments.streams, arguments.peers) if "quality" in wanted else True
    if "speed" in wanted:
        _speed()
    report.RESULTS.write_text(report.render())
    print(f"wrote {report.RESULTS.relative_to(records.ROOT)}")
    return 0 if fine else 1


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _speed() -> None:
    name = f"{__package__}.speed"
    if find_spec(name) is None:
        print("speed: there is no tests/benchmarks/speed.py yet")
        return
    records.save("speed", {"part": "speed", "markdown": import_module(name).run()})


if __name__ == "__main__":
    raise SystemExit(main())
