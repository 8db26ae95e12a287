"""Who asks, and under which address, where proxies stand between.

Any client can send X-Forwarded-For, -Proto, -Host and -Port. They are believed of trusted proxies only, and of each list only
what those wrote themselves, which is at its right end.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence

from aiohttp import web

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PORTS = {"http": 80, "https": 443}
WITH_PORT = re.compile(r"(?P<v4>[0-9.]+):[0-9]+|\[(?P<v6>[^\]]+)\](?::[0-9]+)?", re.ASCII)


def unproxied(request: web.BaseRequest, trusted: Sequence[Network]) -> web.BaseRequest:
    """The request with remote, scheme and host as the first of the trusted proxies before us saw them.

    One that came from anybody else is given back as it is.
    """
    peer = _address(request.remote or "") if trusted else None
    if peer is None or not _among(peer, trusted):
        return request
    told = request.headers.getall
    scheme = _last(told("X-Forwarded-Proto", ())).lower()
    if scheme not in PORTS:
        scheme = request.scheme
    host = _last(told("X-Forwarded-Host", ())) or host_of(request)
    return request.clone(
        remote=client_address(peer, told("X-Forwarded-For", ()), trusted),
        scheme=scheme,
        host=with_port(host, _last(told("X-Forwarded-Port", ()))),
    )


def with_port(host: str, port: str) -> str:
    """A host with the port that a proxy was asked at, where it names none itself.

    Many proxies pass Host on without its port. One that a scheme has by itself is left out: what the proxy says of the
    scheme counts.
    """
    if not host or re.search(r":[0-9]*$", host) or not re.fullmatch(r"[0-9]{1,5}", port):
        return host
    return f"{host}:{port}" if int(port) not in PORTS.values() else host


def trusts(address: str, trusted: Sequence[Network]) -> bool:
    """Whether an address is that of a trusted proxy."""
    peer = _address(address)
    return peer is not None and _among(peer, trusted)


def client_address(peer: IPAddress, forwarded: Iterable[str], trusted: Sequence[Network]) -> str:
    """The nearest address that is no trusted proxy; where all are, the farthest.

    Args:
        peer: of the connection.
        forwarded: values of X-Forwarded-For, in order; what stands left of something that is no address is not read.
        trusted: the proxies.
    """
    seen = peer
    for text in reversed(_items(forwarded)):
        if not _among(seen, trusted):
            break
        found = _address(text)
        if found is None:
            break
        seen = found
    return str(seen)


def host_of(request: web.BaseRequest) -> str:
    """Which host a client asked for; empty where it did not say."""
    return request.host if "Host" in request.headers else ""


def _items(values: Iterable[str]) -> list[str]:
    return [item.strip() for value in values for item in value.split(",")]


def _last(values: Iterable[str]) -> str:
    return (_items(values) or [""])[-1]


def _address(text: str) -> IPAddress | None:
    found = WITH_PORT.fullmatch(text)
    try:
        address = ipaddress.ip_address((found["v4"] or found["v6"]) if found else text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _among(address: IPAddress, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)
