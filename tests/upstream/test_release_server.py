"""What a release server says about a file."""

import hashlib

import pytest

from omaha_mirror.omaha.values import Digest
from omaha_mirror.upstream.errors import (
    BadAnswer,
    BadStatus,
    Changed,
    Forbidden,
    Gone,
    TooLarge,
)
from omaha_mirror.upstream.http import HttpFetcher
from omaha_mirror.upstream.release_server import ReleaseServer
from tests.support.upstream import (
    Fault,
    Hangup,
    NoLength,
    NoRange,
    RawHead,
    Redirect,
    Status,
    Upstream,
    WrongLength,
)

BODY = b"payload" * 1000
WHERE = ("amd64-usr", "4230.2.1+x-1", "oem-azure.gz")
SHA256 = Digest("sha256", hashlib.sha256(BODY).digest())
OTHER = Digest("sha256", bytes(32))
PATH = "/amd64-usr/4230.2.1+x-1/oem-azure.gz"
SIDECAR = f"{PATH}.sha256"


@pytest.fixture
def releases(upstream: Upstream, fetcher: HttpFetcher) -> ReleaseServer:
    upstream.put(PATH, BODY)
    return ReleaseServer(fetcher, upstream.origin + "/")


async def test_a_file_is_described_without_being_fetched(
    upstream: Upstream, releases: ReleaseServer
) -> None:
    package = await releases.describe(*WHERE)
    assert package.sha256 == SHA256
    assert (package.name, package.size) == ("oem-azure.gz", len(BODY))
    assert package.url == upstream.url(PATH)
    assert upstream.bytes_sent(PATH) == 0


async def test_no_sidecar_is_no_digest(upstream: Upstream, releases: ReleaseServer) -> None:
    upstream.put(PATH, BODY, sidecar=False)
    upstream.fault(SIDECAR, Status(410))
    assert (await releases.describe(*WHERE)).sha256 is None


async def test_a_sidecar_that_cannot_be_had_is_an_error(
    upstream: Upstream, releases: ReleaseServer
) -> None:
    upstream.fault(SIDECAR, Status(503))
    with pytest.raises(BadStatus):
        await releases.digest(upstream.url(PATH))


@pytest.mark.parametrize(
    "text", [b"", b"\n", b"<html>not here</html>", b"abc  oem-azure.gz", b"\xff\xfe", b"0" * 66]
)
async def test_a_sidecar_that_is_none_is_bad(
    upstream: Upstream, releases: ReleaseServer, text: bytes
) -> None:
    upstream.put(SIDECAR, text, sidecar=False)
    with pytest.raises(BadAnswer, match=r"oem-azure\.gz\.sha256"):
        await releases.digest(upstream.url(PATH))


async def test_a_sidecar_is_at_most_4_kib(upstream: Upstream, releases: ReleaseServer) -> None:
    upstream.put(SIDECAR, b"0" * 64 + b" " * 4033, sidecar=False)
    with pytest.raises(TooLarge):
        await releases.digest(upstream.url(PATH))


async def test_a_missing_file_is_gone(upstream: Upstream, releases: ReleaseServer) -> None:
    upstream.remove(PATH)
    with pytest.raises(Gone):
        await releases.describe(*WHERE)


@pytest.mark.parametrize("fault", [Status(405, method="HEAD"), NoLength(method="HEAD")])
async def test_where_head_does_not_tell_the_first_byte_does(
    upstream: Upstream, releases: ReleaseServer, fault: Status | NoLength
) -> None:
    upstream.fault(PATH, fault)
    assert await releases.size(upstream.url(PATH)) == len(BODY)
    assert upstream.requests(PATH, "GET")[0].range == "bytes=0-0"
    upstream.fault(PATH, NoRange())
    assert await releases.size(upstream.url(PATH)) == len(BODY)


async def test_a_size_that_no_answer_tells_is_none(
    upstream: Upstream, releases: ReleaseServer
) -> None:
    upstream.fault(PATH, NoLength())
    upstream.fault(PATH, NoRange())
    assert await releases.size(upstream.url(PATH)) is None
    assert upstream.bytes_sent(PATH) <= 2 * len(BODY)


@pytest.mark.parametrize("fault", [Status(416, times=2), Status(501, times=2), Hangup(times=4)])
async def test_where_the_first_byte_is_refused_the_whole_is_asked_for(
    upstream: Upstream, releases: ReleaseServer, fault: Status | Hangup
) -> None:
    upstream.fault(PATH, fault)
    assert await releases.size(upstream.url(PATH)) == len(BODY)
    assert upstream.requests(PATH)[-1].range is None


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_what_is_sent_to_another_host_for_the_first_byte_is_asked_for_plainly(
    upstream: Upstream, releases: ReleaseServer, method: str
) -> None:
    upstream.fault(PATH, Status(405, method="HEAD"))
    upstream.fault(PATH, Redirect("https://login.example/", method=method, times=1))
    assert await releases.size(upstream.url(PATH)) == len(BODY)


async def test_a_plain_get_has_the_last_word_on_a_file_and_its_size(
    upstream: Upstream, releases: ReleaseServer
) -> None:
    upstream.fault(PATH, Status(405, method="HEAD"))
    upstream.fault(PATH, Status(404, method="GET", times=1))
    assert await releases.size(upstream.url(PATH)) == len(BODY)
    one = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"
    upstream.fault(PATH, RawHead(head=one, method="GET", times=1))
    assert await releases.size(upstream.url(PATH), len(BODY)) == len(BODY)


async def test_a_file_that_is_twice_said_to_be_missing_is(
    upstream: Upstream, releases: ReleaseServer
) -> None:
    upstream.remove(PATH)
    with pytest.raises(Gone):
        await releases.size(upstream.url(PATH))
    assert len(upstream.requests(PATH)) == 2


async def test_a_server_in_trouble_is_not_asked_on_and_on(
    upstream: Upstream, releases: ReleaseServer
) -> None:
    upstream.fault(PATH, Status(503))
    with pytest.raises(BadStatus):
        await releases.size(upstream.url(PATH))
    assert [request.method for request in upstream.requests(PATH)] == ["HEAD", "GET", "GET"]


async def test_what_head_says_of_another_size_counts_for_nothing(
    upstream: Upstream, releases: ReleaseServer
) -> None:
    upstream.fault(PATH, WrongLength(method="HEAD", by=-10))
    await releases.confirm(upstream.url(PATH), len(BODY), SHA256)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../../x"])
async def test_a_name_that_is_no_file_name_is_forbidden(
    upstream: Upstream, releases: ReleaseServer, name: str
) -> None:
    with pytest.raises(Forbidden):
        await releases.describe("amd64-usr", "1.2.3", name)
    with pytest.raises(Forbidden):
        releases.url(name, "1.2.3", "x.gz")
    assert upstream.log == []


def test_a_name_cannot_add_a_query_or_fragment(releases: ReleaseServer) -> None:
    assert releases.url("b", "v", "x?y#z%2e").endswith("/b/v/x%3Fy%23z%252e")


# What a manifest says


async def test_a_manifest_is_confirmed_by_size_and_sidecar(
    upstream: Upstream, releases: ReleaseServer
) -> None:
    await releases.confirm(upstream.url(PATH), len(BODY), SHA256)
    asked = [(request.method, request.path) for request in upstream.log]
    assert asked == [("HEAD", PATH), ("GET", SIDECAR)]


@pytest.mark.parametrize(
    ("size", "sha256", "why"),
    [(len(BODY) - 1, SHA256, "bytes"), (len(BODY), OTHER, OTHER.hex)],
    ids=["size", "digest"],
)
async def test_a_file_that_differs_from_its_manifest_is_named(
    upstream: Upstream, releases: ReleaseServer, size: int, sha256: Digest, why: str
) -> None:
    with pytest.raises(Changed, match=why):
        await releases.confirm(upstream.url(PATH), size, sha256)


async def test_without_a_sha256_in_the_manifest_the_size_counts(
    upstream: Upstream, releases: ReleaseServer
) -> None:
    await releases.confirm(upstream.url(PATH), len(BODY), None)


@pytest.mark.parametrize(
    "sidecar", [Status(404), Status(403), Status(503), Hangup(), b"<html>", b"x" * 5000]
)
async def test_a_manifest_needs_no_sidecar(
    upstream: Upstream, releases: ReleaseServer, sidecar: Fault | bytes
) -> None:
    if isinstance(sidecar, bytes):
        upstream.put(SIDECAR, sidecar, sidecar=False)
    else:
        upstream.fault(SIDECAR, sidecar)
    await releases.confirm(upstream.url(PATH), len(BODY), SHA256)
    with pytest.raises(Changed):
        await releases.confirm(upstream.url(PATH), 1, SHA256)


async def test_trouble_confirms_nothing(upstream: Upstream, releases: ReleaseServer) -> None:
    upstream.fault(PATH, Status(503))
    with pytest.raises(BadStatus):
        await releases.confirm(upstream.url(PATH), len(BODY), SHA256)


async def test_a_file_of_a_manifest_that_is_not_there_is_gone(
    upstream: Upstream, releases: ReleaseServer
) -> None:
    upstream.remove(PATH)
    with pytest.raises(Gone):
        await releases.confirm(upstream.url(PATH), len(BODY), SHA256)
