"""The mutations still fit the code: each edit's text is there, and goes again."""

import inspect

import pytest

from omaha_mirror import state_file
from tests.sim.books import Invariant
from tests.sim.mutations import MUTATIONS, Edit, Moved, Mutation, _function, applied


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_each_applies_and_goes(mutation: Mutation) -> None:
    before = [_function(edit.where).__code__ for edit in mutation.edits]
    with applied(mutation):
        for edit, code in zip(mutation.edits, before, strict=True):
            assert _function(edit.where).__code__ != code
    assert [_function(edit.where).__code__ for edit in mutation.edits] == before


def test_each_invariant_is_broken_by_one_at_least() -> None:
    assert {mutation.breaks for mutation in MUTATIONS} == set(Invariant)
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS) >= 15


@pytest.mark.parametrize(
    ("where", "old"), [("state_file:sync", "not there"), ("state_file:gone", "")]
)
def test_one_that_does_not_fit_says_so(where: str, old: str) -> None:
    with (
        pytest.raises(Moved, match=where),
        applied(Mutation("name", Invariant.WHOLE, (Edit(where, old, "x"),))),
    ):
        pass


def test_what_is_edited_works_under_its_old_name() -> None:
    edit = Edit("state_file:_reason", "return line if line", 'return "other" + line if line')
    with applied(Mutation("name", Invariant.WHOLE, (edit,))):
        assert state_file._reason(ValueError("x")) == "otherx"
    assert state_file._reason(ValueError("x")) == "x"
    assert inspect.getsource(state_file._reason)
