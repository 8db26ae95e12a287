"""`omaha-mirror export`: write a bundle, and show the progress."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import click
from rich.filesize import decimal

from omaha_mirror.aio.tasks import in_worker
from omaha_mirror.bundle import BadBundle, ExportRequest, resume_copy
from omaha_mirror.bundle.files import Parts, read_files
from omaha_mirror.cli.bundle_access import BundleAccess, open_bundles
from omaha_mirror.cli.exits import Exit, Failure
from omaha_mirror.cli.terminal import watching
from omaha_mirror.client.download import Watch
from omaha_mirror.config import load
from omaha_mirror.config.units import parse_size
from omaha_mirror.observability.telemetry import set_up_logging
from omaha_mirror.text import printable

STDOUT = Path("-")


def run(
    track: str,
    board: str,
    version: str | None,
    oems: tuple[str, ...],
    output: Path,
    size: str | None,
    config_path: Path | None,
) -> None:
    """Write a bundle to a file, parts or standard output."""
    request = ExportRequest(track, board, version, oems)
    try:
        split = parse_size(size) if size is not None else None
    except ValueError as error:
        raise click.UsageError(f"--split: {error}") from None
    if output == STDOUT and (split is not None or sys.stdout.isatty()):
        raise click.UsageError("standard output takes one bundle, and must be no terminal")
    config = load(config_path, os.environ)
    set_up_logging("auto", "error")

    async def inside() -> None:
        async with open_bundles(config) as access:
            with watching() as watch:
                await _prepare(access, request, watch)
            with watching("writing") as watch:
                await _write(access, request, output, split, watch)

    try:
        asyncio.run(inside())
    except BadBundle as error:
        raise Failure(str(error), Exit.VERIFICATION_FAILED) from None


async def _prepare(access: BundleAccess, request: ExportRequest, watch: Watch) -> None:
    name = ""
    async with aclosing(access.prepare(request)) as steps:
        async for step in steps:
            if step["error"]:
                raise Failure(f"{step['name']} cannot be downloaded: {printable(step['error'])}")
            if step["done"]:
                continue
            if step["name"] != name:
                name = step["name"]
                watch.began(name, step["size"], "")
            watch.received(step["filled"])


async def _write(
    access: BundleAccess, request: ExportRequest, output: Path, split: int | None, watch: Watch
) -> None:
    announced = await access.announce(request)
    parts = None if output == STDOUT else Parts(output, split)
    written = parts.position if parts is not None else 0
    watch.began(str(output), announced.size, f"goes on at {written}" if written else "")

    async def write(data: bytes) -> None:
        nonlocal written
        await (in_worker(_to_stdout, data) if parts is None else parts.write(data))
        written += len(data)
        watch.received(written)

    def more(offset: int) -> AsyncGenerator[bytes]:
        is_whole = parts is not None and parts.is_whole
        return read_files(()) if is_whole else access.stream(request, offset)

    begun = read_files(parts.files if parts is not None else ())
    try:
        await resume_copy(announced, begun, more, write)
    except BadBundle as error:
        if parts is None:
            raise
        if parts.is_whole:
            raise BadBundle(
                f"{output} is something else, and was left alone: remove it, or name another file: {error}"
            ) from None
        await in_worker(parts.discard)
        raise BadBundle(
            f"{error}; what was there of {output} is removed: export again. If it is damaged once"
            " more, `omaha-mirror cache verify` finds what rotted on the mirror"
        ) from None
    if parts is not None:
        await in_worker(parts.settle)
        names = ", ".join(map(str, parts.files))
        click.echo(f"{names}: {decimal(announced.size)}", err=True)


def _to_stdout(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
