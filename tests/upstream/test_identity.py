"""Who the site says it is, and what it does not tell."""

import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import pytest

from omaha_mirror.omaha import (
    AppRequest,
    Element,
    EventRequest,
    Os,
    PingRequest,
    Request,
    UpdateCheckRequest,
    parse_request,
    serialise_request,
)
from omaha_mirror.state_file import replace_file
from omaha_mirror.upstream.identity import (
    SECRET,
    anonymous,
    lasting_id,
    pseudonym,
    site_secret,
)
from tests.support.logs import Logs

T = TypeVar("T")
KEY = bytes(range(32))
MACHINE = "0123456789abcdef0123456789abcdef"


def test_the_secret_is_made_once_and_for_the_mirror_alone(tmp_path: Path) -> None:
    secret = site_secret(tmp_path)
    assert len(secret) == 32
    assert site_secret(tmp_path) == secret
    assert (tmp_path / SECRET).stat().st_mode & 0o777 == 0o600


def test_every_site_has_its_own(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assert site_secret(tmp_path) != site_secret(tmp_path / "other")


@pytest.mark.parametrize("damage", [b"", b"short", bytes(33)])
def test_a_damaged_secret_is_made_anew_and_that_is_said(
    tmp_path: Path, damage: bytes, logs: Logs
) -> None:
    (tmp_path / SECRET).write_bytes(damage)
    secret = site_secret(tmp_path)
    assert len(secret) == 32
    assert site_secret(tmp_path) == secret
    assert str(tmp_path / SECRET) in str(logs)


def test_a_secret_that_cannot_be_kept_lasts_until_the_next_start_and_that_is_said(
    tmp_path: Path, logs: Logs
) -> None:
    assert len(site_secret(tmp_path / "nowhere")) == 32
    assert "nowhere" in str(logs)
    assert "cannot be kept" in str(logs)


class PowerCutError(Exception):
    """The machine loses power here."""


@pytest.mark.parametrize(("owner", "step"), [(os, "fsync"), (Path, "replace")], ids=str)
def test_a_crash_leaves_the_old_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, step: str
) -> None:
    def crash(*_: object) -> None:
        raise PowerCutError

    path = tmp_path / "file"
    replace_file(path, b"old")
    with monkeypatch.context() as power:
        power.setattr(owner, step, crash)
        with pytest.raises(PowerCutError):
            replace_file(path, b"new and longer")
    assert path.read_bytes() == b"old"
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_machine_keeps_its_pseudonym_which_is_not_its_id() -> None:
    name = pseudonym(KEY, MACHINE)
    assert name == pseudonym(KEY, MACHINE) != MACHINE
    assert len(bytes.fromhex(name)) == 16


def test_pseudonyms_differ_from_machine_to_machine_and_from_site_to_site() -> None:
    names = {pseudonym(k, m) for k in (KEY, bytes(32)) for m in (MACHINE, MACHINE[::-1])}
    assert len(names) == 4


def test_every_track_is_asked_for_under_an_id_of_its_own() -> None:
    asked = [
        ("app", "amd64-usr", "stable"),
        ("app2", "amd64-usr", "stable"),
        ("app", "arm64-usr", "stable"),
        ("app", "amd64-usr", "beta"),
        ("ap", "pamd64-usr", "stable"),
        ("app", "amd64-usr", "stable\0"),
    ]
    ids = [lasting_id(KEY, *each) for each in asked]
    assert len({*ids, pseudonym(KEY, "app")}) == len(asked) + 1
    assert ids == [lasting_id(KEY, *each) for each in asked]
    assert all(len(bytes.fromhex(id_)) == 16 for id_ in ids)


def marked(kind: Callable[..., T], tag: str, **given: Any) -> T:
    """A message with every text field set to a mark of its own."""
    texts = {
        field.name: f"{tag}.{field.name}"
        for field in fields(kind)  # type: ignore[arg-type]
        if field.type in (str, "str", str | None, "str | None")
    }
    beyond = {
        "extra": (("x-site", f"{tag}.extra"),),
        "extra_elements": (Element("x-more", (), f"{tag}.element"),),
    }
    return kind(**{**texts, **beyond, **given})


def test_nothing_but_what_is_named_leaves_the_site() -> None:
    app = marked(
        AppRequest,
        "app",
        machineid=MACHINE,
        ping=marked(PingRequest, "ping", active=1, a=17, r=18),
        update_check=marked(UpdateCheckRequest, "check"),
        events=(marked(EventRequest, "event", eventtype=3, eventresult=0, errorcode=44),),
    )
    request = marked(
        Request, "request", protocol="3.0", os=marked(Os, "os"), apps=(AppRequest(), app)
    )
    told = anonymous(request, app, KEY)
    assert told == Request(
        apps=(
            AppRequest(
                appid="app.appid",
                version="app.version",
                track="app.track",
                board="app.board",
                oem="app.oem",
                oemversion="app.oemversion",
                machineid=pseudonym(KEY, MACHINE),
                ping=PingRequest(active=1),
                events=(
                    EventRequest(
                        eventtype=3,
                        eventresult=0,
                        errorcode=44,
                        previousversion="event.previousversion",
                    ),
                ),
            ),
        )
    )
    assert parse_request(serialise_request(told)) == told


def test_a_machine_without_an_id_stays_without() -> None:
    app = AppRequest(appid="app", events=(EventRequest(eventtype=13, eventresult=1),))
    [told] = anonymous(Request(apps=(app,)), app, KEY).apps
    assert told == app
