"""Bundles of a running mirror: what exports and imports them."""

from __future__ import annotations

from collections.abc import Callable, Collection

from omaha_mirror.bundle.exporter import Exporter, Have
from omaha_mirror.bundle.importer import Importer
from omaha_mirror.cache import Cache
from omaha_mirror.catalog import Catalog
from omaha_mirror.config.rules import Rule
from omaha_mirror.packages.library import PackageLibrary
from omaha_mirror.policy.tracks import Tracks


class Bundles:
    """The exporter and the importer of a running mirror.

    Args:
        catalog: of releases.
        tracks: say where they lead.
        cache: that their packages are in.
        packages: the same, by name.
        have: fetches one, and tells how far it is.
        rule: gives the rule of a track.
        app_ids: the applications that are answered for.
    """

    def __init__(
        self,
        catalog: Catalog,
        tracks: Tracks,
        cache: Cache,
        packages: PackageLibrary,
        have: Have,
        rule: Callable[[str], Rule],
        app_ids: Collection[str],
    ) -> None:
        self.exporter = Exporter(
            catalog,
            tracks,
            rule,
            app_ids,
            packages.holds,
            lambda member, start: packages.chunks(member.file, start),
            have,
        )
        self.importer = Importer(cache, catalog, app_ids)
