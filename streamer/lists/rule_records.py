"""Records of the topic of rules: those of a surface, and what they were before."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from consumers.decode_fields import UNDECODABLE, why_undecodable
from consumers.records import RECORD_BYTES, NewRecord, size_of
from streamer.errors import RulesRefused
from streamer.lists.filters.compiled import compile_filter
from streamer.lists.filters.conditions import check_condition
from streamer.lists.filters.syntax import FilterError
from streamer.lists.rule_warnings import conditions_of
from streamer.lists.rules import Rules, first_problem

LEAST_DIGITS = 4  # of a version that is named by the first of them
MOST_BEFORE = 50  # versions that a record keeps of before
_OURS = ("version", "since_ms", "before")  # fields of a record beside those of the rules


class RuleVersion(NamedTuple):
    """The rules of a surface at one time. `since_ms`: when they were applied, by the wall clock; 0: nobody knows."""

    version: str
    since_ms: int
    rules: Rules

    def as_json(self) -> dict[str, Any]:
        return {"version": self.version, "since_ms": self.since_ms, "rules": self.rules.text()}


class RulesRecord(NamedTuple):
    """What the topic says of a surface."""

    now: RuleVersion
    before: tuple[RuleVersion, ...] = ()  # the newest first

    @property
    def surface(self) -> str:
        return self.now.rules.surface

    def versions(self) -> tuple[RuleVersion, ...]:
        """All that are known, the newest first."""
        return (self.now, *self.before)

    def earlier(self, version: str | None = None) -> Rules:
        """The rules of a version of before, given by its first digits; None: the last that were others than these.

        An experiment is no part of them: it begins and ends by itself.

        Raises RulesRefused where there is none, where it may be several, or where too little of it is given.
        """
        if version is None:
            found = [
                one for one in self.before if one.rules.without_experiment() != self.now.rules.without_experiment()
            ]
        else:
            if len(version) < LEAST_DIGITS:
                raise RulesRefused(f"{version}: give at least {LEAST_DIGITS} digits of a version", "version")
            found = [one for one in self.before if one.version.startswith(version)]
        if not found:
            known = ", ".join(one.version for one in self.before) or "none"
            wanted = version or "before this one"
            raise RulesRefused(f"the rules of {self.surface!r} have no version {wanted}; before it: {known}", "version")
        if version is not None and len(names := {one.version for one in found}) > 1:
            raise RulesRefused(f"{version} may be {' or '.join(sorted(names))}: give more of it", "version")
        return found[0].rules

    def removed(self) -> Rules:
        """Rules that say nothing: they take those of the surface away, which stay among the versions of before."""
        return Rules(surface=self.surface)

    def in_force(self) -> dict[str, Any]:
        """What manifests and the state hold of it."""
        return {"version": self.now.version, "rules": self.now.rules.text()}


def read_rules(value: Any) -> Rules:
    """Rules, of an object as JSON or YAML has it. Raises RulesRefused with the field and what is wrong with it."""
    try:
        return Rules.model_validate(value)
    except ValidationError as error:
        field, message = first_problem(error, Rules)
        raise RulesRefused(f"{field}: {message}" if field else message, field) from None


def read_rules_to_apply(value: Any) -> Rules:
    """The same of rules that are to be in force: an empty object is a mistake. Raises RulesRefused."""
    if value == {}:
        raise RulesRefused('they say nothing; {"surface": "default"} alone takes the rules of that surface away')
    rules = read_rules(value)
    if rules.experiment is not None:
        why = "a file of rules has none: leave it out, `freshet experiment start NAME` puts it there"
        raise RulesRefused(f"experiment: {why}", "experiment")
    check_texts(rules)
    return rules


def check_texts(rules: Rules, inside: str = "") -> None:
    """Raises RulesRefused where a condition takes for true or false what is none, whatever items there are.

    Rules of before are read all the same: they were in force. inside: the place of the rules, such as `arms.1.`.
    """
    for field, text in conditions_of(rules):
        try:
            check_condition(compile_filter(text))
        except FilterError as error:
            raise RulesRefused(f"{inside}{field}: {error}", f"{inside}{field}") from None


def read_record(key: bytes | None, value: bytes) -> RulesRecord:
    """A record of the topic; one that another program wrote may be the rules alone. Raises RulesRefused."""
    try:
        told = json.loads(value)
    except UNDECODABLE as error:
        raise RulesRefused(f"it is no JSON: {why_undecodable(error)}") from None
    if not isinstance(told, dict):
        raise RulesRefused("it is no JSON object")
    rules = read_rules({name: part for name, part in told.items() if name not in _OURS})
    if key != rules.surface.encode():
        raise RulesRefused(f"its key is no {rules.surface!r}, which is the surface of its rules", "surface")
    before = []
    for entry in told.get("before") or ():
        try:
            past = read_rules(entry["rules"])
            before.append(RuleVersion(past.version(), int(entry["since_ms"]), past))
        except (RulesRefused, KeyError, TypeError, ValueError):
            continue  # of a version that knew other rules: nobody can go back to it
    since_ms = told.get("since_ms")
    return RulesRecord(RuleVersion(rules.version(), since_ms if isinstance(since_ms, int) else 0, rules), tuple(before))


def write_record(topic: str, rules: Rules, now_ms: int, last: RulesRecord | None) -> NewRecord | None:
    """The record that puts rules in force; None: they are in force.

    last: what the topic says of the surface now.
    """
    if last is not None and last.now.version == rules.version():
        return None
    before = [] if last is None else [version.as_json() for version in last.versions()]
    own: Mapping[str, Any] = rules.text() | {"version": rules.version(), "since_ms": now_ms}
    for kept in range(min(len(before), MOST_BEFORE), -1, -1):
        value = json.dumps({**own, "before": before[:kept]}).encode()
        record = NewRecord(topic, rules.surface.encode(), value, partition=0)
        if size_of(record) < RECORD_BYTES or not kept:
            return record
    raise AssertionError
