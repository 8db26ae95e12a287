"""Where catalog and cache meet: a package as the blob that it must turn out to be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from omaha_mirror.cache import Expected
from omaha_mirror.catalog import PackageFile, Release

Named = tuple[tuple[str, str], ...]
"""The names of the packages of a release and the keys of their blobs, the payload first."""


def expected(file: PackageFile) -> Expected:
    """What the cache is to hold the bytes of a package against."""
    return Expected(
        file.size,
        file.sha256.raw if file.sha256 is not None else None,
        file.sha1.raw if file.sha1 is not None else None,
        file.url,
    )


class Keys:
    """The keys of the packages of releases; each release's are worked out once."""

    def __init__(self) -> None:
        self._named: Mapping[str, Named] = {}

    def of(self, releases: Iterable[Release]) -> Mapping[str, Named]:
        """Those of these releases, by the release's id; all others are forgotten."""
        self._named = {r.id: self._named.get(r.id) or _named(r) for r in releases}
        return self._named


def _named(release: Release) -> Named:
    return tuple((file.name, expected(file).key) for file in release.files)
