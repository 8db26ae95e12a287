"""Tracks that are held or pinned at run time: it holds at once, across restarts, until it is released."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from omaha_mirror import overrides as module
from omaha_mirror.config import Hold, Pin
from omaha_mirror.files import replace_file
from omaha_mirror.overrides import LIMIT, MAX_OVERRIDES, Overrides
from tests.support.mirror import PAYLOAD_PATH, VERSION, Mirror, mirror_in_process, omaha
from tests.support.upstream import Upstream
from tests.web.asking import Api, api_of

EDGE = omaha("request_check_first").replace(b'track="stable"', b'track="edge"')


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "overrides.json"


async def opened(path: Path) -> Overrides:
    overrides = Overrides(path)
    await overrides.start()
    return overrides


async def test_what_was_set_is_there_after_a_restart(path: Path) -> None:
    pin = Pin(version="1.2.3", packages=("oem-azure.gz",), allow_downgrade=True)
    overrides = await opened(path)
    assert overrides.all() == ()
    held = await overrides.put("stable", Hold())
    pinned = await overrides.put("edge \N{SNOWMAN}", pin)
    again = await opened(path)
    assert again.all() == (pinned, held)
    assert again.get("stable") == held
    assert again.get("edge \N{SNOWMAN}") == pinned
    assert pinned.rule == pin
    assert await again.release("stable") == held
    assert await again.release("stable") is None
    assert (await opened(path)).all() == (pinned,)


async def test_an_override_is_told_in_a_sentence(path: Path) -> None:
    overrides = await opened(path)
    assert "stable is held since 20" in (await overrides.put("stable", Hold())).words
    assert (
        "edge is pinned to 1.2.3 since" in (await overrides.put("edge", Pin(version="1.2.3"))).words
    )


@pytest.mark.parametrize("track", ["", "x" * 129, "a\nb", "\0", "\ud800"])
async def test_a_track_that_no_machine_can_be_on_is_refused(path: Path, track: str) -> None:
    overrides = await opened(path)
    with pytest.raises(ValueError, match="printable"):
        await overrides.put(track, Hold())
    assert (await opened(path)).all() == ()
    assert overrides.all() == ()


async def test_there_is_a_limit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_OVERRIDES", 1)
    overrides = await opened(path)
    await overrides.put("a", Hold())
    with pytest.raises(ValueError, match="release some"):
        await overrides.put("b", Hold())
    await overrides.put("a", Pin(version="1.2.3"))
    assert [o.track for o in overrides.all()] == ["a"]


def test_as_many_as_are_accepted_can_be_read_back() -> None:
    longest = {"track": "\u00e9" * 128, "rule": "x" * 1024, "since": 1e10}
    assert MAX_OVERRIDES * len(json.dumps(longest, indent=1)) < LIMIT


@pytest.fixture
def damaged(path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file that stays as it is."""
    path.write_text(request.param)
    yield path
    assert path.read_text() == request.param


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "{",
        '{"format": 2}',
        '{"format": 1, "overrides": [{"track": "a", "rule": "soon", "since": 1}]}',
        '{"format": 1, "overrides": [{"track": "a", "rule": "hold", "since": 1e999}]}',
        '{"format": 1, "overrides": [{"track": "a", "rule": "hold"}]}',
        " " * (LIMIT + 1),
    ],
    ids=range(7),
    indirect=True,
)
async def test_a_damaged_file_is_no_empty_one(damaged: Path) -> None:
    with pytest.raises(OSError, match="mend it, or remove it") as error:
        await opened(damaged)
    assert str(damaged) in str(error.value)


async def test_what_cannot_be_kept_does_not_hold(path: Path) -> None:
    overrides = await opened(path)
    held = await overrides.put("stable", Hold())
    (path.parent / "overrides.json.tmp").mkdir()
    with pytest.raises(OSError, match="overrides"):
        await overrides.put("stable", Pin(version="1.2.3"))
    with pytest.raises(OSError, match="overrides"):
        await overrides.release("stable")
    assert overrides.all() == (held,)
    assert (await opened(path)).all() == (held,)


async def test_disk_and_memory_agree_when_the_caller_is_cancelled(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = await opened(path)
    loop, entered = asyncio.get_running_loop(), asyncio.Event()

    def slowly(where: Path, content: bytes) -> None:
        loop.call_soon_threadsafe(entered.set)
        replace_file(where, content)

    monkeypatch.setattr(module, "replace_file", slowly)
    task = asyncio.create_task(overrides.put("stable", Hold()))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [o.track for o in overrides.all()] == ["stable"]
    assert (await opened(path)).all() == overrides.all()


async def status(mirror: Mirror, body: bytes) -> str:
    [app] = (await mirror.told(body)).apps
    assert app.update_check is not None
    return app.update_check.status


async def test_a_held_track_offers_nothing_from_the_next_check_to_its_release(
    upstream: Upstream, tmp_path: Path
) -> None:
    upstream.put(PAYLOAD_PATH, b"update" * 1000)
    check = omaha("request_check_first")
    async with mirror_in_process(tmp_path, upstream.origin) as mirror, api_of(mirror) as api:
        assert await status(mirror, check) == "ok"
        held = await api.post("tracks/stable/hold")
        assert (held["rule"], held["configured"], held["offered"]) == ("hold", VERSION, [])
        assert held["overridden"] > 0
        assert await status(mirror, check) == "noupdate"
    async with mirror_in_process(tmp_path, upstream.origin) as mirror, api_of(mirror) as api:
        assert await status(mirror, check) == "noupdate"
        assert await api.get("tracks/stable") == held
        released = await api.post("tracks/stable/release")
        assert (released["rule"], released["overridden"]) == (VERSION, None)
        assert await status(mirror, check) == "ok"
        assert "stable" in await api.refused("POST", "tracks/stable/release", 404)


async def test_a_track_can_be_pinned_that_the_config_holds(
    upstream: Upstream, tmp_path: Path
) -> None:
    upstream.put(PAYLOAD_PATH, b"update" * 1000)
    changes = {"default_track": "hold", "tracks": {}}
    async with (
        mirror_in_process(tmp_path, upstream.origin, **changes) as mirror,
        api_of(mirror) as api,
    ):
        assert await status(mirror, EDGE) == "noupdate"
        # The release server's own path is open to what is pinned at run time too.
        assert (await mirror.get(PAYLOAD_PATH)).status == 404
        pinned = await api.post("tracks/edge/pin", {"version": VERSION})
        assert pinned["rule"] == VERSION
        assert (await mirror.get(PAYLOAD_PATH)).status == 200
        assert await status(mirror, EDGE) == "ok"
        [track] = (await api.get("tracks"))["tracks"]
        assert [offered["version"] for offered in track["offered"]] == [VERSION]
        assert (track["track"], track["configured"]) == ("edge", "hold")


BAD: dict[str, list[tuple[object, str]]] = {
    "tracks/edge/pin": [
        ({}, "version"),
        ({"version": "newest"}, "version"),
        ({"version": 1}, "version"),
        ({"version": VERSION, "allow_downgrade": "yes"}, "allow_downgrade"),
        ({"version": VERSION, "packages": ["../etc/passwd"]}, "packages"),
        ({"version": VERSION, "sikp_floors": True}, "no sikp_floors"),
        ([VERSION], "object"),
    ],
    f"tracks/{'x' * 129}/hold": [({}, "128")],
    "tracks/%00/hold": [({}, "printable")],
    "tracks/%ff%fe/pin": [({}, "version")],
}


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [(path, body, words) for path, cases in BAD.items() for body, words in cases],
)
async def test_a_rule_that_cannot_be_is_refused_with_words(
    upstream: Upstream, tmp_path: Path, path: str, body: object, words: str
) -> None:
    async with mirror_in_process(tmp_path, upstream.origin) as mirror, api_of(mirror) as api:
        assert words in await api.refused("POST", path, 400, body)
        assert mirror.service.overrides.all() == ()


@pytest.mark.parametrize("action", ["pin", "hold", "release"])
async def test_nobody_changes_a_track_without_the_token(
    upstream: Upstream, tmp_path: Path, action: str
) -> None:
    async with mirror_in_process(tmp_path, upstream.origin) as mirror, api_of(mirror) as api:
        answer = await Api.ask(api, "POST", f"/api/v1/tracks/stable/{action}", {}, token=None)
        assert answer.status == 401
        assert mirror.service.overrides.all() == ()
