"""Blobs at rest: what rotted is found, its readers are cut, and it is fetched again."""

import asyncio
import errno
import fcntl
import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from omaha_mirror.cache import DiskStore, Expected, Scrubber, Verifier, VerifyResult
from omaha_mirror.cache.errors import GenerationEnded, InUse, ResumeUnsafe
from omaha_mirror.cache.events import Corrupted, Opened
from omaha_mirror.cache.lock import NAME, DirectoryInUse, DirectoryLock, Holder, NoLock, in_use
from omaha_mirror.cache.reader import FIRST, WINDOW
from omaha_mirror.cache.scrub import VerifyOutcome, verify
from omaha_mirror.cache.store import Facts, Removed
from tests.cache.conftest import MakeSite
from tests.cache.site import Site, rest, step
from tests.cache.source import ScriptedSource, random_source
from tests.support.clock import SetClock, machine_clock

SIZE = WINDOW + 3 * 1024 * 1024
DAY = 86400.0


@pytest.fixture
def source() -> ScriptedSource:
    source = random_source(SIZE)
    source.chunk = 1024 * 1024
    return source


@pytest.fixture
def small() -> ScriptedSource:
    return ScriptedSource(os.urandom(100_000))


async def have(site: Site, source: ScriptedSource, expected: Expected | None = None) -> str:
    expected = expected or source.expected
    await site.cache.fetch(expected, source)
    return expected.key


def rot(path: Path, at: int) -> None:
    """Flip one bit on disk; nobody notices by the times."""
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    with path.open("r+b") as file:
        file.seek(at)
        [byte] = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=times)


def verifier(site: Site) -> Verifier:
    return Verifier(site.cache, site.store)


def sidecar(site: Site, key: str) -> Path:
    return site.store.path(key).with_suffix(".json")


@asynccontextmanager
async def scrubbing(site: Site) -> AsyncIterator[asyncio.Queue[VerifyResult]]:
    """A scrubber as fast as the disk, and what it says."""
    verdicts: asyncio.Queue[VerifyResult] = asyncio.Queue()
    scrubber = Scrubber(verifier(site), site.cache, verdicts.put_nowait, rate=float("inf"))
    task = asyncio.create_task(scrubber.run())
    try:
        async with asyncio.timeout(30):
            yield verdicts
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_what_is_right_stays_and_the_time_is_written_down(
    site: Site, small: ScriptedSource
) -> None:
    key = await have(site, small)
    os.utime(sidecar(site, key), (1, 1))
    used = site.store.path(key).stat().st_mtime
    assert await verifier(site).verify(key) == VerifyResult(key, 100_000, VerifyOutcome.RIGHT)
    [blob] = (await site.cache.contents()).blobs
    assert blob.verified == pytest.approx(time.time(), abs=60)
    assert site.store.path(key).stat().st_mtime == used
    assert await site.read(small) == small.data
    assert small.sent == 100_000


async def test_a_rotten_byte_cuts_its_readers_and_the_next_request_fetches_it_again(
    site: Site, source: ScriptedSource
) -> None:
    key = await have(site, source)
    rot(site.store.path(key), SIZE - 1)
    rotten = site.store.path(key).read_bytes()
    cut = asyncio.Event()
    with site.cache.read(source.expected, source, 0, SIZE) as reader:
        reader.on_cut = cut.set
        assert await step(reader) == source.data[:FIRST]
        verdict = await verifier(site).verify(key)
        assert verdict is not None
        assert verdict.outcome is VerifyOutcome.WRONG
        assert cut.is_set()
        with pytest.raises(GenerationEnded):
            await step(reader)
    assert [event.key for event in site.all(Corrupted)] == [key]
    assert not site.cache.holds(key)
    with pytest.raises(ResumeUnsafe):
        await site.read(source, start=1)
    [aside] = [f for f in site.store.quarantine.iterdir() if f.suffix != ".left"]
    assert aside.read_bytes() == rotten
    assert site.files("blobs") == []
    assert await site.read(source) == source.data
    assert source.sent == 2 * SIZE
    await site.cache.fetch(source.expected, source)
    assert await verifier(site).verify(key) == VerifyResult(key, SIZE, VerifyOutcome.RIGHT)


async def test_a_reader_that_got_nothing_yet_reads_the_next_generation(
    site: Site, small: ScriptedSource
) -> None:
    key = await have(site, small)
    rot(site.store.path(key), 0)
    with site.cache.read(small.expected, small, 0, 100_000) as reader:
        await verifier(site).verify(key)
        assert await rest(reader) == small.data
    assert site.all(Opened)[-1].status == "miss"


async def test_who_reads_the_new_one_is_not_disturbed_by_the_last_of_the_rotten_one(
    site: Site, source: ScriptedSource
) -> None:
    key = await have(site, source)
    with site.cache.read(source.expected, source, 0, SIZE) as old:
        await step(old)
        await site.cache.quarantine(key, "for the test")
        await have(site, source)
        with site.cache.read(source.expected, source, 0, SIZE) as new:
            first = await step(new)
            old.close()
            assert first + await rest(new) == source.data


@pytest.mark.parametrize("damage", ["cut", "gone", "sidecar"])
async def test_other_damage_is_found_as_well(
    site: Site, small: ScriptedSource, damage: str
) -> None:
    key = await have(site, small)
    match damage:
        case "cut":
            os.truncate(site.store.path(key), 5000)
        case "gone":
            site.store.path(key).unlink()
        case "sidecar":
            sidecar(site, key).write_text(
                '{"size": 1, "sha256": "", "proven_by": "", "source": ""}'
            )
    verdict = await verifier(site).verify(key)
    assert verdict is not None
    assert verdict.outcome is VerifyOutcome.WRONG
    assert not site.cache.holds(key)
    assert await site.read(small) == small.data


async def test_a_lost_sidecar_is_no_rot(site: Site, small: ScriptedSource) -> None:
    key = await have(site, small)
    sidecar(site, key).unlink()
    assert await verifier(site).verify(key) == VerifyResult(key, 100_000, VerifyOutcome.RIGHT)
    assert site.cache.holds(key)


async def test_where_the_key_is_a_sha1_the_sidecars_sha256_counts_too(
    site: Site, small: ScriptedSource
) -> None:
    sha1 = hashlib.sha1(small.data).digest()
    key = await have(site, small, Expected(100_000, sha1=sha1, source=small.name))
    assert (await verify(site.store, key)).outcome is VerifyOutcome.RIGHT
    path = sidecar(site, key)
    path.write_text(path.read_text().replace(hashlib.sha256(small.data).hexdigest(), "00" * 32))
    assert "SHA-256" in (await verify(site.store, key)).reason


@pytest.mark.parametrize(
    ("number", "outcome"), [(5, VerifyOutcome.WRONG), (24, VerifyOutcome.UNKNOWN)]
)
async def test_a_disk_that_cannot_read_is_rot_and_other_trouble_is_not(
    site: Site,
    small: ScriptedSource,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    outcome: VerifyOutcome,
) -> None:
    key = await have(site, small)

    def broken(fd: int, count: int, offset: int) -> bytes:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", broken)
        verdict = await verifier(site).verify(key)
    assert verdict is not None
    assert verdict.outcome is outcome
    assert os.strerror(number) in verdict.reason
    assert site.cache.holds(key) is (outcome is VerifyOutcome.UNKNOWN)


async def test_a_verification_stops_when_told_and_leaves_the_blob_alone(
    site: Site, small: ScriptedSource
) -> None:
    key = await have(site, small)
    reached = asyncio.Event()

    async def pace(count: int) -> None:
        reached.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(verifier(site).verify(key, pace))
    await reached.wait()
    with pytest.raises(InUse):
        await site.cache.remove(key)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await site.cache.remove(key) == Removed("blob", key, 100_000)


async def test_two_that_verify_one_blob_at_once_put_the_rotten_one_aside_once(
    site: Site, small: ScriptedSource
) -> None:
    key = await have(site, small)
    rot(site.store.path(key), 7)
    both = verifier(site)
    first, second = await asyncio.gather(both.verify(key), both.verify(key))
    assert first is not None
    assert second is None
    assert len(site.all(Corrupted)) == 1


async def test_the_scrubber_finds_rot_by_itself_the_longest_unverified_first(
    site: Site, small: ScriptedSource
) -> None:
    sources = [ScriptedSource(os.urandom(1000 + i)) for i in range(3)]
    keys = [await have(site, source) for source in sources]
    for key, verified in zip(keys, (300, 100, 200), strict=True):
        os.utime(sidecar(site, key), (verified, verified))
    fresh = await have(site, small)
    rot(site.store.path(keys[2]), 0)
    async with scrubbing(site) as verdicts:
        told = [await verdicts.get() for _ in keys]
    assert [verdict.key for verdict in told] == [keys[1], keys[2], keys[0]]
    assert [v.outcome for v in told] == [
        VerifyOutcome.RIGHT,
        VerifyOutcome.WRONG,
        VerifyOutcome.RIGHT,
    ]
    assert verdicts.empty()
    assert site.cache.holds(fresh)
    assert not site.cache.holds(keys[2])


async def test_the_scrubber_keeps_its_pace(
    site: Site, source: ScriptedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await have(site, source)
    os.utime(sidecar(site, key), (1, 1))
    pauses: list[float] = []
    done = asyncio.Event()
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", noted)
    scrubber = Scrubber(verifier(site), site.cache, lambda _: done.set(), rate=1024 * 1024)
    task = asyncio.create_task(scrubber.run())
    await done.wait()
    task.cancel()
    await asyncio.wait([task])
    monkeypatch.undo()
    assert pauses[: SIZE // 2**20] == [1.0] * (SIZE // 2**20)


async def test_a_removed_blob_is_fetched_again(site: Site, small: ScriptedSource) -> None:
    key = await have(site, small)
    assert await site.cache.remove(key) == Removed("blob", key, 100_000)
    assert await site.cache.remove(key) is None
    assert site.files("blobs") == []
    assert await site.read(small) == small.data


async def test_what_is_read_or_filled_is_not_removed(site: Site, source: ScriptedSource) -> None:
    gate = source.gate(SIZE // 2)
    fetching = asyncio.create_task(site.cache.fetch(source.expected, source))
    await gate.reached.wait()
    with pytest.raises(InUse):
        await site.cache.remove(source.expected.key)
    gate.open()
    await fetching
    with site.cache.read(source.expected, source, 0, SIZE) as reader:
        await step(reader)
        with pytest.raises(InUse):
            await site.cache.remove(source.expected.key)
        assert len(await rest(reader)) == SIZE - FIRST


async def test_a_collection_evicts_what_was_used_longest_ago_and_a_trial_nothing(
    make_site: MakeSite,
) -> None:
    site = await make_site()
    sources = [ScriptedSource(os.urandom(1000)) for _ in range(3)]
    keys = [await have(site, source) for source in sources]
    for at, key in enumerate(keys):
        site.ledger.entries[key].last_used = at
    site.ledger.max_size = 1500
    expected = (Removed("blob", keys[0], 1000), Removed("blob", keys[1], 1000))
    assert (await site.cache.gc(dry_run=True)).removed == expected
    assert all(map(site.cache.holds, keys))
    assert (await site.cache.gc(dry_run=False)).removed == expected
    assert [site.cache.holds(key) for key in keys] == [False, False, True]
    assert site.files("blobs") == [keys[2], f"{keys[2]}.json"]


async def test_a_collection_that_cannot_make_room_says_why(make_site: MakeSite) -> None:
    site = await make_site(keep=lambda _: True)
    key = await have(site, ScriptedSource(os.urandom(1000)))
    site.ledger.max_size = 500
    swept = await site.cache.gc(dry_run=False)
    assert swept.removed == ()
    assert "500 bytes over max_size" in swept.short
    assert site.cache.holds(key)


async def test_a_collection_sweeps_old_leftovers_and_leaves_fills_alone(
    site: Site, source: ScriptedSource
) -> None:
    old, young = time.time() - 8 * DAY, time.time() - 6 * DAY
    for name, when in (("aa11aa", old), ("bb22bb", young)):
        for path in (
            site.store.partial / f"{name}.data",
            site.store.partial / f"{name}.json",
            site.store.quarantine / f"{name}.1",
        ):
            path.write_bytes(b"x")
            os.utime(path, (when, when))
    gate = source.gate(SIZE // 2)
    fetching = asyncio.create_task(site.cache.fetch(source.expected, source))
    await gate.reached.wait()
    os.utime(site.store.partial / f"{source.expected.key}.data", (old, old))
    before = site.files("")
    trial = await site.cache.gc(dry_run=True)
    assert site.files("") == before
    swept = await site.cache.gc(dry_run=False)
    assert swept == trial
    assert {(r.kind, r.key) for r in swept.removed} == {
        ("partial", "aa11aa"),
        ("quarantine", "aa11aa"),
    }
    assert set(before) - set(site.files("")) == {"aa11aa.data", "aa11aa.json", "aa11aa.1"}
    gate.open()
    await fetching
    assert await site.read(source) == source.data


async def test_the_contents_are_told_the_last_used_first(
    make_site: MakeSite, small: ScriptedSource
) -> None:
    kept = ScriptedSource(os.urandom(500))
    site = await make_site(keep=lambda key: key == kept.expected.key)
    await have(site, kept)
    await have(site, small)
    with site.cache.read(kept.expected, kept, 0, 500):
        contents = await site.cache.contents()
    told = [(b.key, b.size, b.proven_by, b.readers, b.offered) for b in contents.blobs]
    assert told == [
        (small.expected.key, 100_000, "sha256", 0, False),
        (kept.expected.key, 500, "sha256", 1, True),
    ]
    assert contents.blobs[0].source == small.name
    assert (contents.used, contents.max_size, contents.leftovers) == (100_500, 1 << 30, ())


def test_bytes_put_aside_count_as_new_whenever_the_blob_was_used(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, machine_clock())
    store.load()
    path = store.path("ab" * 32)
    path.parent.mkdir()
    path.write_bytes(b"rotten")
    os.utime(path, (1, 1))
    store.quarantine_blob("ab" * 32, leaked=False)
    [leftover] = store.leftovers()
    assert (leftover.kind, leftover.key) == ("quarantine", "ab" * 32)
    assert leftover.changed == pytest.approx(time.time(), abs=60)


HOLD = """
import sys
from pathlib import Path
from omaha_mirror.cache.lock import DirectoryLock
lock = DirectoryLock(Path(sys.argv[1]))
lock.tell("127.0.0.1:8001")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_refused_and_told_who_has_the_directory(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(DirectoryInUse, match=f"in use by process {process.pid}") as caught:
            DirectoryLock(tmp_path)
        assert caught.value.holder == Holder(process.pid, "127.0.0.1:8001")
        process.kill()
    DirectoryLock(tmp_path).close()


def test_who_let_go_can_be_followed(tmp_path: Path) -> None:
    first = DirectoryLock(tmp_path)
    with pytest.raises(DirectoryInUse):
        DirectoryLock(tmp_path)
    first.close()
    DirectoryLock(tmp_path).close()


def test_a_lock_that_says_nothing_readable_still_locks(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path)
    (tmp_path / ".lock").write_text("[")
    with pytest.raises(DirectoryInUse, match="in use by another process") as caught:
        DirectoryLock(tmp_path)
    assert caught.value.holder is None
    lock.close()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def flock(fd: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    for attempt in (DirectoryLock, in_use):
        with pytest.raises(NoLock, match=f"cannot lock {tmp_path / NAME}: .*local disk"):
            attempt(tmp_path)
        (tmp_path / NAME).touch()


def test_a_file_that_cannot_be_given_to_its_owner_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fchown(fd: int, user: int, group: int) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", fchown)
    DirectoryLock(tmp_path).close()
    real = os.fstat
    fields = 10
    monkeypatch.setattr(
        os, "fstat", lambda fd: os.stat_result([*real(fd)[:4], 12345, *real(fd)[5:fields]])
    )
    with pytest.raises(NoLock, match=f"cannot give {tmp_path / NAME} to the user"):
        DirectoryLock(tmp_path)


def test_a_folder_in_the_locks_place_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / NAME / "mine").mkdir(parents=True)
    DirectoryLock(tmp_path).close()
    assert (tmp_path / NAME).is_file()


def test_several_directories_are_held_together_or_not_at_all(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    (tmp_path / "link").symlink_to(first)
    lock = DirectoryLock(first, tmp_path / "link")
    with pytest.raises(DirectoryInUse, match=str(first)):
        DirectoryLock(second, first)
    assert in_use(second) is None
    lock.close()
    both = DirectoryLock(second, first)
    both.tell("127.0.0.1:5")
    for directory in (first, second):
        found = in_use(directory)
        assert found is not None
        assert found.holder == Holder(os.getpid(), "127.0.0.1:5")
    both.close()


@pytest.mark.parametrize("ahead", [9 * 365 * DAY, -30 * 365 * DAY])
async def test_nothing_is_swept_by_a_clock_that_is_not_sure(
    make_site: MakeSite, ahead: float
) -> None:
    clock = SetClock(ahead)
    site = await make_site(clock=clock)
    paths = {name: site.store.quarantine / f"{name}.1" for name in ("aa11aa", "bb22bb", "cc33cc")}
    ages = {"aa11aa": 8 * DAY, "bb22bb": 6 * DAY, "cc33cc": -9 * 365 * DAY}
    for name, path in paths.items():
        path.write_bytes(b"x")
        os.utime(path, (clock.right() - ages[name],) * 2)
    assert (await site.cache.gc(dry_run=False)).removed == ()
    clock.ahead = 0.0
    clock.record_upstream_date(clock.right())
    swept = await site.cache.gc(dry_run=False)
    assert [removed.key for removed in swept.removed] == ["aa11aa"]
    clock.later += 8 * DAY
    swept = await site.cache.gc(dry_run=False)
    assert {removed.key for removed in swept.removed} == {"bb22bb", "cc33cc"}


@pytest.mark.parametrize("ahead", [9 * 365 * DAY, -30 * 365 * DAY])
async def test_a_blob_is_due_again_in_spite_of_a_wrong_clock(
    make_site: MakeSite, ahead: float
) -> None:
    """One that was verified in the future would not be looked at until then."""
    clock = SetClock(ahead)
    site = await make_site(clock=clock)
    key = await have(site, ScriptedSource(os.urandom(1000)))
    verifier = Verifier(site.cache, site.store)
    scrubber = Scrubber(verifier, site.cache, lambda _: None)
    sidecar = site.store.path(key).with_suffix(".json")
    os.utime(sidecar, (clock.right() + 9 * 365 * DAY,) * 2)
    [blob] = await site.cache.verifications()
    assert scrubber._due_in(blob) > 0
    clock.ahead = 0.0
    clock.record_upstream_date(clock.right())
    assert scrubber._due_in(blob) <= 0
    await verifier.verify(key)
    [blob] = await site.cache.verifications()
    assert 0 < scrubber._due_in(blob) <= 7 * DAY


async def test_of_a_large_cache_only_as_much_is_described_as_is_shown(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the event loop nothing is described: a page of the status takes what is used last."""
    described: list[int] = []
    describe = site.store.describe

    def noted(key: str) -> Facts:
        described.append(threading.get_ident())
        return describe(key)

    monkeypatch.setattr(site.store, "describe", noted)
    keys = [await have(site, ScriptedSource(os.urandom(10))) for _ in range(5)]
    for at, key in enumerate(keys):
        site.ledger.touch(key, 1e12 + at)
    contents = await site.cache.contents(2)
    assert [blob.key for blob in contents.blobs] == [keys[4], keys[3]]
    assert (contents.count, len(described)) == (5, 2)
    assert threading.get_ident() not in described


async def test_the_event_loop_goes_on_while_a_large_cache_is_looked_at(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omaha_mirror.cache.inventory.AT_A_TIME", 2)
    loop, asked = asyncio.get_running_loop(), [0]

    def keep(_key: str) -> bool:
        if not asked[-1]:
            loop.call_soon(asked.append, 0)
        asked[-1] += 1
        return True

    site = await make_site(keep=keep)
    for _ in range(5):
        await have(site, ScriptedSource(os.urandom(10)))
    asked[:] = [0]
    assert all(blob.offered for blob in (await site.cache.contents()).blobs)
    assert [count for count in asked if count] == [2, 2, 1]
