"""How commands reach the mirror that runs: through its admin listener, which its cache directory names."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from omaha_mirror.cache.lock import DirectoryInUse, in_use
from omaha_mirror.cli import admin_token
from omaha_mirror.cli.exits import Exit
from omaha_mirror.config import Address, Config

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


class Refused(Exception):
    """It cannot be done; the message says why, `exit` with which status the command ends."""

    def __init__(self, message: str, exit_: Exit = Exit.FAILURE) -> None:
        super().__init__(message)
        self.exit = exit_


class RunningMirror:
    """Asks the admin listener. All methods raise Refused."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def ask(self, method: str, path: str, body: Json | None = None) -> Json:
        """One question, one JSON object."""
        async with _told(), self._session.request(method, path, json=body) as response:
            text = await _read(response)
            if response.status != 200:
                raise _refused(response.status, text)
            return _object(text)

    async def lines(self, path: str, body: Json) -> AsyncGenerator[Json]:
        """What a long work tells as it goes on: a JSON object a line."""
        async with _told(), self._session.post(path, json=body) as response:
            if response.status != 200:
                raise _refused(response.status, await _read(response))
            async for line in response.content:
                yield _object(line)

    async def receive(self, path: str, body: Json) -> AsyncGenerator[bytes]:
        """A file that the mirror sends."""
        async with _told(), self._session.post(path, json=body) as response:
            if response.status != 200:
                raise _refused(response.status, await _read(response))
            async for chunk in response.content.iter_any():
                yield chunk

    async def send(self, path: str, chunks: AsyncIterable[bytes]) -> Json:
        """Send a file; what the mirror says of it."""
        async with _told(), self._session.post(path, data=chunks) as response:
            text = await _read(response)
            if response.status != 200:
                raise _refused(response.status, text)
            return _object(text)


@asynccontextmanager
async def running_mirror(config: Config) -> AsyncIterator[RunningMirror]:
    """The mirror that runs with a config. Raises Refused."""
    try:
        found = in_use(config.cache.directory)
    except OSError as error:
        raise Refused(str(error)) from None
    if found is None:
        raise Refused(
            f"no mirror runs on {config.cache.directory}: start it, or name its config with --config"
        )
    async with reach(config, found) as mirror:
        yield mirror


@asynccontextmanager
async def reach(config: Config, found: DirectoryInUse) -> AsyncIterator[RunningMirror]:
    """The mirror that holds a directory. Raises Refused."""
    holder = found.holder
    if holder is None or holder.admin is None:
        raise Refused(
            f"{found}, which has no admin listener: set admin.listen there, or try again when it has ended"
        )
    try:
        token = admin_token.read(admin_token.place(config, os.environ))
    except OSError as error:
        raise Refused(f"{found}; its admin token cannot be read: {error}") from None
    async with aiohttp.ClientSession(
        f"http://{Address.parse(holder.admin).from_here}",
        headers={"Authorization": f"Bearer {token}"},
        timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT, sock_read=SILENCE),
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as session:
        yield RunningMirror(session)


@asynccontextmanager
async def _told() -> AsyncIterator[None]:
    """Foreign errors, for people."""
    try:
        yield
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        why = str(error) or type(error).__name__
        raise Refused(f"the running mirror does not answer: {why}") from error


async def _read(response: aiohttp.ClientResponse) -> bytes:
    text = bytearray()
    while chunk := await response.content.readany():
        text += chunk
        if len(text) > LIMIT:
            raise Refused(f"the running mirror sends more than {LIMIT} bytes")
    return bytes(text)


def _object(text: bytes) -> Json:
    try:
        told = json.loads(text)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise Refused("the running mirror sends something else than JSON")
    return told


def _refused(status: int, text: bytes) -> Refused:
    why = str(_object(text).get("error", ""))
    return Refused(f"{why} ({status})", EXITS.get(status, Exit.FAILURE))
