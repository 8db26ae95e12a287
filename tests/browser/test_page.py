"""The status page in a real browser: what an operator sees and does."""

import asyncio
import os
import tempfile
import time
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import pytest
from playwright.async_api import Browser, Page, expect

from omaha_mirror.config import Hold, Pin
from tests.browser.scene import SIZE, TOKEN, VERSION, Scene, a_week
from tests.e2e.site import OLD, body
from tests.fleet.scene import everywhere, recorded
from tests.support.mirror import PAYLOAD

pytestmark = pytest.mark.long
AXE = Path(__file__).parent / "axe.min.js"
SERIOUS = ("serious", "critical")
SHOTS = Path(os.environ.get("SCREENSHOTS") or tempfile.mkdtemp(prefix="omaha-mirror-page-"))
"""Where the pictures go, for people to look at."""
PAGES = {
    "overview": "/",
    "machines": "/machines?search=rack",
    "machine": f"/machines/{7:032x}",
    "none": "/machines/nobody",
}


async def test_a_fill_moves_from_nothing_to_all(page: Page, site: Scene) -> None:
    offer = await site.box().offer()
    path = next(f for f in site.nebraska.upstream._files if f.endswith(PAYLOAD))
    gates = [site.nebraska.upstream.hold(path, at=SIZE * part // 100) for part in (0, 40, 80)]
    await page.goto("/")
    fills = page.locator("#fills")
    await expect(fills).to_contain_text("None: every package")
    downloading = asyncio.create_task(site.box().download(offer))
    for gate, part in zip(gates, (0, 40, 80), strict=True):
        await gate.reached()
        bar = fills.locator("progress")
        await expect(bar).to_have_attribute("value", str(part), timeout=10_000)
        await expect(fills).to_contain_text("1 client waiting")
        gate.open()
    assert await downloading == body(VERSION, SIZE)
    await expect(fills.locator("progress")).to_have_attribute("value", "100", timeout=10_000)
    await expect(fills).to_contain_text("arrived and verified")


async def test_a_machine_is_found_and_says_why_it_got_nothing(page: Page, site: Scene) -> None:
    for number in range(30):
        await site.box(number, alias=f"node-{number}", version=VERSION).nothing()
    await site.mirror.service.overrides.put("beta", Hold())
    await site.box(77, alias="the-held-one", track="beta").nothing()
    await recorded(site.mirror)
    await page.goto("/")
    await page.get_by_role("searchbox").fill("held-o")
    await page.get_by_role("button", name="Search").click()
    await expect(page.locator("#found")).to_contain_text("1 machine found")
    await page.locator("#search").fill("node-2")
    await expect(page.locator("#found")).to_contain_text("11 machines found")
    await page.locator("#search").fill("HELD")
    await page.get_by_role("link", name="the-held-one").click()
    await expect(page.locator("#why")).to_contain_text("the track is held")
    await expect(page.locator("#why")).to_contain_text("Release the track")
    await expect(page.locator(".timeline")).to_contain_text(f"Asked as {OLD} on beta")
    await site.box(77, alias="the-held-one", track="beta", version=VERSION).nothing()
    await expect(page.locator(".timeline")).to_contain_text(
        f"Asked as {VERSION} on beta", timeout=15_000
    )


async def test_a_track_is_held_with_the_token_and_released(page: Page, site: Scene) -> None:
    await site.box().offer()
    await page.goto("/")
    await expect(page.locator("#tracks")).to_contain_text("follows upstream")
    await act(page, "hold", token="not the token")
    await expect(page.get_by_role("alert")).to_contain_text("not the token")
    await site.box().offer()
    await page.goto("/")
    await act(page, "hold")
    await expect(page.get_by_role("status").last).to_contain_text("stable is held")
    await site.box().nothing()
    await page.goto("/")
    await expect(page.locator("#tracks")).to_contain_text("override, just now")
    await act(page, "release")
    await site.box().offer()


async def act(page: Page, do: str, token: str = TOKEN) -> None:
    await page.get_by_text("Hold, pin or release a track").click()
    await page.get_by_label("Track", exact=True).fill("stable")
    await page.locator("select[name=do]").select_option(do)
    await page.locator("form[action='/actions/track']").get_by_label("Token").fill(token)
    await page.get_by_role("button", name="Do it").click()
    await page.wait_for_url("**/actions/track")


async def test_all_of_it_works_without_scripts(browser: Browser, site: Scene) -> None:
    await site.box(alias="node-1").offer()
    await recorded(site.mirror)
    context = await browser.new_context(base_url=site.url, java_script_enabled=False)
    page = await context.new_page()
    await page.goto("/")
    await expect(page.get_by_role("button", name="Copy")).to_be_hidden()
    await act(page, "hold")
    await expect(page.get_by_role("status").last).to_contain_text("stable is held")
    await page.goto("/machines")
    await page.locator("#search").fill("node-1")
    await page.get_by_role("button", name="Show").click()
    await page.get_by_role("link", name="node-1").click()
    await expect(page.locator("#why")).to_contain_text(f"It was offered {VERSION}")
    await context.close()


async def test_a_keyboard_is_enough(page: Page, site: Scene) -> None:
    await site.box().offer()
    await page.goto("/")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="To the content")).to_be_focused()
    await page.keyboard.press("Enter")
    for _ in range(10):
        await page.keyboard.press("Tab")
        if await page.evaluate("document.activeElement.tagName") == "SUMMARY":
            break
    await page.keyboard.press("Enter")
    for text in ("stable", "h", "", TOKEN):
        await page.keyboard.press("Tab")
        await page.keyboard.type(text)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("status").last).to_contain_text("stable is held")


async def test_parts_that_do_not_change_are_not_sent_again(page: Page, site: Scene) -> None:
    await page.goto("/")
    answers = []
    page.on("response", lambda answer: answers.append((answer.url, answer.status)))
    url = f"{site.url}/fragments/fills"
    async with asyncio.timeout(20):
        while [status for seen, status in answers if seen == url].count(304) < 2:
            await page.wait_for_event("response")
    assert [status for seen, status in answers if seen == url][:2] == [200, 304]


async def test_a_mirror_that_is_gone_is_said(page: Page, site: Scene) -> None:
    await page.goto("/")
    await expect(page.locator("#lost")).to_be_hidden()
    await page.route("**/fragments/*", lambda route: route.abort())
    await expect(page.locator("#lost")).to_be_visible(timeout=15_000)
    await page.unroute("**/fragments/*")
    await expect(page.locator("#lost")).to_be_hidden(timeout=15_000)


async def test_the_line_for_a_machine_is_copied(page: Page, site: Scene) -> None:
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.goto("/")
    await page.get_by_role("button", name="Copy").click()
    await expect(page.get_by_role("button", name="Copied")).to_be_visible()
    copied = await page.evaluate("navigator.clipboard.readText()")
    assert copied == await page.locator("#server").text_content()
    assert copied.startswith("SERVER=http://")
    assert copied.endswith("/v1/update/")


async def test_what_machines_send_is_inert(page: Page, site: Scene) -> None:
    evil = "\"'><img src=x onerror=document.title=1><script>document.title=2</script>{{7*7}}"
    await site.write(everywhere(evil))
    for path in ("/", "/machines", f"/machines?search={quote(evil)}&version={quote(evil)}"):
        await page.goto(path)
        await expect(page.locator("tbody")).to_contain_text([evil])
        await is_inert(page)
    await page.get_by_role("link", name=evil).click()
    await expect(page.locator("h1")).to_contain_text(evil)
    await expect(page.locator("#why")).to_contain_text(evil)
    await is_inert(page)


async def is_inert(page: Page) -> None:
    assert await page.locator("main img, main script").count() == 0
    assert (await page.title()).startswith("omaha-mirror: ")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_nothing_keeps_anybody_from_using_it(
    browser: Browser, site: Scene, scheme: Literal["light", "dark"], tmp_path: Path
) -> None:
    """axe-core finds nothing serious on any page, and each can be looked at as it is."""
    await filled(site)
    for name, width in (("wide", 1280), ("phone", 390)):
        context = await browser.new_context(
            base_url=site.url, color_scheme=scheme, viewport={"width": width, "height": 900}
        )
        page = await context.new_page()
        for title, path in PAGES.items():
            await page.goto(path)
            for summary in await page.locator("summary").all():
                await summary.click()
            shown = SHOTS / f"{title}-{scheme}-{name}.png"
            await page.screenshot(path=shown, full_page=True)
            width_of = "document.documentElement.scrollWidth"
            assert await page.evaluate(width_of) <= width, f"{path} is wider than a {name} screen"
            assert await violations(page) == []
        await context.close()


async def violations(page: Page) -> list[str]:
    """What axe-core finds serious. It is put in past the page's own policy."""
    session = await page.context.new_cdp_session(page)
    await session.send("Runtime.evaluate", {"expression": AXE.read_text()})
    found = await page.evaluate("axe.run()")
    assert len(found["passes"]) > 10
    return [
        f"{item['id']}: {item['help']}: {item['nodes'][0]['html']} {item['nodes'][0]['failureSummary']}"
        for item in found["violations"]
        if item["impact"] in SERIOUS
    ]


async def filled(site: Scene) -> None:
    """A week of machines, a release that is here, one that is coming, and an operator's hold."""
    offer = await site.box(1000, alias="fresh-node").offer()
    await site.box(1000).download(offer)
    await recorded(site.mirror)
    await a_week(site, time.time())
    await site.mirror.service.overrides.put("lts", Hold())
    await site.mirror.service.overrides.put("edge", Pin(version=VERSION))
