"""A machine's conversation: what it sends, when, and what it takes."""

import pytest

from omaha_mirror.omaha import (
    FLATCAR_APP_ID,
    AppRequest,
    BadResponse,
    BadValue,
    Client,
    ErrorCode,
    ErrorFlag,
    EventRequest,
    Machine,
    NoUpdate,
    Offer,
    Request,
    check_for_sysexts,
    parse_request,
    parse_response,
    read_answer,
    serialise_request,
)
from tests.omaha import data

MINUTE = 60


def client() -> Client:
    machine = Machine(
        version="3815.2.0",
        machineid="0123456789abcdef0123456789abcdef",
        bootid="{6a2f0b7c-3c1e-4f4e-9b60-0f5d3c0d9a11}",
        oem="azure",
        oemversion="1.2.3",
        alephversion="3815.2.0",
    )
    return Client(machine)


def app_of(request: Request) -> AppRequest:
    (app,) = parse_request(serialise_request(request)).apps
    return app


def events(request: Request) -> list[tuple[int | None, int | None, int | None, str | None]]:
    return [
        (event.eventtype, event.eventresult, event.errorcode, event.previousversion)
        for event in app_of(request).events
    ]


def without_empty(request: Request) -> Request:
    """A recorded request without the empty attributes, which this client leaves out."""
    (app,) = request.apps
    return Request(
        **{name: getattr(request, name) for name in ("version", "updaterversion", "installsource")},
        ismachine=request.ismachine,
        os=request.os,
        apps=(
            AppRequest(
                **{
                    name: getattr(app, name)
                    for name in AppRequest.__dataclass_fields__
                    if name != "extra"
                }
            ),
        ),
    )


def test_a_whole_update_is_sent_as_update_engine_sends_it() -> None:
    machine = client()
    sent = {
        "request_check_first": machine.check(),
        "request_check_later": machine.check(),
    }
    sent["request_event_download_started"] = machine.download_started()
    sent["request_event_download_finished"] = machine.download_finished()
    sent["request_event_update_applied"] = machine.update_applied()
    sent["request_ping_only"] = machine.ping()
    machine.rebooted("3815.2.1", machine.machine.bootid)
    sent["request_check_after_reboot"] = machine.check()
    for name, request in sent.items():
        assert request == without_empty(parse_request(data.read(name))), name


def test_a_held_machine_sends_only_pings_and_a_finished_one_tells_of_it_once() -> None:
    machine = client()
    machine.check()
    machine.update_applied()
    assert machine.held
    app = app_of(machine.ping())
    assert (app.ping is None, app.update_check, app.events) == (False, None, ())
    machine.rebooted("3815.2.1")
    app = app_of(machine.check())
    assert app.ping is not None
    assert app.update_check is not None
    assert app.version == "3815.2.1"
    assert app.events == (EventRequest(eventtype=3, eventresult=2, previousversion="3815.2.0"),)
    assert events(machine.check()) == [(3, 2, None, "")]


def test_a_machine_that_comes_back_on_the_old_version_says_so_once() -> None:
    machine = client()
    machine.update_applied()
    machine.rebooted("3815.2.0")
    assert events(machine.check()) == [(3, 0, 44, None)]
    assert events(machine.check()) == [(3, 2, None, "")]


def test_a_plain_reboot_is_no_news() -> None:
    machine = client()
    machine.check()
    machine.rebooted("3815.2.0", "another")
    assert events(machine.check()) == [(3, 2, None, "")]
    assert app_of(machine.check()).bootid == "another"


def test_errors_carry_the_flag_of_every_mirrors_machine() -> None:
    machine = client()
    assert events(machine.failed(34)) == [(3, 0, 268435490, None)]
    assert events(machine.failed(9, ErrorFlag.RESUMED | ErrorFlag.TEST_OMAHA_URL)) == [
        (3, 0, (1 << 30) + (1 << 28) + 9, None)
    ]


def test_a_board_decides_the_architecture() -> None:
    machine = Client(Machine(version="1.0", machineid="x", board="arm64-usr"))
    os = machine.check().os
    assert os is not None
    assert os.sp == "1.0_aarch64"


def test_an_offer_is_read() -> None:
    offer = client().receive(200, data.read("response_offer"))
    assert isinstance(offer, Offer)
    assert offer.version == "3815.2.1"
    assert offer.urls == (
        "http://mirror:8080/cache/amd64-usr/3815.2.1/flatcar_production_update.gz",
    )
    assert offer.size == 7
    assert f'sha256="{offer.sha256.base64}"'.encode() in data.read("response_offer")
    assert [offer.url_of(package) for package in offer.packages] == [
        *offer.urls,
        "http://mirror:8080/cache/amd64-usr/3815.2.1/oem-azure.gz",
    ]


def test_every_url_of_an_upstream_offer_is_read() -> None:
    offer = client().receive(200, data.read("response_upstream"))
    assert isinstance(offer, Offer)
    assert offer.urls == (
        "https://update.release.flatcar-linux.net/amd64-usr/3815.2.1/flatcar_production_update.gz",
        "https://second.example/amd64-usr/3815.2.1/flatcar_production_update.gz",
    )
    assert offer.action.max_failure_count_per_url == 3
    assert offer.poll_interval == 5400


def test_update_engine_puts_a_slash_where_ue_rs_replaces_the_last_part() -> None:
    body = data.read("response_offer").replace(b'3815.2.1/"', b'3815.2.1"')
    offer = read_answer(parse_response(body))
    assert isinstance(offer, Offer)
    assert offer.urls[0].endswith("/3815.2.1/flatcar_production_update.gz")
    assert offer.url_of(offer.packages[1]) == "http://mirror:8080/cache/amd64-usr/oem-azure.gz"
    with pytest.raises(BadResponse, match="does not end in /"):
        check_for_sysexts(parse_response(body))


def test_a_codebase_that_is_no_url_is_said_to_be_none() -> None:
    body = data.read("response_offer").replace(b"http://mirror:8080/", b"http://[mirror/")
    offer = read_answer(parse_response(body))
    assert isinstance(offer, Offer)
    with pytest.raises(BadValue, match="not a URL"):
        offer.url_of(offer.packages[1])


def test_no_update_is_read_with_its_interval() -> None:
    assert client().receive(200, data.read("response_noupdate")) == NoUpdate(3600)


def test_an_app_status_does_not_matter_to_a_machine() -> None:
    body = data.read("response_offer").replace(b'status="ok"><ping', b'status="error-x"><ping')
    assert isinstance(read_answer(parse_response(body)), Offer)


@pytest.mark.parametrize(
    ("status", "body", "errorcode"),
    [
        (0, b"", 2000),
        (404, b"<html/>", 2404),
        (503, b"", 2503),
        (200, b"", 30),
        (200, b"<html>", 31),
        (200, b"<html/>", 34),
        (200, b'<response xmlns="urn:x" protocol="3.0"/>', 34),
        (200, b'<response protocol="3.0"/>', 34),
    ],
)
def test_what_is_no_answer_has_update_engines_code(
    status: int, body: bytes, errorcode: int
) -> None:
    with pytest.raises(BadResponse) as refusal:
        client().receive(status, body)
    assert refusal.value.errorcode == errorcode


@pytest.mark.parametrize(
    ("old", "new", "errorcode"),
    [
        (b'<updatecheck status="ok">', b"<updatecheck>", 34),
        (b'<updatecheck status="ok">', b'<updatecheck status="error-internal">', 34),
        (b"<manifest version", b"<later version", None),
        (b'<url codebase="http://mirror:8080/cache/amd64-usr/3815.2.1/"></url>', b"", 34),
        (b'codebase="http://mirror:8080/cache/amd64-usr/3815.2.1/"', b'codebase=""', 34),
        (b'name="flatcar_production_update.gz"', b'name=""', 34),
        (b'size="7"', b'size="0"', 34),
        (b'size="7"', b'size="seven"', 34),
        (b'event="postinstall"', b'event="install"', 34),
        (b'sha256="I59', b'later="I59', 34),
    ],
)
def test_what_update_engine_refuses_is_refused(
    old: bytes, new: bytes, errorcode: int | None
) -> None:
    body = data.read("response_offer")
    assert old in body
    body = body.replace(old, new)
    if errorcode is None:
        body, errorcode = body.replace(b"</manifest>", b"</later>"), 34
    with pytest.raises(BadResponse) as refusal:
        read_answer(parse_response(body))
    assert refusal.value.errorcode == errorcode


def test_a_hex_digest_costs_update_engine_a_whole_download() -> None:
    offer = read_answer(parse_response(data.read("response_offer")))
    assert isinstance(offer, Offer)
    body = data.read("response_offer").replace(
        offer.sha256.base64.encode(), offer.sha256.hex.encode()
    )
    with pytest.raises(BadResponse, match="base64") as refusal:
        read_answer(parse_response(body))
    assert refusal.value.errorcode == ErrorCode.PAYLOAD_HASH_MISMATCH_ERROR


OEM_HASHES = data.read("response_offer").split(b'name="oem-azure.gz" ')[1].split(b" size=")[0]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'appid="e96281a6-d1af-4bde-9a0a-97b76e56dc57"', b'appid="flatcar"'),
        (b'dc57" status="ok"', b'dc57"'),
        (b'<manifest version="3815.2.1"', b"<manifest"),
        (b' required="false"', b""),
        (b'required="false"', b'required="maybe"'),
        (b'size="3"', b'size="-3"'),
        (b'name="oem-azure.gz"', b'name="http://elsewhere/oem-azure.gz"'),
        (b'name="oem-azure.gz"', b'name="../oem-azure.gz"'),
        (b'name="oem-azure.gz"', b'name="oem-azure.gz?x"'),
        (OEM_HASHES, b""),
        (OEM_HASHES, b'hash=""'),
        (b'hash_sha256="', b'hash_sha256="0'),
        (b"<action event", b'<action event="install"></action><action event'),
        (b"<action event", b'<action event="later"></action><action event'),
        (b'DisablePayloadBackoff="true"', b'DisablePayloadBackoff="perhaps"'),
        (
            b"</app>",
            b'</app><app appid="{%s}" status="ok"><updatecheck status="noupdate"/></app>'
            % FLATCAR_APP_ID.encode(),
        ),
    ],
)
def test_what_ue_rs_refuses_is_refused(old: bytes, new: bytes) -> None:
    body = data.read("response_offer")
    assert old in body
    body = body.replace(old, new)
    assert isinstance(read_answer(parse_response(body)), Offer)
    with pytest.raises(BadResponse):
        client().receive(200, body)


@pytest.mark.parametrize("word", [b"yes", b"0", b"off", b"t"])
def test_ue_rs_knows_more_words_for_true_and_false(word: bytes) -> None:
    body = data.read("response_offer").replace(b'required="false"', b'required="%s"' % word)
    assert isinstance(client().receive(200, body), Offer)
