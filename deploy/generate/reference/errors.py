"""Errors with their exit codes and what the operator does, and the reasons of dead letters."""

import inspect
import re
from collections.abc import Iterator
from types import ModuleType

import consumers.errors
import streamer.errors
from consumers import dead_letter
from consumers.dead_letter import Reason
from consumers.errors import FreshetError, Transient
from deploy.generate.reference.markdown import code, page, sentence, table

ABOUT = """\
What ends a command is one line on stderr and an exit code. Errors that pass by themselves are tried again by the
services (`run`, `serve`, `up`, `sink`), with longer and longer waits, from the last commit; `freshet up` ends with 1
at once where an error does not pass by itself.

| exit code | means |
|---|---|
| 0 | all is well |
| 1 | it failed: the line says why |
| 2 | a flag, an environment variable or a line of `freshet.toml` is wrong |
| 3 | the data is refused: no row of a file is good, or rules are none |
| 130 | it was interrupted by Ctrl-C |

What the operator does where the symptom is known and not the error: [When something goes
wrong](../operate/runbook.md)."""

ABOUT_LETTERS = """\
A record that cannot be taken is no error: it goes to the topic `interactions.dead`, byte for byte, and the stream
goes on. The header `freshet.reason` has one of the codes below; codes are never renamed. `GET
/v1/dead-letters/{reason}` shows the newest record of a reason, `/v1/status` and the metric
`freshet_dead_letters_total` count them. `POST` refuses a body with the same code and takes nothing of it; `produce`
and `replay` count and name the rows of a file that they refuse."""

HEADERS = """\
## Headers of a dead letter

The original headers come first, up to 64 KiB of them. Behind them:

| header | holds |
|---|---|
| `freshet.reason`, `__streams.errors.exception` | the code |
| `__streams.errors.message` | one line that quotes no user data |
| `__streams.errors.topic`, `__streams.errors.partition`, `__streams.errors.offset` | where the record was |
| `freshet.headers-left-out` | how many original headers did not fit |
| `freshet.original-key-bytes` | the length of a key that was cut |
| `freshet.original-bytes`, `freshet.original-digest` | length and SHA-256 of a value that was cut to fit |"""


def errors_page() -> str:
    """The page of errors."""
    head = ["error", "what it is", "exit code", "passes by itself", "what you do"]
    parts = [
        f"## Of {what}\n\n" + table(head, [_row(kind, said) for kind, said in _errors(module)])
        for what, module in (("the log, files and stores", consumers.errors), ("the process", streamer.errors))
    ]
    return page("Errors", ABOUT, *parts)


def dead_letters_page() -> str:
    """The page of dead letters."""
    rows = [[code(reason), mend] for reason, mend in _mends().items()]
    return page("Dead letters", ABOUT_LETTERS, table(["reason", "what the producer does"], rows), HEADERS)


def _errors(module: ModuleType) -> Iterator[tuple[type[FreshetError], str]]:
    """Errors that are raised, in the order of the tree at the top of their module, with what the tree says of each."""
    for line in (module.__doc__ or "").splitlines():
        found = re.match(r"[│├└─ ]*(\w+)(?: \*)?\s+(\S.*)", line)
        kind = getattr(module, found[1], None) if found else None
        if found and isinstance(kind, type) and kind is not FreshetError and kind.__module__ == module.__name__:
            yield kind, re.sub(r"^exit \d: ", "", found[2])


def _row(kind: type[FreshetError], said: str) -> list[str]:
    mend = (inspect.getdoc(kind) or "").removeprefix("Operator: ").partition(" `field`:")[0]
    passes = "yes" if kind.may_pass or issubclass(kind, Transient) else ""
    return [code(kind.__name__), said.partition("; those with *")[0], str(kind.exit_code), passes, sentence(mend)]


def _mends() -> dict[str, str]:
    """What the comment beside each reason says."""
    source = inspect.getsource(dead_letter.Reason)
    found = re.findall(r'= (?:\(\s*)?"([a-z-]+)"\s*#\s*(.+)', source)
    assert [reason for reason, _ in found] == [str(reason) for reason in Reason]
    return dict(found)
