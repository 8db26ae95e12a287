"""What a bundle says of itself: releases as they were told upstream, and which of their packages come along.

Its names never become paths here: where a package lies in a bundle follows from the release that it belongs to.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from omaha_mirror.catalog.model import BOARDS, PackageFile, Release
from omaha_mirror.catalog.read import Unusable, read_told
from omaha_mirror.catalog.state import dump_release, read_release
from omaha_mirror.omaha import (
    AppResponse,
    AppStatus,
    Digest,
    OmahaError,
    Response,
    Version,
    parse_response,
)


class BadBundle(Exception):
    """It is damaged, incomplete or not one at all; the message is for people."""


class MissingOption(Exception):
    """A folder does not say of itself what must be known; the message says how to say it."""


FORMAT = 1
LIMIT = 16 * 1024 * 1024
"""Bytes of a bundle's description."""
MAX_RELEASES = 64
MAX_TEXT = 2048
"""Characters of an address."""
MAX_TRACK = 128
_BAD = (ValueError, LookupError, TypeError, AttributeError, RecursionError, OmahaError)


@dataclass(frozen=True, slots=True)
class Member:
    """A package in a bundle.

    Attributes:
        release: that it belongs to.
        file: what it must be, and where it came from once.
        sha256: known of every package in a bundle.
    """

    release: Release
    file: PackageFile
    sha256: Digest

    @property
    def size(self) -> int:
        """In bytes."""
        return self.file.size

    @property
    def path(self) -> str:
        """Where it lies in the bundle."""
        return f"{self.release.board}/{self.release.id}/{self.file.name}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A release in a bundle.

    Attributes:
        release: as it was told.
        floor: whether no machine below may pass it by.
        members: those of its packages that come along, the payload first.
    """

    release: Release
    floor: bool
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Bundle:
    """The way of a track, with all that machines need to go it.

    Attributes:
        track: as machines name it.
        board: one of `BOARDS`.
        entries: by application, oldest first; the last of each is where the track leads.
    """

    track: str
    board: str
    entries: tuple[Entry, ...]

    @property
    def members(self) -> Iterator[Member]:
        """All packages, in the order in which they lie in it."""
        return (member for entry in self.entries for member in entry.members)

    def dump(self) -> bytes:
        """Its description; `read_bundle` reads it."""
        told = {
            "format": FORMAT,
            "track": self.track,
            "board": self.board,
            "releases": [_dump_entry(entry) for entry in self.entries],
        }
        return json.dumps(told, indent=1, ensure_ascii=False).encode() + b"\n"


def read_bundle(text: bytes) -> Bundle:
    """Read a description; it may take seconds. Raises BadBundle."""
    try:
        told = json.loads(text)
        if told["format"] != FORMAT:
            raise BadBundle(f"format {told['format']!r:.20} is not known to this version")
        releases = told["releases"]
        if not 0 < len(releases) <= MAX_RELEASES:
            raise BadBundle(f"{len(releases)} releases, where 1 to {MAX_RELEASES} are taken")
        bundle = Bundle(str(told["track"]), told["board"], tuple(map(_read_entry, releases)))
        _check(bundle)
    except _BAD as error:
        raise BadBundle(f"its description cannot be used: {error!s:.300}") from error
    return bundle


def _dump_entry(entry: Entry) -> dict[str, Any]:
    packages = [
        {"name": member.file.name, "size": member.size, "sha256": member.sha256.hex}
        for member in entry.members
    ]
    return {**dump_release(entry.release), "floor": entry.floor, "packages": packages}


def _read_entry(item: Mapping[str, Any]) -> Entry:
    release = read_release(dict(item), parse_response)
    _check_release(release)
    members = tuple(_read_member(release, package) for package in item["packages"])
    names = [member.file.name for member in members]
    if names[:1] != [release.payload.name] or len(set(names)) < len(names):
        raise ValueError(f"the packages of {release.version} do not begin with its payload")
    return Entry(release, item["floor"] is True, members)


def _read_member(release: Release, item: Mapping[str, Any]) -> Member:
    file, sha256 = release.file(item["name"]), Digest.from_hex(item["sha256"])
    if file is None or item["size"] != file.size or file.sha256 not in (None, sha256):
        raise ValueError(f"{item['name']!r:.80} is not a package of {release.version}")
    return Member(release, file, sha256)


def _check(bundle: Bundle) -> None:
    if not 0 < len(bundle.track) <= MAX_TRACK or not bundle.track.isprintable():
        raise ValueError("the track has no name that can be printed")
    below: dict[str, Version] = {}
    for release in (entry.release for entry in bundle.entries):
        if release.board != bundle.board:
            raise ValueError(f"{release.version} is not for {bundle.board!r:.40}")
        version = Version.parse(release.version)
        if release.app_id in below and below[release.app_id] >= version:
            raise ValueError(f"{version} does not come after {below[release.app_id]}")
        below[release.app_id] = version


def _check_release(release: Release) -> None:
    """Refuse what would be refused if an Omaha server told it (see `read_told`), and what is not plain text."""
    if release.board not in BOARDS:
        raise ValueError(f"the board {release.board!r:.40} is not known")
    app = AppResponse(appid=release.app_id, status=AppStatus.OK, update_check=release.check)
    if app.app_id != release.app_id:
        raise ValueError(f"the application {release.app_id!r:.60} is not in lower case")
    try:
        told = read_told(
            Response(apps=(app,)), release.app_id, release.board, allowed=_anywhere, now=0.0
        )
    except Unusable as error:
        raise ValueError(str(error)) from error
    if [offered.release.version for offered in told.releases] != [release.version]:
        raise ValueError(f"what was told of {release.version} is about another version")
    for url in release.urls.values():
        if len(url) > MAX_TEXT or urlsplit(url).scheme not in ("http", "https"):
            raise ValueError(f"{url!r:.80} is not an http address")


def _anywhere(_: str) -> None:
    """Nothing is fetched because a bundle names it: what is fetched later goes by the list of allowed hosts."""
