"""Two sites: one with a line, where bundles are made, and one without, where they are taken in."""

import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from omaha_mirror.bundle import Bundle, ExportRequest, ImportResult
from tests.e2e.site import STEPS, TARGET, body, following
from tests.support.mirror import PAYLOAD, Mirror, mirror_in_process
from tests.support.nebraska import Nebraska

BOARD = "amd64-usr"
AZURE = random.Random("azure").randbytes(7_000)
GCE = random.Random("gce").randbytes(6_000)
PODMAN = random.Random("podman").randbytes(5_000)
EXTRAS = {"oem-azure.gz": AZURE, "oem-gce.gz": GCE, "flatcar-podman.gz": PODMAN}
WISH = ExportRequest("stable", BOARD, oems=("azure",))
NO_LINE = "http://127.0.0.1:9"
"""Nobody listens there."""


def release(nebraska: Nebraska, *, size: int = 40_000) -> Nebraska:
    """Two floors and a target with packages for two OEMs and a system extension."""
    for version in STEPS:
        extras = EXTRAS if version == TARGET else {}
        nebraska.publish(version, {PAYLOAD: body(version, size), **extras})
    nebraska.group("stable", TARGET, floors=STEPS[:-1])
    return nebraska


async def made(mirror: Mirror, request: ExportRequest = WISH) -> Bundle:
    """All that a bundle holds is on the mirror then."""
    async for step in mirror.service.exporter.prepare(request):
        assert step.error == ""
    return await mirror.service.exporter.bundle(request)


async def exported(mirror: Mirror, request: ExportRequest = WISH, offset: int = 0) -> bytes:
    bundle = await made(mirror, request)
    chunks = mirror.service.exporter.stream(bundle, offset)
    return b"".join([chunk async for chunk in chunks])


async def pieces(data: bytes, size: int = 65_536) -> AsyncGenerator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def take_in(mirror: Mirror, data: bytes) -> ImportResult:
    return await mirror.service.importer.import_bundle(pieces(data))


@asynccontextmanager
async def with_line(directory: Path, nebraska: Nebraska) -> AsyncIterator[Mirror]:
    folder = directory / "with-line"
    folder.mkdir(exist_ok=True)
    async with following(folder, nebraska) as mirror:
        yield mirror


@asynccontextmanager
async def without_line(directory: Path, **changes: Any) -> AsyncIterator[Mirror]:
    folder = directory / "without-line"
    folder.mkdir(exist_ok=True)
    settings = {"default_track": "follow", "tracks": {}, **changes}
    async with mirror_in_process(folder, NO_LINE, **settings) as mirror:
        yield mirror


async def bundle_of(directory: Path, nebraska: Nebraska, request: ExportRequest = WISH) -> bytes:
    """A bundle that a mirror made that is gone again."""
    async with with_line(directory, nebraska) as mirror:
        return await exported(mirror, request)


def files_below(folder: Path) -> dict[str, bytes]:
    """All files, and what they hold, but for what a mirror writes whether anything happens or not."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith((".lock", "clock.json", "fleet.db"))
    }
