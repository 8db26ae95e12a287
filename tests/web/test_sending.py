"""Where sendfile does not work, packages are sent all the same."""

import errno
import os
from typing import BinaryIO

import pytest
from structlog.testing import capture_logs

from omaha_mirror.cache import page_cache
from omaha_mirror.web import sendfile, sending
from tests.support.mirror import PAYLOAD_PATH, Mirror
from tests.support.talk import dial, request
from tests.support.upstream import Upstream
from tests.web.conftest import BODY

SIZE = len(BODY)
HALF = SIZE // 2
ERRORS = [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM]
SENDFILE = os.sendfile


class Sendfile:
    """Works as told for each call in turn, and fails from then on: bytes that it sends, or an error's number."""

    def __init__(self, error: int, *calls: int) -> None:
        self.error = error
        self.calls = list(calls)
        self.asked = 0

    def __call__(self, out: int, file: int, offset: int, count: int) -> int:
        self.asked += 1
        if not self.calls:
            raise OSError(self.error, os.strerror(self.error))
        if (most := self.calls.pop(0)) == 0:
            raise BlockingIOError
        return SENDFILE(out, file, offset, min(count, most))


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "WITHOUT_SENDFILE", set())


async def proven(mirror: Mirror) -> str:
    path = await mirror.payload()
    assert (await mirror.get(path)).body == BODY
    await mirror.until(lambda: len(mirror.ended()) == 1)
    return path


@pytest.mark.parametrize("error", ERRORS, ids=errno.errorcode.get)
async def test_a_package_is_copied_where_there_is_no_sendfile(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    broken = Sendfile(error)
    monkeypatch.setattr(os, "sendfile", broken)
    path = await mirror.payload()
    with capture_logs() as logs:
        assert (await mirror.get(path)).body == BODY
        assert (await mirror.get(path, Range=f"bytes={HALF}-")).body == BODY[HALF:]
    assert broken.asked == 1
    assert [line["why"] for line in logs if "no sendfile" in line["event"]] == [os.strerror(error)]


@pytest.mark.parametrize("calls", [(1000,), (1000, 0), (0,), (1000, 1000)])
async def test_sendfile_that_ceases_to_work_costs_nobody_anything(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, calls: tuple[int, ...]
) -> None:
    path = await proven(mirror)
    monkeypatch.setattr(os, "sendfile", Sendfile(errno.EINVAL, *calls))
    async with dial(mirror.address) as talk:
        await talk.send(request("GET", path))
        assert (await talk.head()).length == SIZE
        assert await talk.read(SIZE) == BODY


async def test_the_copy_goes_on_as_the_fill_does(
    mirror: Mirror, release: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sendfile", Sendfile(errno.EINVAL))
    path = await mirror.payload()
    gate = release.hold(PAYLOAD_PATH, at=HALF)
    async with dial(mirror.address) as talk:
        await talk.send(request("GET", path))
        await gate.reached()
        assert (await talk.head()).status == 200
        assert await talk.read(HALF) == BODY[:HALF]
        gate.open()
        assert await talk.read(SIZE - HALF) == BODY[HALF:]


@pytest.mark.parametrize(
    "error", [errno.ENOMEM, errno.EIO, errno.EOVERFLOW], ids=errno.errorcode.get
)
async def test_a_failure_of_the_moment_costs_nobody_anything(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    path = await proven(mirror)
    with monkeypatch.context() as patch:
        patch.setattr(os, "sendfile", Sendfile(error))
        assert (await mirror.get(path)).body == BODY
    assert not sending.WITHOUT_SENDFILE
    assert (await mirror.get(path)).body == BODY


async def test_what_memory_forgot_while_a_client_was_slow_is_not_read_by_the_loop(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await proven(mirror)
    did: list[str] = []
    load = page_cache.load

    def send(out: int, file: int, offset: int, count: int) -> int:
        did.append("sent")
        return SENDFILE(out, file, offset, min(count, 1000))

    def loaded(*part: int) -> None:
        did.append("loaded")
        load(*part)

    monkeypatch.setattr(os, "sendfile", send)
    monkeypatch.setattr(page_cache, "load", loaded)
    monkeypatch.setattr(page_cache, "resident", lambda *_: bool(did) and did[-1] == "loaded")
    monkeypatch.setattr(page_cache, "RECENT", -1.0)
    monkeypatch.setattr(sending, "RECENT", -1.0)
    assert (await mirror.get(path)).body == BODY
    assert did[:4] == ["loaded", "sent", "loaded", "sent"]
    assert "sent sent" not in " ".join(did)


@pytest.mark.parametrize(
    ("room", "most"), [(-1, sending.PIECE), (10**9, min(sending.LARGE_PIECE, SIZE))]
)
async def test_a_piece_is_large_where_none_of_it_would_wait(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, room: int, most: int
) -> None:
    path = await proven(mirror)
    loaded, counts = page_cache.loaded, list[int]()

    async def noted(file: BinaryIO, offset: int, count: int, *, on_disk: bool) -> None:
        counts.append(count)
        await loaded(file, offset, count, on_disk=on_disk)

    monkeypatch.setattr(os, "sendfile", Sendfile(errno.EINVAL))
    monkeypatch.setattr(sendfile, "room", lambda _: room)
    monkeypatch.setattr(sending, "loaded", noted)
    for _ in range(2):  # the first finds out that there is no sendfile
        counts.clear()
        assert (await mirror.get(path)).body == BODY
    assert max(counts) == most


async def test_a_connection_that_is_gone_ends(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await proven(mirror)
    with monkeypatch.context() as patch:
        patch.setattr(os, "sendfile", Sendfile(errno.ECONNRESET))
        async with dial(mirror.address) as talk:
            await talk.send(request("GET", path))
            assert (await talk.head()).length == SIZE
            assert await talk.rest() == b""
    assert (await mirror.get(path)).body == BODY
