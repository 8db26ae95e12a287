"""What recorded requests of update_engine say about their machine."""

from dataclasses import replace
from pathlib import Path

import pytest

from omaha_mirror.fleet import CheckIn, EventReport, State, facts_of
from omaha_mirror.omaha import AppRequest, parse_request
from tests.fleet.scene import state_of

DATA = Path(__file__).parent.parent / "data" / "omaha"


def recorded(name: str) -> AppRequest:
    [app] = parse_request((DATA / f"{name}.xml").read_bytes()).apps
    return app


def facts(name: str, reason: str = "", offered: str | None = None) -> tuple[object, ...]:
    app = recorded(name)
    return facts_of(app, time=1.0, address="192.0.2.7", reason=reason, offered=offered)


def test_events_come_before_the_check_that_brings_them() -> None:
    first, second = facts("request_check_after_reboot", "up-to-date")
    assert isinstance(first, EventReport)
    assert (first.eventtype, first.eventresult) == (3, 2)
    assert isinstance(second, CheckIn)
    assert (second.reason, second.address, second.board) == (
        "up-to-date",
        "192.0.2.7",
        "amd64-usr",
    )
    assert second.machineid == first.machineid != ""
    assert second.app_id == first.app_id == "e96281a6-d1af-4bde-9a0a-97b76e56dc57"


def test_the_event_of_every_check_is_none() -> None:
    app = recorded("request_check_after_reboot")
    [event] = app.events
    app = replace(app, events=(replace(event, previousversion=""), event))
    first, second = facts_of(app, time=1.0, address="192.0.2.7", reason="up-to-date")
    assert isinstance(first, EventReport)
    assert first.previousversion == event.previousversion != ""
    assert isinstance(second, CheckIn)


def test_an_event_alone_is_no_check_in() -> None:
    [fact] = facts("request_event_download_started")
    assert isinstance(fact, EventReport)


def test_a_ping_alone_is_a_check_in_without_reason() -> None:
    [fact] = facts("request_ping_only")
    assert isinstance(fact, CheckIn)
    assert fact.reason == ""


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("request_event_download_started", State.DOWNLOADING),
        ("request_event_download_finished", State.DOWNLOADED),
        ("request_event_update_applied", State.INSTALLED),
        ("request_event_failed", State.ERROR),
        ("request_event_deferred", State.ON_HOLD),
        ("request_ping_only", State.INSTALLED),
    ],
)
def test_recorded_requests_lead_to_their_states(name: str, state: State) -> None:
    app = recorded(name)
    assert state_of(facts_of(app, time=1.0, address="192.0.2.7")) is state


def test_a_rolled_back_machine_that_is_held_is_an_error() -> None:
    app = recorded("request_check_rolled_back")
    assert state_of(facts_of(app, time=1.0, address="", reason="held")) is State.ERROR
