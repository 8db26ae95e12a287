"""A cache in a temporary directory; whatever a test did with it, its books must be straight at the end."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from omaha_mirror.cache import DiskStore, Expected
from omaha_mirror.cache.draft import DiskDraft
from tests.cache.drafts import EXPECTED
from tests.cache.site import Site
from tests.cache.source import ScriptedSource, random_source
from tests.support.clock import machine_clock

MakeSite = Callable[..., Awaitable[Site]]


@pytest.fixture
async def make_site(tmp_path: Path) -> AsyncIterator[MakeSite]:
    """Makes started sites over one directory; at the end no file is open, no task runs, nothing is reserved."""
    sites: list[Site] = []

    async def make(**options: Any) -> Site:
        site = await Site(tmp_path, **options).start()
        sites.append(site)
        return site

    yield make
    for site in sites:
        await site.cache.close()
    for site in sites:
        assert site.open_files() == []
        assert site.cache.fills() == []
        assert site.ledger.reserved == {}
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.fixture
async def site(make_site: MakeSite) -> Site:
    """A site with the usual limits."""
    return await make_site()


@pytest.fixture
def source(request: pytest.FixtureRequest) -> ScriptedSource:
    """Upstream's file: `PAYLOAD` of the test's module, or `SIZE` random bytes."""
    payload = getattr(request.module, "PAYLOAD", None)
    return random_source(request.module.SIZE) if payload is None else ScriptedSource(payload)


@pytest.fixture
def store(tmp_path: Path) -> DiskStore:
    store = DiskStore(tmp_path, machine_clock())
    assert store.load() == []
    return store


@pytest.fixture
def opened(store: DiskStore) -> Iterator[Callable[..., DiskDraft]]:
    """Opens drafts and closes them at the end."""
    with ExitStack() as stack:

        def open_draft(expected: Expected = EXPECTED) -> DiskDraft:
            draft = store.draft(expected)
            stack.callback(draft.close)
            return draft

        yield open_draft
