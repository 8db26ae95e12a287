"""What is learnt from a release server, over real HTTP."""

import pytest

from omaha_mirror.catalog import CannotProve, Known, Reason, Release, Wanted, learn
from omaha_mirror.omaha import Digest
from omaha_mirror.upstream.releases import ReleaseServer, RemotePackage
from tests.catalog.scene import APP, AZURE, BOARD, BODY, PAYLOAD, VERSION, Site, path_of, sha256
from tests.support.upstream import Status, Upstream

WANTED = Wanted(APP, BOARD, VERSION, PAYLOAD)
WITH_AZURE = Wanted(APP, BOARD, VERSION, PAYLOAD, ("oem-azure.gz",))
SIDECAR = path_of(f"{PAYLOAD}.sha256")


@pytest.fixture(autouse=True)
def published(site: Site) -> None:
    site.publish(["oem-azure.gz"])


def found(known: Known) -> Release:
    assert known.release is not None, known
    return known.release


async def test_with_sidecars_nothing_but_heads_and_sidecars_is_fetched(
    upstream: Upstream, site: Site
) -> None:
    release = found(await site.learn(WITH_AZURE))
    assert sorted((request.method, request.path) for request in upstream.log) == [
        ("GET", path_of("oem-azure.gz.sha256")),
        ("GET", SIDECAR),
        ("HEAD", path_of("oem-azure.gz")),
        ("HEAD", path_of(PAYLOAD)),
    ]
    payload, azure = release.files
    assert (payload.name, payload.size, payload.sha256) == (PAYLOAD, len(BODY), sha256(BODY))
    assert (azure.name, azure.size, azure.sha256) == ("oem-azure.gz", len(AZURE), sha256(AZURE))
    assert payload.url == upstream.url(path_of(PAYLOAD))


async def test_the_manifest_has_what_clients_demand(site: Site) -> None:
    manifest = found(await site.learn(WITH_AZURE)).manifest
    [action] = manifest.actions
    assert (action.event, action.sha256) == ("postinstall", sha256(BODY))
    assert action.disable_payload_backoff
    assert [package.required for package in manifest.packages] == [True, False]
    assert manifest.version == VERSION


async def test_a_missing_payload_is_not_released(upstream: Upstream, site: Site) -> None:
    upstream.remove(path_of(PAYLOAD))
    known = await site.learn(WITH_AZURE)
    assert (known.release, known.reason) == (None, Reason.NOT_RELEASED)
    assert upstream.url(path_of(PAYLOAD)) in known.detail


async def test_a_refused_connection_is_an_outage(upstream: Upstream, site: Site) -> None:
    await site.line_down()
    known = await site.learn(WANTED)
    assert (known.release, known.reason) == (None, Reason.UNREACHABLE)
    assert upstream.origin in known.detail


@pytest.mark.parametrize("path", [path_of(PAYLOAD), SIDECAR])
async def test_a_server_in_trouble_is_an_outage(upstream: Upstream, site: Site, path: str) -> None:
    upstream.fault(path, Status(503))
    assert (await site.learn(WANTED)).reason is Reason.UNREACHABLE


async def test_a_sidecar_that_is_none_is_trouble_and_nothing_is_fetched_instead(
    upstream: Upstream, site: Site
) -> None:
    upstream.put(SIDECAR, b"<html>not here</html>", sidecar=False)
    known = await site.learn(WANTED)
    assert (known.release, known.reason) == (None, Reason.UNREACHABLE)
    assert SIDECAR in known.detail
    assert site.proven == []


async def test_an_extra_that_upstream_has_not_is_none_of_the_release(
    upstream: Upstream, site: Site
) -> None:
    upstream.remove(path_of("oem-azure.gz"))
    known = await site.learn(WITH_AZURE)
    assert [file.name for file in found(known).files] == [PAYLOAD]
    assert (known.looked_up, known.lacking) == (frozenset({"oem-azure.gz"}), {})


@pytest.mark.parametrize("name", ["oem-azure.gz", "oem-azure.gz.sha256"])
async def test_an_extra_that_cannot_be_asked_about_is_lacking(
    upstream: Upstream, site: Site, name: str
) -> None:
    upstream.fault(path_of(name), Status(503))
    known = await site.learn(WITH_AZURE)
    assert [file.name for file in found(known).files] == [PAYLOAD]
    assert known.looked_up == {"oem-azure.gz"}
    assert "503" in known.lacking["oem-azure.gz"]


async def test_trouble_with_one_extra_does_not_hide_the_next(
    upstream: Upstream, site: Site
) -> None:
    upstream.fault(path_of("oem-ami.gz"), Status(503))
    known = await site.learn(Wanted(APP, BOARD, VERSION, PAYLOAD, ("oem-ami.gz", "oem-azure.gz")))
    assert [file.name for file in found(known).files] == [PAYLOAD, "oem-azure.gz"]
    assert set(known.lacking) == {"oem-ami.gz"}


async def test_without_a_sidecar_the_digest_is_the_proven_one(
    upstream: Upstream, site: Site
) -> None:
    upstream.remove(path_of(PAYLOAD))
    upstream.put(path_of(PAYLOAD), BODY, sidecar=False)
    release = found(await site.learn(WITH_AZURE))
    assert site.proven == [PAYLOAD]
    assert release.payload.sha256 == sha256(BODY)
    assert release.manifest.actions[0].sha256 == sha256(BODY)


async def test_what_was_proven_before_is_not_fetched_again(upstream: Upstream, site: Site) -> None:
    upstream.remove(path_of(PAYLOAD))
    upstream.put(path_of(PAYLOAD), BODY, sidecar=False)
    before = found(await site.learn(WANTED))
    again = found(await site.learn(Wanted(APP, BOARD, VERSION, PAYLOAD, before=before)))
    assert (again.id, site.proven) == (before.id, [PAYLOAD])
    upstream.put(path_of(PAYLOAD), BODY + b"more", sidecar=False)
    other = found(await site.learn(Wanted(APP, BOARD, VERSION, PAYLOAD, before=before)))
    assert other.payload.sha256 == sha256(BODY + b"more")


@pytest.mark.parametrize("name", [PAYLOAD, "oem-azure.gz"])
async def test_what_cannot_be_proven_is_trouble(upstream: Upstream, site: Site, name: str) -> None:
    async def refuse(package: RemotePackage) -> Digest:
        raise CannotProve(f"{package.name} keeps changing")

    upstream.remove(path_of(f"{name}.sha256"))
    known = await learn(WITH_AZURE, ReleaseServer(site.fetcher, upstream.origin), refuse, now=0.0)
    words = f"{name} keeps changing"
    if name == PAYLOAD:
        assert (known.reason, known.detail) == (Reason.UNREACHABLE, words)
    else:
        assert known.lacking == {name: words}


async def test_a_version_that_is_no_path_segment_is_asked_of_nobody(
    upstream: Upstream, site: Site
) -> None:
    known = await site.learn(Wanted(APP, BOARD, "../../x", PAYLOAD))
    assert known.release is None
    assert upstream.log == []
