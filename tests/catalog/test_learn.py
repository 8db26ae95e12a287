"""What is learnt from a release server, over real HTTP."""

from dataclasses import replace

import pytest

from omaha_mirror.catalog import CannotProve, LookupRequest, LookupResult, Reason, Release, learn
from omaha_mirror.omaha import Digest, Url
from omaha_mirror.upstream.release_server import ReleaseServer, RemotePackage
from tests.catalog import scene
from tests.catalog.scene import APP, AZURE, BOARD, BODY, PAYLOAD, VERSION, Site, path_of, sha256
from tests.support.upstream import Status, Upstream

WANTED = LookupRequest(APP, BOARD, VERSION, PAYLOAD)
WITH_AZURE = LookupRequest(APP, BOARD, VERSION, PAYLOAD, ("oem-azure.gz",))
SIDECAR = path_of(f"{PAYLOAD}.sha256")


@pytest.fixture(autouse=True)
def published(site: Site) -> None:
    site.publish(["oem-azure.gz"])


def found(known: LookupResult) -> Release:
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


async def test_the_manifest_has_what_clients_demand(upstream: Upstream, site: Site) -> None:
    release = found(await site.learn(WITH_AZURE))
    assert release.check.status == "ok"
    assert [url.codebase for url in release.check.urls] == [upstream.url(path_of(""))]
    manifest = release.manifest
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
    known = await site.learn(
        LookupRequest(APP, BOARD, VERSION, PAYLOAD, ("oem-ami.gz", "oem-azure.gz"))
    )
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
    again = found(await site.learn(LookupRequest(APP, BOARD, VERSION, PAYLOAD, before=before)))
    assert (again.id, site.proven) == (before.id, [PAYLOAD])
    upstream.put(path_of(PAYLOAD), BODY + b"more", sidecar=False)
    other = found(await site.learn(LookupRequest(APP, BOARD, VERSION, PAYLOAD, before=before)))
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
    known = await site.learn(LookupRequest(APP, BOARD, "../../x", PAYLOAD))
    assert known.release is None
    assert upstream.log == []


# What an Omaha server offered


FOLDER = "/offered/"
PODMAN = "flatcar-podman.gz"
OTHER = sha256(b"other")


@pytest.fixture
def offered(upstream: Upstream) -> Release:
    """A release with two extra packages whose files are there, with the payload's sidecar."""
    release = scene.release("oem-azure.gz", PODMAN)
    codebase = upstream.url(FOLDER)
    for file in release.files:
        body = BODY if file.name == PAYLOAD else AZURE
        upstream.put(FOLDER + file.name, body, sidecar=file.name == PAYLOAD)
    return replace(
        release,
        check=replace(release.check, urls=(Url(codebase=codebase),), extra=(("later", "1"),)),
        urls={file.name: codebase + file.name for file in release.files},
    )


def wanted(offered: Release, *extras: str, own: tuple[str, ...] = ()) -> LookupRequest:
    return LookupRequest(
        APP, BOARD, VERSION, PAYLOAD, (*extras, *own), upstream=offered, own=frozenset(own)
    )


async def test_a_told_release_is_what_was_told_once_its_files_are_confirmed(
    upstream: Upstream, site: Site, offered: Release
) -> None:
    known = await site.learn(wanted(offered, "oem-azure.gz"))
    assert known == LookupResult(offered, looked_up=frozenset({"oem-azure.gz"}))
    assert [(request.method, request.path) for request in upstream.log] == [
        ("HEAD", FOLDER + PAYLOAD),
        ("GET", f"{FOLDER}{PAYLOAD}.sha256"),
        ("HEAD", f"{FOLDER}oem-azure.gz"),
        ("GET", f"{FOLDER}oem-azure.gz.sha256"),
    ]


@pytest.mark.parametrize("name", ["size", "sidecar"])
async def test_a_payload_that_differs_from_its_manifest_is_not_offered(
    upstream: Upstream, site: Site, offered: Release, name: str
) -> None:
    if name == "size":
        upstream.put(FOLDER + PAYLOAD, BODY[1:])
    else:
        upstream.put(f"{FOLDER}{PAYLOAD}.sha256", OTHER.hex.encode(), sidecar=False)
    known = await site.learn(wanted(offered))
    assert (known.release, known.reason) == (None, Reason.SIDECAR_DISAGREES)
    assert upstream.url(FOLDER + PAYLOAD) in known.detail


@pytest.mark.parametrize(
    ("status", "reason"), [(404, Reason.NOT_RELEASED), (503, Reason.UNREACHABLE)]
)
async def test_a_payload_that_cannot_be_had_is_not_offered(
    upstream: Upstream, site: Site, offered: Release, status: int, reason: Reason
) -> None:
    upstream.fault(FOLDER + PAYLOAD, Status(status))
    known = await site.learn(wanted(offered))
    assert (known.release, known.reason) == (None, reason)


async def test_a_named_extra_that_is_gone_or_another_is_lacking_and_stays_in_the_manifest(
    upstream: Upstream, site: Site, offered: Release
) -> None:
    upstream.remove(f"{FOLDER}oem-azure.gz")
    upstream.put(FOLDER + PODMAN, AZURE + b"more")
    known = await site.learn(wanted(offered, "oem-azure.gz", PODMAN))
    assert known.release == offered
    assert set(known.lacking) == known.wrong == {"oem-azure.gz", PODMAN}
    assert "504 bytes" in known.lacking[PODMAN]


async def test_a_named_extra_that_cannot_be_asked_about_is_only_lacking(
    upstream: Upstream, site: Site, offered: Release
) -> None:
    upstream.fault(FOLDER + PODMAN, Status(503))
    known = await site.learn(wanted(offered, PODMAN))
    assert (set(known.lacking), known.wrong) == ({PODMAN}, frozenset())


async def test_an_extra_that_the_manifest_does_not_name_is_not_looked_for(
    upstream: Upstream, site: Site, offered: Release
) -> None:
    site.publish(["oem-ami.gz"])
    known = await site.learn(wanted(offered, "oem-ami.gz"))
    assert known == LookupResult(offered, looked_up=frozenset({"oem-ami.gz"}))
    assert not upstream.requests(path_of("oem-ami.gz"))


async def test_a_package_that_the_operator_adds_comes_from_the_release_server(
    upstream: Upstream, site: Site, offered: Release
) -> None:
    site.publish(["oem-ami.gz"])
    known = await site.learn(wanted(offered, own=("oem-ami.gz", "oem-none.gz", PODMAN)))
    release = found(known)
    assert release.files[:-1] == offered.files
    assert (release.files[-1].url, release.files[-1].sha256) == (
        upstream.url(path_of("oem-ami.gz")),
        sha256(AZURE),
    )
    assert release.check.extra == offered.check.extra
    assert (release.id != offered.id, known.lacking) == (True, {})
