"""A release server with the real release, and the mirror before it: both ways to run it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.mirror import (
    PAYLOAD_PATH,
    Mirror,
    MirrorProcess,
    mirror_in_process,
    real_payload,
)
from tests.support.upstream import Upstream


@pytest.fixture(autouse=True)
def _first_answers_come_on_a_busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror in this process lets a first check wait longer; tests of that wait set their own."""
    monkeypatch.setattr("omaha_mirror.policy.updatecheck.FIRST_ANSWER", 20.0)


@pytest.fixture
def payload() -> bytes:
    """A real one, of 4 MB."""
    return real_payload()


@pytest.fixture
def release(upstream: Upstream, payload: bytes) -> Upstream:
    """The scripted upstream, with the release."""
    upstream.put(PAYLOAD_PATH, payload)
    return upstream


@pytest.fixture
async def mirror(release: Upstream, tmp_path: Path) -> AsyncIterator[Mirror]:
    """In this process."""
    async with mirror_in_process(tmp_path, release.origin) as mirror:
        yield mirror


@pytest.fixture
async def process(release: Upstream, tmp_path: Path) -> AsyncIterator[MirrorProcess]:
    """As a process of its own."""
    async with MirrorProcess(tmp_path, release.origin) as process:
        yield process
