"""`freshet experiment`: ways of making lists, compared on shares of the users."""

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from consumers.log import Log
from streamer.cli.flags import add_actions, add_json_flag, add_setting_flags, settings_of
from streamer.cli.numbers import count
from streamer.cli.rule_files import KnownItems, items_of_topic, read_object_file
from streamer.errors import UsageError
from streamer.runtime.clock import SYSTEM_CLOCK
from streamer.runtime.optional_packages import require
from streamer.runtime.topics import open_existing_log
from streamer.settings import Settings

if TYPE_CHECKING:
    from streamer.experiments.experiment_records import ExperimentRecord

EXAMPLE = "freshet experiment create price.yaml"
ACTIONS = {
    "create": "check the experiment in FILE, JSON or YAML, and write it down",
    "shadow": "have the models of NAME learn beside the live one, measured and not shown",
    "start": "have NAME run from the next epoch on",
    "stop": "end NAME; its users get the lists of everybody again",
    "status": "list experiments and their states, or show NAME",
    "groups": "say a record of each user with FIELD, the group of users who take the same items",
    "report": "say what NAME has shown so far, with intervals, and how many users are missing",
}
TAKES = dict.fromkeys(ACTIONS, (1, 1)) | {"status": (0, 1)}
TAKEN = {"create": "a FILE", "groups": "a FIELD"}
GROUPS = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_actions(parser, ACTIONS)
    parser.add_argument(
        "what", nargs="*", metavar="FILE | NAME | FIELD", help="file of an experiment, its name, or a field of users"
    )
    parser.add_argument("--number", type=count, metavar="N", help="groups to find (default 100); see experiment groups")
    parser.add_argument("--html", type=Path, metavar="FILE", help="file to write the report to, as a page of HTML")
    add_setting_flags(parser, "bootstrap", "log", "state", "application")
    add_json_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    from streamer.experiments import experiment_records as records
    from streamer.lists.rules import Rules

    settings, action = settings_of(arguments), arguments.action
    least, most = TAKES[action]
    if not least <= len(arguments.what) <= most:
        raise UsageError(f"experiment {action} takes {TAKEN.get(action, 'a NAME')}")
    if arguments.html and action != "report":
        raise UsageError("--html is for experiment report")
    if arguments.number and action != "groups":
        raise UsageError("--number is for experiment groups")
    wanted = records.read_experiment(read_object_file(arguments.what[0])) if action == "create" else None
    now_ms = SYSTEM_CLOCK.now_ms()
    with open_existing_log(settings) as log:
        if wanted is not None:
            known = items_of_topic(log, settings)
            for n, arm in enumerate(wanted.arms):
                known.check([Rules(surface=wanted.surface).of_arm(arm)], f"arms.{n}.")
            record, how = records.create(log, settings, wanted, now_ms)
            _warn(log, settings, record, known)
            _print([record], arguments.json, how)
        elif action == "groups":
            _say_groups(log, settings, arguments.what[0], arguments.number or GROUPS)
        elif action in ("shadow", "start", "stop"):
            change = {"shadow": records.shadow, "start": records.start, "stop": records.stop}[action]
            before = _named(records.experiments(log, settings), arguments.what[0])
            record = change(log, settings, arguments.what[0], now_ms)
            _print([record], arguments.json, "changed" if before != record else "unchanged")
        else:
            every = records.experiments(log, settings)
            chosen = [_named(every, arguments.what[0])] if arguments.what else [one for _, one in sorted(every.items())]
            if action == "status":
                _print(chosen, arguments.json)
            else:
                _report(log, settings, chosen[0], arguments)
    return 0


def _named(every: "Mapping[str, ExperimentRecord]", name: str) -> "ExperimentRecord":
    """The experiment of this name. Raises UsageError where there is none."""
    if name not in every:
        raise UsageError(f"there is no experiment {name!r}; there are: {', '.join(sorted(every)) or 'none'}")
    return every[name]


def _say_groups(log: Log, settings: Settings, field: str, number: int) -> None:
    """A line of JSON for each user, to be sent as records of users."""
    require("graph", "pymetis")
    from streamer.experiments.graph_groups import groups_of_topic, records_with_groups

    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", field):
        raise UsageError(f"{field!r} is no name of a field; take letters, digits and _, such as circle")
    found = groups_of_topic(log, settings, number)
    for record in records_with_groups(log, settings, field, found):
        print(json.dumps(record))
    groups, share = len(set(found.group.tolist())), round(100 * found.within)
    said = f"{share} % of the interactions are with items that the user's group takes most of all"
    print(f"freshet: {len(found.users):,} users in {groups:,} groups; {said}", file=sys.stderr)


def _report(log: Log, settings: Settings, record: "ExperimentRecord", arguments: argparse.Namespace) -> None:
    from streamer.cli.experiment_page import experiment_page
    from streamer.experiments.in_words import as_json, in_words
    from streamer.experiments.report import newest_challengers, newest_results, report_of
    from streamer.runtime.whole_files import whole_file

    report = report_of(record, newest_results(log, settings), newest_challengers(log, settings))
    if arguments.html:
        with whole_file(arguments.html) as part:
            part.write_text(experiment_page(report), encoding="utf-8")
    print(json.dumps(as_json(report)) if arguments.json else "\n".join(in_words(report)))


def _warn(log: Log, settings: Settings, record: "ExperimentRecord", known: KnownItems) -> None:
    """What of an experiment can have no effect by what is known now."""
    from streamer.lists.rule_warnings import warnings_of_arms
    from streamer.lists.rules_on_log import read_all_rules

    if record.surface not in {settings.surface, *read_all_rules(log, settings)[0].records}:
        message = "no rules and no lists of it are known: its arms are for whoever asks for lists of it"
        print(f"freshet: warning: surface: {record.surface!r}: {message}", file=sys.stderr)
    for field, message in warnings_of_arms(
        record.surface, record.arms, known.columns, known.is_item, settings.surface, known.unknown
    ):
        print(f"freshet: warning: {field}: {message}", file=sys.stderr)


def _print(every: Sequence["ExperimentRecord"], as_json: bool, how: str | None = None) -> None:
    """The experiments; of one that is created, measured, started or stopped, `how` says what that did."""
    if as_json:
        print(json.dumps({"experiments": [one.text() for one in every]} | ({"how": how} if how else {})))
        return
    for one in every:
        arms = ", ".join(f"{arm.name} {arm.share:g}" for arm in one.arms)
        was = "there" if one.state == "created" else f"{one.state} before"
        before = {"unchanged": f" (unchanged: it was {was})"}
        if one.state == "created":
            before["changed"] = " (changed: it was there, and not started)"
        state = f"{one.state}{before.get(how or '', '')}"
        print(f"{one.name}  {state}  on {one.surface}  {arms}, holdback {one.holdback:g}")
        for stop in one.stops:
            print(f"  {stop.arm} was stopped by its guard of {stop.metric}")
    if not every:
        print("there are no experiments")
