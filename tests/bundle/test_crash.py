"""Whenever an import dies, what is on disk is as before, or as after; and the same import again mends it."""

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from omaha_mirror.catalog.catalog_file import load
from tests.bundle.scene import NO_LINE, files_below, take_in, without_line
from tests.e2e.site import FLOORS, STEPS, Box
from tests.support.mirror import settings
from tests.support.talk import PATIENCE

CALLS = ((os, "fsync"), (Path, "rename"), (Path, "replace"), (Path, "unlink"))


class DiedError(BaseException):
    """Not an Exception: nothing under test goes on after it."""


@contextmanager
def dies_at(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """From the `step`-th call that changes what is on disk, none does."""
    made: list[str] = []

    def counted(name: str, function: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            made.append(name)
            if len(made) > step:
                raise DiedError
            return function(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for place, name in CALLS:
            patch.setattr(place, name, counted(name, getattr(place, name)))
        yield made


async def import_that_dies(
    directory: Path, bundle: bytes, step: int, monkeypatch: pytest.MonkeyPatch
) -> bool:
    """Whether it died before it was done; the mirror is gone then, without a last word."""
    async with without_line(directory) as mirror:
        with dies_at(step, monkeypatch) as made:
            try:
                await take_in(mirror, bundle)
            except DiedError:
                mirror.service.catalog._storage.writer.save = _nothing  # type: ignore[method-assign] # as a dead process
        return len(made) > step


async def _nothing() -> None:
    pass


@pytest.mark.parametrize("step", range(0, 60, 5))
async def test_a_crash_at_any_step_leaves_the_old_or_the_new(
    tmp_path: Path, bundle: bytes, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    died = await import_that_dies(tmp_path, bundle, step, monkeypatch)
    known = load(tmp_path / "without-line" / "state" / "catalog.json")
    assert len(known.releases) in (0, len(STEPS))
    assert died or len(known.releases) == len(STEPS)
    async with without_line(tmp_path) as mirror:
        assert not [*(tmp_path / "without-line" / "cache" / "incoming").iterdir()]
        for verdict in [v async for v in mirror.service.verifier.verify_all()]:
            assert verdict.outcome == "right"
        box = Box(mirror)
        if known.releases:
            assert await box.download(await box.offer())
        else:
            await box.nothing()
        assert (await take_in(mirror, bundle)).versions == STEPS
        box = Box(mirror, number=2, version=FLOORS[-1], oem="azure")
        offer = await box.offer()
        for package in offer.packages:
            if package.name != "oem-gce.gz":
                await box.download(offer, package)


async def test_the_steps_of_an_import_end_before_the_last_that_is_tried(
    tmp_path: Path, bundle: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not await import_that_dies(tmp_path, bundle, 59, monkeypatch)


async def test_a_killed_import_leaves_what_was_there(tmp_path: Path, bundle: bytes) -> None:
    config = tmp_path / "config.yaml"
    changes = {"default_track": "follow", "tracks": {}}
    config.write_text(yaml.safe_dump(settings(tmp_path, NO_LINE, **changes)))
    command = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "omaha_mirror", "import", "--config", str(config), "-"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert command.stdin is not None
    command.stdin.write(bundle[:100_000])
    await command.stdin.drain()
    arriving = tmp_path / "cache" / "incoming"
    async with asyncio.timeout(PATIENCE):
        while not arriving.is_dir() or not [*arriving.iterdir()]:  # noqa: ASYNC110 (another process's doing)
            await asyncio.sleep(0.01)
    command.kill()
    await command.communicate()
    left = files_below(tmp_path)
    assert not [name for name in left if name.startswith(("cache/blobs", "state/catalog"))]
