"""Overrides on disk: two equal files, each with a checksum; a damaged one is replaced by the other.

If both are damaged, the tracks whose names can be read are held; if no name can be read, all tracks are. A file is JSON:
`{"format": 2, "sha256": "HEX",` and, from the second line on, what the checksum covers. Format 1 has none. All functions
wait for the disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from omaha_mirror.config import Hold, Pin, Track
from omaha_mirror.state_file import Damaged, read_file, read_state, replace_file, set_aside
from omaha_mirror.text import minute

LOG = structlog.get_logger(__name__)
MAX_OVERRIDES = 1000
MAX_NAME = 128
LAST = 1e11
"""The year 5138; later times cannot be written as a date."""
LIMIT = 4 * 1024 * 1024
HOW = "POST /api/v1/tracks/{track}/release with the admin token releases one, POST /api/v1/tracks/release all of them"
_STRING = re.compile(r'"track"\s*:\s*("(?:[^"\\]|\\.)*")')
_LIST = re.compile(r'"tracks"\s*:\s*')
_WAS_UNREADABLE = re.compile(r'"unreadable"\s*:\s*[0-9]|[0-9],\s*"released"')
"""Matches the marks before and after it: one of them may be damaged."""


class Override(BaseModel):
    """A rule that an operator gave a track at run time.

    Attributes:
        track: its name.
        rule: takes precedence over the config's.
        since: when it was given, in seconds since the epoch.
        why: `given` by an operator; `recovered`: a hold for an override of which only the track could be read;
            `unreadable`: a hold for an override that may have existed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    track: Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
    rule: Track
    since: Annotated[float, Field(ge=0, le=LAST)]
    why: Literal["given", "recovered", "unreadable"] = "given"

    @property
    def words(self) -> str:
        """The override as a sentence."""
        when = minute(self.since)
        does = f"is pinned to {self.rule.version}" if isinstance(self.rule, Pin) else "is held"
        if self.why != "given":
            return f"Track {self.track} {does} since {when}, as what it was given at run time cannot be read: {HOW}."
        return f"Track {self.track} {does} since {when}, at run time: release it to go by the config again."


class Kept(BaseModel):
    """The content of a file.

    Attributes:
        tracks: the names of all tracks with an override once more, in case the rest is damaged.
        unreadable: when both files were found unreadable, in seconds since the epoch; None: they were not.
        released: the tracks that were released since then.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1, 2] = 2
    sha256: str = ""
    tracks: tuple[str, ...] = ()
    unreadable: Annotated[float, Field(ge=0, le=LAST)] | None = None
    released: tuple[str, ...] = ()
    overrides: tuple[Override, ...] = ()


def is_name(track: str) -> bool:
    """Whether a track can have an override."""
    return 0 < len(track) <= MAX_NAME and track.isprintable()


def kept(
    overrides: Iterable[Override],
    unreadable: float | None = None,
    released: Iterable[str] = (),
) -> Kept:
    """The content for these overrides."""
    given = tuple(overrides)
    tracks = tuple(override.track for override in given)
    return Kept(
        tracks=tracks, unreadable=unreadable, released=tuple(sorted(released)), overrides=given
    )


# The two files


def _dump(file: Kept) -> bytes:
    data = file.model_dump(mode="json", include={"tracks", "unreadable", "released", "overrides"})
    _, _, body = json.dumps(data, indent=1).encode().partition(b"\n")
    return b'{"format": 2, "sha256": "%s",\n%s' % (_checksum(body).encode(), body)


def _checksum(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _read(text: bytes) -> Kept:
    """Raises ValueError."""
    try:
        file = Kept.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{where}: {first['msg']}" if where else first["msg"]) from None
    if file.format == 2 and file.sha256 != _checksum(text.partition(b"\n")[2]):
        raise ValueError("its checksum is wrong")
    return file


def write(paths: tuple[Path, Path], file: Kept) -> None:
    """Write both files. If only the second cannot be written, it is removed.

    Raises:
        OSError: the first cannot be written; nothing has changed.
    """
    first, second = paths
    content = _dump(file)
    replace_file(first, content)
    try:
        replace_file(second, content)
    except OSError as error:
        LOG.error("the overrides are stored in one file only", path=str(second), why=str(error))
        with contextlib.suppress(OSError):
            second.unlink(missing_ok=True)  # its content is out of date


def recover(paths: tuple[Path, Path]) -> Kept:
    """The overrides in force; both files are repaired, if the disk allows it."""
    good, damaged = _both(paths)
    if not good and not damaged:
        return Kept()
    found = _in_force(good, damaged)
    if damaged or len(good) < len(paths) or found.format == 1:
        found = kept(found.overrides, found.unreadable, found.released)
        _say(damaged, found, whole=bool(good))
        _heal(paths, damaged, found)
    return found


def look(paths: tuple[Path, Path]) -> Kept:
    """The same without a change on disk."""
    return _in_force(*_both(paths))


def _both(paths: tuple[Path, Path]) -> tuple[list[Kept], dict[Path, Damaged]]:
    """The readable files in order, and the errors of the others."""
    good: list[Kept] = []
    damaged: dict[Path, Damaged] = {}
    for path in paths:
        try:
            if (file := read_state(path, LIMIT, _read)) is not None:
                good.append(file)
        except Damaged as error:
            damaged[path] = error
    return good, damaged


def _in_force(good: Sequence[Kept], damaged: Collection[Path]) -> Kept:
    if good:
        return good[0]
    return _salvage(damaged) if damaged else Kept()


def _salvage(paths: Iterable[Path]) -> Kept:
    """Hold the tracks whose names can be read in damaged files; all tracks if there are none."""
    now = time.time()
    texts = [_text(path) for path in paths]
    tracks = {name for text in texts for name in _names(text) if is_name(name)}
    unreadable = not tracks or any(map(_WAS_UNREADABLE.search, texts))
    return kept(
        (
            Override(track=track, rule=Hold(), since=now, why="recovered")
            for track in sorted(tracks)[:MAX_OVERRIDES]
        ),
        now if unreadable else None,
    )


def _text(path: Path) -> str:
    try:
        return read_file(path, LIMIT).decode("utf-8", "replace")
    except (OSError, Damaged):
        return ""


def _names(text: str) -> Iterator[str]:
    """The names of tracks in a damaged file."""
    for found in _STRING.finditer(text):
        with contextlib.suppress(ValueError):
            yield json.loads(found[1])
    for found in _LIST.finditer(text):
        with contextlib.suppress(ValueError, RecursionError):
            listed, _ = json.JSONDecoder().raw_decode(text, found.end())
            if isinstance(listed, list):
                yield from (name for name in listed if isinstance(name, str))


def _say(damaged: dict[Path, Damaged], found: Kept, *, whole: bool) -> None:
    for error in damaged.values():
        LOG.error("a file of the overrides is damaged", why=str(error))
    if damaged and whole:
        LOG.warning("the overrides are read from the other file: nothing is lost")
    elif found.unreadable is not None:
        LOG.error(
            "no override can be read: no track is offered anything until it is released", then=HOW
        )
    elif damaged:
        tracks = ", ".join(found.tracks)
        LOG.error("only the tracks of overrides can be read, and are held", tracks=tracks, then=HOW)


def _heal(paths: tuple[Path, Path], damaged: dict[Path, Damaged], found: Kept) -> None:
    """Rename damaged files, and write both anew: a damaged one is renamed only after a good one is written."""
    for path in sorted(paths, key=damaged.__contains__):
        aside = None
        try:
            if path in damaged:
                aside = set_aside(path)
                LOG.info("a damaged file is renamed", path=str(path), kept_as=str(aside))
            replace_file(path, _dump(found))
        except OSError as error:
            LOG.error("a file cannot be written anew", path=str(path), why=error.strerror)
            if aside is not None:
                with contextlib.suppress(OSError):
                    aside.rename(path)
