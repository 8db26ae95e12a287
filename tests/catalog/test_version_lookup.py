"""What to ask next, and what an answer changes."""

from dataclasses import replace

from omaha_mirror.catalog import LookupResult, Reason
from omaha_mirror.catalog.version_lookup import (
    FRESH,
    LONGEST_RETRY,
    MAX_NAMES,
    RETRY,
    Lookup,
    settled,
)
from tests.catalog.scene import AZURE as AZURE_BODY
from tests.catalog.scene import BODY, package, release, with_manifest

AMI, AZURE = "oem-ami.gz", "oem-azure.gz"
BOTH = frozenset({AMI, AZURE})
DOWN = LookupResult(reason=Reason.UNREACHABLE)
GONE = LookupResult(reason=Reason.NOT_RELEASED)


OLD = LookupResult(release())


def test_names_of_machines_are_bounded_and_others_are_not() -> None:
    question = Lookup(OLD, again=FRESH)
    for i in range(2 * MAX_NAMES):
        question.want([], [], [f"oem-{i}.gz"], client="10.6.6.6")
    assert len(question.pending) == MAX_NAMES
    question.want([AZURE], [AMI])
    assert question.names == BOTH
    assert question.own == {AZURE}


def test_who_sent_most_names_gives_one_up_and_waits() -> None:
    question = Lookup(OLD, again=FRESH)
    question.want([], [], [AZURE], client="10.0.0.1")
    for i in range(2 * MAX_NAMES):
        question.want([], [], [f"oem-{i}.gz"], client="10.6.6.6")
    assert question.next == AZURE


def test_of_names_of_one_client_the_newest_comes_first() -> None:
    question = Lookup(OLD, again=FRESH)
    for i in range(2 * MAX_NAMES):
        question.want([], [], [f"oem-{i}.gz"])
    question.want([], [], [AZURE])
    assert question.next == AZURE


def test_a_name_that_upstream_has_not_is_asked_about_again_after_minutes() -> None:
    question = Lookup(OLD, again=FRESH)
    question.want([], [], [AZURE])
    found = LookupResult(release(), looked_up=frozenset({AZURE}))
    question.record(question.after(found), found, [AZURE], 0.0, anew=False)
    assert not question.due(LONGEST_RETRY - 1)
    question.want([], [], [AZURE], now=LONGEST_RETRY - 1)
    assert not question.pending
    question.want([], [], [AZURE], now=LONGEST_RETRY)
    assert question.needs_turn
    question.turns += 1
    assert question.due(LONGEST_RETRY)
    assert not question.undecided(frozenset({AZURE}))


def test_names_that_upstream_has_not_are_bounded_by_who_sent_most() -> None:
    question = Lookup(OLD, again=FRESH)
    for i in range(2 * MAX_NAMES):
        name = AZURE if i == 0 else f"oem-{i}.gz"
        question.want([], [], [name], client="10.0.0.1" if i == 0 else "10.6.6.6")
        assert question.known is not None
        found = replace(question.known, looked_up=question.known.looked_up | {name})
        question.record(question.after(found), found, [name], 0.0, anew=False)
    assert question.known is not None
    assert question.absent.keys() == question.known.looked_up
    assert len(question.absent) == MAX_NAMES
    assert AZURE in question.absent


def test_an_answer_is_believed_for_an_hour_and_trouble_for_half_a_minute_and_then_longer() -> None:
    question = Lookup()
    for found, again in [
        (GONE, RETRY),
        (GONE, 2 * RETRY),
        (DOWN, 4 * RETRY),
        (OLD, FRESH),
        (replace(OLD, doubt="a page"), RETRY),
    ]:
        question.record(question.after(found), found, [], 0.0, anew=True)
        assert question.again == again


def test_trouble_takes_nothing_away() -> None:
    old = LookupResult(release(AMI, AZURE, learnt=1.0), looked_up=BOTH)
    assert settled(old, DOWN) is old
    smaller = LookupResult(release(AZURE, learnt=2.0), looked_up=BOTH, lacking={AMI: "503"})
    found = settled(old, smaller)
    assert found.release is not None
    assert found.release.id == release(AMI, AZURE).id
    assert found == replace(old, release=found.release)


def test_trouble_with_one_package_does_not_keep_another_out() -> None:
    old = LookupResult(release(AZURE), looked_up=frozenset({AZURE}))
    found = LookupResult(release(AMI), looked_up=BOTH, lacking={AZURE: "503"})
    assert settled(old, found) == LookupResult(release(AMI, AZURE), looked_up=BOTH)


def test_a_package_of_another_payload_is_not_kept() -> None:
    old = LookupResult(release(AZURE), looked_up=frozenset({AZURE}))
    new = release()
    other = (package("update.gz", BODY[1:]),)
    found = LookupResult(
        with_manifest(new, replace(new.manifest, packages=other)),
        looked_up=frozenset({AZURE}),
        lacking={AZURE: "503"},
    )
    assert settled(old, found) == found


def test_trouble_with_a_package_that_a_manifest_names_does_not_hide_what_was_confirmed() -> None:
    sent = release(AMI, AZURE)
    old = LookupResult(sent, looked_up=frozenset({AMI}))
    found = LookupResult(sent, looked_up=BOTH, lacking={AMI: "503", AZURE: "503"})
    assert settled(old, found) == replace(found, lacking={AZURE: "503"})
    assert settled(found, found) == found


def test_a_package_that_a_manifest_names_and_upstream_has_not_is_lacking_at_once() -> None:
    sent = release(AMI)
    old = LookupResult(sent, looked_up=BOTH)
    found = LookupResult(sent, looked_up=BOTH, lacking={AMI: "404"}, wrong=frozenset({AMI}))
    assert settled(old, found) == found


def test_another_package_of_the_same_name_is_not_confirmed_by_the_old_one() -> None:
    old = LookupResult(release(AMI), looked_up=BOTH)
    changed = package(AMI, AZURE_BODY[1:])
    manifest = replace(release().manifest, packages=(package("update.gz"), changed))
    found = LookupResult(
        with_manifest(release(AMI), manifest), looked_up=BOTH, lacking={AMI: "503"}
    )
    assert settled(old, found) == found


def test_what_upstream_says_counts_at_once() -> None:
    old = LookupResult(release(AMI, AZURE), looked_up=BOTH)
    for found in (GONE, LookupResult(reason=Reason.SIDECAR_DISAGREES)):
        assert settled(old, found) is found
    smaller = LookupResult(release(AMI), looked_up=BOTH)
    assert settled(old, smaller) == smaller
    assert settled(GONE, DOWN) is DOWN


def test_the_same_release_stays_as_old_as_it_is() -> None:
    old = LookupResult(release(learnt=1.0))
    kept = settled(old, LookupResult(release(learnt=2.0))).release
    assert kept is not None
    assert kept.learnt == 1.0
