"""The public listener: its routes, on one screen."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web

from omaha_mirror.cache.errors import Stopping
from omaha_mirror.catalog import BOARDS
from omaha_mirror.http_ranges import ByteRange, select
from omaha_mirror.observability.telemetry import tell
from omaha_mirror.text import printable
from omaha_mirror.web.connection import counts_for_client, pending, sends_package, wait_late
from omaha_mirror.web.connection_table import client_key
from omaha_mirror.web.errors import BadRequest, answered, plain, reply_to
from omaha_mirror.web.http_connection import WholeRequest
from omaha_mirror.web.interfaces import Decisions, Observer, Packages
from omaha_mirror.web.package import send_package
from omaha_mirror.web.public_settings import BasicAuth, PublicSettings
from omaha_mirror.web.rate_limited_log import RateLimitedLog
from omaha_mirror.web.request import base_url, host_of, unproxied
from omaha_mirror.web.update import UpdateEndpoint

LOG = structlog.get_logger(__name__)
Handler = Callable[..., Awaitable[web.StreamResponse]]

READ = ("GET", "HEAD")
UPDATE = re.compile(r"/v1/update/?")
SEGMENT = r"[A-Za-z0-9_][A-Za-z0-9._+-]*"
SIDECAR = ".sha256"
FROM_THE_START = "bytes=0-"
TOLERATED = 100
"""Refusals of a kind that a client gets at once within a minute; each further one is delayed."""
LATE = 0.1
"""Seconds of delay for each `TOLERATED` refusals: a flood over many connections must not delay other answers."""
LATEST = 10.0
GUIDE = """\
This is an omaha-mirror: it keeps Flatcar / Container Linux machines up to date from a local cache.

To point a machine here, put this line into /etc/flatcar/update.conf and restart update-engine:

    SERVER={base}/v1/update/
"""


class PublicApp:
    """Answers every request of the public listener; nothing that a client sends makes it raise.

    Args:
        decisions: on checks.
        packages: that machines may have.
        observer: counts and records.
        settings: of the listener.
    """

    def __init__(
        self,
        decisions: Decisions,
        packages: Packages,
        observer: Observer,
        settings: PublicSettings | None = None,
    ) -> None:
        self._packages, self._observer = packages, observer
        self._settings = settings or PublicSettings()
        self._update = UpdateEndpoint(decisions, observer, self._settings)
        self._log = RateLimitedLog()
        boards = "|".join(BOARDS)
        self._routes: list[tuple[re.Pattern[str], tuple[str, ...], Handler]] = [
            (UPDATE, ("POST",), self._update),
            (
                re.compile(rf"/packages/(?P<release>{SEGMENT})/(?P<name>{SEGMENT})"),
                READ,
                self._package,
            ),
            (
                re.compile(rf"/(?P<board>{boards})/(?P<version>{SEGMENT})/(?P<name>{SEGMENT})"),
                READ,
                self._layout,
            ),
            (re.compile(r"/healthz"), READ, _alive),
            (re.compile(r"/"), READ, self._guide),
        ]

    def at_once(self, request: WholeRequest) -> bytes | None:
        """The answer to an update check that waits for nothing. Raises what the handler then says."""
        if self._settings.trusts(request.remote) or not UPDATE.fullmatch(request.path):
            return None
        return self._update.at_once(request)

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Route, answer, and turn every error into its reply."""
        return await answered(request, self._answer, plain)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            if not request.raw_path.startswith("/"):
                raise BadRequest("this is no proxy: ask for a path")
            if trusted := self._settings.trusted:
                request = unproxied(request, trusted)
                counts_for_client(request)
            return await self._route(request)
        except BadRequest as error:
            tell(self._observer.on_bad_request, reply_to(error).label)
            times = self._log.tell(
                "refused",
                request.remote or "",
                error.status,
                method=request.method,
                path=printable(request.raw_path),
                why=printable(str(error)),
            )
            if times > TOLERATED:
                await wait_late(request, min(times // TOLERATED * LATE, LATEST))
            return plain(error.status, str(error), error.headers)

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        for pattern, methods, handler in self._routes:
            match = pattern.fullmatch(path)
            if match is None:
                continue
            if request.method not in methods:
                allowed = {"Allow": ", ".join(methods)}
                raise BadRequest(f"{path} takes {' or '.join(methods)}", 405, allowed)
            return await handler(request, **match.groupdict())
        raise BadRequest("no such path", 404)

    def _admit(self, request: web.BaseRequest, auth: BasicAuth) -> None:
        """Raises BadRequest where packages are not for this client."""
        if request.scheme != "https":
            raise BadRequest("packages are given out over https only, with a password", 403)
        if not auth.admits(request.headers.get("Authorization", "")):
            raise BadRequest(
                "packages need a password: DOWNLOAD_USER and DOWNLOAD_PASSWORD in update.conf",
                401,
                {"WWW-Authenticate": 'Basic realm="packages", charset="UTF-8"'},
            )

    async def _package(
        self, request: web.BaseRequest, release: str, name: str
    ) -> web.StreamResponse:
        if (auth := self._settings.auth) is not None:
            self._admit(request, auth)
        file = self._packages.package(release, name)
        if file is None:
            raise BadRequest(
                "no such package: ask for an update first, and use the address it names", 404
            )
        sends_package(request)
        return await send_package(request, self._packages, self._observer, file, immutable=True)

    async def _layout(
        self, request: web.BaseRequest, board: str, version: str, name: str
    ) -> web.StreamResponse:
        if (auth := self._settings.auth) is not None:
            self._admit(request, auth)
        client = client_key(request.remote or "")
        try:
            async with pending(request):
                file = await self._packages.layout_file(
                    board, version, name.removesuffix(SIDECAR), client
                )
        except Stopping as error:
            reply = reply_to(error)
            tell(self._observer.on_package_error, reply.label)
            if not request.headers.get("Range", FROM_THE_START).startswith(FROM_THE_START):
                request.protocol.force_close()
            return plain(reply.status, str(error))
        if file is None or (name.endswith(SIDECAR) and file.sha256 is None):
            raise BadRequest(f"{board}/{version}/{name} is not offered here", 404)
        if name.endswith(SIDECAR) and file.sha256 is not None:
            return plain(200, f"{file.sha256.hex}  {file.name}")
        if self._packages.changed_recently(board, version, name) and _resumes(request, file.size):
            raise BadRequest("this path got other bytes lately: begin again without a Range", 416)
        sends_package(request)
        return await send_package(request, self._packages, self._observer, file, immutable=False)

    async def _guide(self, request: web.BaseRequest) -> web.StreamResponse:
        base = base_url(self._settings.public_url, request.scheme, host_of(request))
        return plain(200, GUIDE.format(base=base))


async def _alive(_: web.BaseRequest) -> web.StreamResponse:
    return plain(200, "ok")


def _resumes(request: web.BaseRequest, size: int) -> bool:
    """Whether a client asks for the rest of a file without an If-Range."""
    if "If-Range" in request.headers:
        return False
    part = select(request.headers, size=size, etag=None)
    return isinstance(part, ByteRange) and part.start > 0
