"""A small release server and its Omaha server behind a thin line, for the demo."""

from __future__ import annotations

import asyncio
import hashlib

from aiohttp import web

from omaha_mirror.http_ranges import ByteRange, Unsatisfiable, select
from omaha_mirror.omaha import (
    Action,
    AppRequest,
    AppResponse,
    AppStatus,
    Digest,
    Manifest,
    Package,
    Response,
    UpdateCheck,
    UpdateStatus,
    Url,
    Version,
    parse_request,
    serialise_response,
)
from omaha_mirror.web.errors import plain
from omaha_mirror.web.request import read_body

OMAHA = "/v1/update/"
STEPS = 20
"""Pieces a second in which bodies are sent."""


class DemoRelease:
    """Offers one release to whoever has an older one, and gives out its file; counts what it sends.

    Args:
        path: of the file: `/{board}/{version}/{name}`.
        body: its bytes.
        rate: of the line, in bytes a second.

    Attributes:
        sent: body bytes of the file so far.
        downloads: how many times it was asked for them.
    """

    def __init__(self, path: str, body: bytes, rate: float) -> None:
        self.sent = 0
        self.downloads = 0
        self._path = path
        self._body = body
        self._rate = rate
        self._digest = Digest("sha256", hashlib.sha256(body).digest())

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer update checks, GET and HEAD."""
        if request.path == OMAHA:
            asked = parse_request(await read_body(request))
            apps = tuple(self._offer(app, str(request.url.origin())) for app in asked.apps)
            return web.Response(body=serialise_response(Response(apps=apps)))
        if request.path == f"{self._path}.sha256":
            return plain(200, f"{self._digest.hex}  {self._path.rpartition('/')[2]}")
        if request.path != self._path:
            return plain(404, "no such file")
        size, etag = len(self._body), f'"{self._digest.hex}"'
        headers = {"ETag": etag, "Content-Length": str(size)}
        if request.method == "HEAD":
            return web.Response(headers=headers)
        match select(request.headers, size=size, etag=etag):
            case Unsatisfiable():
                return plain(416, f"the file has {size} bytes")
            case ByteRange() as part:
                headers |= {
                    "Content-Range": part.content_range(size),
                    "Content-Length": str(part.length),
                }
                body = self._body[part.start : part.stop]
                return await self._send(
                    request, web.StreamResponse(status=206, headers=headers), body
                )
            case _:
                return await self._send(request, web.StreamResponse(headers=headers), self._body)

    def _offer(self, app: AppRequest, origin: str) -> AppResponse:
        folder, _, name = self._path.rpartition("/")
        version = Version.parse(folder.rpartition("/")[2])
        if Version.parse(app.version) >= version:
            check = UpdateCheck(status=UpdateStatus.NO_UPDATE)
        else:
            package = Package(
                name=name, size=len(self._body), hash_sha256=self._digest, required=True
            )
            postinstall = Action(event="postinstall", sha256=self._digest)
            check = UpdateCheck(
                status=UpdateStatus.OK,
                urls=(Url(codebase=f"{origin}{folder}/"),),
                manifests=(
                    Manifest(version=version.text, packages=(package,), actions=(postinstall,)),
                ),
            )
        return AppResponse(appid=app.app_id, status=AppStatus.OK, update_check=check)

    async def _send(
        self, request: web.BaseRequest, response: web.StreamResponse, body: bytes
    ) -> web.StreamResponse:
        self.downloads += 1
        await response.prepare(request)
        step = int(self._rate / STEPS)
        for at in range(0, len(body), step):
            piece = body[at : at + step]
            await asyncio.sleep(len(piece) / self._rate)
            await response.write(piece)
            self.sent += len(piece)
        return response
