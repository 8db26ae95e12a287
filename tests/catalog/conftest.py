"""A site for the tests of the catalog."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.catalog.scene import Clock, Site
from tests.support.upstream import Upstream


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("omaha_mirror.catalog.clock.time", clock)
    return clock


@pytest.fixture
async def site(upstream: Upstream, tmp_path: Path, clock: Clock) -> AsyncIterator[Site]:
    site = Site(upstream, tmp_path / "catalog.json", clock)
    yield site
    for catalog in list(site.open):
        await site.stop(catalog)
    await site.fetcher.close()
