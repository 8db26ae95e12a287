"""Imports a bundle: all of it is read and verified before any of it becomes visible.

The order decides what a crash leaves: packages are written under temporary names, get their names when the last byte of
the bundle is verified, and only then does the catalog offer the releases. A package without a release is not offered, and
the same import completes it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import aclosing
from dataclasses import dataclass
from itertools import groupby

from omaha_mirror.bundle.layout import BundleReader
from omaha_mirror.bundle.model import BadBundle, Bundle
from omaha_mirror.cache import Cache
from omaha_mirror.cache.errors import GenerationEnded
from omaha_mirror.catalog import Catalog
from omaha_mirror.catalog.channel import ChannelKey
from omaha_mirror.catalog.channels import ImportedRelease
from omaha_mirror.packages.source import expected


@dataclass(frozen=True, slots=True)
class ImportResult:
    """The result of an import.

    Attributes:
        track: that the releases are for.
        board: of the releases.
        versions: of the releases, oldest first.
        packages: the number of packages in the bundle.
        added: bytes that were new in the cache.
        leads: whether the track leads to the last release now; False if an earlier import leads farther.
    """

    track: str
    board: str
    versions: tuple[str, ...]
    packages: int
    added: int
    leads: bool


class Importer:
    """Imports bundles.

    Args:
        cache: for the packages.
        catalog: for the releases.
        app_ids: the applications that this mirror serves.
    """

    def __init__(
        self,
        cache: Cache,
        catalog: Catalog,
        app_ids: Collection[str],
    ) -> None:
        self._cache = cache
        self._catalog = catalog
        self._app_ids = app_ids

    async def import_bundle(self, chunks: AsyncIterator[bytes]) -> ImportResult:
        """Import the bundle with these bytes.

        Raises:
            BadBundle: it is damaged or not trusted. Nothing has changed.
            NoSpace, InUse: nothing has changed.
            OSError: the disk failed.
        """
        reader = BundleReader(chunks)
        _, bundle = await reader.open()
        self._check(bundle)
        missing = {
            expected(member.file).key: member.size
            for member in bundle.members
            if not self._cache.holds(expected(member.file).key)
        }
        added = sum(missing.values())
        async with self._cache.ingest() as ingest:
            await ingest.reserve(added)
            for member in bundle.members:
                async with aclosing(reader.member(member)) as right:
                    if missing.pop(expected(member.file).key, None) is None:
                        async for _ in right:
                            pass
                        continue
                    try:
                        await ingest.add(expected(member.file), right)
                    except GenerationEnded as error:
                        raise BadBundle(f"{member.path} is refused: {error}") from error
            await reader.end()
            await ingest.commit()
        leads = [
            await self._catalog.import_releases(
                ChannelKey(app_id, bundle.board, bundle.track), list(way)
            )
            for app_id, way in groupby(sorted(_brought(bundle), key=_app_id), _app_id)
        ]
        return ImportResult(
            bundle.track,
            bundle.board,
            tuple(entry.release.version for entry in bundle.entries),
            sum(1 for _ in bundle.members),
            added,
            all(leads),
        )

    def _check(self, bundle: Bundle) -> None:
        for entry in bundle.entries:
            if entry.release.app_id not in self._app_ids:
                raise BadBundle(
                    f"it is for the application {entry.release.app_id}, which is not among upstream.app_ids"
                )


def _app_id(brought: ImportedRelease) -> str:
    return brought.release.app_id


def _brought(bundle: Bundle) -> list[ImportedRelease]:
    return [
        ImportedRelease(
            entry.release, entry.floor, frozenset(member.file.name for member in entry.members[1:])
        )
        for entry in bundle.entries
    ]
