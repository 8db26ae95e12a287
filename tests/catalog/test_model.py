"""What names a release."""

import re
from dataclasses import replace

import pytest

from omaha_mirror.catalog import Release
from omaha_mirror.omaha import Action, Digest, Manifest, Package
from tests.catalog.scene import AZURE, PAYLOAD, VERSION, package, release, sha256, with_manifest

BASE = release("oem-ami.gz", "oem-azure.gz")
PACKAGES = BASE.manifest.packages


def with_packages(*packages: Package) -> Release:
    return with_manifest(BASE, replace(BASE.manifest, packages=packages))


def test_an_id_is_the_version_and_eight_hex_digits() -> None:
    assert re.fullmatch(rf"{VERSION}-[0-9a-f]{{8}}", BASE.id)


@pytest.mark.parametrize(
    "other",
    [
        replace(BASE, app_id="00000000-0000-0000-0000-000000000000"),
        replace(BASE, board="arm64-usr"),
        replace(BASE, version="3815.2.2"),
        with_packages(*PACKAGES[:2]),
        with_packages(replace(PACKAGES[0], size=1), *PACKAGES[1:]),
        with_packages(*PACKAGES[:2], package("oem-azure.gz", b"others")),
        with_packages(*PACKAGES[:2], replace(PACKAGES[2], hash=Digest("sha1", bytes(20)))),
        with_packages(PACKAGES[1], PACKAGES[0], PACKAGES[2]),
    ],
    ids=["app", "board", "version", "fewer", "size", "digest", "SHA-1", "another payload"],
)
def test_another_release_has_another_id(other: Release) -> None:
    assert other.id.removeprefix(other.version) != BASE.id.removeprefix(BASE.version)


@pytest.mark.parametrize(
    "same",
    [
        replace(BASE, learnt=5.0),
        replace(BASE, urls={name: f"http://elsewhere/{name}" for name in BASE.urls}),
        with_packages(PACKAGES[0], PACKAGES[2], PACKAGES[1]),
        with_manifest(BASE, replace(BASE.manifest, actions=(), extra=(("x", "y"),))),
    ],
    ids=["when", "where from", "order of the extras", "what is no package"],
)
def test_nothing_else_counts_for_the_id(same: Release) -> None:
    assert same.id == BASE.id


def test_a_release_without_packages_is_none() -> None:
    with pytest.raises(ValueError, match="unpack"):
        with_manifest(BASE, Manifest(version=VERSION))


def test_a_package_without_an_address_is_none() -> None:
    with pytest.raises(LookupError):
        replace(BASE, urls={PAYLOAD: "http://release.example/update.gz"})


def test_the_payload_has_the_digest_of_its_action_where_the_package_has_none() -> None:
    bare = tuple(replace(p, hash_sha256=None) for p in PACKAGES)
    action = Action(event="postinstall", sha256=sha256(AZURE))
    found = with_manifest(BASE, replace(BASE.manifest, packages=bare, actions=(action,)))
    assert [file.sha256 for file in found.files] == [sha256(AZURE), None, None]
    assert found.payload == found.file(PAYLOAD)


def test_packages_are_added_behind_those_that_are_there() -> None:
    more = BASE.with_packages([package("more.gz", AZURE)], {"more.gz": "http://elsewhere/more.gz"})
    assert more.files[:-1] == BASE.files
    assert (more.files[-1].name, more.files[-1].url) == ("more.gz", "http://elsewhere/more.gz")
    assert more.check.urls == BASE.check.urls
    assert more.id != BASE.id
