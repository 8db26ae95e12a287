"""How the cache commands reach a cache: through the admin listener of the mirror that runs, else on disk."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict
from typing import Any, Protocol

import aiohttp

from omaha_mirror.cache.errors import InUse
from omaha_mirror.cache.lock import DirectoryInUse
from omaha_mirror.cli import admin_token
from omaha_mirror.config import Address, Config
from omaha_mirror.config.units import bracketed
from omaha_mirror.service import Service

CONNECT = 10.0
SILENCE = 600.0
"""Seconds that the mirror may take for one blob."""
LIMIT = 64 * 1024 * 1024

Json = dict[str, Any]


class Refused(Exception):
    """It cannot be done; the message says why."""


class CacheAccess(Protocol):
    """What can be done with a cache. All raise Refused."""

    async def contents(self) -> Json:
        """All of it."""

    def verify(self, keys: Sequence[str] | None) -> AsyncGenerator[Json]:
        """Verify these blobs, or all; a verdict for each."""

    async def gc(self, *, dry_run: bool) -> Json:
        """Evict down to the bounds and sweep what is stale."""

    async def remove(self, key: str) -> Json:
        """Remove a blob; gives what went."""


@asynccontextmanager
async def open_cache(config: Config) -> AsyncIterator[CacheAccess]:
    """The cache of a config. Raises Refused."""
    if not config.cache.directory.is_dir():
        raise Refused(f"there is no cache at {config.cache.directory}")
    service = Service(config)
    try:
        await service.open()
    except DirectoryInUse as error:
        async with _running(config, error) as running:
            yield running
    except OSError as error:
        raise Refused(str(error)) from None
    else:
        yield _Stopped(service)
    finally:
        await service.close()


class _Stopped:
    """Works on the directory of a mirror that does not run."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def contents(self) -> Json:
        return asdict(await self._service.cache.contents())

    async def verify(self, keys: Sequence[str] | None) -> AsyncGenerator[Json]:
        async with aclosing(self._service.upkeep.verify_all(keys)) as verdicts:
            async for verdict in verdicts:
                yield asdict(verdict)

    async def gc(self, *, dry_run: bool) -> Json:
        return {"dry_run": dry_run, **asdict(await self._service.cache.gc(dry_run=dry_run))}

    async def remove(self, key: str) -> Json:
        try:
            removed = await self._service.cache.remove(key)
        except InUse as error:
            raise Refused(str(error)) from None
        if removed is None:
            raise Refused(f"{key} is gone already")
        return asdict(removed)


class _Running:
    """Asks the mirror that runs."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def contents(self) -> Json:
        return await self._ask("GET", "")

    async def verify(self, keys: Sequence[str] | None) -> AsyncGenerator[Json]:
        body = {} if keys is None else {"keys": list(keys)}
        async with _told(), self._session.post("/api/v1/cache/verify", json=body) as response:
            if response.status != 200:
                raise Refused(_why(response.status, await _read(response)))
            async for line in response.content:
                yield _object(line)

    async def gc(self, *, dry_run: bool) -> Json:
        return await self._ask("POST", "/gc", {"dry_run": dry_run})

    async def remove(self, key: str) -> Json:
        return await self._ask("DELETE", f"/{key}")

    async def _ask(self, method: str, path: str, body: Json | None = None) -> Json:
        url = f"/api/v1/cache{path}"
        async with _told(), self._session.request(method, url, json=body) as response:
            text = await _read(response)
            if response.status != 200:
                raise Refused(_why(response.status, text))
            return _object(text)


@asynccontextmanager
async def _running(config: Config, in_use: DirectoryInUse) -> AsyncIterator[_Running]:
    holder = in_use.holder
    if holder is None or holder.admin is None:
        raise Refused(
            f"{in_use}, which has no admin listener: set admin.listen there, or try again when it has ended"
        )
    try:
        token = admin_token.read(config.token_file)
    except OSError as error:
        raise Refused(f"{in_use}; its admin token cannot be read: {error}") from None
    async with aiohttp.ClientSession(
        f"http://{_reachable(Address.parse(holder.admin))}",
        headers={"Authorization": f"Bearer {token}"},
        timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT, sock_read=SILENCE),
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as session:
        yield _Running(session)


def _reachable(listening: Address) -> str:
    hosts = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (replaced, not bound to)
    return f"{bracketed(hosts.get(listening.host, listening.host))}:{listening.port}"


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


def _why(status: int, text: bytes) -> str:
    return f"the running mirror refuses: {_object(text).get('error', '')} ({status})"
