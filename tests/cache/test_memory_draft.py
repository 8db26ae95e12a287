"""No room, or no disk: a blob passes through memory, whole and judged as ever, and is not kept."""

import asyncio
import errno
import os
import socket
from contextlib import ExitStack

import pytest

from omaha_mirror.cache import Expected, Limits, Reader
from omaha_mirror.cache.errors import GenerationEnded, ResumeUnsafe
from omaha_mirror.cache.events import Connected, Evicted, FillEnded, Opened, Outcome, Uncached
from omaha_mirror.cache.memory_draft import MemoryDraft
from tests.cache.conftest import MakeSite
from tests.cache.site import HOLD_BACK, Site, rest, step
from tests.cache.source import CHUNK, ScriptedSource, random_source

SIZE = 2 * 1024 * 1024
HALF = SIZE // 2
SPOOL = 256 * 1024
LIMITS = Limits(spool=SPOOL, pending=CHUNK, proof_seconds=0.0)
FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
async def small(make_site: MakeSite) -> Site:
    """A cache into which the blob never fits."""
    return await make_site(max_size=SIZE - 1, limits=LIMITS)


async def until(reader: Reader, offset: int) -> None:
    while reader.offset < offset:
        await step(reader)


@pytest.mark.parametrize("why", ["never fits", "no room now", errno.EROFS, errno.ENOENT])
async def test_a_blob_that_cannot_be_kept_passes_through_each_time(
    make_site: MakeSite, source: ScriptedSource, why: str | int
) -> None:
    site = await make_site(max_size=SIZE - 1 if why == "never fits" else 2 * SIZE, limits=LIMITS)
    if why == "no room now":
        site.store.free_bytes = SIZE - 1
    if isinstance(why, int):
        site.store.failures["draft"] = OSError(why, os.strerror(why))
    for round_ in (1, 2):
        assert await site.read(source) == source.data
        assert (await site.event(FillEnded, round_)).outcome is Outcome.PROVEN
        assert source.sent == round_ * SIZE
        assert not site.cache.holds(source.expected.key)
        assert site.files("partial") + site.files("blobs") == []
        assert site.ledger.used == 0
    assert len(site.all(Uncached)) == 2


async def test_readers_of_different_speed_share_one_flight_and_little_memory(
    small: Site, source: ScriptedSource
) -> None:
    most = 0

    async def read(pauses: int) -> bytes:
        nonlocal most
        parts = []
        with small.cache.read(source.expected, source, 0, SIZE) as reader:
            while window := await reader.window():
                most = max(most, os.fstat(window.file.fileno()).st_blocks * 512)
                for _ in range(pauses):
                    await asyncio.sleep(0)
                parts.append(os.pread(window.file.fileno(), window.count, window.offset))
                reader.advance(window.count)
        return b"".join(parts)

    assert await asyncio.gather(*(read(pauses) for pauses in (0, 3, 50))) == [source.data] * 3
    assert (source.sent, len(source.opens)) == (SIZE, 1)
    assert 0 < most <= SPOOL + 4096


async def test_a_blob_smaller_than_the_memory_and_an_empty_one(make_site: MakeSite) -> None:
    site = await make_site(limits=LIMITS)
    site.store.failures["draft"] = FULL
    for size in (0, 1, CHUNK):
        source = random_source(size)
        assert await site.read(source) == source.data
        await site.cache.fetch(source.expected, source)
    assert site.files("partial") + site.files("blobs") == []


async def test_a_reader_joins_as_long_as_its_first_byte_is_there(
    small: Site, source: ScriptedSource
) -> None:
    early, late = source.gate(SPOOL - CHUNK), source.gate(HALF)
    first = asyncio.create_task(small.read(source))
    await early.reached.wait()
    second = asyncio.create_task(small.read(source))
    await small.event(Opened, 2)
    early.open()
    await late.reached.wait()
    third = asyncio.create_task(small.read(source))
    fourth = asyncio.create_task(small.read(source, SIZE - 9))
    await small.event(Opened, 4)
    late.open()
    assert list(await asyncio.gather(first, second, third)) == [source.data] * 3
    assert await fourth == source.data[-9:]
    assert [e.status for e in small.all(Opened)] == ["miss", "filling", "miss", "filling"]
    assert source.sent == 2 * SIZE
    await small.event(FillEnded, 2)
    assert small.files("partial") == []


async def test_ranges_are_read_along_and_wait_for_no_proof(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    """Whoever waited would keep the rest from coming."""
    limits = Limits(spool=SPOOL, pending=CHUNK, proof_seconds=3600.0)
    small = await make_site(max_size=SIZE - 1, limits=limits)
    ranges = [(0, SIZE), (5, 9), (HALF, HALF + 1112), (SIZE - HOLD_BACK - 7, SIZE)]
    got = await asyncio.gather(*(small.read(source, start, stop) for start, stop in ranges))
    assert list(got) == [source.data[start:stop] for start, stop in ranges]
    assert source.sent == SIZE


async def test_who_holds_up_the_others_for_too_long_is_cut(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    limits = Limits(spool=SPOOL, pending=CHUNK, lag_seconds=0.05)
    site = await make_site(max_size=SIZE - 1, limits=limits)
    cuts: list[str] = []
    with (
        site.cache.read(source.expected, source, 0, SIZE) as lame,
        site.cache.read(source.expected, source, 0, SIZE) as stuck,
    ):
        lame.on_cut = lambda: cuts.append("lame")
        stuck.on_cut = lambda: cuts.append("stuck")
        await step(lame)
        await stuck.window()
        assert await site.read(source) == source.data
        assert sorted(cuts) == ["lame", "stuck"]
        with pytest.raises(GenerationEnded, match="cannot be continued"):
            await lame.window()
        assert await rest(stuck) == source.data, "it had sent nothing: it begins again"


async def test_who_goes_on_a_little_holds_up_the_others_all_the_same(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    limits = Limits(spool=SPOOL, pending=CHUNK, lag_seconds=0.1)
    site = await make_site(max_size=SIZE - 1, limits=limits)
    with site.cache.read(source.expected, source, 0, SIZE) as lame:
        await lame.window()
        reading = asyncio.create_task(site.read(source))
        while not reading.done():
            await asyncio.sleep(0.01)
            lame.advance(1)
        assert await reading == source.data
        assert lame.offset < SPOOL


async def test_who_holds_up_nobody_is_not_cut(make_site: MakeSite, source: ScriptedSource) -> None:
    limits = Limits(spool=SPOOL, pending=CHUNK, lag_seconds=0.005)
    site = await make_site(max_size=SIZE - 1, limits=limits)
    got = b""
    with site.cache.read(source.expected, source, 0, SIZE) as reader:
        while data := await step(reader):
            got += data
            await asyncio.sleep(0.02)
    assert got == source.data


async def test_wrong_bytes_do_not_complete(small: Site, source: ScriptedSource) -> None:
    good, expected = source.data, source.expected
    source.data = good[:-1] + bytes([good[-1] ^ 1])
    last = source.gate(SIZE - 1)
    with small.cache.read(expected, source, 0, SIZE) as reader:
        reading = asyncio.create_task(rest(reader))
        await last.reached.wait()
        source.data = good
        last.open()
        with pytest.raises(GenerationEnded):
            await reading
        assert reader.offset <= SIZE - HOLD_BACK
    with pytest.raises(ResumeUnsafe), small.cache.read(expected, source, 1, SIZE):
        pass
    assert await small.read(source) == good


async def test_a_disk_that_fills_up_is_emptied_and_the_blob_is_kept(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    site = await make_site(limits=LIMITS)
    old = random_source(SIZE)
    await site.cache.fetch(old.expected, old)
    gate = source.gate(HALF)
    reading = asyncio.create_task(site.read(source))
    await gate.reached.wait()
    site.store.failures["write"], site.store.free_bytes = FULL, 0
    hold = site.store.hold("remove")
    gate.open()
    await hold.reached.wait()
    site.store.failures.clear()
    hold.open()
    assert await reading == source.data
    await site.event(FillEnded, 2)
    assert site.all(Evicted) == [Evicted(old.expected.key, SIZE)]
    assert site.cache.holds(source.expected.key)
    assert (site.all(Uncached), source.sent) == ([], SIZE)


async def test_for_a_disk_that_fails_otherwise_no_blob_is_evicted(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    site = await make_site(limits=LIMITS)
    old = random_source(SIZE)
    await site.cache.fetch(old.expected, old)
    gate = source.gate(HALF)
    reading = asyncio.create_task(site.read(source))
    await gate.reached.wait()
    site.store.failures["write"], site.store.free_bytes = OSError(errno.EIO, "Input/output"), 0
    gate.open()
    assert await reading == source.data
    assert "Input/output" in (await site.event(Uncached)).reason
    assert site.all(Evicted) == []
    assert site.cache.holds(old.expected.key)


async def test_a_disk_that_fills_up_stops_no_reader_wherever_it_is(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    """Some are behind, on what is on disk; some at the edge; one comes later."""
    site = await make_site(limits=LIMITS)
    gate, later = source.gate(HALF), source.gate(HALF + SPOOL // 2)
    with ExitStack() as stack:
        readers = [
            stack.enter_context(site.cache.read(source.expected, source, 0, SIZE)) for _ in range(3)
        ]
        await until(readers[2], HALF)
        await step(readers[1])
        begun = [reader.offset for reader in readers]
        assert begun[0] == 0 < begun[1] <= begun[2] == HALF
        site.store.failures["write"] = FULL
        await gate.reached.wait()
        gate.open()
        await later.reached.wait()
        readers.append(stack.enter_context(site.cache.read(source.expected, source, 7, SIZE)))
        begun.append(7)
        later.open()
        got = await asyncio.gather(*(rest(reader) for reader in readers))
        assert got == [source.data[at:] for at in begun]
    assert (await site.event(FillEnded)).outcome is Outcome.PROVEN
    assert "No space left" in (await site.event(Uncached)).reason
    assert SIZE < source.sent <= SIZE + 2 * CHUNK
    assert len(site.all(FillEnded)) == 1, "one flight for all"
    assert site.files("partial") + site.files("blobs") == []
    assert site.ledger.used == 0


async def test_what_lies_on_the_disk_holds_up_nobody(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    """A reader of it does not keep the others from what fits into memory beyond it."""
    site = await make_site(limits=LIMITS)
    gate = source.gate(HALF)
    with site.cache.read(source.expected, source, 0, SIZE) as behind:
        first = asyncio.create_task(site.read(source, 0, HALF + SPOOL))
        await gate.reached.wait()
        site.store.failures["write"] = FULL
        gate.open()
        assert await first == source.data[: HALF + SPOOL]
        assert behind.offset == 0
        assert await rest(behind) == source.data


async def test_a_disk_that_fills_up_under_two_connections(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    """What both have on disk is read from there; the rest comes in order, on one."""
    site = await make_site(limits=LIMITS)
    far = HALF + CHUNK
    near_gate, far_gate = source.gate(CHUNK), source.gate(far + CHUNK)
    whole = asyncio.create_task(site.read(source))
    await near_gate.reached.wait()
    part = asyncio.create_task(site.read(source, far, far + 2 * CHUNK))
    await site.event(Connected, 2)
    await far_gate.reached.wait()
    await site.filled(2 * CHUNK)
    site.store.failures["write"] = FULL
    far_gate.open()
    near_gate.open()
    assert await whole == source.data
    assert await part == source.data[far : far + 2 * CHUNK]
    await site.event(FillEnded)
    assert [e.outcome for e in site.all(FillEnded)] == [Outcome.PROVEN]
    assert [opened.start for opened in source.opens][2:] == [CHUNK, far + CHUNK]
    assert source.sent <= SIZE + 4 * CHUNK
    assert site.files("partial") == []


async def test_a_write_that_ends_after_the_disk_was_given_up_is_not_counted(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    """Another connection's bytes reach the disk when what is there was already settled."""
    site = await make_site(limits=LIMITS)
    near_gate = source.gate(CHUNK)
    whole = asyncio.create_task(site.read(source))
    await near_gate.reached.wait()
    await site.filled(CHUNK)
    hold = site.store.hold("write")
    part = asyncio.create_task(site.read(source, HALF, HALF + CHUNK))
    await hold.reached.wait()
    del site.store.holds["write"]
    site.store.failures["write"] = FULL
    near_gate.open()
    await site.event(Uncached)
    site.store.failures.clear()
    hold.open()
    assert await whole == source.data
    assert await part == source.data[HALF : HALF + CHUNK]
    assert (await site.event(FillEnded)).outcome is Outcome.PROVEN
    assert len(site.all(FillEnded)) == 1


def test_bytes_on_their_way_to_a_client_are_not_written_over() -> None:
    """What `sendfile` queued in a socket lies in the same memory."""
    size = 64 * 1024
    draft = MemoryDraft(Expected(4 * size, bytes(32)), size)
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        served, _ = server.accept()
    with client, served:
        draft.write(0, [b"a" * size])
        place = draft.place(0)
        sent = os.sendfile(served.fileno(), place.file.fileno(), place.offset, size)
        for offset in range(size, 4 * size, size):
            draft.write(offset, [b"b" * size])
        assert os.fstat(place.file.fileno()).st_blocks * 512 <= size
        served.close()
        assert b"".join(iter(lambda: client.recv(size), b"")) == b"a" * sent
    draft.close()
