"""A damaged bundle is refused, wherever the damage is, and nothing that can be seen has changed."""

import os
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from omaha_mirror.bundle import BadBundle, ExportRequest
from tests.bundle.scene import (
    BOARD,
    bundle_of,
    files_below,
    pieces,
    release,
    take_in,
    without_line,
)
from tests.e2e.site import FLOORS, STEPS, Box
from tests.support.mirror import Mirror
from tests.support.nebraska import Nebraska
from tests.support.upstream import Upstream

PLACES = 1000
Damage = Callable[[bytearray, random.Random], None]


@pytest.fixture
async def small(tmp_path: Path, upstream: Upstream) -> bytes:
    nebraska = release(Nebraska(upstream), size=3_000)
    return await bundle_of(tmp_path, nebraska, ExportRequest("stable", BOARD, oems=("azure",)))


@pytest.fixture
async def mirror(tmp_path: Path) -> AsyncIterator[Mirror]:
    async with without_line(tmp_path) as mirror:
        yield mirror


async def look(mirror: Mirror, folder: Path) -> object:
    """All that can be seen of a mirror."""
    cache = mirror.service.cache
    contents = await cache.contents()
    shown = contents.blobs, contents.leftovers, contents.used
    catalog = mirror.service.catalog
    return (
        files_below(folder / "without-line"),
        shown,
        await catalog.channels(lambda step: step),
        catalog.current(),
    )


def flip(data: bytearray, rng: random.Random) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def drop(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data))]


def insert(data: bytearray, rng: random.Random) -> None:
    data.insert(rng.randrange(len(data) + 1), rng.randrange(256))


def cut(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def lose_a_block(data: bytearray, rng: random.Random) -> None:
    """A hole, as a bad stick leaves it; one that was all zeros before is no damage."""
    at = rng.choice([at for at in range(0, len(data), 512) if any(data[at : at + 512])])
    data[at : at + 512] = bytes(512)


DAMAGES: tuple[Damage, ...] = (flip, flip, flip, drop, insert, cut, lose_a_block)


@pytest.mark.long
async def test_damage_at_a_thousand_places_is_refused_and_changes_nothing(
    tmp_path: Path, small: bytes, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _fd: None)  # no power fails here
    before = await look(mirror, tmp_path)
    rng = random.Random(7)
    for number in range(PLACES):
        data = bytearray(small)
        rng.choice(DAMAGES)(data, rng)
        with pytest.raises(BadBundle):
            await take_in(mirror, bytes(data))
        if number % 50 == 0:
            assert await look(mirror, tmp_path) == before
    assert await look(mirror, tmp_path) == before
    await Box(mirror).nothing()
    assert (await take_in(mirror, small)).versions == STEPS


async def test_damage_to_a_newer_bundle_leaves_the_older_releases_as_they_are(
    tmp_path: Path, small: bytes, mirror: Mirror, nebraska: Nebraska
) -> None:
    await take_in(mirror, small)
    other = bytearray(await bundle_of(tmp_path, nebraska))
    before = await look(mirror, tmp_path)
    other[-2000] ^= 1
    with pytest.raises(BadBundle, match=r"is damaged|is wrong"):
        await take_in(mirror, bytes(other))
    assert await look(mirror, tmp_path) == before
    assert (await Box(mirror).offer()).version == FLOORS[0]


@pytest.mark.parametrize("size", [1, 511, 513, 10_000_000])
async def test_it_may_come_in_pieces_of_any_size(small: bytes, mirror: Mirror, size: int) -> None:
    taken = await mirror.service.importer.import_bundle(pieces(small, size))
    assert taken.versions == STEPS


async def test_something_behind_the_end_is_refused(small: bytes, mirror: Mirror) -> None:
    with pytest.raises(BadBundle, match="something follows"):
        await take_in(mirror, small + bytes(512))
