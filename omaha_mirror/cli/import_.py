"""`omaha-mirror import`: import a bundle, and show the progress."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path

import click
from rich.filesize import decimal

from omaha_mirror.bundle import BadBundle, FolderOptions, MissingOption, open_folder
from omaha_mirror.bundle.files import parts_of, read_descriptor, read_files
from omaha_mirror.bundle.layout import compose, size_of
from omaha_mirror.cli.bundle_access import open_bundles
from omaha_mirror.cli.exits import Exit, Failure
from omaha_mirror.cli.running import Json
from omaha_mirror.cli.terminal import LONGEST, watching
from omaha_mirror.client.download import Watch
from omaha_mirror.config import Config, load
from omaha_mirror.observability.telemetry import set_up_logging
from omaha_mirror.text import printable

STDIN = Path("-")


def run(
    sources: Sequence[Path],
    track: str | None,
    board: str,
    version: str | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Import the release that the sources hold together."""
    config = load(config_path, os.environ)
    set_up_logging("auto", "error")
    options = FolderOptions(config.upstream.app_ids[0], board, track, version)
    try:
        taken = asyncio.run(_import(config, sources, options))
    except MissingOption as error:
        raise click.UsageError(str(error)) from None
    except BadBundle as error:
        message = printable(str(error), LONGEST)
        raise Failure(message, Exit.VERIFICATION_FAILED) from None
    if as_json:
        click.echo(json.dumps(taken))
    else:
        _say(taken)


async def _import(config: Config, sources: Sequence[Path], options: FolderOptions) -> Json:
    chunks, size = await _open(sources, options)
    with watching("reading") as watch:
        watch.began(str(sources[0]), size, "")
        async with aclosing(_watched(chunks, watch)) as watched, open_bundles(config) as access:
            return await access.import_bundle(watched)


async def _open(
    sources: Sequence[Path], options: FolderOptions
) -> tuple[AsyncGenerator[bytes], int]:
    """The bytes of a bundle, and how many; 0 if the number is not known."""
    if list(sources) == [STDIN]:
        return read_descriptor(sys.stdin.fileno()), 0
    if len(sources) == 1 and sources[0].is_dir():
        text, bundle, read = await open_folder(sources[0], options)
        return compose(text, bundle, read), size_of(text, bundle)
    files: list[Path] = []
    for source in sources:
        found = parts_of(source)
        if not found:
            raise Failure(f"there is no {source}", Exit.NOT_FOUND)
        files += found
    return read_files(files), sum(file.stat().st_size for file in files)


async def _watched(chunks: AsyncGenerator[bytes], watch: Watch) -> AsyncGenerator[bytes]:
    count = 0
    async with aclosing(chunks):
        async for chunk in chunks:
            yield chunk
            count += len(chunk)
            watch.received(count)


def _say(taken: Json) -> None:
    track, target = printable(taken["track"]), taken["versions"][-1]
    way = " -> ".join(taken["versions"])
    click.echo(f"{track} {taken['board']}: {way}, {decimal(taken['added'])} new")
    if not taken["leads"]:
        click.echo(f"{track} leads farther than {target} here already, and stays as it is")
