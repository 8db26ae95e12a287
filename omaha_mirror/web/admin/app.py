"""The admin listener: its checks of requests, and its routes.

A foreign web page must not reach it through an operator's browser: the Host must be a name that it listens on (DNS rebinding), and
what changes anything needs the token in a way in which no browser sends it by itself: as Bearer, or typed into a form of
ours. As a password (Basic), which browsers remember, it opens only what is to be seen.
"""

from __future__ import annotations

import base64
import hmac
import ipaddress
import re
import socket
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from typing import Any

import structlog
from aiohttp import web

from omaha_mirror.config import Address
from omaha_mirror.service import Service
from omaha_mirror.text import printable
from omaha_mirror.web.admin.answers import READ, Form, Route, as_long_json, read_form, refuse
from omaha_mirror.web.admin.bundle_api import BundleApi
from omaha_mirror.web.admin.cache_api import CacheApi
from omaha_mirror.web.admin.explain_api import ExplainApi
from omaha_mirror.web.admin.fleet_api import FleetApi
from omaha_mirror.web.admin.overview_api import HealthApi, OverviewApi
from omaha_mirror.web.admin.page import Page
from omaha_mirror.web.admin.tracks_api import TracksApi
from omaha_mirror.web.admin.upstream_api import UpstreamApi
from omaha_mirror.web.errors import UNEXPECTED, BadRequest, answered, reply_to

LOG = structlog.get_logger(__name__)
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
NOT_THE_TOKEN = "That is not the token: nothing has changed."  # noqa: S105 - what a page says
DENIED = 'this needs the token: send "Authorization: Bearer TOKEN" with what token_file holds'


class AdminApp:
    """Answers every request of the admin listener.

    Args:
        routes: what it answers.
        token: required for changes, and beyond loopback for everything. None: there is none, so all that is refused.
        addresses: that it listens on.
        trouble: why there is no token, for the answer to a request that needs it.
    """

    def __init__(
        self,
        routes: Iterable[Route],
        token: str | None,
        addresses: Iterable[Address],
        trouble: str = "there is no token",
    ) -> None:
        self._routes = tuple(routes)
        self._token = token
        self._trouble = trouble
        self._hosts = [address.host for address in addresses]
        self._private = all(address.is_loopback for address in addresses)

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Route, answer, and turn every error into its reply."""
        return await answered(request, self._answer, refuse)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._route(request)
        except ConnectionError:
            raise
        except BadRequest as error:
            return refuse(error.status, str(error))
        except OSError as error:
            if reply_to(error) is UNEXPECTED:
                raise
            LOG.warning("admin", path=printable(request.raw_path), why=str(error))
            return refuse(reply_to(error).status, str(error))

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        if not self._is_ours(request.headers.get("Host", "")):
            return refuse(421, "the Host header names no address that this listens on")
        path = request.raw_path.partition("?")[0]
        found = [(m, route) for route in self._routes if (m := route.path.fullmatch(path))]
        reads = request.method in READ
        if not reads and _is_foreign(request):
            return refuse(403, "a page of another site sent this")
        open_to_all = any(route.open or route.form for _, route in found)
        seen = self._private and reads
        if not (open_to_all or seen or self._is_admitted(request, reads=reads)):
            return refuse(403, self._trouble) if self._token is None else _denied(reads=reads)
        for match, route in found:
            if request.method in route.methods:
                form = {"form": await self._form(request)} if route.form else {}
                return await route.handler(request, **form, **match.groupdict())
        if not found:
            return refuse(404, "no such path")
        allowed = sorted({method for _, route in found for method in route.methods})
        refused = refuse(405, f"{path} takes {' or '.join(allowed)}")
        refused.headers["Allow"] = ", ".join(allowed)
        return refused

    def _is_ours(self, host: str) -> bool:
        """Any port: it may have been forwarded. Where every interface is listened on, any IP address will do."""
        name = (
            re.sub(r":[0-9]*$", "", host.lower())
            .removesuffix(".")
            .removeprefix("[")
            .removesuffix("]")
        )
        if any(name in (listening, *_also(listening)) for listening in self._hosts):
            return True
        with suppress(ValueError):
            ipaddress.ip_address(name)
            return any(Address(listening, 0).is_everywhere for listening in self._hosts)
        return False

    def _is_admitted(self, request: web.BaseRequest, *, reads: bool) -> bool:
        scheme, _, sent = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._knows_token(sent)
        return reads and scheme.lower() == "basic" and self._knows_token(_password(sent))

    async def _form(self, request: web.BaseRequest) -> Form:
        fields = await read_form(request)
        sent = fields.pop("token", "").strip()
        if self._token is None:
            return Form(fields, self._trouble)
        return Form(fields, None if self._knows_token(sent) else NOT_THE_TOKEN)

    def _knows_token(self, sent: str) -> bool:
        if self._token is None:
            return False
        return hmac.compare_digest(sent.encode("utf-8", "surrogateescape"), self._token.encode())


def _denied(*, reads: bool) -> web.Response:
    denied = refuse(401, DENIED)
    denied.headers.add("WWW-Authenticate", "Bearer")
    if reads:
        denied.headers.add("WWW-Authenticate", 'Basic realm="the token is the password"')
    return denied


def _is_foreign(request: web.BaseRequest) -> bool:
    """Whether a browser marks the request as another site's (Sec-Fetch-Site, Origin)."""
    origin = request.headers.get("Origin")
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return True
    host = request.headers.get("Host", "")
    return origin is not None and origin.partition("://")[2].lower() != host.lower()


def _password(credentials: str) -> str:
    """Of any user; empty where there is none (RFC 7617, section 2)."""
    try:
        return base64.b64decode(credentials.strip(), validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def _also(listening: str) -> Iterable[str]:
    """Other names of an address."""
    if Address(listening, 0).is_everywhere:
        return {*LOOPBACK, socket.gethostname().lower()}
    return LOOPBACK if Address(listening, 0).is_loopback else {socket.gethostname().lower()}


def admin_routes(service: Service) -> tuple[Route, ...]:
    """The routes over a service."""
    api = (
        *HealthApi(service.examine, service.metrics).routes(),
        *OverviewApi(service).routes(),
        *TracksApi(service).routes(),
        *UpstreamApi(service.warm_up).routes(),
        *CacheApi(service.cache, service.verifier).routes(),
        *BundleApi(service.exporter, service.importer).routes(),
        *FleetApi(service).routes(),
        *ExplainApi(service).routes(),
    )
    return (*api, _described(api), *Page(service).routes())


def _described(api: Iterable[Route]) -> Route:
    """What describes an API, itself included (OpenAPI 3.1)."""

    @cache
    def describe() -> dict[str, Any]:
        from omaha_mirror.web.admin.openapi import description  # noqa: PLC0415 (few ask for it)

        return description((*api, own))

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        """This description."""
        return await as_long_json(describe)

    own = Route(READ, re.compile(r"/api/v1/openapi\.json"), answer, gives=dict[str, Any])
    return own
