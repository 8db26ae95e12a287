"""States from the sequences that update_engine really sends."""

from dataclasses import replace

import pytest

from omaha_mirror.fleet import CheckIn, EventReport, State
from omaha_mirror.reasons import Effect, Reason
from tests.fleet.scene import ASK, HELD, OFFERED, PING, event, state_of

FLAG = 1 << 28
EVERY_CHECK = event(3, 2, previousversion="")
FIRST_CHECK = event(3, 2, previousversion="0.0.0.0")
REBOOTED = event(3, 2, previousversion="3815.2.0")
STARTED, FINISHED, APPLIED = event(13, 1), event(14, 1), event(3, 1)
FAILED = event(3, 0, 9 | FLAG)
ROLLED_BACK = event(3, 0, 44)
DEFERRED = event(3, 9, 40 | FLAG)
WARMING = replace(ASK, reason="warming")
UPDATE: list[CheckIn | EventReport] = [EVERY_CHECK, OFFERED, STARTED, FINISHED, APPLIED, PING]

CASES: dict[str, tuple[list[CheckIn | EventReport], State]] = {
    "never heard of": ([], State.UNDEFINED),
    "the first check of all, nothing known yet": ([FIRST_CHECK, WARMING], State.UNDEFINED),
    "the first check of all, offered": ([FIRST_CHECK, OFFERED], State.GRANTED),
    "the event of every check is no update": ([EVERY_CHECK, WARMING], State.UNDEFINED),
    "up to date": ([EVERY_CHECK, ASK], State.COMPLETE),
    "up to date, then upstream is away": ([ASK, EVERY_CHECK, WARMING], State.COMPLETE),
    "offered": (UPDATE[:2], State.GRANTED),
    "13/1": (UPDATE[:3], State.DOWNLOADING),
    "14/1": (UPDATE[:4], State.DOWNLOADED),
    "3/1": (UPDATE[:5], State.INSTALLED),
    "pings until the reboot": ([*UPDATE, PING, PING], State.INSTALLED),
    "a ping alone is the first that is heard": ([PING], State.INSTALLED),
    "rebooted, event alone": ([*UPDATE, REBOOTED], State.COMPLETE),
    "rebooted and up to date": ([*UPDATE, REBOOTED, ASK], State.COMPLETE),
    "rebooted at a step, offered the next": ([*UPDATE, REBOOTED, OFFERED], State.GRANTED),
    "complete stays so at the next check": (
        [*UPDATE, REBOOTED, WARMING, EVERY_CHECK],
        State.COMPLETE,
    ),
    "3/2 of a client that never names a version": ([event(3, 2)], State.COMPLETE),
    "held by the CoreUpdate client": ([OFFERED, event(800, 1)], State.INSTALLED),
    "download failed": ([OFFERED, STARTED, FAILED], State.ERROR),
    "failed, and the next check cannot tell": ([OFFERED, FAILED, WARMING], State.ERROR),
    "failed, then the track is held": ([OFFERED, FAILED, EVERY_CHECK, HELD], State.ERROR),
    "failed, then offered again": ([OFFERED, FAILED, EVERY_CHECK, OFFERED], State.GRANTED),
    "failed, then the release is taken back": ([OFFERED, FAILED, ASK], State.COMPLETE),
    "rolled back": ([*UPDATE, ROLLED_BACK], State.ERROR),
    "rolled back, then the track is held": ([*UPDATE, ROLLED_BACK, HELD], State.ERROR),
    "waits after failures": ([OFFERED, FAILED, EVERY_CHECK, OFFERED, DEFERRED], State.ON_HOLD),
    "held": ([EVERY_CHECK, HELD], State.ON_HOLD),
    "held after its update": ([*UPDATE, REBOOTED, HELD], State.ON_HOLD),
    "stopped midway without a word": ([OFFERED, STARTED, EVERY_CHECK, WARMING], State.UNDEFINED),
    "an event from another world": ([ASK, event(77, 77)], State.COMPLETE),
}


@pytest.mark.parametrize(("facts", "state"), CASES.values(), ids=CASES)
def test_a_real_sequence_leads_to(facts: list[CheckIn | EventReport], state: State) -> None:
    assert state_of(facts) is state


def test_no_reason_both_settles_and_holds() -> None:
    both = Effect.COMPLETE | Effect.ON_HOLD
    assert [reason for reason in Reason if both in reason.effect] == []
