"""The scripted upstream must not lie: seen here with plain sockets and the standard library."""

import asyncio
import hashlib
import socket
import threading
import urllib.request

import pytest

from tests.support.threaded_upstream import ThreadedUpstream
from tests.support.upstream import (
    Change,
    Corrupt,
    Drop,
    Encoding,
    Fin,
    LongRange,
    NoLength,
    NoRange,
    NoValidator,
    Redirect,
    Status,
    Upstream,
    WrongLength,
    WrongRange,
)

PATH = "/amd64-usr/1.2.3/update.gz"
BODY = bytes(range(251)) * 1000


class Answer:
    """An answer as it stood on the wire."""

    def __init__(self, head: bytes, body: bytes, error: OSError | None) -> None:
        lines = head.decode().split("\r\n")
        self.status = int(lines[0].split()[1])
        self.headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        self.body = body
        self.error = error


async def ask(upstream: Upstream, path: str = PATH, method: str = "GET", **headers: str) -> Answer:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(upstream.origin[17:]))
    fields = {"Host": "x", "Connection": "close"} | {
        k.replace("_", "-"): v for k, v in headers.items()
    }
    lines = [f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items()), "", ""]
    writer.write("\r\n".join(lines).encode())
    data, error = bytearray(), None
    try:
        while chunk := await reader.read(65536):
            data += chunk
    except OSError as reset:
        error = reset
    finally:
        writer.close()
    head, _, body = bytes(data).partition(b"\r\n\r\n")
    return Answer(head, body, error)


async def test_a_file_is_served_whole_with_validators_and_a_sidecar(upstream: Upstream) -> None:
    upstream.put(PATH, BODY)
    answer = await ask(upstream)
    assert (answer.status, answer.body) == (200, BODY)
    assert answer.headers["Content-Length"] == str(len(BODY))
    assert answer.headers["ETag"].startswith('"')
    assert upstream.bytes_sent(PATH) == len(BODY)
    sidecar = await ask(upstream, f"{PATH}.sha256")
    assert sidecar.body.split() == [hashlib.sha256(BODY).hexdigest().encode(), b"update.gz"]


async def test_head_sends_the_length_and_no_body(upstream: Upstream) -> None:
    upstream.put(PATH, BODY)
    answer = await ask(upstream, method="HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Content-Length"] == str(len(BODY))
    assert upstream.bytes_sent(PATH) == 0


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("bytes=0-9", 0, 10), ("bytes=100-", 100, 251000), ("bytes=-7", 250993, 251000)],
)
async def test_a_range_is_answered_exactly(
    upstream: Upstream, asked: str, start: int, stop: int
) -> None:
    upstream.put(PATH, BODY)
    answer = await ask(upstream, Range=asked)
    assert (answer.status, answer.body) == (206, BODY[start:stop])
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/251000"
    assert upstream.requests(PATH)[0].range == asked


async def test_a_range_beyond_the_end_is_416(upstream: Upstream) -> None:
    upstream.put(PATH, BODY)
    answer = await ask(upstream, Range="bytes=251000-")
    assert (answer.status, answer.headers["Content-Range"]) == (416, "bytes */251000")


async def test_if_range_of_another_generation_gets_the_whole_file(upstream: Upstream) -> None:
    upstream.put(PATH, BODY, etag='"one"')
    assert (await ask(upstream, Range="bytes=5-", If_Range='"one"')).status == 206
    assert (await ask(upstream, Range="bytes=5-", If_Range='"two"')).status == 200
    upstream.put(PATH, BODY, etag='W/"one"')
    assert (await ask(upstream, Range="bytes=5-", If_Range='W/"one"')).status == 200


async def test_a_drop_delivers_all_bytes_before_it_then_resets(upstream: Upstream) -> None:
    upstream.put(PATH, BODY)
    upstream.fault(PATH, Drop(at=70_000, times=1))
    answer = await ask(upstream)
    assert answer.body == BODY[:70_000]
    assert isinstance(answer.error, ConnectionResetError)
    assert upstream.bytes_sent(PATH) == 70_000
    assert (await ask(upstream)).body == BODY


async def test_faults_are_placed_at_absolute_offsets(upstream: Upstream) -> None:
    upstream.put(PATH, BODY)
    upstream.fault(PATH, Fin(at=1000))
    answer = await ask(upstream, Range="bytes=900-1999")
    assert (answer.body, answer.error) == (BODY[900:1000], None)
    assert answer.headers["Content-Length"] == "1100"
    assert (await ask(upstream, Range="bytes=1001-1999")).body == BODY[1001:2000]


async def test_corrupt_flips_one_byte_as_often_as_told(upstream: Upstream) -> None:
    upstream.put(PATH, BODY)
    upstream.fault(PATH, Corrupt(at=1234, times=1))
    answer = await ask(upstream)
    assert answer.body == BODY[:1234] + bytes([BODY[1234] ^ 0xFF]) + BODY[1235:]
    assert (await ask(upstream)).body == BODY


async def test_change_publishes_new_bytes_while_the_old_go_on(upstream: Upstream) -> None:
    upstream.put(PATH, BODY)
    upstream.fault(PATH, Change(at=100, body=b"new", times=1))
    old, new = await ask(upstream), await ask(upstream)
    assert (old.body, new.body) == (BODY, b"new")
    assert old.headers["ETag"] != new.headers["ETag"]


async def test_a_gate_holds_exactly_before_its_byte(upstream: Upstream) -> None:
    upstream.put(PATH, BODY)
    gate = upstream.hold(PATH, at=4321)
    asking = asyncio.create_task(ask(upstream))
    await gate.reached()
    assert upstream.bytes_sent(PATH) == 4321
    gate.open()
    assert (await asking).body == BODY


async def test_a_gate_before_the_head_holds_the_head(upstream: Upstream) -> None:
    upstream.put(PATH, BODY)
    gate = upstream.hold(PATH)
    asking = asyncio.create_task(ask(upstream))
    await gate.reached()
    assert upstream.requests(PATH)[0].status is None
    gate.open()
    assert (await asking).status == 200


async def test_a_client_that_leaves_ends_its_answer(upstream: Upstream) -> None:
    upstream.put(PATH, BODY)
    gate = upstream.hold(PATH, at=10)
    asking = asyncio.create_task(ask(upstream))
    await gate.reached()
    asking.cancel()
    await upstream.until(lambda: upstream.requests(PATH)[0].done)
    assert not upstream.requests(PATH)[0].whole


async def test_answers_can_be_wrong_in_every_scripted_way(upstream: Upstream) -> None:
    upstream.put(PATH, BODY)
    upstream.fault(PATH, Status(503, retry_after="7", times=1))
    upstream.fault(PATH, Redirect("/elsewhere", times=1))
    busy, moved = await ask(upstream), await ask(upstream)
    assert (busy.status, busy.headers["Retry-After"]) == (503, "7")
    assert (moved.status, moved.headers["Location"]) == (302, "/elsewhere")

    upstream.fault(PATH, NoRange(times=1))
    ignored = await ask(upstream, Range="bytes=5-9")
    assert (ignored.status, ignored.body) == (200, BODY)

    upstream.fault(PATH, WrongRange(by=3, times=1))
    assert (await ask(upstream, Range="bytes=5-9")).headers["Content-Range"] == "bytes 8-12/251000"

    upstream.fault(PATH, LongRange(by=2, times=1))
    assert (await ask(upstream, Range="bytes=5-9")).body == BODY[5:12]

    upstream.fault(PATH, WrongLength(by=5, times=1))
    longer = await ask(upstream)
    assert (longer.headers["Content-Length"], longer.body) == ("251005", BODY)

    upstream.fault(PATH, NoLength(times=1))
    chunked = await ask(upstream, Range="bytes=0-2")
    assert "Content-Length" not in chunked.headers
    assert chunked.body == b"3\r\n" + BODY[:3] + b"\r\n0\r\n\r\n"

    upstream.fault(PATH, NoValidator(times=1))
    assert not {"ETag", "Last-Modified"} & set((await ask(upstream)).headers)

    upstream.fault(PATH, Encoding(times=1))
    assert (await ask(upstream)).headers["Content-Encoding"] == "gzip"

    assert (await ask(upstream, "/nothing")).status == 404


async def test_a_fault_can_be_meant_for_one_method(upstream: Upstream) -> None:
    upstream.put(PATH, BODY)
    upstream.fault(PATH, Status(405, method="HEAD"))
    assert (await ask(upstream, method="HEAD")).status == 405
    assert (await ask(upstream)).status == 200


async def test_it_refuses_and_listens_again_on_the_same_port(upstream: Upstream) -> None:
    upstream.put(PATH, b"x")
    origin = upstream.origin
    await upstream.refuse()
    with pytest.raises(ConnectionRefusedError):
        await ask(upstream)
    await upstream.listen()
    assert (await ask(upstream)).body == b"x"
    assert upstream.origin == origin


async def test_the_throttle_is_shared_by_all_connections(upstream: Upstream) -> None:
    upstream.put(PATH, BODY[:20_000])
    upstream.throttle(200_000)
    began = asyncio.get_running_loop().time()
    await asyncio.gather(ask(upstream), ask(upstream))
    assert asyncio.get_running_loop().time() - began >= 0.2
    assert upstream.peak == 2


async def test_bytes_sent_counts_no_byte_that_a_reader_cannot_have(upstream: Upstream) -> None:
    upstream.put(PATH, bytes(64_000_000))
    reader, writer = await asyncio.open_connection("127.0.0.1", int(upstream.origin[17:]), limit=1)
    writer.write(f"GET {PATH} HTTP/1.1\r\n\r\n".encode())
    await reader.read(1)
    await upstream.until(lambda: upstream.bytes_sent(PATH) > 0)
    assert upstream.bytes_sent(PATH) < 16_000_000
    writer.transport.abort()
    await upstream.until(lambda: upstream.requests(PATH)[0].done)


async def test_a_function_can_answer_a_post(upstream: Upstream) -> None:
    upstream.answer("/v1/update/", lambda request: request.body.upper())

    def post() -> bytes:
        with urllib.request.urlopen(upstream.url("/v1/update/"), data=b"ping") as reply:
            body: bytes = reply.read()
            return body

    assert await asyncio.to_thread(post) == b"PING"


def test_the_threaded_one_serves_a_blocking_client() -> None:
    with ThreadedUpstream() as upstream:
        upstream.put(PATH, BODY)
        gate = upstream.hold(PATH, at=100)

        def open_when_reached() -> None:
            gate.reached()
            gate.open()

        threading.Thread(target=open_when_reached).start()
        with urllib.request.urlopen(upstream.url(PATH)) as reply:
            assert reply.read() == BODY
        upstream.until(lambda server: server.requests(PATH)[0].whole)
        assert upstream.bytes_sent(PATH) == len(BODY)
        upstream.run(lambda server: server.refuse())
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(upstream.origin[17:])))
