"""The errors of requests to upstream.

`Gone`, `Forbidden`, `TooLarge` and `BadAnswer` do not change by an immediate retry; `Changed` ends a generation of a file;
`Unreachable`, `BadStatus`, `Stalled` and `Dropped` are worth a retry.
"""

from urllib.parse import urlsplit


class UpstreamError(Exception):
    """A fetch from upstream failed.

    Attributes:
        reason: What happened, for people.
        url: The requested URL; it may contain a secret, the message does not.
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
        retry_after: Seconds of the Retry-After field, if there is one.
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
    """No byte came within a deadline; the connection may still work."""


class Dropped(UpstreamError):
    """The connection was closed, or the body ended early."""


class Changed(UpstreamError):
    """The server has another generation of the file: another validator or another size."""


class Forbidden(UpstreamError):
    """The URL, or one that it redirects to, is not on the allow-list."""


class TooLarge(UpstreamError):
    """The body is larger than the limit, or than announced."""


class BadAnswer(UpstreamError):
    """The response is invalid, so that its bytes cannot be assigned to a position or trusted."""


def _without_secrets(url: str) -> str:
    """A URL without user, password and query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that cannot be read"
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
