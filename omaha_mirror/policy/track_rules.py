"""The rules in force: an override, which an operator gave a track at run time, goes before the config until it is released.

An override is on disk before it counts, so a restart changes nothing. A hold that is forgotten lets machines have what
somebody wanted to keep from them: where overrides cannot be read, tracks are held until an operator releases them.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from omaha_mirror import config
from omaha_mirror.aio.clock import Clock
from omaha_mirror.aio.tasks import finish
from omaha_mirror.aio.workers import STATE
from omaha_mirror.config.rules import Hold, Pin, Rule
from omaha_mirror.policy.override_files import (
    MAX_NAME,
    MAX_OVERRIDES,
    Kept,
    Override,
    is_name,
    kept,
    look,
    recover,
    write,
)
from omaha_mirror.reasons import Reason


class BadOverride(Exception):
    """A track cannot be given a rule, or given back; the message says why."""


class Overrides:
    """The overrides in force.

    Args:
        path: of `overrides.json`; the second file is `overrides-copy.json` beside it.
        clock: tells the time.

    Attributes:
        changes: how often they were given, released or read.
    """

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self.changes = 0
        self._clock = clock or Clock()
        self._paths = path, path.with_stem(f"{path.stem}-copy")
        self._overrides: dict[str, Override] = {}
        self._unreadable: float | None = None
        self._released: frozenset[str] = frozenset()
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """Read what was in force before; what is damaged is put aside, said, and made anew as far as it can be."""
        self._adopt(await STATE.call(recover, self._paths))

    async def look(self) -> None:
        """The same, and nothing on the disk is changed."""
        self._adopt(await STATE.call(look, self._paths))

    def get(self, track: str) -> Override | None:
        """What is in force for a track."""
        found = self._overrides.get(track)
        if found is None and self._unreadable is not None and track not in self._released:
            # Not validated: a machine may call its track anything.
            return Override.model_construct(
                track=track, rule=Hold(), since=self._unreadable, why="unreadable"
            )
        return found

    def all(self) -> tuple[Override, ...]:
        """All that are in force for tracks that are known by name, by track."""
        return tuple(self._overrides[track] for track in sorted(self._overrides))

    def named(self) -> set[str]:
        """The tracks that are not like all others: those that have an override, or were given back one by one."""
        return {*self._overrides, *self._released}

    async def put(self, track: str, rule: Hold | Pin) -> Override:
        """Give a track a rule.

        Raises:
            BadOverride: no machine can be on such a track, or there are too many overrides.
            OSError: it cannot be kept; nothing has changed.
        """
        if not is_name(track):
            raise BadOverride(f"a track is named by 1 to {MAX_NAME} printable characters")
        async with self._turn:
            if len(self._overrides) >= MAX_OVERRIDES and track not in self._overrides:
                raise BadOverride(f"there are {MAX_OVERRIDES} overrides: release some first")
            override = Override(track=track, rule=rule, since=self._clock.time())
            changed = {**self._overrides, track: override}
            await self._become(changed, self._unreadable, self._released)
            return override

    async def remove(self, track: str) -> Override | None:
        """Give a track back to the config; what was in force, or None.

        Raises:
            BadOverride: too many tracks were released one by one.
            OSError: it cannot be kept; nothing has changed.
        """
        async with self._turn:
            found = self.get(track)
            if found is not None:
                rest = {name: o for name, o in self._overrides.items() if name != track}
                released = self._released
                if self._unreadable is not None:
                    released |= {track}
                    if not is_name(track) or len(released) > MAX_OVERRIDES:
                        raise BadOverride("release all tracks: POST /api/v1/tracks/release")
                await self._become(rest, self._unreadable, released)
            return found

    async def remove_all(self) -> None:
        """Give back to the config all tracks that are held because overrides could not be read. Raises OSError."""
        async with self._turn:
            given = {name: o for name, o in self._overrides.items() if o.why == "given"}
            await self._become(given, None, frozenset())

    @property
    def unreadable(self) -> Path | None:
        """Where the file lies that could not be read, so that all tracks are held; None where it could."""
        return self._paths[0].with_suffix(".damaged") if self._unreadable is not None else None

    async def _become(
        self,
        overrides: dict[str, Override],
        unreadable: float | None,
        released: frozenset[str],
    ) -> None:
        await finish(self._keep(kept(overrides.values(), unreadable, released)))

    async def _keep(self, file: Kept) -> None:
        await STATE.call(write, self._paths, file)
        self._adopt(file)

    def _adopt(self, file: Kept) -> None:
        self.changes += 1
        now = self._clock.stamp()
        self._overrides = {
            override.track: override
            if override.since <= now
            else override.model_copy(update={"since": now})
            for override in file.overrides
        }
        self._unreadable = file.unreadable
        self._released = frozenset(file.released)


class TrackRules:
    """Gives the rule of a track.

    Args:
        configured: the config; another one may take its place.
        overrides: that go before it.
    """

    def __init__(self, configured: config.Config, overrides: Overrides) -> None:
        self._config = configured
        self._overrides = overrides
        self._changes = 0
        self._rules: dict[str, Rule] = {}
        self._at = -1

    def __call__(self, track: str) -> Rule:
        """What the machines of a track get."""
        if self._at != self._overrides.changes:
            self._at = self._overrides.changes
            named = {"", *self._config.tracks, *self._overrides.named()}
            self._rules = {track: self._rule(track) for track in named}
        return self._rules.get(track, self._rules[""])

    def _rule(self, track: str) -> Rule:
        override = self._overrides.get(track)
        if override is None:
            return self._config.track(track)
        return Hold(Reason.UNREADABLE) if override.why == "unreadable" else override.rule

    def written(self, track: str) -> Rule:
        """The same as it was given: what cannot be read is a plain hold."""
        override = self._overrides.get(track)
        return override.rule if override is not None else self._config.track(track)

    def named(self) -> set[str]:
        """The tracks that the config or an operator names: every other one has the rule of the track ``""``."""
        return {*self._config.tracks, *(override.track for override in self._overrides.all())}

    def change(self, configured: config.Config) -> None:
        """Go by another config from now on."""
        self._config = configured
        self._changes += 1
        self._at = -1

    @property
    def changes(self) -> int:
        """Another number when a rule may be another than before."""
        return self._changes + self._overrides.changes
