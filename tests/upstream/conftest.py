"""A fetcher for the scripted upstream, and a TLS server beside it."""

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpServer

from omaha_mirror.upstream.allowed import AllowList
from omaha_mirror.upstream.http import HttpFetcher
from omaha_mirror.upstream.requests import HttpSettings
from tests.support.upstream import Upstream

CERTIFICATES = Path(__file__).parent.parent / "data" / "tls"


@pytest.fixture
async def fetcher(upstream: Upstream) -> AsyncIterator[HttpFetcher]:
    fetcher = HttpFetcher(HttpSettings(AllowList(upstream.origin)))
    yield fetcher
    await fetcher.close()


@pytest.fixture
async def secure(upstream: Upstream, aiohttp_server: AiohttpServer) -> str:
    """The origin of a TLS server that redirects /down to the plain upstream, and says hello to all else."""

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/down":
            raise web.HTTPTemporaryRedirect(upstream.url("/x"))
        return web.Response(text="hello")

    app = web.Application()
    app.router.add_route("*", "/{path}", answer)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / "localhost.pem")
    server = await aiohttp_server(app, ssl=context)
    return f"https://localhost:{server.port}"
