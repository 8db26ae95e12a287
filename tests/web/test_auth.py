"""Packages for those who know the password."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from omaha_mirror.config import Address
from omaha_mirror.omaha import parse_response
from omaha_mirror.web.public_settings import BasicAuth, read_auth
from omaha_mirror.web.server import Listener
from tests.support.mirror import PAYLOAD_PATH, Mirror, omaha, public_app
from tests.support.talk import ask
from tests.web.conftest import BODY
from tests.web.secure import ask_tls, basic, listening, secure_settings

AUTH = BasicAuth("fleet", "pass:wörd")
RIGHT = basic("fleet", "pass:wörd")
CHECK = omaha("request_check_first")


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.fixture
async def guarded(mirror: Mirror) -> AsyncIterator[Address]:
    """Over TLS, for who knows the password."""
    guard = secure_settings()
    guard.auth = AUTH
    async with listening(mirror, guard) as (address, _):
        yield address


@pytest.fixture
async def plain(mirror: Mirror) -> AsyncIterator[Address]:
    """Without TLS, where a password is wanted."""
    guard = secure_settings()
    guard.auth = AUTH
    listener = Listener(public_app(mirror.service, guard))
    [address] = await listener.start([Address("127.0.0.1", 0)])
    yield address
    await listener.stop()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("where", ["package", "layout", "sidecar"])
async def test_packages_are_for_who_knows_the_password(
    mirror: Mirror, guarded: Address, method: str, where: str
) -> None:
    package = await mirror.payload()
    path = {"package": package, "layout": PAYLOAD_PATH, "sidecar": f"{PAYLOAD_PATH}.sha256"}[where]
    refused = await ask_tls(guarded, method, path)
    assert refused.status == 401
    assert refused.headers["www-authenticate"] == 'Basic realm="packages", charset="UTF-8"'
    assert (await ask_tls(guarded, method, path, basic("fleet", "wrong"))).status == 401
    given = await ask_tls(guarded, method, path, RIGHT)
    assert given.status == 200
    if method == "GET" and where != "sidecar":
        assert given.body == BODY


async def test_a_check_needs_no_password(mirror: Mirror, guarded: Address, plain: Address) -> None:
    for answer in (
        await ask_tls(guarded, "POST", "/v1/update/", body=CHECK),
        await ask(plain, "POST", "/v1/update/", body=CHECK),
    ):
        [app] = parse_response(answer.body).apps
        assert app.update_check is not None
        assert app.update_check.status == "ok"


async def test_without_tls_the_right_password_gets_no_package(
    mirror: Mirror, plain: Address
) -> None:
    for path in (await mirror.payload(), PAYLOAD_PATH):
        answer = await ask(plain, "GET", path, RIGHT)
        assert answer.status == 403
        assert "https" in answer.line


@pytest.mark.parametrize(
    ("authorization", "admitted"),
    [
        (RIGHT["Authorization"], True),
        (RIGHT["Authorization"].replace("Basic", "bASIC"), True),
        ("", False),
        ("Basic", False),
        ("Basic \udcff", False),
        ("Basic ====", False),
        (f"Bearer {encoded('fleet:pass:wörd')}", False),
        (f"Basic {encoded('fleet')}", False),
        (f"Basic {encoded('fleet:')}", False),
        (f"Basic {encoded('fleet:pass')}", False),
        (f"Basic {encoded('fleet:pass:wörd ')}", False),
        (f"Basic {encoded('Fleet:pass:wörd')}", False),
        (f"Basic {encoded(':pass:wörd')}", False),
    ],
)
def test_only_the_user_and_the_password_together_are_admitted(
    authorization: str, admitted: bool
) -> None:
    assert AUTH.admits(authorization) is admitted


@pytest.mark.parametrize("content", ["secret", "secret\n", "secret\r\n", "secret\nnot this\n"])
def test_the_first_line_of_the_file_is_the_password(tmp_path: Path, content: str) -> None:
    file = tmp_path / "password"
    file.write_bytes(content.encode())
    auth = read_auth("fleet", file)
    assert auth is not None
    assert auth.admits(basic("fleet", "secret")["Authorization"])


@pytest.mark.parametrize("content", [None, b"", b"\nsecret", b"\xff\xfe", b"a\0b", b"a" * 5000])
def test_a_file_without_a_password_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(OSError, match=r"/password"):
        read_auth("fleet", file)


def test_nobody_is_asked_where_no_user_is_named() -> None:
    assert read_auth(None, None) is None
