"""The rules in force: an override, given to a track at run time, takes precedence over the config until it is released.

An override is on disk before it takes effect, so a restart changes nothing. A lost hold would offer machines a release
against the operator's will: if overrides cannot be read, tracks are held until an operator releases them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
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
    """An override cannot be given or released; the message says why."""


class Overrides:
    """The overrides in force.

    Args:
        path: of `overrides.json`; the second file is `overrides-copy.json` beside it.
        clock: tells the time.

    Attributes:
        changed: called when overrides were given, released or read.
    """

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self.changed: Callable[[], None] = lambda: None
        self._clock = clock or Clock()
        self._paths = path, path.with_stem(f"{path.stem}-copy")
        self._overrides: dict[str, Override] = {}
        self._unreadable: float | None = None
        self._released: frozenset[str] = frozenset()
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """Read the files; damaged ones are renamed, logged and repaired as far as possible."""
        self._adopt(await STATE.call(recover, self._paths))

    async def look(self) -> None:
        """The same without a change on disk."""
        self._adopt(await STATE.call(look, self._paths))

    def get(self, track: str) -> Override | None:
        """The override of a track; None if it has none."""
        found = self._overrides.get(track)
        if found is None and self._unreadable is not None and track not in self._released:
            # Not validated: a machine may call its track anything.
            return Override.model_construct(
                track=track, rule=Hold(), since=self._unreadable, why="unreadable"
            )
        return found

    def all(self) -> tuple[Override, ...]:
        """All overrides of tracks that are known by name, sorted by track."""
        return tuple(self._overrides[track] for track in sorted(self._overrides))

    def named(self) -> set[str]:
        """The tracks that are not like all others: those that have an override, or were given back one by one."""
        return {*self._overrides, *self._released}

    async def put(self, track: str, rule: Hold | Pin) -> Override:
        """Give a track an override.

        Raises:
            BadOverride: no track can have this name, or there are too many overrides.
            OSError: it cannot be stored; nothing has changed.
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
        """Release a track; gives the override, or None if it had none.

        Raises:
            BadOverride: too many tracks were released one by one.
            OSError: the release cannot be stored; nothing has changed.
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
        """Release all tracks that are held because overrides could not be read. Raises OSError."""
        async with self._turn:
            given = {name: o for name, o in self._overrides.items() if o.why == "given"}
            await self._become(given, None, frozenset())

    @property
    def unreadable(self) -> Path | None:
        """The path of the damaged file because of which all tracks are held; None if they are not."""
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
        now = self._clock.stamp()
        self._overrides = {
            override.track: override
            if override.since <= now
            else override.model_copy(update={"since": now})
            for override in file.overrides
        }
        self._unreadable = file.unreadable
        self._released = frozenset(file.released)
        self.changed()


class TrackRules:
    """Gives the rule of a track.

    Args:
        configured: the config.
        overrides: take precedence over it.

    Attributes:
        changes: a number that grows when a rule may have changed.
    """

    def __init__(self, configured: config.Config, overrides: Overrides) -> None:
        self._config = configured
        self._overrides = overrides
        self.changes = 0
        overrides.changed = self._changed
        self._changed()

    def __call__(self, track: str) -> Rule:
        """What the machines of a track get."""
        return self._rules.get(track, self._rules[""])

    def _changed(self) -> None:
        self.changes += 1
        named = {"", *self._config.tracks, *self._overrides.named()}
        self._rules = {track: self._rule(track) for track in named}

    def _rule(self, track: str) -> Rule:
        override = self._overrides.get(track)
        if override is None:
            return self._config.track(track)
        return Hold(Reason.UNREADABLE) if override.why == "unreadable" else override.rule

    def written(self, track: str) -> Rule:
        """The same as an operator would write it: a hold for an unreadable override is a plain one."""
        override = self._overrides.get(track)
        return override.rule if override is not None else self._config.track(track)

    def named(self) -> set[str]:
        """The tracks with a rule of their own: every other one has the rule of the track ``""``."""
        return {*self._config.tracks, *(override.track for override in self._overrides.all())}

    def change(self, configured: config.Config) -> None:
        """Use another config from now on."""
        self._config = configured
        self._changed()
