"""`omaha-mirror cache`: list, verify, evict and remove blobs."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from omaha_mirror.cache import Cache, Verifier
from omaha_mirror.cache.errors import InUse
from omaha_mirror.cache.lock import in_use
from omaha_mirror.cli.exits import Exit, Failure
from omaha_mirror.cli.running import Json, RunningMirror, reach
from omaha_mirror.cli.terminal import print_table
from omaha_mirror.config import Config, load
from omaha_mirror.observability.telemetry import set_up_logging
from omaha_mirror.offline import Offline
from omaha_mirror.state_file import Damaged
from omaha_mirror.text import minute, printable

PREFIX = re.compile(r"(sha1-)?[0-9a-f]{6,}")
T = TypeVar("T")


def ls(config_path: Path | None, as_json: bool) -> None:
    """Print what is in the cache."""
    contents = _run(config_path, lambda access: access.contents(), only_look=True)
    if as_json:
        click.echo(json.dumps(contents, indent=2))
    else:
        _show(contents)


def verify(config_path: Path | None, keys: Sequence[str], as_json: bool) -> None:
    """Read blobs again, all if none is named, and print what came of each."""

    async def work(access: CacheAccess) -> list[Json]:
        blobs = (await access.contents())["blobs"]
        names: dict[str, str] = {blob["key"]: _name(blob) for blob in blobs}
        chosen = [item["key"] for item in _find(keys, blobs)] if keys else None
        verdicts = []
        async with aclosing(access.verify(chosen)) as results:
            async for verdict in results:
                verdicts.append(verdict)
                if not as_json:
                    _say(verdict, names.get(verdict["key"]) or verdict["key"])
        return verdicts

    verdicts = _run(config_path, work)
    if as_json:
        click.echo(json.dumps({"verdicts": verdicts}, indent=2))
    outcomes = {verdict["outcome"] for verdict in verdicts}
    if outcomes - {"right"}:
        raise SystemExit(Exit.VERIFICATION_FAILED if "wrong" in outcomes else Exit.FAILURE)


def gc(config_path: Path | None, dry_run: bool, as_json: bool) -> None:
    """Evict and sweep, and print what went."""
    swept = _run(config_path, lambda access: access.gc(dry_run=dry_run), only_look=dry_run)
    if as_json:
        click.echo(json.dumps(swept, indent=2))
    else:
        _say_removed(swept["removed"], dry_run)
    if swept["short"]:
        raise Failure(swept["short"])


def rm(config_path: Path | None, keys: Sequence[str], dry_run: bool, as_json: bool) -> None:
    """Remove blobs, and print what went and what is in use."""

    async def work(access: CacheAccess) -> Json:
        contents = await access.contents()
        growing = [item for item in contents["leftovers"] if item["kind"] == "partial"]
        removed, refused = [], []
        for item in _find(keys, [*contents["blobs"], *growing]):
            try:
                removed.append(await _remove(access, item, dry_run))
            except Failure as error:
                refused.append({"key": item["key"], "reason": str(error)})
        return {"dry_run": dry_run, "removed": removed, "refused": refused}

    done = _run(config_path, work, only_look=dry_run)
    if as_json:
        click.echo(json.dumps(done, indent=2))
    else:
        _say_removed(done["removed"], dry_run)
    for refusal in done["refused"]:
        click.echo(f"Error: {refusal['reason']}", err=True)
    if done["refused"]:
        raise SystemExit(Exit.FAILURE)


async def _remove(access: CacheAccess, item: Json, dry_run: bool) -> Json:
    if not dry_run:
        return await access.remove(item["key"])
    if item.get("readers"):
        raise Failure(f"{item['key']} is in use")
    return {"kind": item.get("kind", "blob"), "key": item["key"], "size": item["size"]}


def _run(
    config_path: Path | None,
    work: Callable[[CacheAccess], Coroutine[Any, Any, T]],
    *,
    only_look: bool = False,
) -> T:
    config = load(config_path, os.environ)
    set_up_logging("auto", "error")

    async def inside() -> T:
        async with open_cache(config, only_look=only_look) as access:
            return await work(access)

    return asyncio.run(inside())


def _find(keys: Iterable[str], items: Sequence[Json]) -> list[Json]:
    """The items that the keys name, each once. Raises Failure, or UsageError for a key that names several."""
    found: dict[str, Json] = {}
    for key in keys:
        matches = [item for item in items if _matches(key, item)]
        if not matches:
            raise Failure(f"{printable(key)} is not in the cache", Exit.NOT_FOUND)
        if len(matches) > 1:
            several = "\n".join(f"  {item['key']}  {_name(item)}" for item in matches)
            raise click.UsageError(f"{printable(key)} names more than one:\n{several}")
        found[matches[0]["key"]] = matches[0]
    return list(found.values())


def _matches(key: str, item: Json) -> bool:
    digest, source = str(item["key"]), str(item.get("source", ""))
    by_digest = PREFIX.fullmatch(key) is not None and digest.startswith(key)
    return by_digest or source.endswith(f"/{key}")


def _name(item: Json) -> str:
    """A blob for people: board, version and file name of its URL, if it has one."""
    path = item.get("source", "").partition("://")[2].partition("/")[2]
    return printable("/".join(path.split("/")[-3:])) or item["key"][:16]


def _say(verdict: Json, name: str) -> None:
    why = f": {printable(verdict['reason'])}" if verdict["reason"] else ""
    click.echo(f"{verdict['outcome']:<8}{name}{why}")


def _say_removed(removed: Sequence[Json], dry_run: bool) -> None:
    words = "would remove" if dry_run else "removed"
    for item in removed:
        click.echo(f"{words} {item['kind']} {item['key']}, {decimal(item['size'])}")
    if not removed:
        click.echo("nothing to remove")


def _show(contents: Json) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("KEY", "PACKAGE", "SIZE", "LAST USED", "VERIFIED", "PROVEN BY", "STAYS"):
        table.add_column(column, justify="right" if column == "SIZE" else "left", overflow="fold")
    for blob in contents["blobs"]:
        table.add_row(
            blob["key"][:12],
            Text(_name(blob)),
            decimal(blob["size"]),
            _when(blob["last_used"]),
            _when(blob["verified"]),
            blob["proven_by"],
            ", ".join(_stays(blob)),
        )
    for item in contents["leftovers"]:
        size, when = decimal(item["size"]), _when(item["changed"])
        table.add_row(item["key"][:12], f"({item['kind']})", size, when, "", "", "")
    print_table(table)
    used, most, free = (decimal(contents[name]) for name in ("used", "max_size", "free"))
    click.echo(f"{used} of {most} in use, {free} free on the disk")


def _stays(blob: Json) -> list[str]:
    words = [f"{blob['readers']} readers"] if blob["readers"] else []
    return [*words, "offered"] if blob["offered"] else words


def _when(seconds: float) -> str:
    return minute(seconds) if seconds else "never"


@asynccontextmanager
async def open_cache(config: Config, *, only_look: bool) -> AsyncIterator[CacheAccess]:
    """The cache of a config: through the admin listener of a running mirror, else on disk.

    Args:
        config: of the mirror.
        only_look: no blob is verified or removed; no file of a stopped mirror changes, as another user may look.

    Raises:
        Failure: the cache cannot be read.
        OSError: the disk failed, or another process took the cache at the same moment.
    """
    directory = config.cache.directory
    if not (directory / "blobs").is_dir():
        raise Failure(f"there is no cache at {directory}")
    running = in_use(directory)
    if running is not None:
        async with reach(config, running) as mirror:
            yield _Running(mirror)
        return
    offline = Offline(config)
    try:
        async with offline.looking() if only_look else offline.cleaning():
            yield _Stopped(offline.cache, offline.verifier)
    except Damaged as error:
        raise Failure(
            f"{error}; so the offered packages are not known: start the mirror, which repairs that"
        ) from None


class _Stopped:
    """Works on the directory of a stopped mirror."""

    def __init__(self, cache: Cache, verifier: Verifier) -> None:
        self._cache = cache
        self._verifier = verifier

    async def contents(self) -> Json:
        return asdict(await self._cache.contents())

    async def verify(self, keys: Sequence[str] | None) -> AsyncGenerator[Json]:
        async with aclosing(self._verifier.verify_all(keys)) as verdicts:
            async for verdict in verdicts:
                yield asdict(verdict)

    async def gc(self, *, dry_run: bool) -> Json:
        return {"dry_run": dry_run, **asdict(await self._cache.gc(dry_run=dry_run))}

    async def remove(self, key: str) -> Json:
        try:
            removed = await self._cache.remove(key)
        except InUse as error:
            raise Failure(str(error)) from None
        if removed is None:
            raise Failure(f"{key} is gone already")
        return asdict(removed)


class _Running:
    """Asks the running mirror."""

    def __init__(self, mirror: RunningMirror) -> None:
        self._mirror = mirror

    async def contents(self) -> Json:
        return await self._mirror.ask("GET", "/api/v1/cache")

    def verify(self, keys: Sequence[str] | None) -> AsyncGenerator[Json]:
        body = {} if keys is None else {"keys": list(keys)}
        return self._mirror.lines("/api/v1/cache/verify", body)

    async def gc(self, *, dry_run: bool) -> Json:
        return await self._mirror.ask("POST", "/api/v1/cache/gc", {"dry_run": dry_run})

    async def remove(self, key: str) -> Json:
        return await self._mirror.ask("DELETE", f"/api/v1/cache/{key}")


CacheAccess = _Running | _Stopped
"""The work on a cache. All methods raise Failure."""
