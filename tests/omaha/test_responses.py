"""What servers answer is read whole, written for all clients, and localised in two places."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omaha_mirror.omaha import (
    Action,
    AppResponse,
    BadDigest,
    BadValue,
    Digest,
    Element,
    MalformedXML,
    Manifest,
    OmahaError,
    Package,
    Response,
    TooLarge,
    UnexpectedXML,
    UnsupportedEncoding,
    UpdateCheck,
    Url,
    localise,
    parse_response,
    parse_stored_response,
    serialise_response,
)
from omaha_mirror.omaha import protocol as messages
from omaha_mirror.omaha.shapes import REQUEST, RESPONSE, Shape
from tests.omaha import data

UPSTREAM = data.CODEBASE
BASE = "http://mirror:8000/packages/3815.2.1-0123abcd/"


def contents(body: bytes) -> Counter[object]:
    """Every element of a document with its path, whatever the order of different siblings."""

    def walk(element: ElementTree.Element, path: str) -> Iterator[object]:
        path = f"{path}/{element.tag}"
        yield path, tuple(sorted(element.items())), (element.text or "").strip()
        for child in element:
            yield from walk(child, path)

    return Counter(walk(ElementTree.fromstring(body), ""))


@pytest.mark.parametrize("name", data.names("response_*"))
def test_an_answer_read_and_written_says_what_it_said(name: str) -> None:
    body = data.read(name)
    written = serialise_response(parse_response(body))
    assert contents(written) == contents(body)
    assert parse_response(written) == parse_response(body)


@pytest.mark.parametrize(
    "name",
    ["response_offer", "response_noupdate", "response_unknown_application", "response_event"],
)
def test_an_answer_is_written_to_the_byte_as_all_clients_take_it(name: str) -> None:
    body = data.read(name)
    assert serialise_response(parse_response(body)) == body
    assert body.endswith(b"</response>")


def test_digests_have_the_text_forms_of_the_field() -> None:
    response = parse_response(data.read("response_offer"))
    check = response.apps[0].update_check
    assert check is not None
    assert check.manifest is not None
    oem = check.manifest.packages[1]
    assert oem.hash == Digest("sha1", hashlib.sha1(b"oem").digest())
    assert oem.hash_sha256 == Digest("sha256", hashlib.sha256(b"oem").digest())
    assert check.manifest.actions[0].sha256 == Digest("sha256", hashlib.sha256(b"payload").digest())
    assert f'hash_sha256="{hashlib.sha256(b"oem").hexdigest()}"'.encode() in serialise_response(
        response
    )


def test_unknown_attributes_and_elements_are_kept_at_every_level() -> None:
    response = parse_response(data.read("response_upstream"))
    app = response.apps[0]
    check = app.update_check
    assert check is not None
    manifest = check.manifest
    assert manifest is not None
    assert response.extra == (("later", "1"),)
    assert app.extra == (("cohort", "1:9:"),)
    assert app.extra_elements == (Element("data", (("index", "verification"),), "seven < eight"),)
    assert check.extra_elements == (Element("urls", (("later", "2"),)),)
    assert [url.extra for url in check.urls] == [(("weight", "9"),), ()]
    assert manifest.extra == (("later", "3"),)
    assert manifest.extra_elements == (
        Element("packages", (), "", (Element("later"),)),
        Element("later", (), "five", (Element("inner", (("six", "6"),)),)),
    )
    assert manifest.packages[0].extra == (("fp", "1.f00"),)
    assert manifest.actions[1].extra == (("deadline", ""), ("later", "4"))


def test_all_manifests_of_an_answer_are_read() -> None:
    check = parse_response(data.read("response_multi_manifest")).apps[0].update_check
    assert check is not None
    floor, target = check.manifests
    assert check.manifest is floor
    assert (floor.version, floor.is_floor, floor.floor_reason) == ("3510.2.0", True, "kernel")
    assert (target.version, target.is_target) == ("3815.2.1", True)


@pytest.mark.parametrize("wrong", ["", "x", "4c4b5d9c", "A" * 43 + "="])
def test_a_digest_that_is_none_is_kept_as_it_came(wrong: str) -> None:
    body = (
        '<response protocol="3.0"><app><updatecheck><manifest><packages>'
        f'<package hash="{wrong}" hash_sha256="{wrong}"/></packages></manifest></updatecheck>'
        "</app></response>"
    ).encode()
    check = parse_response(body).apps[0].update_check
    assert check is not None
    assert check.manifests[0].packages == (
        Package(extra=(("hash", wrong), ("hash_sha256", wrong))),
    )
    assert contents(serialise_response(parse_response(body))) == contents(body)


@settings(max_examples=60)
@given(data.responses)
def test_any_answer_survives_writing_and_reading(response: Response) -> None:
    body = serialise_response(response)
    again = parse_response(body)
    assert serialise_response(again) == body
    assert again == response or _blank(response) == _blank(again)
    assert parse_stored_response(body) == again


@pytest.mark.parametrize(
    "damage", [b"", b"<response", b"\xff\xfe<", b"<response protocol='3.0'>&x;</response>"]
)
def test_a_stored_answer_that_was_damaged_is_refused(damage: bytes) -> None:
    with pytest.raises(OmahaError):
        parse_stored_response(damage)


def _blank(message: object) -> object:
    """A message without the blanks that stand between unknown elements, which are not kept."""
    if isinstance(message, Element):
        text = "" if message.children else message.text
        return Element(message.name, message.attributes, text, tuple(map(_blank, message.children)))  # type: ignore[arg-type]
    if isinstance(message, tuple):
        return tuple(map(_blank, message))
    if is_dataclass(message) and not isinstance(message, type):
        return replace(
            message,
            **{field.name: _blank(getattr(message, field.name)) for field in fields(message)},
        )
    return message


@settings(max_examples=60)
@given(data.responses, st.booleans())
def test_localise_changes_codebases_and_the_backoff_and_nothing_else(
    generated: Response, fallback: bool
) -> None:
    response = parse_response(serialise_response(generated))
    local = localise(response, lambda _app, _manifest: BASE, fallback=fallback)
    assert _blank(parse_response(serialise_response(local))) == _blank(local)
    for app, changed in zip(response.apps, local.apps, strict=True):
        check, checked = app.update_check, changed.update_check
        if check is None or checked is None or not check.manifests:
            assert changed == app
            continue
        kept = check.urls[0] if check.urls else Url()
        second = (kept,) if fallback and kept.codebase == UPSTREAM else ()
        assert checked.urls == (replace(kept, codebase=BASE), *second)
        for manifest, now in zip(check.manifests, checked.manifests, strict=True):
            for action, acted in zip(manifest.actions, now.actions, strict=True):
                post = action.event == "postinstall"
                assert acted == (replace(action, disable_payload_backoff=True) if post else action)
            assert replace(now, actions=manifest.actions) == manifest
        assert replace(checked, urls=check.urls, manifests=check.manifests) == check
        assert replace(changed, update_check=check) == app
    assert replace(local, apps=response.apps) == response


def test_localise_asks_for_each_apps_own_codebase() -> None:
    check = UpdateCheck(status="ok", manifests=(Manifest(version="2"),))
    response = Response(apps=tuple(AppResponse(appid=i, update_check=check) for i in "ab"))
    local = localise(response, lambda app, manifest: f"http://m/{app.appid}/{manifest.version}/")
    checks = [app.update_check for app in local.apps]
    assert [check.urls[0].codebase for check in checks if check] == [
        "http://m/a/2/",
        "http://m/b/2/",
    ]


def test_localise_replaces_what_upstream_sent_unreadably() -> None:
    body = data.read("response_upstream").replace(
        b'DisablePayloadBackoff="false"', b'DisablePayloadBackoff="no"'
    )
    local = localise(parse_response(body), lambda _app, _manifest: BASE)
    written = serialise_response(local)
    assert written.count(b"DisablePayloadBackoff") == 1
    assert b'DisablePayloadBackoff="true"' in written
    assert parse_response(written) == local


@pytest.mark.parametrize(
    "codebase",
    [
        "",
        "/packages/",
        "http://m/packages",
        "http://m/p/?x=1",
        "http://m/#/",
        "ftp://m/",
        "http:///p/",
        "http://[m/",
    ],
)
def test_a_codebase_that_clients_would_read_differently_is_refused(codebase: str) -> None:
    response = parse_response(data.read("response_offer"))
    with pytest.raises(BadValue, match="codebase"):
        localise(response, lambda _app, _manifest: codebase)


@pytest.mark.parametrize(
    ("codebase", "kept"),
    [
        ("https://upstream/a/", True),
        ("http://upstream/", True),
        ("https://upstream/a", False),
        ("https://upstream/?a/", False),
        ("file:///a/", False),
        ("/a/", False),
        ("", False),
    ],
)
def test_a_fallback_is_upstreams_first_url_behind_ours(codebase: str, kept: bool) -> None:
    first = Url(codebase=codebase, extra=(("later", "1"),))
    urls = (first, Url(codebase="https://second/"))
    check = UpdateCheck(status="ok", urls=urls, manifests=(Manifest(version="2"),))
    response = Response(apps=(AppResponse(update_check=check),))
    local = localise(response, lambda _app, _manifest: BASE, fallback=True).apps[0].update_check
    assert local is not None
    assert local.urls == (replace(first, codebase=BASE), *((first,) if kept else ()))


@pytest.mark.parametrize("value", ["\0", "\x1b", "\ud800", "\uffff"])
def test_what_xml_cannot_carry_is_refused_on_writing(value: str) -> None:
    for response in (
        Response(server=value),
        Response(extra=(("later", value),)),
        Response(extra=((f"a{value}", ""),)),
        Response(extra_elements=(Element("later", (), value),)),
    ):
        with pytest.raises(BadValue):
            serialise_response(response)


@pytest.mark.parametrize("name", ["", "a b", 'a"', "a=", "<a", "1a", "-a", "a/"])
def test_a_name_that_would_break_the_markup_is_refused_on_writing(name: str) -> None:
    with pytest.raises(BadValue):
        serialise_response(Response(extra=((name, ""),)))
    with pytest.raises(BadValue):
        serialise_response(Response(extra_elements=(Element(name),)))


def test_a_digest_of_the_other_algorithm_is_refused_on_writing() -> None:
    manifest = Manifest(packages=(Package(hash=Digest("sha256", bytes(32))),))
    with pytest.raises(BadDigest):
        serialise_response(
            Response(apps=(AppResponse(update_check=UpdateCheck(manifests=(manifest,))),))
        )


def test_an_external_dtd_is_never_read(tmp_path: Path) -> None:
    dtd = tmp_path / "x.dtd"
    dtd.write_text('<!ENTITY x "read">')
    body = f'<?xml version="1.0"?><!DOCTYPE response SYSTEM "{dtd}"><response protocol="3.0" server="&x;"/>'
    with pytest.raises(UnexpectedXML, match="DOCTYPE"):
        parse_response(body.encode())


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", MalformedXML),
        (b"<html>", MalformedXML),
        (b"<html/>", UnexpectedXML),
        (b'<response xmlns="urn:x" protocol="3.0"/>', UnexpectedXML),
        (b'<response xmlns:x="urn:x" protocol="3.0" x:a=""/>', UnexpectedXML),
        (b'<response protocol="3.0" server="&x;"/>', MalformedXML),
        ('<response protocol="3.0"/>'.encode("utf-16"), UnsupportedEncoding),
        (b'<response protocol="3.0">' + b"<a/>" * 10_000 + b"</response>", TooLarge),
        (b'<response protocol="3.0">' + b"<a>" * 5000, TooLarge),
        (b" " * (1 << 20) + b'<response protocol="3.0"/>', TooLarge),
        (b'<response protocol="3.0" server="\0"/>', MalformedXML),
    ],
    ids=range(11),
)
def test_what_is_no_answer_is_refused_in_one_line(body: bytes, error: type[OmahaError]) -> None:
    with pytest.raises(error) as refusal:
        parse_response(body)
    assert refusal.value.message.splitlines() == [refusal.value.message]


@pytest.mark.parametrize(
    ("inner", "what"),
    [
        ("<a" + "".join(f" b{i}=''" for i in range(65)) + "/>", "more than 64 attributes on <a>"),
        ("".join(f"<a{i}/>" for i in range(1000)), "more than 1000 different names"),
        (
            "".join(f'<a b{i}="" c{i}=""/>' for i in range(500)),
            "more than 1000 different names",
        ),
        ("<a>" * 16 + "</a>" * 16, "nested deeper than 16"),
        (f'<a b="{"x" * (64 * 1024 + 1)}"/>', "is over 65536 characters"),
        ("<app/>" * 33, "33 apps, and 32 are accepted"),
    ],
    ids=range(6),
)
def test_an_answer_beyond_a_limit_is_refused_as_soon_as_it_is_seen(inner: str, what: str) -> None:
    with pytest.raises(TooLarge, match=what):
        parse_response(f'<response protocol="3.0">{inner}</response>'.encode())
    # What follows is not looked at any more: it would be no XML.
    if "apps" not in what:
        with pytest.raises(TooLarge, match=what):
            parse_response(f'<response protocol="3.0">{inner}<<<'.encode())


def test_all_that_upstream_ever_sent_is_far_within_the_limits() -> None:
    packages = "".join(f'<package name="p{i}.gz" size="5"/>' for i in range(128))
    manifest = f'<manifest version="1.0.0"><packages>{packages}</packages></manifest>'
    check = f'<updatecheck status="ok">{manifest * 32}</updatecheck>'
    body = f'<response protocol="3.0"><app appid="x">{check}</app></response>'.encode()
    [app] = parse_response(body).apps
    assert app.update_check is not None
    assert len(app.update_check.manifests) == 32


def test_every_field_of_every_message_has_its_place_in_the_xml() -> None:
    described: dict[object, set[str]] = {}

    def walk(shape: Shape[object]) -> None:
        described[shape.type] = {
            *(attribute.field for attribute in shape.attributes.values()),
            *(child.field for child in shape.children.values()),
            "extra",
            "extra_elements",
        }
        for child in shape.children.values():
            walk(child.shape)

    walk(REQUEST)  # type: ignore[arg-type]
    walk(RESPONSE)  # type: ignore[arg-type]
    declared = {
        type_: {field.name for field in fields(type_)}
        for type_ in vars(messages).values()
        if isinstance(type_, type) and is_dataclass(type_) and type_.__module__ == messages.__name__
    }
    assert described == declared
    assert Action in declared


def test_what_else_was_in_a_wrapper_comes_back_whatever_stood_before_it() -> None:
    body = (
        b'<response protocol="3.0"><app appid="a" status="ok"><updatecheck status="ok">'
        b'<data index="1"/><urls later="2"/><urls><x/></urls>'
        b'<manifest version="1"><y/><actions z="3"/><packages z="4"/></manifest>'
        b"</updatecheck></app></response>"
    )
    message = parse_response(body)
    assert parse_response(serialise_response(message)) == message
