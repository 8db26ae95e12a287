"""What machines send is read whole, and what nobody should send is refused cheaply."""

import gzip
import resource
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omaha_mirror.omaha import (
    AppRequest,
    Element,
    EventRequest,
    Limits,
    MalformedXML,
    OmahaError,
    Os,
    PingRequest,
    Request,
    TooLarge,
    UnexpectedXML,
    UnsupportedEncoding,
    UnsupportedProtocol,
    UpdateCheckRequest,
    parse_request,
    serialise_request,
)
from tests.omaha import data

PING = PingRequest(active=1)
CHECK = UpdateCheckRequest()

BODIES = {
    "check_first": (PING, CHECK, (3, 2, None, "0.0.0.0")),
    "check_after_reboot": (PING, CHECK, (3, 2, None, "3815.2.0")),
    "check_later": (PING, CHECK, (3, 2, None, "")),
    "check_rolled_back": (PING, CHECK, (3, 0, 44, None)),
    "event_download_started": (None, None, (13, 1, None, None)),
    "event_download_finished": (None, None, (14, 1, None, None)),
    "event_update_applied": (None, None, (3, 1, None, None)),
    "event_failed": (None, None, (3, 0, 268435490, None)),
    "event_deferred": (None, None, (3, 9, 268435496, None)),
    "ping_only": (PING, None, None),
}


@pytest.mark.parametrize("name", BODIES)
def test_every_body_of_update_engine_is_read_whole(name: str) -> None:
    request = parse_request(data.read(f"request_{name}"))
    ping, check, event = BODIES[name]
    version = "3815.2.1" if name == "check_after_reboot" else "3815.2.0"
    events: tuple[EventRequest, ...] = ()
    if event is not None:
        eventtype, eventresult, errorcode, previousversion = event
        events = (
            EventRequest(
                eventtype=eventtype,
                eventresult=eventresult,
                errorcode=errorcode,
                previousversion=previousversion,
            ),
        )
    assert request == Request(
        protocol="3.0",
        version="update_engine-0.4.10",
        updaterversion="update_engine-0.4.10",
        installsource="scheduler",
        ismachine=1,
        os=Os(version="Chateau", platform="CoreOS", sp=f"{version}_x86_64"),
        apps=(
            AppRequest(
                appid="{e96281a6-d1af-4bde-9a0a-97b76e56dc57}",
                version=version,
                track="stable",
                bootid="{6a2f0b7c-3c1e-4f4e-9b60-0f5d3c0d9a11}",
                oem="azure",
                oemversion="1.2.3",
                alephversion="3815.2.0",
                machineid="0123456789abcdef0123456789abcdef",
                lang="en-US",
                board="amd64-usr",
                delta_okay=False,
                ping=ping,
                update_check=check,
                events=events,
                extra=(("machinealias", ""), ("hardware_class", "")),
            ),
        ),
    )
    assert request.apps[0].app_id == "e96281a6-d1af-4bde-9a0a-97b76e56dc57"


def canonical(body: bytes) -> str:
    return ElementTree.canonicalize(body, strip_text=True)


@pytest.mark.parametrize("name", data.names("request_*"))
def test_a_request_read_and_written_says_what_it_said(name: str) -> None:
    body = data.read(name)
    assert canonical(serialise_request(parse_request(body))) == canonical(body)


def test_apps_keep_their_order_and_unknown_names_and_codes() -> None:
    request = parse_request(data.read("request_two_apps"))
    first, second = request.apps
    assert request.extra == (("cohortname", "later"),)
    assert (first.appid, second.appid, second.app_id) == ("first", "SECOND", "second")
    assert first.extra == (("later", "yes"),)
    assert first.extra_elements == (
        Element("later", (("kind", "x"),), "some & text", (Element("inner"),)),
    )
    assert first.update_check == UpdateCheckRequest(targetversionprefix="1.")
    assert second.events[1] == EventRequest(eventtype=800, eventresult=77)


def test_a_mirror_that_asks_for_all_steps_is_recognised() -> None:
    app = parse_request(data.read("request_nebraska_syncer")).apps[0]
    assert app.multi_manifest_ok is True
    assert app.board == ""


@pytest.mark.parametrize("number", ["", "x", "007", "+1", " 1", "0x10", "9" * 30])
def test_a_number_that_is_none_is_kept_as_it_came(number: str) -> None:
    body = f'<request protocol="3.0"><app><event errorcode="{number}"/></app></request>'.encode()
    event = parse_request(body).apps[0].events[0]
    assert event == EventRequest(extra=(("errorcode", number),))
    assert canonical(serialise_request(parse_request(body))) == canonical(body)


def test_a_second_ping_is_kept_beside_the_first() -> None:
    body = b'<request protocol="3.0"><app><ping active="1"/><ping active="0"/></app></request>'
    app = parse_request(body).apps[0]
    assert app.ping == PingRequest(active=1)
    assert app.extra_elements == (Element("ping", (("active", "0"),)),)


def test_a_field_that_is_set_wins_over_what_was_sent() -> None:
    app = AppRequest(machinealias="rack 7", extra=(("machinealias", ""), ("later", "")))
    body = serialise_request(Request(apps=(app,)))
    assert body.count(b"machinealias") == 1
    assert parse_request(body).apps[0] == AppRequest(machinealias="rack 7", extra=(("later", ""),))


def test_a_utf_8_bom_is_accepted() -> None:
    assert parse_request(b'\xef\xbb\xbf<?xml version="1.0"?><request protocol="3.1"/>') == Request(
        protocol="3.1"
    )


BROKEN = {
    "empty": MalformedXML,
    "truncated": MalformedXML,
    "unescaped": MalformedXML,
    "duplicate_attribute": MalformedXML,
    "html": UnexpectedXML,
    "entity_bomb": UnexpectedXML,
    "external_entity": UnexpectedXML,
    "undefined_entity": MalformedXML,
    "latin1": UnsupportedEncoding,
    "utf16": UnsupportedEncoding,
    "utf16_hidden_doctype": UnsupportedEncoding,
    "not_utf8": MalformedXML,
    "nul": MalformedXML,
    "protocol_2": UnsupportedProtocol,
    "no_protocol": UnsupportedProtocol,
    "response": UnexpectedXML,
}


def test_every_broken_body_has_an_expectation() -> None:
    assert {f"broken_{name}" for name in BROKEN} == set(data.names("broken_*"))


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_body_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(OmahaError) as refusal:
        parse_request(data.read(f"broken_{name}"))
    assert type(refusal.value) is BROKEN[name]
    assert refusal.value.http_status in (400, 413, 415)
    assert refusal.value.message
    assert "\n" not in refusal.value.message


def test_a_compressed_body_is_refused() -> None:
    with pytest.raises(UnsupportedEncoding, match="plain XML"):
        parse_request(gzip.compress(data.read("request_ping_only")))


LIMITS = Limits(body=400, depth=3, elements=6, attributes=3, value=20, apps=2)


@pytest.mark.parametrize(
    ("inside", "beyond"),
    [
        ("<app/>" * 2, "<app/>" * 3),
        ("<app><ping/></app>", "<app><ping><x/></ping></app>"),
        ("<x/>" * 5, "<x/>" * 6),
        ('<app a="" b="" c=""/>', '<app a="" b="" c="" d=""/>'),
        (f'<app a="{"é" * 20}"/>', f'<app a="{"é" * 21}"/>'),
        ("<!--" + "x" * 300 + "-->", "<!--" + "x" * 400 + "-->"),
    ],
    ids=["apps", "depth", "elements", "attributes", "value", "body"],
)
def test_each_limit_is_met_and_not_passed(inside: str, beyond: str) -> None:
    def request(content: str) -> bytes:
        return f'<request protocol="3.0">{content}</request>'.encode()

    assert parse_request(request(inside), LIMITS).protocol == "3.0"
    with pytest.raises(TooLarge):
        parse_request(request(beyond), LIMITS)


def test_a_large_body_is_refused_before_it_is_read() -> None:
    body = b'<request protocol="3.0">' + b"<a>" * 350_000
    started = time.process_time()
    for _ in range(1000):
        with pytest.raises(TooLarge, match="65536 are accepted"):
            parse_request(body)
    assert time.process_time() - started < 0.5


@given(st.binary(max_size=300))
def test_any_bytes_give_a_request_or_an_error(body: bytes) -> None:
    _value_or_error(body)


@given(st.data())
def test_any_damage_to_a_request_gives_a_request_or_an_error(draw: st.DataObject) -> None:
    body = bytearray(data.read(draw.draw(st.sampled_from(data.names("request_*")))))
    for _ in range(draw.draw(st.integers(1, 4))):
        at = draw.draw(st.integers(0, len(body)))
        cut = draw.draw(st.integers(0, 3))
        body[at : at + cut] = draw.draw(
            st.sampled_from(
                [b"", b"<", b">", b'"', b"&", b"&#x0;", b"\0", b"\xff", b"<!DOCTYPE x>"]
            )
            | st.binary(max_size=3)
        )
    _value_or_error(bytes(body))


def _value_or_error(body: bytes) -> None:
    try:
        request = parse_request(body)
    except OmahaError:
        return
    assert parse_request(serialise_request(request)) == request


def resident() -> int:
    """MiB of memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() >> 20


def test_memory_stays_flat_over_unique_attribute_names() -> None:
    def post(numbers: range) -> None:
        for number in numbers:
            names = " ".join(f'n{number}x{i}=""' for i in range(6))
            parse_request(f'<request protocol="3.0"><app {names}/></request>'.encode())

    post(range(5_000))
    before = resident()
    post(range(5_000, 105_000))
    assert resident() - before < 8
