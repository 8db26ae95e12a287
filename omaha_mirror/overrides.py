"""Rules that an operator gave tracks at run time: each goes before the config's until it is released.

An override is on disk before it counts, so a restart changes nothing. A file that cannot be read keeps the mirror from
starting, as a broken config does: a hold that is forgotten lets machines have what somebody wanted to keep from them.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from omaha_mirror.cache.finish import finish, in_worker
from omaha_mirror.config import Hold, Pin, Track
from omaha_mirror.files import replace_file

MAX_OVERRIDES = 1000
MAX_NAME = 128
LAST = 1e11
"""The year 5138: what cannot be written as a date is no time."""
LIMIT = 4 * 1024 * 1024


class Override(BaseModel):
    """A rule that was given at run time.

    Attributes:
        track: that it is for.
        rule: that goes before the config's.
        since: when it was given, in seconds since the epoch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    track: Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
    rule: Track
    since: Annotated[float, Field(ge=0, le=LAST)]

    @property
    def words(self) -> str:
        """The override as a sentence."""
        when = datetime.fromtimestamp(self.since, UTC).strftime("%Y-%m-%d %H:%M UTC")
        does = f"is pinned to {self.rule.version}" if isinstance(self.rule, Pin) else "is held"
        return f"Track {self.track} {does} since {when}, at run time: release it to go by the config again."


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    overrides: tuple[Override, ...] = ()


class Overrides:
    """The overrides in force.

    Args:
        path: of `overrides.json`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._overrides: dict[str, Override] = {}
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """Read what was in force before. Raises OSError, also for a file that is damaged."""
        self._overrides = {o.track: o for o in await asyncio.to_thread(_load, self._path)}

    def get(self, track: str) -> Override | None:
        """What is in force for a track."""
        return self._overrides.get(track)

    def all(self) -> tuple[Override, ...]:
        """All that are in force, by track."""
        return tuple(self._overrides[track] for track in sorted(self._overrides))

    async def put(self, track: str, rule: Hold | Pin) -> Override:
        """Give a track a rule.

        Raises:
            ValueError: no machine can be on such a track, or there are too many overrides.
            OSError: it cannot be kept; nothing has changed.
        """
        if not 0 < len(track) <= MAX_NAME or not track.isprintable():
            raise ValueError(f"a track is named by 1 to {MAX_NAME} printable characters")
        async with self._turn:
            if len(self._overrides) >= MAX_OVERRIDES and track not in self._overrides:
                raise ValueError(f"there are {MAX_OVERRIDES} overrides: release some first")
            override = Override(track=track, rule=rule, since=time.time())
            await finish(self._become({**self._overrides, track: override}))
            return override

    async def release(self, track: str) -> Override | None:
        """Give a track back to the config; what was in force, or None. Raises OSError; nothing has changed then."""
        async with self._turn:
            released = self._overrides.get(track)
            if released is not None:
                rest = {name: o for name, o in self._overrides.items() if name != track}
                await finish(self._become(rest))
            return released

    async def _become(self, overrides: dict[str, Override]) -> None:
        file = _File(overrides=tuple(overrides.values()))
        await in_worker(replace_file, self._path, file.model_dump_json(indent=1).encode())
        self._overrides = overrides


def _load(path: Path) -> tuple[Override, ...]:
    """Raises OSError."""
    try:
        with path.open("rb") as file:
            text = file.read(LIMIT + 1)
    except FileNotFoundError:
        return ()
    try:
        if len(text) > LIMIT:
            raise ValueError(f"it has more than {LIMIT} bytes")
        return _File.model_validate_json(text).overrides
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    except ValueError as error:
        why = str(error)
    raise OSError(
        f"{path}, which keeps the tracks that were held or pinned at run time, cannot be used: {why};"
        " mend it, or remove it and hold or pin those tracks again"
    )
