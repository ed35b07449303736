"""One tree of errors: what each does to the exit code, what the operator does, and which are tried again."""

import argparse
import ast
import builtins
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import consumers.errors
import streamer.errors
from consumers.errors import FreshetError, Transient
from streamer.cli.main import main
from streamer.runtime.supervisor import supervise
from tests.streamer.runtime.test_supervisor import Waits, opened

ROOT = Path(__file__).parents[2]
INSIDE = {  # what the module or its callers catch, so that it ends no command
    "BadRecord": "passed over and counted",
    "ApiError": "an answer over HTTP",
    "NotReady": "503 over HTTP",
    "QuestionRefused": "an answer over HTTP",
    "NobodyAnswers": "a published list, or 503 over HTTP",
    "NoWorkers": "the same, or 404",
    "WorkerAway": "NobodyAnswers, once another worker was asked",
    "_Elsewhere": "the same",
    "Locked": "LogBusy, or a folder of its own",
    "Damaged": "CheckpointDamaged, or ListsDamaged",
    "SeatKept": "the group is joined later",
    "SeatTaken": "Fenced",
    "Refused": "a dead letter",
    "FilterError": "an answer over HTTP, or a UsageError",
    "PagesDamaged": "CheckpointDamaged",
    "Unreadable": "passed over and said",
    "ToldToEnd": "the command ends, as it was told to",
    "ChildRefused": "`up` ends with 1; its process has said why",
}


def tree(of: type[FreshetError] = FreshetError) -> Iterator[type[FreshetError]]:
    yield of
    for child in of.__subclasses__():
        yield from tree(child)


ERRORS = sorted(set(tree()), key=lambda error: error.__name__)


def defined() -> Iterator[tuple[str, str]]:
    """(module, name) of each exception class of the sources, by the names of its bases."""
    known = {name for name, what in vars(builtins).items() if isinstance(what, type) and issubclass(what, Exception)}
    classes = [
        (str(path.relative_to(ROOT)), node.name, {base.id for base in node.bases if isinstance(base, ast.Name)})
        for package in ("consumers", "streamer", "tgn")
        for path in sorted((ROOT / package).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    ]
    while more := {name for _, name, bases in classes if bases & known} - known:
        known |= more
    return ((module, name) for module, name, _ in classes if name in known)


def test_every_exception_is_in_the_tree_or_stays_inside() -> None:
    there = {error.__name__ for error in ERRORS}
    for module, name in defined():
        assert (name in there) == (module in ("consumers/errors.py", "streamer/errors.py")), (module, name)
        assert (name in there) != (name in INSIDE), (
            f"{module}: {name} is neither a FreshetError nor one that stays inside"
        )
    assert set(INSIDE) <= {name for _, name in defined()}


@pytest.mark.parametrize("error", ERRORS)
def test_each_says_what_the_operator_does(error: type[FreshetError]) -> None:
    assert re.match(r"Operator: \w.+\.$", error.__doc__ or "")


@pytest.mark.parametrize("error", ERRORS)
def test_each_is_drawn_at_its_place(error: type[FreshetError]) -> None:
    home = consumers.errors if error.__module__ == "consumers.errors" else streamer.errors
    drawn = re.search(rf"^([│├└─ ]*){error.__name__}\b( \*)? +(.*)$", home.__doc__ or "", re.M)
    assert drawn
    assert len(drawn[1]) == 4 * _depth(error)
    assert bool(drawn[2]) == (issubclass(error, Transient) and Transient not in (error, error.__bases__[0]))
    own = re.match(r"exit (\d)", drawn[3])
    assert (int(own[1]) if own else 1) == error.exit_code


def _depth(error: type[FreshetError]) -> int:
    """How many parents lie above it, by the first of each."""
    return 0 if error is FreshetError else 1 + _depth(error.__bases__[0])


@pytest.mark.parametrize("error", ERRORS)
def test_each_ends_a_command_with_its_code_and_one_line(
    error: type[FreshetError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ends(_: argparse.Namespace) -> int:
        raise error("so it is")

    monkeypatch.setattr("streamer.cli.commands.doctor.run", ends)
    assert main(["doctor"]) == error.exit_code
    assert capsys.readouterr().err == "freshet: so it is\n"


@pytest.mark.parametrize("error", ERRORS)
def test_what_is_transient_is_tried_again_and_nothing_else(error: type[FreshetError]) -> None:
    turns = [error("once"), None]

    def run(_: None) -> None:
        if (turn := turns.pop(0)) is not None:
            raise turn

    if issubclass(error, Transient):
        supervise(opened, run, Waits())
    else:
        with pytest.raises(error):
            supervise(opened, run, Waits())
    assert len(turns) == (0 if issubclass(error, Transient) else 1)
