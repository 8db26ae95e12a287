"""Choosing what a bundle holds, and having it here.

A machine is offered a release only if its own OEM package can be had; of system extensions only the machine knows which
it needs (flatcar-postinst:215). So a bundle holds of the former what is asked for or used here, and all of the latter.
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
"""Seconds that an operator waits for a release to be looked up."""

Have = Callable[[PackageFile], AsyncGenerator[FetchProgress]]
"""Has a package here, proven, and tells how far it is."""


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What is to be exported.

    Attributes:
        track: whose way it is.
        board: one of `BOARDS`.
        version: where it is to lead; None for where the track leads.
        oems: ids of OEMs whose packages come along, besides those in use here.
    """

    track: str
    board: str
    version: str | None = None
    oems: tuple[str, ...] = ()


class Exporter:
    """Makes bundles of what the catalog knows.

    Args:
        catalog: of releases.
        tracks: say where they lead.
        rule: gives the rule of a track.
        app_ids: the applications that are answered for.
        holds: whether a package is here.
        read: gives the bytes of one.
        have: fetches one; None where nobody is to be asked for anything.
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
        """Have all packages of a bundle here; a report with an error ends it. Raises NothingToFetch."""
        bundle = await self.bundle(request)
        for member in bundle.members:
            if self._holds(member.file):
                yield FetchProgress(member.file.name, member.size, member.size, done=True)
            elif self._have is None:
                raise NothingToFetch(
                    f"{member.path} is not here: start the mirror, which fetches it"
                )
            else:
                async with aclosing(self._have(member.file)) as steps:
                    async for step in steps:
                        yield step
                        if step.error:
                            return

    async def bundle(self, request: ExportRequest) -> Bundle:
        """What is to be in a bundle. Raises NothingToFetch."""
        try:
            if request.version is not None:
                Version.parse(request.version)
            ways = [await self._way(app_id, request) for app_id in self._app_ids]
        except BadVersion as error:
            raise NothingToFetch(str(error)) from error
        entries = tuple(
            self._entry(release, floor, request) for way in ways for release, floor in way
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

    async def _way(self, app_id: str, request: ExportRequest) -> Sequence[tuple[Release, bool]]:
        """The releases that machines of a track are led through now, oldest first, and whether each is a floor."""
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
            f"upstream tells no SHA-256 of {release.version}/{file.name}: it cannot be carried safely"
        )
    return Member(release, file, file.sha256)
