"""What can go wrong on the wire, and what the operator can do about each.

WireError
├── LogUnavailable      the broker or the embedded log cannot be reached or opened
│   └── LogBusy         another process owns the embedded log and does not answer
├── CheckpointDamaged   a page of the checkpoint is not what was written
├── UnknownTopic        the topic does not exist
├── TopicConflict       the topic exists with other settings
├── PositionGone        a position to read from is no longer (or not yet) in the log
├── Fenced              another process took over this application's seat
├── SettingRefused      librdkafka does not take a key of the table [kafka]
└── DataRefused         a file or stream cannot be read as interactions
"""


class WireError(Exception):
    """Base of every error of this package. The message is one line that says what to do."""


class LogUnavailable(WireError):
    """Operator: start the broker or check `--bootstrap` / `--log`."""


class LogBusy(LogUnavailable):
    """Operator: end the other process, or give this one its own `--log` folder."""


class CheckpointDamaged(WireError):
    """Operator: nothing where the log reaches back to its start; the state is then rebuilt from it."""


class UnknownTopic(WireError):
    """Operator: run `freshet topics create`."""


class TopicConflict(WireError):
    """Operator: change the topic's settings or the settings in `topics.yaml`."""


class PositionGone(WireError):
    """Operator: raise the topic's retention, or choose where to go on with `--on-position-gone`."""


class Fenced(WireError):
    """Operator: nothing, if another worker was started on purpose; else give it its own `--state` folder."""


class SettingRefused(WireError):
    """Operator: mend the key of the table [kafka] that the message names."""


class DataRefused(WireError):
    """Operator: name the columns with `--map ours=theirs`, or mend the file."""
