"""A release server without `.sha256` files: nothing is offered before its digest is known."""

import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.support.mirror import (
    FOLDER,
    PAYLOAD,
    PAYLOAD_PATH,
    VERSION,
    Mirror,
    mirror_in_process,
    omaha,
    real_payload,
)
from tests.support.upstream import Upstream

OEM = "oem-azure.gz"
OEM_PATH = f"{FOLDER}/{OEM}"


@pytest.fixture
async def mirror(
    upstream: Upstream, payload: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Mirror]:
    """A check is answered soon; the OEM's package belongs to the release."""
    upstream.put(PAYLOAD_PATH, payload, sidecar=False)
    upstream.put(OEM_PATH, real_payload(OEM), sidecar=False)
    monkeypatch.setattr("omaha_mirror.policy.updatecheck.FIRST_ANSWER", 0.05)
    tracks = {"stable": {"version": VERSION, "packages": [OEM]}}
    async with mirror_in_process(tmp_path, upstream.origin, tracks=tracks) as mirror:
        yield mirror


async def decision(mirror: Mirror) -> tuple[str, object]:
    """What a machine is told, and the reason in the log."""
    with capture_logs() as logs:
        [app] = (await mirror.response(omaha("request_check_first"))).apps
    assert app.update_check is not None
    [reason] = [entry["reason"] for entry in logs if entry["event"] == "check"]
    return app.update_check.status, reason


async def test_it_is_offered_as_soon_as_it_was_fetched(
    mirror: Mirror, upstream: Upstream, payload: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = upstream.hold(PAYLOAD_PATH, at=len(payload) - 1)
    for _ in range(2):
        assert await decision(mirror) == ("noupdate", "warming")
    await gate.reached()
    assert await decision(mirror) == ("noupdate", "warming")
    gate.open()
    monkeypatch.setattr("omaha_mirror.policy.updatecheck.FIRST_ANSWER", 20.0)
    assert await decision(mirror) == ("ok", "offered")

    offer = (await mirror.check()).body.decode()
    for name, body in ((PAYLOAD, payload), (OEM, real_payload(OEM))):
        hexed = hashlib.sha256(body).hexdigest()
        assert f'name="{name}" hash_sha256="{hexed}" size="{len(body)}"' in offer
    based = base64.b64encode(hashlib.sha256(payload).digest()).decode()
    assert f'<action event="postinstall" sha256="{based}"' in offer


async def test_it_is_fetched_once_and_served_from_here(
    mirror: Mirror, upstream: Upstream, payload: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omaha_mirror.policy.updatecheck.FIRST_ANSWER", 20.0)
    folder = await mirror.folder()
    await upstream.refuse()
    for path in (folder + PAYLOAD, PAYLOAD_PATH):
        answer = await mirror.get(path)
        assert (answer.status, answer.body) == (200, payload)
        assert answer.headers["etag"] == f'"{hashlib.sha256(payload).hexdigest()}"'
    assert (await mirror.get(folder + OEM)).body == real_payload(OEM)
    for path in (PAYLOAD_PATH, OEM_PATH):
        assert len(upstream.requests(path, "GET")) == 1
    await upstream.listen()
