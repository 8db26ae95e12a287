"""What the page makes of what the mirror knows."""

from dataclasses import replace

import pytest

from omaha_mirror.cache import Progress
from omaha_mirror.cache.events import FillEnded, Outcome
from omaha_mirror.cache.inventory import Blob, Contents
from omaha_mirror.catalog import Reason
from omaha_mirror.catalog.channel import ChannelStatus, StepStatus
from omaha_mirror.config.rules import Follow, Hold, Pin, Relay, Rule
from omaha_mirror.fleet import Census, MachineQuery, State
from omaha_mirror.observability.health import Finding, Health
from omaha_mirror.observability.health import State as Level
from omaha_mirror.policy.tracks import TrackPath
from omaha_mirror.text import size
from omaha_mirror.web.admin.page import machines, rendering, status, svg, tracks_and_cache
from omaha_mirror.web.admin.page.status import Saving
from omaha_mirror.web.errors import BadRequest

NOW = 1_790_000_000.0
DAY = 86400
FINE = Finding("cache", Level.OK, "it can be written to")
OLD_UPSTREAM = Finding("track stable", Level.DEGRADED, "no route")
BROKEN = Finding("disk", Level.FAILED, "not mounted")


# Words


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (999 * 1024, "999 KiB"),
        (1023 * 1024, "1.0 MiB"),
        (5.5 * 2**30, "5.5 GiB"),
        (2000 * 2**40, "2000 TiB"),
    ],
)
def test_sizes(count: float, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("age", "text"),
    [
        (-5, "just now"),
        (59, "just now"),
        (60, "1 minute ago"),
        (7300, "2 hours ago"),
        (3 * DAY, "3 days ago"),
    ],
)
def test_a_time_has_its_age(age: float, text: str) -> None:
    view = rendering.moment(NOW, NOW + age)
    assert view == rendering.Moment("2026-09-21T14:13:20Z", "2026-09-21 14:13 UTC", text)


@pytest.mark.parametrize(("part", "whole", "expected"), [(999, 1000, 99), (5, 5, 100), (0, 0, 0)])
def test_only_the_whole_is_a_hundred_percent(part: int, whole: int, expected: int) -> None:
    assert rendering.percent(part, whole) == expected


# The verdict


@pytest.mark.parametrize(
    ("findings", "states", "level", "reason"),
    [
        ([FINE], {}, "ok", "No machine has asked in the last day: point one here"),
        ([FINE], {"complete": 2, "granted": 1, "installed": 1, "on hold": 1}, "ok", "5 machines seen in the last day: 2 up to date, 2 updating, 1 kept back"),
        ([FINE], {"undefined": 1}, "ok", "1 machine seen in the last day"),
        ([FINE], {"complete": 2, "error": 1}, "degraded", "1 machine could not update: see the errors below"),
        ([FINE, OLD_UPSTREAM], {"complete": 2}, "degraded", "track stable: no route"),
        ([OLD_UPSTREAM, BROKEN], None, "failed", "disk: not mounted"),
    ],
)  # fmt: skip
def test_the_verdict_is_of_the_worst(
    findings: list[Finding], states: dict[str, int] | None, level: str, reason: str
) -> None:
    view = status.verdict(Health(tuple(findings)), states)
    assert (view.level, view.reason) == (level, reason)


def test_the_verdict_names_all_that_is_wrong() -> None:
    view = status.verdict(Health((OLD_UPSTREAM, BROKEN)), {"error": 2})
    assert view.more[0] == "track stable: no route"


# Saved


@pytest.mark.parametrize(
    ("saved", "expected"),
    [
        (Saving(1, 2048, 512, 1536, 0.75), ("Today", "1.5 KiB", 75, "2.0 KiB", "512 B")),
        (Saving(7, 0, 0, 0, None), ("7 days", "0 B", 0, "0 B", "0 B")),
    ],
)
def test_savings_in_words(saved: Saving, expected: tuple[str, str, int, str, str]) -> None:
    assert status.saving(saved) == status.SavingView(*expected)


# Fills

FILL = Progress(
    key="k",
    source="http://up/amd64-usr/1.2.3/update.gz?x",
    size=1000,
    filled=250,
    rate=10.0,
    readers=2,
    queued=0,
)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("10 B/s", "1 minute left", "2 clients waiting", "arriving")),
        ({"readers": 1}, ("10 B/s", "1 minute left", "1 client waiting", "arriving")),
        ({"readers": 0}, ("10 B/s", "1 minute left", "no client waiting", "arriving")),
        ({"rate": 0.0}, ("", "", "2 clients waiting", "waiting for upstream")),
        ({"queued": 2}, ("", "", "2 clients waiting", "number 2 in the queue")),
        ({"filled": 1000}, ("", "", "2 clients waiting", "all here, being verified")),
    ],
)
def test_a_fill_in_words(changes: dict[str, int], expected: tuple[str, ...]) -> None:
    view = status.fill(replace(FILL, **changes))  # type: ignore[arg-type]
    assert (view.rate, view.left, view.waiting, view.state) == expected
    assert view.file == "amd64-usr/1.2.3/update.gz"


def test_fills_that_ended_come_newest_first_with_why() -> None:
    good = FillEnded("k", FILL.source, 1000, 3.0, Outcome.PROVEN, "")
    bad = FillEnded("k", FILL.source, 10, 3.0, Outcome.FAILED, "no route")
    first, second = status.ended([(NOW - 90, good), (NOW, bad)], NOW)
    assert (first.percent, first.state, first.reason) == (0, "failed in 3 seconds", "no route")
    assert (second.percent, second.state) == (100, "arrived and verified in 3 seconds")


# Tracks


def channel(*steps: StepStatus, trouble: str = "") -> ChannelStatus:
    return ChannelStatus(
        app_id="app",
        board="amd64-usr",
        track="stable",
        steps=steps,
        reason=Reason.OFFERED if steps else Reason.WITHDRAWN,
        detail="",
        trouble=trouble,
        answered=NOW - 60,
        walked=0.0,
        asked=0.0,
    )


def step(version: str, state: Reason = Reason.OFFERED) -> StepStatus:
    return StepStatus(version, floor=False, seen=NOW - 3600, state=state)


def track(rule: Rule, *led: ChannelStatus) -> tracks_and_cache.TrackView:
    paths = [TrackPath(status, rule, (), (), channel(step("3.0.0"))) for status in led]
    [view] = tracks_and_cache.tracks(paths, ["stable"], {"stable": 1200}, lambda _: rule, {}, NOW)
    return view


@pytest.mark.parametrize(
    ("rule", "state", "mode", "offered"),
    [
        (Follow(), Reason.OFFERED, "follows upstream", "2.0.0"),
        (Follow(), Reason.WARMING, "follows upstream", "1.0.0"),
        (Follow(delay=7200), Reason.DELAYED, "follows upstream, delayed 2 hours", "1.0.0"),
        (Follow(ramp=86400), Reason.OFFERED, "follows upstream, over 1 day", "2.0.0"),
        (Follow(max_version="2.5.0"), Reason.OFFERED, "follows upstream, up to 2.5.0", "2.0.0"),
        (Hold(), Reason.OFFERED, "held", "nothing: the track is held"),
        (Relay(), Reason.OFFERED, "relayed", "what upstream answers each machine"),
        (Pin("2.0.0"), Reason.OFFERED, "pinned to 2.0.0", "2.0.0"),
    ],
)
def test_what_a_track_offers(rule: Rule, state: Reason, mode: str, offered: str) -> None:
    view = track(rule, channel(step("1.0.0"), step("2.0.0", state)))
    assert (view.mode, view.offered, view.upstream) == (mode, offered, "3.0.0")
    assert (view.board, view.machines) == ("amd64-usr", "1,200")


@pytest.mark.parametrize(
    ("rule", "offered"), [(Follow(), "nothing yet"), (Pin("9.9.9"), "9.9.9, when it is known")]
)
def test_a_track_on_which_nothing_is_offered(rule: Rule, offered: str) -> None:
    assert track(rule, channel(step("9.9.9", Reason.WARMING))).offered == offered
    assert track(rule, channel()).offered == offered


def test_why_upstreams_newest_is_not_offered() -> None:
    view = track(Follow(), channel(step("3.0.0", Reason.PAYLOAD_WRONG)))
    assert view.trouble == "3.0.0 is not offered: upstream's bytes do not match their digest"
    assert track(Follow(), channel(step("3.0.0"), trouble="no route")).trouble == "no route"
    assert track(Hold(), channel(trouble="no route")).trouble == ""


def test_a_track_that_upstream_was_not_asked_about() -> None:
    view = track(Pin("1.0.0"))
    assert (view.upstream, view.answered, view.board) == ("not asked", None, "")


def test_all_tracks_that_anybody_named_are_there_with_their_overrides() -> None:
    paths = [TrackPath(channel(), Hold(), (), ())]
    view = tracks_and_cache.tracks(
        paths, ["lts", "stable"], {"odd": 1, "": 1}, lambda _: Hold(), {"lts": NOW}, NOW
    )
    assert [(t.track, t.override is not None) for t in view] == [
        ("lts", True),
        ("odd", False),
        ("stable", False),
    ]


# The cache


def test_a_cache_that_is_too_full_for_its_disk_is_marked() -> None:
    blob = Blob("key", 100, NOW, 0.0, "sha256", "release.pem", "", 1, offered=True)
    contents = Contents((blob,) * 30, (), 3000, 2000, 5, 10, 30)
    view = tracks_and_cache.cache(contents, NOW)
    assert (view.room.percent, view.room.length, view.room.level) == (150, svg.WIDTH, "bad")
    assert (len(view.blobs), view.more) == (
        tracks_and_cache.MAX_BLOBS,
        30 - tracks_and_cache.MAX_BLOBS,
    )
    assert (view.blobs[0].file, view.blobs[0].verified) == ("key", None)
    assert view.blobs[0].notes == "1 reader, offered now, proven by sha256, signed by release.pem"


# Charts


def test_bars_stand_at_their_time_and_stack_to_their_number() -> None:
    hour = int(NOW // svg.STEP) * svg.STEP - svg.STEP
    history = [Census(hour, {"complete": 3, "error": 1}), Census(hour - 365 * DAY, {"error": 9})]
    chart = svg.state_chart(history, {"complete": 8}, NOW)
    done, failed, now = chart.bars
    assert (done.height, failed.height, now.height) == (60.0, 20.0, svg.HEIGHT)
    assert (done.y, failed.y) == (svg.HEIGHT - 60, svg.HEIGHT - 80)
    assert done.x == failed.x
    assert now.x + now.width == pytest.approx(svg.WIDTH)
    assert done.x + done.width == pytest.approx(now.x)
    assert [(share.name, share.percent) for share in chart.shares] == [("complete", 100)]
    assert chart.top == 8


def test_rare_versions_are_counted_together() -> None:
    current = {f"{number}.0.0": 100 - number for number in range(10)}
    chart = svg.version_chart([], current, NOW)
    assert len(chart.shares) == svg.COLOURS + 1
    assert sum(share.count for share in chart.shares) == sum(current.values())
    assert chart.shares[-1].name == svg.OTHERS


def test_no_machines_make_no_bars() -> None:
    assert svg.state_chart([], {}, NOW).bars == ()


def test_each_state_has_a_colour() -> None:
    assert set(svg.STATES) == set(State)


# Machines


def test_a_page_of_machines_leads_to_itself() -> None:
    query = machines.query_of({"search": "a b&c", "state": "on hold", "sort": "version"})
    assert query == MachineQuery(
        search="a b&c", state=State.ON_HOLD, sort="version", descending=False, per_page=50
    )
    url = machines.page_url(query, 2)
    assert url == "/machines?search=a+b%26c&state=on+hold&sort=version&order=asc&page=2"


def test_empty_fields_ask_for_nothing() -> None:
    asked = dict.fromkeys(("search", "state", "version", "track", "sort", "page", "order"), "")
    assert machines.query_of(asked) == MachineQuery(per_page=50)


@pytest.mark.parametrize("asked", [{"page": "-1"}, {"page": "9" * 30}, {"sort": "id; drop"}])
def test_a_question_that_cannot_be_asked_is_refused(asked: dict[str, str]) -> None:
    with pytest.raises(BadRequest):
        machines.query_of(asked)
