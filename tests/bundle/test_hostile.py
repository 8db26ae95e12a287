"""A bundle that somebody made to do harm is refused, and so is one that is not meant for this mirror."""

import asyncio
import hashlib
import io
import json
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from omaha_mirror.bundle import BadBundle
from omaha_mirror.bundle.layout import DESCRIPTION, header, opening
from omaha_mirror.bundle.model import LIMIT, read_bundle
from omaha_mirror.cache.errors import InUse
from tests.bundle.scene import files_below, take_in, without_line
from tests.support.mirror import Mirror
from tests.support.nebraska import Nebraska

Json = dict[str, Any]


@pytest.fixture
async def mirror(tmp_path: Path) -> AsyncIterator[Mirror]:
    async with without_line(tmp_path) as mirror:
        yield mirror


def description(bundle: bytes) -> Json:
    with tarfile.open(fileobj=io.BytesIO(bundle)) as tar:
        file = tar.extractfile(DESCRIPTION)
        assert file is not None
        described: Json = json.loads(file.read())
        return described


def changed(bundle: bytes, change: Callable[[Json], object]) -> bytes:
    """The bundle with another description, and the sidecar of that one."""
    text = (json.dumps(described := description(bundle), indent=1) + "\n").encode()
    assert bundle.startswith(opening(text))
    change(described)
    return opening(json.dumps(described).encode()) + bundle[len(opening(text)) :]


def first(described: Json) -> Json:
    release: Json = described["releases"][0]
    return release


def named(name: str) -> Callable[[Json], object]:
    """The payload is called otherwise, everywhere that it is named."""

    def change(described: Json) -> None:
        release = first(described)
        old = release["packages"][0]["name"]
        release["packages"][0]["name"] = name
        release["answer"] = release["answer"].replace(old, name)
        release["urls"] = {name: release["urls"][old]}

    return change


CHANGES: dict[str, tuple[Callable[[Json], object], str]] = {
    "another format": (lambda described: described.update(format=2), "format 2 is not known"),
    "no releases": (lambda described: described.update(releases=[]), "0 releases"),
    "too many releases": (
        lambda described: described.update(releases=described["releases"] * 30),
        "releases",
    ),
    "twice the same": (
        lambda described: described.update(releases=described["releases"][:1] * 2),
        "come after",
    ),
    "newest first": (lambda described: described["releases"].reverse(), "come after"),
    "another board": (lambda described: described.update(board="arm64-usr"), "is not for"),
    "a board that is a path": (lambda described: first(described).update(board="../x"), "altered"),
    "no track": (lambda described: described.update(track=""), "no name"),
    "a track with escapes": (lambda described: described.update(track="\x1b[2J"), "printed"),
    "a version that is a path": (
        lambda described: first(described).update(version="../../1"),
        "altered",
    ),
    "another id": (lambda described: first(described).update(id="3200.0.0-00000000"), "altered"),
    "a name that is a path": (named("../../../etc/cron.d/x"), r"plain file name|altered"),
    "a name with a folder": (named("a/b"), r"plain file name|altered"),
    "a hidden name": (named(".lock"), r"plain file name|altered"),
    "a local address": (
        lambda described: first(described).update(
            urls=dict.fromkeys(first(described)["urls"], "file:///etc/shadow")
        ),
        "not an http address",
    ),
    "no payload": (
        lambda described: first(described).update(packages=[]),
        "begin with its payload",
    ),
    "a package twice": (
        lambda described: first(described).update(packages=first(described)["packages"] * 2),
        "begin with its payload",
    ),
    "another size": (
        lambda described: first(described)["packages"][0].update(size=10**15),
        "not a package",
    ),
    "another digest": (
        lambda described: first(described)["packages"][0].update(sha256="00" * 32),
        "not a package",
    ),
    "a foreign package": (
        lambda described: first(described)["packages"].append(
            {"name": "x", "size": 1, "sha256": "00" * 32}
        ),
        "not a package",
    ),
    "no answer": (lambda described: first(described).pop("answer"), "cannot be used"),
    "an answer with an entity": (
        lambda described: first(described).update(
            answer='<!DOCTYPE x [<!ENTITY a "b">]><response>&a;</response>'
        ),
        "cannot be used",
    ),
    "a number for a text": (lambda described: first(described).update(app_id=1), "cannot be used"),
    "a list for an object": (lambda described: described.update(releases=[[]]), "cannot be used"),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_a_description_that_lies_is_refused(
    tmp_path: Path, bundle: bytes, mirror: Mirror, name: str
) -> None:
    change, words = CHANGES[name]
    before = files_below(tmp_path)
    with pytest.raises(BadBundle, match=words):
        await take_in(mirror, changed(bundle, change))
    assert files_below(tmp_path) == before


@pytest.mark.parametrize(
    "text", [b"", b"null", b"[]", b"{", b"[" * 100_000, b'{"format": 1e999}', b"\xff"]
)
def test_a_description_that_is_none_is_refused(text: bytes) -> None:
    with pytest.raises(BadBundle, match=r"cannot be used|not known"):
        read_bundle(text)


async def test_an_unknown_application_is_refused(bundle: bytes, tmp_path: Path) -> None:
    upstream = {"app_ids": ["00000000-0000-0000-0000-000000000001"]}
    async with without_line(tmp_path, upstream=upstream) as mirror:
        with pytest.raises(BadBundle, match=r"not among upstream\.app_ids"):
            await take_in(mirror, bundle)


@pytest.mark.parametrize("data", [b"", b"\0" * 1024, b"\x1f\x8b\x08" + b"x" * 2000, b"[" * 600])
async def test_what_is_no_bundle_is_refused(mirror: Mirror, data: bytes) -> None:
    with pytest.raises(BadBundle, match=r"no bundle|too early"):
        await take_in(mirror, data)


async def test_a_description_without_end_is_refused_before_it_is_read(mirror: Mirror) -> None:
    read = 0

    async def endless() -> AsyncGenerator[bytes]:
        nonlocal read
        yield header(DESCRIPTION, LIMIT + 1)
        while True:
            read += 1
            yield bytes(65536)

    with pytest.raises(BadBundle, match="no bundle"):
        await mirror.service.importer.import_bundle(endless())
    assert read == 0


def rewritten(bundle: bytes, change: Callable[[tarfile.TarInfo], None]) -> bytes:
    """The bundle by another tar, with something about its first package changed."""
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(bundle)) as old,
        tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as new,
    ):
        for number, member in enumerate(old.getmembers()):
            body = old.extractfile(member)
            if number == 2:
                change(member)
            new.addfile(member, body)
    return out.getvalue()


def becomes(**changes: object) -> Callable[[tarfile.TarInfo], None]:
    def change(member: tarfile.TarInfo) -> None:
        for name, value in changes.items():
            setattr(member, name, value)

    return change


@pytest.mark.parametrize(
    "change",
    [
        becomes(type=tarfile.SYMTYPE, linkname="/etc/shadow", size=0),
        becomes(type=tarfile.LNKTYPE, linkname="bundle.json", size=0),
        becomes(type=tarfile.CHRTYPE, devmajor=1, devminor=5),
        becomes(type=tarfile.FIFOTYPE),
        becomes(type=tarfile.DIRTYPE),
        becomes(type=tarfile.GNUTYPE_SPARSE),
        becomes(name="/etc/passwd"),
        becomes(name="../../etc/passwd"),
        becomes(mode=0o4755),
        becomes(name="bundle.json"),
    ],
    ids=lambda change: str(change.__closure__[0].cell_contents),
)
async def test_nothing_of_a_tar_is_interpreted(
    bundle: bytes, mirror: Mirror, change: Callable[[tarfile.TarInfo], None]
) -> None:
    with pytest.raises(BadBundle, match="the header of"):
        await take_in(mirror, rewritten(bundle, change))


async def test_two_imports_at_a_time_do_not_mix(bundle: bytes, mirror: Mirror) -> None:
    importer, halfway, gate = mirror.service.importer, asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncGenerator[bytes]:
        yield bundle[:60_000]
        halfway.set()
        await gate.wait()
        yield bundle[60_000:]

    first = asyncio.create_task(importer.import_bundle(slowly()))
    await halfway.wait()
    with pytest.raises(InUse, match="another import is running"):
        await take_in(mirror, bundle)
    gate.set()
    assert (await first).leads


async def test_an_import_that_is_broken_off_leaves_nothing(
    tmp_path: Path, bundle: bytes, mirror: Mirror
) -> None:
    before, halfway = files_below(tmp_path), asyncio.Event()

    async def half() -> AsyncGenerator[bytes]:
        yield bundle[:90_000]
        halfway.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(mirror.service.importer.import_bundle(half()))
    await halfway.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert files_below(tmp_path) == before
    assert (await mirror.service.cache.contents()).used == 0
    assert (await take_in(mirror, bundle)).leads


async def test_the_sidecar_of_the_description_counts(
    bundle: bytes, mirror: Mirror, nebraska: Nebraska
) -> None:
    text = json.dumps(description(bundle), indent=1).encode() + b"\n"
    forged = bundle.replace(
        hashlib.sha256(text).hexdigest().encode(), hashlib.sha256(b"").hexdigest().encode(), 1
    )
    assert forged != bundle
    with pytest.raises(BadBundle, match="description"):
        await take_in(mirror, forged)


def test_a_description_with_too_many_releases_is_refused_before_they_are_read() -> None:
    """None of them is one."""
    text = json.dumps({"format": 1, "track": "stable", "board": "amd64-usr", "releases": [1] * 65})
    with pytest.raises(BadBundle, match="65 releases, where 1 to 64 are taken"):
        read_bundle(text.encode())
