"""Learning a release, without a download: a told one is checked, a pinned one is made of what the release server says.

Sizes are from HEAD, digests from the manifest, or from sidecars.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from omaha_mirror.catalog.model import Known, PackageFile, Release
from omaha_mirror.catalog.reasons import Reason
from omaha_mirror.omaha import Action, Digest, Manifest, Package, UpdateCheck, UpdateStatus, Url
from omaha_mirror.upstream.errors import Changed, Gone, UpstreamError
from omaha_mirror.upstream.releases import ReleaseServer, RemotePackage

Prove = Callable[[RemotePackage], Awaitable[Digest]]
"""Fetches a package of which no digest is known, and gives its SHA-256. Raises `CannotProve`."""


Measure = Callable[[RemotePackage], Awaitable[int]]
"""Fetches a package of which its server tells no size, and gives it in bytes. Raises `CannotProve`, `UpstreamError`."""


class CannotProve(Exception):
    """A package without a sidecar, or of no known size, could not be fetched; the message is for people."""


async def cannot_measure(package: RemotePackage) -> int:
    """A `Measure` for where nothing can be fetched."""
    raise CannotProve(f"{package.url}: the server does not say how large it is")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be learnt.

    Attributes:
        app_id: the application; lower case, without braces.
        board: one of `BOARDS`.
        version: of the release.
        payload: file name of the update itself, where upstream told no release.
        extras: names of packages to look up: those that the manifest names, or, where upstream told none, those that
            the release server has.
        before: the release as it was learnt last time.
        told: the release as an Omaha server told it.
        own: those of the extras that the operator adds to what upstream told.
        imported: whether the told release came in a bundle.
    """

    app_id: str
    board: str
    version: str
    payload: str
    extras: tuple[str, ...] = ()
    before: Release | None = None
    told: Release | None = None
    own: frozenset[str] = frozenset()
    imported: bool = False


def at_hand(wanted: Wanted, told: Release, holds: Callable[[PackageFile], bool]) -> Known:
    """What can be offered of a release that came in a bundle, without asking anyone: what is here, and was proven.

    Args:
        wanted: what is to be learnt.
        told: the release.
        holds: whether a package is here.
    """
    if not holds(told.payload):
        why = f"{told.payload.name} is not here any more: import the release again"
        return Known(reason=Reason.INCOMPLETE, detail=why)
    files = [file for name in wanted.extras if (file := told.file(name)) is not None]
    return Known(
        told,
        looked_up=frozenset(wanted.extras),
        lacking={file.name: "it did not come in the bundle" for file in files if not holds(file)},
    )


async def learn(
    wanted: Wanted,
    server: ReleaseServer,
    prove: Prove,
    now: float,
    measure: Measure = cannot_measure,
) -> Known:
    """Ask the servers of the packages for everything that an offer needs. Never raises for what upstream does.

    An extra package that a manifest does not name is not looked for: a machine gets it as it would without a mirror
    (flatcar-postinst:150).
    """
    fetch = _Fetch(prove, measure)
    try:
        release = await _base(wanted, server, fetch, now)
    except Gone as error:
        return Known(reason=Reason.NOT_RELEASED, detail=str(error))
    except Changed as error:
        return Known(reason=Reason.SIDECAR_DISAGREES, detail=str(error))
    except (UpstreamError, CannotProve) as error:
        return Known(reason=Reason.UNREACHABLE, detail=str(error))
    extras: list[RemotePackage] = []
    lacking: dict[str, str] = {}
    wrong: set[str] = set()
    for name in wanted.extras:
        named = release.file(name)
        try:
            if named is not None:
                await server.confirm(named.url, named.size, named.sha256)
            elif wanted.told is None or name in wanted.own:
                extras.append(await _describe(server, fetch, wanted, name))
        except (Gone, Changed) as error:
            if named is not None:
                lacking[name] = str(error)
                wrong.add(name)
        except (UpstreamError, CannotProve) as error:
            lacking[name] = str(error)
    return Known(
        _with(release, extras),
        looked_up=frozenset(wanted.extras),
        lacking=lacking,
        wrong=frozenset(wrong),
    )


@dataclass(frozen=True, slots=True)
class _Fetch:
    """What is told by nobody, and has to be fetched for."""

    digest: Prove
    size: Measure


async def _base(wanted: Wanted, server: ReleaseServer, fetch: _Fetch, now: float) -> Release:
    """The release as told, or of the payload alone."""
    if wanted.told is None:
        return _made(wanted, await _describe(server, fetch, wanted, wanted.payload), now)
    payload = wanted.told.payload
    await server.confirm(payload.url, payload.size, payload.sha256)
    return wanted.told


async def _describe(
    server: ReleaseServer, fetch: _Fetch, wanted: Wanted, name: str
) -> RemotePackage:
    found = await server.describe(wanted.board, wanted.version, name)
    old = wanted.before.file(found.name) if wanted.before is not None else None
    if found.size is None:
        same = old is not None and old.url == found.url and old.sha256 == found.sha256
        size = old.size if old is not None and same else await fetch.size(found)
        found = replace(found, size=size)
    if found.sha256 is None:
        found = replace(found, sha256=_proven_before(old, found) or await fetch.digest(found))
    return found


def _proven_before(old: PackageFile | None, found: RemotePackage) -> Digest | None:
    """The digest that an earlier fetch gave: nothing but address and size could tell that a file is another one."""
    same = old is not None and (old.url, old.size) == (found.url, found.size)
    return old.sha256 if old is not None and same else None


def _made(wanted: Wanted, payload: RemotePackage, now: float) -> Release:
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


def _with(release: Release, extras: Sequence[RemotePackage]) -> Release:
    packages = [_package(extra, required=False) for extra in extras]
    return release.with_packages(packages, {extra.name: extra.url for extra in extras})


def _package(found: RemotePackage, *, required: bool) -> Package:
    return Package(name=found.name, size=found.size, hash_sha256=found.sha256, required=required)
