"""What ends a command beside the errors of the wire. The root of the tree is in `consumers.errors`.

FreshetError                exit 1: it failed
├── Transient
│   ├── ListsDamaged        what `serve` keeps of the lists is not what was written
│   └── ListsUnavailable    what `serve` keeps of the lists cannot be read or written
├── StateBusy               another process uses the state folder
├── StateUnreadable         no checkpoint of the state folder can be read
├── PortTaken               the address to listen on is not free
├── ServerAway              no `freshet serve` answers at the address that was given
├── StoreUnavailable        the object store of a URL cannot be reached, or refuses
├── NoDemoData              the demo's data could not be fetched
├── EmbeddingsDamaged       a version of trained embeddings cannot be read
├── ThreadEnded             a thread of the process ended by an error that nothing expects
├── ProcessEnded            one of the processes that train together ended before the others
├── ChildDied               a process of `up` ended again and again before it was ready
├── PlanRefused             no number of workers serves the stream that was planned for
├── RulesRefused            exit 3: what is to be the rules of a surface is none
└── UsageError              exit 2: a setting or flag is wrong
"""

from consumers.errors import FreshetError, Transient

LASTING = 78
"""The exit code of a process that is kept at work, for an error that does not pass by itself: not `may_pass`."""


class ListsDamaged(Transient):
    """Operator: nothing; they are set aside and made anew from the topics. Look at the disk."""


class ListsUnavailable(Transient):
    """Operator: free space on its disk, or give `serve` another `--state`."""


class StateBusy(FreshetError):
    """Operator: end the other process, or give this one its own `--state` folder."""


class StateUnreadable(FreshetError):
    """Operator: remove the state folder; the state is then rebuilt from the log."""


class PortTaken(FreshetError):
    """Operator: end the other process, or choose another `--port`."""

    may_pass = True


class ServerAway(FreshetError):
    """Operator: start `freshet serve` or `freshet up`, or mend the address."""

    may_pass = True


class StoreUnavailable(FreshetError):
    """Operator: mend the URL, or what its store takes from the environment: address, keys, rights."""

    may_pass = True


class NoDemoData(FreshetError):
    """Operator: give the demo a file of your own with `--file`, or a network."""


class EmbeddingsDamaged(FreshetError):
    """Operator: train again, or name another version."""


class ThreadEnded(FreshetError):
    """Operator: start it again, as an orchestrator does, and report the line: it is a defect."""

    may_pass = True


class ProcessEnded(FreshetError):
    """Operator: go on with `--resume`; with fewer `--processes` where the memory did not suffice."""


class ChildDied(FreshetError):
    """Operator: mend what its own last lines say, and start again."""


class PlanRefused(FreshetError):
    """Operator: give each worker more of what the message names, or fewer users, items or interactions."""


class RulesRefused(FreshetError):
    """Operator: mend the field of the rules that the message names. `field`: that field, "" where it is none's."""

    exit_code = 3

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class UsageError(FreshetError):
    """Operator: mend the flag, environment variable or line of freshet.toml that the message names."""

    exit_code = 2
