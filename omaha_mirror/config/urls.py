"""The URLs of the config: each kind is checked and normalised."""

import os
import re
import sys
from importlib.util import find_spec
from urllib.parse import urlsplit

from omaha_mirror.config.errors import did_you_mean
from omaha_mirror.config.units import bracketed, parse_host

DATABASES = ("sqlite", "postgresql", "postgres")
"""The schemes of the URLs of databases."""


def origin(text: str) -> str:
    """`scheme://host[:port]` of an http(s) URL that has nothing more, in lower case.

    Raises:
        ValueError: the URL has more; the message says what must change.
    """
    found, path = _split(text)
    if path not in ("", "/"):
        raise ValueError(f"it cannot have a path ({path}): write {found}")
    return found


def origin_pattern(text: str) -> str:
    """The same, but the host may start with `*.` for every host below it."""
    found, path = _split(text, wildcard="*.")
    if path not in ("", "/"):
        raise ValueError(f"a host is allowed as a whole, without a path: write {found}")
    return found


def origin_of(url: str) -> str:
    """The `scheme://host[:port]` that a base URL starts with."""
    return _split(url)[0]


def base_url(text: str) -> str:
    """An http(s) URL that paths are added to, without a final slash."""
    return "".join(_split(text)).rstrip("/")


def http_url(text: str) -> str:
    """An http(s) URL that is asked as it is written."""
    return "".join(_split(text))


def proxy(text: str) -> str:
    """The URL of a proxy, as it is; it may hold a user and password, so no message repeats it."""
    if ":***@" in text:
        raise ValueError("*** stands for a password that is not shown: write the password itself")
    if text.lower().startswith("socks"):
        raise ValueError(
            "a SOCKS proxy cannot be used: write the http://host:port of an HTTP proxy"
        )
    try:
        scheme, slashes, rest = text.partition("//")
        user, _, server = rest.rpartition("@")
        if re.search(r"[\s/?#@]", user):
            raise ValueError
        origin(scheme + slashes + server)
    except ValueError:
        raise ValueError(
            "this is not the URL of a proxy: write http://host:port or "
            "http://user:password@host:port, with %-escapes in the password (%40 for @)"
        ) from None
    return text


def database(text: str) -> str:
    """The URL of a database, as it is; it may hold a password, so no message repeats it.

    Raises:
        ValueError: the URL cannot be used; the message says what is wrong or missing.
    """
    expected = "write sqlite:////absolute/path or postgresql://user:password@host/name"
    scheme, colon, rest = text.partition("://")
    if not colon:
        raise ValueError(f"this is not the URL of a database: {expected}")
    if scheme not in DATABASES:
        near = did_you_mean(scheme.partition("+")[0], DATABASES)
        raise ValueError(f"{scheme!r} is no database that can be used: {expected}{near}")
    if scheme == "sqlite":
        if not rest.startswith("/") or rest.partition("?")[0] in ("/", "/:memory:"):
            raise ValueError(f"an SQLite database is a file: {expected}")
        path = rest[1:].partition("?")[0]
        if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113 (those of Path raise OSError)
            raise ValueError(f"{path} is no file, and an SQLite database is one: {expected}")
        return text
    if ":***@" in text or re.search(r"[?&]password=\*\*\*(&|$)", text):
        raise ValueError("*** stands for a password that is not shown: write the password itself")
    try:
        parts = urlsplit(text)
        user, _, _ = rest.rpartition("@")
        if re.search(r"[/?#]", user):  # what follows in a password would be read as something else
            raise ValueError
        if not (parts.hostname or parts.query) or parts.port == 0 or re.search(r"\s", text):
            raise ValueError
    except ValueError:
        raise ValueError(
            f"this does not name a host and port: {expected}, with %-escapes in the password (%40 for @)"
        ) from None
    if find_spec("asyncpg") is None:
        raise ValueError(
            "PostgreSQL needs the Python package asyncpg, which is not installed here:"
            f" python3 -m pip --python {sys.executable} install asyncpg"
        )
    return text


def without_password(url: str | None) -> str | None:
    """The URL with its password masked."""
    if url is None:
        return None
    url = re.sub(r"(?<=://)([^:@/?]*):.*(?=@)", r"\1:***", url)
    return re.sub(r"([?&]password=)[^&]*", r"\1***", url)


def _split(text: str, wildcard: str = "") -> tuple[str, str]:
    """The origin of an http(s) URL, in lower case, and the path after it."""
    try:
        url = urlsplit(text)
    except ValueError:
        raise ValueError("it does not name a host, or an IPv6 address in brackets") from None
    if url.scheme not in ("http", "https") or not url.netloc:
        raise ValueError("it must start with http:// or https:// and name a host")
    if "@" in url.netloc:
        raise ValueError("a user or password has no place in this URL")
    if "?" in text or "#" in text or re.search(r"[\s\\]", text):
        raise ValueError("it cannot have a query, a fragment, a backslash or spaces")
    host, _, port = url.netloc.rpartition(":")
    if not host or port.endswith("]"):
        host, port = url.netloc, ""
    elif not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise ValueError(f"{port!r} is not a port (1 to 65535)")
    star = wildcard if wildcard and host.startswith(wildcard) else ""
    name = bracketed(parse_host(host.removeprefix(star)))
    return f"{url.scheme}://{star}{name}{port and ':' + port}", url.path
