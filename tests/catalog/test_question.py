"""What to ask next, and what an answer changes."""

from dataclasses import replace

from omaha_mirror.catalog import Known, Reason
from omaha_mirror.catalog.question import FRESH, MAX_NAMES, Question, lasts, settled
from tests.catalog.scene import BODY, package, release

AMI, AZURE = "oem-ami.gz", "oem-azure.gz"
BOTH = frozenset({AMI, AZURE})
DOWN = Known(reason=Reason.UNREACHABLE)
GONE = Known(reason=Reason.NOT_RELEASED)


def test_names_of_machines_are_bounded_and_the_operators_are_not() -> None:
    question = Question(again=FRESH)
    for i in range(2 * MAX_NAMES):
        question.want([], [f"oem-{i}.gz"], now=0.0)
    assert len(question.names) == MAX_NAMES
    question.want([AZURE], [AZURE], now=0.0)
    assert question.names >= {AZURE, "oem-0.gz"}


def test_made_up_names_make_room_when_it_is_time_to_ask_again() -> None:
    junk = {f"oem-{i}.gz" for i in range(MAX_NAMES - 2)}
    known = Known(release(AMI), looked_up=frozenset(junk | BOTH), lacking={AZURE: "503"})
    question = Question(known, junk | BOTH, again=FRESH)
    question.want([], ["oem-qemu.gz"], now=FRESH - 1)
    assert "oem-qemu.gz" not in question.names
    question.want([], ["oem-qemu.gz"], now=FRESH)
    assert question.names >= BOTH | {"oem-qemu.gz"}
    assert not question.names & junk


def test_a_name_without_room_is_no_reason_to_ask() -> None:
    names = frozenset(f"oem-{i}.gz" for i in range(MAX_NAMES))
    question = Question(Known(release(), looked_up=names), set(names), names, again=FRESH)
    question.want([], [AZURE], now=0.0)
    assert not question.due(frozenset({AZURE}), now=0.0)


def test_trouble_takes_nothing_away() -> None:
    old = Known(release(AMI, AZURE, learnt=1.0), looked_up=BOTH)
    assert settled(old, DOWN) is old
    smaller = Known(release(AZURE, learnt=2.0), looked_up=BOTH, lacking={AMI: "503"})
    assert settled(old, smaller) == old
    assert lasts(smaller) < FRESH


def test_trouble_with_one_package_does_not_keep_another_out() -> None:
    old = Known(release(AZURE), looked_up=frozenset({AZURE}))
    found = Known(release(AMI), looked_up=BOTH, lacking={AZURE: "503"})
    assert settled(old, found) == Known(release(AMI, AZURE), looked_up=BOTH)


def test_a_package_of_another_payload_is_not_kept() -> None:
    old = Known(release(AZURE), looked_up=frozenset({AZURE}))
    new = release()
    other = (package("update.gz", BODY[1:]),)
    found = Known(
        replace(new, manifest=replace(new.manifest, packages=other)),
        looked_up=frozenset({AZURE}),
        lacking={AZURE: "503"},
    )
    assert settled(old, found) == found


def test_policy_counts_at_once() -> None:
    old = Known(release(AMI, AZURE), looked_up=BOTH)
    assert settled(old, GONE) is GONE
    smaller = Known(release(AMI), looked_up=BOTH)
    assert settled(old, smaller) == smaller
    assert settled(GONE, DOWN) is DOWN


def test_the_same_release_stays_as_old_as_it_is() -> None:
    old = Known(release(learnt=1.0))
    kept = settled(old, Known(release(learnt=2.0))).release
    assert kept is not None
    assert kept.learnt == 1.0
