"""The status page without a browser: what is sent, to whom, and how often it is made."""

import asyncio
import base64
import json
import re
from collections.abc import Awaitable, Callable
from html import unescape
from html.parser import HTMLParser

import pytest

from omaha_mirror.aio.clock import DAY
from omaha_mirror.fleet import FleetUnavailable, store
from omaha_mirror.fleet.model import tidy
from omaha_mirror.web.admin.page.fragments import PARTS, Fragments
from omaha_mirror.web.admin.page.rendering import HERE, Shared
from tests.fleet.scene import ASK, event, everywhere, recorded
from tests.support.clock import SetClock
from tests.support.mirror import PAYLOAD_PATH, VERSION, Mirror
from tests.support.upstream import Upstream
from tests.web.page.scene import TOKEN, Site

EVIL = "\"'><img src=x onerror=alert(1)><script>alert(2)</script>{{ 7191 * 7919 }}&lt;"
FRAGMENTS = [f"/fragments/{part.name}" for part in PARTS]
FILES = ["/static/page.css", "/static/page.js", "/static/htmx.min.js", "/static/icon.svg"]
FAR = "0.0.0.0:8001"


async def write(mirror: Mirror, *items: object) -> None:
    database = mirror.service.fleet_feed._database
    await store.write(database, [tidy(item) for item in items])  # type: ignore[arg-type]


class Tags(HTMLParser):
    """What a browser makes of a page: its tags, their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize(
    "path", ["/", "/machines", "/machines?search=SEARCH&track=SEARCH&version=SEARCH", "MACHINE"]
)
async def test_what_a_machine_says_is_text_and_nothing_else(site: Site, path: str) -> None:
    said = everywhere(EVIL)
    await write(site.mirror, said, event(3, 0, 10, asked=said))
    link = re.search(r'href="(/machines/[^"]+)"', await site.text("/machines"))
    assert link is not None
    at = unescape(link[1]) if path == "MACHINE" else path.replace("SEARCH", "%22%3E%3Cimg%3E")
    page = Tags(await site.text(at))
    assert page.tags.count("img") == 1
    assert page.tags.count("script") == 2
    assert [name for name in page.attributes if name.startswith("on")] == []
    if "SEARCH" not in path:
        assert EVIL in page.text
        assert str(7191 * 7919) not in page.text


@pytest.mark.parametrize("path", ["/", "/machines", "/machines/nobody", *FRAGMENTS, *FILES])
async def test_a_browser_may_run_and_load_only_what_is_ours(site: Site, path: str) -> None:
    answer = await site.get(path)
    policy = dict(
        part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";")
    )
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
    }
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"


def test_no_page_names_another_host_or_has_a_script_or_style_of_its_own() -> None:
    files = [*HERE.rglob("*.html"), *(HERE / "static").glob("page.*")]
    assert len(files) > 10
    for file in files:
        text = file.read_text()
        assert not re.search(r"https?://|['\"(]//", text), file
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script>|javascript:|\|\s*safe", text), (
            file
        )


@pytest.mark.parametrize("path", ["/machines", *FRAGMENTS, *FILES])
async def test_what_has_not_changed_is_not_sent_again(site: Site, path: str) -> None:
    first = await site.get(path)
    assert first.headers["cache-control"] == "no-cache"
    etag = first.headers["etag"]
    again = await site.get(path, If_None_Match=f'"other", W/{etag}')
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", etag)
    assert (await site.get(path, If_None_Match='"other"')).status == 200


async def test_what_has_changed_is_sent(site: Site) -> None:
    etag = (await site.get("/machines")).headers["etag"]
    await write(site.mirror, ASK)
    answer = await site.get("/machines", If_None_Match=etag)
    assert answer.status == 200
    assert b"web-1" in answer.body


async def test_a_head_tells_of_a_page_without_sending_it(site: Site) -> None:
    answer = await site.get("/", "HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/machines/nobody", 404),
        ("/fragments/nothing", 404),
        ("/static/api.py", 404),
        ("/static/..%2fapi.py", 404),
        ("/machines?page=0", 400),
        ("/machines?page=x", 400),
        ("/machines?sort=secret", 400),
        ("/machines?state=dead", 400),
    ],
)
async def test_a_mistake_is_said(site: Site, path: str, status: int) -> None:
    assert (await site.get(path)).status == status


async def test_a_database_that_is_gone_takes_only_its_own_parts(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: object, **__: object) -> None:
        raise FleetUnavailable("the fleet database fails: <gone>")

    for name in ("machines", "counts", "served", "recent_errors", "census"):
        monkeypatch.setattr(site.mirror.service.fleet_feed.reader, name, gone)
    page = await site.text("/")
    assert page.count("is not known now: the fleet database fails: &lt;gone&gt;") == 4
    assert f"pinned to {VERSION}" in page
    assert "SERVER=" in page
    assert (await site.get("/machines")).status == 503


# Forms


async def hold(site: Site, token: str = TOKEN, **headers: str) -> int:
    fields = {"track": "stable", "do": "hold", "version": "", "token": token}
    return (await site.submit("/actions/track", fields, **headers)).status


def held(site: Site) -> bool:
    return site.mirror.service.overrides.get("stable") is not None


async def test_a_form_with_the_token_holds_a_track_and_shows_it_at_once(site: Site) -> None:
    assert "held" not in await site.text("/fragments/tracks")
    assert await hold(site) == 200
    assert held(site)
    assert "override, just now" in Tags(await site.text("/fragments/tracks")).text


@pytest.mark.parametrize("token", ["", "0123456789abcdee", "é"])
async def test_a_form_without_the_token_changes_nothing(site: Site, token: str) -> None:
    assert await hold(site, token) == 403
    assert not held(site)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
async def test_a_form_on_another_sites_page_changes_nothing(
    site: Site, headers: dict[str, str]
) -> None:
    assert await hold(site, **headers) == 403
    assert not held(site)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"do": "pin", "version": "4230.2.1"}, 200),
        ({"do": "pin", "version": " 4230.2.1 "}, 200),
        ({"do": "pin", "version": "newest"}, 400),
        ({"do": "pin"}, 400),
        ({"do": "hold", "track": ""}, 400),
        ({"do": "explode"}, 400),
        ({"do": "release"}, 404),
        ({}, 400),
    ],
)
async def test_a_form_is_read_with_care(site: Site, fields: dict[str, str], status: int) -> None:
    asked = {"track": "stable", "token": TOKEN, **fields}
    answer = await site.submit("/actions/track", asked)
    assert answer.status == status
    assert held(site) == (status == 200)


async def test_a_track_is_released(site: Site) -> None:
    await hold(site)
    asked = {"track": "stable", "do": "release", "token": TOKEN}
    assert (await site.submit("/actions/track", asked)).status == 200
    assert not held(site)


async def test_a_form_is_a_form(site: Site) -> None:
    assert await hold(site, Content_Type="text/plain") == 415
    assert not held(site)


# Beyond loopback


@pytest.mark.parametrize("site", [FAR], indirect=True)
@pytest.mark.parametrize("path", ["/", "/machines", *FRAGMENTS, *FILES])
async def test_beyond_loopback_a_browser_is_asked_for_the_token(site: Site, path: str) -> None:
    answer = await site.get(path)
    assert answer.status == 401
    assert "Basic" in answer.headers["www-authenticate"]
    assert (await site.get(path, Authorization=basic("anybody", TOKEN))).status == 200
    for wrong in (
        basic("", ""),
        basic(TOKEN, ""),
        basic("anybody", TOKEN + "0"),
        "Basic !",
        "Basic",
    ):
        assert (await site.get(path, Authorization=wrong)).status == 401


@pytest.mark.parametrize("site", [FAR], indirect=True)
async def test_what_a_browser_sends_by_itself_changes_nothing(site: Site) -> None:
    known = basic("anybody", TOKEN)
    assert await hold(site, "", Authorization=known) == 403
    answer = await site.submit("/api/v1/tracks/stable/hold", {}, Authorization=known)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert not held(site)
    assert await hold(site, TOKEN) == 200


@pytest.mark.parametrize("site", [FAR], indirect=True)
async def test_a_form_without_the_token_is_shown_nothing_of_the_mirror(site: Site) -> None:
    answer = await site.submit("/actions/track", {"track": "stable", "do": "hold"})
    assert answer.status == 403
    assert VERSION not in answer.body.decode()


def basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


# Rendered once


async def test_a_hundred_pages_cost_what_one_costs(site: Site) -> None:
    reader, asked = site.mirror.service.fleet_feed.reader, 0
    machines: Callable[..., Awaitable[object]] = reader.machines

    async def counted(*args: object) -> object:
        nonlocal asked
        asked += 1
        return await machines(*args)

    reader.machines = counted  # type: ignore[method-assign,assignment]
    answers = await asyncio.gather(*(site.get("/fragments/machines") for _ in range(100)))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.headers["etag"] for answer in answers}) == 1
    assert asked <= 2


async def test_when_who_renders_leaves_the_next_one_does() -> None:
    gate = asyncio.Event()

    async def make() -> str:
        await gate.wait()
        return "made"

    shared = Shared(make, 60, 60, "late")
    first, second = asyncio.create_task(shared()), asyncio.create_task(shared())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    gate.set()
    assert (await second).body == b"made"


async def test_what_takes_too_long_is_said_and_comes_later() -> None:
    gate = asyncio.Event()

    async def make() -> str:
        await gate.wait()
        return "made"

    shared = Shared(make, 60, 0.01, "late")
    assert [told.body for told in await asyncio.gather(shared(), shared())] == [b"late"] * 2
    gate.set()
    assert (await shared()).body == b"made"


async def test_a_failure_is_told_and_not_kept() -> None:
    answers = iter([OSError("once")])

    async def make() -> str:
        for error in answers:
            raise error
        return "made"

    shared = Shared(make, 60, 60, "late")
    with pytest.raises(OSError, match="once"):
        await shared()
    assert (await shared()).body == b"made"


async def test_what_the_line_carried_is_counted_once(upstream: Upstream, site: Site) -> None:
    upstream.put(PAYLOAD_PATH, bytes(200_000))
    for _ in range(4):
        assert (await site.mirror.get(PAYLOAD_PATH)).length == 200_000
    await site.mirror.until(lambda: bool(site.mirror.ended()) and not site.mirror.active)
    await recorded(site.mirror)
    saved = Tags(await site.text("/fragments/savings")).text
    assert "75 % saved" in saved
    assert "781 KiB to machines, 195 KiB over the line" in saved
    assert "arrived and verified" in await site.text("/fragments/fills")


async def test_where_machines_are_pointed(site: Site) -> None:
    port = site.mirror.service.config.listen[0].port
    page = await site.get("/", Host="127.0.0.1:9")
    assert b"SERVER=http://127.0.0.1" not in page.body
    assert f":{port}/v1/update/".encode() in page.body
    told = site.mirror.service.config.model_copy(update={"public_url": "https://mirror.test:8443"})
    site.mirror.service.config = told
    assert "SERVER=https://mirror.test:8443/v1/update/" in await site.text("/")


async def test_the_page_and_the_api_say_the_same(site: Site) -> None:
    told = json.loads(await site.text("/api/v1/status"))
    page = Tags(await site.text("/fragments/verdict")).text
    assert told["verdict"] in page
    assert told["reason"] in page


async def test_machines_are_counted_on_when_the_clock_was_set_back(site: Site) -> None:
    clock = site.mirror.service.clock
    assert isinstance(clock, SetClock)
    fragments = Fragments(site.mirror.service)

    async def machines() -> str:
        fragments.expire()
        rendered = await fragments.get("tracks")
        assert rendered is not None
        return Tags(rendered.body.decode()).text.split()[-1]

    assert await machines() == "0"
    clock.ahead = -400 * DAY
    clock.later += 2
    await site.mirror.check()
    await recorded(site.mirror)
    assert await machines() == "1"
