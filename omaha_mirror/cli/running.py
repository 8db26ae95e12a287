"""How commands reach a running mirror: through its admin listener, whose address is in the lock file of its cache."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from omaha_mirror.cache.lock import DirectoryInUse, in_use
from omaha_mirror.cli.exits import Exit, Failure
from omaha_mirror.config import Address, Config, load
from omaha_mirror.web.admin import token as admin_token

CONNECT = 10.0
SILENCE = 600.0
"""Seconds that the mirror may take for one blob."""
LIMIT = 64 * 1024 * 1024
EXITS = {
    404: Exit.NOT_FOUND,
    422: Exit.VERIFICATION_FAILED,
    502: Exit.UPSTREAM_UNREACHABLE,
    504: Exit.UPSTREAM_UNREACHABLE,
}

Json = dict[str, Any]


class RunningMirror:
    """Talks to the admin listener. All methods raise Failure."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def ask(self, method: str, path: str, body: Json | None = None) -> Json:
        """Send a request; gives the JSON object of the response."""
        async with self._answer(method, path, json=body) as response:
            return _object(await _read(response))

    async def lines(self, path: str, body: Json) -> AsyncGenerator[Json]:
        """Send a request; gives the JSON objects of the response, one a line, as they arrive."""
        async with self._answer("POST", path, json=body) as response:
            async for line in response.content:
                yield _object(line)

    async def receive(self, path: str, body: Json) -> AsyncGenerator[bytes]:
        """Send a request; gives the file that the mirror sends."""
        async with self._answer("POST", path, json=body) as response:
            async for chunk in response.content.iter_any():
                yield chunk

    async def send(self, path: str, chunks: AsyncIterable[bytes]) -> Json:
        """Send a file; gives the JSON object of the response."""
        async with self._answer("POST", path, data=chunks) as response:
            return _object(await _read(response))

    @asynccontextmanager
    async def _answer(
        self, method: str, path: str, **sent: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A good response."""
        try:
            async with self._session.request(method, path, **sent) as response:
                if response.status != 200:
                    raise _failure(response.status, await _read(response))
                yield response
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            why = str(error) or type(error).__name__
            raise Failure(f"the running mirror does not answer: {why}") from error


def ask(config_path: Path | None, method: str, path: str, body: Json | None = None) -> Json:
    """One request to the mirror that runs with a config. Raises ConfigError, Failure."""

    async def inside() -> Json:
        async with running_mirror(load(config_path, os.environ)) as mirror:
            return await mirror.ask(method, path, body)

    return asyncio.run(inside())


@asynccontextmanager
async def running_mirror(config: Config) -> AsyncIterator[RunningMirror]:
    """The mirror that runs with a config. Raises Failure."""
    try:
        found = in_use(config.cache.directory)
    except OSError as error:
        raise Failure(str(error)) from None
    if found is None:
        raise Failure(
            f"no mirror runs on {config.cache.directory}: start it, or name its config with --config"
        )
    async with reach(config, found) as mirror:
        yield mirror


@asynccontextmanager
async def reach(config: Config, found: DirectoryInUse) -> AsyncIterator[RunningMirror]:
    """The mirror that holds a directory. Raises Failure."""
    holder = found.holder
    if holder is None or holder.admin is None:
        raise Failure(
            f"{found}, which has no admin listener: set admin.listen there, or try again after it ends"
        )
    try:
        token = admin_token.read(admin_token.place(config, os.environ))
    except OSError as error:
        raise Failure(f"{found}; its admin token cannot be read: {error}") from None
    async with aiohttp.ClientSession(
        f"http://{Address.parse(holder.admin).from_here}",
        headers={"Authorization": f"Bearer {token}"},
        timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT, sock_read=SILENCE),
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as session:
        yield RunningMirror(session)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    text = bytearray()
    while chunk := await response.content.readany():
        text += chunk
        if len(text) > LIMIT:
            raise Failure(f"the running mirror sends more than {LIMIT} bytes")
    return bytes(text)


def _object(text: bytes) -> Json:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Failure("the running mirror sends no JSON")
    return value


def _failure(status: int, text: bytes) -> Failure:
    why = str(_object(text).get("error", ""))
    return Failure(f"{why} ({status})", EXITS.get(status, Exit.FAILURE))
