"""What a machine is told, as a table."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest

from omaha_mirror.catalog import (
    BOARDS,
    Follow,
    Hold,
    LookupResult,
    Pin,
    Reason,
    Relay,
    Rule,
    Step,
)
from omaha_mirror.omaha import AppRequest, UpdateCheckRequest
from omaha_mirror.policy.decide import Decision, decide, has_prefix, refuse
from omaha_mirror.reasons import Effect
from tests.catalog.scene import APP, HOUR, PIN, VERSION, release

AZURE = "oem-azure.gz"
PODMAN = "flatcar-podman.gz"
MACHINE = AppRequest(appid=APP, version="3815.2.0", track="stable", board="amd64-usr")
ODD = replace(MACHINE, board="vax", version="?")
BRACED = "{E96281A6-D1AF-4BDE-9A0A-97B76E56DC57}"
SEEN = 1_700_000_000.0
"""2023-11-14 22:13:20 UTC."""
LATER = SEEN + 1000 * HOUR

FOLLOW = Follow()
RELAY = Relay()
SPREAD = Follow(delay=10 * HOUR, ramp=10 * HOUR)


def step(version: str = VERSION, *, floor: bool = False) -> Step:
    return Step(version, LookupResult(release(version=version)), floor, SEEN)


def steps(text: str) -> list[Step]:
    """Steps from their versions; a floor is marked with `!`."""
    return [step(word.removesuffix("!"), floor=word.endswith("!")) for word in text.split()]


def decided(
    machine: AppRequest = MACHINE,
    rule: Rule = PIN,
    path: Sequence[Step] = (step(),),
    now: float = LATER,
) -> Decision:
    return decide(machine, rule, path, now=now, app_ids=[APP])


def decided_for(known: LookupResult, machine: AppRequest = MACHINE, rule: Rule = PIN) -> Decision:
    return decided(machine, rule, [Step(VERSION, known)])


def prefixed(prefix: str) -> AppRequest:
    return replace(MACHINE, update_check=UpdateCheckRequest(targetversionprefix=prefix))


# Which version


@pytest.mark.parametrize("rule", [PIN, FOLLOW, RELAY])
@pytest.mark.parametrize("board", BOARDS)
def test_an_older_machine_is_offered_the_release(board: str, rule: Rule) -> None:
    target = step()
    decision = decided(replace(MACHINE, board=board), rule, [target])
    assert decision == Decision(Reason.OFFERED, target.known.release, version=VERSION)


def test_an_app_id_counts_however_it_is_written() -> None:
    assert decided(replace(MACHINE, appid=BRACED)).reason is Reason.OFFERED


@pytest.mark.parametrize(
    ("has", "target", "pinned", "followed"),
    [
        ("3815.2.0", "3815.2.1", "offered", "offered"),
        ("0.0.0", "3815.2.1", "offered", "offered"),
        ("3815.2", "3815.2.0", "up-to-date", "up-to-date"),
        ("3815.2.1", "3815.2.1", "up-to-date", "up-to-date"),
        ("3815.2.1+nightly", "3815.2.1", "up-to-date", "up-to-date"),
        ("3815.2.1", "3815.2.1+nightly", "up-to-date", "up-to-date"),
        ("3815.2.2", "3815.2.1", "newer-than-pin", "up-to-date"),
        ("3816.0", "3815.2.1", "newer-than-pin", "up-to-date"),
        ("3815.2.10", "3815.2.9", "newer-than-pin", "up-to-date"),
        ("3815.2.5-dev-main+x", "3815.2.5", "offered", "offered"),
        ("3815.2.5", "3815.2.5-dev-main+x", "newer-than-pin", "up-to-date"),
        ("4230.2.1-github-pr-12", "4230.2.1", "offered", "offered"),
        ("", "3815.2.1", "version-unreadable", "version-unreadable"),
        ("ForcedUpdate", "3815.2.1", "version-unreadable", "version-unreadable"),
        ("3815.2.x", "3815.2.1", "version-unreadable", "version-unreadable"),
        ("3815..1", "3815.2.1", "version-unreadable", "version-unreadable"),
    ],
)
@pytest.mark.parametrize("board", BOARDS)
def test_versions_have_one_order(
    has: str, target: str, pinned: str, followed: str, board: str
) -> None:
    machine = replace(MACHINE, version=has, board=board)
    assert decided(machine, Pin(target), [step(target)]).reason == pinned
    for rule in (FOLLOW, RELAY):
        assert decided(machine, rule, [step(target)]).reason == followed


FLOORS = "100.0 200.0! 300.0! 400.0 500.0"
DOWN = Pin("500.0", allow_downgrade=True)
SKIP = Pin("500.0", skip_floors=True)


@pytest.mark.parametrize(
    ("rule", "path", "has", "prefix", "expected"),
    [
        # Follow: floors in order, then the target; what is neither is passed by.
        (FOLLOW, FLOORS, "50.0", "", "200.0"),
        (FOLLOW, FLOORS, "200.0", "", "300.0"),
        (FOLLOW, FLOORS, "250.0", "", "300.0"),
        (FOLLOW, FLOORS, "300.0", "", "500.0"),
        (FOLLOW, FLOORS, "400.0", "", "500.0"),
        (FOLLOW, FLOORS, "500.0", "", "up-to-date"),
        (FOLLOW, FLOORS, "500.0+1", "", "up-to-date"),
        (FOLLOW, FLOORS, "501.0", "", "up-to-date"),
        (FOLLOW, "100.0! 200.0!", "100.0", "", "200.0"),
        # Steps above max_version do not exist.
        (Follow(max_version="400.0"), FLOORS, "300.0", "", "400.0"),
        (Follow(max_version="450.0"), FLOORS, "300.0", "", "400.0"),
        (Follow(max_version="450.0"), FLOORS, "50.0", "", "200.0"),
        (Follow(max_version="250.0"), FLOORS, "50.0", "", "200.0"),
        (Follow(max_version="250.0"), FLOORS, "200.0", "", "above-max-version"),
        (Follow(max_version="50.0"), FLOORS, "60.0", "", "above-max-version"),
        (Follow(max_version="50.0"), FLOORS, "600.0", "", "up-to-date"),
        (Follow(max_version="500.0"), FLOORS, "500.0", "", "up-to-date"),
        # Pin: floors below it first.
        (Pin("500.0"), "200.0! 300.0! 500.0", "50.0", "", "200.0"),
        (Pin("500.0"), "200.0! 300.0! 500.0", "200.0", "", "300.0"),
        (Pin("500.0"), "200.0! 300.0! 500.0", "300.0", "", "500.0"),
        (Pin("500.0"), "200.0! 300.0! 500.0", "500.0", "", "up-to-date"),
        (Pin("500.0"), "200.0! 300.0! 500.0", "600.0", "", "newer-than-pin"),
        (SKIP, "200.0! 300.0! 500.0", "50.0", "", "500.0"),
        (SKIP, "200.0! 300.0! 500.0", "600.0", "", "newer-than-pin"),
        (DOWN, "200.0! 300.0! 500.0", "600.0", "", "500.0"),
        (DOWN, "200.0! 300.0! 500.0", "50.0", "", "200.0"),
        (DOWN, "200.0! 300.0! 500.0", "500.0+1", "", "up-to-date"),
        # Relay: what upstream said to the machine.
        (RELAY, "500.0", "50.0", "", "500.0"),
        (RELAY, "500.0", "600.0", "", "up-to-date"),
        # The machine asks for versions with a prefix.
        (FOLLOW, FLOORS, "50.0", "400", "200.0"),
        (FOLLOW, FLOORS, "300.0", "400", "400.0"),
        (FOLLOW, FLOORS, "300.0", "400.", "400.0"),
        (FOLLOW, FLOORS, "300.0", "500.0", "500.0"),
        (FOLLOW, FLOORS, "300.0", "40", "not-the-wanted-prefix"),
        (FOLLOW, FLOORS, "400.0", "400", "not-the-wanted-prefix"),
        (FOLLOW, FLOORS, "500.0", "400", "up-to-date"),
        (FOLLOW, "4.1 4.2 5.0", "4.0", "4", "4.2"),
        (Follow(max_version="300.0"), FLOORS, "50.0", "400", "not-the-wanted-prefix"),
        (Pin("500.0"), "200.0! 500.0", "50.0", "400", "not-the-wanted-prefix"),
        (Pin("500.0"), "200.0! 500.0", "50.0", "500", "200.0"),
        (DOWN, "500.0", "600.0", "400", "not-the-wanted-prefix"),
        (DOWN, "500.0", "600.0", "500", "500.0"),
        (RELAY, "500.0", "50.0", "400", "not-the-wanted-prefix"),
    ],
)
def test_a_machine_is_led_step_by_step(
    rule: Rule, path: str, has: str, prefix: str, expected: str
) -> None:
    decision = decided(replace(prefixed(prefix), version=has), rule, steps(path))
    if decision.release is None:
        assert decision.reason == expected
        assert decision.version is None
    else:
        assert decision.reason is Reason.OFFERED
        assert decision.release.version == decision.version == expected


@pytest.mark.parametrize(
    ("version", "prefix", "expected"),
    [
        ("1.2.3.4", "1.2.3", True),
        ("1.2.34", "1.2.3", False),
        ("1.2.3", "1.2.3", True),
        ("1.2.3", "1.2.3.", True),
        ("1.2", "1.2.3", False),
        ("1.2.3", "1.2.3$", True),
        ("1.2.3.4", "1.2.3$", False),
        ("1.2.3", "", True),
        ("1.2.3", "2", False),
        ("1.2.3", ".", False),
    ],
)
def test_a_prefix_is_made_of_whole_parts(version: str, prefix: str, expected: bool) -> None:
    assert has_prefix(version, prefix) is expected


@pytest.mark.parametrize(
    ("machine", "rule", "expected"),
    [
        (replace(ODD, appid="another"), Hold(), Reason.UNKNOWN_APP),
        (ODD, Hold(), Reason.HELD),
        (ODD, PIN, Reason.UNKNOWN_BOARD),
        (replace(ODD, board=""), PIN, Reason.UNKNOWN_BOARD),
        (replace(MACHINE, version="?"), PIN, Reason.VERSION_UNREADABLE),
        (replace(MACHINE, version="?"), FOLLOW, Reason.VERSION_UNREADABLE),
        (MACHINE, FOLLOW, Reason.BUSY),
    ],
)
def test_what_no_release_can_change_comes_first(
    machine: AppRequest, rule: Rule, expected: Reason
) -> None:
    decision = decide(machine, rule, [], now=LATER, app_ids=[APP], nothing=(Reason.BUSY, "limits"))
    assert (decision.reason, decision.release, decision.poll_interval) == (expected, None, None)
    assert (decision.detail == "limits") == (expected is Reason.BUSY)


# When


@pytest.mark.parametrize(
    ("rule", "hours", "expected", "poll"),
    [
        (Follow(delay=10 * HOUR), 0, "delayed", 4 * 3600),
        (Follow(delay=10 * HOUR), 7, "delayed", 3 * 3600),
        (Follow(delay=10 * HOUR), 9.9, "delayed", 45 * 60),
        (Follow(delay=10 * HOUR), 10, "offered", None),
        (SPREAD, 0, "delayed", 4 * 3600),
        (SPREAD, 10, "not-its-turn", 4 * 3600),
        (SPREAD, 17, "not-its-turn", 3 * 3600),
        (SPREAD, 20, "offered", None),
        (Follow(ramp=10 * HOUR), 9, "not-its-turn", 3600),
        (Follow(ramp=10 * HOUR), 10, "offered", None),
        (FOLLOW, 0, "offered", None),
        (PIN, 0, "offered", None),
        (RELAY, 0, "offered", None),
    ],
)
def test_a_machine_without_an_id_waits_for_delay_and_ramp(
    rule: Rule, hours: float, expected: str, poll: int | None
) -> None:
    decision = decided(MACHINE, rule, now=SEEN + hours * HOUR)
    assert (decision.reason, decision.poll_interval) == (expected, poll)
    assert decision.version == VERSION


def test_the_time_of_the_offer_is_told() -> None:
    decision = decided(MACHINE, Follow(delay=HOUR), now=SEEN)
    assert decision.detail == f"{VERSION} from 2023-11-14 23:13:20 UTC"
    assert decided(MACHINE, Follow(delay=1e15), now=SEEN).reason is Reason.DELAYED


def test_each_step_is_delayed_by_itself() -> None:
    path = [step("100.0", floor=True), replace(step("200.0"), seen=SEEN + 5 * HOUR)]
    rule = Follow(delay=10 * HOUR)
    now = SEEN + 11 * HOUR
    assert decided(replace(MACHINE, version="50.0"), rule, path, now).version == "100.0"
    assert decided(replace(MACHINE, version="100.0"), rule, path, now).reason is Reason.DELAYED


def test_turns_spread_evenly_and_stay_as_they_are() -> None:
    machines = [replace(MACHINE, machineid=f"{i:032x}") for i in range(1000)]

    def offered(hours: float, version: str = VERSION) -> set[str]:
        now = SEEN + hours * HOUR
        return {
            machine.machineid
            for machine in machines
            if decided(machine, SPREAD, [step(version)], now).release is not None
        }

    shares = [offered(hours) for hours in (9, 12.5, 15, 17.5, 20)]
    assert [len(share) for share in shares] == pytest.approx([0, 250, 500, 750, 1000], abs=60)
    assert all(earlier <= later for earlier, later in pairwise(shares))
    assert offered(15) == shares[2] != offered(15, "4000.0.0")


# Availability


@pytest.mark.parametrize(
    ("known", "poll"),
    [
        (LookupResult(), 2700),
        (LookupResult(reason=Reason.NOT_RELEASED, detail="404"), 2700),
        (LookupResult(reason=Reason.UNREACHABLE, detail="refused"), 2700),
        (LookupResult(reason=Reason.PAYLOAD_WRONG, detail="SHA-256 is 00"), None),
        (LookupResult(reason=Reason.SIDECAR_DISAGREES, detail="5 bytes"), None),
    ],
)
def test_why_there_is_no_release_is_told(known: LookupResult, poll: int | None) -> None:
    for rule in (PIN, FOLLOW, RELAY):
        decision = decided_for(known, MACHINE, rule)
        assert decision == Decision(known.reason, None, known.detail, poll, VERSION)
    assert decision.words == known.reason.sentence(known.detail)


def test_where_nothing_was_ever_asked_is_warming() -> None:
    decision = decided(MACHINE, FOLLOW, [])
    assert decision == Decision(Reason.WARMING, poll_interval=2700)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (LookupResult(release(AZURE), looked_up=frozenset({AZURE})), Reason.OFFERED),
        (LookupResult(release(), looked_up=frozenset({AZURE})), Reason.OFFERED),
        (LookupResult(release(), looked_up=frozenset({"oem-ami.gz"})), Reason.WARMING),
        (
            LookupResult(release(), looked_up=frozenset({AZURE}), lacking={AZURE: "503"}),
            Reason.INCOMPLETE,
        ),
        (
            LookupResult(release(), looked_up=frozenset({AZURE, PODMAN}), lacking={PODMAN: "503"}),
            Reason.OFFERED,
        ),
    ],
    ids=["there", "absent", "not looked up", "cannot be had", "another's cannot be had"],
)
@pytest.mark.parametrize("rule", [PIN, FOLLOW, RELAY])
def test_a_machine_waits_for_its_own_oem_package_only(
    known: LookupResult, expected: Reason, rule: Rule
) -> None:
    decision = decided_for(known, replace(MACHINE, oem="azure"), rule)
    assert decision.reason is expected
    assert decision.poll_interval == (None if expected is Reason.OFFERED else 2700)


@pytest.mark.parametrize("oem", ["", "../azure", "Azure", "a" * 33, "azure.gz?x", "ä", "a\n"])
def test_an_oem_that_is_no_file_name_needs_no_package(oem: str) -> None:
    assert decided(replace(MACHINE, oem=oem)).reason is Reason.OFFERED


@pytest.mark.parametrize(
    ("known", "expected", "detail"),
    [
        (LookupResult(release(PODMAN), looked_up=frozenset({PODMAN})), Reason.OFFERED, ""),
        (LookupResult(release()), Reason.WARMING, PODMAN),
        (LookupResult(release(), looked_up=frozenset({PODMAN})), Reason.INCOMPLETE, "no such file"),
        (
            LookupResult(release(), looked_up=frozenset({PODMAN}), lacking={PODMAN: "status 503"}),
            Reason.INCOMPLETE,
            f"{PODMAN}: status 503",
        ),
    ],
    ids=["there", "not looked up", "absent", "cannot be had"],
)
def test_a_package_that_the_operator_names_must_be_there(
    known: LookupResult, expected: Reason, detail: str
) -> None:
    decision = decided_for(known, MACHINE, Pin(VERSION, (PODMAN,)))
    assert decision.reason is expected
    assert detail in decision.detail


def test_upstream_is_asked_but_where_no_release_would_help() -> None:
    refused = [
        refuse(replace(MACHINE, appid="{another}"), FOLLOW, [APP]),
        refuse(replace(MACHINE, board="riscv-usr"), FOLLOW, [APP]),
        refuse(replace(MACHINE, version="one"), FOLLOW, [APP]),
        *(refuse(MACHINE, Hold(reason), [APP]) for reason in (Reason.HELD, Reason.UNREADABLE)),
    ]
    reasons = {decision.reason for decision in refused if decision is not None}
    assert reasons == {reason for reason in Reason if Effect.UNASKED in reason.effect}
