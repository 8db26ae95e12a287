"""A release upstream, and a bundle of it."""

from pathlib import Path

import pytest

from tests.bundle.scene import bundle_of, release
from tests.support.nebraska import Nebraska
from tests.support.upstream import Upstream


@pytest.fixture
def nebraska(upstream: Upstream) -> Nebraska:
    return release(Nebraska(upstream))


_MADE: list[bytes] = []


@pytest.fixture
async def bundle(tmp_path: Path, nebraska: Nebraska) -> bytes:
    """Made once: whose upstream it came from plays no role where there is no line."""
    if not _MADE:
        _MADE.append(await bundle_of(tmp_path, nebraska))
    return _MADE[0]
