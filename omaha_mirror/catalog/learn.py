"""Looks a release up without a download: one from a manifest is confirmed, any other is made from the release server.

Sizes are from HEAD, digests from the manifest or from sidecars.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from omaha_mirror.catalog.model import LookupResult, PackageFile, Release
from omaha_mirror.omaha import Action, Digest, Manifest, Package, UpdateCheck, UpdateStatus, Url
from omaha_mirror.reasons import Reason
from omaha_mirror.upstream.errors import Changed, Gone, UpstreamError
from omaha_mirror.upstream.release_server import ReleaseServer, RemotePackage

Prove = Callable[[RemotePackage], Awaitable[Digest]]
"""Downloads a package without a known digest; gives its SHA-256. Raises `CannotProve`."""
Measure = Callable[[RemotePackage], Awaitable[int]]
"""Downloads a package whose server sends no size; gives its size in bytes. Raises `CannotProve`, `UpstreamError`."""
Holds = Callable[[PackageFile], bool]
"""Whether the cache has a package, proven."""


def _nothing(_: PackageFile) -> bool:
    return False


class CannotProve(Exception):
    """A package without a sidecar or a size could not be downloaded; the message is for people."""


async def cannot_measure(package: RemotePackage) -> int:
    """The `Measure` of a mirror that downloads nothing."""
    raise CannotProve(f"{package.url}: the server does not say how large it is")


@dataclass(frozen=True, slots=True)
class LookupRequest:
    """The question of a look-up.

    Attributes:
        app_id: the application; lower case, without braces.
        board: one of `BOARDS`.
        version: of the release.
        payload: file name of the payload on the release server.
        extras: names of extra packages to look up, in the manifest, or without one on the release server.
        before: the release of the last look-up.
        upstream: the release as an Omaha server sent it; None if it sent none.
        own: those of the extras that the operator adds to the manifest.
        imported: whether `upstream` was imported from a bundle.
        known: the last result, to look up the extras alone; None to look up everything.
    """

    app_id: str
    board: str
    version: str
    payload: str
    extras: tuple[str, ...] = ()
    before: Release | None = None
    upstream: Release | None = None
    own: frozenset[str] = frozenset()
    imported: bool = False
    known: LookupResult | None = None


def at_hand(wanted: LookupRequest, release: Release, holds: Holds) -> LookupResult:
    """Look an imported release up in the cache alone: the proven packages can be offered.

    Args:
        wanted: the question.
        release: the imported one.
        holds: whether the cache has a package.
    """
    if not holds(release.payload):
        why = f"{release.payload.name} is no longer in the cache: import the release again"
        return LookupResult(reason=Reason.INCOMPLETE, detail=why)
    before = wanted.known.looked_up if wanted.known is not None else frozenset()
    names = before.union(wanted.extras)
    files = [file for name in names if (file := release.file(name)) is not None]
    return LookupResult(
        release,
        looked_up=names,
        complete=True,
        lacking={file.name: "it was not in the bundle" for file in files if not holds(file)},
    )


async def learn(
    wanted: LookupRequest,
    server: ReleaseServer,
    prove: Prove,
    now: float,
    measure: Measure = cannot_measure,
    holds: Holds = _nothing,
) -> LookupResult:
    """Ask the servers of the packages for all that an offer needs. Errors of upstream become part of the result.

    An extra package that the manifest does not name is not looked up: a machine gets it as without a mirror
    (flatcar-postinst:150). A proven package in the cache stays offered, whatever its server answers.

    Args:
        wanted: the question.
        server: the release server.
        prove: see `Prove`.
        now: in seconds since the epoch.
        measure: see `Measure`.
        holds: see `Holds`.
    """
    return await _Learning(wanted, server, now, _Cache(prove, measure, holds)).run()


@dataclass(frozen=True, slots=True)
class _Cache:
    """The ports to the cache."""

    prove: Prove
    measure: Measure
    holds: Holds


class _Learning:
    """One look-up; see `learn`."""

    def __init__(
        self, wanted: LookupRequest, server: ReleaseServer, now: float, cache: _Cache
    ) -> None:
        self._wanted = wanted
        self._server = server
        self._now = now
        self._cache = cache
        self._doubts: list[str] = []

    async def run(self) -> LookupResult:
        known = self._wanted.known
        try:
            release = await self._base() if known is None else known.release
        except Gone as error:
            return LookupResult(reason=Reason.NOT_RELEASED, detail=str(error))
        except Changed as error:
            return LookupResult(reason=Reason.SIDECAR_DISAGREES, detail=str(error))
        except (UpstreamError, CannotProve) as error:
            return LookupResult(reason=Reason.UNREACHABLE, detail=str(error))
        if release is None:
            raise ValueError("extras are looked up only of a release that is known")
        return await self._with_extras(known or LookupResult(), release)

    async def _with_extras(self, known: LookupResult, release: Release) -> LookupResult:
        extras: list[RemotePackage] = []
        lacking: dict[str, str] = {}
        wrong: set[str] = set()
        wanted = self._wanted
        for name in wanted.extras:
            named = release.file(name)
            try:
                if named is not None:
                    await self._confirm(named)
                elif wanted.upstream is None or name in wanted.own:
                    extras.append(await self._describe(name))
            except (Gone, Changed) as error:
                if named is not None:
                    lacking[name] = str(error)
                    wrong.add(name)
            except (UpstreamError, CannotProve) as error:
                lacking[name] = str(error)
        asked = frozenset(wanted.extras)
        return LookupResult(
            self._with(release, extras),
            looked_up=known.looked_up | asked,
            lacking={**_without(known.lacking, asked), **lacking},
            wrong=known.wrong - asked | wrong,
            complete=wanted.upstream is not None,
            doubt="; ".join(self._doubts) or known.doubt,
        )

    def _with(self, release: Release, extras: Sequence[RemotePackage]) -> Release:
        """The release with more packages: after those of its manifest, or without one sorted by name."""
        packages = [_package(extra, required=False) for extra in extras]
        more = release.with_packages(packages, {extra.name: extra.url for extra in extras})
        if self._wanted.upstream is not None or not extras:
            return more
        payload, *rest = more.manifest.packages
        ordered = (payload, *sorted(rest, key=lambda package: package.name))
        manifest = replace(more.manifest, packages=ordered)
        return replace(more, check=replace(more.check, manifests=(manifest,)))

    async def _base(self) -> Release:
        """The release from the manifest, or one with the payload alone."""
        upstream = self._wanted.upstream
        if upstream is None:
            return _made(self._wanted, await self._describe(self._wanted.payload), self._now)
        await self._confirm(upstream.payload)
        return upstream

    async def _confirm(self, file: PackageFile) -> None:
        """Confirm a file of a manifest with its server; for one in the cache a failure is only recorded."""
        try:
            await self._server.confirm(file.url, file.size, file.sha256)
        except UpstreamError as error:
            if not self._cache.holds(file):
                raise
            self._doubts.append(str(error))

    async def _describe(self, name: str) -> RemotePackage:
        """A file as the release server describes it; for one in the cache only a sidecar can change the digest."""
        wanted = self._wanted
        old = wanted.before.file(name) if wanted.before is not None else None
        held = old if old is not None and old.sha256 and self._cache.holds(old) else None
        try:
            found = await self._server.describe(wanted.board, wanted.version, name)
        except UpstreamError as error:
            if held is None:
                raise
            return self._as_before(held, str(error))
        if held is not None and found.sha256 in (None, held.sha256) and found.size != held.size:
            return self._as_before(held, f"another length ({found.url})" if found.size else "")
        if found.size is None:
            same = old is not None and (old.url, old.sha256) == (found.url, found.sha256)
            size = old.size if old is not None and same else await self._cache.measure(found)
            found = replace(found, size=size)
        if found.sha256 is None:
            same = old is not None and (old.url, old.size) == (found.url, found.size)
            # Without a sidecar, only the URL and the size show whether the file was replaced.
            digest = old.sha256 if old is not None and same else None
            found = replace(found, sha256=digest or await self._cache.prove(found))
        return found

    def _as_before(self, held: PackageFile, why: str) -> RemotePackage:
        if why:
            self._doubts.append(why)
        return RemotePackage(held.name, held.url, held.size, held.sha256)


def _without(lacking: Mapping[str, str], names: frozenset[str]) -> dict[str, str]:
    return {name: why for name, why in lacking.items() if name not in names}


def _made(wanted: LookupRequest, payload: RemotePackage, now: float) -> Release:
    action = Action(event="postinstall", sha256=payload.sha256, disable_payload_backoff=True)
    manifest = Manifest(
        version=wanted.version, packages=(_package(payload, required=True),), actions=(action,)
    )
    return Release(
        app_id=wanted.app_id,
        board=wanted.board,
        version=wanted.version,
        check=UpdateCheck(
            status=UpdateStatus.OK,
            urls=(Url(codebase=payload.url.rpartition("/")[0] + "/"),),
            manifests=(manifest,),
        ),
        urls={payload.name: payload.url},
        learnt=now,
    )


def _package(found: RemotePackage, *, required: bool) -> Package:
    return Package(name=found.name, size=found.size, hash_sha256=found.sha256, required=required)
