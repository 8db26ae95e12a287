"""Folders are taken in as bundles: an unpacked one, one with a payload, and what updateservicectl saved."""

import base64
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from omaha_mirror.bundle import BadBundle, FolderOptions, ImportResult, MissingOption, open_folder
from omaha_mirror.bundle.layout import compose
from omaha_mirror.omaha import FLATCAR_APP_ID
from tests.bundle.scene import AZURE, BOARD, PODMAN, without_line
from tests.e2e.site import STEPS, Box, body
from tests.support.mirror import Mirror

VERSION = "3033.2.0"
TOLD = FolderOptions(FLATCAR_APP_ID, BOARD, "stable", VERSION)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "stick"
    folder.mkdir()
    return folder


def unpack(bundle: bytes, folder: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(bundle)) as tar:
        tar.extractall(folder, filter="data")


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def take_in(mirror: Mirror, folder: Path, options: FolderOptions = TOLD) -> ImportResult:
    text, bundle, read = await open_folder(folder, options)
    return await mirror.service.importer.import_bundle(compose(text, bundle, read))


async def refused(tmp_path: Path, folder: Path, words: str, options: FolderOptions = TOLD) -> None:
    async with without_line(tmp_path) as mirror:
        with pytest.raises((BadBundle, MissingOption), match=words):
            await take_in(mirror, folder, options)
        await Box(mirror).nothing()


async def test_an_unpacked_bundle_is_one(tmp_path: Path, folder: Path, bundle: bytes) -> None:
    unpack(bundle, folder)
    async with without_line(tmp_path) as mirror:
        assert (await take_in(mirror, folder)).versions == STEPS
        assert (await Box(mirror).update()) == STEPS[0]


@pytest.mark.parametrize("damage", ["flipped", "shorter", "longer", "gone", "link"])
async def test_damage_to_an_unpacked_bundle_is_found(
    tmp_path: Path, folder: Path, bundle: bytes, damage: str
) -> None:
    unpack(bundle, folder)
    [victim] = [path for path in files(folder) if path.name == "oem-azure.gz"]
    wrong = {"flipped": b"x" + AZURE[1:], "shorter": AZURE[:-1], "longer": AZURE + b"x"}
    victim.unlink()
    if damage in wrong:
        victim.write_bytes(wrong[damage])
    elif damage == "link":
        (tmp_path / "elsewhere").write_bytes(AZURE)
        victim.symlink_to(tmp_path / "elsewhere")
    async with without_line(tmp_path) as mirror:
        with pytest.raises((BadBundle, OSError)):
            await take_in(mirror, folder)
        await Box(mirror).nothing()


async def test_a_payload_with_its_extra_packages(tmp_path: Path, folder: Path) -> None:
    files = {"update.gz": body(VERSION), "oem-azure.gz": AZURE, "flatcar-podman.gz": PODMAN}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "notes.txt").write_text("not a package")
    async with without_line(tmp_path) as mirror:
        assert (await take_in(mirror, folder)).packages == len(files)
        box = Box(mirror, version="3000.0.0", oem="azure")
        offer = await box.offer()
        assert (offer.version, len(offer.packages)) == (VERSION, len(files))
        for package in offer.packages:
            assert await box.download(offer, package) == files[package.name]


async def test_a_sidecar_beside_a_payload_counts(tmp_path: Path, folder: Path) -> None:
    (folder / "update.gz").write_bytes(body(VERSION))
    sidecar = folder / "update.gz.sha256"
    sidecar.write_text(f"{hashlib.sha256(b'other').hexdigest()}  update.gz\n")
    await refused(tmp_path, folder, "SHA-256 is not the one")
    sidecar.write_text(f"{hashlib.sha256(body(VERSION)).hexdigest()}  update.gz\n")
    async with without_line(tmp_path) as mirror:
        assert (await take_in(mirror, folder)).versions == (VERSION,)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (FolderOptions(FLATCAR_APP_ID, BOARD, None, VERSION), "add --track"),
        (FolderOptions(FLATCAR_APP_ID, BOARD, "stable", None), "add --version"),
        (FolderOptions(FLATCAR_APP_ID, BOARD, "stable", "../../1"), "cannot read the version"),
        (FolderOptions(FLATCAR_APP_ID, "x86", "stable", VERSION), "board"),
    ],
)
async def test_what_is_missing_is_asked_for(
    tmp_path: Path, folder: Path, options: FolderOptions, words: str
) -> None:
    (folder / "update.gz").write_bytes(body(VERSION))
    await refused(tmp_path, folder, words, options)


async def test_a_pipe_instead_of_a_payload_is_not_waited_for(tmp_path: Path, folder: Path) -> None:
    os.mkfifo(folder / "update.gz")
    with pytest.raises(OSError, match="is not a file"):
        await open_folder(folder, TOLD)


# CoreUpdate

OLDER = "2905.2.6"


def saved(folder: Path, version: str, changes: Mapping[str, object] | None = None) -> None:
    """What `updateservicectl package download` leaves of a package."""
    data = body(version)
    (folder / f"{FLATCAR_APP_ID}_{version}_update.gz").write_bytes(data)
    described = {
        "appId": FLATCAR_APP_ID,
        "dateCreated": "2021-09-27T12:31:06Z",
        "metadataSignatureRsa": "c2lnbmVk",
        "metadataSize": "1113",
        "required": True,
        "sha1Sum": base64.b64encode(hashlib.sha1(data).digest()).decode(),
        "sha256Sum": base64.b64encode(hashlib.sha256(data).digest()).decode(),
        "size": str(len(data)),
        "url": f"https://update.example/amd64-usr/{version}/update.gz",
        "version": version,
        **(changes or {}),
    }
    (folder / f"{FLATCAR_APP_ID}_{version}_info.json").write_text(json.dumps(described))


async def test_packages_of_core_update(tmp_path: Path, folder: Path) -> None:
    for version in (OLDER, VERSION):
        saved(folder, version)
    described = FolderOptions(FLATCAR_APP_ID, BOARD, "stable", None)
    async with without_line(tmp_path, tracks={"old": OLDER}) as mirror:
        assert (await take_in(mirror, folder, described)).versions == (OLDER, VERSION)
        offer = await Box(mirror, version="2000.0.0").offer()
        assert (offer.version, offer.action.metadata_size) == (VERSION, "1113")
        assert await Box(mirror).download(offer) == body(VERSION)
        offer = await Box(mirror, version="2000.0.0", track="old").offer()
        assert await Box(mirror).download(offer) == body(OLDER)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sha1Sum": "AAAA"}, "sha1Sum"),
        ({"sha256Sum": "AAAA"}, "sha256Sum"),
        ({"size": "1"}, "size"),
        ({"version": OLDER}, "describes the package"),
        ({"appId": "../x"}, "describes the package"),
        ({"url": "file:///etc/passwd"}, "no http address"),
        ({"url": None}, "no http address"),
    ],
)
async def test_packages_of_core_update_must_be_what_is_told_of_them(
    tmp_path: Path, folder: Path, changes: dict[str, object], words: str
) -> None:
    saved(folder, VERSION, changes)
    await refused(tmp_path, folder, words)
