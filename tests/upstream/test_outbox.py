"""Requests on their way upstream: in order, within bounds, and not lost."""

import asyncio
import errno
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from omaha_mirror.upstream import outbox as outbox_module
from omaha_mirror.upstream import segments as segments_module
from omaha_mirror.upstream.errors import (
    BadAnswer,
    BadStatus,
    Dropped,
    Forbidden,
    Gone,
    Stalled,
    TooLarge,
    Unreachable,
    UpstreamError,
)
from omaha_mirror.upstream.http import HttpFetcher
from omaha_mirror.upstream.outbox import Outbox, OutboxStats, is_refusal
from omaha_mirror.upstream.segments import SEGMENT
from tests.support.logs import Logs
from tests.support.upstream import Hangup, Redirect, Status, Upstream

PATH = "/v1/update/"
PATIENCE = 20.0

Send = Callable[[bytes], Awaitable[None]]
Write = Callable[[int, memoryview], int]


class Server:
    """Takes requests while it is open; fails or refuses as told."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.tried: list[bytes] = []
        self.open = asyncio.Event()
        self.open.set()
        self.trouble: Exception | None = None
        self.bad: dict[bytes, Exception] = {}
        self._news = asyncio.Event()

    async def send(self, request: bytes) -> None:
        self.tried.append(request)
        self._tell()
        await self.open.wait()
        error = self.bad.get(request) or self.trouble
        if error is not None:
            raise error
        self.taken.append(request)
        self._tell()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not holds():
                await self._news.wait()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


class Patient(random.Random):
    """The shortest jitter."""

    def uniform(self, a: float, b: float) -> float:
        return a / 10


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop hardly waits for an answer: most tests stop while none comes."""
    monkeypatch.setattr(outbox_module, "LAST_ANSWER", 0.01)


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "outbox"


@asynccontextmanager
async def opened(
    folder: Path, send: Send, *, count: int = 10_000, size: int = 1 << 20
) -> AsyncIterator[Outbox]:
    outbox = Outbox(folder, send, max_count=count, max_bytes=size, rng=Patient())
    await outbox.start()
    try:
        yield outbox
    finally:
        await outbox.close()


def requests(count: int) -> list[bytes]:
    return [f'<request n="{n}" ä="\u2028\r\n\t"/>'.encode() for n in range(count)]


async def filled(folder: Path, wanted: list[bytes], server: Server) -> None:
    """Leave these on disk, unsent."""
    server.open.clear()
    async with opened(folder, server.send) as outbox:
        for request in wanted:
            outbox.put(request)
    server.open.set()
    server.tried.clear()


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def held(folder: Path) -> int:
    """Bytes on disk."""
    return sum(path.stat().st_size for path in files(folder))


async def left_on(folder: Path) -> list[bytes]:
    """What the next start finds."""
    server = Server()
    server.open.clear()
    async with opened(folder, server.send) as outbox:
        count = outbox.stats.queued
        server.open.set()
        await server.until(lambda: len(server.taken) == count)
    return server.taken


async def empty(outbox: Outbox) -> None:
    """Wait until the sender has read the last answer, which the server sent already."""
    while outbox.stats.queued:  # noqa: ASYNC110 - the outbox tells nobody
        await asyncio.sleep(0)


async def test_requests_arrive_in_order_one_at_a_time(
    upstream: Upstream, fetcher: HttpFetcher, folder: Path
) -> None:
    upstream.put(PATH, b"<response/>")

    async def send(request: bytes) -> None:
        await fetcher.post(upstream.url(PATH), request, limit=1000, deadline=PATIENCE)

    async with opened(folder, send) as outbox, asyncio.timeout(PATIENCE):
        for request in requests(20):
            outbox.put(request)
        await upstream.until(lambda: sum(r.done for r in upstream.log) == 20)
    assert [r.body for r in upstream.log] == requests(20)
    assert upstream.peak == 1


async def test_a_real_outage_costs_nothing_and_a_real_refusal_one(
    upstream: Upstream, fetcher: HttpFetcher, folder: Path
) -> None:
    upstream.put(PATH, b"<response/>")
    upstream.fault(PATH, Hangup(times=1))
    upstream.fault(PATH, Status(503, times=1))
    upstream.fault(PATH, Status(429, times=1))
    upstream.fault(PATH, Status(400, times=1))

    async def send(request: bytes) -> None:
        await fetcher.post(upstream.url(PATH), request, limit=1000, deadline=PATIENCE)

    async with opened(folder, send) as outbox, asyncio.timeout(PATIENCE):
        first, second = requests(2)
        outbox.put(first)
        outbox.put(second)
        await upstream.until(lambda: len(upstream.log) == 5 and upstream.log[-1].done)
        assert [r.body for r in upstream.log] == [first] * 4 + [second]
        await empty(outbox)
        assert outbox.stats == OutboxStats(queued=0, sent=1, dropped=0, refused=1)
        upstream.fault(PATH, Redirect("/elsewhere", times=1))
        outbox.put(first)
        await upstream.until(lambda: len(upstream.log) == 6)
        await empty(outbox)
        assert outbox.stats == OutboxStats(queued=0, sent=1, dropped=0, refused=2)


@pytest.mark.parametrize(
    ("error", "refusal"),
    [
        (BadStatus("", "", status=400), True),
        (BadStatus("", "", status=403), True),
        (BadStatus("", "", status=499), True),
        (BadStatus("", "", status=408), False),
        (BadStatus("", "", status=429), False),
        (BadStatus("", "", status=500), False),
        (BadStatus("", "", status=503), False),
        (Gone("", ""), True),
        (BadAnswer("", ""), True),
        (TooLarge("", ""), True),
        (Forbidden("", ""), True),
        (Unreachable("", ""), False),
        (Stalled("", ""), False),
        (Dropped("", ""), False),
    ],
    ids=repr,
)
def test_only_a_definite_no_is_a_refusal(error: UpstreamError, refusal: bool) -> None:
    assert is_refusal(error) is refusal


@pytest.mark.parametrize(
    "outage", [Unreachable("no line", "http://up/"), TimeoutError(), ConnectionResetError()]
)
async def test_an_outage_keeps_all_in_order_until_it_ends(
    folder: Path, server: Server, outage: Exception
) -> None:
    server.trouble = outage
    async with opened(folder, server.send) as outbox:
        for request in requests(5):
            outbox.put(request)
        await server.until(lambda: len(server.tried) == 4)
        assert set(server.tried) == {requests(1)[0]}
        server.trouble = None
        await server.until(lambda: server.taken == requests(5))
    assert outbox.stats == OutboxStats(queued=0, sent=5, dropped=0, refused=0)


async def test_an_outage_and_a_row_of_refusals_are_each_said_once(
    folder: Path, server: Server, logs: Logs
) -> None:
    first, *others = requests(6)
    server.trouble = Unreachable("no line", "http://up/")
    server.bad = dict.fromkeys(others[:4], BadAnswer("a page", "http://up/"))
    async with opened(folder, server.send) as outbox:
        for request in (first, *others):
            outbox.put(request)
        await server.until(lambda: len(server.tried) == 4)
        server.trouble = None
        await server.until(lambda: server.taken == [first, others[4]])
    assert [(line["event"], line.get("why"), line.get("waiting")) for line in logs] == [
        (
            "upstream accepts no requests at the moment; they are queued",
            "no line (http://up/)",
            None,
        ),
        ("upstream accepts requests again", None, 5),
        (
            "upstream refuses a request; it and others like it are dropped",
            "a page (http://up/)",
            None,
        ),
    ]
    assert outbox.stats == OutboxStats(queued=0, sent=2, dropped=0, refused=4)


async def test_a_request_that_breaks_the_sender_holds_up_no_other(
    folder: Path, server: Server
) -> None:
    first, second = requests(2)
    server.bad = {first: ValueError("a bug")}
    async with opened(folder, server.send) as outbox:
        outbox.put(first)
        outbox.put(second)
        await server.until(lambda: server.taken == [second])
    assert outbox.stats == OutboxStats(queued=0, sent=1, dropped=0, refused=1)


async def test_the_oldest_are_dropped_when_there_are_too_many(folder: Path, server: Server) -> None:
    server.trouble = Unreachable("no line", "http://up/")
    async with opened(folder, server.send, count=3) as outbox:
        for request in requests(10):
            outbox.put(request)
        assert outbox.stats == OutboxStats(queued=3, sent=0, dropped=7, refused=0)
    assert await left_on(folder) == requests(10)[-3:]


async def test_the_oldest_are_dropped_when_they_have_too_many_bytes(
    folder: Path, server: Server
) -> None:
    server.trouble = Unreachable("no line", "http://up/")
    async with opened(folder, server.send, size=500) as outbox:
        for n in range(10):
            outbox.put(b"%d" % n * 200)
        outbox.put(b"x" * 600)
        assert outbox.stats == OutboxStats(queued=0, sent=0, dropped=11, refused=0)
        outbox.put(b"a" * 200)
        outbox.put(b"b" * 200)
        outbox.put(b"c" * 200)
        assert outbox.stats.queued == 2
    assert await left_on(folder) == [b"b" * 200, b"c" * 200]


async def test_a_request_under_way_is_not_dropped(folder: Path, server: Server) -> None:
    server.open.clear()
    first, *others = requests(6)
    async with opened(folder, server.send, count=2) as outbox:
        outbox.put(first)
        await server.until(lambda: server.tried == [first])
        for request in others:
            outbox.put(request)
        assert outbox.stats == OutboxStats(queued=2, sent=0, dropped=4, refused=0)
        server.trouble = Unreachable("no line", "http://up/")
        server.open.set()
        await server.until(lambda: len(server.tried) == 2)
        server.trouble = None
        await server.until(lambda: server.taken == [first, others[-1]])
    assert outbox.stats == OutboxStats(queued=0, sent=2, dropped=4, refused=0)


async def test_what_was_not_sent_is_sent_after_a_restart_and_only_that(
    folder: Path, server: Server
) -> None:
    await filled(folder, requests(10), server)
    async with opened(folder, server.send) as outbox:
        await server.until(lambda: len(server.taken) == 10)
        server.open.clear()
        outbox.put(b"new")
        outbox.put(b"newer")
    assert server.taken == requests(10)
    assert await left_on(folder) == [b"new", b"newer"]
    assert await left_on(folder) == []
    assert files(folder) == []


async def test_a_stop_waits_for_the_answer_to_what_was_sent_and_begins_nothing(
    folder: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "LAST_ANSWER", PATIENCE)
    first, second = requests(2)
    server.open.clear()
    async with opened(folder, server.send) as outbox:
        outbox.put(first)
        outbox.put(second)
        await server.until(lambda: server.tried == [first])
        asyncio.get_running_loop().call_soon(server.open.set)
    assert server.tried == [first]
    async with opened(folder, server.send):
        await server.until(lambda: server.taken == [first, second])


async def test_a_restart_within_a_segment_sends_nothing_twice(folder: Path, server: Server) -> None:
    await filled(folder, requests(10), server)
    server.bad = {requests(10)[6]: Unreachable("no line", "http://up/")}
    async with opened(folder, server.send):
        await server.until(lambda: len(server.tried) == 7)
    assert await left_on(folder) == requests(10)[6:]


async def test_segments_go_as_they_are_done(folder: Path, server: Server) -> None:
    big = [b"%d" % n + b"x" * (SEGMENT // 2) for n in range(6)]
    await filled(folder, big, server)
    assert len(files(folder)) == 3
    server.bad = {big[4]: Unreachable("no line", "http://up/")}
    async with opened(folder, server.send, size=10 * SEGMENT):
        await server.until(lambda: big[4] in server.tried)
    [entries, mark] = files(folder)
    assert entries.stat().st_size > SEGMENT > mark.stat().st_size
    assert await left_on(folder) == big[4:]


async def test_the_disk_holds_little_more_than_the_bound_however_long_an_outage(
    folder: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments_module, "SEGMENT", 2000)
    server.trouble = Unreachable("no line", "http://up/")
    async with opened(folder, server.send, size=10_000) as outbox:
        for n in range(50):
            for _ in range(20):
                outbox.put(b"%02d" % n * 50)
            await outbox._flush()
            assert held(folder) <= 10_000 + 2 * 2000
            assert len(files(folder)) <= 10
    assert outbox.stats.dropped == 1000 - outbox.stats.queued


async def test_a_queue_that_was_empty_is_written_again(folder: Path, server: Server) -> None:
    async with opened(folder, server.send) as outbox:
        for request in requests(3):
            server.open.clear()
            outbox.put(request)
            await outbox._flush()
            assert len(files(folder)) == 1
            server.open.set()
            await server.until(partial(server.taken.__contains__, request))
            await outbox._flush()
            assert files(folder) == []


async def test_what_is_sent_at_once_never_touches_the_disk(folder: Path, server: Server) -> None:
    async with opened(folder, server.send) as outbox:
        for request in requests(100):
            outbox.put(request)
        await server.until(lambda: len(server.taken) == 100)
    assert os.listdir(folder.parent) == []


async def test_only_the_mirror_may_read_what_waits(folder: Path, server: Server) -> None:
    await filled(folder, requests(1), server)
    [segment] = files(folder)
    assert [os.stat(path).st_mode & 0o777 for path in (folder, segment)] == [0o700, 0o600]


async def test_a_put_does_not_wait_for_a_disk_that_hangs(
    folder: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging, released = threading.Event(), threading.Event()
    write = os.write

    def hang(fd: int, data: memoryview) -> int:
        hanging.set()
        assert released.wait(PATIENCE)
        return write(fd, data)

    first, second = requests(2)
    server.open.clear()
    async with opened(folder, server.send) as outbox:
        outbox.put(first)
        monkeypatch.setattr(os, "write", under(folder, hang, write))
        assert await asyncio.to_thread(hanging.wait, PATIENCE)
        outbox.put(second)
        server.open.set()
        await server.until(lambda: server.taken == [first, second])
        released.set()
    assert await left_on(folder) == []


def under(folder: Path, changed: Write, write: Write) -> Write:
    """Writes to the folder's files are changed, and others, such as log lines, are not."""

    def either(fd: int, data: memoryview) -> int:
        inside = os.readlink(f"/proc/self/fd/{fd}").startswith(f"{folder}/")
        return (changed if inside else write)(fd, data)

    return either


def full(free: int, write: Write) -> Write:
    """A disk with so many bytes left."""

    def part(fd: int, data: memoryview) -> int:
        nonlocal free
        if not free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = write(fd, data[:free])
        free -= written
        return written

    return part


async def test_a_full_disk_stops_nothing_and_spoils_nothing(
    folder: Path,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    logs: Logs,
) -> None:
    server.trouble = Unreachable("no line", "http://up/")
    wanted = requests(6)
    async with opened(folder, server.send) as outbox:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", under(folder, full(180, os.write), os.write))
            for request in wanted:
                outbox.put(request)
            await outbox._flush()
            await outbox._flush()
        assert outbox.stats.queued == 6
        [segment] = files(folder)
        assert [json.loads(line)["number"] for line in segment.read_bytes().splitlines()] == [1, 2]
    assert await left_on(folder) == wanted
    [why] = [line["why"] for line in logs if "survive" in line["event"]]
    assert why == "[Errno 28] No space left on device"


async def test_no_place_at_all_is_memory_alone(tmp_path: Path, server: Server) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "outbox"
    server.trouble = Unreachable("no line", "http://up/")
    async with opened(folder, server.send) as outbox:
        for request in requests(3):
            outbox.put(request)
        await outbox._flush()
        server.trouble = None
        await server.until(lambda: server.taken == requests(3))


@pytest.mark.parametrize("kind", ["a file", "a pipe", "a link to nowhere else"])
async def test_what_is_in_the_folders_place_is_put_aside(
    folder: Path, server: Server, logs: Logs, kind: str
) -> None:
    match kind:
        case "a file":
            folder.write_text("mine")
        case "a pipe":
            os.mkfifo(folder)
        case _:
            os.symlink(os.devnull, folder)
    await filled(folder, requests(2), server)
    assert str(folder) in str(logs)
    assert os.path.lexists(folder.with_suffix(".damaged"))
    assert await left_on(folder) == requests(2)


async def test_a_segment_that_is_a_pipe_is_not_waited_for(folder: Path, server: Server) -> None:
    folder.mkdir()
    os.mkfifo(folder / "000000000007.jsonl")
    await filled(folder, requests(2), server)
    assert await left_on(folder) == requests(2)


def cut(data: bytes) -> bytes:
    return data[: len(data) - 20]


def zeroes(data: bytes) -> bytes:
    return data[: data.index(b"\n") + 1] + bytes(len(data))


def spoil(bad: bytes, data: bytes) -> bytes:
    """The second line is another one."""
    first, _, *rest = data.splitlines(keepends=True)
    return b"".join([first, bad + b"\n", *rest])


@pytest.mark.parametrize(
    ("damage", "numbers"),
    [
        (cut, [0, 1]),
        (zeroes, [0]),
        (lambda _: b"\xff\xfe\n", []),
        *(
            (partial(spoil, bad), [0, 2])
            for bad in (
                b"",
                b"5",
                b'"done"',
                b"[]",
                b"{}",
                b'{"number": 2}',
                b'{"number": 2, "request": 5}',
                b'{"number": "2", "request": "x"}',
                b'{"number": -1, "request": "x"}',
                b'{"done": 1e400}',
                b'{"done": 99999999999999999999999}',
                b"[" * 100_000,
            )
        ),
    ],
)
async def test_damage_costs_what_it_hit_and_is_said(
    folder: Path,
    server: Server,
    logs: Logs,
    damage: Callable[[bytes], bytes],
    numbers: list[int],
) -> None:
    await filled(folder, requests(3), server)
    [segment] = files(folder)
    segment.write_bytes(damage(segment.read_bytes()))
    async with opened(folder, server.send) as outbox:
        outbox.put(b"new")
        await server.until(lambda: b"new" in server.taken)
    assert server.taken == [*(requests(3)[n] for n in numbers), b"new"]
    assert str(segment) in str(logs)
    assert await left_on(folder) == []


async def test_an_empty_segment_is_a_leftover(folder: Path, server: Server, logs: Logs) -> None:
    os.mkdir(folder)
    (folder / "000000000001.jsonl").touch()
    assert await left_on(folder) == []
    assert files(folder) == []
    assert logs == []


async def test_what_is_no_segment_is_left_alone(folder: Path, server: Server, logs: Logs) -> None:
    os.mkdir(folder)
    (folder / "notes.jsonl").write_text("mine")
    (folder / "000000000007.jsonl").mkdir()
    await filled(folder, requests(2), server)
    assert (folder / "notes.jsonl").read_text() == "mine"
    assert "000000000007.jsonl" in str(logs)
    assert await left_on(folder) == requests(2)


async def test_lower_bounds_hold_for_what_is_found_at_the_start(
    folder: Path, server: Server
) -> None:
    await filled(folder, requests(10), server)
    server.open.clear()
    async with opened(folder, server.send, count=4) as outbox:
        assert outbox.stats == OutboxStats(queued=4, sent=0, dropped=6, refused=0)
    assert await left_on(folder) == requests(10)[-4:]


KILLED = """
import asyncio, random, sys
from pathlib import Path
from omaha_mirror.upstream.outbox import Outbox

async def main(folder):
    outbox = Outbox(folder, lambda request: asyncio.Event().wait(), rng=random.Random())
    await outbox.start()
    for n in range(1000):
        outbox.put(b"%d" % n)
    async with asyncio.timeout(20):
        while outbox._segments.newest < 1000:
            await asyncio.sleep(0.01)
    print("written", flush=True)
    await asyncio.Event().wait()

asyncio.run(main(Path(sys.argv[1])))
"""


def put_and_be_killed(folder: Path) -> None:
    """Run `KILLED` until it has written, and not further."""
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, folder], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"written\n"
        finally:
            process.kill()


async def test_a_killed_process_loses_nothing_of_what_was_written(folder: Path) -> None:
    await asyncio.to_thread(put_and_be_killed, folder)
    assert await left_on(folder) == [b"%d" % n for n in range(1000)]
