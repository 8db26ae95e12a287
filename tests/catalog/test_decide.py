"""What a machine is told, as a table."""

from dataclasses import replace

import pytest

from omaha_mirror.catalog import BOARDS, WORDS, Known, Reason, Release, Rule, decide
from omaha_mirror.omaha import AppRequest
from tests.catalog.scene import APP, PIN, VERSION, release

AZURE = "oem-azure.gz"
PODMAN = "flatcar-podman.gz"
MACHINE = AppRequest(appid=APP, version="3815.2.0", track="stable", board="amd64-usr")
READY = Known(release())
ODD = replace(MACHINE, board="vax", version="?")
BRACED = "{E96281A6-D1AF-4BDE-9A0A-97B76E56DC57}"


def reason(
    machine: AppRequest = MACHINE, rule: Rule = PIN, known: Known | None = READY
) -> tuple[Reason, Release | None]:
    decision = decide(machine, rule, known, app_ids=[APP])
    return decision.reason, decision.release


@pytest.mark.parametrize("board", BOARDS)
def test_an_older_machine_is_offered_the_release(board: str) -> None:
    assert reason(replace(MACHINE, board=board)) == (Reason.OFFERED, READY.release)


def test_an_app_id_counts_however_it_is_written() -> None:
    assert reason(replace(MACHINE, appid=BRACED))[0] is Reason.OFFERED


@pytest.mark.parametrize(
    ("has", "target", "expected"),
    [
        ("3815.2.0", "3815.2.1", Reason.OFFERED),
        ("0.0.0", "3815.2.1", Reason.OFFERED),
        ("3815.2", "3815.2.0", Reason.UP_TO_DATE),
        ("3815.2.1", "3815.2.1", Reason.UP_TO_DATE),
        ("3815.2.1+nightly", "3815.2.1", Reason.UP_TO_DATE),
        ("3815.2.1", "3815.2.1+nightly", Reason.UP_TO_DATE),
        ("3815.2.2", "3815.2.1", Reason.NEWER),
        ("3816.0", "3815.2.1", Reason.NEWER),
        ("3815.2.10", "3815.2.9", Reason.NEWER),
        ("3815.2.5-dev-main+x", "3815.2.5", Reason.OFFERED),
        ("3815.2.5", "3815.2.5-dev-main+x", Reason.NEWER),
        ("4230.2.1-github-pr-12", "4230.2.1", Reason.OFFERED),
        ("", "3815.2.1", Reason.VERSION_UNREADABLE),
        ("ForcedUpdate", "3815.2.1", Reason.VERSION_UNREADABLE),
        ("3815.2.x", "3815.2.1", Reason.VERSION_UNREADABLE),
        ("3815..1", "3815.2.1", Reason.VERSION_UNREADABLE),
    ],
)
@pytest.mark.parametrize("board", BOARDS)
def test_versions_have_one_order(has: str, target: str, expected: Reason, board: str) -> None:
    machine = replace(MACHINE, version=has, board=board)
    assert reason(machine, Rule(target))[0] is expected


@pytest.mark.parametrize(
    ("has", "expected"),
    [
        ("3815.2.2", Reason.OFFERED),
        ("3815.2.0", Reason.OFFERED),
        ("3815.2.1", Reason.UP_TO_DATE),
        ("3815.2.1+build", Reason.UP_TO_DATE),
        ("what", Reason.VERSION_UNREADABLE),
    ],
)
def test_a_downgrade_is_offered_only_where_the_rule_says_so(has: str, expected: Reason) -> None:
    rule = Rule(VERSION, allow_downgrade=True)
    assert reason(replace(MACHINE, version=has), rule)[0] is expected


@pytest.mark.parametrize(
    ("machine", "rule", "expected"),
    [
        (replace(ODD, appid="another"), Rule(), Reason.UNKNOWN_APP),
        (ODD, Rule(), Reason.HELD),
        (ODD, PIN, Reason.UNKNOWN_BOARD),
        (replace(ODD, board=""), PIN, Reason.UNKNOWN_BOARD),
        (replace(MACHINE, version="?"), PIN, Reason.VERSION_UNREADABLE),
    ],
)
def test_what_no_release_can_change_comes_first(
    machine: AppRequest, rule: Rule, expected: Reason
) -> None:
    assert reason(machine, rule, None) == (expected, None)


@pytest.mark.parametrize(
    "known",
    [
        Known(reason=Reason.NOT_RELEASED, detail="404"),
        Known(reason=Reason.UNREACHABLE, detail="refused"),
        Known(reason=Reason.PAYLOAD_WRONG, detail="SHA-256 is 00"),
    ],
)
def test_why_there_is_no_release_is_told(known: Known) -> None:
    decision = decide(MACHINE, PIN, known, app_ids=[APP])
    assert (decision.reason, decision.release) == (known.reason, None)
    assert decision.words == f"{WORDS[known.reason]}: {known.detail}"


def test_what_was_never_looked_up_is_warming() -> None:
    assert reason(known=None) == (Reason.WARMING, None)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (Known(release(AZURE), looked_up=frozenset({AZURE})), Reason.OFFERED),
        (Known(release(), looked_up=frozenset({AZURE})), Reason.OFFERED),
        (Known(release(), looked_up=frozenset({"oem-ami.gz"})), Reason.WARMING),
        (Known(release(), looked_up=frozenset({AZURE}), lacking={AZURE: "503"}), Reason.INCOMPLETE),
        (
            Known(release(), looked_up=frozenset({AZURE, PODMAN}), lacking={PODMAN: "503"}),
            Reason.OFFERED,
        ),
    ],
    ids=["there", "absent", "not looked up", "cannot be had", "another's cannot be had"],
)
def test_a_machine_waits_for_its_own_oem_package_only(known: Known, expected: Reason) -> None:
    assert reason(replace(MACHINE, oem="azure"), PIN, known)[0] is expected


@pytest.mark.parametrize("oem", ["", "../azure", "Azure", "a" * 33, "azure.gz?x", "ä", "a\n"])
def test_an_oem_that_is_no_file_name_needs_no_package(oem: str) -> None:
    assert reason(replace(MACHINE, oem=oem))[0] is Reason.OFFERED


@pytest.mark.parametrize(
    ("known", "expected", "detail"),
    [
        (Known(release(PODMAN), looked_up=frozenset({PODMAN})), Reason.OFFERED, ""),
        (Known(release()), Reason.WARMING, PODMAN),
        (Known(release(), looked_up=frozenset({PODMAN})), Reason.INCOMPLETE, "no such file"),
        (
            Known(release(), looked_up=frozenset({PODMAN}), lacking={PODMAN: "status 503"}),
            Reason.INCOMPLETE,
            f"{PODMAN}: status 503",
        ),
    ],
    ids=["there", "not looked up", "absent", "cannot be had"],
)
def test_a_package_that_the_operator_names_must_be_there(
    known: Known, expected: Reason, detail: str
) -> None:
    decision = decide(MACHINE, Rule(VERSION, (PODMAN,)), known, app_ids=[APP])
    assert decision.reason is expected
    assert detail in decision.detail


def test_every_reason_has_words() -> None:
    assert set(WORDS) == set(Reason)
