"""A mirror in this process, in front of a release server that has one release."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.mirror import PAYLOAD_PATH, Mirror, mirror_in_process
from tests.support.upstream import Upstream

BODY = bytes(range(251)) * 1200
"""Made up: what it says does not matter here, and it is small."""


@pytest.fixture
def release(upstream: Upstream) -> Upstream:
    """The scripted upstream, with the release."""
    upstream.put(PAYLOAD_PATH, BODY)
    return upstream


@pytest.fixture
async def mirror(release: Upstream, tmp_path: Path) -> AsyncIterator[Mirror]:
    """Holds back the last 1000 bytes of what is not proven."""
    async with mirror_in_process(tmp_path, release.origin, cache={"hold_back": 1000}) as mirror:
        yield mirror
