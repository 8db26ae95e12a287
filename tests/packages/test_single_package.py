import hashlib
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

import pytest

from omaha_mirror.cache import reader
from omaha_mirror.cache.errors import CacheError
from omaha_mirror.catalog import Reason
from omaha_mirror.omaha import AppRequest, Request
from omaha_mirror.packages import single_package
from omaha_mirror.packages.single_package import SinglePackage
from tests.payload.build import build

BODY = os.urandom(10_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "production.bin"
    path.write_bytes(BODY)
    return path


@pytest.fixture
def mirror(path: Path) -> Iterator[SinglePackage]:
    mirror = SinglePackage(path, "3815.2.1")
    yield mirror
    mirror.close()


@pytest.mark.parametrize("is_payload", [False, True])
async def test_where_the_metadata_end_is_read_in_the_file(tmp_path: Path, is_payload: bool) -> None:
    body = build([b"data"]) if is_payload else BODY
    (tmp_path / "payload").write_bytes(body)
    mirror = SinglePackage(tmp_path / "payload", "3815.2.1")
    with closing(mirror), mirror.read(mirror.release.payload, 0, 9) as reader:
        assert await reader.head_size() == (body.index(b"data") if is_payload else 0)


def touch(path: Path, body: bytes) -> None:
    """Write to a file in place, at another time than before, however coarse the clock is."""
    path.write_bytes(body)
    os.utime(path, ns=(0, 1))


async def read(mirror: SinglePackage, start: int = 0, stop: int = len(BODY)) -> bytes:
    found = b""
    with mirror.read(mirror.release.payload, start, stop) as reader:
        while window := await reader.window():
            found += os.pread(window.file.fileno(), window.count, window.offset)
            reader.advance(window.count)
    return found


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("3815.2.0", Reason.OFFERED),
        ("0.0.0", Reason.OFFERED),
        ("3815.2.1-rc1", Reason.OFFERED),
        ("3815.2.1", Reason.UP_TO_DATE),
        ("3815.2.1+build", Reason.UP_TO_DATE),
        ("3815.2.2", Reason.NEWER),
        ("4000", Reason.NEWER),
        ("", Reason.VERSION_UNREADABLE),
        ("latest", Reason.VERSION_UNREADABLE),
    ],
)
async def test_only_an_older_version_is_offered_the_package(
    mirror: SinglePackage, version: str, reason: Reason
) -> None:
    decision = await mirror.decide(Request(), AppRequest(appid="any-app", version=version))
    assert decision.reason == reason
    assert (decision.release is mirror.release) == (reason is Reason.OFFERED)


@pytest.mark.parametrize("oem", ["", "azure", "../.."])
@pytest.mark.parametrize(("track", "board"), [("stable", "amd64-usr"), ("", ""), ("x", "riscv")])
async def test_any_track_board_and_oem_is_offered_the_package(
    mirror: SinglePackage, track: str, board: str, oem: str
) -> None:
    app = AppRequest(appid="{A}", version="1.0.0", track=track, board=board, oem=oem)
    assert (await mirror.decide(Request(), app)).release is mirror.release


def test_the_release_has_every_digest_that_clients_read(mirror: SinglePackage) -> None:
    (package,) = mirror.release.manifest.packages
    (action,) = mirror.release.manifest.actions
    sha256 = hashlib.sha256(BODY).digest()
    assert (package.name, package.size, package.required) == ("update.gz", len(BODY), True)
    assert package.hash is not None
    assert package.hash.raw == hashlib.sha1(BODY).digest()
    assert package.hash_sha256 is not None
    assert package.hash_sha256.raw == sha256
    assert action.sha256 is not None
    assert action.sha256.raw == sha256
    assert action.disable_payload_backoff


async def test_only_the_path_of_the_offer_is_served(mirror: SinglePackage) -> None:
    release = mirror.release
    assert mirror.package(release.id, "update.gz") == release.payload
    assert mirror.package(release.id, "production.bin") is None
    assert mirror.package("3815.2.1-00000000", "update.gz") is None
    assert await mirror.layout_file("amd64-usr", "3815.2.1", "update.gz") is None


def test_the_path_is_the_same_after_a_restart_and_another_for_other_bytes(path: Path) -> None:
    first, again = SinglePackage(path, "1.0"), SinglePackage(path, "1.0")
    path.write_bytes(BODY[::-1])
    other = SinglePackage(path, "1.0")
    assert first.release.id == again.release.id != other.release.id
    for mirror in (first, again, other):
        mirror.close()


async def test_the_bytes_are_those_of_the_file(mirror: SinglePackage) -> None:
    assert await read(mirror) == BODY
    assert await read(mirror, 100, 200) == BODY[100:200]


@pytest.mark.parametrize("body", [BODY[::-1], BODY + b"x", BODY[:-1]])
async def test_a_file_changed_in_place_is_refused(
    mirror: SinglePackage, path: Path, body: bytes
) -> None:
    touch(path, body)
    with pytest.raises(CacheError, match="was changed since it was hashed: restart serve-package"):
        await read(mirror)


async def test_a_file_changed_while_it_is_read_is_refused_from_there(
    mirror: SinglePackage, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "WINDOW", 4000)
    with mirror.read(mirror.release.payload, 0, len(BODY)) as reading:
        assert await reading.window() is not None
        reading.advance(4000)
        touch(path, BODY[::-1])
        with pytest.raises(CacheError, match="was changed"):
            await reading.window()


async def test_a_file_that_is_replaced_is_served_on_as_it_was_hashed(
    mirror: SinglePackage, path: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"other")
    other.rename(path)
    assert await read(mirror) == BODY


def test_a_file_that_is_being_written_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hash_it = single_package._digests

    def hash_and_write(file: BinaryIO) -> object:
        touch(path, BODY + b"x")
        return hash_it(file)

    monkeypatch.setattr(single_package, "_digests", hash_and_write)
    with pytest.raises(OSError, match="is being written"):
        SinglePackage(path, "1.0")


def test_what_is_no_file_with_bytes_is_refused(tmp_path: Path) -> None:
    pipe, empty = tmp_path / "pipe", tmp_path / "empty"
    os.mkfifo(pipe)
    empty.touch()
    for path, why in ((tmp_path, "not a file"), (pipe, "not a file"), (empty, "is empty")):
        with pytest.raises(OSError, match=why):
            SinglePackage(path, "1.0")
    with pytest.raises(FileNotFoundError):
        SinglePackage(tmp_path / "none", "1.0")
