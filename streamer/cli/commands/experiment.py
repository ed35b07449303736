"""`freshet experiment`: ways of making lists, compared on shares of the users."""

import argparse
import json
import time
from collections.abc import Sequence

from streamer.cli.flags import add_actions, add_json_flag, add_setting_flags, settings_of
from streamer.cli.rule_files import read_object_file
from streamer.errors import UsageError
from streamer.runtime.topics import open_existing_log

EXAMPLE = "freshet experiment create price.yaml"
ACTIONS = {
    "create": "check the experiment in FILE, JSON or YAML, and write it down",
    "start": "have NAME run from the next epoch on",
    "stop": "end NAME; its users get the lists of everybody again",
    "status": "list experiments and their states, or show NAME",
    "report": "say what NAME has shown so far, with intervals",
}
TAKES = {"create": (1, 1), "start": (1, 1), "stop": (1, 1), "status": (0, 1), "report": (1, 1)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_actions(parser, ACTIONS)
    parser.add_argument("what", nargs="*", metavar="FILE | NAME", help="file of an experiment, or its name")
    add_setting_flags(parser, "bootstrap", "log", "state", "application")
    add_json_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    from streamer.experiments import experiment_records as records
    from streamer.experiments.report import as_json, in_words, newest_results, report_of

    settings, action = settings_of(arguments), arguments.action
    least, most = TAKES[action]
    if not least <= len(arguments.what) <= most:
        raise UsageError(f"experiment {action} takes {'a FILE' if action == 'create' else 'a NAME'}")
    wanted = records.read_experiment(read_object_file(arguments.what[0])) if action == "create" else None
    now_ms = time.time_ns() // 1_000_000
    with open_existing_log(settings) as log:
        if wanted is not None:
            _print([records.create(log, settings, wanted, now_ms)], arguments.json)
        elif action in ("start", "stop"):
            change = records.start if action == "start" else records.stop
            _print([change(log, settings, arguments.what[0], now_ms)], arguments.json)
        else:
            every = records.experiments(log, settings)
            if arguments.what and arguments.what[0] not in every:
                known = ", ".join(sorted(every)) or "none"
                raise UsageError(f"there is no experiment {arguments.what[0]!r}; there are {known}")
            if action == "status":
                chosen = [every[arguments.what[0]]] if arguments.what else [one for _, one in sorted(every.items())]
                _print(chosen, arguments.json)
            else:
                report = report_of(every[arguments.what[0]], newest_results(log, settings))
                print(json.dumps(as_json(report)) if arguments.json else "\n".join(in_words(report)))
    return 0


def _print(every: Sequence[object], as_json: bool) -> None:
    told = [one.text() for one in every]  # type: ignore[attr-defined]
    if as_json:
        print(json.dumps({"experiments": told}))
        return
    for one in told:
        arms = ", ".join(f"{arm['name']} {arm['share']:g}" for arm in one["arms"])
        print(f"{one['name']}  {one['state']}  on {one['surface']}  {arms}, holdback {one['holdback']:g}")
    if not told:
        print("there are no experiments")
