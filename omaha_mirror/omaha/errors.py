"""The errors of Omaha messages, each with its HTTP status."""

from typing import ClassVar


class OmahaError(Exception):
    """Base of all errors of this package.

    Attributes:
        http_status: Of a server's response to a request with this error.
        message: One line for people: the fault, its place, and what was expected.
    """

    http_status: ClassVar[int] = 400

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class MalformedXML(OmahaError):
    """The bytes are not a well-formed XML document."""


class UnexpectedXML(OmahaError):
    """The document is XML, but no Omaha message."""


class UnsupportedEncoding(OmahaError):
    """The document is, or claims to be, in another encoding than UTF-8."""

    http_status = 415


class UnsupportedProtocol(OmahaError):
    """The message is not Omaha protocol 3."""


class TooLarge(OmahaError):
    """A limit on size, depth or count was passed."""

    http_status = 413


class BadValue(OmahaError):
    """A value cannot be read, or cannot be written as XML."""


class BadDigest(BadValue):
    """A digest has the wrong length or alphabet."""


class BadVersion(BadValue):
    """A version cannot be read, so it cannot be ordered."""


class BadResponse(OmahaError):
    """An answer that a real client would refuse.

    Attributes:
        errorcode: What update_engine reports for it (see `codes.ErrorCode`), where it is known.
    """

    http_status = 502

    def __init__(self, message: str, errorcode: int | None = None) -> None:
        super().__init__(message)
        self.errorcode = errorcode
