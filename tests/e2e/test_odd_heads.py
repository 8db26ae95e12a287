"""What a machine could download directly it gets through the mirror, however odd the heads are that upstream sends."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from omaha_mirror.omaha import NoUpdate, Offer
from tests.e2e.site import Box, body, channel, following
from tests.support.mirror import DATA, PAYLOAD, PAYLOAD_PATH, mirror_in_process, real_payload
from tests.support.nebraska import Nebraska
from tests.support.upstream import (
    Drop,
    Encoding,
    Fault,
    Hangup,
    NoLength,
    NoRange,
    RawHead,
    Redirect,
    Status,
    Upstream,
    WrongRange,
)

VERSION = "3815.2.1"
OK = b"HTTP/1.1 200 OK\r\n"
RECORDED = 3_981_289
"""Bytes that the recorded heads announce."""
UNTIL_CLOSED = b"HTTP/1.0 200 OK\r\n\r\n"


def recorded(name: str) -> bytes:
    """A head that a real upstream sent."""
    return (DATA / "heads" / f"{name}.http").read_bytes()


def head(raw: bytes) -> Fault:
    return RawHead(head=raw, method="HEAD")


def get(raw: bytes) -> Fault:
    return RawHead(head=raw, method="GET")


ODD: dict[str, list[Fault]] = {
    "head 404": [head(recorded("head-404"))],
    "head 500": [head(recorded("head-500"))],
    "head length 1234": [head(recorded("head-length-1234"))],
    "head length 0": [head(OK + b"Content-Length: 0\r\n\r\n")],
    "head closes": [Hangup(method="HEAD")],
    "head without length": [head(OK + b"\r\n")],
    "head labelled gzip": [Encoding(method="HEAD")],
    **{f"head {n}": [Status(n, method="HEAD")] for n in (400, 401, 403, 405, 410, 429, 503)},
    "get chunked only": [get(recorded("get-chunked-only"))],
    "get cookie 9kB": [get(recorded("get-cookie-9kB"))],
    "get x-gzip label": [get(recorded("get-x-gzip-label"))],
    "get gzip label": [Encoding()],
    "get empty label": [Encoding(name="")],
    "no length anywhere": [NoLength()],
    "no length and no ranges": [NoLength(), NoRange()],
    "until closed": [head(UNTIL_CLOSED), get(UNTIL_CLOSED)],
    "ranges are others, after a drop": [WrongRange(by=1), Drop(times=1, at=20_000)],
    "all of it": [Status(500, method="HEAD"), NoLength(), Encoding(), Drop(times=1, at=20_000)],
}


def release(nebraska: Nebraska, name: str, number: int) -> tuple[str, bytes]:
    """A track that leads to a release of its own; its path upstream and its bytes."""
    version = f"4000.{number}.0"
    made = body(version, RECORDED if "kB" in name or "x-gzip" in name else 40_000)
    nebraska.publish(version, {PAYLOAD: made})
    nebraska.group(f"t{number}", version)
    return f"/amd64-usr/{version}/{PAYLOAD}", made


@pytest.mark.long
async def test_a_release_of_a_manifest_is_offered_and_served(
    tmp_path: Path, upstream: Upstream
) -> None:
    nebraska = Nebraska(upstream)
    made = [release(nebraska, name, number) for number, name in enumerate(ODD)]
    for (path, _), faults in zip(made, ODD.values(), strict=True):
        for fault in faults:
            upstream.fault(path, fault)
    async with following(tmp_path, nebraska) as mirror:
        for number, name in enumerate(ODD):
            box = Box(mirror, track=f"t{number}")
            told = await box.check()
            assert isinstance(told, Offer), f"{name}: {(await channel(mirror, f't{number}')).steps}"
            assert await box.download(told) == made[number][1], name


def cdn(raw: bytes) -> str:
    """Where a recorded redirect leads."""
    [line] = [line for line in raw.decode().splitlines() if line.startswith("Location: ")]
    return line.removeprefix("Location: ")


@pytest.mark.parametrize("name", ["redirect-akamai", "redirect-sigv4"])
async def test_a_signed_redirect_is_followed_as_it_came(
    tmp_path: Path, upstream: Upstream, name: str
) -> None:
    """Sidecars, sizes and packages: a byte of the address that is another one is refused as a forgery."""
    nebraska = Nebraska(upstream)
    nebraska.publish(VERSION, {PAYLOAD: real_payload()})
    nebraska.group("stable", VERSION)
    for path in (PAYLOAD_PATH, f"{PAYLOAD_PATH}.sha256"):
        upstream.fault(path, RawHead(head=recorded(name)))
    upstream.put(cdn(recorded(name)), real_payload(), sidecar=False)
    upstream.fault(cdn(recorded(name)), Drop(times=1, at=2_000_000))
    async with following(tmp_path, nebraska) as mirror:
        box = Box(mirror)
        assert await box.download(await box.offer()) == real_payload()


async def test_a_redirect_that_is_not_allowed_is_told_with_its_host_and_key(
    tmp_path: Path, upstream: Upstream
) -> None:
    nebraska = Nebraska(upstream)
    nebraska.publish(VERSION, {PAYLOAD: real_payload()})
    nebraska.group("stable", VERSION)
    upstream.fault(PAYLOAD_PATH, Redirect("https://cdn.example/f.gz"))
    async with following(tmp_path, nebraska) as mirror:
        await Box(mirror).nothing()
        findings = (await mirror.service.examine()).findings
        [words] = [f.words for f in findings if f.name == "redirects"]
        assert "https://cdn.example " in words
        assert "upstream.allowed_hosts" in words
        assert (await mirror.service.examine()).ready


@pytest.mark.parametrize(
    "told",
    [
        [head(recorded("head-500")), get(OK + b"Content-Length: 1234\r\n\r\n")],
        [get(b"HTTP/1.1 404 Gone\r\n\r\n"), head(recorded("head-404"))],
    ],
    ids=["another total", "no file"],
)
async def test_what_a_get_says_is_a_refusal(
    tmp_path: Path, upstream: Upstream, told: list[Fault]
) -> None:
    nebraska = Nebraska(upstream)
    nebraska.publish(VERSION, {PAYLOAD: real_payload()})
    nebraska.group("stable", VERSION)
    for fault in told:
        upstream.fault(PAYLOAD_PATH, fault)
    async with following(tmp_path, nebraska) as mirror:
        assert isinstance(await Box(mirror).check(), NoUpdate)


async def test_bytes_that_are_coded_fail_the_digest(tmp_path: Path, upstream: Upstream) -> None:
    """The label says so, and it is true: what arrives is never the package."""
    nebraska = Nebraska(upstream)
    nebraska.publish(VERSION, {PAYLOAD: real_payload()})
    nebraska.group("stable", VERSION)
    coded = get(OK + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n")
    async with following(tmp_path, nebraska, cache={"hold_back": "8MiB"}) as mirror:
        await Box(mirror).offer()
        path = await mirror.payload()
        upstream.put(PAYLOAD_PATH, b"\x1f\x8b" + bytes(len(real_payload()) - 2), sidecar=False)
        upstream.fault(PAYLOAD_PATH, coded)
        assert (await mirror.get(path)).status == 502


@pytest.mark.parametrize("until_closed", [False, True], ids=["chunked", "until closed"])
async def test_a_pin_whose_size_nobody_tells_is_fetched_first(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, *, until_closed: bool
) -> None:
    monkeypatch.setattr("omaha_mirror.policy.updatecheck.FIRST_ANSWER", 0.05)
    upstream.put(PAYLOAD_PATH, real_payload())
    if until_closed:
        upstream.fault(PAYLOAD_PATH, RawHead(head=UNTIL_CLOSED))
    else:
        upstream.fault(PAYLOAD_PATH, NoLength())
        upstream.fault(PAYLOAD_PATH, NoRange())
    gate = upstream.hold(PAYLOAD_PATH, at=1_000_000)
    async with mirror_in_process(tmp_path, upstream.origin) as mirror:
        with capture_logs() as logs:
            await mirror.check()
        assert [line["reason"] for line in logs if line["event"] == "check"] == ["warming"]
        await gate.reached()
        gate.open()
        monkeypatch.setattr("omaha_mirror.policy.updatecheck.FIRST_ANSWER", 20.0)
        answer = await mirror.get(await mirror.payload())
        assert answer.body == real_payload()
