"""The doctor's checks of upstream: whether it can be reached, and has what the config names."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Coroutine, Iterable
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, uuid5

import aiohttp
from rich.filesize import decimal

from omaha_mirror.aio.clock import SET_CLOCK, SKEW, Clock
from omaha_mirror.catalog import BOARDS
from omaha_mirror.catalog.catalog_file import load
from omaha_mirror.catalog.model import extensions
from omaha_mirror.cli.doctor_findings import DEADLINE, Found, fail, in_thread, ok, warn, why
from omaha_mirror.cli.exits import Exit
from omaha_mirror.config import Config, Follow, Pin, Relay
from omaha_mirror.config.environment import proxy_of
from omaha_mirror.config.urls import without_password
from omaha_mirror.omaha import AppStatus
from omaha_mirror.state_file import Damaged
from omaha_mirror.upstream.errors import Forbidden, Gone, UpstreamError
from omaha_mirror.upstream.fetcher import seconds
from omaha_mirror.upstream.http import HttpFetcher
from omaha_mirror.upstream.omaha_server import OmahaServer, question
from omaha_mirror.upstream.release_server import ReleaseServer
from omaha_mirror.upstream.requests import settings_of, untimely

NEWEST = "9999.0.0"
"""Above every release, so that no question starts a rollout to this machine."""
MANY_TRACKS = 8
"""Tracks that upstream is asked about."""
MANY_NAMES = 32
"""System extensions that the release server is asked for."""
CATALOG = "catalog.json"
MACHINE = uuid5(NAMESPACE_URL, "omaha-mirror doctor").hex
"""The same on every host, so that the questions add one machine to upstream's count."""

unreachable = partial(fail, exit_=Exit.UPSTREAM_UNREACHABLE)


async def examine_network(config: Config) -> list[Found]:
    """All checks of upstream, at the same time."""
    up = config.upstream
    settings = replace(
        settings_of(up),
        connect_timeout=min(DEADLINE, up.connect_timeout),
        head_timeout=DEADLINE,
    )
    try:
        here = Clock()
        fetcher = HttpFetcher(settings, here)
    except ValueError as error:
        return [fail("upstream", str(error))]
    routes = _routes(config)
    hosts = [str(urlsplit(proxy or url).hostname) for url, proxy in routes]
    proxies = [proxy for _, proxy in routes if proxy is not None]
    looks: list[Coroutine[Any, Any, Iterable[Found]]] = [
        *(name_of(host) for host in dict.fromkeys(hosts)),
        *(proxy_at(proxy) for proxy in dict.fromkeys(proxies)),
        omaha(config, fetcher),
        released(config, fetcher),
        redirected(config, fetcher),
        clock(config, here),
    ]
    try:
        return [found for look in await asyncio.gather(*looks) for found in look]
    finally:
        await fetcher.close()


def _routes(config: Config) -> list[tuple[str, str | None]]:
    """The servers of upstream, each with the proxy that leads to it: the config's, else the environment's."""
    up = config.upstream
    return [(url, _proxy(config, url)) for url in (up.omaha_url, up.release_url) if url is not None]


def _proxy(config: Config, url: str) -> str | None:
    named = proxy_of(url, os.environ)
    return config.upstream.proxy or (named[1] if named is not None else None)


async def name_of(host: str) -> list[Found]:
    """Whether a host name resolves."""
    try:
        found = await in_thread(lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
    except OSError as error:
        words = f"the name {host} is not known ({why(error)}): see /etc/resolv.conf, or set upstream.proxy"
        return [unreachable("dns", words)]
    return [ok("dns", f"{host} is {found[0][4][0]}")]


async def proxy_at(url: str) -> list[Found]:
    """Whether a proxy accepts connections."""
    parts = urlsplit(url)
    shown = without_password(url)
    try:
        async with asyncio.timeout(DEADLINE):
            port = parts.port or (443 if parts.scheme == "https" else 80)
            _, writer = await asyncio.open_connection(parts.hostname, port)
    except OSError as error:
        words = f"{shown} takes no connection ({why(error)}): see upstream.proxy"
        return [unreachable("proxy", words)]
    writer.close()
    return [ok("proxy", f"{shown} takes connections")]


async def omaha(config: Config, fetcher: HttpFetcher) -> list[Found]:
    """Whether upstream's Omaha server gives valid answers."""
    url = config.upstream.omaha_url
    if url is None:
        return [ok("omaha", "upstream.omaha_url is null: the mirror asks no Omaha server")]
    led = {
        (track.upstream_track or name): name
        for name, track in config.tracks.items()
        if isinstance(track, Follow | Relay)
    }
    found: list[Found] = []
    for track, name in list((led or {"stable": "stable"}).items())[:MANY_TRACKS]:
        found += await _track(config, fetcher, url, track, name)
        if found[-1].state == "fail":
            break
    return found


async def _track(
    config: Config, fetcher: HttpFetcher, url: str, track: str, name: str
) -> list[Found]:
    """Whether upstream's Omaha server knows a track. `track` is its name there, `name` its name here."""
    app_id = config.upstream.app_ids[0]
    try:
        async with asyncio.timeout(DEADLINE):
            request = question(MACHINE, app_id, BOARDS[0], track, NEWEST)
            response = await OmahaServer(fetcher, url).ask(request)
    except (UpstreamError, TimeoutError) as error:
        words = f"{url}: {_reason(error)}: see upstream.omaha_url, and this host's firewall"
        return [unreachable("omaha", words)]
    statuses = [app.status for app in response.apps]
    if statuses == [AppStatus.FAILED_TO_RETRIEVE_UPDATE_PACKAGE_INFO]:
        words = (
            f"{url} answers {statuses[0]} for {app_id} on the track {track}: if the track has another"
            f" name there, give that as tracks.{name}.upstream_track"
        )
        return [warn("omaha", words)]
    if statuses != [AppStatus.OK]:
        said = ", ".join(statuses) or "nothing"
        return [warn("omaha", f"{url} answers {said} for {app_id} on the track {track}")]
    return [ok("omaha", f"{url} answers for the track {track}")]


async def released(config: Config, fetcher: HttpFetcher) -> list[Found]:
    """Whether the release server has the pinned releases."""
    pins: dict[str, set[str]] = {}
    for track in (*config.tracks.values(), config.default_track):
        if isinstance(track, Pin):
            pins.setdefault(track.version, set()).update(track.packages)
    if config.upstream.release_url is None:
        words = "upstream.release_url is null: a pin needs upstream's manifest, or an import"
        return [warn("release", words)] if pins else []
    server = ReleaseServer(fetcher, config.upstream.release_url)
    payload = config.upstream.payload_name
    looks = [_version(server, version, payload, names) for version, names in pins.items()]
    looks += [_extensions(config, server, version) for version in pins]
    return [found for look in await asyncio.gather(*looks) for found in look]


async def _extensions(config: Config, server: ReleaseServer, version: str) -> list[Found]:
    """Whether a pinned version whose manifest is not known has all system extensions that this mirror knows of."""
    try:
        releases = (await in_thread(lambda: load(config.state_directory / CATALOG))).upstream
    except (Damaged, OSError, TimeoutError):
        return []
    found = []
    for app_id, board in sorted({(release.app_id, release.board) for release in releases}):
        of_it = [r for r in releases if (r.app_id, r.board) == (app_id, board)]
        if any(release.version == version for release in of_it):
            continue
        names = sorted(extensions(of_it, app_id, board))[:MANY_NAMES]
        files = await asyncio.gather(*(_file(server, board, version, name) for name in names))
        missing = [name for name, file in zip(names, files, strict=True) if file is None]
        if missing:
            words = (
                f"{board}/{version}: upstream's Omaha server sent no manifest of this version, and the"
                f" release server has no {', '.join(missing)}: machines that use them cannot install it"
            )
            found.append(warn("extensions", words))
    return found


async def redirected(config: Config, fetcher: HttpFetcher) -> list[Found]:
    """Whether the release server redirects to a host that is not allowed."""
    if config.upstream.release_url is None:
        return []
    url = f"{config.upstream.release_url}/"
    try:
        await fetcher.head(url, deadline=DEADLINE)
    except Forbidden as error:
        return [fail("redirect", f"{url}: {error.reason}")]
    except UpstreamError:
        pass  # another check finds whether it can be reached, and it need not have this page
    return []


async def _version(
    server: ReleaseServer, version: str, payload: str, extras: Iterable[str]
) -> list[Found]:
    """Whether the server has a version, for some board at least."""
    looks = [_board(server, board, version, payload, extras) for board in BOARDS]
    found = [found for look in await asyncio.gather(*looks) for found in look]
    words = f"there is no {server.url(BOARDS[0], version, payload)}: see the pinned version"
    return found or [fail("release", words)]


async def _board(
    server: ReleaseServer, board: str, version: str, payload: str, extras: Iterable[str]
) -> list[Found]:
    """The files of a version for a board; none if the server has no such version."""
    first = await _file(server, board, version, payload)
    if first is None:
        return []
    found = [first]
    for name in sorted(extras):
        other = await _file(server, board, version, name)
        words = f"there is no {server.url(board, version, name)}: see packages of the pin"
        found.append(other or fail("release", words))
    return found


async def _file(server: ReleaseServer, board: str, version: str, name: str) -> Found | None:
    """A file of a release; None if the server does not have it."""
    url = server.url(board, version, name)
    try:
        async with asyncio.timeout(DEADLINE):
            package = await server.describe(board, version, name)
    except Gone:
        return None
    except Forbidden as error:
        return fail("redirect", f"{url}: {error.reason}")
    except (UpstreamError, TimeoutError) as error:
        return unreachable("release", f"{url}: {_reason(error)}: see upstream.release_url")
    if package.sha256 is None or package.size is None:
        lacking = ".sha256 beside it" if package.sha256 is None else "size in the response"
        words = f"{url} has no {lacking}: the mirror downloads it whole before it offers it"
        return warn("release", words)
    return ok("release", f"{url} is there, {decimal(package.size)}")


async def clock(config: Config, here: Clock) -> list[Found]:
    """Whether the release server, else the Omaha server, answers, and this host's clock agrees with its."""
    up = config.upstream
    if up.release_url is None and up.omaha_url is None:
        return []
    url = f"{up.release_url}/" if up.release_url is not None else str(up.omaha_url)
    try:
        date = seconds(await _date(config, url))
    except (aiohttp.ClientError, OSError, ValueError) as error:
        words = f"{url} does not answer: {why(error)}"
        if untimely(error) and (trouble := here.trouble()):
            words += f"; {trouble}: {SET_CLOCK}"
        return [unreachable("upstream", f"{words}; see upstream's addresses, ca_file and proxy")]
    reached = ok("upstream", f"{url} answers")
    if date is None:
        if not (trouble := here.trouble()):
            return [reached, ok("clock", "the kernel says that it is synchronised")]
        return [reached, warn("clock", f"{url} sends no Date to compare with; {trouble}")]
    here.record_upstream_date(date)
    if here.ahead_of_upstream is not None:
        side = "ahead of" if here.ahead_of_upstream > 0 else "behind"
        words = f"this host is {abs(here.ahead_of_upstream):.0f} s {side} {url}"
        return [reached, fail("clock", f"{words}: certificates and delays go wrong; {SET_CLOCK}")]
    return [reached, ok("clock", f"within {SKEW:.0f} s of {url}")]


async def _date(config: Config, url: str) -> str | None:
    """The Date of a response, whatever its status."""
    context = ssl.create_default_context()
    if config.upstream.ca_file is not None:
        context.load_verify_locations(config.upstream.ca_file)
    async with (
        asyncio.timeout(DEADLINE),
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
        session.head(
            url, ssl=context, proxy=_proxy(config, url), allow_redirects=False
        ) as response,
    ):
        return response.headers.get("Date")


def _reason(error: UpstreamError | TimeoutError) -> str:
    return error.reason if isinstance(error, UpstreamError) else why(error)
