"""The admin listener: what operators see and do, as JSON.

A web page must not reach it through somebody's browser: the Host must be a name that it listens on (DNS rebinding), and
what changes anything needs the token, which no browser sends by itself.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import re
import socket
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing, suppress
from dataclasses import asdict
from typing import Any

import structlog
from aiohttp import web

from omaha_mirror.cache import Cache, Upkeep
from omaha_mirror.cache.errors import InUse
from omaha_mirror.config import Address
from omaha_mirror.telemetry import printable
from omaha_mirror.web.body import read_body
from omaha_mirror.web.errors import BadRequest, reply_to

LOG = structlog.get_logger(__name__)
Handler = Callable[..., Awaitable[web.StreamResponse]]

KEY = r"[0-9a-z][0-9a-z-]{5,99}"
READ = ("GET", "HEAD")
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
DENIED = 'this needs the token: send "Authorization: Bearer TOKEN" with what token_file holds'


class AdminApp:
    """Answers every request of the admin listener.

    Args:
        cache: that is looked at.
        upkeep: of the same cache.
        token: what a client must know to change anything; beyond loopback, to see anything.
        addresses: that it listens on.
    """

    def __init__(
        self, cache: Cache, upkeep: Upkeep, token: str, addresses: Iterable[Address]
    ) -> None:
        self._cache = cache
        self._upkeep = upkeep
        self._token = token
        self._hosts = [address.host for address in addresses]
        self._private = all(address.is_loopback for address in addresses)
        self._routes: list[tuple[re.Pattern[str], dict[tuple[str, ...], Handler]]] = [
            (re.compile(r"/readyz"), {READ: _ready}),
            (re.compile(r"/api/v1/cache"), {READ: self._contents}),
            (re.compile(r"/api/v1/fills"), {READ: self._fills}),
            (re.compile(r"/api/v1/cache/verify"), {("POST",): self._verify}),
            (re.compile(r"/api/v1/cache/gc"), {("POST",): self._gc}),
            (re.compile(rf"/api/v1/cache/(?P<key>{KEY})"), {("DELETE",): self._remove}),
        ]

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Route, answer, and turn every error into its reply."""
        try:
            return await self._route(request)
        except ConnectionError:
            raise
        except BadRequest as error:
            return _refuse(error.status, str(error))
        except OSError as error:
            LOG.warning("admin", path=printable(request.raw_path), why=str(error))
            return _refuse(reply_to(error).status, str(error))
        except Exception as error:
            LOG.exception("unexpected", path=printable(request.raw_path))
            if request.writer.output_size > 0:
                request.protocol.force_close()  # a second head must not land in a body
            return _refuse(reply_to(error).status, "something went wrong here; the log says what")

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        if not self._is_ours(request.headers.get("Host", "")):
            return _refuse(421, "the Host header names no address that this listens on")
        path = request.raw_path.partition("?")[0]
        found = [(m, methods) for p, methods in self._routes if (m := p.fullmatch(path))]
        open_to_all = path == "/readyz" or (self._private and request.method in READ)
        if not open_to_all and not self._knows_token(request.headers.get("Authorization", "")):
            denied = _refuse(401, DENIED)
            denied.headers["WWW-Authenticate"] = "Bearer"
            return denied
        if not found:
            return _refuse(404, "no such path")
        for match, handlers in found:
            for methods, handler in handlers.items():
                if request.method in methods:
                    return await handler(request, **match.groupdict())
        allowed = sorted({m for _, handlers in found for methods in handlers for m in methods})
        refused = _refuse(405, f"{path} takes {' or '.join(allowed)}")
        refused.headers["Allow"] = ", ".join(allowed)
        return refused

    def _is_ours(self, host: str) -> bool:
        """Any port: it may have been forwarded. Where every interface is listened on, any IP address will do."""
        name = re.sub(r":[0-9]*$", "", host.lower()).removeprefix("[").removesuffix("]")
        if any(name in (listening, *_also(listening)) for listening in self._hosts):
            return True
        with suppress(ValueError):
            ipaddress.ip_address(name)
            return any(_is_everywhere(listening) for listening in self._hosts)
        return False

    def _knows_token(self, authorization: str) -> bool:
        sent = authorization.encode("utf-8", "surrogateescape")
        return hmac.compare_digest(sent, f"Bearer {self._token}".encode())

    async def _contents(self, _: web.BaseRequest) -> web.StreamResponse:
        return _json(asdict(await self._cache.contents()))

    async def _fills(self, _: web.BaseRequest) -> web.StreamResponse:
        return _json({"fills": [asdict(progress) for progress in self._cache.fills()]})

    async def _verify(self, request: web.BaseRequest) -> web.StreamResponse:
        """Verify some blobs (`{"keys": [...]}`) or all; a line of JSON for each as it is done."""
        keys = (await _read_object(request)).get("keys")
        if keys is not None:
            if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
                raise BadRequest("keys must be a list of keys")
            if missing := [key for key in keys if not self._cache.holds(key)]:
                raise BadRequest(f"not in the cache: {printable(', '.join(missing))}", 404)
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        try:
            async with aclosing(self._upkeep.verify_all(keys)) as verdicts:
                await response.prepare(request)
                async for verdict in verdicts:
                    await response.write(json.dumps(asdict(verdict)).encode() + b"\n")
        except OSError as error:
            LOG.warning("a verification was broken off", why=str(error))
            request.protocol.force_close()
        return response

    async def _gc(self, request: web.BaseRequest) -> web.StreamResponse:
        dry_run = (await _read_object(request)).get("dry_run", False)
        if not isinstance(dry_run, bool):
            raise BadRequest("dry_run must be true or false")
        return _json({"dry_run": dry_run, **asdict(await self._cache.gc(dry_run=dry_run))})

    async def _remove(self, _: web.BaseRequest, key: str) -> web.StreamResponse:
        try:
            removed = await self._cache.remove(key)
        except InUse as error:
            return _refuse(409, str(error))
        return _json(asdict(removed)) if removed else _refuse(404, f"{key} is not in the cache")


async def _ready(_: web.BaseRequest) -> web.StreamResponse:
    return _json({"ready": True})


async def _read_object(request: web.BaseRequest) -> dict[str, Any]:
    """A JSON object, or nothing. Raises BadRequest."""
    body = await read_body(request)
    try:
        told = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise BadRequest("the body must be a JSON object")
    return told


def _is_everywhere(host: str) -> bool:
    return host in ("", "0.0.0.0", "::")  # noqa: S104 (compared with, not bound to)


def _also(listening: str) -> Iterable[str]:
    """Other names of an address."""
    if _is_everywhere(listening):
        return {*LOOPBACK, socket.gethostname().lower()}
    return LOOPBACK if Address(listening, 0).is_loopback else {socket.gethostname().lower()}


def _json(data: object) -> web.Response:
    return web.Response(body=json.dumps(data).encode() + b"\n", content_type="application/json")


def _refuse(status: int, why: str) -> web.Response:
    refusal = _json({"error": why})
    refusal.set_status(status)
    return refusal
