"""The last offer of each relayed machine, stored across restarts: during an outage the machine keeps its offer."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import OrderedDict
from pathlib import Path

import structlog

from omaha_mirror.aio.tasks import keep_running
from omaha_mirror.aio.workers import Workers
from omaha_mirror.catalog.model import Release
from omaha_mirror.omaha import AppRequest
from omaha_mirror.state_file import replace_file, restore

MACHINES = 50_000
SAVE = 60.0
"""Seconds from a change to the write."""
FORMAT = 1
LIMIT = 32 * 1024 * 1024
LOG = structlog.get_logger(__name__)


class LastOffers:
    """The release that upstream last offered each machine.

    Args:
        path: of `relay.json`.
        machines: number of stored machines; the one with the oldest check is removed first.
    """

    def __init__(self, path: Path, machines: int = MACHINES) -> None:
        self._path = path
        self._machines = machines
        self._offers: OrderedDict[str, str] = OrderedDict()
        self._changed = asyncio.Event()
        self._saving: asyncio.Task[None] | None = None
        # One thread keeps the order of the writes, also when a caller is cancelled.
        self._disk = Workers(1, "the relay's file")

    def __len__(self) -> int:
        return len(self._offers)

    async def start(self) -> None:
        """Read the file; a damaged one is renamed and logged."""
        loop = asyncio.get_running_loop()
        self._offers.update(await loop.run_in_executor(self._disk, _load, self._path))
        self._bound()
        self._saving = asyncio.create_task(
            keep_running(self._save_behind, "storing the last offers")
        )

    async def close(self) -> None:
        """Write the file."""
        try:
            if self._saving is not None:
                self._saving.cancel()
                await asyncio.wait([self._saving])
                await self._save()
        finally:
            self._disk.shutdown()

    def remember(self, app: AppRequest, release: Release | None) -> None:
        """Store the offer of a machine, None for no offer; a delta only for the version of the request."""
        keys = _keys(app)
        before = {key: self._offers.pop(key) for key in keys if key in self._offers}
        if release is not None and keys:
            self._offers[keys[release.is_delta]] = release.id
            self._bound()
        after = {key: self._offers[key] for key in keys if key in self._offers}
        if before != after:
            self._changed.set()

    def last(self, app: AppRequest) -> tuple[str, bool] | None:
        """The id of the last offered release, and whether it is a delta; None for no offer."""
        for delta, key in enumerate(_keys(app)):
            if key in self._offers:
                self._offers.move_to_end(key)
                return self._offers[key], bool(delta)
        return None

    def _bound(self) -> None:
        while len(self._offers) > self._machines:
            self._offers.popitem(last=False)

    async def _save_behind(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(SAVE)
            await self._save()

    async def _save(self) -> None:
        self._changed.clear()
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._disk, _store, self._path, dict(self._offers))
        except OSError as error:
            LOG.error(
                "the last offers cannot be written: a restart would lose them", why=str(error)
            )
            self._changed.set()


def _keys(app: AppRequest) -> tuple[str, ...]:
    """The keys of a machine on a track, hashed: for any version, and for the version of the request.

    A machine without an id has none.
    """
    machine = [app.machineid, app.app_id, app.board, app.track]
    whole = (machine, [*machine, app.version]) if app.machineid else ()
    return tuple(hashlib.sha256(json.dumps(each).encode()).hexdigest()[:32] for each in whole)


def _store(path: Path, offers: dict[str, str]) -> None:
    replace_file(path, json.dumps({"format": FORMAT, "told": offers}).encode())


def _load(path: Path) -> dict[str, str]:
    """The stored offers, the machine with the oldest check first."""
    return restore(path, LIMIT, _read, "the last offers of machines are lost") or {}


def _read(text: bytes) -> dict[str, str]:
    data = json.loads(text)
    if data["format"] != FORMAT:
        raise ValueError(f"format {data['format']!r} is not known to this version")
    offers = data["told"]
    if not all(isinstance(id_, str) and "-" in id_ for id_ in offers.values()):
        raise ValueError("it does not contain ids of releases")
    return dict(offers)
