"""The catalog on disk: `catalog.json`, replaced atomically, so that a restart knows the same releases and channels.

A release is stored as the Omaha answer that offered it, unknown attributes included. `save`, `load` and `recover` wait for
the disk: `StateWriter` calls them in its own thread.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from omaha_mirror.aio.tasks import log_failure
from omaha_mirror.aio.workers import Workers
from omaha_mirror.catalog.channel import Channel, ChannelKey, KeptChannel
from omaha_mirror.catalog.model import Release, Step
from omaha_mirror.catalog.upstream_answer import UpstreamPolicy
from omaha_mirror.omaha import (
    AppResponse,
    Response,
    UpdateCheck,
    Url,
    Version,
    parse_stored_response,
    serialise_response,
)
from omaha_mirror.state_file import read_state, replace_file, restore

LOG = structlog.get_logger(__name__)
FORMAT = 2
LIMIT = 64 * 1024 * 1024
RETRY = 5.0
"""Seconds until a disk that refused is tried again."""


class ReleaseKey(NamedTuple):
    """The application's id in lower case, the board, and the version as upstream writes it.

    A delta fits machines of one version only, so its key has the release's id in place of the version.
    """

    app_id: str
    board: str
    version: str


def key_of(release: Release) -> ReleaseKey:
    """The key of a release."""
    name = release.id if release.is_delta else release.version
    return ReleaseKey(release.app_id, release.board, name)


def versions(kept: Iterable[KeptChannel]) -> set[ReleaseKey]:
    """The versions of all steps, currently offered or not."""
    return {
        ReleaseKey(item.key.app_id, item.key.board, step.version)
        for item in kept
        for step in item.channel.steps
    }


def latest(state: State) -> float:
    """The latest time in a state, in seconds since the epoch."""
    channels = (*state.channels, *state.imported)
    return max(
        (
            *(time for kept in state.releases for time in (kept.last_used, kept.release.learnt)),
            *(release.learnt for release in state.upstream),
            *(time for k in channels for time in (k.asked, k.channel.answered, k.channel.walked)),
            *(step.seen for kept in channels for step in kept.channel.steps),
        ),
        default=0.0,
    )


@dataclass(slots=True)
class StoredRelease:
    """A release as it is stored.

    Attributes:
        release: with its packages.
        last_used: time of the last check or download, in seconds since the epoch.
        looked_up: the names of extra packages that upstream answered about.
        current: whether it is the one of its version to offer; False if it was replaced or withdrawn.
        imported: whether it was imported from a bundle, so that upstream need not confirm it.
    """

    release: Release
    last_used: float
    looked_up: frozenset[str] = frozenset()
    current: bool = True
    imported: bool = False

    @property
    def key(self) -> ReleaseKey:
        """App, board and version."""
        return key_of(self.release)


@dataclass(frozen=True, slots=True)
class State:
    """The content of the file.

    Attributes:
        releases: that were looked up.
        upstream: releases as an Omaha server sent them.
        channels: the followed ones.
        imported: the channels of bundles.
    """

    releases: tuple[StoredRelease, ...] = ()
    upstream: tuple[Release, ...] = ()
    channels: tuple[KeptChannel, ...] = ()
    imported: tuple[KeptChannel, ...] = ()


def save(path: Path, state: State) -> None:
    """Replace the file atomically. Raises OSError."""
    data = {
        "format": FORMAT,
        "releases": [_dump_kept(kept) for kept in state.releases],
        "told": [dump_release(release) for release in state.upstream],
        "channels": [_dump_channel(kept) for kept in state.channels],
        "imported": [_dump_channel(kept) for kept in state.imported],
    }
    replace_file(path, json.dumps(data, indent=1).encode())


def load(path: Path) -> State:
    """The content of the file, in this format or the one before; an empty state without a file.

    Raises:
        Damaged: the file cannot be read, is damaged, or from a newer version.
    """
    return read_state(path, LIMIT, _read) or State()


def recover(path: Path) -> State:
    """The same; a damaged file is renamed and logged."""
    return restore(path, LIMIT, _read, "releases are learnt anew") or State()


def _read(text: bytes) -> State:
    data = json.loads(text)
    if data["format"] not in (1, FORMAT):
        raise ValueError(f"format {data['format']!r} is not known to this version")
    releases = tuple(map(_read_kept, data["releases"]))
    if data["format"] == 1:
        return State(releases)
    return State(
        releases,
        tuple(read_release(item, parse_stored_response) for item in data["told"]),
        tuple(map(_read_channel, data["channels"])),
        tuple(map(_read_channel, data.get("imported", ()))),
    )


def _dump_kept(kept: StoredRelease) -> dict[str, Any]:
    return {
        **dump_release(kept.release),
        "last_used": kept.last_used,
        "looked_up": sorted(kept.looked_up),
        "current": kept.current,
        "imported": kept.imported,
    }


def _read_kept(item: dict[str, Any]) -> StoredRelease:
    looked_up = frozenset(map(str, item["looked_up"]))
    return StoredRelease(
        read_release(item, parse_stored_response),
        float(item["last_used"]),
        looked_up,
        current=item["current"] is True,
        imported=item.get("imported") is True,
    )


def dump_release(release: Release) -> dict[str, Any]:
    """A release for JSON."""
    response = Response(apps=(AppResponse(appid=release.app_id, update_check=release.check),))
    return {
        "id": release.id,
        "app_id": release.app_id,
        "board": release.board,
        "version": release.version,
        "learnt": release.learnt,
        "urls": dict(release.urls),
        "answer": serialise_response(response).decode(),
    }


def read_release(item: dict[str, Any], parse: Callable[[bytes], Response]) -> Release:
    """A release from JSON, its answer by `parse`. Raises ValueError, LookupError, TypeError, AttributeError, OmahaError."""
    urls = dict(item["urls"])
    release = Release(
        app_id=item["app_id"],
        board=item["board"],
        version=item["version"],
        check=_read_check(item, urls, parse),
        urls=urls,
        learnt=float(item["learnt"]),
    )
    if release.id != item["id"]:
        raise ValueError(f"release {item['id']} was altered")
    return release


def _read_check(
    item: dict[str, Any], urls: dict[str, str], parse: Callable[[bytes], Response]
) -> UpdateCheck:
    """The updatecheck; format 1 has only a manifest, under the key `manifest`."""
    text = item["answer"] if "answer" in item else item["manifest"]
    check = parse(text.encode()).apps[0].update_check
    if check is None or len(check.manifests) != 1:
        raise ValueError(f"release {item['id']} has no manifest")
    if "answer" in item:
        return check
    payload = urls[check.manifests[0].packages[0].name]
    source = Url(codebase=payload.rpartition("/")[0] + "/")
    return UpdateCheck(status=check.status, urls=(source,), manifests=check.manifests)


def _dump_channel(kept: KeptChannel) -> dict[str, Any]:
    channel = kept.channel
    steps = [{"version": s.version, "floor": s.floor, "seen": s.seen} for s in channel.steps]
    return {
        **kept.key._asdict(),
        "asked": kept.asked,
        "steps": steps,
        "policy": channel.policy,
        "detail": channel.detail,
        "answered": channel.answered,
        "walked": channel.walked,
    }


def _read_channel(item: dict[str, Any]) -> KeptChannel:
    key = ChannelKey(*(str(item[field]) for field in ChannelKey._fields))
    channel = Channel(
        steps=tuple(map(_read_step, item["steps"])),
        policy=None if item["policy"] is None else UpstreamPolicy(item["policy"]),
        detail=str(item["detail"]),
        answered=float(item["answered"]),
        walked=float(item["walked"]),
    )
    return KeptChannel(key, channel, float(item["asked"]))


def _read_step(item: dict[str, Any]) -> Step:
    version = Version.parse(item["version"]).text
    return Step(version, floor=item["floor"] is True, seen=float(item["seen"]))


class StateWriter:
    """Writes the file in one thread, so that writes keep their order also when a caller is cancelled.

    Args:
        path: of the file.
        state: gives its content.
    """

    def __init__(self, path: Path, state: Callable[[], State]) -> None:
        self._path = path
        self._state = state
        self._disk = Workers(1, "the catalog's file")
        self._tasks: set[asyncio.Task[None]] = set()
        self._again: asyncio.TimerHandle | None = None
        self._fails = False

    async def read(self) -> State:
        """The content of the file; a damaged one is renamed and logged."""
        return await asyncio.get_running_loop().run_in_executor(self._disk, recover, self._path)

    async def write(self) -> None:
        """Write the file. Raises OSError."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._disk, save, self._path, self._state())

    async def save(self) -> None:
        """Write the file; a failure is only logged, and it is tried again until it is written."""
        try:
            await self.write()
            self._fails = False
        except OSError as error:
            if not self._fails:
                LOG.error(
                    "the catalog cannot be written: a restart would lose the newest releases",
                    why=str(error),
                )
            self._fails = True
            if self._again is None:
                self._again = asyncio.get_running_loop().call_later(RETRY, self._retry)

    def _retry(self) -> None:
        self._again = None
        self.save_behind()

    def save_behind(self) -> None:
        """Start to write the file, without waiting for it."""
        task = asyncio.create_task(self.save())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(log_failure)

    async def close(self) -> None:
        """Write the file a last time."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.save()
        if self._again is not None:
            self._again.cancel()
        self._disk.shutdown()
