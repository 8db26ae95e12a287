"""A blob is proven once more when this process first uses it, or finds another file: for all its readers, as it is served."""

import asyncio
import errno
import os
import shutil
from pathlib import Path

import pytest

from omaha_mirror.cache import Limits, Verifier, fill_verification, recheck_draft
from omaha_mirror.cache.errors import (
    CacheError,
    GenerationEnded,
    InUse,
    Lost,
    ResumeUnsafe,
    SourceFailed,
)
from omaha_mirror.cache.events import Corrupted, FillEnded, Opened, Outcome, Repaired, Verified
from omaha_mirror.cache.prover import HoldBacks
from omaha_mirror.packages.payload_prover import PayloadProvers
from tests.cache.conftest import MakeSite
from tests.cache.payloads import operations, pieces, signed
from tests.cache.site import HOLD_BACK, Hold, Site, rest, step
from tests.cache.source import ScriptedSource, flipped

PAYLOAD = signed(pieces(40, 50_000))
SIZE = len(PAYLOAD)
OPERATIONS = operations(PAYLOAD)
HEAD, TAIL = OPERATIONS[0][0], OPERATIONS[-1][1]
STARTS = [0, 0, 1, SIZE // 2, SIZE * 4 // 5, SIZE * 4 // 5, SIZE - 1]
PLAIN = bytes(range(256)) * 4000


@pytest.fixture
def plain() -> ScriptedSource:
    return ScriptedSource(PLAIN)


async def restarted(make_site: MakeSite, source: ScriptedSource, **options: object) -> Site:
    """A process that finds the blob which another one has proven."""
    options.setdefault("provers", PayloadProvers())
    site = await make_site(**options)
    await site.cache.fetch(source.expected, source)
    await site.cache.close()
    source.sent = 0
    source.opens.clear()
    return await make_site(**options)


def blob(site: Site, source: ScriptedSource) -> Path:
    return site.store.path(source.expected.key)


def flip(path: Path, *offsets: int) -> None:
    """Nobody notices by the times."""
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    data = path.read_bytes()
    for at in offsets:
        data = flipped(data, at)
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=times)


async def crowd(site: Site, source: ScriptedSource) -> None:
    """Readers everywhere, each of whom gets what is right."""
    got = await asyncio.gather(*(site.read(source, start) for start in STARTS))
    assert got == [source.data[start:] for start in STARTS]


async def test_it_is_proven_once_for_all_and_costs_nothing_afterwards(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    site = await restarted(make_site, source)
    assert site.cache.holds(source.expected.key)
    await crowd(site, source)
    await site.event(Verified)
    await crowd(site, source)
    assert await site.cache.fetch(source.expected, source) is None
    assert len(site.all(Verified)) == 1
    assert {event.status for event in site.all(Opened)} == {"hit"}
    assert (source.opens, site.all(FillEnded), site.ledger.used) == ([], [], SIZE)
    assert site.files("partial") + site.files("quarantine") == []


async def test_a_copy_is_right(make_site: MakeSite, source: ScriptedSource, tmp_path: Path) -> None:
    site = await restarted(make_site, source)
    path = blob(site, source)
    await site.read(source)
    await site.event(Verified)
    for times, copy in enumerate((shutil.copy, shutil.copy2), 2):
        copy(path, tmp_path / "copy")
        (tmp_path / "copy").rename(path)
        await crowd(site, source)
        await site.event(Verified, times)
    os.utime(path, (1, 1))
    await crowd(site, source)
    assert source.opens == []


@pytest.mark.parametrize("while_running", [True, False], ids=["running", "stopped"])
async def test_wrong_operations_are_fetched_alone_and_nobody_notices(
    make_site: MakeSite, source: ScriptedSource, while_running: bool
) -> None:
    site = await restarted(make_site, source)
    path = blob(site, source)
    if while_running:
        await site.read(source)
        await site.event(Verified)
    wrong = [OPERATIONS[i] for i in (0, 7, 38)]
    flip(path, *(start + 5 for start, _ in wrong))
    if while_running:
        path.touch()
    await crowd(site, source)
    ended = await site.event(FillEnded)
    assert (ended.outcome, ended.fetched) == (Outcome.PROVEN, source.sent)
    assert source.sent == sum(stop - start for start, stop in wrong)
    assert sorted((m.start, m.stop) for m in site.all(Repaired)) == wrong
    assert not any(m.leaked for m in site.all(Repaired))
    assert path.read_bytes() == PAYLOAD
    await crowd(site, source)
    assert (len(site.all(Verified)), site.ledger.used) == (while_running, SIZE)
    assert site.ledger.reserved == {}


@pytest.mark.parametrize("at", [0, 15, HEAD - 1, TAIL + 3, SIZE - 1])
async def test_a_flip_where_no_operation_is_goes_unnoticed_too(
    make_site: MakeSite, source: ScriptedSource, at: int
) -> None:
    site = await restarted(make_site, source)
    flip(blob(site, source), at)
    await crowd(site, source)
    await site.event(FillEnded)
    await site.cache.fetch(source.expected, source)
    assert blob(site, source).read_bytes() == PAYLOAD


async def test_a_file_of_which_nothing_but_the_whole_tells_is_proven_before_it_leaves(
    make_site: MakeSite, plain: ScriptedSource
) -> None:
    site = await restarted(make_site, plain)
    flip(blob(site, plain), 77)
    assert await site.read(plain) == PLAIN
    assert plain.sent == len(PLAIN)
    assert len(list(site.store.quarantine.iterdir())) == 1
    assert await site.read(plain, 5) == PLAIN[5:]


@pytest.fixture
def hopeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the disk is slow."""
    monkeypatch.setattr(fill_verification, "RECHECK_HOLD", -1.0)


async def rotten(make_site: MakeSite) -> tuple[Site, ScriptedSource]:
    """A large blob that was proven before the restart, and has a wrong byte since."""
    plain = ScriptedSource(os.urandom(5_000_000))
    site = await restarted(make_site, plain, provers=HoldBacks())
    flip(blob(site, plain), 77)
    return site, plain


class Stops:
    """Reading a blob again stops before one offset until the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, offset: int) -> None:
        self.hold = Hold()
        self.fails: BaseException | None = None
        read = recheck_draft.RecheckDraft.read

        def stopping(draft: recheck_draft.RecheckDraft, at: int, count: int) -> bytes:
            if at + count > offset >= at or (at >= offset and self.fails is not None):
                self.hold.pass_through()
                if self.fails is not None:
                    raise self.fails
            return read(draft, at, count)

        monkeypatch.setattr(recheck_draft.RecheckDraft, "read", stopping)


@pytest.mark.usefixtures("hopeless")
async def test_who_got_wrong_bytes_of_such_a_file_is_cut_and_does_not_go_on(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, plain = await rotten(make_site)
    size = len(plain.data)
    stops = Stops(monkeypatch, size - 1)
    with (
        site.cache.read(plain.expected, plain, 0, size) as early,
        site.cache.read(plain.expected, plain, size - 1, size) as late,
    ):
        while early.offset < size - HOLD_BACK:
            assert await step(early)
        assert early.offset == size - HOLD_BACK
        stops.hold.open()
        with pytest.raises(GenerationEnded):
            await rest(early)
        with pytest.raises(ResumeUnsafe):
            await rest(late)
    assert await site.read(plain) == plain.data
    again = await make_site(provers=HoldBacks())
    with pytest.raises(ResumeUnsafe):
        await again.read(plain, 1)


@pytest.mark.usefixtures("hopeless")
async def test_a_crash_does_not_make_it_forgotten_that_unsure_bytes_left(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, plain = await rotten(make_site)
    size = len(plain.data)
    with monkeypatch.context() as patch:
        stops = Stops(patch, size - 1)
        with site.cache.read(plain.expected, plain, 0, size) as early:
            await step(early)
            closing = asyncio.create_task(site.cache.close())
            stops.hold.open()
            await closing
    assert site.files("partial") == []
    monkeypatch.setattr(fill_verification, "RECHECK_HOLD", 60.0)
    site = await make_site(provers=HoldBacks())
    assert site.cache.holds(plain.expected.key)
    assert await site.read(plain) == plain.data
    with pytest.raises(ResumeUnsafe):
        await site.read(plain, 1)


async def test_without_upstream_what_is_right_is_served_and_what_is_wrong_is_not(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    down = ScriptedSource(PAYLOAD)
    down.pause_seconds = 0.05
    down.refusals.extend(SourceFailed("the line is down") for _ in range(1000))
    site = await restarted(make_site, source)
    await crowd(site, down)
    await site.event(Verified)
    start, stop = OPERATIONS[20]
    flip(blob(site, source), start)
    site = await make_site(provers=PayloadProvers(), limits=Limits(patience=0.5, proof_seconds=0.0))
    with site.cache.read(source.expected, down, HEAD, SIZE) as reader:
        with pytest.raises(CacheError):
            await rest(reader)
        assert reader.offset == start
    site = await make_site(provers=PayloadProvers())
    assert await site.read(source) == PAYLOAD
    assert source.sent == stop - start


@pytest.mark.parametrize("number", [errno.EIO, None], ids=["EIO", "short"])
async def test_bytes_that_cannot_be_read_are_fetched_and_who_got_right_ones_goes_on(
    make_site: MakeSite,
    source: ScriptedSource,
    monkeypatch: pytest.MonkeyPatch,
    number: int | None,
) -> None:
    site = await restarted(make_site, source)
    path = blob(site, source)
    stops = Stops(monkeypatch, OPERATIONS[30][0])
    with (
        site.cache.read(source.expected, source, HEAD, SIZE) as early,
        site.cache.read(source.expected, source, 0, SIZE) as late,
    ):
        got = b""
        reading = asyncio.create_task(rest(early))
        await stops.hold.reached.wait()
        if number is None:
            os.truncate(path, OPERATIONS[30][0])
        else:
            monkeypatch.setattr(recheck_draft.RecheckDraft, "read", _unreadable)
        stops.hold.open()
        got = await reading
        assert got == PAYLOAD[HEAD:]
        assert await rest(late) == PAYLOAD
    assert [event.key for event in site.all(Corrupted)] == [path.name]
    assert source.sent == SIZE
    assert await site.read(source, 1) == PAYLOAD[1:], "no unsure byte had left"


def _unreadable(_draft: object, _at: int, _count: int) -> bytes:
    raise Lost(os.strerror(errno.EIO))


async def test_operations_that_are_waited_for_come_first(
    make_site: MakeSite, source: ScriptedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = await restarted(make_site, source)
    stops = Stops(monkeypatch, OPERATIONS[2][0])
    with site.cache.read(source.expected, source, OPERATIONS[30][0], SIZE) as reader:
        late = asyncio.create_task(site.read(source, OPERATIONS[30][0]))
        first = asyncio.create_task(step(reader))
        await stops.hold.reached.wait()
        stops.hold.open()
        assert PAYLOAD[OPERATIONS[30][0] :].startswith(await first)
        assert await late == PAYLOAD[OPERATIONS[30][0] :]


async def test_meanwhile_it_is_neither_removed_nor_evicted_nor_put_aside(
    make_site: MakeSite, source: ScriptedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = await restarted(make_site, source)
    key = source.expected.key
    stops = Stops(monkeypatch, OPERATIONS[2][0])
    reading = asyncio.create_task(site.read(source))
    await stops.hold.reached.wait()
    reading.cancel()
    await asyncio.wait([reading])
    with pytest.raises(InUse):
        await site.cache.remove(key)
    site.ledger.max_size = 1
    assert (await site.cache.gc(dry_run=False)).removed == ()
    await site.cache.quarantine(key, "so it seemed")
    assert site.cache.holds(key)
    assert site.cache.fills() == []
    stops.hold.open()
    await site.event(Verified)
    assert await site.read(source) == PAYLOAD
    assert source.opens == []


async def test_what_was_read_again_anyway_counts(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    site = await restarted(make_site, source)
    await Verifier(site.cache, site.store).verify(source.expected.key)
    await crowd(site, source)
    assert site.all(Verified) == []


async def test_without_a_sidecar_the_key_is_the_law(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    site = await restarted(make_site, source)
    sidecar = blob(site, source).with_suffix(".json")
    for damage in (sidecar.unlink, lambda: sidecar.write_bytes(b"\xff{")):
        damage()
        site = await make_site(provers=PayloadProvers())
        await crowd(site, source)
        await site.event(Verified)
        assert site.store.describe(source.expected.key).size == SIZE
    sidecar.unlink()
    os.truncate(blob(site, source), SIZE // 2)
    site = await make_site(provers=PayloadProvers())
    await crowd(site, source)
    assert source.sent == SIZE


async def test_a_disk_that_refuses_what_is_missing_stops_nobody(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    site = await restarted(make_site, source)
    start, stop = OPERATIONS[20]
    flip(blob(site, source), start)
    blob(site, source).chmod(0o444)
    site.store.failures["write"] = OSError(errno.EROFS, os.strerror(errno.EROFS))
    got = await asyncio.gather(site.read(source), site.read(source, SIZE // 2))
    assert list(got) == [PAYLOAD, PAYLOAD[SIZE // 2 :]]
    assert source.sent == stop - start
