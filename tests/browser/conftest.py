"""A real browser, Debian's Chromium, and a mirror whose status page it opens."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, async_playwright

from tests.browser.scene import Scene, scene
from tests.support.nebraska import Nebraska
from tests.support.upstream import Upstream

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest.fixture
async def site(upstream: Upstream, tmp_path: Path) -> AsyncIterator[Scene]:
    """A mirror that follows a scripted Nebraska, with its admin listener."""
    async with scene(tmp_path, Nebraska(upstream)) as made:
        yield made


@pytest.fixture
async def page(browser: Browser, site: Scene) -> AsyncIterator[Page]:
    """A tab, in which nothing may go wrong: no error of a script, no breach of the policy, no request elsewhere."""
    context = await browser.new_context(base_url=site.url)
    page = await context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on(
        "request",
        lambda sent: None if sent.url.startswith(site.url) else wrong.append(sent.url),
    )
    yield page
    await context.close()
    # A browser says of an answer like 403 that it failed to load, and htmx of one that never came.
    assert [w for w in wrong if not w.startswith(("Failed to load resource", "htmx:"))] == []
