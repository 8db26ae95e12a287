"""With keys, only what one of them has signed is proven; which ones may change while the mirror runs."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack

import pytest

from omaha_mirror.cache.errors import Distrusted, GenerationEnded
from omaha_mirror.cache.events import FillEnded, FillStarted, Opened, Outcome, Repaired, Verified
from omaha_mirror.packages.payload_prover import LARGE, PayloadProvers
from omaha_mirror.payload import Key
from tests.cache.conftest import MakeSite
from tests.cache.payloads import operations, pieces, signed
from tests.cache.site import Site, rest, step
from tests.cache.source import ScriptedSource
from tests.payload.build import DATA, build, private_key, public_key

PIECES = pieces(10, 50_000)
GOOD = signed(PIECES)
UNSIGNED = build(PIECES)
DELTA = (DATA / "delta" / "update.gz").read_bytes()
OPERATIONS = operations(UNSIGNED)


@pytest.fixture
def keys() -> list[Key]:
    return [public_key("vendor")]


Start = Callable[[], Awaitable[Site]]


@pytest.fixture
def start(make_site: MakeSite, keys: list[Key]) -> Start:
    """Starts sites that ask for a signature by one of `keys`."""
    return lambda: make_site(provers=PayloadProvers(keys))


async def test_a_signed_package_is_proven_and_says_by_whom_it_was_signed(
    start: Start, keys: list[Key]
) -> None:
    site, source = await start(), ScriptedSource(GOOD)
    source.flips.update([5, len(GOOD) - 5, OPERATIONS[7][0] + 300])
    assert await site.read(source) == GOOD
    await site.event(FillEnded)
    assert [blob.signed_by for blob in (await site.cache.contents()).blobs] == [keys[0].id]
    assert await (await start()).read(source) == GOOD
    assert source.sent < 2 * len(GOOD)


async def test_the_signature_is_judged_anew_where_bytes_that_it_covers_were_taken_back(
    start: Start,
) -> None:
    """Those of a large operation are taken in before it is proven."""
    site, source = await start(), ScriptedSource(signed([*pieces(1, LARGE + 1), *pieces(1, 1000)]))
    source.flips.update([LARGE // 2, len(source.data) - 1])
    assert await site.cache.fetch(source.expected, source) is not None
    assert len(site.all(Repaired)) == 2


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (UNSIGNED, "it is not signed"),
        (signed(PIECES, "other"), "it is signed, and by none of the given keys"),
        (signed(PIECES, "vendor", version=1), "the first signature of version 2"),
        (
            build(PIECES, signers=[(2, private_key("other")), (2, private_key("vendor"))]),
            "the first signature of version 2",
        ),
        (DELTA, "a delta payload"),
        (b"\x1f\x8b" + bytes(300_000), 'no payload .* does not begin with "CrAU"'),
    ],
    ids=["unsigned", "wrong key", "version 1", "another first", "delta", "no payload"],
)
async def test_what_is_not_signed_completes_nowhere_and_is_tried_once(
    start: Start, keys: list[Key], payload: bytes, words: str
) -> None:
    """Its digest is right."""
    keys[:] = [public_key("vendor"), *keys]
    site, source = await start(), ScriptedSource(payload)
    expected, size = source.expected, len(payload)
    key = expected.key
    with ExitStack() as stack:
        readers = [
            stack.enter_context(site.cache.read(expected, source, at, size))
            for at in (0, size // 2)
        ]
        for reader in readers:
            with pytest.raises((GenerationEnded, Distrusted)):
                await rest(reader)
            assert reader.offset < size
    with pytest.raises(Distrusted, match=words):
        await site.cache.fetch(expected, source)
    await site.event(FillEnded)
    opened = len(source.opens)
    for place in site, await start():
        assert place.cache.refused(key)
        assert place.cache.cooldown(key) is None
        assert not place.cache.holds(key)
        for at in 0, size // 2:
            with pytest.raises(Distrusted, match=words):
                await place.read(source, at)
    assert len(source.opens) == opened
    assert [e.outcome for e in site.all(FillEnded)] == [Outcome.UNTRUSTED]
    assert site.files("blobs") + site.files("partial") == []


async def test_other_keys_give_another_chance(start: Start, keys: list[Key]) -> None:
    site, source = await start(), ScriptedSource(signed(PIECES, "other"))
    with pytest.raises(Distrusted):
        await site.cache.fetch(source.expected, source)
    keys.append(public_key("other"))
    assert site.cache.refused(source.expected.key) is None
    assert await site.read(source, 1) == source.data[1:], "what had left was right"
    await site.event(FillEnded, 2)
    keys.pop()
    assert not site.cache.holds(source.expected.key)
    keys.clear()
    assert site.cache.holds(source.expected.key)


@pytest.mark.parametrize("payload", [GOOD, UNSIGNED], ids=["signed", "unsigned"])
async def test_what_was_proven_without_a_key_is_judged_from_the_disk_when_there_is_one(
    start: Start, keys: list[Key], payload: bytes
) -> None:
    vendor = keys.pop()
    site, source = await start(), ScriptedSource(payload)
    with site.cache.read(source.expected, source, 0, len(payload)) as early:
        got = await step(early)
        await site.event(FillEnded)
        keys.append(vendor)
        assert not site.cache.holds(source.expected.key)
        if payload is UNSIGNED:
            with pytest.raises(Distrusted):
                await site.read(source)
            assert site.files("blobs") + site.files("partial") == []
        else:
            whole, tail = await asyncio.gather(site.read(source), site.read(source, 7))
            assert (whole, tail) == (GOOD, GOOD[7:])
            await site.event(Verified)
            assert await site.read(source) == GOOD
            assert site.all(Opened)[-1].status == "hit"
            assert site.ledger.used == len(GOOD)
            assert got + await rest(early) == GOOD
    assert source.sent == len(payload)
    assert len(site.all(FillStarted)) == 1


async def test_keys_that_come_while_a_package_arrives_count(start: Start, keys: list[Key]) -> None:
    vendor = keys.pop()
    for payload in GOOD, UNSIGNED:
        keys.clear()
        site, source = await start(), ScriptedSource(payload)
        gate = source.gate(OPERATIONS[5][0])
        getting = asyncio.create_task(site.read(source))
        await gate.reached.wait()
        keys.append(vendor)
        gate.open()
        if payload is GOOD:
            assert await getting == GOOD
        else:
            with pytest.raises(GenerationEnded):
                await getting
        await site.event(FillEnded)
        assert site.cache.holds(source.expected.key) == (payload is GOOD)
        assert source.sent == len(payload)


async def test_other_keys_that_come_as_a_fill_ends_cost_no_byte(
    start: Start, keys: list[Key], monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor = keys.pop()
    site, source = await start(), ScriptedSource(GOOD)
    stuck, passable = asyncio.Event(), asyncio.Event()

    async def write() -> None:
        stuck.set()
        await passable.wait()

    monkeypatch.setattr(site.cache._heads, "write", write)
    assert await site.read(source) == GOOD
    await stuck.wait()
    keys.append(vendor)
    again = asyncio.create_task(site.read(source))
    for _ in range(10):
        await asyncio.sleep(0)
    passable.set()
    assert await again == GOOD
    assert source.sent == len(GOOD)
