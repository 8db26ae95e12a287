"""A site for the tests of the catalog."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.catalog.scene import Site
from tests.support.clock import SetClock
from tests.support.upstream import Upstream


@pytest.fixture
def clock() -> SetClock:
    return SetClock(synchronised=True)


@pytest.fixture
async def site(upstream: Upstream, tmp_path: Path, clock: SetClock) -> AsyncIterator[Site]:
    site = Site(upstream, tmp_path / "catalog.json", clock)
    yield site
    for catalog in list(site.open):
        await site.stop(catalog)
    await site.fetcher.close()
