"""Why a machine did not update, in sentences that say what to do."""

from dataclasses import replace

import pytest

from omaha_mirror.fleet import DecisionRun, Event, EventReport, Machine, State, cause_of, explain
from omaha_mirror.fleet.explain import CAUSES
from omaha_mirror.omaha import ErrorCode
from omaha_mirror.reasons import Reason
from tests.fleet.scene import APP, DAY, HOUR, NOW, event

FLAG = 1 << 28
MACHINE = Machine(
    id=1,
    machineid="0123",
    app_id=APP,
    address="192.0.2.7",
    alias="web-1",
    board="amd64-usr",
    track="stable",
    version="3815.2.0",
    state=State.ON_HOLD,
    last_seen=NOW - 300,
)
TOLD = DecisionRun(
    first=NOW - DAY,
    last=NOW - 300,
    count=30,
    version="3815.2.0",
    track="stable",
    reason="held",
    offered=None,
    detail="the track is held",
)


def kept(report: EventReport, time: float = NOW - HOUR) -> Event:
    return Event(
        time=time,
        eventtype=report.eventtype,
        eventresult=report.eventresult,
        errorcode=report.errorcode,
        previousversion=report.previousversion,
        version=report.version,
    )


def test_a_held_machine() -> None:
    seen = "2026-09-21 14:08 UTC (5 minutes ago)"
    runs = "runs 3815.2.0 for amd64-usr, on track stable"
    since = "2026-09-20 14:13 UTC (1 day ago)"
    assert explain(MACHINE, [TOLD], [], NOW) == [
        f"Machine 0123 (web-1) at 192.0.2.7 {runs}, last seen {seen}.",
        "It is kept back.",
        f"It asked for an update as 3815.2.0 on track stable {seen}, 30 times since {since}.",
        "The answer was `noupdate`: the track is held.",
        "Release the track: set it to follow or to a version.",
    ]


def test_a_machine_that_was_offered_a_release_and_failed() -> None:
    offered = replace(TOLD, reason="offered", offered="3815.2.1", count=1)
    failing = replace(MACHINE, state=State.ERROR)
    said = explain(failing, [offered], [kept(event(3, 0, 10 | FLAG)), kept(event(13, 1))], NOW)
    assert said[1] == "Its last attempt failed."
    assert said[3:5] == ["It was offered 3815.2.1.", Reason.OFFERED.advice]
    assert said[5] == (
        "It reported 2026-09-21 13:13 UTC (1 hour ago), as 3815.2.0: update failed:"
        " the payload has another SHA-256 than announced (error 10)."
    )
    assert said[6].startswith("Likely cause: The bytes were altered")
    assert "omaha-mirror cache verify" in said[7]


def test_an_offer_before_the_present_answer_is_told() -> None:
    offered = replace(TOLD, reason="offered", offered="3815.2.1", last=NOW - 2 * HOUR)
    said = explain(MACHINE, [TOLD, TOLD, offered, replace(offered, offered="1.0")], [], NOW)
    assert said[-1] == (
        "Before that, until 2026-09-21 12:13 UTC (2 hours ago), it was offered 3815.2.1."
    )


def test_a_failure_before_a_good_update_is_history() -> None:
    events = [
        kept(event(3, 2, previousversion="0.0.0.0")),
        kept(event(3, 2, previousversion="3815.2.0")),
        kept(event(3, 0, 44)),
    ]
    assert explain(MACHINE, [TOLD], events, NOW) == explain(MACHINE, [TOLD], [], NOW)
    assert "rolled back" in explain(MACHINE, [TOLD], events[2:], NOW)[5]


def test_a_silent_machine_is_said_to_be_missing() -> None:
    said = explain(replace(MACHINE, last_seen=NOW - DAY), [TOLD], [], NOW)
    assert "it is off, cut off, or uses another server" in said[2]


@pytest.mark.parametrize(
    ("state", "words"),
    [(State.INSTALLED, "until its reboot it only pings"), (State.DOWNLOADING, "has not asked")],
)
def test_a_machine_that_has_not_asked_yet(state: State, words: str) -> None:
    said = explain(replace(MACHINE, state=state, alias="", board="", track=""), [], [], NOW)
    assert words in said[2]
    assert said[0].startswith("Machine 0123 at 192.0.2.7 runs 3815.2.0, last seen")


def test_an_error_of_the_machine_itself_points_to_its_journal() -> None:
    said = explain(MACHINE, [TOLD], [kept(event(3, 0, 7 | FLAG))], NOW)
    assert said[-1] == "Error 7 comes from the machine itself: see `journalctl -u update-engine`."


@pytest.mark.parametrize("state", State)
def test_every_state_has_a_sentence(state: State) -> None:
    assert explain(replace(MACHINE, state=state), [], [], NOW)[1].endswith(".")


def test_every_reason_has_advice() -> None:
    assert all(reason.words and reason.advice.endswith(".") for reason in Reason)


SERVER_CAUSED = (5, 9, 10, 11, 17, 18, 20, 21, 23, 28, 29, 30, 31, 34, 40, 44)


@pytest.mark.parametrize(
    "code", [*SERVER_CAUSED, 2000, 2301, 2400, 2404, 2500, 2503, 2599, *CAUSES]
)
def test_an_error_that_a_server_causes_has_a_cause_and_a_remedy(code: int) -> None:
    cause = cause_of(code | FLAG)
    assert cause is not None
    assert cause == cause_of(code)
    assert cause.likely.endswith(".")
    assert cause.remedy.endswith(".")


def test_http_errors_of_ours_and_of_theirs_differ() -> None:
    assert cause_of(2404) != cause_of(2503) != cause_of(2000)


@pytest.mark.parametrize("code", [0, 7, 12345, -1, 10**30, ErrorCode.DOWNLOAD_INCOMPLETE])
def test_other_errors_have_none(code: int) -> None:
    assert cause_of(code) is None
