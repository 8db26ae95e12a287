"""Clients that mean ill, and many of them: machines are answered all the while, and the log stays small and whole."""

import asyncio
import json
import logging
import re
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from time import monotonic

import pytest

from omaha_mirror.web.public import TOLERATED
from tests.support.mirror import MirrorProcess, omaha
from tests.support.talk import Talk, dial, request
from tests.support.upstream import Upstream

LOG = logging.getLogger(__name__)
CHECKS = 30
BATCH = 5
SPARE = 500
"""File descriptors of this process that are no connections."""
HOSTILE = "a&#10;{&quot;event&quot;:&quot;b&quot;}&#13;&#x9b;31m&#x2028;&#x202e;&#x85;"
CHECK = request("POST", "/v1/update/", body=omaha("request_check_first"))
HEALTH = request("GET", "/healthz")
MISSING = request("GET", "/missing")


@pytest.fixture
async def quiet(release: Upstream, tmp_path: Path) -> AsyncIterator[MirrorProcess]:
    """As a process of its own, with what it offers already looked up."""
    async with MirrorProcess(tmp_path, release.origin) as process:
        await process.payload()
        yield process


async def checks(process: MirrorProcess, count: int = CHECKS) -> float:
    """Machines ask, each on a connection of its own; the longest that one waited, in seconds."""
    longest = 0.0
    for _ in range(count):
        began = monotonic()
        async with dial(process.address) as talk:
            await talk.send(CHECK)
            answer = await talk.answer()
        longest = max(longest, monotonic() - began)
        assert b'status="ok"' in answer.body
    return longest


def report(seconds: float) -> None:
    """A figure, not a bound: other tests may run beside this one. See it with --log-cli-level=info."""
    LOG.info("the slowest check took %.1f ms", seconds * 1000)


@asynccontextmanager
async def crowd(process: MirrorProcess, count: int) -> AsyncIterator[list[Talk]]:
    """Connections, from as many addresses as their ports need."""
    async with AsyncExitStack() as stack:
        sources = (f"127.0.0.{2 + i // 5000}" for i in range(count))
        yield [await stack.enter_async_context(dial(process.address, source=s)) for s in sources]


def is_open(talk: Talk) -> bool:
    """Whether the mirror has not closed it."""
    try:
        return talk.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False


@contextmanager
def descriptors(count: int) -> Iterator[None]:
    """Let this process have so many connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + SPARE), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_headers_that_dribble_in_hold_nobody_up(quiet: MirrorProcess) -> None:
    async with crowd(quiet, 500) as talks:
        longest = 0.0
        for i in range(5):
            for talk in talks:
                await talk.send(HEALTH[i : i + 1])
            longest = max(longest, await checks(quiet, CHECKS // 5))
        assert all(map(is_open, talks))
        for talk in talks:
            await talk.send(HEALTH[5:])
        assert {(await talk.answer()).status for talk in talks} == {200}
    report(longest)


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.long)])
async def test_idle_connections_hold_nobody_up(quiet: MirrorProcess, count: int) -> None:
    with descriptors(count):
        async with crowd(quiet, count) as talks:
            # Half of them were heard, and are kept for their next request; the others say nothing.
            for talk in talks[::2]:
                await talk.send(HEALTH)
            for talk in talks[::2]:
                assert (await talk.answer()).status == 200
            longest = await checks(quiet)
            assert sum(map(is_open, talks[::2])) == len(talks[::2])
    report(longest)
    await checks(quiet, 1)


async def test_a_flood_of_404s_holds_nobody_up_and_is_told_in_few_lines(
    quiet: MirrorProcess,
) -> None:
    stop = asyncio.Event()

    async def flood(talk: Talk) -> int:
        count = 0
        while not stop.is_set():
            await talk.send(MISSING * BATCH)
            for _ in range(BATCH):
                assert (await talk.answer()).status == 404
            count += BATCH
        return count

    before = len(quiet.log)
    async with crowd(quiet, 20) as talks:
        floods = [asyncio.create_task(flood(talk)) for talk in talks]
        longest = await checks(quiet)
        assert not any(flood.done() for flood in floods)
        stop.set()
        count = sum(await asyncio.gather(*floods))
    assert count > TOLERATED
    log = await quiet.logged_so_far()
    refused = [line for line in log[before:] if '"refused"' in line]
    assert [json.loads(line)["path"] for line in refused] == ["/missing"]
    report(longest)


async def test_requests_sent_ahead_in_bulk_hold_nobody_up(quiet: MirrorProcess) -> None:
    """Nobody reads the answers: the mirror stops to read the requests."""
    async with crowd(quiet, 20) as talks:
        sending = [asyncio.create_task(talk.send(MISSING * 100_000)) for talk in talks]
        longest = await checks(quiet)
        assert not any(task.done() for task in sending)
        for task in sending:
            task.cancel()
        await asyncio.wait(sending)
    report(longest)


async def test_nothing_that_a_client_sends_gets_out_of_its_line_of_the_log(
    quiet: MirrorProcess,
) -> None:
    text = omaha("request_check_first").decode()
    head, tag, app = text.partition("<app")
    names = re.findall(r' (\w+)="', app.partition(">")[0])
    assert {"version", "track", "board", "machineid"} <= set(names)
    bodies = [
        f"{head}{tag}" + re.sub(rf' {name}="[^"]*"', f' {name}="{HOSTILE}"', app, count=1)
        for name in names
    ]
    event = (
        f'<event eventtype="3" eventresult="2" errorcode="{HOSTILE}" previousversion="{HOSTILE}"/>'
    )
    bodies += [text.replace("</app>", f"{event}</app>"), f"<request {HOSTILE}"]
    raw = b"\xc2\x9b31m\xe2\x80\xa8\xff"
    requests = [
        *(request("POST", "/v1/update/", body=body.encode()) for body in bodies),
        b"GET /" + raw + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: " + raw + b"\r\n\r\n",
        b"G" + raw + b" / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: " + raw + b"\r\n\r\n",
        b"POST /v1/update HTTP/1.1\r\nHost: a\r\nContent-Length: " + raw + b"\r\n\r\n",
    ]
    before = len(quiet.log)
    for sent in requests:
        async with dial(quiet.address) as talk:
            await talk.send(sent)
            assert (await talk.answer()).status in (200, 400)
    log = await quiet.logged_so_far()
    assert len(log) - before > len(names)
    for line in log[before:]:
        values = json.loads(line)
        assert (
            values["event"] in ("check", "event", "refused", "bad HTTP")
            or "unread" in line
            or ("cannot be read" in values["event"])
        )
        for value in values.values():
            assert str(value).isprintable(), line
