"""The origins that the mirror may send requests to: it is no open proxy.

A URL is parsed once, and the connection uses the result: no second parser can see another host in it. Path and query
are sent exactly as they came: a signature may cover their escapes.
"""

import re

from yarl import URL

from omaha_mirror.upstream.errors import Forbidden

# A host name in its ASCII form, or an address literal. It leaves no room for %, ;, * or spaces.
_HOST = re.compile(r"(?:[a-z0-9_-]+\.)*[a-z0-9_-]+\.?|[0-9a-f:.]+")
# Scheme and authority, as far as there are any, and all the rest.
_PARTS = re.compile(r"((?:[^:/?#]*:)?//[^/?#]*)?(.*)", re.DOTALL)
_UNSENDABLE = re.compile(rb"[^\x21-\x7e]")


def as_it_came(text: str) -> URL:
    """Parse a URL, or a reference, with its path and query as written.

    Only characters that no request line can contain are escaped, as in libcurl: control characters, spaces and bytes beyond
    ASCII. A space in a query becomes a plus (curl/lib/urlapi.c).

    Raises:
        ValueError: It cannot be read.
    """
    found = _PARTS.fullmatch(text.strip())
    if found is None:
        raise ValueError("it is no text")
    path, mark, query = found[2].partition("?")
    rest = _sendable(path + mark + query.replace(" ", "+"))
    url = URL((found[1] or "") + rest, encoded=True)
    return url if url.raw_host is None else url.with_host(url.raw_host)


def _sendable(text: str) -> str:
    data = text.encode("utf-8", "surrogateescape")
    return _UNSENDABLE.sub(lambda byte: b"%%%02X" % byte[0][0], data).decode("ascii")


class AllowList:
    """The allowed origins, `scheme://host[:port]`.

    `https://*.example.org` allows every name below `example.org`, but not `example.org` itself.
    The port is the scheme's own unless given.

    Raises:
        ValueError: A pattern is not of that form; the message says which and why.
    """

    def __init__(self, *patterns: str) -> None:
        self._exact: set[tuple[str, str, int]] = set()
        self._below: set[tuple[str, str, int]] = set()
        for pattern in patterns:
            scheme, separator, rest = pattern.partition("://*.")
            try:
                url = URL(f"{scheme}://{rest}" if separator else pattern)
            except ValueError as error:
                raise ValueError(f"{pattern!r} cannot be read: {error}") from error
            origin = _origin(url)
            if origin is None or (url.path_qs, url.fragment) != ("/", ""):
                raise ValueError(f"{pattern!r} is not of the form http(s)://host[:port]")
            if separator and "." not in origin[1]:
                raise ValueError(f"{pattern!r} would allow a whole top-level domain")
            (self._below if separator else self._exact).add(origin)

    def check(self, url: str | URL) -> URL:
        """The parsed URL, for the connection.

        Raises:
            Forbidden: It is not http(s), names a user, or its origin is not on the list.
        """
        try:
            parsed = as_it_came(url) if isinstance(url, str) else url
            origin = _origin(parsed)
        except ValueError as error:
            raise Forbidden(f"not a URL for requests: {error}", str(url)) from error
        if origin is None:
            raise Forbidden("only http and https URLs without a user are requested", str(url))
        if origin not in self._exact and not any(self._parents(*origin)):
            raise Forbidden(
                f"{parsed.origin()} is not an upstream of this mirror; if it should be, add it to"
                " upstream.allowed_hosts",
                str(url),
            )
        return parsed

    def _parents(self, scheme: str, host: str, port: int) -> list[bool]:
        labels = host.split(".")
        return [
            (scheme, ".".join(labels[cut:]), port) in self._below for cut in range(1, len(labels))
        ]


def _origin(url: URL) -> tuple[str, str, int] | None:
    """Scheme, host without a trailing dot, and port; None for a URL that the mirror never requests."""
    host = url.raw_host
    if url.scheme not in ("http", "https") or host is None or url.port is None:
        return None
    if url.raw_user is not None or url.raw_password is not None or not _HOST.fullmatch(host):
        return None
    return url.scheme, host.removesuffix("."), url.port
