"""What to ask next, and what an answer changes."""

from dataclasses import replace

from omaha_mirror.catalog import Known, Reason
from omaha_mirror.catalog.question import FRESH, MAX_NAMES, RETRY, Question, lasts, settled
from tests.catalog.scene import AZURE as AZURE_BODY
from tests.catalog.scene import BODY, package, release, with_manifest

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
    assert question.own == {AZURE}


def test_what_the_operator_wants_is_never_left_out() -> None:
    junk = {f"oem-{i}.gz" for i in range(MAX_NAMES)}
    question = Question(Known(release()), set(junk))
    question.want([AZURE], [], now=0.0)
    question.want([], [AMI], now=0.0)
    assert question.names == BOTH


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
    found = settled(old, smaller)
    assert found.release is not None
    assert found.release.id == release(AMI, AZURE).id
    assert found == replace(old, release=found.release)
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
        with_manifest(new, replace(new.manifest, packages=other)),
        looked_up=frozenset({AZURE}),
        lacking={AZURE: "503"},
    )
    assert settled(old, found) == found


def test_trouble_with_a_package_that_a_manifest_names_does_not_hide_what_was_confirmed() -> None:
    told = release(AMI, AZURE)
    old = Known(told, looked_up=frozenset({AMI}))
    found = Known(told, looked_up=BOTH, lacking={AMI: "503", AZURE: "503"})
    assert settled(old, found) == replace(found, lacking={AZURE: "503"})
    assert settled(found, found) == found
    assert lasts(found) == RETRY


def test_a_package_that_a_manifest_names_and_upstream_has_not_is_lacking_at_once() -> None:
    told = release(AMI)
    old = Known(told, looked_up=BOTH)
    found = Known(told, looked_up=BOTH, lacking={AMI: "404"}, wrong=frozenset({AMI}))
    assert settled(old, found) == found
    assert lasts(found) == FRESH


def test_another_package_of_the_same_name_is_not_confirmed_by_the_old_one() -> None:
    old = Known(release(AMI), looked_up=BOTH)
    changed = package(AMI, AZURE_BODY[1:])
    manifest = replace(release().manifest, packages=(package("update.gz"), changed))
    found = Known(with_manifest(release(AMI), manifest), looked_up=BOTH, lacking={AMI: "503"})
    assert settled(old, found) == found


def test_what_upstream_says_counts_at_once() -> None:
    old = Known(release(AMI, AZURE), looked_up=BOTH)
    for found in (GONE, Known(reason=Reason.SIDECAR_DISAGREES)):
        assert settled(old, found) is found
    smaller = Known(release(AMI), looked_up=BOTH)
    assert settled(old, smaller) == smaller
    assert settled(GONE, DOWN) is DOWN


def test_the_same_release_stays_as_old_as_it_is() -> None:
    old = Known(release(learnt=1.0))
    kept = settled(old, Known(release(learnt=2.0))).release
    assert kept is not None
    assert kept.learnt == 1.0
