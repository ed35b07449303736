"""`freshet rules`: what may be listed, what counts more, what stands where; checked, put in force, taken back."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from consumers.counted import counted
from consumers.log import Log
from streamer.cli.flags import add_actions, add_json_flag, add_setting_flags, settings_of
from streamer.cli.numbers import count
from streamer.cli.rule_files import items_of_topic, read_rule_file, say_warnings
from streamer.errors import RulesRefused, StateUnreadable, UsageError
from streamer.lists.rule_records import RulesRecord
from streamer.lists.rules import Rules
from streamer.lists.rules_on_log import apply_rules, read_all_rules
from streamer.runtime.clock import SYSTEM_CLOCK
from streamer.runtime.topics import open_existing_log
from streamer.settings import Settings

EXAMPLE = "freshet rules apply rules.yaml"
ACTIONS = {
    "apply": "check the rules in FILE, one object or several, as JSON or YAML, and put them in force",
    "ls": "list the rules in force by surface",
    "test": "show the lists of some users as they are, and as the rules in FILE would make them; changes nothing",
    "history": "list every version of the rules of SURFACE, or of all, that the topic has, the newest first",
    "rollback": "put the VERSION of SURFACE in force again, by default the one before the current one",
    "rm": "take the rules of SURFACE away; they stay among the versions of before",
}
TAKES = {"apply": (1, 1), "ls": (0, 0), "test": (1, 1), "history": (0, 1), "rollback": (1, 2), "rm": (1, 1)}
NEEDS = {
    "apply": "a FILE",
    "ls": "no more",
    "test": "a FILE",
    "history": "at most a SURFACE",
    "rollback": "a SURFACE, and the first four digits of a VERSION or more, where that is not the one before",
    "rm": "a SURFACE",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_actions(parser, ACTIONS)
    parser.add_argument(
        "what",
        nargs="*",
        metavar="FILE | SURFACE [VERSION]",
        help="file of rules (- for standard input), or name of a surface, with a version of its rules for `rollback`",
    )
    parser.add_argument("--user", action="append", metavar="ID", help="user whose lists `test` shows")
    parser.add_argument(
        "--context",
        type=_context,
        action="append",
        metavar="NAME=VALUE",
        help="where and how the lists of `test` are asked for, such as device=phone; may be there several times",
    )
    parser.add_argument("--places", type=count, metavar="N", help="number of places that `test` shows (default: all)")
    add_setting_flags(parser, "bootstrap", "log", "state", "application")
    add_json_flag(parser)


def _context(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=VALUE, such as device=phone")
    return name, value


def run(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    least, most = TAKES[arguments.action]
    if not least <= len(arguments.what) <= most:
        raise UsageError(f"rules {arguments.action} takes {NEEDS[arguments.action]}")
    if (arguments.action == "test") != bool(arguments.user):
        raise UsageError("rules test needs --user ID" if arguments.action == "test" else "--user is for rules test")
    if arguments.context and arguments.action != "test":
        raise UsageError("--context is for rules test")
    every = read_rule_file(arguments.what[0]) if arguments.action in ("apply", "test") else ()
    with open_existing_log(settings) as log:
        if arguments.action == "apply":
            return _apply(log, settings, every, arguments.json)
        if arguments.action == "test":
            return _test(log, settings, every, arguments)
        told, position = read_all_rules(log, settings)
        if position is None:
            _say(f"there is no topic {settings.rules_topic} yet; `freshet rules apply FILE` makes it")
        for surface, why in told.unreadable.items():
            _say(f"the newest record of {surface!r} is no rules, those before stay in force: {why}")
        if arguments.action == "rollback":
            rules = _earlier(told.records, *arguments.what)
            return _apply(log, settings, [rules], arguments.json)
        if arguments.action == "rm":
            return _apply(log, settings, [_record_of(told.records, arguments.what[0]).removed()], arguments.json)
        return _list(told.records, arguments)


def _apply(log: Log, settings: Settings, every: Sequence[Rules], as_json: bool) -> int:
    known = items_of_topic(log, settings)
    known.check(every)
    new = {version.rules.surface for version in apply_rules(log, settings, every, SYSTEM_CLOCK.now_ms())}
    told = [{"surface": rules.surface, "version": rules.version(), "changed": rules.surface in new} for rules in every]
    warnings = known.warnings(every, settings.surface)
    say_warnings(warnings)
    if as_json:
        print(json.dumps({"applied": told, "warnings": warnings}))
    else:
        for rules in every:
            print(f"{rules.surface}  {rules.version()}  {_done(rules, rules.surface in new)}")
    return 0


def _done(rules: Rules, changed: bool) -> str:
    """What putting rules in force has done."""
    if rules.say_nothing():
        return "without rules from the next epoch on" if changed else "unchanged: it has no rules"
    return "in force from the next epoch on" if changed else "unchanged: these rules are in force"


def _list(records: Mapping[str, RulesRecord], arguments: argparse.Namespace) -> int:
    wanted = arguments.what[0] if arguments.what else None
    chosen = [record for _, record in sorted(records.items())] if wanted is None else [_record_of(records, wanted)]
    history = arguments.action == "history"
    rows = [version for record in chosen for version in (record.versions() if history else (record.now,))]
    if arguments.json:
        print(json.dumps({"rules": [{"surface": one.rules.surface, **one.as_json()} for one in rows]}))
        return 0
    for one in rows:
        mark = ("* " if one is next(r.now for r in chosen if r.surface == one.rules.surface) else "  ") * history
        print(f"{mark}{one.rules.surface}  {one.version}  {_when(one.since_ms)}  {_in_words(one.rules)}")
    if not rows:
        print("there are no rules")
    return 0


def _record_of(records: Mapping[str, RulesRecord], surface: str) -> RulesRecord:
    """What the topic says of a surface. Raises UsageError where there are no rules of it."""
    if surface not in records:
        known = f"surfaces with rules are {', '.join(sorted(records))}" if records else "no surface has rules"
        raise UsageError(f"there are no rules of {surface!r}; {known}")
    return records[surface]


def _earlier(records: Mapping[str, RulesRecord], surface: str, wanted: str | None = None) -> Rules:
    try:
        return _record_of(records, surface).earlier(wanted)
    except RulesRefused as refused:
        raise UsageError(str(refused)) from None


def _test(log: Log, settings: Settings, every: Sequence[Rules], arguments: argparse.Namespace) -> int:
    from streamer.asking.answers import Answers
    from streamer.asking.questions import PreviewQuestion, RulesQuestion
    from streamer.state.stream_state import StreamState
    from streamer.worker.node_topics import restore_catalogue

    state = StreamState(settings, log.stored_state(settings.application).pages)
    if not state.load():
        raise StateUnreadable("there is no checkpoint yet; `freshet run` makes one")
    restore_catalogue(log, settings, state)
    answers, told, warnings = Answers(state, state.settings, SYSTEM_CLOCK), [], list[dict[str, str]]()
    for rules in every:
        checked = json.loads(answers.answer(RulesQuestion(rules=rules)).body)
        if "error" in checked:
            raise RulesRefused(checked["error"]["message"], checked["error"].get("field"))
        found = checked["warnings"]
        warnings += [{"surface": rules.surface, **warning} for warning in found]
        for user in arguments.user:
            question = PreviewQuestion(
                user_id=user, rules=rules, k=arguments.places, fields=["title"], context=dict(arguments.context or ())
            )
            answer = json.loads(answers.answer(question).body)
            if "error" in answer:
                raise UsageError(answer["error"]["message"])
            told.append(answer)
    say_warnings(warnings)
    if arguments.json:
        print(json.dumps({"epoch": state.epoch, "lists": told, "warnings": warnings}))
        return 0
    print(f"as of epoch {state.epoch}, the last that is in the checkpoint:")
    for one in told:
        print("\n".join(_lists_in_words(one)))
    return 0


def _lists_in_words(told: Mapping[str, Any]) -> list[str]:
    before, after = ([item["item_id"] for item in told[which]["items"]] for which in ("before", "after"))
    lines = [f"{told['user_id']} on {told['surface']}: {counted(len(before), 'place')}, {len(after)} by these rules"]
    titles = {item["item_id"]: item.get("title") for item in told["after"]["items"]}
    for place, item in enumerate(after, 1):
        was = f"was {before.index(item) + 1}" if item in before else "new"
        moved = "" if was == f"was {place}" else f"  ({was})"
        lines.append(f"  {place:>3}  {item}{'  ' + titles[item] if titles[item] else ''}{moved}")
    if gone := [item for item in before if item not in after]:
        lines.append(f"  gone: {', '.join(gone)}")
    return lines


def _in_words(rules: Rules) -> str:
    """What there is, on one line."""
    said = {name: value for name, value in rules.text().items() if name != "surface"}
    return json.dumps(said, ensure_ascii=False) if said else "no rules"


def _when(since_ms: int) -> str:
    return f"{datetime.fromtimestamp(since_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}Z" if since_ms else "-"


def _say(text: str) -> None:
    print(f"freshet: {text}", file=sys.stderr)
