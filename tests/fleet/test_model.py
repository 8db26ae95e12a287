"""What machines send is short and inert before anything is kept."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from omaha_mirror.fleet import CheckIn, EventReport
from omaha_mirror.fleet.model import MAX_NUMBER, MAX_TEXT, machine_key, tidy, weight
from tests.fleet.scene import APP, ASK, GOT, event

ANY = st.text(st.characters(), max_size=400)


@given(ANY, ANY, ANY)
def test_every_text_is_short_and_printable(alias: str, machineid: str, detail: str) -> None:
    item = tidy(replace(ASK, alias=alias, machineid=machineid, detail=detail))
    assert isinstance(item, CheckIn)
    for text in (item.alias, item.machineid, item.detail):
        assert len(text) <= MAX_TEXT
        assert text.isprintable()
    item.alias.encode()


def test_what_is_fine_stays_as_it_is() -> None:
    for item in (ASK, event(3, 0, 44, "3815.2.0"), GOT):
        assert tidy(item) is item


def test_control_characters_become_a_visible_mark() -> None:
    item = tidy(replace(ASK, alias="a\0b\x1b[31m\nc\u202e", address="\ud800"))
    assert isinstance(item, CheckIn)
    assert (item.alias, item.address) == ("a\ufffdb\ufffd[31m\ufffdc\ufffd", "\ufffd")


def test_numbers_beyond_any_column_are_taken_for_not_sent() -> None:
    item = tidy(event(10**30, -(10**30), MAX_NUMBER))
    assert isinstance(item, EventReport)
    assert (item.eventtype, item.eventresult, item.errorcode) == (None, None, MAX_NUMBER)


def test_a_machine_without_id_goes_by_its_address() -> None:
    item = tidy(replace(ASK, machineid="", address="192.0.2.9"))
    assert isinstance(item, CheckIn)
    assert item.machineid == "192.0.2.9"


def test_a_key_tells_machine_and_application_apart() -> None:
    assert machine_key("m", APP) == machine_key("m", APP)
    assert len({machine_key("m", "a"), machine_key("ma", ""), machine_key("", "ma")}) == 3
    assert -(2**63) <= machine_key("m", APP) < 2**63


def test_weight_grows_with_what_is_held() -> None:
    longer = replace(ASK, detail="x" * 200)
    assert weight(longer) - weight(ASK) >= 200
