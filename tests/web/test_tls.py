"""Package bytes over TLS: the same ones, in bounded memory, under a certificate that can be renewed."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from omaha_mirror.config import Address
from omaha_mirror.omaha import parse_response
from omaha_mirror.web import sending, server
from omaha_mirror.web.connection import Connection
from omaha_mirror.web.public_settings import PublicSettings
from omaha_mirror.web.server import Listener
from omaha_mirror.web.tls import Certificate
from tests.support.mirror import PAYLOAD_PATH, Mirror, omaha
from tests.support.talk import dial, request
from tests.support.upstream import Corrupt, Upstream
from tests.web.conftest import BODY
from tests.web.secure import OURS, ask_tls, dial_tls, listening, make_certificate, secure_settings

HALF = len(BODY) // 2
LARGE = 24 * 1024 * 1024
MEMORY = 64 * 1024
"""Bytes that may wait for a client that does not read, encrypted or not."""
"""More than all buffers between the mirror and a client that does not read."""
HEALTH = request("GET", "/healthz")

Secure = tuple[Address, Listener]


@pytest.fixture
async def secure(mirror: Mirror) -> AsyncIterator[Secure]:
    async with listening(mirror, secure_settings()) as both:
        yield both


async def stuck(mirror: Mirror, listener: Listener) -> None:
    """Wait until the one client there is reads no more."""
    [handler] = listener._server.connections
    while not handler.writing_paused:
        await mirror.round_trips(1)


async def test_an_offer_over_tls_leads_to_https(mirror: Mirror, secure: Secure) -> None:
    answer = await ask_tls(secure[0], "POST", "/v1/update/", body=omaha("request_check_first"))
    [app] = parse_response(answer.body).apps
    assert app.update_check is not None
    assert app.update_check.urls[0].codebase.startswith("https://mirror.test:8000/packages/")


@pytest.mark.parametrize("state", ["cold", "full"])
async def test_exactly_what_was_asked_for_is_sent(
    mirror: Mirror, secure: Secure, state: str
) -> None:
    path = await mirror.payload()
    if state == "full":
        assert (await mirror.get(path)).body == BODY
    async with dial_tls(secure[0]) as talk:
        for headers, status, body in (
            ({}, 200, BODY),
            ({"Range": f"bytes={HALF}-"}, 206, BODY[HALF:]),
            ({"Range": "bytes=0-1112"}, 206, BODY[:1113]),
        ):
            await talk.send(request("GET", path, headers))
            answer = await talk.answer()
            assert (answer.status, answer.body) == (status, body)


async def test_bytes_are_sent_as_they_arrive(
    mirror: Mirror, release: Upstream, secure: Secure
) -> None:
    gate = release.hold(PAYLOAD_PATH, at=HALF)
    path = await mirror.payload()
    async with dial_tls(secure[0]) as talk:
        await talk.send(request("GET", path))
        assert (await talk.head()).length == len(BODY)
        assert await talk.reader.readexactly(HALF) == BODY[:HALF]
        gate.open()
        assert await talk.reader.readexactly(len(BODY) - HALF) == BODY[HALF:]


async def test_a_client_that_does_not_read_costs_little_memory_and_gets_all_when_it_reads(
    mirror: Mirror, release: Upstream, secure: Secure
) -> None:
    large = bytes(range(256)) * (LARGE // 256)
    release.put(PAYLOAD_PATH, large)
    path = await mirror.payload()
    address, listener = secure
    async with dial_tls(address) as talk:
        await talk.send(request("GET", path))
        await talk.head()
        await stuck(mirror, listener)
        await mirror.round_trips()
        [handler] = listener._server.connections
        assert isinstance(handler, Connection)
        assert handler.transport is not None
        assert handler.raw is not None
        waiting = handler.transport.get_write_buffer_size()
        assert waiting <= server.SECURE_BUFFER + 2 * sending.PIECE
        assert waiting + handler.raw.get_write_buffer_size() <= MEMORY
        assert await talk.reader.readexactly(LARGE) == large


@pytest.mark.parametrize("is_stuck", [False, True])
async def test_a_client_that_leaves_takes_its_reader_with_it(
    mirror: Mirror, release: Upstream, secure: Secure, is_stuck: bool
) -> None:
    size = LARGE if is_stuck else len(BODY)
    release.put(PAYLOAD_PATH, bytes(size))
    gate = release.hold(PAYLOAD_PATH, at=size - 1)
    path = await mirror.payload()
    async with dial_tls(secure[0]) as talk:
        await talk.send(request("GET", path))
        await talk.head()
        await gate.reached()
        if is_stuck:
            await stuck(mirror, secure[1])
        [fill] = mirror.service.cache.fills()
        assert fill.readers == 1
    while mirror.service.cache.fills()[0].readers:
        await mirror.round_trips(1)
    gate.open()
    assert len((await mirror.get(path)).body) == size


async def test_a_reader_that_does_not_read_is_cut_when_its_bytes_turn_out_wrong(
    mirror: Mirror, release: Upstream, secure: Secure
) -> None:
    release.put(PAYLOAD_PATH, bytes(LARGE))
    release.fault(PAYLOAD_PATH, Corrupt(at=LARGE - 1, times=1))
    gate = release.hold(PAYLOAD_PATH, at=LARGE - 1)
    path = await mirror.payload()
    async with dial_tls(secure[0]) as talk:
        await talk.send(request("GET", path))
        await talk.head()
        await gate.reached()
        await stuck(mirror, secure[1])
        gate.open()
        await mirror.until(lambda: bool(mirror.ended()))
        while secure[1].connections:
            await mirror.round_trips(1)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await talk.reader.readexactly(LARGE)
    assert (await mirror.get(path)).body == bytes(LARGE)


async def test_connections_of_both_kinds_are_counted(mirror: Mirror, secure: Secure) -> None:
    address, listener = secure
    [plain] = await listener.start([Address("127.0.0.1", 0)])
    async with dial_tls(address) as one, dial(plain) as other:
        await one.send(HEALTH)
        assert (await one.answer()).body == b"ok\n"
        await other.send(HEALTH)
        assert (await other.answer()).body == b"ok\n"
        assert listener.connections == 2


# Handshakes


async def test_a_handshake_that_does_not_come_is_not_waited_for(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "FIRST_REQUEST", 0.1)
    async with listening(mirror, secure_settings()) as (address, _), dial(address) as talk:
        assert await talk.rest() == b""


async def test_what_is_no_tls_is_closed_and_the_next_is_served(
    mirror: Mirror, secure: Secure
) -> None:
    async with dial(secure[0]) as talk:
        await talk.send(HEALTH)
        assert b"HTTP" not in await talk.rest()
    assert (await ask_tls(secure[0], "GET", "/healthz")).body == b"ok\n"


# The certificate


@pytest.mark.parametrize("kinds", [("ec", "ec"), ("ec", "rsa"), ("rsa", "ec")])
async def test_a_renewed_certificate_is_shown_and_connections_go_on(
    mirror: Mirror, tmp_path: Path, kinds: tuple[str, str]
) -> None:
    path = tmp_path / "mine.pem"
    old = make_certificate(path, kinds[0])
    certificate = Certificate(path, None)
    async with (
        listening(mirror, PublicSettings(certificate=certificate)) as (address, _),
        dial_tls(address, path) as before,
    ):
        assert before.serial == old
        new = make_certificate(path, kinds[1])
        certificate.renew(certificate.read())
        async with dial_tls(address, path) as after:
            assert after.serial == new
            await after.send(HEALTH)
            assert (await after.answer()).body == b"ok\n"
        await before.send(HEALTH)
        assert (await before.answer()).body == b"ok\n"


@pytest.mark.parametrize("broken", ["none", "no PEM", "other key", "encrypted key"])
async def test_a_certificate_that_cannot_be_used_leaves_the_old_one(
    mirror: Mirror, tmp_path: Path, broken: str
) -> None:
    path, key, authority = tmp_path / "mine.pem", tmp_path / "key.pem", tmp_path / "authority.pem"
    old = make_certificate(path)
    key.write_bytes(path.read_bytes())
    authority.write_bytes(path.read_bytes())
    certificate = Certificate(path, key)
    async with listening(mirror, PublicSettings(certificate=certificate)) as (address, _):
        match broken:
            case "none":
                path.unlink()
            case "no PEM":
                path.write_text("no certificate")
            case "other key":
                make_certificate(key)
            case _:
                key.write_text(ENCRYPTED)
        with pytest.raises(OSError, match=r"mine\.pem|key\.pem"):
            certificate.renew(certificate.read())
        async with dial_tls(address, authority) as talk:
            assert talk.serial == old


ENCRYPTED = """\
-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-128-CBC,00000000000000000000000000000000

AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
-----END EC PRIVATE KEY-----
"""


def test_nothing_older_than_tls_1_2_is_spoken() -> None:
    assert Certificate(OURS, None).context.minimum_version == ssl.TLSVersion.TLSv1_2
