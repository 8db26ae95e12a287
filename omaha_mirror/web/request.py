"""Reads a request: the client's address and the host, behind proxies too, the body, and the mirror's own address.

Any client can send X-Forwarded-For, -Proto, -Host and -Port. They count from trusted proxies only, and of each list only
the entries that those added, at its right end.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Iterable, Sequence

from aiohttp import StreamReader, web

from omaha_mirror.config.environment import PORTS
from omaha_mirror.web.errors import BadRequest

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
WITH_PORT = re.compile(r"(?P<v4>[0-9.]+):[0-9]+|\[(?P<v6>[^\]]+)\](?::[0-9]+)?", re.ASCII)
BODY_LIMIT = 64 * 1024
BODY_SECONDS = 10.0
HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9])?\.?|\[[0-9A-Fa-f:.]{2,45}\])(?::(?P<port>[0-9]{0,5}))?",
    re.ASCII,
)


def unproxied(request: web.BaseRequest, trusted: Sequence[Network]) -> web.BaseRequest:
    """The request with remote, scheme and host as the first of the trusted proxies before us saw them.

    One that came from anybody else is given back as it is.
    """
    peer = _address(request.remote or "") if trusted else None
    if peer is None or not _among(peer, trusted):
        return request
    values = request.headers.getall
    scheme = _last(values("X-Forwarded-Proto", ())).lower()
    if scheme not in PORTS:
        scheme = request.scheme
    host = _last(values("X-Forwarded-Host", ())) or host_of(request)
    return request.clone(
        remote=client_address(peer, values("X-Forwarded-For", ()), trusted),
        scheme=scheme,
        host=with_port(host, _last(values("X-Forwarded-Port", ()))),
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
    """The Host header; empty where there is none."""
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


async def read_body(request: web.BaseRequest) -> bytes:
    """The whole body of a request.

    Raises:
        BadRequest: too large (413), too slow (408), or with a Content-Encoding (415).
    """
    codings = request.headers.getall("Content-Encoding", ())
    if any(coding.strip().lower() not in ("", "identity") for coding in codings):
        raise BadRequest("send the request without Content-Encoding", 415)
    if (request.content_length or 0) > BODY_LIMIT:
        raise BadRequest(f"a request has at most {BODY_LIMIT} bytes", 413)
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    if request.content.is_eof():  # all of it is here
        return await _whole(request.content)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _whole(request.content)
    except TimeoutError:
        raise BadRequest(f"the body did not arrive within {BODY_SECONDS:.0f} s", 408) from None


async def _whole(content: StreamReader) -> bytes:
    body = bytearray()
    while chunk := await content.readany():
        body += chunk
        if len(body) > BODY_LIMIT:
            raise BadRequest(f"a request has at most {BODY_LIMIT} bytes", 413)
    return bytes(body)


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
    return f"{scheme}://{host.lower().removesuffix(':')}"  # a port may be empty: RFC 3986, 3.2.3
