"""The description of a bundle: releases as upstream sent them, and which of their packages the bundle holds.

Its names never become paths of this host: the path of a package in a bundle follows from its release.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from omaha_mirror.catalog.catalog_file import dump_release, read_release
from omaha_mirror.catalog.model import BOARDS, PackageFile, Release
from omaha_mirror.catalog.upstream_answer import Unusable, read_upstream
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
    """A bundle is damaged, incomplete or none at all; the message is for people."""


class MissingOption(Exception):
    """A folder lacks what an option must say; the message names the option."""


FORMAT = 1
LIMIT = 16 * 1024 * 1024
"""Bytes of a bundle's description."""
MAX_RELEASES = 64
MAX_TEXT = 2048
"""Characters of a URL."""
MAX_TRACK = 128
_BAD = (ValueError, LookupError, TypeError, AttributeError, RecursionError, OmahaError)


@dataclass(frozen=True, slots=True)
class Member:
    """A package in a bundle.

    Attributes:
        release: of the package.
        file: its name, size, digests and URL.
        sha256: every package in a bundle has one.
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
        """The path in the bundle."""
        return f"{self.release.board}/{self.release.id}/{self.file.name}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A release in a bundle.

    Attributes:
        release: as upstream sent it.
        floor: whether each machine below must install it.
        members: its packages in the bundle, the payload first.
    """

    release: Release
    floor: bool
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Bundle:
    """The releases of a track, with all packages that machines need to install them.

    Attributes:
        track: the GROUP of machines.
        board: one of `BOARDS`.
        entries: by application, oldest first; the last of each is where the track leads.
    """

    track: str
    board: str
    entries: tuple[Entry, ...]

    @property
    def members(self) -> Iterator[Member]:
        """All packages, in their order in the bundle."""
        return (member for entry in self.entries for member in entry.members)

    def dump(self) -> bytes:
        """The description of the bundle; `read_bundle` parses it."""
        description = {
            "format": FORMAT,
            "track": self.track,
            "board": self.board,
            "releases": [_dump_entry(entry) for entry in self.entries],
        }
        return json.dumps(description, indent=1, ensure_ascii=False).encode() + b"\n"


def read_bundle(text: bytes) -> Bundle:
    """Read a description; it may take seconds. Raises BadBundle."""
    try:
        description = json.loads(text)
        if description["format"] != FORMAT:
            raise BadBundle(f"format {description['format']!r:.20} is not known to this version")
        releases = description["releases"]
        if not 0 < len(releases) <= MAX_RELEASES:
            raise BadBundle(f"{len(releases)} releases, where 1 to {MAX_RELEASES} are taken")
        bundle = Bundle(
            str(description["track"]), description["board"], tuple(map(_read_entry, releases))
        )
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
    """Refuse what an Omaha server's answer may not contain (see `read_upstream`), and what is not plain text."""
    if release.board not in BOARDS:
        raise ValueError(f"the board {release.board!r:.40} is not known")
    app = AppResponse(appid=release.app_id, status=AppStatus.OK, update_check=release.check)
    if app.app_id != release.app_id:
        raise ValueError(f"the application {release.app_id!r:.60} is not in lower case")
    try:
        reading = read_upstream(
            Response(apps=(app,)), release.app_id, release.board, allowed=_anywhere, now=0.0
        )
    except Unusable as error:
        raise ValueError(str(error)) from error
    if [offered.release.version for offered in reading.releases] != [release.version]:
        raise ValueError(f"the manifest of {release.version} is about another version")
    for url in release.urls.values():
        if len(url) > MAX_TEXT or urlsplit(url).scheme not in ("http", "https"):
            raise ValueError(f"{url!r:.80} is not an http address")


def _anywhere(_: str) -> None:
    """Accept each URL: a bundle causes no download, and later downloads check the list of allowed hosts."""
