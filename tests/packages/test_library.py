"""What the packages of offered releases cost those who ask about many blobs."""

import asyncio
import hashlib
from collections.abc import Iterable

from omaha_mirror.catalog import Catalog, Release
from omaha_mirror.packages.expected import expected
from omaha_mirror.packages.library import OfferedKeys
from tests.catalog.scene import release


class Offers(Catalog):
    """A catalog that offers what a test says, and counts how often it is asked."""

    def __init__(self, releases: Iterable[Release]) -> None:
        self.releases = list(releases)
        self.asked = 0

    def current(self) -> list[Release]:
        self.asked += 1
        return self.releases


async def test_a_collection_asks_the_catalog_once() -> None:
    offers = Offers(release(f"oem-{n}.gz", version=f"{n}.0.0") for n in range(1, 50))
    is_offered = OfferedKeys(offers)
    keys = [expected(file).key for each in offers.releases for file in each.files]
    others = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(1000)]
    assert all(map(is_offered, keys))
    assert not any(map(is_offered, others))
    assert offers.asked == 1


async def test_what_is_offered_from_now_on_counts_in_the_next_turn() -> None:
    offers = Offers([])
    is_offered = OfferedKeys(offers)
    new = release()
    key = expected(new.payload).key
    assert not is_offered(key)
    offers.releases.append(new)
    await asyncio.sleep(0)
    assert is_offered(key)
    offers.releases.clear()
    await asyncio.sleep(0)
    assert not is_offered(key)
