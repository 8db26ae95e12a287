"""Bytes that turn out wrong, and files that are replaced: nobody completes, and the next round is clean."""

import asyncio
from contextlib import ExitStack

import pytest

from omaha_mirror.cache import Reader
from omaha_mirror.cache import page_cache as loading_module
from omaha_mirror.cache.errors import CoolingDown, GenerationEnded, ResumeUnsafe, Stopping
from omaha_mirror.cache.events import FillEnded, Opened, Outcome
from omaha_mirror.cache.failures import RESUME_UNSAFE_SECONDS
from tests.cache.conftest import MakeSite
from tests.cache.site import HOLD_BACK, Hold, Site, rest, step
from tests.cache.source import ScriptedSource, flipped
from tests.support.clock import SetClock

SIZE = 2 * 1024 * 1024


async def test_a_flipped_byte_cuts_whoever_got_bytes_and_nobody_completes(
    site: Site, source: ScriptedSource
) -> None:
    good, expected = source.data, source.expected
    source.data = flipped(good, 5)
    last = source.gate(SIZE - 1)
    cuts: list[str] = []
    with ExitStack() as stack:

        def reader(start: int) -> Reader:
            return stack.enter_context(site.cache.read(expected, source, start, SIZE))

        from_zero, untouched = reader(0), reader(SIZE - HOLD_BACK)
        from_zero.on_cut = lambda: cuts.append("from zero")
        await step(from_zero)
        whole = asyncio.create_task(rest(from_zero))
        tail = asyncio.create_task(rest(untouched))
        await last.reached.wait()
        source.data = good  # what the next round gets; this one goes on with its own
        last.open()
        with pytest.raises(GenerationEnded):
            await whole
        assert from_zero.offset <= SIZE - HOLD_BACK
        assert cuts == ["from zero"]
        with pytest.raises(ResumeUnsafe, match="begin again without a Range"):
            await tail
        with pytest.raises(GenerationEnded):
            await from_zero.window()
    quarantined = list((site.directory / "quarantine").glob("*.[0-9]*"))
    assert [path.read_bytes() for path in quarantined] == [flipped(good, 5)]
    assert await site.read(source) == good
    await site.event(FillEnded, 2)
    assert [e.outcome for e in site.all(FillEnded)] == [Outcome.WRONG, Outcome.PROVEN]
    assert await site.read(source) == good
    assert site.all(Opened)[-1].status == "hit"


async def test_where_no_wrong_byte_left_a_waiting_range_reads_the_next_round(
    site: Site, source: ScriptedSource
) -> None:
    good, expected = source.data, source.expected
    source.data = flipped(good, 5)
    last = source.gate(SIZE - 1)
    waiting = asyncio.create_task(site.read(source, SIZE - HOLD_BACK, SIZE, expected))
    await last.reached.wait()
    source.data = good
    last.open()
    assert await waiting == good[-HOLD_BACK:]


async def test_bytes_handed_out_count_as_left_though_nobody_said_that_they_were_sent(
    site: Site, source: ScriptedSource
) -> None:
    """A client that vanishes in the midst of a window has some of it."""
    good, expected = source.data, source.expected
    source.data = flipped(good, 5)
    last = source.gate(SIZE - 1)
    with site.cache.read(expected, source, 0, SIZE) as reader:
        await reader.window()
    await last.reached.wait()
    source.data = good
    last.open()
    await site.event(FillEnded)
    with pytest.raises(ResumeUnsafe), site.cache.read(expected, source, 1, SIZE):
        pass


async def test_the_tail_of_a_spoilt_blob_is_refused_on_a_hit_and_after_a_restart(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    """For as long as a client may come back with the head of the wrong one."""
    site, good, expected = await make_site(), source.data, source.expected
    source.data = flipped(good, 5)
    last = source.gate(SIZE - 1)
    with site.cache.read(expected, source, 0, SIZE) as reader:
        await step(reader)
    await last.reached.wait()
    source.data = good
    last.open()
    await site.event(FillEnded)
    assert await site.read(source) == good
    await site.event(FillEnded, 2)
    await site.cache.close()
    clock = SetClock(synchronised=True)
    again = await make_site(clock=clock)
    for place in (site, again):
        assert place.cache.holds(expected.key)
        with pytest.raises(ResumeUnsafe), place.cache.read(expected, source, 1, SIZE):
            pass
        assert await place.read(source) == good
    clock.later += RESUME_UNSAFE_SECONDS + 1
    assert await again.read(source, 1, SIZE) == good[1:]


async def test_after_three_wrong_rounds_a_blob_cools_down(
    site: Site, source: ScriptedSource
) -> None:
    expected = source.expected
    source.data = flipped(source.data, 0)
    with site.cache.read(expected, source, SIZE - 1, SIZE) as reader:
        with pytest.raises(CoolingDown, match="SHA-256 is"):
            await reader.window()
        with pytest.raises(CoolingDown):
            await reader.window()
    assert [e.outcome for e in site.all(FillEnded)] == [Outcome.WRONG] * 3
    opens = len(source.opens)
    assert "SHA-256 is" in (site.cache.cooldown(expected.key) or "")
    with pytest.raises(CoolingDown), site.cache.read(expected, source, 0, 1):
        pass
    with pytest.raises(CoolingDown):
        await site.cache.fetch(expected, source)
    assert len(source.opens) == opens
    assert len(site.files("quarantine")) == 3
    assert site.files("partial") == []


async def test_a_round_after_a_wrong_one_waits_for_trouble_to_pass(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    site, expected = await make_site(round_seconds=3600.0), source.expected
    source.data = flipped(source.data, 0)
    reading = asyncio.create_task(site.read(source, 0, SIZE, expected))
    fetching = asyncio.create_task(site.cache.fetch(expected, source))
    await site.event(FillEnded)
    other = ScriptedSource(b"another" * 1000)
    assert await site.read(other) == other.data
    assert len(source.opens) == 1
    await site.cache.close()
    for waiting in (reading, fetching):
        with pytest.raises((Stopping, GenerationEnded)):
            await waiting


async def test_each_pause_between_wrong_rounds_is_longer(
    make_site: MakeSite, source: ScriptedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, expected, pauses = await make_site(round_seconds=10.0), source.expected, list[float]()
    source.data = flipped(source.data, 0)
    sleep = asyncio.sleep

    async def skipped(seconds: float) -> None:
        if seconds >= 1.0:
            pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr("omaha_mirror.cache.fill.asyncio.sleep", skipped)
    with pytest.raises(CoolingDown):
        await site.cache.fetch(expected, source)
    assert pauses == [10.0, 30.0]


async def test_a_good_round_forgets_the_wrong_ones(site: Site, source: ScriptedSource) -> None:
    good, expected = source.data, source.expected
    source.data = flipped(good, 0)
    last = source.gate(SIZE - 1)
    fetching = asyncio.create_task(site.cache.fetch(expected, source))
    await last.reached.wait()
    source.data = good
    last.open()
    assert await fetching is not None
    assert [e.outcome for e in site.all(FillEnded)] == [Outcome.WRONG, Outcome.PROVEN]
    assert site.cache.cooldown(expected.key) is None


async def test_another_generation_is_never_stitched_to_the_first(
    site: Site, source: ScriptedSource
) -> None:
    """No digest is known, and the source is replaced in mid-flight: who got bytes is cut, and nobody gets a tail."""
    expected, good = source.unnamed, source.data
    source.drops.add(SIZE // 2)
    gate = source.gate(SIZE // 2)
    with (
        site.cache.read(expected, source, 0, SIZE) as begun,
        site.cache.read(expected, source, SIZE - 9, SIZE) as waiting,
    ):
        await step(begun)
        tail = asyncio.create_task(rest(waiting))
        await gate.reached.wait()
        source.replace(good)
        gate.open()
        with pytest.raises(GenerationEnded, match=r"was replaced|ended generation"):
            await rest(begun)
        with pytest.raises(ResumeUnsafe):
            await tail
    assert await site.read(source, expected=expected) == good
    again = [opened.start for opened in source.opens].index(SIZE // 2)
    assert (source.opens[again].validator or {})["etag"] == '"1"'
    assert source.opens[again + 1].validator is None, "the next round begins with a clean sheet"
    assert site.files("quarantine") == [f"{expected.key}.left"]


async def test_a_reader_that_comes_while_wrong_bytes_are_put_away_gets_the_next_round(
    site: Site, source: ScriptedSource
) -> None:
    """It neither gets wrong bytes nor stops the loop asking again and again."""
    good, expected = source.data, source.expected
    source.data = flipped(good, 0)
    hold, last = site.store.hold("reject"), source.gate(SIZE - 1)
    fetching = asyncio.create_task(site.cache.fetch(expected, source))
    await last.reached.wait()
    source.data = good
    last.open()
    await hold.reached.wait()
    readers = [asyncio.create_task(site.read(source, at, at + 1)) for at in (0, SIZE - 1)]
    await site.event(Opened, 3)
    del site.store.holds["reject"]
    hold.open()
    assert await asyncio.gather(*readers) == [good[:1], good[-1:]]
    await fetching


async def test_a_reader_cut_while_its_bytes_are_loaded_reads_the_next_round(
    site: Site, source: ScriptedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The generation ends between finding the bytes and handing them out."""
    good, expected = source.data, source.expected
    source.data = flipped(good, 0)
    last, loading = source.gate(SIZE - 1), Hold()
    monkeypatch.setattr(loading_module, "resident", lambda *_: False)
    monkeypatch.setattr(loading_module, "load", lambda *_: loading.pass_through())
    reading = asyncio.create_task(site.read(source, 0, 1, expected))
    await loading.reached.wait()
    await last.reached.wait()
    source.data = good
    last.open()
    await site.event(FillEnded)
    loading.open()
    assert await reading == good[:1]
    await site.event(FillEnded, 2)
