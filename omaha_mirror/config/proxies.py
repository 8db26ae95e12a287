"""The proxy for a URL, by http_proxy, https_proxy, all_proxy and no_proxy of the environment.

As curl reads them: a name in lower case overrides the one in upper case, all_proxy replaces one that is not set,
and a variable that is set and empty means no proxy.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

PORTS = {"http": 80, "https": 443}


def proxy_of(url: str, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """The variable that names the proxy for an http(s) URL, and its value as a URL; None without a proxy."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or PORTS.get(parts.scheme, 0)
    if exempt(host, port, _first(environ, "no_proxy")[1]):
        return None
    name, value = _first(environ, f"{parts.scheme}_proxy", "all_proxy")
    value = value.strip()
    return (name, value if "://" in value else f"http://{value}") if value else None


def exempt(host: str, port: int, no_proxy: str) -> bool:
    """Whether a host needs no proxy.

    Args:
        host: its name or IP address, without brackets.
        port: of the server.
        no_proxy: names, which stand for all below them too, IP addresses and networks, each with or without a port;
            between them commas or blanks. `*` is every host.
    """
    return any(_matches(entry, host, port) for entry in re.split(r"[,\s]+", no_proxy) if entry)


def _matches(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    name, only = _without_port(entry.lower())
    if only not in (None, port):
        return False
    address = _address(host)
    try:
        network = ipaddress.ip_network(name, strict=False)
    except ValueError:
        plain, asked = name.removeprefix("*").strip("."), host.lower().rstrip(".")
        return address is None and bool(plain) and f".{asked}".endswith(f".{plain}")
    return address is not None and address in network


def _without_port(entry: str) -> tuple[str, int | None]:
    found = re.fullmatch(r"\[(?P<v6>[^\]]*)\](?P<length>/\d+)?(?::(?P<port>\d+))?", entry)
    if found is not None:
        return found["v6"] + (found["length"] or ""), int(found["port"]) if found["port"] else None
    name, colon, port = entry.rpartition(":")
    if colon and ":" not in name and port.isascii() and port.isdecimal():
        return name, int(port)
    return entry, None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _first(environ: Mapping[str, str], *names: str) -> tuple[str, str]:
    """The first variable that is set."""
    for name in names:
        for written in (name, name.upper()):
            if written in environ:
                return written, environ[written]
    return names[0], ""
