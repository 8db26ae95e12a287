"""What can go wrong with an upstream server, named for who has to act on it.

`Gone`, `Forbidden`, `TooLarge` and `BadAnswer` will not heal by asking again at once; `Changed` ends
a generation of a file; `Unreachable`, `BadStatus`, `Stalled` and `Dropped` are worth another attempt.
"""

from urllib.parse import urlsplit


class UpstreamError(Exception):
    """A fetch from upstream failed.

    Attributes:
        reason: What happened, for people.
        url: The address that was asked, as asked; it may hold a secret, the message does not.
    """

    def __init__(self, reason: str, url: str) -> None:
        super().__init__(reason, url)
        self.reason = reason
        self.url = url

    def __str__(self) -> str:
        return f"{self.reason} ({_without_secrets(self.url)})"


class Unreachable(UpstreamError):
    """No connection: the name did not resolve, refused, connect time-out, TLS, or the proxy."""


class BadStatus(UpstreamError):
    """A status that is neither the file nor a definite absence.

    Attributes:
        status: The HTTP status code.
        retry_after: Seconds the server asked to be left alone, if it did.
    """

    def __init__(
        self, reason: str, url: str, *, status: int, retry_after: float | None = None
    ) -> None:
        super().__init__(reason, url)
        self.status = status
        self.retry_after = retry_after


class Gone(UpstreamError):
    """The server says that there is no such file (404 or 410)."""


class Stalled(UpstreamError):
    """Nothing came within a deadline, though the connection may still be alive."""


class Dropped(UpstreamError):
    """The connection died, or the body ended before its announced end."""


class Changed(UpstreamError):
    """The server has another generation of the file: another validator or another size."""


class Forbidden(UpstreamError):
    """The address, or one it redirects to, is not among those the mirror may ask."""


class TooLarge(UpstreamError):
    """The server sends more than the limit, or more than it announced."""


class BadAnswer(UpstreamError):
    """The answer breaks the rules, so that its bytes cannot be placed or trusted."""


def _without_secrets(url: str) -> str:
    """An address as it may be shown: no user, password or query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that cannot be read"
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
