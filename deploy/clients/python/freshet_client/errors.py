"""What may go wrong.

FreshetClientError
├── Refused        the API answered that it does not do this
└── Unreachable    no answer could be had, as often as it was tried
"""


class FreshetClientError(Exception):
    """The root of the errors of this package."""


class Refused(FreshetClientError):
    """The API said no: `status` of HTTP, `code` for programs, and the `field` or parameter that is wrong, if one is."""

    def __init__(self, status: int, code: str, message: str, field: str | None = None) -> None:
        super().__init__(f"{message} ({status} {code})")
        self.status, self.code, self.field = status, code, field


class Unreachable(FreshetClientError):
    """No answer, or none but that of a server that is not ready. The cause has the last error of httpx."""
