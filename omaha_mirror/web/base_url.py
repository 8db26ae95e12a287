"""Under which address a client reaches this mirror."""

from __future__ import annotations

import re

from omaha_mirror.web.errors import BadRequest

HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9])?\.?|\[[0-9A-Fa-f:.]{2,45}\])(?::(?P<port>[0-9]{1,5}))?",
    re.ASCII,
)


def base_url(public_url: str | None, scheme: str, host: str) -> str:
    """`scheme://host[:port]` for the answers to a client.

    Args:
        public_url: from the config; used as it is.
        scheme: that the client used.
        host: the Host header that it sent: anything at all, so it is held against a strict pattern.

    Raises:
        BadRequest: the Host header is no host.
    """
    if public_url is not None:
        return public_url.rstrip("/")
    found = HOST.fullmatch(host)
    if found is None or int(found["port"] or 0) > 65535:
        raise BadRequest("the Host header names no host; set public_url, or ask by name or address")
    return f"{scheme}://{host.lower()}"
