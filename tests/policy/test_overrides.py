"""Tracks that are held or pinned at run time: it holds at once, across restarts, until it is released."""

import asyncio
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from omaha_mirror.config import Hold, Pin
from omaha_mirror.observability import findings
from omaha_mirror.observability.health import State
from omaha_mirror.policy import override_files
from omaha_mirror.policy.override_files import LIMIT, MAX_OVERRIDES
from omaha_mirror.policy.track_rules import BadOverride, Overrides
from omaha_mirror.state_file import replace_file
from tests.support.clock import SetClock
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


async def test_what_a_wrong_clock_dated_is_of_now(path: Path) -> None:
    ahead = Overrides(path, SetClock(9 * 365 * 86400.0))
    await ahead.start()
    await ahead.put("stable", Hold())
    clock = SetClock(synchronised=True)
    right = Overrides(path, clock)
    await right.start()
    [held] = right.all()
    assert held.since == pytest.approx(clock.right(), abs=60)


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
    assert await again.remove("stable") == held
    assert await again.remove("stable") is None
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
    with pytest.raises(BadOverride, match="printable"):
        await overrides.put(track, Hold())
    assert (await opened(path)).all() == ()
    assert overrides.all() == ()


async def test_there_is_a_limit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omaha_mirror.policy.track_rules.MAX_OVERRIDES", 1)
    overrides = await opened(path)
    await overrides.put("a", Hold())
    with pytest.raises(BadOverride, match="release some"):
        await overrides.put("b", Hold())
    await overrides.put("a", Pin(version="1.2.3"))
    assert [o.track for o in overrides.all()] == ["a"]


def test_as_many_as_are_accepted_can_be_read_back() -> None:
    name = "\u00e9" * 128
    longest = {"track": name, "rule": "x" * 1024, "since": 1e10, "tracks": name, "released": name}
    assert MAX_OVERRIDES * len(json.dumps(longest, indent=1)) < LIMIT


async def test_what_cannot_be_kept_does_not_hold(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = await opened(path)
    held = await overrides.put("stable", Hold())
    with monkeypatch.context() as full:
        full.setattr(override_files, "replace_file", refusing(path))
        with pytest.raises(OSError, match="No space"):
            await overrides.put("stable", Pin(version="1.2.3"))
        with pytest.raises(OSError, match="No space"):
            await overrides.remove("stable")
    assert overrides.all() == (held,)
    assert (await opened(path)).all() == (held,)


def refusing(*paths: Path) -> Callable[[Path, bytes], None]:
    """A disk that has no room for some files."""

    def write(path: Path, content: bytes) -> None:
        if path in paths:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        replace_file(path, content)

    return write


async def test_disk_and_memory_agree_when_the_caller_is_cancelled(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = await opened(path)
    loop, entered = asyncio.get_running_loop(), asyncio.Event()

    def slowly(where: Path, content: bytes) -> None:
        loop.call_soon_threadsafe(entered.set)
        replace_file(where, content)

    monkeypatch.setattr(override_files, "replace_file", slowly)
    task = asyncio.create_task(overrides.put("stable", Hold()))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [o.track for o in overrides.all()] == ["stable"]
    assert (await opened(path)).all() == overrides.all()


# What is damaged


def copy_of(path: Path) -> Path:
    [other] = set(path.parent.glob("overrides*.json")) - {path}
    return other


def cut(content: bytes) -> bytes:
    return content[: content.index(b'"rule"')]


def flipped(content: bytes) -> bytes:
    """Still JSON, and another rule."""
    return content.replace(b"1.2.3", b"1.2.4")


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut": cut,
    "one byte": flipped,
    "binary": lambda content: bytes(len(content)),
    "too large": lambda content: content + b" " * LIMIT,
}


@pytest.mark.parametrize("first", [True, False], ids=["the first", "the second"])
@pytest.mark.parametrize("damage", [*DAMAGE.values(), None], ids=[*DAMAGE, "gone"])
async def test_a_damaged_file_is_mended_by_the_other(
    path: Path, damage: Callable[[bytes], bytes] | None, first: bool
) -> None:
    overrides = await opened(path)
    await overrides.put("stable", Hold())
    await overrides.put("edge", Pin(version="1.2.3"))
    victim, other = (path, copy_of(path)) if first else (copy_of(path), path)
    good = victim.read_bytes()
    assert other.read_bytes() == good
    if damage is None:
        victim.unlink()
    else:
        victim.write_bytes(damage(good))
    again = await opened(path)
    assert again.all() == overrides.all()
    assert list(findings.overrides(again)) == []
    assert victim.read_bytes() == good
    other.unlink()
    assert (await opened(path)).all() == overrides.all()


async def test_the_format_before_is_read_and_kept_twice_from_then_on(path: Path) -> None:
    old = {"format": 1, "overrides": [{"track": "a", "rule": "hold", "since": 5}]}
    path.write_text(json.dumps(old))
    overrides = await opened(path)
    assert [(o.track, o.rule, o.since) for o in overrides.all()] == [("a", Hold(), 5)]
    path.unlink()
    assert (await opened(path)).all() == overrides.all()


@pytest.mark.parametrize("format_", [1, 2])
async def test_of_two_damaged_files_the_tracks_that_can_be_made_out_are_held(
    path: Path, format_: int
) -> None:
    overrides = await opened(path)
    await overrides.put("stable", Hold())
    await overrides.put('edge "\N{SNOWMAN}"', Pin(version="1.2.3"))
    if format_ == 1:
        kept = [{"track": o.track, "rule": "hold", "since": 1} for o in overrides.all()]
        path.write_text(json.dumps({"format": 1, "overrides": kept})[:-1])
        copy_of(path).unlink()
    else:
        for file in (path, copy_of(path)):
            file.write_bytes(cut(file.read_bytes()))
    for _ in range(2):  # also after a further restart
        again = await opened(path)
        assert {(o.track, o.rule) for o in again.all()} == {
            ("stable", Hold()),
            ('edge "\N{SNOWMAN}"', Hold()),
        }
        assert again.get("beta") is None
        [finding] = findings.overrides(again)
        assert finding.state is State.DEGRADED
        assert "stable" in finding.words
        assert "/api/v1/tracks/{track}/release" in finding.words
    await again.remove("stable")
    await again.put('edge "\N{SNOWMAN}"', Pin(version="1.2.3"))
    assert list(findings.overrides(await opened(path))) == []


async def test_one_bit_flipped_anywhere_in_both_files_forgets_no_hold(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omaha_mirror.state_file.sync", lambda *_: True)
    path.write_bytes(b"")
    overrides = await opened(path)
    await overrides.put("edge", Hold())
    await overrides.remove("beta")
    whole = path.read_bytes()
    for at in range(len(whole)):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << at % 8
        for file in (path, copy_of(path)):
            file.write_bytes(flipped)
        found = override_files.recover((path, copy_of(path)))
        assert "edge" in {override.track for override in found.overrides}, bytes(flipped)
        assert found.unreadable is not None, bytes(flipped)


def test_a_list_of_tracks_that_is_none_stops_no_start(path: Path) -> None:
    path.write_text('{"format": 2, "sha256": "", "tracks": 7, "overrides": [{"track": "edge"')
    found = override_files.recover((path, path.with_stem("overrides-copy")))
    assert [override.track for override in found.overrides] == ["edge"]


def a_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


UNREADABLE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_text(""),
    "binary": lambda path: path.write_bytes(bytes(range(256))),
    "nothing of it": lambda path: path.write_text('{"format": 1, "overrides": [{"tra'),
    "too large": lambda path: path.write_text(" " * (LIMIT + 1)),
    "a folder": a_folder,
    "a pipe": a_pipe,
}


@pytest.mark.parametrize("damage", UNREADABLE.values(), ids=UNREADABLE)
async def test_where_nothing_can_be_read_all_tracks_are_held_until_they_are_released(
    path: Path, damage: Callable[[Path], object]
) -> None:
    await (await opened(path)).put("stable", Hold())
    for file in (path, copy_of(path)):
        damage(file)
    for _ in range(2):
        overrides = await opened(path)
        for track in ("stable", "beta", "", "x" * 4096):
            found = overrides.get(track)
            assert found is not None
            assert (found.rule, found.why) == (Hold(), "unreadable")
        [finding] = findings.overrides(overrides)
        assert finding.state is State.DEGRADED
        assert "/api/v1/tracks/release" in finding.words
    await overrides.put("edge", Pin(version="1.2.3"))
    assert await overrides.remove("stable") is not None
    again = await opened(path)
    assert again.get("stable") is None
    assert again.get("beta") is not None
    await again.remove_all()
    last = await opened(path)
    assert [o.track for o in last.all()] == ["edge"]
    assert last.get("beta") is None
    assert list(findings.overrides(last)) == []


async def test_what_could_not_be_read_stays_so_when_the_disk_cannot_be_written_to(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(b"")
    with monkeypatch.context() as full:
        full.setattr(
            override_files, "replace_file", refusing(path, path.with_stem("overrides-copy"))
        )
        assert (await opened(path)).get("stable") is not None
    assert (await opened(path)).get("stable") is not None


async def test_where_only_the_first_file_takes_a_change_the_second_does_not_contradict_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = await opened(path)
    await overrides.put("stable", Hold())
    with monkeypatch.context() as full:
        full.setattr(override_files, "replace_file", refusing(copy_of(path)))
        await overrides.remove("stable")
        await overrides.put("edge", Hold())
    path.write_bytes(cut(path.read_bytes()))
    assert [o.track for o in (await opened(path)).all()] == ["edge"]


async def status(mirror: Mirror, body: bytes) -> str:
    [app] = (await mirror.response(body)).apps
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


async def test_overrides_that_cannot_be_read_hold_every_track_until_an_operator_releases_it(
    upstream: Upstream, tmp_path: Path
) -> None:
    upstream.put(PAYLOAD_PATH, b"update" * 1000)
    tracks = {"stable": VERSION, "edge": VERSION, "beta": "relay"}
    check = omaha("request_check_first")
    async with mirror_in_process(tmp_path, upstream.origin, tracks=tracks) as mirror:
        await mirror.service.overrides.put("stable", Hold())
    for file in (tmp_path / "state").glob("overrides*"):
        file.write_bytes(b"")
    async with (
        mirror_in_process(tmp_path, upstream.origin, tracks=tracks) as mirror,
        api_of(mirror) as api,
    ):
        for track in (b"stable", b"edge", b"beta", b"made-up"):
            asked = check.replace(b'track="stable"', b'track="%s"' % track)
            assert await status(mirror, asked) == "noupdate"
        [seen] = (await api.post("explain", {"request": EDGE.decode()}))["apps"]
        assert seen["reason"] == "overrides-unreadable"
        ready = await api.json("GET", "/readyz")
        assert (ready["ready"], ready["state"]) == (True, "degraded")
        assert [c["state"] for c in ready["checks"] if c["name"] == "overrides"] == ["degraded"]
        assert (await api.get("tracks/edge"))["rule"] == "hold"
        await api.post("tracks/edge/release")
        assert await status(mirror, EDGE) == "ok"
        assert await status(mirror, check) == "noupdate"
        await api.post("tracks/release")
        assert await status(mirror, check) == "ok"
