"""Selects the packages of a bundle, and downloads missing ones.

A machine is offered a release only if its OEM's package is available; only the machine knows which system extensions it
needs (flatcar-postinst:215). So a bundle contains the requested OEM packages, those in use here, and all extensions.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from omaha_mirror.aio.workers import WORK
from omaha_mirror.bundle.layout import ReadMember, compose
from omaha_mirror.bundle.model import Bundle, Entry, Member
from omaha_mirror.catalog import Catalog, PackageFile, Pin, Release, Rule
from omaha_mirror.omaha import BadVersion, Version
from omaha_mirror.packages.prefetch import FetchProgress
from omaha_mirror.policy.tracks import NothingToFetch, Tracks
from omaha_mirror.reasons import Reason

PATIENCE = 20.0
"""Seconds that an export waits for a look-up."""

Have = Callable[[PackageFile], AsyncGenerator[FetchProgress]]
"""Downloads a package into the cache, and gives its progress."""


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """The content of an export.

    Attributes:
        track: the name for the importing mirror's machines.
        board: one of `BOARDS`.
        version: the target; None: the track's.
        oems: ids of OEMs whose packages are added to those in use here.
    """

    track: str
    board: str
    version: str | None = None
    oems: tuple[str, ...] = ()


class Exporter:
    """Makes bundles of releases of the catalog.

    Args:
        catalog: of releases.
        tracks: compute where they lead.
        rule: gives the rule of a track.
        app_ids: the applications that this mirror serves.
        holds: whether the cache has a package.
        read: gives the bytes of a package.
        have: downloads a package; None for a stopped mirror, which asks upstream nothing.
    """

    def __init__(
        self,
        catalog: Catalog,
        tracks: Tracks,
        rule: Callable[[str], Rule],
        app_ids: Collection[str],
        holds: Callable[[PackageFile], bool],
        read: ReadMember,
        have: Have | None = None,
    ) -> None:
        self._catalog = catalog
        self._tracks = tracks
        self._rule = rule
        self._app_ids = app_ids
        self._holds = holds
        self._read = read
        self._have = have

    async def prepare(self, request: ExportRequest) -> AsyncGenerator[FetchProgress]:
        """Download the missing packages of a bundle; a report with an error is the last. Raises NothingToFetch."""
        bundle = await self.bundle(request)
        for member in bundle.members:
            if self._holds(member.file):
                yield FetchProgress(member.file.name, member.size, member.size, done=True)
            elif self._have is None:
                raise NothingToFetch(
                    f"{member.path} is not in the cache: start the mirror, which downloads it"
                )
            else:
                async with aclosing(self._have(member.file)) as steps:
                    async for step in steps:
                        yield step
                        if step.error:
                            return

    async def bundle(self, request: ExportRequest) -> Bundle:
        """The bundle of a request. Raises NothingToFetch."""
        try:
            if request.version is not None:
                Version.parse(request.version)
            paths = [await self._steps(app_id, request) for app_id in self._app_ids]
        except BadVersion as error:
            raise NothingToFetch(str(error)) from error
        entries = tuple(
            self._entry(release, floor, request) for steps in paths for release, floor in steps
        )
        names = {member.file.name for entry in entries for member in entry.members}
        for oem in request.oems:
            if f"oem-{oem}.gz" not in names:
                raise NothingToFetch(f"no release of the bundle has a package of the OEM {oem}")
        return Bundle(request.track, request.board, entries)

    async def stream(self, bundle: Bundle, offset: int = 0) -> AsyncGenerator[bytes]:
        """The bytes of a bundle from an offset on. Raises CacheError, OSError."""
        text = await WORK.call(bundle.dump)
        async with aclosing(compose(text, bundle, self._read, offset)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _steps(self, app_id: str, request: ExportRequest) -> Sequence[tuple[Release, bool]]:
        """The releases of the track's steps, oldest first, and whether each is a floor."""
        version = request.version and Version.parse(request.version).text
        rule = Pin(version) if version is not None else self._rule(request.track)
        wait = PATIENCE if self._have is not None else 0.0
        path = await self._tracks.ask(app_id, request.board, request.track, rule, wait)
        if not path.due:
            what = f"{path.steps[0].version} for {request.board}"
            raise NothingToFetch.because(
                what, Reason.DELAYED, "name the version to take it along now"
            )
        return [
            (
                await self._tracks.release(
                    app_id, request.board, step.version, rule, PATIENCE, request.oems
                ),
                step.floor,
            )
            for step in path.due
        ]

    def _entry(self, release: Release, floor: bool, request: ExportRequest) -> Entry:
        wanted = {*(f"oem-{oem}.gz" for oem in request.oems), *self._catalog.looked_up(release)}
        payload, *extras = release.files
        chosen = [f for f in extras if f.name in wanted or not f.name.startswith("oem-")]
        return Entry(release, floor, tuple(_member(release, f) for f in (payload, *chosen)))


def _member(release: Release, file: PackageFile) -> Member:
    if file.sha256 is None:
        raise NothingToFetch(
            f"upstream has no SHA-256 of {release.version}/{file.name}: an import could not verify it"
        )
    return Member(release, file, file.sha256)
