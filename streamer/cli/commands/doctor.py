"""`freshet doctor`: what is wrong around a worker, and how to mend it."""

import argparse
import json

from streamer.cli.flags import add_json_flag, add_setting_flags, settings_of
from streamer.cli.hints import completed

EXAMPLE = "freshet doctor --bootstrap localhost:9092 --state freshet-state"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_setting_flags(parser, "bootstrap", "log", "state", "application", "k", "exclude_seen", "seed", "window")
    add_json_flag(parser, "one JSON object a finding")


def run(arguments: argparse.Namespace) -> int:
    from streamer.ops.doctor import examine

    fine = True
    for finding in examine(settings_of(arguments)):
        fine = fine and finding.fine
        finding = finding._replace(found=completed(finding.found, arguments), mend=completed(finding.mend, arguments))
        if arguments.json:
            print(json.dumps(finding._asdict()), flush=True)
        else:
            mend = f" → {finding.mend}" if finding.mend else ""
            print(f"{'ok  ' if finding.fine else 'MEND'} {finding.check}: {finding.found}{mend}", flush=True)
    return 0 if fine else 1
