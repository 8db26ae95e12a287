"""Following tracks: who asks upstream, when, and what becomes of the answers."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from omaha_mirror.aio.tasks import DEFECT
from omaha_mirror.catalog import Reason, Release, UpstreamPolicy
from omaha_mirror.catalog.channel import ChannelKey, KeptChannel
from omaha_mirror.catalog.follow import AT_ONCE, FIRST_RETRY, Follower
from omaha_mirror.catalog.follow_events import (
    Failed,
    FollowEvent,
    Learnt,
    NothingOffered,
    Recovered,
)
from omaha_mirror.catalog.followed import (
    ASK_NOTHING,
    MAX_LEARNT,
    MAX_TRACK,
    NO_UPSTREAM,
    FollowPlan,
    Inquiry,
)
from omaha_mirror.catalog.question_rate_limit import EVERY
from omaha_mirror.omaha import AppResponse, AppStatus, Response, UpdateCheck, UpdateStatus, Version
from omaha_mirror.upstream.errors import BadAnswer, Unreachable
from tests.catalog.scene import APP, BOARD, DAY, HOUR, release
from tests.support.clock import StoppedClock
from tests.support.logs import Logs

POLL = 900.0
STABLE = ChannelKey(APP, BOARD, "stable")
DOWN = Unreachable("the line is down", "http://upstream.example/")


async def until(true: Callable[[], bool]) -> None:
    """Let the others run for as long as it takes."""
    while not true():  # noqa: ASYNC110 - turns of the loop, no time
        await asyncio.sleep(0)


class Moments(StoppedClock):
    """Time passes when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    async def sleep(self, seconds: float) -> None:
        sleeper = self.now + seconds, asyncio.Event()
        self._sleepers.append(sleeper)
        try:
            await sleeper[1].wait()
        finally:
            self._sleepers.remove(sleeper)

    @property
    def asleep(self) -> int:
        return sum(not woken.is_set() for _, woken in self._sleepers)

    @property
    def next(self) -> float:
        """Seconds to the next one who wakes."""
        return min(when for when, _ in self._sleepers) - self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for when, woken in self._sleepers:
            if when <= self.now:
                woken.set()


class Server:
    """An upstream that leads each track through its steps, one at a time."""

    def __init__(self) -> None:
        self.steps: dict[str, list[str]] = {"stable": ["1.0", "2.0", "3.0"]}
        self.status: dict[str, AppStatus] = {}
        self.trouble: Exception | None = None
        self.answer: Callable[[Inquiry], Response] = self.lead
        self.asked: list[tuple[str, str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.arrived = asyncio.Event()
        self.under_way: Counter[str] = Counter()
        self.most = 0

    async def ask(self, inquiry: Inquiry) -> Response:
        track = inquiry.track
        self.asked.append((track, inquiry.version))
        self.under_way[track] += 1
        assert self.under_way[track] == 1
        self.most = max(self.most, self.under_way.total())
        self.arrived.set()
        try:
            await self.gate.wait()
            if self.trouble is not None:
                raise self.trouble
            return self.answer(inquiry)
        finally:
            self.under_way[track] -= 1

    def lead(self, inquiry: Inquiry) -> Response:
        status = self.status.get(inquiry.track, AppStatus.OK)
        check = UpdateCheck(status=UpdateStatus.INTERNAL)
        if status is AppStatus.OK:
            has = Version.parse(inquiry.version)
            ahead = [v for v in self.steps.get(inquiry.track, ()) if Version.parse(v) > has]
            check = UpdateCheck(status=UpdateStatus.NO_UPDATE)
            if ahead:
                check = release(version=ahead[0]).check
        return Response(apps=(AppResponse(appid=APP, status=status, update_check=check),))

    def took(self) -> list[str]:
        """The versions it was asked as since this was last called."""
        asked = [version for _, version in self.asked]
        self.asked.clear()
        return asked


WHOLE = ["0.0.0", "1.0", "2.0", "3.0", "3.0"]
IDLE = ["3.0", "3.0"]
"""The questions of a walk, and of a poll that finds nothing."""


class Scene:
    """A follower before a server."""

    def __init__(self, **plan: object) -> None:
        self.clock = Moments()
        self.server = Server()
        self.events: list[FollowEvent] = []
        self.learnt: list[tuple[Release, ...]] = []
        self.plan = replace(
            FollowPlan(
                app_ids=[APP],
                ask=self.server.ask,
                allowed=lambda _: None,
                tracks=["stable"],
                poll_interval=POLL,
                hook=self.events.append,
            ),
            **plan,  # type: ignore[arg-type]
        )
        self.follower = self.another()

    def another(self) -> Follower:
        return Follower(self.plan, self.learnt.append, lambda: None, self.clock, random.Random(1))

    async def ask(
        self, key: ChannelKey = STABLE, wait: float = 30.0, client: str = ""
    ) -> tuple[str, ...]:
        """A machine asks; the steps that are offered then."""
        await self.follower.follow(key, wait, client)
        return self.steps(key)

    def steps(self, key: ChannelKey = STABLE) -> tuple[str, ...]:
        return tuple(step.version for step in self.follower.channel(key).offered)

    def floors(self, key: ChannelKey = STABLE) -> list[str]:
        return [step.version for step in self.follower.channel(key).offered if step.floor]

    def reason(self, key: ChannelKey = STABLE) -> Reason:
        return self.follower.nothing(key)[0]

    async def quiet(self) -> None:
        """Until all who follow are asleep or have ended."""
        await until(lambda: self.clock.asleep == sum(f.active for f in self.follower._followed))

    async def quiet_but_for_turns(self) -> None:
        """Until all are asleep, have ended, or wait for a turn that comes with time."""
        for _ in range(1000):
            await asyncio.sleep(0)

    async def later(self, seconds: float) -> list[str]:
        """Let time pass; the versions that upstream was asked as."""
        self.clock.advance(seconds)
        await self.quiet()
        return self.server.took()

    async def later_asked(self, seconds: float, key: ChannelKey = STABLE) -> list[str]:
        """Let time pass in which a machine asks."""
        await self.ask(key, 0.0)
        return await self.later(seconds)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    yield scene
    await scene.follower.close()


def track(name: object) -> ChannelKey:
    return ChannelKey(APP, BOARD, str(name))


# The first demand


async def test_the_first_machine_waits_for_the_first_walk(scene: Scene) -> None:
    assert await scene.ask() == ("1.0", "2.0", "3.0")
    assert scene.floors() == ["1.0", "2.0"]
    assert scene.server.took() == WHOLE
    assert [r.version for releases in scene.learnt for r in releases] == ["1.0", "2.0", "3.0"]


async def test_who_waits_waits_no_longer_than_told_and_learning_goes_on(scene: Scene) -> None:
    scene.server.gate.clear()
    assert await scene.ask(wait=0.01) == ()
    assert scene.reason() is Reason.WARMING
    scene.server.gate.set()
    await scene.quiet()
    assert await scene.ask(wait=0.0) == ("1.0", "2.0", "3.0")
    assert scene.server.took() == WHOLE


async def test_there_is_one_walk_however_many_ask(scene: Scene) -> None:
    scene.server.gate.clear()
    crowd = [asyncio.create_task(scene.ask()) for _ in range(100)]
    await scene.server.arrived.wait()
    crowd[0].cancel()
    scene.server.gate.set()
    assert set(await asyncio.gather(*crowd[1:])) == {("1.0", "2.0", "3.0")}
    assert scene.server.took() == WHOLE


async def test_without_an_omaha_server_the_reason_is_said() -> None:
    scene = Scene()
    scene.plan = ASK_NOTHING
    scene.follower = scene.another()
    assert await scene.ask() == ()
    assert scene.follower.nothing(STABLE) == (Reason.NO_UPDATE_UPSTREAM, NO_UPSTREAM)
    await scene.follower.close()


# Polls


async def test_a_channel_in_use_is_polled_each_interval_as_its_newest_version(
    scene: Scene,
) -> None:
    await scene.ask()
    scene.server.took()
    for _ in range(20):
        assert 0.9 * POLL <= scene.clock.next <= 1.1 * POLL
        assert await scene.later_asked(scene.clock.next - 1) == []
        assert await scene.later_asked(1) == IDLE
    assert len({scene.clock.next for _ in range(3) if await scene.later_asked(POLL * 1.1)}) == 3


async def test_a_channel_without_machines_is_not_polled_and_answers_the_next_at_once(
    scene: Scene,
) -> None:
    await scene.ask()
    scene.server.took()
    assert await scene.later(2 * POLL) == []
    assert await scene.later(2 * POLL) == []
    scene.server.gate.clear()
    assert await scene.ask() == ("1.0", "2.0", "3.0")
    scene.server.gate.set()
    await scene.quiet()
    assert scene.server.took() == IDLE


async def test_once_a_day_all_of_it_is_walked(scene: Scene) -> None:
    await scene.ask()
    scene.server.took()
    scene.server.steps["stable"] = ["1.0", "2.5"]
    for _ in range(10):
        assert await scene.later_asked(DAY / 12) == IDLE
    assert await scene.later_asked(DAY / 5) == ["0.0.0", "1.0", "2.5", "2.5"]
    assert scene.steps() == ("1.0", "2.5")


async def test_what_a_poll_finds_is_told_with_the_floors_that_a_whole_walk_shows(
    scene: Scene,
) -> None:
    scene.server.steps["stable"] = ["1.0", "3.0"]
    await scene.ask()
    assert scene.floors() == ["1.0"]
    scene.server.took()
    scene.server.steps["stable"] = ["1.0", "2.0", "3.0", "4.0"]
    whole = ["0.0.0", "1.0", "2.0", "3.0", "4.0", "4.0"]
    assert await scene.later_asked(1.1 * POLL) == ["3.0", "4.0", "4.0", *whole]
    assert scene.steps() == ("1.0", "2.0", "3.0", "4.0")
    assert scene.floors() == ["1.0", "2.0", "3.0"]
    assert scene.events[-1] == Learnt(STABLE, scene.steps(), ("2.0", "4.0"), ())


async def test_what_upstream_waits_for_is_told_although_no_machine_asks(scene: Scene) -> None:
    scene.server.gate.clear()
    first = asyncio.create_task(scene.ask())
    await scene.server.arrived.wait()

    def then_break(inquiry: Inquiry) -> Response:
        scene.server.trouble = BadAnswer("this is HTML", "http://upstream.example/")
        return scene.server.lead(inquiry)

    scene.server.answer = then_break
    scene.server.gate.set()
    assert await first == ("1.0",)
    scene.server.answer = scene.server.lead
    assert scene.server.took() == ["0.0.0", "1.0"]
    assert await scene.later(HOUR) == ["1.0"]
    scene.server.trouble = None
    assert await scene.later(HOUR) == ["1.0", "2.0", "3.0", "3.0"]
    assert scene.floors() == ["1.0", "2.0"]
    assert await scene.later(HOUR) == []


# Trouble and policy


async def test_in_an_outage_what_was_known_stands_and_it_is_asked_ever_less_often(
    scene: Scene,
) -> None:
    await scene.ask()
    scene.server.took()
    scene.server.trouble = DOWN
    pauses = []
    for _ in range(9):
        assert await scene.later_asked(scene.clock.next) == ["3.0"]
        assert scene.steps() == ("1.0", "2.0", "3.0")
        pauses.append(scene.clock.next)
    assert 0.8 * FIRST_RETRY <= pauses[0] <= 1.2 * FIRST_RETRY
    assert pauses[:5] == sorted(pauses[:5])
    assert 0.8 * POLL <= pauses[-1] <= 1.2 * POLL
    assert scene.follower.trouble(STABLE) == str(DOWN)
    scene.server.trouble = None
    assert await scene.later_asked(scene.clock.next) == IDLE
    assert scene.follower.trouble(STABLE) == ""
    assert scene.follower.channel(STABLE).answered == scene.clock.now


async def test_an_outage_at_the_first_question_is_the_reason_and_holds_nobody_up(
    scene: Scene,
) -> None:
    scene.server.trouble = DOWN
    assert await scene.ask() == ()
    assert scene.follower.nothing(STABLE) == (Reason.UNREACHABLE, str(DOWN))
    assert await scene.ask() == ()
    assert scene.server.took() == ["0.0.0"]
    scene.server.trouble = None
    assert await scene.later(2 * FIRST_RETRY) == WHOLE


async def test_after_an_outage_it_is_learnt_although_no_machine_asks_again(scene: Scene) -> None:
    scene.server.trouble = DOWN
    await scene.ask()
    scene.server.took()
    for _ in range(5):
        assert await scene.later(1.2 * POLL) == ["0.0.0"]
    scene.server.trouble = None
    assert await scene.later(1.2 * POLL) == WHOLE
    assert await scene.later(1.2 * POLL) == []


async def test_an_outage_is_one_line_in_the_log_however_many_tracks_and_polls(
    scene: Scene,
) -> None:
    scene.server.trouble = DOWN
    keys = [STABLE, track("beta")]
    with capture_logs() as lines:
        for _ in range(5):
            for key in keys:
                await scene.ask(key)
            await scene.later(2 * POLL)
        assert len(lines) == 1
        assert sum(isinstance(event, Failed) for event in scene.events) == 12
        scene.server.trouble = None
        for key in keys:
            await scene.later_asked(2 * HOUR, key)
    assert sum(isinstance(event, Recovered) for event in scene.events) == 1
    assert [line["event"] for line in lines].count("upstream answers again") == 1


async def test_a_quiet_poll_says_nothing(scene: Scene) -> None:
    with capture_logs() as lines:
        await scene.ask()
        for _ in range(5):
            await scene.later_asked(2 * POLL)
    assert [line["event"] for line in lines] == ["upstream offers other versions on a track"]


@pytest.mark.parametrize("trouble", ["an answer of another", "a body that is none"])
async def test_a_refused_answer_changes_nothing_is_counted_and_said_once(
    scene: Scene, trouble: str
) -> None:
    await scene.ask()
    if trouble == "a body that is none":
        scene.server.trouble = BadAnswer("this is HTML", "http://upstream.example/")
    else:
        scene.server.answer = lambda _: Response()
    with capture_logs() as lines:
        for _ in range(3):
            assert len(await scene.later_asked(2 * POLL)) >= 1
    assert scene.steps() == ("1.0", "2.0", "3.0")
    refused = [event for event in scene.events if isinstance(event, Failed)]
    assert [(event.reason, event.first) for event in refused] == [
        (Reason.REFUSED, True),
        (Reason.REFUSED, False),
        (Reason.REFUSED, False),
    ]
    assert [line["log_level"] for line in lines] == ["warning"]


@pytest.mark.parametrize("name", ["stable", "other"])
@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (AppStatus.OK, Reason.NO_UPDATE_UPSTREAM),
        (AppStatus.UPDATES_DISABLED, Reason.WITHDRAWN),
        (None, Reason.REFUSED),
    ],
)
async def test_that_there_is_nothing_is_believed_for_an_interval(
    scene: Scene, name: str, status: AppStatus | None, reason: Reason
) -> None:
    key = track(name)
    scene.server.steps.clear()
    if status is None:
        scene.server.trouble = BadAnswer("this is HTML", "http://upstream.example/")
    else:
        scene.server.status[name] = status
    assert await scene.ask(key) == ()
    assert scene.reason(key) is reason
    scene.server.took()
    assert await scene.later_asked(0.89 * POLL, key) == []
    scene.server.steps[name] = ["1.0"]
    scene.server.status.clear()
    scene.server.trouble = None
    assert await scene.later_asked(0.22 * POLL, key) == ["0.0.0", "1.0", "1.0"]
    assert scene.steps(key) == ("1.0",)


async def test_what_upstream_withdraws_is_offered_no_more_and_said(scene: Scene) -> None:
    await scene.ask()
    scene.server.status["stable"] = AppStatus.NO_PACKAGE_FOUND
    with capture_logs() as lines:
        for _ in range(3):
            await scene.later_asked(2 * POLL)
    assert scene.steps() == ()
    assert scene.reason() is Reason.WITHDRAWN
    assert [event for event in scene.events if isinstance(event, NothingOffered)] == [
        NothingOffered(STABLE, *scene.follower.nothing(STABLE))
    ]
    assert [line["event"] for line in lines] == ["upstream offers nothing"]
    assert "error-noPackageFound" in lines[0]["detail"]


async def test_a_busy_upstream_keeps_the_offer_and_a_walk_goes_on_where_it_was(
    scene: Scene,
) -> None:
    scene.server.steps["stable"] = ["1.0"]
    await scene.ask()
    scene.server.took()
    scene.server.steps["stable"] = ["1.0", "2.0", "3.0"]
    busy_after = iter([True, False])

    def limited(inquiry: Inquiry) -> Response:
        told = scene.server.lead(inquiry)
        if next(busy_after, False):
            scene.server.status["stable"] = AppStatus.MAX_UPDATES_PER_PERIOD_LIMIT_REACHED
        return told

    scene.server.answer = limited
    assert await scene.later_asked(1.1 * POLL) == ["1.0", "2.0"]
    assert scene.steps() == ("1.0", "2.0")
    assert scene.floors() == ["1.0"]
    scene.server.status.clear()
    assert await scene.later_asked(1.1 * POLL) == ["2.0", "3.0", "3.0", *WHOLE]
    assert scene.floors() == ["1.0", "2.0"]


async def test_a_walk_that_was_cut_short_long_ago_is_begun_anew(scene: Scene) -> None:
    scene.server.answer = lambda inquiry: (
        scene.server.lead(inquiry) if inquiry.version == "0.0.0" else busy(inquiry)
    )

    def busy(inquiry: Inquiry) -> Response:
        scene.server.status["stable"] = AppStatus.MAX_CONCURRENT_UPDATES_LIMIT_REACHED
        try:
            return scene.server.lead(inquiry)
        finally:
            scene.server.status.clear()

    assert await scene.ask() == ("1.0",)
    assert scene.server.took() == ["0.0.0", "1.0"]
    assert await scene.later_asked(DAY / 2) == ["1.0"]
    scene.server.answer = scene.server.lead
    assert await scene.later_asked(DAY) == WHOLE


async def test_a_defect_is_logged_and_tried_again(scene: Scene, logs: Logs) -> None:
    scene.server.trouble = RuntimeError("a defect")
    await scene.ask()
    assert "RuntimeError: a defect" in logs[0]["exception"]
    assert scene.follower.trouble(STABLE) == DEFECT
    scene.server.trouble = None
    assert await scene.later(2 * FIRST_RETRY) == ["0.0.0", *WHOLE]


# Bounds


@pytest.mark.parametrize(
    "key",
    [
        ChannelKey("another", BOARD, "stable"),
        ChannelKey(APP, "x86-usr", "stable"),
        ChannelKey(APP, BOARD, "x" * (MAX_TRACK + 1)),
    ],
)
async def test_what_cannot_be_is_never_asked_about(scene: Scene, key: ChannelKey) -> None:
    assert await scene.ask(key) == ()
    assert scene.server.asked == []
    assert scene.follower.kept() == []


async def test_made_up_tracks_are_bounded_and_keep_out_no_configured_one(scene: Scene) -> None:
    for i in range(1000):
        await scene.ask(track(i), 0.0)
    await scene.quiet_but_for_turns()
    assert len(scene.follower.kept()) == MAX_LEARNT
    assert scene.follower.lasting() == []
    assert len({name for name, _ in scene.server.asked}) <= MAX_LEARNT
    assert await scene.ask() == ("1.0", "2.0", "3.0")


@pytest.mark.parametrize("client", ["10.0.0.1", "10.6.6.6"])
async def test_a_track_that_upstream_knows_has_its_place_whatever_was_made_up(
    scene: Scene, client: str
) -> None:
    scene.server.steps["late"] = ["1.0"]
    for i in range(2 * MAX_LEARNT):
        await scene.ask(track(i), 0.0, "10.6.6.6")
    await scene.quiet_but_for_turns()
    await scene.ask(track("late"), 0.0, client)
    await scene.quiet_but_for_turns()
    scene.clock.advance(EVERY)
    await until(lambda: scene.steps(track("late")) == ("1.0",))
    for i in range(2 * MAX_LEARNT):
        await scene.ask(track(f"more{i}"), 0.0, "10.6.6.6")
    await scene.quiet_but_for_turns()
    assert scene.steps(track("late")) == ("1.0",)


async def test_of_many_known_tracks_the_one_unused_longest_makes_room_after_an_hour(
    scene: Scene,
) -> None:
    for i in range(MAX_LEARNT + 1):
        scene.server.steps[str(i)] = ["1.0"]
    for i in range(MAX_LEARNT):
        await scene.ask(track(i), client=f"10.0.0.{i}")
        scene.clock.advance(1)
    late = track(MAX_LEARNT)
    assert await scene.ask(late, client="10.1.0.1") == ()
    assert scene.reason(late) is Reason.TOO_MANY_TRACKS
    scene.clock.advance(HOUR)
    assert scene.reason(late) is Reason.WARMING
    assert await scene.ask(late, client="10.1.0.1") == ("1.0",)
    kept = [item.key for item in scene.follower.kept()]
    assert track(0) not in kept
    assert len(kept) == MAX_LEARNT


async def test_who_brought_many_known_tracks_makes_room_for_others(scene: Scene) -> None:
    for i in range(MAX_LEARNT + 1):
        scene.server.steps[str(i)] = ["1.0"]
    for i in range(MAX_LEARNT):
        await scene.ask(track(i), client="10.6.6.6")
        scene.clock.advance(1)
    late = track(MAX_LEARNT)
    assert await scene.ask(late, client="10.0.0.1") == ("1.0",)
    assert len(scene.follower.kept()) == MAX_LEARNT
    assert await scene.ask(track(0), client="10.6.6.6") == ("1.0",)
    assert scene.steps(late) == ("1.0",)


async def test_few_questions_are_under_way_at_once(scene: Scene) -> None:
    scene.server.gate.clear()
    asking = [asyncio.create_task(scene.ask(track(i))) for i in range(3 * AT_ONCE)]
    await until(lambda: scene.server.under_way.total() == AT_ONCE)
    scene.server.gate.set()
    await asyncio.gather(*asking)
    assert scene.server.most == AT_ONCE


# Now


async def test_sync_walks_all_that_is_known_now(scene: Scene) -> None:
    await scene.follower.sync()
    assert scene.server.took() == []
    scene.server.steps["beta"] = ["9.0"]
    for key in (STABLE, track("beta")):
        await scene.ask(key)
    await scene.later(2 * POLL)
    await scene.follower.sync("stable")
    assert scene.server.took() == WHOLE
    await scene.follower.sync()
    assert sorted(scene.server.took()) == sorted([*WHOLE, "0.0.0", "9.0", "9.0"])
    await scene.follower.sync("nightly")
    assert scene.server.took() == []


async def test_sync_goes_on_with_no_old_walk(scene: Scene) -> None:
    scene.server.answer = lambda inquiry: (
        scene.server.lead(inquiry) if inquiry.version == "0.0.0" else Response()
    )
    await scene.ask()
    assert scene.server.took() == ["0.0.0", "1.0"]
    scene.server.answer = scene.server.lead
    await scene.follower.sync()
    assert scene.server.took() == WHOLE


async def test_who_leaves_does_not_end_a_sync(scene: Scene) -> None:
    await scene.ask()
    scene.server.took()
    scene.server.gate.clear()
    scene.server.arrived.clear()
    syncing = asyncio.create_task(scene.follower.sync())
    await scene.server.arrived.wait()
    syncing.cancel()
    await asyncio.wait([syncing])
    scene.server.gate.set()
    await scene.follower.sync()
    assert scene.server.took() == WHOLE + WHOLE


async def test_another_plan_counts_from_the_next_question_on(scene: Scene) -> None:
    await scene.ask()
    scene.follower.change(replace(scene.plan, poll_interval=60.0, app_ids=[]))
    await scene.later_asked(1.1 * POLL)
    assert 54.0 <= scene.clock.next <= 66.0
    assert await scene.ask(track("beta")) == ()


# Restarts


async def restarted(scene: Scene, kept: Iterable[KeptChannel] | None = None) -> None:
    await scene.follower.close()
    old, scene.follower = scene.follower, scene.another()
    scene.follower.restore(old.kept() if kept is None else kept)
    scene.server.took()


async def test_after_a_restart_what_was_known_is_offered_at_once_and_walked_anew(
    scene: Scene,
) -> None:
    await scene.ask()
    await restarted(scene)
    assert scene.steps() == ("1.0", "2.0", "3.0")
    assert scene.server.asked == []
    scene.server.gate.clear()
    assert await scene.ask() == ("1.0", "2.0", "3.0")
    scene.server.gate.set()
    await scene.quiet()
    assert scene.server.took() == WHOLE


async def test_after_a_restart_with_the_line_down_what_was_known_is_offered(
    scene: Scene,
) -> None:
    await scene.ask()
    scene.server.trouble = DOWN
    await restarted(scene)
    assert await scene.ask() == ("1.0", "2.0", "3.0")
    await scene.quiet()
    assert scene.steps() == ("1.0", "2.0", "3.0")


async def test_a_restart_takes_up_no_more_than_may_be_followed(scene: Scene) -> None:
    await scene.ask()
    [stable] = scene.follower.kept()
    others = [KeptChannel(track(i), stable.channel, float(i)) for i in range(2 * MAX_LEARNT)]
    strange = KeptChannel(ChannelKey("another", BOARD, "stable"), stable.channel, 1e9)
    await restarted(scene, [strange, stable, *others])
    assert {item.key for item in scene.follower.kept()} == {
        STABLE,
        *(track(i) for i in range(MAX_LEARNT, 2 * MAX_LEARNT)),
    }
    assert stable in scene.follower.kept()


async def test_closing_ends_all_and_keeps_what_a_walk_has_learnt(scene: Scene) -> None:

    def then_wait(inquiry: Inquiry) -> Response:
        if inquiry.version == "1.0":
            scene.server.gate.clear()
            scene.server.arrived.clear()
        return scene.server.lead(inquiry)

    scene.server.answer = then_wait
    waiting = asyncio.create_task(scene.ask())
    await until(lambda: not scene.server.gate.is_set())
    await scene.server.arrived.wait()
    await scene.follower.close()
    assert await waiting == ("1.0", "2.0")
    assert scene.follower.channel(STABLE).policy is UpstreamPolicy.OFFERS
    scene.server.took()
    await scene.ask(track("beta"))
    await scene.follower.sync()
    assert scene.server.took() == []
    assert not any(followed.active for followed in scene.follower._followed)
