"""What ends a command, and with which exit code. The wire's own errors are in `consumers.errors`.

FreshetError            exit 1: it failed
├── StateBusy           another process uses the state folder
├── StateUnreadable     no checkpoint of the state folder can be read
├── PortTaken           the address to listen on is not free
├── NoDemoData          the demo's data could not be fetched
├── EmbeddingsDamaged   a version of trained embeddings cannot be read
├── ThreadEnded         a thread of the process ended by an error that nothing expects
├── ProcessEnded        one of the processes that train together ended before the others
└── UsageError          exit 2: a setting or flag is wrong
"""


class FreshetError(Exception):
    """Base. The message is one line that says what to do."""

    exit_code = 1


class StateBusy(FreshetError):
    """Operator: end the other process, or give this one its own `--state` folder."""


class StateUnreadable(FreshetError):
    """Operator: remove the state folder; the state is then rebuilt from the log."""


class PortTaken(FreshetError):
    """Operator: end the other process, or choose another `--port`."""


class NoDemoData(FreshetError):
    """Operator: give the demo a file of your own with `--file`, or a network."""


class EmbeddingsDamaged(FreshetError):
    """Operator: train again, or name another version."""


class ThreadEnded(FreshetError):
    """Operator: start it again, as an orchestrator does, and report the line: it is a defect."""


class ProcessEnded(FreshetError):
    """Operator: go on with `--resume`; with fewer `--processes` where the memory did not suffice."""


class UsageError(FreshetError):
    """Operator: mend the flag, environment variable or line of freshet.toml that the message names."""

    exit_code = 2
