"""`freshet doctor`: what is wrong around a worker, and how to mend it."""

import argparse
import json
from contextlib import closing

from streamer.cli import add_setting_flags, settings_of
from streamer.errors import StateBusy
from streamer.logs import open_log_of, state_folder
from streamer.state_lock import StateLock

EXAMPLE = "freshet doctor --bootstrap localhost:9092 --state freshet-state"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_setting_flags(parser, "bootstrap", "log", "state", "application", "k", "exclude_seen", "seed", "window")
    parser.add_argument("--json", action="store_true", help="print one JSON object a finding")


def run(arguments: argparse.Namespace) -> int:
    from streamer.doctor import Finding, examine

    settings = settings_of(arguments)
    try:
        with StateLock(state_folder(settings)):
            findings = [Finding("state folder", True, f"{state_folder(settings)} is free")]
    except StateBusy:
        mend = "stop the worker to have the checkpoint looked at too"
        findings = [Finding("state folder", True, f"{state_folder(settings)}: a worker is at work; {mend}")]
    with closing(open_log_of(settings)) as log:
        findings += examine(log, settings)
    for finding in findings:
        if arguments.json:
            print(json.dumps(finding._asdict()))
        else:
            print(f"{'ok  ' if finding.fine else 'MEND'} {finding.check}: {finding.found}"
                  + (f". {finding.mend[0].upper()}{finding.mend[1:]}" if finding.mend else ""))  # fmt: skip
    return 0 if all(finding.fine for finding in findings) else 1
