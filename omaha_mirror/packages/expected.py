"""Where catalog and cache meet: a package as the blob that it must turn out to be."""

from __future__ import annotations

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


def named(release: Release) -> Named:
    """The packages of a release."""
    return tuple((file.name, expected(file).key) for file in release.files)
